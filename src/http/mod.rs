//! The HTTP endpoints for operators: `/metrics`, `/livez`, `/readyz`.

use serde::Deserialize;

/// `[http]`: where operators and Prometheus ask.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` to listen on; nothing listens when empty.
    pub address: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            address: "127.0.0.1:9632".into(),
        }
    }
}
