//! What becomes of server connections: tested after rest, closed for a reason that is counted, and
//! all of them accounted for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pgdrover::backend::{Credentials, Overrides, Pools, ServerSecret, ServerTlsMode, Tls};
use pgdrover::demo::{PASSWORD, USER};
use pgdrover::telemetry::metrics::Closed;
use pgdrover::topology::Role;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::daemon::{Running, Setup, closed};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::raw::Raw;
use crate::support::say;

fn signal(pid: &str, which: Signal) {
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    kill_process(pid, which).unwrap();
}

async fn terminate_all(db: &TestDb) {
    let kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                WHERE datname = current_database() AND usename = 'app'";
    db.superuser().await.query(kill, &[]).await.unwrap();
}

async fn is_closed(pgdrover: &Running, reason: Closed) {
    eventually(reason.as_str(), async || pgdrover.closed(reason) > 0).await;
}

#[tokio::test]
async fn a_connection_is_tested_after_rest_and_only_then() {
    let db = TestDb::new("CREATE TABLE checks (at timestamptz DEFAULT clock_timestamp())").await;
    let pool = "[pool]\nserver_check_delay = \"2s\"\nserver_connect_timeout = \"1s\"\n\
                server_check_query = \"INSERT INTO checks DEFAULT VALUES\"";
    let pgdrover = Setup::solo(&db).with(pool).start().await;
    let mut client = pgdrover.raw().await;
    let checks = async || {
        let owner = db.owner().await;
        let row = owner.query_one("SELECT count(*) FROM checks", &[]).await;
        row.unwrap().get::<_, i64>(0)
    };
    let mut pid = String::new();
    for _ in 0..50 {
        pid = client.value("SELECT pg_backend_pid()").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(checks().await, 0, "it was busy for longer than the delay");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(client.value("SELECT pg_backend_pid()").await, pid);
    assert_eq!(checks().await, 1);
    // A server that is there and does not answer.
    signal(&pid, Signal::STOP);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let other = client.value("SELECT pg_backend_pid()").await;
    signal(&pid, Signal::CONT);
    assert_ne!(other, pid);
    assert_eq!(pgdrover.closed(Closed::CheckFailed), 1);
}

/// A client in a transaction that holds a connection.
async fn holder(pgdrover: &Running) -> Raw {
    let mut holder = pgdrover.raw().await;
    holder.query("BEGIN").await;
    holder.query("SELECT 1").await;
    holder
}

#[tokio::test]
async fn each_reason_for_closing_a_connection_is_counted_as_what_it_is() {
    let db = TestDb::new("CREATE TABLE t (a int)").await;
    let pool = "[pool]\nmax_prepared_statements = 1";
    let pgdrover = Setup::solo(&db).with(pool).start().await;

    let mut client = pgdrover.raw().await;
    client.query("SELECT 1").await;
    terminate_all(&db).await;
    client.query("SELECT 1").await;
    is_closed(&pgdrover, Closed::ServerClosed).await;

    client.send(say::query("SELECT pg_sleep(20)")).await;
    tokio::task::yield_now().await;
    let mut other = holder(&pgdrover).await;
    terminate_all(&db).await;
    other.query("ROLLBACK").await;
    client.ready().await;
    is_closed(&pgdrover, Closed::ServerLost).await;

    drop(holder(&pgdrover).await);
    is_closed(&pgdrover, Closed::ClientLeft).await;

    // The second statement takes the place of the first, in a batch that fails.
    let first = [say::parse("a", "SELECT 1"), say::sync()].concat();
    let second = [
        say::parse("b", "SELECT 1/0"),
        say::bind("", "b", &[]),
        say::execute("", 0),
        say::sync(),
    ];
    client.send([first, second.concat()].concat()).await;
    client.ready().await;
    client.ready().await;
    is_closed(&pgdrover, Closed::StatementsUnknown).await;

    let mut stranger = pgdrover.stranger().await;
    let nonsense = [("options", "-c no_such_setting=1")];
    let login = stranger.try_login(USER, PASSWORD, &db.name, &nonsense);
    login.await.unwrap_err();
    is_closed(&pgdrover, Closed::SetupFailed).await;

    // A pinned session's connection that cannot be cleaned.
    let mut pinned = pgdrover.raw().await;
    pinned.query("CREATE TEMPORARY TABLE mine (a int)").await;
    let pid = pinned.value("SELECT pg_backend_pid()").await;
    signal(&pid, Signal::STOP);
    drop(pinned);
    is_closed(&pgdrover, Closed::Pinned).await;
    signal(&pid, Signal::CONT);
}

#[tokio::test]
async fn connections_end_by_age_rest_and_role() {
    for (line, reason) in [
        ("server_lifetime = \"0s\"", Closed::Lifetime),
        ("server_idle_timeout = \"0s\"", Closed::Idle),
    ] {
        let db = TestDb::new("").await;
        let setup = Setup::solo(&db).with(&format!("[pool]\n{line}"));
        let pgdrover = setup.start().await;
        let mut client = pgdrover.raw().await;
        client.query("SELECT 1").await;
        client.query("SELECT 1").await;
        is_closed(&pgdrover, reason).await;
    }
    let db = TestDb::new("").await;
    let replica = &db.servers().replicas()[0];
    let mistaken =
        Setup::at_port(&db.name, replica.port).with("[control]\ncheck_interval = \"1h\"");
    let pgdrover = mistaken.start().await;
    let mut client = pgdrover.raw().await;
    assert_eq!(client.error("CREATE TABLE t (a int)").await.0, "57P03");
    assert!(pgdrover.closed(Closed::InRecovery) > 0);
    assert_eq!(replica.role, Role::Replica);
}

/// Reasons that only a fault of pgdrover, or a change of the topology, brings about.
#[tokio::test]
async fn a_lease_that_is_dropped_or_not_clean_is_closed_and_so_is_a_pool_without_a_server() {
    let db = TestDb::new("").await;
    let config = Setup::solo(&db).config();
    let tls = Tls {
        mode: ServerTlsMode::Disable,
        config: None,
    };
    let pools = Pools::new(config.pool.clone(), tls, HashMap::new());
    let mut topology = config.topology();
    let credentials = Credentials {
        user: USER.into(),
        secret: Arc::new(ServerSecret::new(Some(PASSWORD))),
        limits: Overrides::default(),
    };
    let database = topology.databases[&*db.name].clone();
    let cluster = pools.cluster(&database, 1, &credentials).unwrap();
    let pool = &cluster.shards[0].primary.pool;
    drop(pool.checkout().await.unwrap());
    assert_eq!(closed(&db.name, Closed::Abandoned), 1);
    let mut lease = pool.checkout().await.unwrap();
    lease.conn().status = b'T';
    lease.release();
    assert_eq!(closed(&db.name, Closed::Dirty), 1);
    let (resting, leased) = (
        pool.checkout().await.unwrap(),
        pool.checkout().await.unwrap(),
    );
    resting.release();
    topology.databases.clear();
    pools.maintain(&topology);
    assert_eq!(closed(&db.name, Closed::PoolClosed), 1);
    leased.release();
    assert_eq!(closed(&db.name, Closed::PoolClosed), 2);
    assert!(pool.checkout().await.is_err());
    let watcher = db.superuser().await;
    eventually("the connections to end", async || {
        db.connections(&watcher).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_storm_the_gauges_are_what_the_server_says() {
    let db = TestDb::new("CREATE TABLE t (a int)").await;
    let pool = "[pool]\ndefault_pool_size = 4\nreserve_pool_size = 2\n\
                reserve_pool_timeout = \"20ms\"\nserver_idle_timeout = \"1h\"";
    let pgdrover = Setup::solo(&db)
        .with(pool)
        .with("[session]\nauth_type = \"trust\"")
        .start()
        .await;
    let client = async |who: usize| {
        for round in 0..8 {
            let mut client = pgdrover.raw().await;
            let text = match (who + round) % 5 {
                0 => "SELECT pg_sleep(0.02)",
                1 => "BEGIN; INSERT INTO t VALUES (1)",
                2 => "COPY t FROM STDIN",
                3 => "SELECT pg_terminate_backend(pg_backend_pid())",
                _ => "SELECT 1/0",
            };
            client.send(say::query(text)).await;
            if who.is_multiple_of(2) {
                client.until(b"ZG").await;
            }
        }
    };
    futures_util::future::join_all((0..24).map(client)).await;
    let watcher = db.superuser().await;
    let gauge = |state: &str| {
        let label = format!("state=\"{state}\"");
        pgdrover.metric("pgdrover_server_connections", &label)
    };
    eventually("active 0, idle as many as there are", async || {
        let there = db.connections(&watcher).await;
        there > 0 && gauge("active") == 0 && gauge("idle") == there
    })
    .await;
    assert!(gauge("idle") <= 4);
    let opened = pgdrover.metric("pgdrover_server_connections_opened_total", "");
    let ended = pgdrover.metric("pgdrover_server_connections_closed_total", "");
    assert_eq!(opened - ended, gauge("idle"));
    assert_eq!(pgdrover.metric("pgdrover_clients_waiting", ""), 0);
}
