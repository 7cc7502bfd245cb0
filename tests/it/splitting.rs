//! Reads go to the replicas of their shard in equal parts, writes to its primary.
//!
//! Each statement brings the name of the server that ran it home, together with its row; and each
//! server's own statistics tell whether anything ran there that was not told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pgdrover::topology::Role;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use crate::support::cluster::shared;
use crate::support::daemon::{Running, over};

const CLIENTS: i64 = 16;
const FIRST_USER: i64 = 8_000_000;
const USERS: i64 = 60;
/// So many turns are taken however slow the machine, that shares are worth comparing.
const ENOUGH: i64 = 12_000;

/// The texts, told from everybody else's in the servers' statistics by a word in each.
const READ: &str = "SELECT current_setting('cluster_name') AS splitting, user_id FROM notifications WHERE user_id = $1";
const JOIN: &str = "SELECT current_setting('cluster_name') AS splitting, n.user_id FROM notifications n JOIN user_preferences p USING (user_id) WHERE p.user_id = $1";
const WRITE: &str = "UPDATE notifications SET amount = amount + 1 WHERE user_id = $1 RETURNING current_setting('cluster_name') AS splitting, user_id";
const LOCK: &str = "SELECT current_setting('cluster_name') AS splitting, user_id FROM notifications WHERE user_id = $1 FOR UPDATE";

/// How often each server said that it ran a read or a write.
#[derive(Default)]
struct Told(BTreeMap<String, [i64; 2]>);

impl Told {
    fn note(&mut self, server: &str, user: i64, expected: i64, write: bool) {
        assert_eq!(user, expected);
        let shard = format!("shard{}-", user % 3);
        assert!(
            server.starts_with(&shard),
            "user {user} was found on {server}"
        );
        let is_primary = server == format!("{shard}1");
        assert_eq!(
            is_primary,
            write,
            "{} ran on {server}",
            ["a read", "a write"][usize::from(write)]
        );
        self.0.entry(server.to_owned()).or_default()[usize::from(write)] += 1;
    }
}

struct Worker {
    client: Client,
    read: Statement,
    write: Statement,
    told: Told,
    writes: i64,
}

impl Worker {
    async fn new(running: &Running) -> Worker {
        let client = running.client().await;
        Worker {
            read: client.prepare(READ).await.unwrap(),
            write: client.prepare(WRITE).await.unwrap(),
            client,
            told: Told::default(),
            writes: 0,
        }
    }

    async fn turn(&mut self, turn: i64, user: i64) {
        match turn % 8 {
            0 => self.prepared(true, user).await,
            3 => self.transaction(user).await,
            5 => self.simple(JOIN, user, false).await,
            6 => self.simple(LOCK, user, true).await,
            7 => self.read_only(user).await,
            _ => self.prepared(false, user).await,
        }
    }

    async fn prepared(&mut self, write: bool, user: i64) {
        let statement = if write { &self.write } else { &self.read };
        let row = self.client.query_one(statement, &[&user]).await.unwrap();
        self.told.note(row.get(0), row.get(1), user, write);
        self.writes += i64::from(write);
    }

    async fn simple(&mut self, text: &str, user: i64, write: bool) {
        let text = text.replace("$1", &user.to_string());
        for message in self.client.simple_query(&text).await.unwrap() {
            if let SimpleQueryMessage::Row(row) = message {
                let found = row.get(1).unwrap().parse().unwrap();
                self.told.note(row.get(0).unwrap(), found, user, write);
            }
        }
    }

    /// A transaction is the primary's, reads and all.
    async fn transaction(&mut self, user: i64) {
        let tx = self.client.transaction().await.unwrap();
        for statement in [&self.read, &self.write, &self.read] {
            let row = tx.query_one(statement, &[&user]).await.unwrap();
            self.told.note(row.get(0), row.get(1), user, true);
        }
        tx.commit().await.unwrap();
        self.writes += 1;
    }

    /// Unless it says READ ONLY.
    async fn read_only(&mut self, user: i64) {
        let tx = self.client.build_transaction().read_only(true);
        let tx = tx.start().await.unwrap();
        for statement in [READ, JOIN] {
            let row = tx.query_one(statement, &[&user]).await.unwrap();
            self.told.note(row.get(0), row.get(1), user, false);
        }
        tx.rollback().await.unwrap();
    }
}

async fn fill(running: &Running) {
    let client = running.client().await;
    for user in FIRST_USER..FIRST_USER + USERS {
        let insert =
            "INSERT INTO notifications (id, user_id, title, amount) VALUES (1, $1, 'x', 0)";
        client.execute(insert, &[&user]).await.unwrap();
        let insert = "INSERT INTO user_preferences (user_id) VALUES ($1)";
        client.execute(insert, &[&user]).await.unwrap();
    }
    shared().wait_replayed().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_the_replicas_in_equal_parts_and_writes_the_primarys() {
    let long = std::env::var_os("PGDROVER_LONG").is_some();
    let lasts = Duration::from_secs(if long { 30 } else { 3 });
    let running = over(
        shared(),
        "[log]\nlevel = \"warn\"\n[pool]\ndefault_pool_size = 5\n",
    )
    .await;
    fill(&running).await;

    let end = Instant::now() + lasts;
    let turns = AtomicI64::new(0);
    let workers = join_all((0..CLIENTS).map(async |_| {
        let mut worker = Worker::new(&running).await;
        loop {
            let turn = turns.fetch_add(1, Ordering::Relaxed);
            if turn > ENOUGH && Instant::now() > end {
                break;
            }
            // 61 and 8 share no factor: every user meets every kind.
            worker.turn(turn, FIRST_USER + turn * 61 % USERS).await;
        }
        (worker.told, worker.writes)
    }))
    .await;

    let mut told: BTreeMap<String, [i64; 2]> = BTreeMap::new();
    let mut writes = 0;
    for (Told(one), own) in workers {
        writes += own;
        for (server, [reads, writes]) in one {
            let sum = told.entry(server).or_default();
            sum[0] += reads;
            sum[1] += writes;
        }
    }
    assert_eq!(told.len(), 9, "servers that ran something: {told:?}");
    for shard in 0..3 {
        let reads = |replica| told[&format!("shard{shard}-{replica}")][0];
        let (a, b) = (reads(2), reads(3));
        assert!(
            a.min(b) * 10 >= a.max(b) * 9,
            "reads of the replicas: {told:?}"
        );
    }
    every_write_was_kept(writes).await;
    statistics_agree(&told).await;
}

/// The sum of the counters on the primaries is the number of writes that were answered.
async fn every_write_was_kept(writes: i64) {
    let mut sum = 0;
    for shard in &shared().shards {
        let client = shared().connect(shard.primary()).await.unwrap();
        let sql = "SELECT coalesce(sum(amount), 0)::int8 FROM notifications \
                   WHERE user_id BETWEEN $1 AND $1 + 999999";
        let row = client.query_one(sql, &[&FIRST_USER]).await.unwrap();
        sum += row.get::<_, i64>(0);
    }
    assert_eq!(sum, writes);
}

/// What the servers themselves counted, where they can: as many calls as were told, and on a
/// replica no write.
async fn statistics_agree(told: &BTreeMap<String, [i64; 2]>) {
    for server in shared().servers() {
        let client = shared().connect(server).await.unwrap();
        let installed = "SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'";
        if client
            .query_one(installed, &[])
            .await
            .unwrap()
            .get::<_, i64>(0)
            == 0
        {
            return;
        }
        let sql = "SELECT coalesce(sum(calls), 0)::int8, \
                   coalesce(sum(calls) FILTER (WHERE query ~ 'UPDATE'), 0)::int8 \
                   FROM pg_stat_statements WHERE query ~ 'AS splitting' AND query !~ 'pg_stat_statements'";
        let row = client.query_one(sql, &[]).await.unwrap();
        let (calls, writes): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(
            calls,
            told[&server.name].iter().sum::<i64>(),
            "calls on {}",
            server.name
        );
        assert_eq!(
            writes > 0,
            server.role == Role::Primary,
            "writes on {}",
            server.name
        );
    }
}
