//! What takes too long ends, with the error that says so, and nothing else does.

use std::time::{Duration, Instant};

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::fake;
use crate::support::raw::{Frame, Raw};
use crate::support::say;

async fn start(db: &TestDb, sections: &str) -> (Running, Raw) {
    let pgdrover = Setup::solo(db).with(sections).start().await;
    let client = pgdrover.raw().await;
    (pgdrover, client)
}

fn session(line: &str) -> String {
    format!("[session]\n{line}")
}

fn error(frames: &[Frame]) -> &Frame {
    let error = frames.iter().find(|f| f.tag == b'E');
    error.unwrap_or_else(|| panic!("{frames:?}"))
}

/// The error that ends a session, and that it does end.
async fn last_words(client: &mut Raw) -> Frame {
    let frames = client.until(b"E").await;
    let error = error(&frames).clone();
    assert_eq!(error.field(b'S'), "FATAL");
    assert_eq!(client.frame().await, None);
    error
}

async fn nothing_runs(db: &TestDb, what: &str) {
    let watcher = db.superuser().await;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
               AND usename = 'app' AND state <> 'idle'";
    eventually(what, async || {
        watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}

#[tokio::test]
async fn query_timeout_cancels_the_statement_and_the_session_goes_on() {
    let db = TestDb::new("").await;
    let (_pgdrover, mut client) = start(&db, &session("query_timeout = \"200ms\"")).await;
    let sleep = "SELECT pg_sleep(20)";
    for extended in [false, true] {
        for block in [false, true] {
            if block {
                client.query("BEGIN").await;
            }
            let frames = match extended {
                false => say::query(sleep),
                true => [say::extended(sleep, &[]), say::sync()].concat(),
            };
            let started = Instant::now();
            client.send(frames).await;
            let frames = client.ready().await;
            let waited = started.elapsed();
            assert_eq!(error(&frames).field(b'C'), "57014", "{frames:?}");
            assert!(waited >= Duration::from_millis(200), "{waited:?}");
            assert!(waited < Duration::from_secs(2), "{waited:?}");
            let status = if block { b"E" } else { b"I" };
            assert_eq!(frames.last().unwrap().body, status);
            if block {
                client.query("ROLLBACK").await;
            }
            nothing_runs(&db, "the server to stop").await;
            assert_eq!(client.value("SELECT 'on'").await, "on");
        }
    }
}

/// A statement ends as it becomes due: the next one in the same transaction, on the same server
/// connection, is not hit in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn query_timeout_hits_no_statement_but_the_one_that_is_due() {
    let db = TestDb::new("").await;
    let (pgdrover, _) = start(&db, &session("query_timeout = \"100ms\"")).await;
    let racing = async |who: u64| {
        let mut client = pgdrover.raw().await;
        let mut hits = 0;
        for round in 0..25u64 {
            client.query("BEGIN").await;
            client.query("SAVEPOINT a").await;
            let micros = 95_000 + (who * 25 + round) * 150;
            let slow = format!("SELECT pg_sleep({})", micros as f64 / 1e6);
            let frames = client.query(&slow).await;
            hits += usize::from(frames.iter().any(|f| f.tag == b'E'));
            client.query("ROLLBACK TO a").await;
            for _ in 0..3 {
                let frames = client.query("SELECT pg_sleep(0.002)").await;
                assert!(frames.iter().all(|f| f.tag != b'E'), "{frames:?}");
            }
            client.query("COMMIT").await;
        }
        hits
    };
    let hits = futures_util::future::join_all((0..8).map(racing)).await;
    let hits: usize = hits.into_iter().sum();
    assert!((1..200).contains(&hits), "{hits} of 200: no race was run");
}

#[tokio::test]
async fn a_server_that_does_not_react_to_the_cancel_is_left() {
    let port = fake::start(|_, mut conn| async move {
        conn.until_query("never").await;
        while conn.frame().await.is_some() {}
    })
    .await;
    let pgdrover = Setup::at_port("fake", port)
        .with("[session]\nauth_type = \"trust\"\nquery_timeout = \"100ms\"")
        .with("[control]\ncheck_interval = \"1h\"")
        .start()
        .await;
    let ask = async |sql: &str| {
        let mut client = pgdrover.raw().await;
        let frames = client.query(sql).await;
        let told = error(&frames);
        assert!(told.field(b'D').contains("query_timeout"), "{frames:?}");
        assert_eq!(frames.last().unwrap().body, b"I");
        assert!(client.value("SELECT 'on'").await.contains("on"));
        told.field(b'C')
    };
    let (read, write) = tokio::join!(
        // It is not tried on another server: it would take as long there.
        ask("SELECT 'never'"),
        // Nobody knows what became of it.
        ask("UPDATE never SET a = 1"),
    );
    assert_eq!((read.as_str(), write.as_str()), ("08006", "08007"));
}

/// The server cannot react to a cancel while it waits to send.
#[tokio::test]
async fn a_client_that_does_not_read_its_answer_keeps_its_connection_no_longer() {
    let db = TestDb::new("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let sections = "[session]\nquery_timeout = \"200ms\"\n\n[pool]\ndefault_pool_size = 1";
    let (pgdrover, mut other) = start(&db, sections).await;
    let mut deaf = pgdrover.raw().await;
    deaf.query("BEGIN").await;
    deaf.query("UPDATE t SET a = 7").await;
    let long = "SELECT repeat('x', 1000) FROM generate_series(1, 30000)";
    deaf.send(say::query(long)).await;
    let frames = other.query("UPDATE t SET a = a + 1").await;
    assert_eq!(frames[0].strings()[0], "UPDATE 1", "{frames:?}");
    assert_eq!(other.value("SELECT a FROM t").await, "2");
}

#[tokio::test]
async fn idle_transaction_timeout_ends_the_session_and_frees_what_it_held() {
    let db = TestDb::new("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let sections = "[session]\nidle_transaction_timeout = \"300ms\"\n\n\
                    [pool]\ndefault_pool_size = 1";
    let (pgdrover, mut other) = start(&db, sections).await;
    let update = "UPDATE t SET a = 7";
    let open: [Vec<u8>; 2] = [
        [say::query("BEGIN"), say::query(update)].concat(),
        // A batch without Sync is a transaction, too.
        [say::extended(update, &[]), say::flush()].concat(),
    ];
    for (i, frames) in open.into_iter().enumerate() {
        let mut client = pgdrover.raw().await;
        let started = Instant::now();
        client.send(frames).await;
        assert_eq!(last_words(&mut client).await.field(b'C'), "25P03");
        assert!(started.elapsed() >= Duration::from_millis(300));
        let waited = tokio::time::timeout(
            Duration::from_secs(5),
            other.query("UPDATE t SET a = a + 1"),
        );
        let frames = waited.await.expect("the lock and the connection");
        assert_eq!(frames[0].strings()[0], "UPDATE 1", "{i}: {frames:?}");
    }
    assert_eq!(other.value("SELECT a FROM t").await, "3");
}

#[tokio::test]
async fn client_idle_timeout_ends_a_silent_session_and_no_other() {
    let db = TestDb::new("").await;
    let (pgdrover, mut silent) = start(&db, &session("client_idle_timeout = \"300ms\"")).await;
    let (mut open, mut busy) = (pgdrover.raw().await, pgdrover.raw().await);
    let mut lively = pgdrover.raw().await;
    open.query("BEGIN").await;
    busy.send(say::query("SELECT pg_sleep(1), 'done'")).await;
    let started = Instant::now();
    let lively = async {
        while started.elapsed() < Duration::from_millis(1000) {
            assert_eq!(lively.value("SELECT 1").await, "1");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ended = async {
        assert_eq!(last_words(&mut silent).await.field(b'C'), "57P05");
        started.elapsed()
    };
    let (ended, ()) = tokio::join!(ended, lively);
    assert!(ended < Duration::from_secs(1), "{ended:?}");
    let frames = busy.ready().await;
    assert_eq!(frames[1].values()[1].as_deref(), Some("done"), "{frames:?}");
    assert_eq!(open.value("SELECT 'still here'").await, "still here");
}

/// A read has three servers here, and waits for one of them only.
#[tokio::test]
async fn query_wait_timeout_is_the_whole_wait() {
    let db = TestDb::new("").await;
    let pool = "[pool]\ndefault_pool_size = 1\nquery_wait_timeout = \"400ms\"";
    let pgdrover = Setup::replicated(&db).with(pool).start().await;
    let mut holders = Vec::new();
    for begin in ["BEGIN", "BEGIN READ ONLY", "BEGIN READ ONLY"] {
        let mut holder = pgdrover.raw().await;
        holder.query(begin).await;
        holder.query("SELECT 1").await;
        holders.push(holder);
    }
    for sql in ["SELECT 2", "CREATE TABLE never (a int)"] {
        let mut waiter = pgdrover.raw().await;
        let started = Instant::now();
        let frames = waiter.query(sql).await;
        let waited = started.elapsed();
        assert_eq!(error(&frames).field(b'C'), "53300", "{frames:?}");
        assert_eq!(frames.last().unwrap().body, b"I");
        assert!(waited >= Duration::from_millis(400), "{waited:?}");
        assert!(waited < Duration::from_millis(750), "{waited:?}");
        drop(holders.pop());
        assert_eq!(waiter.value("SELECT 'on'").await, "on");
    }
}

#[tokio::test]
async fn the_clients_own_statement_timeout_is_the_servers_and_nobody_elses() {
    let db = TestDb::new("").await;
    let pool = "[pool]\ndefault_pool_size = 1";
    let (pgdrover, mut other) = start(&db, pool).await;
    let mut by_set = pgdrover.raw().await;
    by_set.query("SET statement_timeout = '100ms'").await;
    let mut by_startup = pgdrover.stranger().await;
    by_startup
        .login(
            pgdrover::demo::USER,
            pgdrover::demo::PASSWORD,
            &pgdrover.database,
            &[("options", "-c statement_timeout=100ms")],
        )
        .await;
    for client in [&mut by_set, &mut by_startup] {
        // The one connection is another's in between.
        other.query("SELECT 1").await;
        let frames = client.query("SELECT pg_sleep(20)").await;
        let told = error(&frames);
        assert_eq!(told.field(b'C'), "57014");
        assert!(told.field(b'M').contains("statement timeout"), "{told:?}");
        let frames = other.query("SELECT pg_sleep(0.3)").await;
        assert!(frames.iter().all(|f| f.tag != b'E'), "{frames:?}");
    }
}
