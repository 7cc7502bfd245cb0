//! One client: startup, authentication, the protocol's states, prepared statements, settings.
//!
//! `startup` and `auth` turn a socket into a logged-in [`client::Client`]; its loop reads frames and
//! hands them to `simple` or `extended` (which collects a `batch`), which ask the router where they go and have `run` send
//! them. `state` says where the transaction stands, `gucs` what settings follow the client.

mod attempts;
mod auth;
mod batch;
mod client;
mod directory;
mod entrance;
mod execute;
mod extended;
#[cfg(test)]
mod fuzz;
mod gate;
mod gucs;
mod hba;
mod hold;
mod limit;
mod local;
mod login;
mod lost;
mod pins;
mod prepared;
mod pulse;
mod registry;
mod run;
mod service;
mod simple;
mod spelling;
mod sqlprep;
mod startup;
mod state;
mod words;

pub use attempts::Attempts;
pub use auth::Secret;
pub use directory::{AUTH_QUERY, Directory};
pub use entrance::{Entrance, Stranger};
pub use gate::{Gate, User};
pub use hba::{HbaRule, Origin, Peer};
pub use pulse::{keep_time, wake_to_leave};
pub use registry::Registry;
pub use service::{Served, Service, serve};

use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

/// `[session]`: what a client may expect and must keep to.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How clients prove who they are.
    pub auth_type: AuthType,
    /// Who asks a server for users that are none of `[[users]]`; nobody when empty.
    pub auth_user: String,
    /// What is asked: the name is `$1`, the columns are name and password.
    pub auth_query: String,
    /// In which database of the server; the one that the client wants when empty.
    pub auth_dbname: String,
    /// How long an answer is remembered.
    #[serde(with = "humantime_serde")]
    pub auth_query_cache_time: Duration,
    /// After so many failed logins of a user from an address it has to wait; 0: never.
    pub max_login_failures: u32,
    /// Failures are forgotten after so long, which is also the longest wait.
    #[serde(with = "humantime_serde")]
    pub login_failure_window: Duration,
    /// A client must have logged in by then.
    #[serde(with = "humantime_serde")]
    pub client_login_timeout: Duration,
    /// Most clients of one user; 0: no limit.
    pub max_user_client_connections: usize,
    /// Most clients of one database; 0: no limit.
    pub max_db_client_connections: usize,
    /// A statement that runs longer is cancelled; 0: never.
    #[serde(with = "humantime_serde")]
    pub query_timeout: Duration,
    /// A client that leaves a transaction open for longer without a word is disconnected; 0: never.
    #[serde(with = "humantime_serde")]
    pub idle_transaction_timeout: Duration,
    /// A client that is silent for longer outside a transaction is disconnected; 0: never.
    #[serde(with = "humantime_serde")]
    pub client_idle_timeout: Duration,
    /// How many prepared statements one client may have.
    pub max_client_statements: usize,
    /// About how much memory the prepared statements of a database's clients may take, in bytes.
    pub max_statement_memory: usize,
    /// Longest message that is held whole, in bytes; a longer one is refused.
    pub max_message_size: usize,
    /// Whether clients may, must or cannot encrypt.
    pub client_tls_mode: ClientTlsMode,
    /// PEM file of the certificate chain.
    pub client_tls_cert_file: String,
    /// PEM file of the private key.
    pub client_tls_key_file: String,
    /// PEM file of the authorities that sign clients' certificates; none are asked for when empty.
    pub client_tls_ca_file: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            auth_type: AuthType::ScramSha256,
            auth_user: String::new(),
            auth_query: AUTH_QUERY.into(),
            auth_dbname: String::new(),
            auth_query_cache_time: Duration::from_secs(60),
            max_login_failures: 20,
            login_failure_window: Duration::from_secs(60),
            client_login_timeout: Duration::from_secs(60),
            max_user_client_connections: 0,
            max_db_client_connections: 0,
            query_timeout: Duration::ZERO,
            idle_transaction_timeout: Duration::ZERO,
            client_idle_timeout: Duration::ZERO,
            max_client_statements: 100_000,
            max_statement_memory: 256 << 20,
            max_message_size: 256 << 20,
            client_tls_mode: ClientTlsMode::Allow,
            client_tls_cert_file: String::new(),
            client_tls_key_file: String::new(),
            client_tls_ca_file: String::new(),
        }
    }
}

/// How clients prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AuthType {
    /// Any password, or none: for tests and sockets only.
    #[serde(rename = "trust")]
    Trust,
    /// MD5 challenge; users with a SCRAM verifier are asked for SCRAM.
    #[serde(rename = "md5")]
    Md5,
    /// SCRAM-SHA-256 (RFC 7677).
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// A client certificate whose common name is the user's.
    #[serde(rename = "cert")]
    Cert,
    /// Not at all.
    #[serde(rename = "reject")]
    Reject,
}

/// Whether clients may, must or cannot encrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientTlsMode {
    /// An SSLRequest is declined.
    Disable,
    /// Encrypted when the client asks for it and a certificate is configured.
    Allow,
    /// A client that does not encrypt is refused (Unix sockets excepted).
    Require,
}

/// `[[users]]`: who may log in, and as whom on the servers.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSettings {
    /// The name that the client gives.
    pub name: String,
    /// In clear, or `SCRAM-SHA-256$…`, or `md5…`.
    pub password: Option<Zeroizing<String>>,
    /// A file that holds the password on its first line.
    pub password_file: Option<String>,
    /// The name on the servers; the same when absent.
    pub server_user: Option<String>,
    /// The password on the servers; the client's clear password when absent.
    pub server_password: Option<Zeroizing<String>>,
    /// A file that holds the password on the servers.
    pub server_password_file: Option<String>,
    /// `transaction` or `session`; `pool.pool_mode` when absent.
    pub pool_mode: Option<crate::backend::PoolMode>,
    /// Most connections of each of its pools; the database's or `pool.default_pool_size` when
    /// absent.
    pub pool_size: Option<usize>,
    /// Least connections of each of its pools.
    pub min_pool_size: Option<usize>,
    /// The reserve of each of its pools.
    pub reserve_pool_size: Option<usize>,
    /// Most connections of all its pools; `pool.max_user_connections` when absent.
    pub max_user_connections: Option<usize>,
    /// Most clients; `session.max_user_client_connections` when absent.
    pub max_user_client_connections: Option<usize>,
}

impl UserSettings {
    /// What its pools have instead of the values in `[pool]`.
    pub fn pool_limits(&self) -> crate::backend::Overrides {
        crate::backend::Overrides {
            pool_size: self.pool_size,
            min_pool_size: self.min_pool_size,
            reserve_pool_size: self.reserve_pool_size,
            max_connections: self.max_user_connections,
        }
    }
}

impl std::fmt::Debug for UserSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserSettings")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
