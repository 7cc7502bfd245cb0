//! THE catalogue: a metric exists when it has an entry here.
//!
//! Names begin with `pgdrover_` and end in their base unit; a counter ends in `_total`.

/// What a metric measures by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds, sorted into [`BUCKETS`].
    Histogram,
}

/// One metric.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// One sentence for an operator: what a sample stands for.
    pub(super) help: &'static str,
    pub(super) labels: &'static [&'static str],
}

/// Upper bounds of the histograms in seconds: 100 µs to 30 s, about three to a decade.
pub(super) const BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0,
];

const DATABASE: &[&str] = &["database"];
const SERVER: &[&str] = &["database", "shard", "role", "server"];
const SERVER_KIND: &[&str] = &["database", "shard", "role", "server", "kind"];
const SERVER_REASON: &[&str] = &["database", "shard", "role", "server", "reason"];
const SERVER_STATE: &[&str] = &["database", "shard", "role", "server", "state"];

/// Makes one constant for each metric, and the list of them all.
macro_rules! catalogue {
    ($($constant:ident = $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(pub(super) const $constant: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            help: $help,
            labels: $labels,
        };)*
        /// Every metric.
        pub(super) const CATALOGUE: &[Metric] = &[$($constant),*];
    };
}

catalogue! {
    BUILD_INFO = Gauge "pgdrover_build_info" &["version"],
        "Always 1; the label tells the version that runs.";

    CLIENTS = Gauge "pgdrover_clients" DATABASE,
        "Clients that are logged in.";
    CLIENTS_WAITING = Gauge "pgdrover_clients_waiting" DATABASE,
        "Clients that wait for a server connection.";
    CLIENT_CONNECTIONS = Counter "pgdrover_client_connections_total" DATABASE,
        "Clients that have logged in.";
    CLIENT_RECEIVED = Counter "pgdrover_client_received_bytes_total" DATABASE,
        "Bytes received from clients.";
    CLIENT_SENT = Counter "pgdrover_client_sent_bytes_total" DATABASE,
        "Bytes sent to clients.";
    ERRORS = Counter "pgdrover_errors_total" &["database", "class"],
        "Errors told to clients, by the first two characters of the SQLSTATE.";

    PINNED = Gauge "pgdrover_pinned_clients" &["database", "reason"],
        "Clients that keep a server connection for state that cannot leave it, by the first reason.";
    PINS = Counter "pgdrover_pins_total" &["database", "reason"],
        "How often a client began to keep a server connection for such state.";

    ROUTE_CACHE_HITS = Counter "pgdrover_route_cache_hits_total" DATABASE,
        "Statements whose plan was in the routing cache.";
    ROUTE_CACHE_MISSES = Counter "pgdrover_route_cache_misses_total" DATABASE,
        "Statements that had to be parsed and planned.";
    ROUTE_REFUSED = Counter "pgdrover_route_refused_total" DATABASE,
        "Statements that were refused because no shard could be proved right for them.";

    STATEMENTS = Counter "pgdrover_statements_total" SERVER_KIND,
        "Statements that a server has answered, by kind.";
    STATEMENT_DURATION = Histogram "pgdrover_statement_duration_seconds" SERVER,
        "Time from sending a statement to a server to the end of its answer.";
    TRANSACTIONS = Counter "pgdrover_transactions_total" SERVER,
        "Transactions that ended on a server; a statement outside a block is one.";
    SERVER_CONNECTIONS = Gauge "pgdrover_server_connections" SERVER_STATE,
        "Connections to servers by state: active serves a client, idle waits in a pool.";
    SERVER_OPENED = Counter "pgdrover_server_connections_opened_total" SERVER,
        "Connections to servers that were opened.";
    SERVER_CONNECT_FAILURES = Counter "pgdrover_server_connect_failures_total" SERVER,
        "Attempts to connect to a server and log in there that failed.";
    SERVER_CLOSED = Counter "pgdrover_server_connections_closed_total" SERVER_REASON,
        "Connections to servers that were closed, by reason: server_closed, check_failed, lifetime, \
         idle, surplus, evicted, pool_closed, in_recovery, server_lost, setup_failed, client_left, \
         pinned, statements_unknown, dirty, abandoned.";
    POOL_WAIT = Histogram "pgdrover_pool_wait_seconds" SERVER,
        "Time that a client waited for a server connection.";

    SERVER_UP = Gauge "pgdrover_server_up" SERVER,
        "1 when the server takes statements, 0 when it is out of rotation, NaN when it was removed.";
    PROBES = Counter "pgdrover_probes_total" SERVER,
        "Health probes of a server.";
    PROBE_FAILURES = Counter "pgdrover_probe_failures_total" SERVER,
        "Health probes of a server that brought no answer about its role.";
    PROBE_DURATION = Histogram "pgdrover_probe_duration_seconds" SERVER,
        "Time that a health probe took.";
}
