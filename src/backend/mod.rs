//! One server connection, its lease, its pools, and the choice among replicas.
//!
//! This room knows hosts and never SQL.

mod balance;
mod cancel;
mod conn;
mod connect;
mod error;
mod ledger;
mod pool;
mod pools;
mod reader;
mod secret;

pub use cancel::CancelSlot;
pub use conn::{Conn, Prepared, statement_name};
pub use connect::{Login, Tls};
pub use error::Error;
pub use ledger::{Ledger, Note, Sent, StatementId, Verdict};
pub use pool::{Lease, ServerPool};
pub use pools::{Cluster, Credentials, Pools, ShardPools};
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
    /// How long a client waits for a connection before 53300.
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
            query_wait_timeout: Duration::from_secs(120),
            server_idle_timeout: Duration::from_secs(600),
            server_lifetime: Duration::from_secs(3600),
            server_connect_timeout: Duration::from_secs(15),
            max_prepared_statements: 200,
            server_tls_mode: ServerTlsMode::Prefer,
            server_tls_ca_file: String::new(),
        }
    }
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
