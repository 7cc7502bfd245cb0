//! The handles of the data plane: clients, routing, server connections.

use std::sync::{Arc, OnceLock};

use metrics::{Counter, Gauge, Histogram};

use super::{Closed, catalogue, counter, gauge, histogram};

/// The kinds of statements, in the order of the index that [`ServerMetrics::statement`] takes.
pub const KINDS: [&str; 9] = [
    "select",
    "insert",
    "update",
    "delete",
    "copy",
    "transaction",
    "ddl",
    "session",
    "other",
];

/// The SQLSTATE classes that have a label of their own (PostgreSQL, appendix A); the rest,
/// which only extensions and user functions make up, counts as `other`. A closed list, so that
/// a function that raises random codes cannot fill the memory.
const CLASSES: [&str; 36] = [
    "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "20", "21", "22", "23", "24",
    "25", "26", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53",
    "54", "55", "57", "XX",
];

/// What the clients of one database do.
#[derive(Clone)]
pub struct ClientMetrics {
    inner: Arc<Clients>,
}

struct Clients {
    database: String,
    connected: Gauge,
    waiting: Gauge,
    logins: Counter,
    received: Counter,
    sent: Counter,
    // A series appears with its first error: 37 zeros for each database would bury the others.
    errors: [OnceLock<Counter>; CLASSES.len() + 1],
}

impl ClientMetrics {
    /// The handles for `database`.
    pub fn new(database: &str) -> Self {
        ClientMetrics {
            inner: Arc::new(Clients {
                database: database.to_owned(),
                connected: gauge(&catalogue::CLIENTS, &[database]),
                waiting: gauge(&catalogue::CLIENTS_WAITING, &[database]),
                logins: counter(&catalogue::CLIENT_CONNECTIONS, &[database]),
                received: counter(&catalogue::CLIENT_RECEIVED, &[database]),
                sent: counter(&catalogue::CLIENT_SENT, &[database]),
                errors: std::array::from_fn(|_| OnceLock::new()),
            }),
        }
    }

    /// A client has logged in.
    pub fn connected(&self) {
        self.inner.logins.increment(1);
        self.inner.connected.increment(1.0);
    }

    /// A client that had logged in is gone.
    pub fn disconnected(&self) {
        self.inner.connected.decrement(1.0);
    }

    /// So many more clients (fewer when negative) wait for a server connection.
    pub fn waiting(&self, delta: i64) {
        add(&self.inner.waiting, delta);
    }

    /// Bytes came from a client.
    pub fn bytes_received(&self, bytes: u64) {
        self.inner.received.increment(bytes);
    }

    /// Bytes went to a client.
    pub fn bytes_sent(&self, bytes: u64) {
        self.inner.sent.increment(bytes);
    }

    /// A session has state on a server connection and keeps it. Costs a lookup, which pinning can
    /// bear.
    pub fn pinned(&self, reason: &'static str) {
        let labels = [self.inner.database.as_str(), reason];
        counter(&catalogue::PINS, &labels).increment(1);
        gauge(&catalogue::PINNED, &labels).increment(1.0);
    }

    /// It has none any more.
    pub fn unpinned(&self, reason: &'static str) {
        let labels = [self.inner.database.as_str(), reason];
        gauge(&catalogue::PINNED, &labels).decrement(1.0);
    }

    /// A client was told of an error with this SQLSTATE.
    pub fn error(&self, sqlstate: &str) {
        let class = sqlstate.get(..2).unwrap_or_default();
        let index = CLASSES.iter().position(|c| *c == class);
        let label = index.map_or("other", |i| CLASSES[i]);
        self.inner.errors[index.unwrap_or(CLASSES.len())]
            .get_or_init(|| counter(&catalogue::ERRORS, &[&self.inner.database, label]))
            .increment(1);
    }
}

/// What the router of one database does.
#[derive(Clone)]
pub struct RouteMetrics {
    hits: Counter,
    misses: Counter,
    refused: Counter,
}

impl RouteMetrics {
    /// The handles for `database`.
    pub fn new(database: &str) -> Self {
        RouteMetrics {
            hits: counter(&catalogue::ROUTE_CACHE_HITS, &[database]),
            misses: counter(&catalogue::ROUTE_CACHE_MISSES, &[database]),
            refused: counter(&catalogue::ROUTE_REFUSED, &[database]),
        }
    }

    /// The plan was in the cache.
    pub fn cache_hit(&self) {
        self.hits.increment(1);
    }

    /// The statement had to be parsed.
    pub fn cache_miss(&self) {
        self.misses.increment(1);
    }

    /// The statement was refused.
    pub fn refused(&self) {
        self.refused.increment(1);
    }
}

/// What the connections of one pool do: one database's connections to one server.
#[derive(Clone)]
pub struct ServerMetrics {
    inner: Arc<Servers>,
}

struct Servers {
    labels: [String; 4],
    statements: [Counter; KINDS.len()],
    duration: Histogram,
    transactions: Counter,
    opened: Counter,
    connect_failures: Counter,
    active: Gauge,
    idle: Gauge,
    wait: Histogram,
}

impl ServerMetrics {
    /// The handles for a server of a shard: the shard's name, `primary` or `replica`, and the
    /// server's address.
    pub fn new(database: &str, shard: &str, role: &str, server: &str) -> Self {
        let labels = [database, shard, role, server];
        let with = |last: &'static str| [database, shard, role, server, last];
        ServerMetrics {
            inner: Arc::new(Servers {
                statements: KINDS.map(|kind| counter(&catalogue::STATEMENTS, &with(kind))),
                duration: histogram(&catalogue::STATEMENT_DURATION, &labels),
                transactions: counter(&catalogue::TRANSACTIONS, &labels),
                opened: counter(&catalogue::SERVER_OPENED, &labels),
                connect_failures: counter(&catalogue::SERVER_CONNECT_FAILURES, &labels),
                active: gauge(&catalogue::SERVER_CONNECTIONS, &with("active")),
                idle: gauge(&catalogue::SERVER_CONNECTIONS, &with("idle")),
                wait: histogram(&catalogue::POOL_WAIT, &labels),
                labels: labels.map(str::to_owned),
            }),
        }
    }

    /// The server has answered a statement; `kind` is an index into [`KINDS`], and one beyond
    /// it counts as `other`.
    pub fn statement(&self, kind: usize, seconds: f64) {
        self.inner.statements[kind.min(KINDS.len() - 1)].increment(1);
        self.inner.duration.record(seconds);
    }

    /// A transaction has ended.
    pub fn transaction(&self) {
        self.inner.transactions.increment(1);
    }

    /// A connection was opened.
    pub fn opened(&self) {
        self.inner.opened.increment(1);
    }

    /// A connection could not be opened.
    pub fn connect_failed(&self) {
        self.inner.connect_failures.increment(1);
    }

    /// A connection was closed. Costs a lookup, which a closed connection can bear.
    pub fn closed(&self, reason: Closed) {
        let [database, shard, role, server] = &self.inner.labels;
        counter(
            &catalogue::SERVER_CLOSED,
            &[database, shard, role, server, reason.as_str()],
        )
        .increment(1);
    }

    /// So many more connections (fewer when negative) serve a client.
    pub fn active(&self, delta: i64) {
        add(&self.inner.active, delta);
    }

    /// So many more connections (fewer when negative) are idle in the pool.
    pub fn idle(&self, delta: i64) {
        add(&self.inner.idle, delta);
    }

    /// A client has waited this long for a connection.
    pub fn wait(&self, seconds: f64) {
        self.inner.wait.record(seconds);
    }
}

/// Counts of connections are far below 2^53, so that `f64` holds them exactly.
fn add(gauge: &Gauge, delta: i64) {
    gauge.increment(delta as f64);
}
