//! tokio-postgres through pgdrover: it prepares everything, in binary, and pipelines what is polled
//! together.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, CopyInSink, IsolationLevel, SimpleQueryMessage};

use crate::support::daemon::Running;

const WORKERS: i64 = 8;
const ROUNDS: usize = 4;
const SHARDS: i64 = 3;

/// Server processes that each worker met on each shard.
type Met = Mutex<HashMap<(i64, i64), HashSet<i32>>>;

pub(super) async fn check(running: &Running, first_user: i64) {
    let met = Met::default();
    let met = &met;
    join_all((0..WORKERS).map(async |worker| {
        let users: Vec<_> = (0..SHARDS).map(|n| first_user + worker * 10 + n).collect();
        for _ in 0..ROUNDS {
            let mut client = running.client().await;
            for &user in &users {
                crud(&client, user, met, worker).await;
                transactions(&mut client, user).await;
                copy(&mut client, user).await;
            }
            prepared(&client, &users).await;
        }
    }))
    .await;
    let met = met.lock().unwrap();
    assert!(
        met.values().any(|pids| pids.len() > 1),
        "nothing changed hands: {met:?}"
    );
}

async fn crud(client: &Client, user: i64, met: &Met, worker: i64) {
    for table in ["notifications", "user_preferences", "devices"] {
        let sql = format!("DELETE FROM {table} WHERE user_id = $1");
        client.execute(&sql, &[&user]).await.unwrap();
    }
    let insert = "INSERT INTO user_preferences (user_id, lang) VALUES ($1, $2)";
    assert_eq!(client.execute(insert, &[&user, &"en"]).await.unwrap(), 1);
    let whose = "/* pgdrover: role=primary */ SELECT current_setting('cluster_name'), \
                 pg_backend_pid() FROM user_preferences WHERE user_id = $1";
    let row = client.query_one(whose, &[&user]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), format!("shard{}-1", user % SHARDS));
    let key = (worker, user % SHARDS);
    met.lock()
        .unwrap()
        .entry(key)
        .or_default()
        .insert(row.get(1));

    // Polled together, these travel as one pipeline.
    let insert = "INSERT INTO notifications (id, user_id, title) VALUES ($1, $2, $3)";
    let insert = client.prepare(insert).await.unwrap();
    let titles: Vec<_> = (0..20).map(|n| format!("title {n}")).collect();
    let ids: Vec<i64> = (0..20).collect();
    let inserted = ids
        .iter()
        .zip(&titles)
        .map(async |(id, title)| client.execute(&insert, &[id, &user, title]).await);
    assert_eq!(try_join_all(inserted).await.unwrap(), [1; 20]);
    let update =
        "UPDATE notifications SET title = upper(title) WHERE user_id = $1 AND id < 5 RETURNING id";
    assert_eq!(client.query(update, &[&user]).await.unwrap().len(), 5);
    let text = format!(
        "/* pgdrover: role=primary */ SELECT title FROM notifications WHERE user_id = {user} AND id IN (4, 5) ORDER BY id"
    );
    let answer = client.simple_query(&text).await.unwrap();
    let rows: Vec<_> = answer
        .iter()
        .filter_map(|m| match m {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        })
        .collect();
    assert_eq!(rows, ["TITLE 4", "title 5"]);
    let delete = "DELETE FROM notifications WHERE user_id = $1 AND id = ANY($2)";
    let deleted = client.execute(delete, &[&user, &vec![10i64, 11, 99]]).await;
    assert_eq!(deleted.unwrap(), 2);
}

async fn transactions(client: &mut Client, user: i64) {
    let insert = "INSERT INTO devices (user_id, token) VALUES ($1, $2)";
    let tokens = "SELECT token FROM devices WHERE user_id = $1";
    let mut tx = client.transaction().await.unwrap();
    tx.execute(insert, &[&user, &"kept"]).await.unwrap();
    let savepoint = tx.transaction().await.unwrap();
    let twice = savepoint.execute(insert, &[&user, &"kept"]).await;
    assert_eq!(twice.unwrap_err().code(), Some(&SqlState::UNIQUE_VIOLATION));
    savepoint.rollback().await.unwrap();
    let rows = tx.query(tokens, &[&user]).await.unwrap();
    assert_eq!(rows.len(), 1);
    // One portal, executed in portions.
    let all = "SELECT id FROM notifications WHERE user_id = $1 ORDER BY id";
    let portal = tx.bind(all, &[&user]).await.unwrap();
    let mut walked = 0;
    loop {
        let rows = tx.query_portal(&portal, 7).await.unwrap();
        walked += rows.len();
        if rows.len() < 7 {
            break;
        }
    }
    assert_eq!(walked, 18);
    tx.commit().await.unwrap();

    let tx = client.transaction().await.unwrap();
    tx.execute("DELETE FROM devices WHERE user_id = $1", &[&user])
        .await
        .unwrap();
    let elsewhere = tx.query(tokens, &[&(user + 1)]).await;
    assert_eq!(
        elsewhere.unwrap_err().code(),
        Some(&SqlState::FEATURE_NOT_SUPPORTED)
    );
    let failed = tx.query(tokens, &[&user]).await;
    assert_eq!(
        failed.unwrap_err().code(),
        Some(&SqlState::IN_FAILED_SQL_TRANSACTION)
    );
    tx.rollback().await.unwrap();

    let options = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead);
    let tx = options.start().await.unwrap();
    let sql =
        "SELECT token, current_setting('transaction_isolation') FROM devices WHERE user_id = $1";
    let row = tx.query_one(sql, &[&user]).await.unwrap();
    assert_eq!((row.get(0), row.get(1)), ("kept", "repeatable read"));
    // Dropped: tokio-postgres rolls back behind our backs.
    drop(tx);
    let tx = client
        .build_transaction()
        .read_only(true)
        .start()
        .await
        .unwrap();
    let refused = tx.execute(insert, &[&user, &"x"]).await.unwrap_err();
    assert_eq!(refused.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
    tx.rollback().await.unwrap();
}

async fn prepared(client: &Client, users: &[i64]) {
    let sql = "/* pgdrover: role=primary */ SELECT user_id, lang FROM user_preferences WHERE user_id = $1";
    let statement = client.prepare(sql).await.unwrap();
    assert_eq!(statement.params(), [Type::INT8]);
    let names: Vec<_> = statement.columns().iter().map(|c| c.name()).collect();
    assert_eq!(names, ["user_id", "lang"]);
    for user in users.iter().cycle().take(9) {
        let row = client.query_one(&statement, &[user]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), (*user, "en"));
    }
    // One pipeline over three shards: each statement has a Sync of its own.
    let rows = users
        .iter()
        .map(async |user| client.query_one(&statement, &[user]).await);
    let rows = try_join_all(rows).await.unwrap();
    let found: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(found, users);
}

async fn copy(client: &mut Client, user: i64) {
    let hint = format!("/* pgdrover: shard={} */", user % SHARDS);
    let sql = format!("{hint} COPY notifications (id, user_id, title) FROM STDIN");
    let mut sink = pin!(client.copy_in::<_, Bytes>(&sql).await.unwrap());
    for portion in 0..10 {
        let rows = (0..100).map(|n| format!("{}\t{user}\tcopied\n", 1000 + portion * 100 + n));
        sink.send(Bytes::from(rows.collect::<String>()))
            .await
            .unwrap();
    }
    assert_eq!(sink.finish().await.unwrap(), 1000);

    let tx = client.transaction().await.unwrap();
    let sql = format!(
        "COPY (SELECT id, title FROM notifications WHERE user_id = {user} AND id >= 1000 ORDER BY id) \
         TO STDOUT (FORMAT binary)"
    );
    let out = tx.copy_out(&sql).await.unwrap();
    let rows = BinaryCopyOutStream::new(out, &[Type::INT8, Type::TEXT]);
    let ids: Vec<i64> = rows
        .map_ok(|row| row.get::<i64>(0))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(ids, (1000..2000).collect::<Vec<i64>>());
    let delete = "DELETE FROM notifications WHERE user_id = $1 AND id >= 1000";
    assert_eq!(tx.execute(delete, &[&user]).await.unwrap(), 1000);
    tx.commit().await.unwrap();

    let sql = format!("{hint} COPY devices (user_id, token) FROM STDIN (FORMAT binary)");
    let sink: CopyInSink<Bytes> = client.copy_in(&sql).await.unwrap();
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &[Type::INT8, Type::TEXT]));
    writer.as_mut().write(&[&user, &"binary"]).await.unwrap();
    assert_eq!(writer.finish().await.unwrap(), 1);
    // A COPY that is dropped in its middle leaves nothing.
    let mut sink = Box::pin(client.copy_in::<_, Bytes>(&sql).await.unwrap());
    sink.send(Bytes::from_static(b"PGCOPY\n")).await.unwrap();
    drop(sink);
    let sql =
        "/* pgdrover: role=primary */ SELECT token FROM devices WHERE user_id = $1 ORDER BY token";
    let mut rows = pin!(client.query_raw(sql, &[&user]).await.unwrap());
    let mut tokens = Vec::new();
    while let Some(row) = rows.next().await {
        tokens.push(row.unwrap().get::<_, String>(0));
    }
    assert_eq!(tokens, ["binary", "kept"]);
}
