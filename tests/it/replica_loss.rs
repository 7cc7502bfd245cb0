//! Servers die and come back: what clients notice of it, and what not.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pgdrover::demo::{Cluster, Options, Server};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::daemon::{Running, over};
use crate::support::eventually;

const QUICK: &str = "[log]\nlevel = \"off\"\n\n[control]\ncheck_interval = \"200ms\"\n\n\
                     [pool]\ndefault_pool_size = 4\nquery_wait_timeout = \"5s\"\n";
const READERS: usize = 8;
const WHO: &str =
    "SELECT current_setting('cluster_name') FROM notifications WHERE user_id = $1 AND id = 1";
const WRITE: &str = "UPDATE notifications SET amount = amount + 1 WHERE user_id = $1 AND id = 1 \
                     RETURNING current_setting('cluster_name')";

async fn one_shard(replicas: u16) -> (Cluster, Running) {
    let options = Options {
        shards: 1,
        replicas,
        ..Options::default()
    };
    let cluster = Cluster::start(&options).await.unwrap();
    let running = over(&cluster, QUICK).await;
    let client = running.client().await;
    for user in 0..READERS as i64 {
        let insert = "INSERT INTO notifications (id, user_id, amount) VALUES (1, $1, 0)";
        client.execute(insert, &[&user]).await.unwrap();
    }
    cluster.wait_replayed().await.unwrap();
    (cluster, running)
}

async fn who(client: &Client) -> Result<String, tokio_postgres::Error> {
    Ok(client.query_one(WHO, &[&0i64]).await?.get(0))
}

/// Waits until reads are served by exactly these servers, so that all of twenty in a row succeed.
async fn served_by(client: &Client, names: &[&str]) {
    eventually(&format!("reads by {names:?} alone"), async || {
        let mut found = Vec::new();
        for _ in 0..20 {
            match who(client).await {
                Ok(name) if !found.contains(&name) => found.push(name),
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        found.sort();
        found == names
    })
    .await;
}

/// What readers saw.
#[derive(Default)]
struct Seen {
    by_server: Mutex<BTreeMap<String, i64>>,
    failed: Mutex<Vec<String>>,
    stop: AtomicBool,
    in_flight: AtomicI64,
    most_in_flight: AtomicI64,
}

impl Seen {
    /// Reads until told to stop, half by prepared statements, half by text.
    async fn read(&self, running: &Running, reader: usize) {
        let client = running.client().await;
        let statement = client.prepare(WHO).await.unwrap();
        let text = WHO.replace("$1", &reader.to_string());
        while !self.stop.load(Ordering::Relaxed) {
            let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_in_flight.fetch_max(now, Ordering::Relaxed);
            let found = if reader.is_multiple_of(2) {
                let row = client.query_one(&statement, &[&(reader as i64)]).await;
                row.map(|row| row.get::<_, String>(0))
            } else {
                let row = client.query_one(&text, &[]).await;
                row.map(|row| row.get(0))
            };
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            match found {
                Ok(name) => *self.by_server.lock().unwrap().entry(name).or_default() += 1,
                Err(error) => {
                    let error = format!("{error:?}");
                    self.failed.lock().unwrap().push(error);
                }
            }
        }
    }

    fn reads_of(&self, server: &Server) -> i64 {
        let by_server = self.by_server.lock().unwrap();
        by_server.get(&server.name).copied().unwrap_or_default()
    }

    async fn more_reads_of(&self, server: &Server) {
        let before = self.reads_of(server);
        let what = format!("a hundred reads by {}", server.name);
        eventually(&what, async || self.reads_of(server) > before + 100).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_costs_at_most_what_was_in_flight_on_it() {
    let (cluster, running) = one_shard(2).await;
    let [primary, first, second] = &cluster.shards[0].servers[..] else {
        panic!("{:?}", cluster.shards);
    };
    let seen = Seen::default();
    let faults = async {
        seen.more_reads_of(first).await;
        seen.more_reads_of(second).await;
        first.kill().await.unwrap();
        seen.more_reads_of(second).await;
        let died_with = seen.reads_of(first);
        seen.more_reads_of(second).await;
        assert_eq!(seen.reads_of(first), died_with);
        first.start().await.unwrap();
        seen.more_reads_of(first).await;
        assert_eq!(
            seen.reads_of(primary),
            0,
            "a replica was there all the time"
        );
        seen.stop.store(true, Ordering::Relaxed);
    };
    let readers = join_all((0..READERS).map(|reader| seen.read(&running, reader)));
    tokio::join!(faults, readers);
    // At most half of what the readers had under way was on one of two replicas. Reads that
    // nothing came back from are even repeated elsewhere.
    let failed = seen.failed.into_inner().unwrap();
    assert!(
        failed.len() <= READERS,
        "{} failed: {failed:#?}",
        failed.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_replicas_the_primary_serves_reads_and_without_it_replicas_go_on() {
    let (cluster, running) = one_shard(2).await;
    let [primary, first, second] = &cluster.shards[0].servers[..] else {
        panic!("{:?}", cluster.shards);
    };
    let client = running.client().await;
    served_by(&client, &["shard0-2", "shard0-3"]).await;
    first.kill().await.unwrap();
    second.kill().await.unwrap();
    served_by(&client, &["shard0-1"]).await;
    first.start().await.unwrap();
    second.start().await.unwrap();
    served_by(&client, &["shard0-2", "shard0-3"]).await;

    primary.kill().await.unwrap();
    let started = Instant::now();
    let error = client.query_one(WRITE, &[&0i64]).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "{error:?}");
    let said = error.code().cloned().unwrap_or_else(|| panic!("{error:?}"));
    let unreachable = SqlState::SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;
    let expected = [
        unreachable,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::CONNECTION_FAILURE,
    ];
    assert!(expected.contains(&said), "{error:?}");
    for _ in 0..20 {
        who(&client).await.unwrap();
        let error = client.query_one(WRITE, &[&0i64]).await.unwrap_err();
        assert!(expected.contains(error.code().unwrap()), "{error:?}");
    }
    primary.start().await.unwrap();
    eventually("writes", async || {
        client.query_one(WRITE, &[&0i64]).await.is_ok()
    })
    .await;
    let name: String = client.query_one(WRITE, &[&0i64]).await.unwrap().get(0);
    assert_eq!(name, "shard0-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_in_recovery_gets_no_write_whatever_the_configuration_says() {
    let (cluster, running) = one_shard(1).await;
    drop(running);
    // The configuration of somebody who mixed the two up.
    let mut cluster = cluster;
    cluster.shards[0].servers.swap(0, 1);
    cluster.shards[0].servers[0].role = pgdrover::topology::Role::Primary;
    cluster.shards[0].servers[1].role = pgdrover::topology::Role::Replica;
    let running = over(&cluster, QUICK).await;
    let client = running.client().await;
    let error = client.query_one(WRITE, &[&0i64]).await.unwrap_err();
    let said = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    assert!(said.message().contains("recovery"), "{said:?}");
    assert_ne!(
        said.code(),
        &SqlState::READ_ONLY_SQL_TRANSACTION,
        "{said:?}"
    );
    // Reads go on, by whichever of them.
    who(&client).await.unwrap();
}
