//! The same frames to PostgreSQL itself and through pgdrover: every answer must be the same.

use std::sync::Mutex;
use std::time::Duration;

use pgdrover::demo;

use super::daemon::{Running, Setup};
use super::database::TestDb;
use super::raw::{Frame, Raw};

/// Less than what the raw client waits for a frame.
const PATIENCE: Duration = Duration::from_secs(5);

/// Logins are others' subject.
const TRUST: &str = "[session]\nauth_type = \"trust\"";

/// Bytes to send, and when the answer to them is complete.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) bytes: Vec<u8>,
    pub(crate) until: Until,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.bytes))
    }
}

/// When the answer to a step is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// After so many ReadyForQuery.
    Ready(usize),
    /// After a frame of one of these types.
    Tag(&'static [u8]),
    /// When PostgreSQL says no more; pgdrover must then say as much.
    Quiet,
    /// After the ReadyForQuery that follows a row with [`FENCE`] in it, for scripts that may be
    /// answered by any number of them.
    Fence,
}

/// See [`Until::Fence`].
pub(crate) const FENCE: &str = "fence";

/// A step that ends with one ReadyForQuery.
pub(crate) fn step(bytes: impl Into<Vec<u8>>) -> Step {
    Step {
        bytes: bytes.into(),
        until: Until::Ready(1),
    }
}

/// A step that ends otherwise.
pub(crate) fn until(bytes: impl Into<Vec<u8>>, until: Until) -> Step {
    Step {
        bytes: bytes.into(),
        until,
    }
}

/// Two databases made alike: one for PostgreSQL itself and one behind pgdrover.
pub(crate) struct Pair {
    direct: TestDb,
    owners: Vec<tokio_postgres::Client>,
    /// A session with PostgreSQL that was left as it began: a login costs more than a script.
    rested: Mutex<Option<Raw>>,
    pub(crate) pgdrover: Running,
}

/// How bytes are cut into writes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    Whole,
    Every(usize),
}

impl Pair {
    /// Both databases get `setup`; pgdrover has one server and the sections.
    pub(crate) async fn new(setup: &str, sections: &str) -> Pair {
        let behind = TestDb::new(setup).await;
        let pgdrover = Setup::solo(&behind)
            .with(TRUST)
            .with(sections)
            .start()
            .await;
        Pair::of(setup, &[behind], pgdrover).await
    }

    /// pgdrover has three shards, with the table `items` sharded by `key`; PostgreSQL has one.
    pub(crate) async fn sharded(setup: &str, sections: &str) -> Pair {
        let mut behind = Vec::new();
        for shard in 0..3 {
            behind.push(TestDb::on_shard(shard, setup).await);
        }
        let pgdrover = Setup::sharded(&behind)
            .with(TRUST)
            .with(sections)
            .start()
            .await;
        Pair::of(setup, &behind, pgdrover).await
    }

    async fn of(setup: &str, behind: &[TestDb], pgdrover: Running) -> Pair {
        let direct = TestDb::new(setup).await;
        let mut owners = vec![direct.owner().await];
        for db in behind {
            owners.push(db.owner().await);
        }
        Pair {
            direct,
            owners,
            rested: Mutex::default(),
            pgdrover,
        }
    }

    async fn direct(&self) -> Raw {
        if let Some(rested) = self.rested.lock().unwrap().take() {
            return rested;
        }
        let server = self.direct.primary();
        let address = (server.host.as_str(), server.port);
        let mut raw = Raw::new(tokio::net::TcpStream::connect(address).await.unwrap());
        raw.login(demo::USER, demo::PASSWORD, &self.direct.name, &[])
            .await;
        raw
    }

    /// Runs SQL in every database.
    pub(crate) async fn both(&self, sql: &str) {
        for owner in &self.owners {
            owner.batch_execute(sql).await.unwrap();
        }
    }

    /// Runs the script both ways on fresh sessions, with the bytes cut as told on the way to
    /// pgdrover: what is answered differently, if anything.
    pub(crate) async fn difference(&self, script: &[Step], cut: Cut) -> Result<(), String> {
        let (mut direct, mut through) = (self.direct().await, self.pgdrover.raw().await);
        for (i, step) in script.iter().enumerate() {
            direct.send(&step.bytes).await;
            let wanted = gather(&mut direct, step.until).await;
            send_cut(&mut through, &step.bytes, cut).await;
            let until = match step.until {
                Until::Quiet => Expect::Count(wanted.len()),
                Until::Ready(n) => Expect::Ready(n),
                Until::Tag(tags) => Expect::Tag(tags),
                Until::Fence => Expect::Fence,
            };
            let mut found = Vec::new();
            let complete = expect(&mut through, until, &mut found);
            let complete = tokio::time::timeout(PATIENCE, complete).await;
            if complete.is_err() {
                return Err(format!("step {i}: only {found:#?} of {wanted:#?}"));
            }
            let (wanted, found) = (normal(wanted), normal(found));
            if wanted != found {
                return Err(format!(
                    "step {i} {:?}\nPostgreSQL: {wanted:#?}\npgdrover:   {found:#?}",
                    String::from_utf8_lossy(&step.bytes)
                ));
            }
        }
        // Nothing may be left unsaid or come too late.
        direct.send(super::say::query("SELECT 'end'")).await;
        through.send(super::say::query("SELECT 'end'")).await;
        let (wanted, found) = (direct.until(b"Z").await, through.until(b"Z").await);
        let (wanted, found) = (normal(wanted), normal(found));
        if wanted != found {
            return Err(format!(
                "at the end\nPostgreSQL: {wanted:#?}\npgdrover:   {found:#?}"
            ));
        }
        // What is left of the script must not meet the next one.
        for sql in ["ROLLBACK", "DISCARD ALL"] {
            direct.query(sql).await;
        }
        *self.rested.lock().unwrap() = Some(direct);
        Ok(())
    }
}

enum Expect {
    Ready(usize),
    Tag(&'static [u8]),
    Count(usize),
    Fence,
}

async fn gather(raw: &mut Raw, until: Until) -> Vec<Frame> {
    let mut frames = Vec::new();
    match until {
        Until::Ready(n) => expect(raw, Expect::Ready(n), &mut frames).await,
        Until::Tag(tags) => expect(raw, Expect::Tag(tags), &mut frames).await,
        Until::Fence => expect(raw, Expect::Fence, &mut frames).await,
        Until::Quiet => {
            while let Some(frame) = raw.frame_within(Duration::from_millis(100)).await {
                frames.push(frame);
            }
        }
    }
    frames
}

async fn expect(raw: &mut Raw, expect: Expect, frames: &mut Vec<Frame>) {
    let (mut ready, mut fenced) = (0, false);
    loop {
        match expect {
            Expect::Fence if fenced && frames.last().is_some_and(|f| f.tag == b'Z') => return,
            Expect::Ready(n) if ready >= n => return,
            Expect::Count(n) if frames.len() >= n => return,
            _ => {}
        }
        let Some(frame) = raw.frame().await else {
            return;
        };
        ready += usize::from(frame.tag == b'Z');
        fenced |= frame.tag == b'D' && frame.body.ends_with(FENCE.as_bytes());
        let last = matches!(expect, Expect::Tag(tags) if tags.contains(&frame.tag));
        frames.push(frame);
        if last {
            return;
        }
    }
}

async fn send_cut(raw: &mut Raw, bytes: &[u8], cut: Cut) {
    match cut {
        Cut::Whole => raw.send(bytes).await,
        Cut::Every(size) => {
            for piece in bytes.chunks(size) {
                raw.send(piece).await;
                // Each piece shall arrive by itself.
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Frames without what may differ: OIDs of tables, lines of PostgreSQL's source, process ids.
fn normal(frames: Vec<Frame>) -> Vec<String> {
    frames
        .iter()
        .map(|frame| match frame.tag {
            b'E' | b'N' => {
                let fields = b"SVCMDHPpqWstcdn";
                let texts = fields.map(|f| (f as char, frame.field(f)));
                let texts = texts.iter().filter(|(_, t)| !t.is_empty());
                // A statement has another name on the server; pgdrover relays what it says of it.
                let name = |t: &String| match t.split_once(", but prepared statement") {
                    Some((start, _)) => start.to_owned(),
                    None => t.clone(),
                };
                let texts: Vec<_> = texts.map(|(f, t)| format!("{f}={}", name(t))).collect();
                format!("{} {}", frame.tag as char, texts.join(" "))
            }
            b'A' => format!("A {:?}", &frame.body[4..]),
            b'T' => format!(
                "T {:?}",
                String::from_utf8_lossy(&without_tables(&frame.body))
            ),
            _ => format!("{frame:?} {}", fingerprint(&frame.body)),
        })
        .collect()
}

/// Long bodies are shortened for printing; this tells them apart all the same.
fn fingerprint(body: &[u8]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

fn without_tables(body: &[u8]) -> Vec<u8> {
    let mut out = body[..2].to_vec();
    let mut rest = &body[2..];
    while !rest.is_empty() {
        let end = rest.iter().position(|b| *b == 0).unwrap() + 1;
        out.extend(&rest[..end]);
        out.extend(&rest[end + 4..end + 18]);
        rest = &rest[end + 18..];
    }
    out
}
