//! One server connection, its lease, its pools, and the choice among replicas.
//!
//! This room knows hosts and never SQL.

mod balance;
mod cancel;
mod check;
mod clock;
mod conn;
mod connect;
mod error;
#[cfg(test)]
mod fuzz;
mod lease;
mod ledger;
mod opening;
mod outage;
mod pool;
mod pools;
mod quota;
mod reader;
mod secret;
mod waiting;

pub use cancel::CancelSlot;
pub use conn::{Conn, Prepared, statement_name};
pub use connect::{Login, Tls};
pub use error::Error;
pub use lease::Lease;
pub use ledger::{Ledger, Note, Sent, StatementId, Verdict};
pub use pool::ServerPool;
pub use pools::{Cluster, Credentials, Pools, ShardPools};
pub use quota::Limit;
pub use reader::{FirstRow, Reader};
pub use secret::ServerSecret;

use std::time::Duration;

use serde::Deserialize;

/// `[pool]`: connections to the servers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// When a server connection goes back to its pool.
    pub pool_mode: PoolMode,
    /// Most connections for each (server, user, database).
    pub default_pool_size: usize,
    /// How many connections a pool keeps at least, once it has had a client.
    pub min_pool_size: usize,
    /// How many more a pool may have for clients that have waited for `reserve_pool_timeout`.
    pub reserve_pool_size: usize,
    /// After this wait a client may use the reserve; 0: never.
    #[serde(with = "humantime_serde")]
    pub reserve_pool_timeout: Duration,
    /// Most connections of all pools of a database together; 0: no limit.
    pub max_db_connections: usize,
    /// Most connections of all pools of a user together; 0: no limit.
    pub max_user_connections: usize,
    /// How long a client waits for a connection before 53300; 0: for ever.
    #[serde(with = "humantime_serde")]
    pub query_wait_timeout: Duration,
    /// An unused connection is closed after this.
    #[serde(with = "humantime_serde")]
    pub server_idle_timeout: Duration,
    /// A connection older than this is closed when it comes back.
    #[serde(with = "humantime_serde")]
    pub server_lifetime: Duration,
    /// Connecting and logging in must be done by then.
    #[serde(with = "humantime_serde")]
    pub server_connect_timeout: Duration,
    /// After failed attempts to connect, the next one is made after a wait that grows up to this.
    #[serde(with = "humantime_serde")]
    pub server_login_retry: Duration,
    /// A connection that rested for longer is tested before it is given out.
    #[serde(with = "humantime_serde")]
    pub server_check_delay: Duration,
    /// With this query; no test when empty.
    pub server_check_query: String,
    /// How many prepared statements a server connection keeps.
    pub max_prepared_statements: usize,
    /// Encryption towards the servers.
    pub server_tls_mode: ServerTlsMode,
    /// PEM file of the authorities that `verify-full` trusts; the system's when empty.
    pub server_tls_ca_file: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            pool_mode: PoolMode::Transaction,
            default_pool_size: 20,
            min_pool_size: 0,
            reserve_pool_size: 0,
            reserve_pool_timeout: Duration::from_secs(5),
            max_db_connections: 0,
            max_user_connections: 0,
            query_wait_timeout: Duration::from_secs(120),
            server_idle_timeout: Duration::from_secs(600),
            server_lifetime: Duration::from_secs(3600),
            server_connect_timeout: Duration::from_secs(15),
            server_login_retry: Duration::from_secs(15),
            server_check_delay: Duration::from_secs(30),
            server_check_query: "SELECT 1".into(),
            max_prepared_statements: 200,
            server_tls_mode: ServerTlsMode::Prefer,
            server_tls_ca_file: String::new(),
        }
    }
}

/// What a user or a database has instead of the values in `[pool]`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overrides {
    /// Of `default_pool_size`.
    pub pool_size: Option<usize>,
    /// Of `min_pool_size`.
    pub min_pool_size: Option<usize>,
    /// Of `reserve_pool_size`.
    pub reserve_pool_size: Option<usize>,
    /// Of `max_db_connections` or `max_user_connections`.
    pub max_connections: Option<usize>,
}

/// When a server connection goes back to its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolMode {
    /// At the end of each transaction.
    Transaction,
    /// When the client leaves.
    Session,
}

/// Encryption towards the servers, as libpq's sslmode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerTlsMode {
    /// Never.
    Disable,
    /// If the server can.
    Prefer,
    /// Always; the certificate is not checked.
    Require,
    /// Always; the certificate must be valid for the host.
    VerifyFull,
}
