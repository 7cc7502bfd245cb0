//! A session keeps its server connection as long as it has state there, and no longer.

use crate::support::daemon::{Running, Setup};
use crate::support::database::{TestDb, items_on_three_shards};
use crate::support::raw::Raw;

/// Whoever waits for the only connection gives up soon.
const ONE: &str = "[pool]\ndefault_pool_size = 1\nquery_wait_timeout = \"100ms\"";

async fn one_connection() -> (TestDb, Running) {
    let db = TestDb::new("CREATE TABLE t (a int)").await;
    let pgdrover = Setup::solo(&db).with(ONE).start().await;
    (db, pgdrover)
}

/// Whether another client gets the connection.
async fn is_free(other: &mut Raw) -> bool {
    let frames = other.query("SELECT 'free'").await;
    let refused = frames.iter().find(|f| f.tag == b'E');
    assert!(
        refused.is_none_or(|f| f.field(b'C') == "53300"),
        "{frames:?}"
    );
    refused.is_none()
}

/// The server is asked what is left when the client has its answer already.
async fn freed(other: &mut Raw, step: &str) {
    let what = format!("the connection after {step}");
    crate::support::eventually(&what, async || is_free(other).await).await;
}

/// How many sessions of the database are pinned for this reason, as `/metrics` has it.
fn pinned(pgdrover: &Running, reason: &str) -> String {
    let database = &pgdrover.database;
    let start = format!("pgdrover_pinned_clients{{database=\"{database}\",reason=\"{reason}\"}} ");
    let text = pgdrover::telemetry::metrics::install().render();
    let line = text.lines().find_map(|l| l.strip_prefix(&start));
    line.unwrap_or("never").to_owned()
}

/// What pins, and what ends it at last: after each step but the last the session is pinned.
const CASES: &[(&str, &[&str])] = &[
    ("listen", &["LISTEN a", "UNLISTEN a"]),
    (
        "listen",
        &[
            "LISTEN a",
            "LISTEN b",
            "UNLISTEN b",
            "SELECT 1",
            "UNLISTEN *",
        ],
    ),
    (
        "listen",
        &[
            "LISTEN a",
            "BEGIN; UNLISTEN a; ROLLBACK",
            "BEGIN; UNLISTEN a; COMMIT",
        ],
    ),
    (
        "advisory_lock",
        &["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_unlock(1)"],
    ),
    (
        "advisory_lock",
        &[
            "SELECT pg_advisory_lock(1), pg_advisory_lock(2)",
            "SELECT pg_advisory_unlock(1)",
            "SELECT pg_advisory_unlock_all()",
        ],
    ),
    // Locks outlive a rollback.
    (
        "advisory_lock",
        &[
            "BEGIN; SELECT pg_advisory_lock(1); ROLLBACK",
            "SELECT pg_advisory_unlock(1)",
        ],
    ),
    (
        "temp_table",
        &[
            "CREATE TEMP TABLE x (a int)",
            "INSERT INTO x VALUES (1)",
            "DROP TABLE x",
        ],
    ),
    (
        "temp_table",
        &[
            "CREATE TEMP TABLE x (a int)",
            "DROP TABLE t, nowhere",
            "DISCARD TEMP",
        ],
    ),
    ("temp_table", &["SELECT 1 AS a INTO TEMP x", "DROP TABLE x"]),
    (
        "temp_table",
        &["CREATE TABLE pg_temp.x (a int)", "DROP TABLE x"],
    ),
    (
        "temp_table",
        &[
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "DISCARD TEMP",
        ],
    ),
    (
        "cursor_with_hold",
        &[
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "FETCH c",
            "CLOSE c",
        ],
    ),
    // More than pgdrover understands.
    (
        "prepare",
        &["PREPARE q AS (SELECT now())", "EXECUTE q", "DEALLOCATE q"],
    ),
    ("prepare", &["PREPARE q AS TABLE t", "DEALLOCATE ALL"]),
    (
        "prepare",
        &[
            "PREPARE q AS SELECT 1; EXECUTE q",
            "SELECT 1",
            "DEALLOCATE q",
        ],
    ),
    // Of this the server can tell nothing.
    (
        "set_config",
        &[
            "SELECT set_config('work_mem', '1' || 'MB', false)",
            "LISTEN a",
            "UNLISTEN a",
            "DISCARD ALL",
        ],
    ),
];

#[tokio::test]
async fn a_session_is_pinned_as_long_as_it_has_state() {
    let (_db, pgdrover) = one_connection().await;
    let (mut a, mut other) = (pgdrover.raw().await, pgdrover.raw().await);
    a.query("SET application_name = 'mine'").await;
    for (reason, steps) in CASES {
        for (n, step) in steps.iter().enumerate() {
            let frames = a.query(step).await;
            let last = n + 1 == steps.len();
            let failed = frames.iter().any(|f| f.tag == b'E');
            assert_eq!(failed, step.contains("nowhere"), "{step}: {frames:?}");
            if last {
                freed(&mut other, step).await;
            } else {
                assert!(!is_free(&mut other).await, "{reason} after {step}");
            }
            let wanted = if last { "0" } else { "1" };
            assert_eq!(pinned(&pgdrover, reason), wanted, "{reason} after {step}");
        }
        // Nothing of it is left for another, and what is not state follows.
        let sql = "SELECT current_setting('application_name') || current_setting('work_mem')";
        assert_eq!(other.value(sql).await, "4MB");
        let mine = a.value("SHOW application_name").await;
        assert_eq!(mine, if *reason == "set_config" { "" } else { "mine" });
    }
}

/// State that was only tried for, or ended with its transaction, pins nobody.
#[tokio::test]
async fn what_is_gone_with_its_transaction_does_not_pin() {
    let (db, pgdrover) = one_connection().await;
    let (mut a, mut other) = (pgdrover.raw().await, pgdrover.raw().await);
    let owner = db.owner().await;
    owner
        .batch_execute("SELECT pg_advisory_lock(9)")
        .await
        .unwrap();
    for sql in [
        "SELECT pg_try_advisory_lock(9)",
        "SELECT pg_advisory_xact_lock(8)",
        "CREATE TEMP TABLE x (a nonsense)",
        "BEGIN; CREATE TEMP TABLE x (a int) ON COMMIT DROP; COMMIT",
        "BEGIN; LISTEN a; ROLLBACK",
        "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; CLOSE c; COMMIT",
        "CREATE TEMP TABLE x (a int); SELECT 1/0",
        "PREPARE q AS SELECT nothing",
    ] {
        a.query(sql).await;
        freed(&mut other, sql).await;
    }
    for sql in [
        "BEGIN",
        "CREATE TEMP TABLE x (a int) ON COMMIT DROP",
        "SELECT 1",
    ] {
        a.query(sql).await;
        assert!(!is_free(&mut other).await, "after {sql}");
    }
    a.query("COMMIT").await;
    freed(&mut other, "COMMIT").await;
}

/// A client that leaves, or says DISCARD ALL, takes its state along.
#[tokio::test]
async fn a_client_that_leaves_unpins() {
    let (_db, pgdrover) = one_connection().await;
    let mut other = pgdrover.raw().await;
    for leave in [false, true] {
        let mut a = pgdrover.raw().await;
        a.query("CREATE TEMP TABLE x (a int); LISTEN c").await;
        assert!(!is_free(&mut other).await);
        assert_eq!(pinned(&pgdrover, "temp_table"), "1");
        if leave {
            drop(a);
        } else {
            a.query("DISCARD ALL").await;
        }
        freed(&mut other, "it ended").await;
        assert_eq!(other.error("SELECT * FROM x").await.0, "42P01");
        let channels = other.values("SELECT pg_listening_channels()").await;
        assert_eq!(channels.len(), 0);
        assert_eq!(pinned(&pgdrover, "temp_table"), "0");
    }
}

/// Over several shards only the connection with the state is kept, and it is found again.
#[tokio::test]
async fn state_on_one_of_several_shards() {
    let mut dbs = Vec::new();
    for shard in 0..3 {
        dbs.push(TestDb::on_shard(shard, "CREATE TABLE items (key bigint)").await);
    }
    let pgdrover = Setup::sharded(&dbs).with(ONE).start().await;
    let (mut a, mut other) = (pgdrover.raw().await, pgdrover.raw().await);
    let touch = async |client: &mut Raw| {
        let mut free = String::new();
        for key in 0..3 {
            let sql = format!("SELECT count(*) FROM items WHERE key = {key}");
            let frames = client.query(&sql).await;
            free.push(if frames.iter().any(|f| f.tag == b'E') {
                '-'
            } else {
                '+'
            });
        }
        free
    };
    a.query("SELECT pg_advisory_lock(4)").await;
    a.query("/* pgdrover: shard=2 */ CREATE TEMP TABLE x (a int)")
        .await;
    assert_eq!(touch(&mut other).await, "-+-");
    a.query("SELECT pg_advisory_unlock(4)").await;
    crate::support::eventually("one", async || touch(&mut other).await == "++-").await;
    a.query("/* pgdrover: shard=2 */ DISCARD TEMP").await;
    crate::support::eventually("all", async || touch(&mut other).await == "+++").await;
}

/// What SQL prepares and pgdrover understands follows its client, on several shards to the shard
/// that the arguments name.
#[tokio::test]
async fn statements_prepared_by_sql_pin_nobody() {
    let dbs = items_on_three_shards().await;
    let pgdrover = Setup::sharded(&dbs).with(ONE).start().await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    a.query("PREPARE q AS SELECT 'a' || shard FROM items WHERE key = $1")
        .await;
    b.query("PREPARE q (bigint) AS SELECT 'b' || shard FROM items WHERE key = $1")
        .await;
    for key in [2, 0, 1, 2] {
        for (client, who) in [(&mut a, "a"), (&mut b, "b")] {
            let sql = format!("EXECUTE q({key})");
            assert_eq!(client.value(&sql).await, format!("{who}{key}"));
        }
    }
    for (client, who) in [(&mut a, "a"), (&mut b, "b")] {
        client.query("BEGIN").await;
        assert_eq!(client.value("EXECUTE q('1')").await, format!("{who}1"));
        client.query("COMMIT").await;
    }
    assert_eq!(a.error("EXECUTE q(1 + 1)").await.0, "0A000");
    a.query("DEALLOCATE q").await;
    assert_eq!(a.error("EXECUTE q(1)").await.0, "26000");
    assert_eq!(b.value("EXECUTE q(1)").await, "b1");
    assert_eq!(pinned(&pgdrover, "prepare"), "never");
}
