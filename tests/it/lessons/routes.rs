//! Where statements go, and that no statement goes where another one went.

use crate::support::daemon::{Running, Setup};
use crate::support::database::{TestDb, items_on_three_shards};
use crate::support::raw::Raw;
use crate::support::say;
use pgdrover::topology::Role;

/// Lesson 13. What writes, locks, or could do so, and what is not understood, runs on the primary;
/// the read behind it is routed by itself.
#[tokio::test]
async fn what_may_write_runs_on_the_primary() {
    let db = TestDb::new(
        "CREATE TABLE t (id int, v int); INSERT INTO t VALUES (1, 1); CREATE SEQUENCE s;
         CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS 'UPDATE t SET v = v + 1 RETURNING v';
         CREATE PROCEDURE proc() LANGUAGE sql AS 'UPDATE t SET v = v + 1';",
    )
    .await;
    let pgdrover = Setup::replicated(&db).start().await;
    let mut client = pgdrover.raw().await;
    let primary = db.primary().name.clone();
    let on_replica = format!("SELECT current_setting('cluster_name') <> '{primary}'");
    crate::support::eventually("a replica to have it", async || {
        let mut fresh = pgdrover.raw().await;
        let frames = fresh.query(&format!("{on_replica}, v FROM t")).await;
        frames
            .iter()
            .any(|f| f.tag == b'D' && f.values()[0].as_deref() == Some("t"))
    })
    .await;
    for sql in [
        "INSERT INTO t VALUES (2, 2)",
        "WITH x AS (UPDATE t SET v = 3 RETURNING v) SELECT * FROM x",
        "WITH x AS (SELECT * FROM t FOR UPDATE) SELECT count(*) FROM x",
        "SELECT * FROM t FOR NO KEY UPDATE",
        "SELECT * FROM (SELECT * FROM t FOR SHARE) q",
        "/* SELECT */ SELECT writes()",
        "SELECT 1 WHERE (SELECT writes()) > 0",
        "SELECT nextval('s')",
        "SELECT setval('s', 7)",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT txid_current()",
        "CALL proc()",
        "DO $$ BEGIN UPDATE t SET v = 4; END $$",
        "COPY (INSERT INTO t VALUES (5, 5) RETURNING id) TO STDOUT",
        "SELECT 1; UPDATE t SET v = 5; SELECT 2",
        "SELECT v INTO copied FROM t",
        "EXPLAIN ANALYZE UPDATE t SET v = 6",
        "MERGE INTO t USING t u ON false WHEN NOT MATCHED THEN INSERT VALUES (u.id, 7)",
        "BEGIN; UPDATE t SET v = 8; COMMIT",
        "PREPARE p AS UPDATE t SET v = 9; EXECUTE p; DEALLOCATE p",
        "DISCARD ALL",
        // The parser does not know these, PostgreSQL does.
        "SELECT writes() FROM ROWS FROM (generate_series(1, 2) AS (n int), generate_series(1, 1)) q",
        "TABLE t FOR UPDATE",
        "SELECT v FROM t ORDER BY v USING < FOR UPDATE",
    ] {
        let frames = client.query(sql).await;
        let error = frames.iter().find(|f| f.tag == b'E');
        let refused = error.is_some_and(|f| f.field(b'C') == "25006" || f.field(b'C') == "25P02");
        assert!(!refused, "{sql} ran on a replica: {frames:?}");
        // The same in the extended protocol, if it is one statement.
        client
            .send([say::extended(sql, &[]), say::sync()].concat())
            .await;
        let frames = client.ready().await;
        let error = frames.iter().find(|f| f.tag == b'E');
        let refused = error.is_some_and(|f| f.field(b'C') == "25006");
        assert!(!refused, "{sql} ran on a replica when prepared: {frames:?}");
        if !sql.starts_with("PREPARE") {
            let read = client.value(&on_replica).await;
            assert_eq!(read, "t", "the read behind {sql}");
        }
    }
}

/// Three shards with one connection each; each table row names its own shard.
async fn three(sections: &str) -> (Vec<TestDb>, Running) {
    let dbs = items_on_three_shards().await;
    let pgdrover = Setup::sharded(&dbs).with(sections).start().await;
    (dbs, pgdrover)
}

async fn shard_of(client: &mut Raw, key: i64) -> String {
    let sql = format!("SELECT shard FROM items WHERE key = {key}");
    client.value(&sql).await
}

/// Lesson 20. Many Parse and Describe pairs in one pipeline: each has its own description, and
/// nothing of one batch is in the next.
#[tokio::test]
async fn each_statement_of_a_pipeline_keeps_its_description() {
    let (_dbs, pgdrover) = three("[pool]\nmax_prepared_statements = 5").await;
    let mut client = pgdrover.raw().await;
    for key in [0, 1, 2, 0] {
        let key = key.to_string();
        client.query("DEALLOCATE ALL").await;
        let mut batch = Vec::new();
        for i in 0..30 {
            let name = format!("s{i}");
            let sql = format!("SELECT shard AS of_{i}, {i} AS n FROM items WHERE key = $1");
            batch.push(say::parse(&name, &sql));
            batch.push(say::describe_statement(&name));
            batch.push(say::bind(&name, &name, &[Some(&key)]));
            batch.push(say::describe_portal(&name));
        }
        for i in (0..30).rev() {
            batch.push(say::execute(&format!("s{i}"), 0));
        }
        client.send([batch.concat(), say::sync()].concat()).await;
        let frames = client.ready().await;
        assert!(frames.iter().all(|f| f.tag != b'E'), "{frames:?}");
        let descriptions: Vec<_> = frames.iter().filter(|f| f.tag == b'T').collect();
        assert_eq!(descriptions.len(), 60);
        for (i, both) in descriptions.chunks(2).enumerate() {
            assert_eq!(both[0].body, both[1].body);
            let name = format!("of_{i}\0");
            assert_eq!(&both[0].body[2..2 + name.len()], name.as_bytes());
        }
        let rows: Vec<_> = frames.iter().filter(|f| f.tag == b'D').collect();
        assert_eq!(rows.len(), 30);
        for (row, i) in rows.iter().zip((0..30).rev()) {
            assert_eq!(row.values(), [Some(key.clone()), Some(i.to_string())]);
        }
    }
}

/// Lesson 23. A statement that is refused, or whose shard is not there, leaves no connection taken
/// and does not decide where the next one goes.
#[tokio::test]
async fn an_error_leaves_neither_connection_nor_route() {
    let one = "[pool]\ndefault_pool_size = 1\nquery_wait_timeout = \"2s\"";
    let mut dbs = Vec::new();
    for shard in 0..2 {
        let sql = format!(
            "CREATE TABLE items (key bigint, shard int DEFAULT {shard}); \
             INSERT INTO items VALUES ({shard})"
        );
        dbs.push(TestDb::on_shard(shard, &sql).await);
    }
    // Nobody listens there.
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = dead.local_addr().unwrap().port();
    drop(dead);
    let pgdrover = Setup::sharded(&dbs)
        .raw_shard("gone", "gone", &[("127.0.0.1", port, Role::Primary)])
        .with(one)
        .start()
        .await;
    let (mut client, mut other) = (pgdrover.raw().await, pgdrover.raw().await);
    // A shard that is not there keeps nobody out, whose settings no server has seen yet included.
    for name in 0..9 {
        let mut raw = pgdrover.stranger().await;
        let name = format!("lesson {name}");
        raw.login(
            "app",
            "app",
            &pgdrover.database,
            &[("application_name", &name)],
        )
        .await;
    }
    let failures = [
        ("UPDATE items SET key = 1 WHERE key = 0", "0A000"),
        ("DELETE FROM items", "0A000"),
        ("SELECT * FROM items WHERE key IN (0, 1)", "0A000"),
        ("SELECT shard / 0 FROM items WHERE key = 0", "22012"),
        ("SELECT nothing FROM items WHERE key = 1", "42703"),
        ("SELECT * FROM items WHERE key = 2", "08001"),
        ("INSERT INTO items (key) VALUES (2)", "08001"),
    ];
    for (sql, code) in failures {
        for prepared in [false, true] {
            let frames = match prepared {
                false => client.query(sql).await,
                true => {
                    let batch = [say::extended(sql, &[]), say::sync()].concat();
                    client.send(batch).await;
                    client.ready().await
                }
            };
            let error = frames.iter().find(|f| f.tag == b'E');
            let error = error.unwrap_or_else(|| panic!("{sql}: {frames:?}"));
            assert_eq!(error.field(b'C'), code, "{sql}: {frames:?}");
            assert_eq!(frames.last().unwrap().body, b"I");
            for key in [1, 0] {
                assert_eq!(shard_of(&mut other, key).await, key.to_string(), "{sql}");
                assert_eq!(shard_of(&mut client, key).await, key.to_string(), "{sql}");
            }
        }
    }
    // In a transaction, too, the failed shard is not where the next transaction goes.
    for key in [1, 0] {
        client.query("BEGIN").await;
        let failed = client.error("SELECT * FROM items WHERE key = 2").await;
        assert_eq!((failed.0.as_str(), failed.1), ("08001", 'E'));
        client.query("ROLLBACK").await;
        client.query("BEGIN").await;
        assert_eq!(shard_of(&mut client, key).await, key.to_string());
        client.query("COMMIT").await;
        assert_eq!(shard_of(&mut other, key).await, key.to_string());
    }
}
