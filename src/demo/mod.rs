//! A real local cluster from the installed PostgreSQL, for trying, testing and benchmarking.
//!
//! [`Cluster::start`] makes one primary for each shard (initdb), copies its replicas from it
//! (pg_basebackup) and waits until they stream. Everything lives in one folder. Three things end
//! it, and each leaves nothing behind: [`Cluster::stop`], dropping the [`Cluster`], and, should
//! this process die without doing either, a watchdog: a small shell that notices that
//! our end of its pipe closed.
//!
//! Servers are direct children in process groups of their own, so that the terminal's Ctrl-C
//! reaches pgdrover alone, which then stops them in order.

mod account;
mod build;
mod cluster;
mod error;
mod install;
mod load;
mod ports;
mod schema;
mod server;
mod settings;
mod watchdog;

use std::path::PathBuf;

pub use cluster::{Cluster, ShardServers};
pub use error::Error;
pub use load::{NOTIFICATIONS, load, user_ids};
pub use ports::{free_port, is_free};
pub use server::{Server, StopMode};
pub use settings::{Endpoint, Sharding};

/// The database on the servers, and the name by which clients know it.
pub const DATABASE: &str = "app";
/// The user that owns the tables and logs in through pgdrover.
pub const USER: &str = "app";
/// Its password: a demo is for trying, and this one listens on the loopback address alone.
pub const PASSWORD: &str = "app";

/// What cluster to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many shards, at least 1.
    pub shards: u16,
    /// How many replicas each primary has.
    pub replicas: u16,
    /// How keys are spread over the shards: only the configuration file depends on it.
    pub sharding: Sharding,
    /// The cluster's folder, made if absent and refused unless empty; a temporary one when `None`.
    pub dir: Option<PathBuf>,
    /// Whether the folder outlives the cluster.
    pub keep: bool,
    /// Settings of `postgresql.conf` that every server gets after the demo's own.
    pub extra_settings: Vec<(String, String)>,
    /// Folders in which to look for PostgreSQL's programs, instead of the usual places.
    pub search_path: Option<Vec<PathBuf>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            shards: 3,
            replicas: 2,
            sharding: Sharding::Modulo,
            dir: None,
            keep: false,
            extra_settings: Vec::new(),
            search_path: None,
        }
    }
}
