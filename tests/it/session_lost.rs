//! A server connection that ends while a session has it, in every phase.

use std::time::Duration;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::raw::Raw;
use crate::support::say;

/// Ends every server process that works for pgdrover, and waits until they are gone.
async fn terminate(db: &TestDb) {
    let admin = db.superuser().await;
    let kill = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
                WHERE datname = current_database() AND usename = 'app' \
                AND backend_type = 'client backend'";
    assert!(!admin.query(kill, &[]).await.unwrap().is_empty());
}

/// Waits until a server process works for pgdrover.
async fn busy(db: &TestDb) {
    let watcher = db.superuser().await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND usename = 'app' AND state = 'active'";
    eventually("a statement to run", async || {
        watcher
            .query_one(count, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
    })
    .await;
}

async fn start(setup: &str) -> (TestDb, Running, Raw) {
    let db = TestDb::new(setup).await;
    let pgdrover = Setup::solo(&db).start().await;
    let client = pgdrover.raw().await;
    (db, pgdrover, client)
}

/// The error's SQLSTATE and the status of the answer to what was sent.
async fn told(client: &mut Raw) -> (String, char) {
    let frames = client.ready().await;
    let error = frames.iter().find(|f| f.tag == b'E');
    let error = error.unwrap_or_else(|| panic!("{frames:?}"));
    (error.field(b'C'), frames.last().unwrap().body[0] as char)
}

fn as_told((code, status): &(String, char)) -> (&str, char) {
    (code, *status)
}

#[tokio::test]
async fn a_connection_that_died_at_rest_is_not_used() {
    let (db, _pgdrover, mut client) = start("CREATE TABLE t (a int)").await;
    client.query("INSERT INTO t VALUES (1)").await;
    terminate(&db).await;
    client.query("INSERT INTO t VALUES (2)").await;
    terminate(&db).await;
    assert_eq!(client.value("SELECT count(*) FROM t").await, "2");
}

#[tokio::test]
async fn a_read_that_lost_its_server_is_read_again() {
    let (db, _pgdrover, mut client) = start("").await;
    for extended in [false, true] {
        // Long enough to be caught in it, and without an output before its end.
        let read = "SELECT count(*) FROM generate_series(1, 3000000)";
        let frames = match extended {
            false => say::query(read),
            true => [say::extended(read, &[]), say::sync()].concat(),
        };
        client.send(frames).await;
        busy(&db).await;
        terminate(&db).await;
        let frames = tokio::time::timeout(Duration::from_secs(60), client.ready())
            .await
            .unwrap();
        let rows: Vec<_> = frames.iter().filter(|f| f.tag == b'D').collect();
        assert_eq!(rows.len(), 1, "{frames:?}");
        assert_eq!(rows[0].values()[0].as_deref(), Some("3000000"));
        assert!(frames.iter().all(|f| f.tag != b'E'), "{frames:?}");
    }
}

#[tokio::test]
async fn a_write_that_lost_its_server_has_an_unknown_outcome() {
    let (db, _pgdrover, mut client) = start("CREATE TABLE t (a int)").await;
    client
        .send(say::query("INSERT INTO t SELECT 1 FROM pg_sleep(20)"))
        .await;
    busy(&db).await;
    terminate(&db).await;
    assert_eq!(as_told(&told(&mut client).await), ("08007", 'I'));
    assert_eq!(client.value("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn a_transaction_that_lost_its_server_fails_until_rollback() {
    let (db, _pgdrover, mut client) = start("CREATE TABLE t (a int)").await;
    client.query("BEGIN").await;
    client.query("INSERT INTO t VALUES (1)").await;
    client.send(say::query("SELECT pg_sleep(20)")).await;
    busy(&db).await;
    terminate(&db).await;
    assert_eq!(as_told(&told(&mut client).await), ("08006", 'E'));
    assert_eq!(as_told(&client.error("SELECT 1").await), ("25P02", 'E'));
    let end = client.query("COMMIT").await;
    assert_eq!(end[0].strings()[0], "ROLLBACK", "{end:?}");
    assert_eq!(client.value("SELECT count(*) FROM t").await, "0");
}

/// The client cannot know that its server is gone: whatever it sends next must say so, COMMIT
/// above all.
#[tokio::test]
async fn a_transaction_that_lost_its_server_in_silence_does_not_seem_to_commit() {
    let (db, _pgdrover, mut client) = start("CREATE TABLE t (a int)").await;
    for (next, status) in [("COMMIT", 'I'), ("SELECT 1", 'E')] {
        client.query("BEGIN").await;
        client.query("INSERT INTO t VALUES (1)").await;
        terminate(&db).await;
        assert_eq!(
            as_told(&client.error(next).await),
            ("08006", status),
            "{next}"
        );
        client.query("ROLLBACK").await;
    }
    for (next, status) in [("COMMIT", 'I'), ("SELECT 1", 'E')] {
        client.query("BEGIN").await;
        client.query("INSERT INTO t VALUES (1)").await;
        terminate(&db).await;
        let batch = [say::extended(next, &[]), say::sync()].concat();
        client.send(batch).await;
        let found = told(&mut client).await;
        assert_eq!(as_told(&found), ("08006", status), "{next}, prepared");
        client.query("ROLLBACK").await;
    }
    assert_eq!(client.value("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn a_batch_that_lost_its_server_does_not_seem_to_commit() {
    let (db, _pgdrover, mut client) = start("CREATE TABLE t (a int)").await;
    let batch = [say::extended("INSERT INTO t VALUES (1)", &[]), say::flush()];
    client.send(batch.concat()).await;
    client.until(b"C").await;
    terminate(&db).await;
    client.send(say::sync()).await;
    assert_eq!(as_told(&told(&mut client).await), ("08006", 'I'));
    assert_eq!(client.value("SELECT count(*) FROM t").await, "0");
}

#[tokio::test]
async fn a_session_with_state_on_its_server_ends_with_it() {
    let (db, pgdrover, mut client) = start("").await;
    client.query("CREATE TEMP TABLE mine (a int)").await;
    assert_eq!(client.value("SELECT count(*) FROM mine").await, "0");
    let mut other = pgdrover.raw().await;
    assert_eq!(other.value("SELECT 1").await, "1");
    terminate(&db).await;
    let farewell = client.until(b"").await;
    assert_eq!(farewell.len(), 1, "{farewell:?}");
    assert_eq!(farewell[0].field(b'S'), "FATAL");
    assert_eq!(farewell[0].field(b'C'), "08006");
    assert_eq!(other.value("SELECT 2").await, "2");
}
