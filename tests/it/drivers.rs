//! Each driver runs its script in `tests/drivers/` through pgdrover, over the shared cluster.
//!
//! A driver whose runtime is absent is skipped with a word about it, but not if `CI` is `true` and it
//! is one that CI must have, nor if `PGDROVER_REQUIRE_DRIVERS` (names with commas, or `all`) names it.

mod rust;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pgdrover::demo;

use crate::support::cluster::shared;
use crate::support::daemon::{Running, over};

/// What runs a script, found or not.
struct Runtime {
    driver: &'static str,
    command: Option<Command>,
}

/// Fewer server connections than any script has clients, so that they change hands.
const POOLS: &str =
    "[log]\nlevel = \"warn\"\n\n[pool]\ndefault_pool_size = 3\nquery_wait_timeout = \"10s\"\n";

/// What CI must have: `.ci/setup` installs it there.
const IN_CI: [&str; 4] = ["psql", "pgbench", "psycopg", "asyncpg"];

fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A command for the script, if `check`, a command that does nothing but need the driver, succeeds.
fn runtime(driver: &'static str, check: &mut Command, script: Command) -> Runtime {
    let quiet = check.stdout(Stdio::null()).stderr(Stdio::null());
    let works = quiet.status().is_ok_and(|status| status.success());
    Runtime {
        driver,
        command: works.then_some(script),
    }
}

fn is_required(driver: &str) -> bool {
    let named = std::env::var("PGDROVER_REQUIRE_DRIVERS").unwrap_or_default();
    let named = named.split(',').any(|n| n == driver || n == "all");
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    named || ci && IN_CI.contains(&driver)
}

/// Runs the script, whose users are `first_user` and the million after it.
#[allow(clippy::print_stderr, reason = "a skipped test must say so")]
async fn run(runtime: Runtime, first_user: i64) {
    let Runtime { driver, command } = runtime;
    let Some(mut command) = command else {
        assert!(
            !is_required(driver),
            "{driver} is not installed: run `make setup`"
        );
        eprintln!("{driver} is not installed: its test is skipped");
        return;
    };
    let running = over(shared(), POOLS).await;
    environment(&mut command, &running);
    let finished = tokio::task::spawn_blocking(move || command.output());
    let Output {
        status,
        stdout,
        stderr,
    } = finished.await.unwrap().unwrap();
    let said = [stdout, stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(status.success(), "{driver}: {status}\n{said}");
    assert!(said.contains("checks passed"), "{driver} said: {said}");
    on_their_shards(first_user).await;
}

fn environment(command: &mut Command, running: &Running) {
    command
        .stdin(Stdio::null())
        .env("PGHOST", running.address.ip().to_string())
        .env("PGPORT", running.address.port().to_string())
        .env("PGUSER", demo::USER)
        .env("PGPASSWORD", demo::PASSWORD)
        .env("PGDATABASE", demo::DATABASE);
}

/// Asks each primary itself whether it holds what belongs to it: all users of the range with the
/// remainder, and no other.
async fn on_their_shards(first_user: i64) {
    let mut found = 0;
    for shard in &shared().shards {
        let client = shared().connect(shard.primary()).await.unwrap();
        let sql = "SELECT count(*) FILTER (WHERE user_id % 3 <> $2), count(*) FROM \
                   (SELECT user_id FROM notifications UNION ALL SELECT user_id FROM devices \
                    UNION ALL SELECT user_id FROM user_preferences) all_rows \
                   WHERE user_id BETWEEN $1 AND $1 + 999999";
        let remainder = i64::from(shard.number);
        let row = client.query_one(sql, &[&first_user, &remainder]).await;
        let row = row.unwrap();
        assert_eq!(
            row.get::<_, i64>(0),
            0,
            "rows of other shards on {}",
            shard.name
        );
        found += row.get::<_, i64>(1);
    }
    assert!(found > 0, "no row of the users from {first_user} is left");
}

fn python(driver: &'static str, script: &str) -> Runtime {
    let venv = in_repository("target/venv/bin/python");
    let python = if venv.exists() {
        venv
    } else {
        "python3".into()
    };
    let mut check = Command::new(&python);
    check.args(["-c", &format!("import {driver}")]);
    let mut command = Command::new(&python);
    command.arg(in_repository(script));
    runtime(driver, &mut check, command)
}

fn shell(driver: &'static str, script: &str) -> Runtime {
    let mut check = Command::new(driver);
    // pgbench_crud.sh asks psql for what pgbench did.
    check.arg("--version");
    runtime(driver, &mut check, Command::new(in_repository(script)))
}

#[tokio::test(flavor = "multi_thread")]
async fn psql() {
    run(shell("psql", "tests/drivers/psql_crud.sh"), 1_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench() {
    run(shell("pgbench", "tests/drivers/pgbench_crud.sh"), 2_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg() {
    run(
        python("psycopg", "tests/drivers/psycopg_crud.py"),
        3_000_000,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asyncpg() {
    run(
        python("asyncpg", "tests/drivers/asyncpg_crud.py"),
        4_000_000,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_postgres() {
    let modules = in_repository("target/node/node_modules");
    let mut check = Command::new("node");
    check
        .env("NODE_PATH", &modules)
        .args(["-e", "require('pg')"]);
    let mut command = Command::new("node");
    command.env("NODE_PATH", &modules);
    command.arg(in_repository("tests/drivers/node_crud.cjs"));
    run(runtime("node-postgres", &mut check, command), 5_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jdbc() {
    let jar = "/usr/share/java/postgresql.jar";
    // `java -version` alone does not tell whether it can compile a single file.
    let mut check = Command::new("sh");
    check.args(["-c", &format!("test -e {jar} && javac -version")]);
    let mut command = Command::new("java");
    command.args(["-cp", jar]);
    command.arg(in_repository("tests/drivers/JdbcCrud.java"));
    run(runtime("jdbc", &mut check, command), 6_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokio_postgres() {
    let running = over(shared(), POOLS).await;
    rust::check(&running, 7_000_000).await;
    on_their_shards(7_000_000).await;
}
