//! Metrics (the catalogue), logging and their exporter.

pub mod logging;
pub mod metrics;

use serde::Deserialize;

/// `[log]`: what is logged and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,pgdrover::control=debug`.
    pub level: String,
    /// `text` or `json`.
    pub format: LogFormat,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For collectors: one object a line.
    Json,
}
