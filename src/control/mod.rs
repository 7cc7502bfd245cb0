//! Watches the servers and publishes what it sees.

use std::time::Duration;

use serde::Deserialize;

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
