//! What is loaded through pgdrover lies where the sharding function says, and nowhere else: each
//! server is asked for itself, and PostgreSQL computes where its rows belong.

use std::time::Duration;

use pgdrover::demo::{self, Cluster, Options, Server, Sharding};

use crate::support::daemon::over;

/// The users that are loaded; every table has a row or ten of each.
const USERS: u32 = 300;

/// The tables, and how many rows each user has there.
const TABLES: [(&str, i64); 3] = [
    ("notifications", 10),
    ("user_preferences", 1),
    ("devices", 1),
];

/// The md5 of the key's decimal text, all 128 bits of it, modulo 1000: digit by digit.
const POINT: &str = "(SELECT mod(sum(('x' || lpad(substr(md5(user_id::text), i, 1), 8, '0'))::bit(32)::int \
     * power(16::numeric, 32 - i)), 1000) FROM generate_series(1, 32) i)";

/// Loads users through pgdrover, then asks each server for what it has. `owner` is the design's
/// rule in SQL.
async fn check(sharding: Sharding, replicas: u16, owner: &str) {
    let options = Options {
        replicas,
        sharding,
        ..Options::default()
    };
    let cluster = Cluster::start(&options).await.unwrap();
    let running = over(&cluster, "[log]\nlevel = \"error\"\n").await;
    let users = demo::user_ids(USERS, sharding, 3);
    assert!(users.contains(&100));
    let target = running.client_config();
    demo::load(&target, &users, || {}).await.unwrap();
    cluster.wait_replayed().await.unwrap();

    let client = running.client().await;
    let ten = "SELECT count(*) FROM notifications WHERE user_id = 100";
    assert_eq!(
        client.query_one(ten, &[]).await.unwrap().get::<_, i64>(0),
        10
    );
    for number in 0..=usize::from(replicas) {
        // The primaries, then the first replica of each shard and so on: each has everything.
        let servers: Vec<_> = cluster.shards.iter().map(|s| &s.servers[number]).collect();
        for (table, rows) in TABLES {
            let mut found = Vec::new();
            for server in &servers {
                found.extend(users_on(&cluster, server, table, rows, owner).await);
            }
            found.sort_unstable();
            assert_eq!(found, users, "users of {table}, each once");
        }
    }
    running.daemon.stop(Duration::from_secs(1)).await;
}

/// The users of a table on one server, all of whom belong to its shard and have so many rows.
async fn users_on(
    cluster: &Cluster,
    server: &Server,
    table: &str,
    rows: i64,
    owner: &str,
) -> Vec<i64> {
    let client = cluster.connect(server).await.unwrap();
    let sql = format!("SELECT user_id, count(*), ({owner})::int FROM {table} GROUP BY user_id");
    let found = client.query(&sql, &[]).await.unwrap();
    let users = found.iter().map(|row| {
        let user: i64 = row.get(0);
        let who = format!("user {user} of {table} on {}", server.name);
        assert_eq!(row.get::<_, i64>(1), rows, "{who}");
        assert_eq!(row.get::<_, i32>(2), i32::from(server.shard), "{who}");
        user
    });
    users.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn modulo_places_rows_by_remainder() {
    check(Sharding::Modulo, 1, "user_id % 3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ring_places_rows_clockwise() {
    let owner = format!(
        "SELECT CASE WHEN point <= 250 OR point > 750 THEN 0 WHEN point <= 500 THEN 1 ELSE 2 END \
         FROM (SELECT {POINT} AS point) hashed"
    );
    check(Sharding::Ring, 0, &owner).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn range_places_rows_by_millions() {
    let owner = "CASE WHEN user_id < 33000000 THEN 0 WHEN user_id < 66000000 THEN 1 ELSE 2 END";
    check(Sharding::Range, 0, owner).await;
}
