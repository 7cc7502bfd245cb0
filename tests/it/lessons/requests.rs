//! Requests that are not sent whole, fail in their middle, or are answered piece by piece.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::raw::Raw;
use crate::support::say;

const TRUST: &str = "[session]\nauth_type = \"trust\"";

/// A client whose end is a reset.
async fn resetting(pgdrover: &Running) -> Raw {
    let tcp = TcpStream::connect(pgdrover.address).await.unwrap();
    socket2::SockRef::from(&tcp)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    let mut raw = Raw::new(tcp);
    raw.login("app", "app", &pgdrover.database, &[]).await;
    raw
}

/// Lesson 1. What was begun by a client that is gone has not happened, its connection serves
/// nobody else, and a thousand others get their own rows meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_request_ends_with_its_connection() {
    let db = TestDb::new("CREATE TABLE t (who text)").await;
    let pgdrover = Setup::solo(&db)
        .with(TRUST)
        .with("[pool]\ndefault_pool_size = 4\nquery_wait_timeout = \"60s\"")
        .listener("max_client_conn = 2000")
        .start()
        .await;
    let asking = async |who: usize| {
        let mut client = pgdrover.raw().await;
        for turn in 0..2 {
            let me = format!("client {who}, turn {turn}");
            let sql = "SELECT $1::text, count(*) FROM t";
            client
                .send([say::extended(sql, &[Some(&me)]), say::sync()].concat())
                .await;
            let frames = client.ready().await;
            let row = frames.iter().find(|f| f.tag == b'D');
            let row = row.unwrap_or_else(|| panic!("{me}: {frames:?}"));
            assert_eq!(row.values(), [Some(me), Some("0".to_owned())]);
        }
    };
    let leaving = async |how: usize| {
        let insert = say::extended("INSERT INTO t VALUES ('leaver')", &[]);
        let mut client = resetting(&pgdrover).await;
        match how % 4 {
            // Parse and Bind, and never a Sync.
            0 => client.send(&insert).await,
            // Run and answered, and never a Sync.
            1 => {
                client.send([insert, say::flush()].concat()).await;
                client.until(b"C").await;
            }
            // In the middle of the answer.
            2 => {
                let long = "SELECT repeat('x', 1000) FROM generate_series(1, 5000)";
                client.send(say::query(long)).await;
                client.until(b"D").await;
            }
            // In the middle of a frame.
            _ => client.send(&insert[..insert.len() - 9]).await,
        }
    };
    let askers = futures_util::future::join_all((0..1000).map(asking));
    let leavers = futures_util::future::join_all((0..40).map(leaving));
    futures_util::join!(askers, leavers);
    let watcher = db.superuser().await;
    eventually("what was left to end", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND usename = 'app' AND state <> 'idle'";
        watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    assert!(db.connections(&watcher).await <= 4);
    let rows = watcher.query("SELECT who FROM t", &[]).await.unwrap();
    assert_eq!(rows.len(), 0);
}

/// Lesson 3. What Flush asked for is answered, and nothing is committed before Sync; then it is.
#[tokio::test]
async fn flush_keeps_the_connection_and_sync_commits() {
    let db = TestDb::new("CREATE TABLE t (a int)").await;
    let pgdrover = Setup::solo(&db).start().await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    let count = "SELECT count(*) FROM t";
    let insert = "INSERT INTO t VALUES ($1) RETURNING pg_backend_pid()";
    let prepare = [say::parse("s", insert), say::describe_statement("s")];
    a.send([prepare.concat(), say::flush()].concat()).await;
    let described = a.until(b"T").await;
    assert_eq!(described.len(), 3, "{described:?}");
    let mut servers = Vec::new();
    for value in ["1", "2"] {
        let run = [say::bind("", "s", &[Some(value)]), say::execute("", 0)];
        a.send([run.concat(), say::flush()].concat()).await;
        let frames = a.until(b"CE").await;
        servers.push(frames[1].values()[0].clone());
        assert_eq!(b.value(count).await, "0", "nothing is committed yet");
    }
    assert_eq!(servers[0], servers[1]);
    assert!(a.frame_within(Duration::from_millis(50)).await.is_none());
    a.send(say::sync()).await;
    assert_eq!(a.ready().await.len(), 1);
    assert_eq!(
        b.value(count).await,
        "2",
        "Sync is answered after the commit"
    );
}

/// Lesson 5. No Sync is needed to hear of the error; a Query behind it is dropped with the rest.
#[tokio::test]
async fn an_error_is_told_at_once_and_the_rest_is_skipped_to_sync() {
    let db = TestDb::new("CREATE TABLE t (a int)").await;
    let pgdrover = Setup::solo(&db).start().await;
    let mut client = pgdrover.raw().await;
    client
        .send([say::parse("s", "SELECT 1 / $1::int"), say::sync()].concat())
        .await;
    client.ready().await;
    let fails = [say::bind("", "s", &[Some("0")]), say::execute("", 0)].concat();
    let dropped = say::query("INSERT INTO t VALUES (1)");
    client.send([fails, dropped.clone()].concat()).await;
    let frames = client.until(b"E").await;
    assert_eq!(frames.last().unwrap().field(b'C'), "22012", "{frames:?}");
    client.send([dropped, say::flush()].concat()).await;
    client
        .send(say::extended("INSERT INTO t VALUES (2)", &[]))
        .await;
    assert!(
        client
            .frame_within(Duration::from_millis(50))
            .await
            .is_none()
    );
    client.send(say::sync()).await;
    let frames = client.ready().await;
    assert_eq!(frames.len(), 1, "one ReadyForQuery: {frames:?}");
    assert_eq!(frames[0].body, b"I");
    assert_eq!(client.value("SELECT count(*) FROM t").await, "0");
}
