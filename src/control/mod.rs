//! Watches the servers and publishes what it sees.
//!
//! Each tick (`check_interval`) probes all servers at once; a failure report of the data plane
//! probes its server without waiting for the tick. A probe asks for the server's role, so that
//! it proves more than an open port. What the probes say goes through the pure decision in
//! `health` into the published topology: the data plane reads it there and never asks control.

use std::time::Duration;

use serde::Deserialize;

mod health;
mod probe;
mod watch;

pub use probe::ProbeTls;
pub use watch::run;

/// `[control]`: how the servers are watched.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Time between two probes of a server.
    #[serde(with = "humantime_serde")]
    pub check_interval: Duration,
    /// A probe without an answer by then has failed.
    #[serde(with = "humantime_serde")]
    pub check_timeout: Duration,
    /// So many failed probes in a row take a server out of rotation; a refused connection does at once.
    pub check_fails: u32,
    /// Who probes: a name among `[[users]]`; the first user when empty.
    pub user: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            check_interval: Duration::from_secs(5),
            check_timeout: Duration::from_secs(2),
            check_fails: 3,
            user: String::new(),
        }
    }
}

/// As whom the probes log in on the servers. The database is that of the shard.
#[derive(Clone, PartialEq)]
pub struct Credentials {
    /// The name on the servers.
    pub user: String,
    /// The password on the servers, in clear; none where the servers trust us.
    pub password: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
