//! What is loaded through pgdrover lies where the sharding function says, and nowhere else.

use std::path::Path;

use md5::{Digest, Md5};
use pgdrover::config;
use pgdrover::daemon::Daemon;
use pgdrover::demo::{self, Cluster, Endpoint, Options, Sharding};

/// Loads users through pgdrover, then asks each server for what it has. `owner` is the design's
/// rule, written down once more.
async fn check(sharding: Sharding, owner: fn(i64) -> u16) {
    let options = Options {
        replicas: 0,
        sharding,
        ..Options::default()
    };
    let cluster = Cluster::start(&options).await.unwrap();
    let endpoint = Endpoint {
        port: 0,
        http_port: 0,
    };
    let text = cluster.config_toml(endpoint, "[log]\nlevel = \"error\"\n");
    let no_file = |_: &Path| Err(std::io::Error::other("no file is named"));
    let config = config::parse(&text, "demo.toml", &|_| None, &no_file).unwrap();
    let daemon = Daemon::start(config).await.unwrap();

    let mut target = tokio_postgres::Config::new();
    target
        .host("127.0.0.1")
        .port(daemon.address().unwrap().port());
    target
        .user(demo::USER)
        .password(demo::PASSWORD)
        .dbname(demo::DATABASE);
    let users = demo::user_ids(300, sharding, 3);
    demo::load(&target, &users, || {}).await.unwrap();

    let mut found = Vec::new();
    for shard in &cluster.shards {
        let client = cluster.connect(shard.primary()).await.unwrap();
        for (table, rows_of_user) in [
            ("notifications", 10),
            ("user_preferences", 1),
            ("devices", 1),
        ] {
            let sql = format!("SELECT user_id, count(*) FROM {table} GROUP BY user_id");
            for row in client.query(&sql, &[]).await.unwrap() {
                let (user, rows): (i64, i64) = (row.get(0), row.get(1));
                assert_eq!(owner(user), shard.number, "user {user} of {table}");
                assert_eq!(rows, rows_of_user, "user {user} of {table}");
                found.push((table, user));
            }
        }
    }
    assert_eq!(found.len(), users.len() * 3);
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), users.len() * 3);
    daemon.stop(std::time::Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn modulo_places_rows_by_remainder() {
    check(Sharding::Modulo, |user| (user % 3) as u16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ring_places_rows_clockwise() {
    check(Sharding::Ring, |user| {
        let hash = u128::from_be_bytes(Md5::digest(user.to_string()).into()) % 1000;
        match hash {
            0..=250 | 751.. => 0,
            251..=500 => 1,
            501..=750 => 2,
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn range_places_rows_by_millions() {
    check(Sharding::Range, |user| match user {
        0..33_000_000 => 0,
        33_000_000..66_000_000 => 1,
        _ => 2,
    })
    .await;
}
