//! Many clients, few connections: nobody gets what is another's, and every connection is accounted
//! for.

use std::time::Duration;

use crate::support::daemon::Setup;
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::program::Program;
use crate::support::say;

const TWO: &str = "[pool]\ndefault_pool_size = 2";

/// Lesson 1. Clients leave in the middle of requests while others, on the same few connections, ask
/// questions whose answers name the asker.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everyone_gets_the_answer_to_the_own_question() {
    let db = TestDb::new("CREATE TABLE t (a int)").await;
    let pgdrover = Setup::solo(&db).with(TWO).start().await;
    let asking = async |who: usize| {
        let mut client = pgdrover.raw().await;
        for i in 0..15 {
            let id = format!("{who}/{i}");
            let answer = match i % 3 {
                0 => client.value(&format!("SELECT '{id}'")).await,
                1 => {
                    let batch = [say::extended("SELECT $1::text", &[Some(&id)]), say::sync()];
                    client.send(batch.concat()).await;
                    let frames = client.ready().await;
                    let row = frames.iter().find(|f| f.tag == b'D');
                    row.unwrap_or_else(|| panic!("{frames:?}")).values()[0]
                        .clone()
                        .unwrap()
                }
                _ => {
                    client.query("BEGIN").await;
                    let answer = client.value(&format!("SELECT '{id}'")).await;
                    client.query("ROLLBACK").await;
                    answer
                }
            };
            assert_eq!(answer, id);
        }
    };
    let leaving = async |who: usize| {
        for i in 0..12 {
            let mut client = pgdrover.raw().await;
            let stolen = format!("SELECT 'stolen from {who}/{i}'");
            let half = match i % 6 {
                0 => say::extended(&stolen, &[]),
                1 => [say::extended(&stolen, &[]), say::flush()].concat(),
                2 => [say::extended(&stolen, &[]), say::sync()].concat(),
                3 => say::query(&format!("{stolen}, pg_sleep(0.01)")),
                4 => say::query("COPY t FROM STDIN"),
                _ => say::query("BEGIN; INSERT INTO t VALUES (1)"),
            };
            let cut = if i % 2 == 0 {
                half.len()
            } else {
                half.len() - 3
            };
            let _ = client.try_send(&half[..cut]).await;
            tokio::time::sleep(Duration::from_millis(i as u64 % 4)).await;
            drop(client);
        }
    };
    let askers = futures_util::future::join_all((0..20).map(asking));
    let leavers = futures_util::future::join_all((0..8).map(leaving));
    futures_util::join!(askers, leavers);
    // Nothing that was left half done has happened, and no more connections than allowed exist.
    let watcher = db.superuser().await;
    let mut last = pgdrover.raw().await;
    assert_eq!(last.value("SELECT count(*) FROM t").await, "0");
    eventually("the left transactions to end", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND usename = 'app' AND state <> 'idle'";
        watcher.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    assert!(db.connections(&watcher).await <= 2);
}

/// Lesson 2.
#[tokio::test]
async fn no_free_connection_is_one_error_and_one_ready() {
    let db = TestDb::new("").await;
    let pool = "[pool]\ndefault_pool_size = 1\nquery_wait_timeout = \"150ms\"";
    let pgdrover = Setup::solo(&db).with(pool).start().await;
    let (mut holder, mut client) = (pgdrover.raw().await, pgdrover.raw().await);
    holder.query("BEGIN").await;
    let batch = [
        say::parse("s", "SELECT 'own'"),
        say::bind("", "s", &[]),
        say::execute("", 0),
        say::extended("SELECT 2", &[]),
        say::sync(),
    ]
    .concat();
    client.send(&batch).await;
    let frames = client.ready().await;
    let shown: String = frames.iter().map(|f| f.tag as char).collect();
    assert_eq!(shown, "EZ", "{frames:?}");
    assert_eq!(frames[0].field(b'C'), "53300");
    assert!(frames[0].field(b'H').contains("default_pool_size"));
    assert_eq!(client.error("SELECT 1").await, ("53300".into(), 'I'));
    // What comes behind the error is skipped, even if there is a connection by then.
    let asked = say::extended("SELECT 'skipped'", &[]);
    client.send([asked.clone(), say::flush()].concat()).await;
    assert_eq!(client.frame().await.unwrap().field(b'C'), "53300");
    holder.query("ROLLBACK").await;
    client
        .send([asked, say::query("SELECT 'dropped'"), say::sync()].concat())
        .await;
    let frames = client.ready().await;
    assert_eq!(frames.len(), 1, "{frames:?}");
    // The name that the failed batch would have given is free.
    client.send(&batch).await;
    let frames = client.ready().await;
    assert_eq!(frames[2].values()[0].as_deref(), Some("own"), "{frames:?}");
    assert_eq!(client.value("SELECT 'mine'").await, "mine");
}

/// Lesson 24.
#[tokio::test]
async fn a_client_that_vanishes_in_a_transaction_frees_its_locks_and_its_connection() {
    let db = TestDb::new("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;
    let pgdrover = Setup::solo(&db).with(TWO).start().await;
    let watcher = db.superuser().await;
    for running in [false, true] {
        let mut client = pgdrover.raw().await;
        client.query("BEGIN").await;
        client.query("UPDATE t SET a = 2").await;
        if running {
            client.send(say::query("SELECT pg_sleep(30)")).await;
        }
        drop(client);
        let mut other = pgdrover.raw().await;
        let updated = tokio::time::timeout(
            Duration::from_secs(5),
            other.query("UPDATE t SET a = a + 2"),
        );
        assert_eq!(updated.await.expect("the lock")[0].strings()[0], "UPDATE 1");
        eventually("the connection to end", async || {
            db.connections(&watcher).await == 1
        })
        .await;
        drop(other);
    }
    assert_eq!(pgdrover.raw().await.value("SELECT a FROM t").await, "5");
}

/// Lesson 24.
#[tokio::test]
async fn a_huge_row_streams_through_and_a_client_that_leaves_it_harms_nobody() {
    let db = TestDb::new("").await;
    // In a process of its own: other tests of this one use memory as well.
    let folder = tempfile::tempdir().unwrap();
    let pgdrover = Program::start(folder, &db, Setup::solo(&db).with(TWO)).await;
    const SIZE: usize = 100 << 20;
    let big = say::query("SELECT repeat('0123456789', 10485760)");
    let (mut read, mut write) = tokio::io::split(pgdrover.raw().await.into_stream());
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let before = pgdrover.resident();
    write.write_all(&big).await.unwrap();
    let (mut total, mut most, mut chunk) = (0, 0, vec![0; 256 << 10]);
    while total < SIZE {
        total += read.read(&mut chunk).await.unwrap();
        most = most.max(pgdrover.resident());
    }
    let more = most.saturating_sub(before);
    assert!(more < 8 << 10, "{more} KiB more");
    drop((read, write));
    let mut leaver = pgdrover.raw().await;
    leaver.send(&big).await;
    leaver.until(b"T").await;
    drop(leaver);
    let mut other = pgdrover.raw().await;
    assert_eq!(other.value("SELECT 1").await, "1");
    assert_eq!(other.value("SELECT 2").await, "2");
}

/// Lesson 24. Both sides write at once, more than the sockets hold.
#[tokio::test]
async fn copying_in_with_notices_coming_back_does_not_deadlock() {
    let db = TestDb::new(
        "CREATE TABLE t (a int);
         CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE NOTICE '%', repeat('x', 3000); RETURN NEW; END $$;
         CREATE TRIGGER shout BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION shout();",
    )
    .await;
    let pgdrover = Setup::solo(&db).start().await;
    let mut client = pgdrover.raw().await;
    client.send(say::query("COPY t FROM STDIN")).await;
    client.until(b"G").await;
    // 40 MB in, 30 MB out: more than the sockets on the way hold.
    let rows: String = (0..10_000).map(|i| format!("{i:04000}\n")).collect();
    let data = [say::copy_data(&rows), say::copy_done()].concat();
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut read, mut write) = tokio::io::split(client.into_stream());
    let answer = async {
        let mut answer = Vec::new();
        while !answer.ends_with(b"Z\0\0\0\x05I") {
            read.read_buf(&mut answer).await.unwrap();
        }
        answer
    };
    let both = futures_util::future::join(write.write_all(&data), answer);
    let both = tokio::time::timeout(Duration::from_secs(60), both).await;
    let (written, answer) = both.expect("an end");
    written.unwrap();
    let notices = answer.windows(7).filter(|w| w == b"NOTICE\0").count();
    // Each says its severity twice.
    assert_eq!(notices, 2 * 10_000);
    let mut other = pgdrover.raw().await;
    assert_eq!(other.value("SELECT count(*) FROM t").await, "10000");
}
