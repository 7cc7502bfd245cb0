//! Many clients on few connections, all of which verify what they get, while they reset their own
//! connections in the middle of everything: no foreign row, no leaked transaction, no lost or
//! invented row, and all connections accounted for.
//!
//! With `PGDROVER_LONG=1` 1,000 clients for a minute; else 100 for three seconds.
//! `PGDROVER_SEED` sets the seed, which is part of every message of a failure.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::raw::{Frame, Raw};
use crate::support::say;

const CONNECTIONS: i64 = 20;
const SEED: u64 = 24;
/// Everybody waits for a turn on a slow machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What became of the rows that a client inserted.
#[derive(Default)]
struct Rows {
    /// Told to be committed.
    kept: Vec<String>,
    /// Begun and reset when the commit was on its way: nobody can know.
    unknown: Vec<String>,
    /// How many questions were answered, and how often the client left without a word.
    answers: usize,
    resets: usize,
}

/// A client that knows what it asked.
struct Tortured {
    pgdrover: Arc<Running>,
    raw: Raw,
    rng: StdRng,
    who: usize,
    turn: usize,
    rows: Rows,
}

/// A client whose socket is reset, not closed, when it is dropped.
async fn login(pgdrover: &Running, who: usize) -> Raw {
    let tcp = TcpStream::connect(pgdrover.address).await.unwrap();
    let reset = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
    reset.unwrap();
    let mut raw = Raw::new(tcp);
    raw.patience = PATIENCE;
    raw.login("app", "app", &pgdrover.database, &[]).await;
    // All clients give their own statement the same name.
    let parse = say::parse("own", &format!("SELECT $1 || ' is of {who}'"));
    raw.send([parse, say::sync()].concat()).await;
    raw.ready().await;
    raw
}

impl Tortured {
    fn id(&self) -> String {
        format!("{}/{}", self.who, self.turn)
    }

    /// Checks that an answer consists of rows that bear `id`, so many of them, and of nothing
    /// else but the end of the transaction status `status`.
    fn check(&mut self, frames: &[Frame], id: &str, rows: usize, status: u8) {
        let found = frames.iter().filter(|f| f.tag == b'D');
        let found: Vec<_> = found.map(|f| f.values()[0].clone().unwrap()).collect();
        assert!(found.iter().all(|f| f == id), "{id} was told {found:?}");
        assert_eq!(found.len(), rows, "{id}: {frames:?}");
        assert_eq!(frames.last().unwrap().body[0], status, "{id}: {frames:?}");
        assert!(frames.iter().all(|f| f.tag != b'E'), "{id}: {frames:?}");
        self.rows.answers += 1;
    }

    async fn simple(&mut self, sql: &str, id: &str, rows: usize, status: u8) {
        let frames = self.raw.query(sql).await;
        self.check(&frames, id, rows, status);
    }

    async fn ask(&mut self) {
        let id = self.id();
        match self.rng.random_range(0..8) {
            0 => self.simple(&format!("SELECT '{id}'"), &id, 1, b'I').await,
            1 => {
                let batch = [say::extended("SELECT $1::text", &[Some(&id)]), say::sync()];
                self.raw.send(batch.concat()).await;
                let frames = self.raw.ready().await;
                self.check(&frames, &id, 1, b'I');
            }
            2 => {
                let batch = [
                    say::bind("", "own", &[Some(&id)]),
                    say::execute("", 0),
                    say::sync(),
                ];
                self.raw.send(batch.concat()).await;
                let frames = self.raw.ready().await;
                self.check(&frames, &format!("{id} is of {}", self.who), 1, b'I');
            }
            3 => self.simple(&many(&id, 40, 1), &id, 40, b'I').await,
            4 => {
                // More than the sockets hold.
                self.simple(&many(&id, 300, 2000), &id, 300, b'I').await;
            }
            5 => {
                let insert = format!("INSERT INTO t VALUES ('{id}') RETURNING id");
                self.simple(&insert, &id, 1, b'I').await;
                self.rows.kept.push(id);
            }
            end => {
                self.simple("BEGIN", &id, 0, b'T').await;
                let insert = format!("INSERT INTO t VALUES ('{id}')");
                self.simple(&insert, &id, 0, b'T').await;
                let read = format!("SELECT id FROM t WHERE id = '{id}'");
                self.simple(&read, &id, 1, b'T').await;
                let end = ["COMMIT", "ROLLBACK"][end - 6];
                self.simple(end, &id, 0, b'I').await;
                if end == "COMMIT" {
                    self.rows.kept.push(id);
                }
            }
        }
    }

    /// Leaves in the middle of something and comes back.
    async fn leave(&mut self) {
        let id = self.id();
        let insert = format!("INSERT INTO t VALUES ('{id}')");
        let stolen = format!("SELECT 'stolen from {id}'");
        match self.rng.random_range(0..7) {
            0 => {
                let whole = [say::extended(&stolen, &[]), say::sync()].concat();
                self.part(&whole).await;
            }
            1 => {
                // The last byte is never sent: the row may not be there.
                self.part(&say::query(&insert)).await;
            }
            2 => {
                self.raw.send(say::query(&many(&id, 1000, 2000))).await;
                for _ in 0..self.rng.random_range(1..200) {
                    self.raw.frame().await.expect("a part of the result");
                }
            }
            3 => {
                self.simple("BEGIN", &id, 0, b'T').await;
                self.simple(&insert, &id, 0, b'T').await;
                if self.rng.random() {
                    self.raw.send(say::query(&many("stolen", 100, 2000))).await;
                }
            }
            4 => {
                self.simple("BEGIN", &id, 0, b'T').await;
                self.simple(&insert, &id, 0, b'T').await;
                self.raw.send(say::query("COMMIT")).await;
                self.rows.unknown.push(id);
            }
            5 => {
                let begun = [say::extended(&insert, &[]), say::flush()].concat();
                self.raw.send(begun).await;
                if self.rng.random() {
                    self.raw.until(b"C").await;
                }
            }
            _ => {
                self.raw.send(say::query("COPY t FROM STDIN")).await;
                self.raw.until(b"G").await;
                self.part(&say::copy_data(&format!("{id}\n"))).await;
            }
        }
        self.rows.resets += 1;
        // Before it asks for anything else: it may hold one of the few connections.
        self.raw = Raw::new(tokio::io::empty());
        self.raw = login(&self.pgdrover, self.who).await;
    }

    /// Sends a beginning.
    async fn part(&mut self, bytes: &[u8]) {
        let end = self.rng.random_range(1..bytes.len());
        self.raw.send(&bytes[..end]).await;
        if self.rng.random() {
            tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..5))).await;
        }
    }
}

/// A statement that answers so many rows of this name, each this long.
fn many(id: &str, rows: usize, length: usize) -> String {
    format!("SELECT '{id}', repeat('x', {length}) FROM generate_series(1, {rows})")
}

async fn torture(pgdrover: Arc<Running>, seed: u64, who: usize, end: Instant) -> Rows {
    let mut client = Tortured {
        raw: login(&pgdrover, who).await,
        pgdrover,
        rng: StdRng::seed_from_u64(seed.wrapping_add(who as u64)),
        who,
        turn: 0,
        rows: Rows::default(),
    };
    // Everybody does something, however slow the machine.
    while client.turn < 8 || Instant::now() < end {
        client.turn += 1;
        if client.rng.random_ratio(1, 8) {
            client.leave().await;
        } else {
            client.ask().await;
        }
    }
    client.rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[allow(clippy::print_stderr, reason = "the seed and how much was done")]
async fn clients_that_reset_their_connections_harm_nobody() {
    let long = std::env::var_os("PGDROVER_LONG").is_some();
    let (clients, lasts) = if long { (1000, 60) } else { (100, 3) };
    let seed = std::env::var("PGDROVER_SEED").map_or(SEED, |s| s.parse().unwrap());
    let db = TestDb::new("CREATE TABLE t (id text)").await;
    let pgdrover = Setup::solo(&db)
        .with(&format!(
            "[pool]\ndefault_pool_size = {CONNECTIONS}\nserver_idle_timeout = \"1h\""
        ))
        .with("[session]\nauth_type = \"trust\"")
        .listener("max_client_conn = 3000")
        .start()
        .await;
    let pgdrover = Arc::new(pgdrover);
    let watcher = db.superuser().await;
    let end = Instant::now() + Duration::from_secs(lasts);
    let task = |who| tokio::spawn(torture(pgdrover.clone(), seed, who, end));
    let all = join_all((0..clients).map(task)).await;
    let all: Vec<Rows> = all.into_iter().map(|rows| rows.unwrap()).collect();

    let (answers, resets) = all.iter().fold((0, 0), |(answers, resets), rows| {
        (answers + rows.answers, resets + rows.resets)
    });
    let mut said = format!("seed {seed}: {answers} answers, {resets} resets");
    quiet(&pgdrover, &db, &watcher, &said).await;
    rows_agree(&watcher, &all, &mut said).await;
    in_use_is_what_the_server_says(&pgdrover, &db, &watcher).await;
    eprintln!("{said}");
    assert!(answers > 4 * clients && resets > clients / 4, "{said}");
}

/// Server connections of clients in this state; the probe of the server has a name.
async fn states(watcher: &tokio_postgres::Client, state: &str) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND usename = 'app' AND application_name = '' AND state = $1";
    watcher.query_one(sql, &[&state]).await.unwrap().get(0)
}

fn gauge(pgdrover: &Running, state: &str) -> i64 {
    let label = format!("state=\"{state}\"");
    pgdrover.metric("pgdrover_server_connections", &label)
}

/// Waits until nothing happens any more: the metrics are what the server says.
async fn quiet(pgdrover: &Running, db: &TestDb, watcher: &tokio_postgres::Client, said: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let there = db.connections(watcher).await;
        let seen = [
            ("active", gauge(pgdrover, "active"), 0),
            ("idle", gauge(pgdrover, "idle"), there),
            ("idle at the server", states(watcher, "idle").await, there),
            ("clients", pgdrover.metric("pgdrover_clients", ""), 0),
        ];
        let wrong: Vec<_> = seen.iter().filter(|(_, is, due)| is != due).collect();
        if wrong.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{wrong:?} after {said}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let there = db.connections(watcher).await;
    assert!((1..=CONNECTIONS).contains(&there), "{there} after {said}");
    let opened = pgdrover.metric("pgdrover_server_connections_opened_total", "");
    let ended = pgdrover.metric("pgdrover_server_connections_closed_total", "");
    assert_eq!(opened - ended, there, "{said}");
    assert_eq!(pgdrover.metric("pgdrover_clients_waiting", ""), 0, "{said}");
    for (what, sql) in [
        ("prepared", "SELECT count(*) FROM pg_prepared_xacts"),
        (
            "locks",
            "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass",
        ),
    ] {
        let left: i64 = watcher.query_one(sql, &[]).await.unwrap().get(0);
        assert_eq!(left, 0, "{what} after {said}");
    }
}

/// The table holds what was told to be committed, once, and nothing that cannot have been.
async fn rows_agree(watcher: &tokio_postgres::Client, all: &[Rows], said: &mut String) {
    let rows = watcher.query("SELECT id FROM t", &[]).await.unwrap();
    let found: BTreeSet<String> = rows.iter().map(|r| r.get(0)).collect();
    assert_eq!(found.len(), rows.len(), "rows twice after {said}");
    let kept: BTreeSet<String> = all.iter().flat_map(|r| r.kept.clone()).collect();
    let unknown: BTreeSet<String> = all.iter().flat_map(|r| r.unknown.clone()).collect();
    let lost: Vec<_> = kept.difference(&found).collect();
    assert!(lost.is_empty(), "lost after {said}: {lost:?}");
    let strange = found.iter().filter(|id| !kept.contains(*id));
    let (unknown, invented): (Vec<_>, Vec<_>) = strange.partition(|id| unknown.contains(*id));
    assert!(
        invented.is_empty(),
        "not committed after {said}: {invented:?}"
    );
    let _ = write!(
        said,
        ", {} rows, of which {} were not acknowledged",
        found.len(),
        unknown.len()
    );
}

/// Some clients hold transactions, some are there without.
async fn in_use_is_what_the_server_says(
    pgdrover: &Running,
    db: &TestDb,
    watcher: &tokio_postgres::Client,
) {
    let mut held = Vec::new();
    for i in 0..9 {
        let mut client = login(pgdrover, i).await;
        if i < 7 {
            client.query("BEGIN").await;
            client.query("SELECT 1").await;
        }
        held.push(client);
    }
    eventually("7 transactions of 9 clients", async || {
        let there = db.connections(watcher).await;
        states(watcher, "idle in transaction").await == 7
            && gauge(pgdrover, "active") == 7
            && gauge(pgdrover, "idle") == there - 7
            && pgdrover.metric("pgdrover_clients", "") == 9
    })
    .await;
    drop(held);
    quiet(pgdrover, db, watcher, "the last clients").await;
}
