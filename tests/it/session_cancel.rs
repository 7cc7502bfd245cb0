//! CancelRequest: it stops what its own session does, and nothing else.

use std::time::Duration;

use crate::support::cluster::shared;
use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::say;

/// Sends a cancel request and waits until pgdrover has dealt with it.
async fn cancel(pgdrover: &Running, (pid, secret): (i32, i32)) {
    let mut raw = pgdrover.stranger().await;
    raw.send(say::packet(&[say::CANCEL_REQUEST, pid, secret]))
        .await;
    assert_eq!(raw.byte().await, None, "a cancel request is not answered");
}

async fn running(db: &TestDb, sql: &str) {
    let watcher = db.superuser().await;
    let find = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE $1 AND state = 'active' \
                AND pid <> pg_backend_pid()";
    let like = format!("%{sql}%");
    eventually("the statement to run", async || {
        let row = watcher.query_one(find, &[&like]).await.unwrap();
        row.get::<_, i64>(0) > 0
    })
    .await;
}

#[tokio::test]
async fn a_running_statement_is_cancelled_and_a_wrong_key_changes_nothing() {
    let db = TestDb::new("").await;
    let pgdrover = Setup::solo(&db).start().await;
    let mut client = pgdrover.raw().await;
    let (pid, secret) = client.key;
    client
        .send(say::query("SELECT pg_sleep(20), 'cancelme'"))
        .await;
    running(&db, "cancelme").await;
    for wrong in [(pid, secret ^ 1), (pid ^ 1, secret), (0, 0)] {
        cancel(&pgdrover, wrong).await;
    }
    assert!(
        client
            .frame_within(Duration::from_millis(50))
            .await
            .is_none()
    );
    cancel(&pgdrover, (pid, secret)).await;
    let frames = client.ready().await;
    let error = frames.iter().find(|f| f.tag == b'E').unwrap();
    assert_eq!(error.field(b'C'), "57014");
    // At rest there is nothing to cancel.
    cancel(&pgdrover, (pid, secret)).await;
    assert_eq!(client.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn an_extended_statement_in_a_transaction_is_cancelled() {
    let db = TestDb::new("").await;
    let pgdrover = Setup::solo(&db).start().await;
    let mut client = pgdrover.raw().await;
    client.query("BEGIN").await;
    let batch = [
        say::extended("SELECT pg_sleep(20), 'stopme'", &[]),
        say::sync(),
    ];
    client.send(batch.concat()).await;
    running(&db, "stopme").await;
    cancel(&pgdrover, client.key).await;
    let frames = client.ready().await;
    assert!(
        frames
            .iter()
            .any(|f| f.tag == b'E' && f.field(b'C') == "57014")
    );
    assert_eq!(frames.last().unwrap().body, b"E");
    client.query("ROLLBACK").await;
    assert_eq!(client.value("SELECT 1").await, "1");
}

/// Lesson 6.
#[tokio::test]
async fn a_client_that_waits_for_a_connection_is_cancelled_at_once() {
    let db = TestDb::new("").await;
    let setup = Setup::replicated(&db).with("[pool]\ndefault_pool_size = 1");
    let pgdrover = setup.start().await;
    let mut holders = Vec::new();
    // The replicas' connections and the primary's. Some of these wait themselves: whose turn it
    // is on the replicas, nobody here knows.
    for begin in ["BEGIN", "BEGIN READ ONLY"].iter().cycle().take(12) {
        let mut holder = pgdrover.raw().await;
        holder.send(say::query(begin)).await;
        holders.push(holder);
    }
    for server in &db.servers().servers {
        let watcher = shared().connect(server).await.unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 \
                   AND state = 'idle in transaction'";
        eventually("all connections to be taken", async || {
            let row = watcher.query_one(sql, &[&db.name]).await.unwrap();
            row.get::<_, i64>(0) == 1
        })
        .await;
    }
    for sql in ["SELECT 2", "CREATE TABLE never (a int)"] {
        let mut waiter = pgdrover.raw().await;
        waiter.send(say::query(sql)).await;
        assert!(
            waiter
                .frame_within(Duration::from_millis(50))
                .await
                .is_none()
        );
        cancel(&pgdrover, waiter.key).await;
        let answer = tokio::time::timeout(Duration::from_secs(2), waiter.ready()).await;
        let frames = answer.unwrap_or_else(|_| panic!("{sql} goes on waiting"));
        assert_eq!(frames[0].field(b'C'), "57014", "{frames:?}");
    }
    holders.clear();
    assert_eq!(pgdrover.raw().await.value("SELECT 3").await, "3");
}

/// Lesson 6. A's cancel comes as A's statement ends and B takes A's server connection over: B must not
/// notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_late_cancel_hits_nobody_else() {
    let db = TestDb::new("").await;
    let setup = Setup::solo(&db).with("[pool]\ndefault_pool_size = 1");
    let pgdrover = setup.start().await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    let key = a.key;
    let mut hits = 0;
    for round in 0..300 {
        let cancelling = async {
            // Spread over the time that A's statement takes.
            tokio::time::sleep(Duration::from_micros(round * 20 % 3000)).await;
            cancel(&pgdrover, key).await;
        };
        let statement = async {
            let frames = a.query("SELECT pg_sleep(0.001)").await;
            usize::from(frames.iter().any(|f| f.tag == b'E'))
        };
        let bystander = async {
            for _ in 0..3 {
                let frames = b.query("SELECT pg_sleep(0.0005), 'b'").await;
                assert!(
                    frames.iter().all(|f| f.tag != b'E'),
                    "round {round}: {frames:?}"
                );
            }
        };
        let ((), hit, ()) = tokio::join!(cancelling, statement, bystander);
        hits += hit;
    }
    assert!(hits > 0, "no cancel came in time: this test shows nothing");
}

/// A thousand cancel requests, right ones and wrong ones: each pool goes on, each statement that is
/// nobody's target ends, and the server sees few of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_cancels_blocks_nobody() {
    let db = TestDb::new("").await;
    let setup = Setup::solo(&db)
        .listener("max_client_conn = 20")
        .with("[pool]\ndefault_pool_size = 2");
    let pgdrover = setup.start().await;
    let (mut target, mut other) = (pgdrover.raw().await, pgdrover.raw().await);
    let idle = pgdrover.raw().await;
    target
        .send(say::query("SELECT pg_sleep(30), 'flood'"))
        .await;
    running(&db, "flood").await;
    let (pid, secret) = target.key;
    let done = std::sync::atomic::AtomicBool::new(false);
    let flood = async |first: i32| {
        for n in (first..1000).step_by(40) {
            let key = match n % 4 {
                0 => (pid, secret ^ (n + 1)),
                1 => (pid ^ (n + 1), secret),
                2 => idle.key,
                _ if n > 500 => (pid, secret),
                _ => (n, n),
            };
            cancel(&pgdrover, key).await;
        }
    };
    let floods = async {
        futures_util::future::join_all((0..40).map(flood)).await;
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    let bystander = async {
        let mut answers = 0;
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            let answer = tokio::time::timeout(Duration::from_secs(5), other.value("SELECT 1"));
            assert_eq!(answer.await.expect("an answer in the flood"), "1");
            answers += 1;
        }
        answers
    };
    let ((), answers) = tokio::join!(floods, bystander);
    assert!(answers > 2, "{answers}");
    let frames = target.ready().await;
    let error = frames.iter().find(|f| f.tag == b'E').unwrap();
    assert_eq!(error.field(b'C'), "57014");
    assert_eq!(target.value("SELECT 'on'").await, "on");
    assert_eq!(pgdrover.raw().await.value("SELECT 'new'").await, "new");
    assert!(db.connections(&db.superuser().await).await <= 2);
}
