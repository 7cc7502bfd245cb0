//! A session over several shards: which of them its transactions reach, whatever binds it.

use crate::support::daemon::{Running, Setup};
use crate::support::database::items_on_three_shards;
use crate::support::raw::Raw;
use crate::support::say;

/// Three shards; each table row names its own shard.
async fn start(pool: &str) -> Running {
    let dbs = items_on_three_shards().await;
    Setup::sharded(&dbs).with(pool).start().await
}

fn shard_of(key: i64) -> String {
    format!("SELECT shard FROM items WHERE key = {key}")
}

async fn a_transaction_for_each_shard(client: &mut Raw) {
    for key in [1, 2, 0, 2] {
        assert_eq!(client.query("BEGIN").await.last().unwrap().body, b"T");
        assert_eq!(client.value(&shard_of(key)).await, key.to_string());
        client.query("COMMIT").await;
        // Parsed and described before the values, and with them the shard, are known.
        client.query("BEGIN").await;
        let sql = "SELECT shard FROM items WHERE key = $1";
        client
            .send([say::parse("", sql), say::sync()].concat())
            .await;
        client.ready().await;
        let key = key.to_string();
        let rest = [
            say::bind("", "", &[Some(&key)]),
            say::execute("", 0),
            say::sync(),
        ];
        client.send(rest.concat()).await;
        let frames = client.ready().await;
        let row = frames.iter().find(|f| f.tag == b'D');
        let row = row.unwrap_or_else(|| panic!("{frames:?}"));
        assert_eq!(row.values()[0].as_deref(), Some(key.as_str()));
        client.query("ROLLBACK").await;
    }
}

#[tokio::test]
async fn a_bound_session_begins_transactions_on_every_shard() {
    let pgdrover = start("").await;
    let mut client = pgdrover.raw().await;
    client.value("SELECT pg_advisory_lock(42)").await;
    a_transaction_for_each_shard(&mut client).await;
    assert_eq!(client.value("SELECT pg_advisory_unlock(42)").await, "t");
}

#[tokio::test]
async fn session_pooling_begins_transactions_on_every_shard() {
    let pgdrover = start("[pool]\npool_mode = \"session\"").await;
    let mut client = pgdrover.raw().await;
    a_transaction_for_each_shard(&mut client).await;
}

#[tokio::test]
async fn a_transaction_with_a_cursor_stays_on_its_shard() {
    let pgdrover = start("").await;
    // Each session has a shard of its own for what could run on any.
    for _ in 0..6 {
        let mut client = pgdrover.raw().await;
        client.query("BEGIN").await;
        client.query("DECLARE c CURSOR FOR VALUES (1), (2)").await;
        let mut refused = 0;
        for key in 0..3 {
            client.query("SAVEPOINT s").await;
            let frames = client.query(&shard_of(key)).await;
            if let Some(error) = frames.iter().find(|f| f.tag == b'E') {
                assert_eq!(error.field(b'C'), "0A000");
                refused += 1;
                client.query("ROLLBACK TO s").await;
            }
            let rows = client.values("FETCH 1 FROM c").await;
            assert_eq!(rows.len(), usize::from(key < 2));
        }
        assert_eq!(refused, 2);
    }
}

#[tokio::test]
async fn settings_reach_every_shard() {
    let pgdrover = start("").await;
    let mut client = pgdrover.raw().await;
    client
        .query("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        .await;
    client
        .query("SELECT set_config('my.name', 'it''s me', false)")
        .await;
    let value = [
        say::extended("SELECT set_config('my.value', $1, false)", &[Some("42")]),
        say::sync(),
    ];
    client.send(value.concat()).await;
    client.ready().await;
    client.query("BEGIN").await;
    client
        .query("SELECT set_config('my.local', 'gone', true)")
        .await;
    for key in [2, 0, 1] {
        let sql = format!(
            "SELECT current_setting('transaction_isolation') || current_setting('my.name') || \
             current_setting('my.value') || coalesce(current_setting('my.local', true), '') \
             FROM items WHERE key = {key}"
        );
        let local = if key == 2 { "gone" } else { "" };
        assert_eq!(
            client.value(&sql).await,
            format!("serializableit's me42{local}")
        );
        client.query("COMMIT").await;
    }
}
