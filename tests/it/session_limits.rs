//! How many clients and how many server connections there may be, and who is served first.

use std::time::{Duration, Instant};

use pgdrover::demo::{PASSWORD, USER};
use pgdrover::telemetry::metrics::Closed;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::raw::Raw;
use crate::support::say;

/// Another role on the servers, and the lines that make it a user.
async fn role(db: &TestDb) -> (String, String) {
    let name = format!("role_{}", db.name);
    let create = format!("CREATE ROLE {name} LOGIN PASSWORD 'pw' IN ROLE {USER}");
    db.superuser().await.batch_execute(&create).await.unwrap();
    let lines = format!("name = \"{name}\"\npassword = \"pw\"");
    (name, lines)
}

async fn waiting(pgdrover: &Running, clients: i64) {
    eventually("clients to wait", async || {
        pgdrover.metric("pgdrover_clients_waiting", "") == clients
    })
    .await;
}

/// A client in a transaction that holds a server connection.
async fn holder(pgdrover: &Running) -> Raw {
    let mut holder = pgdrover.raw().await;
    holder.query("BEGIN").await;
    holder.query("SELECT 1").await;
    holder
}

/// The message of the error that a statement gets after waiting in vain.
async fn refused(client: &mut Raw) -> String {
    let frames = client.query("SELECT 1").await;
    assert_eq!(frames[0].field(b'C'), "53300", "{frames:?}");
    frames[0].field(b'M')
}

#[tokio::test]
async fn who_waits_first_is_served_first() {
    let db = TestDb::new("CREATE TABLE served (at serial, who int)").await;
    let pool = "[pool]\ndefault_pool_size = 1";
    let pgdrover = Setup::solo(&db).with(pool).start().await;
    let mut holder = holder(&pgdrover).await;
    let mut clients = Vec::new();
    for who in 0..12 {
        let mut client = pgdrover.raw().await;
        let insert = format!("INSERT INTO served (who) VALUES ({who})");
        client.send(say::query(&insert)).await;
        waiting(&pgdrover, who + 1).await;
        clients.push(client);
    }
    // One in the middle gives up.
    drop(clients.remove(5));
    holder.query("COMMIT").await;
    for client in &mut clients {
        assert_eq!(client.ready().await[0].strings()[0], "INSERT 0 1");
    }
    let order = holder.values("SELECT who FROM served ORDER BY at").await;
    let order: Vec<i64> = order.iter().map(|w| w.parse().unwrap()).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert!(order.len() >= 11, "{order:?}");
    assert_eq!(db.connections(&db.superuser().await).await, 1);
}

#[tokio::test]
async fn sizes_of_users_and_databases_count_before_the_common_ones() {
    let db = TestDb::new("").await;
    let (few, lines) = role(&db).await;
    let pgdrover = Setup::solo(&db)
        .with("[pool]\nquery_wait_timeout = \"100ms\"")
        .user(&format!("{lines}\npool_size = 1"))
        .database("pool_size = 2")
        .start()
        .await;
    let mut holders = vec![holder(&pgdrover).await, holder(&pgdrover).await];
    let mut third = pgdrover.raw().await;
    let told = refused(&mut third).await;
    assert!(told.contains("all 2 connections of the pool"), "{told}");
    let mut one = pgdrover.raw_as(&few, "pw").await;
    one.query("BEGIN").await;
    let told = refused(&mut pgdrover.raw_as(&few, "pw").await).await;
    assert!(told.contains("all 1 connections of the pool"), "{told}");
    holders.clear();
    assert_eq!(third.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn pools_share_the_limits_of_their_database_and_of_their_user() {
    for (limit, named) in [
        ("max_db_connections = 2", "max_db_connections"),
        ("max_user_connections = 1", "max_user_connections"),
    ] {
        let db = TestDb::new("").await;
        let (other, lines) = role(&db).await;
        let pgdrover = Setup::solo(&db)
            .with(&format!("[pool]\nquery_wait_timeout = \"200ms\"\n{limit}"))
            .user(&lines)
            .start()
            .await;
        let watcher = db.superuser().await;
        let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                     AND backend_type = 'client backend' AND pid <> pg_backend_pid() \
                     AND usename <> 'postgres' AND application_name = ''";
        let connections = async || {
            watcher
                .query_one(count, &[])
                .await
                .unwrap()
                .get::<_, i64>(0)
        };
        // Connections that only rest make way.
        let mut app = pgdrover.raw().await;
        let mut role = pgdrover.raw_as(&other, "pw").await;
        let mut holders = Vec::new();
        let mine = if named.contains("db") { 2 } else { 1 };
        for _ in 0..mine {
            holders.push(holder(&pgdrover).await);
        }
        let told = refused(&mut app).await;
        assert!(told.contains(named), "{told}");
        if named.contains("db") {
            let told = refused(&mut role).await;
            assert!(told.contains(named) && told.contains(&db.name), "{told}");
            holders.clear();
        }
        assert_eq!(role.value("SELECT 1").await, "1");
        assert!(connections().await <= 2, "{named}");
        holders.clear();
        assert_eq!(app.value("SELECT 1").await, "1");
    }
}

/// One user's clients always wait and always are served: another user's is served as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_busy_pool_does_not_starve_another_below_a_common_limit() {
    let db = TestDb::new("").await;
    let (other, lines) = role(&db).await;
    let pgdrover = Setup::solo(&db)
        .with("[pool]\nmax_db_connections = 1")
        .user(&lines)
        .start()
        .await;
    let mut lone = pgdrover.raw_as(&other, "pw").await;
    let done = std::sync::atomic::AtomicBool::new(false);
    let busy = async || {
        let mut client = pgdrover.raw().await;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            client.query("SELECT pg_sleep(0.01)").await;
        }
    };
    let lone = async {
        // Of the four one is served and one may be between its answer and its next request, which
        // on a busy machine is when this test gets to look.
        eventually("the pool to be busy", async || {
            pgdrover.metric("pgdrover_clients_waiting", "") >= 2
        })
        .await;
        for _ in 0..2 {
            let answer = tokio::time::timeout(Duration::from_secs(8), lone.value("SELECT 1"));
            assert_eq!(answer.await.expect("the other pool's place"), "1");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(busy(), busy(), busy(), busy(), lone);
    assert!(pgdrover.closed(Closed::Evicted) > 0);
}

#[tokio::test]
async fn the_reserve_is_for_those_who_have_waited_and_goes_again() {
    let db = TestDb::new("").await;
    let pool = "[pool]\ndefault_pool_size = 1\nreserve_pool_size = 1\n\
                reserve_pool_timeout = \"300ms\"\nquery_wait_timeout = \"900ms\"";
    let pgdrover = Setup::solo(&db).with(pool).start().await;
    let mut first = holder(&pgdrover).await;
    let mut second = pgdrover.raw().await;
    let started = Instant::now();
    second.query("BEGIN").await;
    let waited = started.elapsed();
    assert!(waited >= Duration::from_millis(300), "{waited:?}");
    assert!(waited < Duration::from_millis(800), "{waited:?}");
    let told = refused(&mut pgdrover.raw().await).await;
    assert!(told.contains("all 2 connections"), "{told}");
    let watcher = db.superuser().await;
    assert_eq!(db.connections(&watcher).await, 2);
    second.query("COMMIT").await;
    eventually("the reserve to go", async || {
        db.connections(&watcher).await == 1
    })
    .await;
    assert_eq!(pgdrover.closed(Closed::Surplus), 1);
    first.query("COMMIT").await;
    assert_eq!(second.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn a_pool_keeps_its_least_size() {
    let db = TestDb::new("").await;
    let pool = "[pool]\nmin_pool_size = 3\nserver_idle_timeout = \"0s\"";
    let pgdrover = Setup::solo(&db).with(pool).start().await;
    let mut client = pgdrover.raw().await;
    let watcher = db.superuser().await;
    for _ in 0..2 {
        eventually("three connections", async || {
            db.connections(&watcher).await == 3
        })
        .await;
        assert_eq!(client.value("SELECT 1").await, "1");
        let kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                    WHERE datname = current_database() AND usename = 'app' LIMIT 1";
        watcher.query(kill, &[]).await.unwrap();
    }
}

#[tokio::test]
async fn clients_of_a_user_and_of_a_database_are_limited() {
    let db = TestDb::new("").await;
    let (other, lines) = role(&db).await;
    let pgdrover = Setup::solo(&db)
        .with("[session]\nmax_user_client_connections = 2")
        .user(&format!("{lines}\nmax_user_client_connections = 7"))
        .database("max_db_client_connections = 3")
        .start()
        .await;
    let refused = async |user: &str, password: &str| {
        let mut raw = pgdrover.stranger().await;
        let login = raw.try_login(user, password, &pgdrover.database, &[]).await;
        let error = login.expect_err("one too many");
        assert_eq!(
            (error.field(b'C'), error.field(b'S')),
            ("53300".into(), "FATAL".into())
        );
        error.field(b'M')
    };
    let mut clients = vec![pgdrover.raw().await, pgdrover.raw().await];
    let told = refused(USER, PASSWORD).await;
    assert!(
        told.contains("max_user_client_connections") && told.contains(USER),
        "{told}"
    );
    clients.push(pgdrover.raw_as(&other, "pw").await);
    let told = refused(&other, "pw").await;
    assert!(told.contains("max_db_client_connections"), "{told}");
    // Whoever was refused does not count, and who leaves does not count any more.
    clients.remove(0);
    eventually("room for one more", async || {
        let mut raw = pgdrover.stranger().await;
        let login = raw.try_login(USER, PASSWORD, &pgdrover.database, &[]);
        login.await.is_ok()
    })
    .await;
}
