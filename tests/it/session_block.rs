//! Transactions before it is known which of several shards they need.

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::say;

const ITEMS: &str = "CREATE TABLE items (key bigint PRIMARY KEY, v text)";

async fn three_shards() -> (Vec<TestDb>, Running) {
    let mut dbs = Vec::new();
    for _ in 0..3 {
        dbs.push(TestDb::new(ITEMS).await);
    }
    let pgdrover = Setup::sharded(&dbs).start().await;
    (dbs, pgdrover)
}

fn aborted() -> (String, char) {
    ("25P02".to_owned(), 'E')
}

#[tokio::test]
async fn a_block_that_failed_before_its_shard_was_known_writes_nothing() {
    let (dbs, pgdrover) = three_shards().await;
    let mut client = pgdrover.raw().await;
    let failures = [
        ("BEGIN", "ROLLBACK TO nowhere", "3B001"),
        ("BEGIN", "SET LOCAL bogus = 1", "42704"),
        // These two fail in pgdrover alone.
        ("BEGIN", "DISCARD ALL", "25001"),
        ("BEGIN", "DELETE FROM items", "0A000"),
    ];
    for (begin, fails, code) in failures {
        for key in 0..3 {
            client.query(begin).await;
            assert_eq!(client.error(fails).await, (code.to_owned(), 'E'));
            let insert = format!("INSERT INTO items (key, v) VALUES ({key}, '')");
            assert_eq!(client.error(&insert).await, aborted(), "{fails}");
            let two = format!("SELECT 1; {insert}");
            assert_eq!(client.error(&two).await, aborted(), "{fails}");
            client.query("COMMIT").await;
        }
    }
    for db in &dbs {
        let rows = db.owner().await.query("SELECT key FROM items", &[]).await;
        assert_eq!(rows.unwrap().len(), 0);
    }
}

#[tokio::test]
async fn what_a_block_begins_with_goes_along_to_its_shard() {
    let (_dbs, pgdrover) = three_shards().await;
    let mut client = pgdrover.raw().await;
    for key in 0..3 {
        let count = format!("SELECT count(*) FROM items WHERE key = {key}");
        client.query("BEGIN; SET LOCAL work_mem = '2MB'").await;
        client.values(&count).await;
        assert_eq!(client.value("SHOW work_mem").await, "2MB");
        client.query("COMMIT").await;

        client.query("BEGIN; SET LOCAL work_mem = '2MB'").await;
        client.query("COMMIT AND CHAIN").await;
        client.values(&count).await;
        assert_ne!(client.value("SHOW work_mem").await, "2MB");
        client.query("COMMIT").await;

        client.query("BEGIN").await;
        client.query("BEGIN READ ONLY").await;
        let insert = format!("INSERT INTO items (key, v) VALUES ({key}, '')");
        assert_eq!(client.error(&insert).await, ("25006".to_owned(), 'E'));
        client.query("ROLLBACK").await;
    }
}

#[tokio::test]
async fn a_misspelt_begin_or_commit_fails_at_once() {
    let (_dbs, pgdrover) = three_shards().await;
    let mut client = pgdrover.raw().await;
    let wrong = ("42601".to_owned(), 'I');
    assert_eq!(client.error("BEGIN ISOLATION LEVEL foo").await, wrong);
    assert_eq!(client.error("BEGIN garbage").await, wrong);
    client.query("BEGIN").await;
    assert_eq!(client.error("COMMIT garbage").await.0, "42601");
    assert_eq!(client.error("SELECT 1").await, aborted());
}

/// The portal of a BEGIN that no server has is described all the same.
#[tokio::test]
async fn the_portal_of_a_deferred_begin_is_described() {
    let (_dbs, pgdrover) = three_shards().await;
    let mut client = pgdrover.raw().await;
    let batch = [
        say::extended("START TRANSACTION READ ONLY", &[]),
        say::describe_portal(""),
        say::parse("", "SELECT 1"),
        say::sync(),
    ];
    client.send(batch.concat()).await;
    let frames = client.ready().await;
    let tags: String = frames.iter().map(|f| f.tag as char).collect();
    assert_eq!(tags, "12nCn1Z", "{frames:?}");
}

/// A batch that pgdrover refuses is rolled back whole, the settings in it too.
#[tokio::test]
async fn a_refused_batch_takes_its_settings_along() {
    let (_dbs, pgdrover) = three_shards().await;
    let mut client = pgdrover.raw().await;
    let default = client.value("SHOW work_mem").await;
    let batch = [
        say::extended("SET work_mem = '1MB'", &[]),
        say::bind("", "nowhere", &[]),
        say::sync(),
    ];
    client.send(batch.concat()).await;
    let frames = client.ready().await;
    let error = frames.iter().find(|f| f.tag == b'E').unwrap();
    assert_eq!(error.field(b'C'), "26000", "{frames:?}");
    for key in 0..3 {
        let sql = format!("SELECT current_setting('work_mem') FROM items WHERE key = {key}");
        assert_eq!(client.values(&sql).await.len(), 0);
        assert_eq!(client.value("SHOW work_mem").await, default);
    }
}

/// Within a batch a block ends and another begins, of which no ReadyForQuery has told: the next
/// statement may need any shard.
#[tokio::test]
async fn a_block_that_a_batch_ended_binds_nobody() {
    let (_dbs, pgdrover) = three_shards().await;
    let mut client = pgdrover.raw().await;
    for (fails, end, status) in [
        (true, "COMMIT AND CHAIN", b"T"),
        (true, "ROLLBACK", b"I"),
        (false, "COMMIT", b"I"),
    ] {
        for key in 0..3 {
            client.query("BEGIN").await;
            client
                .query("SELECT count(*) FROM items WHERE key = 1")
                .await;
            if fails {
                client.query("SELECT 1/0").await;
            }
            let insert = format!("INSERT INTO items (key, v) VALUES ({key}, '')");
            client
                .send([say::extended(end, &[]), say::query(&insert)].concat())
                .await;
            let frames = client.ready().await;
            let errors = frames.iter().filter(|f| f.tag == b'E').count();
            assert_eq!(errors, 0, "{end}, then {key}: {frames:?}");
            assert_eq!(frames.last().unwrap().body, status);
            client.send(say::sync()).await;
            client.ready().await;
            client.query("ROLLBACK").await;
            // The same in one batch.
            client.query("BEGIN").await;
            client
                .query("SELECT count(*) FROM items WHERE key = 1")
                .await;
            if fails {
                client.query("SELECT 1/0").await;
            }
            let batch = [
                say::extended(end, &[]),
                say::extended(&insert.replace("''", "'x'"), &[]),
                say::sync(),
            ];
            client.send(batch.concat()).await;
            let frames = client.ready().await;
            let errors = frames.iter().filter(|f| f.tag == b'E').count();
            let twice = usize::from(status == b"I");
            assert_eq!(errors, twice, "{end}, then {key}: {frames:?}");
            client.query("ROLLBACK").await;
            client
                .query(&format!("DELETE FROM items WHERE key = {key}"))
                .await;
        }
    }
}
