//! Bind, accept, limit, and hand over to a session.

use serde::Deserialize;

/// `[listener]`: where clients connect.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Addresses to listen on.
    pub host: String,
    /// Port; also names the Unix socket `.s.PGSQL.<port>`.
    pub port: u16,
    /// Directory of the Unix socket; none when empty.
    pub unix_socket_dir: String,
    /// How many clients may be connected at once; one more gets 53300.
    pub max_client_conn: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            host: "127.0.0.1".into(),
            port: 6432,
            unix_socket_dir: String::new(),
            max_client_conn: 1000,
        }
    }
}
