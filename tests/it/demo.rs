//! The demo's cluster: made of real servers, repairable after faults, gone without a trace.

mod command;
mod placement;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pgdrover::demo::{self, Cluster, Error, Options, Sharding, StopMode};
use pgdrover::topology::Role;

use crate::support::cluster::shared;

fn small() -> Options {
    Options {
        shards: 1,
        replicas: 1,
        ..Options::default()
    }
}

/// Whether any process names the folder in its command line.
fn has_processes(dir: &Path) -> bool {
    let dir = dir.to_string_lossy();
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(&*dir))
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn count(cluster: &Cluster, server: &pgdrover::demo::Server) -> Option<i64> {
    let client = cluster.connect(server).await.ok()?;
    let row = client.query_one("SELECT count(*) FROM notifications", &[]);
    Some(row.await.ok()?.get(0))
}

#[tokio::test]
async fn replicas_stream_and_servers_survive_faults() {
    let cluster = Cluster::start(&small()).await.unwrap();
    let [primary, replica] = &cluster.shards[0].servers[..] else {
        panic!("{:?}", cluster.shards);
    };
    let insert =
        "INSERT INTO notifications (id, user_id) SELECT g, 100 FROM generate_series(1, 10) g";
    let client = cluster.connect(primary).await.unwrap();
    assert_eq!(client.execute(insert, &[]).await.unwrap(), 10);
    cluster.wait_replayed().await.unwrap();
    assert_eq!(count(&cluster, replica).await, Some(10));
    let refused = cluster
        .connect(replica)
        .await
        .unwrap()
        .execute(insert, &[])
        .await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "25006");

    let before = replica.pid().unwrap();
    replica.kill().await.unwrap();
    assert_eq!(replica.pid(), None);
    assert!(cluster.connect(replica).await.is_err());
    replica.start().await.unwrap();
    assert_ne!(replica.pid().unwrap(), before);
    cluster.wait_streaming().await.unwrap();
    assert_eq!(count(&cluster, replica).await, Some(10));

    primary.kill().await.unwrap();
    primary.start().await.unwrap();
    primary.stop(StopMode::Fast).await.unwrap();
    primary.start().await.unwrap();
    cluster.wait_streaming().await.unwrap();
    assert_eq!(count(&cluster, primary).await, Some(10));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn shards_are_clusters_of_their_own_and_hold_what_belongs_to_them() {
    let cluster = shared();
    let mut identities = Vec::new();
    for shard in &cluster.shards {
        for server in &shard.servers {
            let client = cluster.connect(server).await.unwrap();
            let sql = "SELECT system_identifier, pg_is_in_recovery(), \
                       (SELECT count(*) FROM countries), (SELECT count(*) FROM settings) \
                       FROM pg_control_system()";
            let row = client.query_one(sql, &[]).await.unwrap();
            identities.push(row.get::<_, i64>(0));
            assert_eq!(
                row.get::<_, bool>(1),
                server.role == Role::Replica,
                "{}",
                server.name
            );
            assert_eq!(row.get::<_, i64>(2), 8, "{}", server.name);
            assert_eq!(
                row.get::<_, i64>(3) > 0,
                shard.number == 0,
                "{}",
                server.name
            );
        }
    }
    assert_eq!(identities.len(), 9);
    identities.sort_unstable();
    identities.dedup();
    assert_eq!(identities.len(), 3);
}

#[tokio::test]
async fn loading_fills_every_table() {
    let cluster = Cluster::start(&small()).await.unwrap();
    let primary = cluster.shards[0].primary();
    // With one shard its primary can stand in for pgdrover.
    let mut target = tokio_postgres::Config::new();
    target.host(&primary.host).port(primary.port);
    target
        .user(demo::USER)
        .password(demo::PASSWORD)
        .dbname(demo::DATABASE);
    let users = demo::user_ids(150, Sharding::Modulo, 1);
    let done = AtomicUsize::new(0);
    let count_user = || {
        done.fetch_add(1, Ordering::Relaxed);
    };
    demo::load(&target, &users, count_user).await.unwrap();
    assert_eq!(done.into_inner(), users.len());

    cluster.wait_replayed().await.unwrap();
    let client = cluster
        .connect(&cluster.shards[0].replicas()[0])
        .await
        .unwrap();
    let sql = "SELECT (SELECT count(*) FROM notifications WHERE user_id = 100), \
               (SELECT count(*) FROM notifications), \
               (SELECT count(DISTINCT id) FROM notifications), \
               (SELECT count(*) FROM user_preferences), (SELECT count(*) FROM devices)";
    let row = client.query_one(sql, &[]).await.unwrap();
    let counts: Vec<i64> = (0..5).map(|column| row.get(column)).collect();
    assert_eq!(counts, [10, 1500, 1500, 150, 150]);
}

#[tokio::test]
async fn a_dropped_cluster_leaves_no_folder_and_no_process() {
    let cluster = Cluster::start(&small()).await.unwrap();
    let dir = cluster.dir().to_path_buf();
    assert!(has_processes(&dir));
    drop(cluster);
    assert!(!dir.exists());
    assert!(!has_processes(&dir));
}

#[tokio::test]
async fn a_start_given_up_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        parent.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let dir = parent.path().join("cluster");
    let options = Options {
        dir: Some(dir.clone()),
        ..small()
    };
    for milliseconds in [50, 400, 1200] {
        let limit = Duration::from_millis(milliseconds);
        let started = tokio::time::timeout(limit, Cluster::start(&options)).await;
        drop(started);
        eventually("the end of all processes", async || {
            !has_processes(&dir) && !dir.exists()
        })
        .await;
    }
}

#[tokio::test]
async fn a_server_that_cannot_start_tells_its_log() {
    let options = Options {
        extra_settings: vec![("shared_buffers".into(), "nonsense".into())],
        ..small()
    };
    let error = Cluster::start(&options).await.unwrap_err();
    assert!(matches!(error, Error::Start { .. }), "{error}");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
}

#[tokio::test]
async fn a_folder_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("precious"), "data").unwrap();
    let options = Options {
        dir: Some(dir.path().to_path_buf()),
        ..small()
    };
    let error = Cluster::start(&options).await.unwrap_err();
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert!(dir.path().join("precious").exists());
}

#[tokio::test]
async fn without_postgresql_the_error_names_the_package() {
    let options = Options {
        search_path: Some(Vec::new()),
        ..small()
    };
    let error = Cluster::start(&options).await.unwrap_err();
    assert!(matches!(error, Error::NotInstalled { .. }));
    assert!(
        error
            .to_string()
            .contains("install the package `postgresql`"),
        "{error}"
    );
}

/// Not a test of its own: the process that
/// [`a_killed_owner_leaves_no_folder_and_no_process`] kills.
#[tokio::test]
#[ignore = "run by another test"]
async fn owner_that_waits_for_its_death() {
    let Some(dir) = std::env::var_os("PGDROVER_TEST_DIR") else {
        return;
    };
    let options = Options {
        dir: Some(PathBuf::from(&dir)),
        ..small()
    };
    let _cluster = Cluster::start(&options).await.unwrap();
    std::fs::write(PathBuf::from(dir).join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_owner_leaves_no_folder_and_no_process() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        parent.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let dir = parent.path().join("cluster");
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "demo::owner_that_waits_for_its_death",
            "--ignored",
        ])
        .env("PGDROVER_TEST_DIR", &dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the cluster", async || dir.join("ready").exists()).await;
    assert!(has_processes(&dir));
    owner.kill().unwrap();
    owner.wait().unwrap();
    eventually("the watchdog's work", async || {
        !has_processes(&dir) && !dir.exists()
    })
    .await;
}
