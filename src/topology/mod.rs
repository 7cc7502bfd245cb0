//! The published picture of the cluster: databases, shards, servers, their roles and health.
//!
//! One immutable [`Topology`] at a time, published through a watch channel by `daemon` (from the
//! configuration) and `control` (from probes). The data plane reads it and answers with
//! [`FailureReport`]s. A session compares [`Topology::epoch`] to know that something changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use crate::sharding::ShardId;

/// What a server is to its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes.
    #[serde(alias = "master")]
    Primary,
    /// Follows the primary by streaming replication; takes reads.
    #[serde(alias = "slave", alias = "standby")]
    Replica,
}

impl Role {
    /// As configuration, metrics and messages spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
        }
    }
}

/// What the last probes said of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not probed yet: used as if it were up.
    Unknown,
    /// Answers.
    Up,
    /// Does not answer, or must not be used; the reason is for people.
    Down(Arc<str>),
}

impl Health {
    /// Whether statements may be sent there.
    pub fn usable(&self) -> bool {
        !matches!(self, Health::Down(_))
    }
}

/// A server's address, its identity within pgdrover. A host beginning with `/` is the directory
/// of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// Host name, IP address, or directory of the Unix socket.
    pub host: Arc<str>,
    /// Port.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// One PostgreSQL server of a shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Where it listens.
    pub address: Address,
    /// What it is to the shard.
    pub role: Role,
    /// Its share of the reads among the replicas; 0 takes none.
    pub weight: u32,
    /// What the probes say.
    pub health: Health,
}

/// One shard: a primary and its replicas.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    /// Its number: what the router speaks of.
    pub id: ShardId,
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The database on the servers.
    pub dbname: Arc<str>,
    /// Its servers, in the order of the configuration.
    pub servers: Vec<Server>,
}

impl Shard {
    /// The server that takes writes.
    pub fn primary(&self) -> Option<&Server> {
        self.servers.iter().find(|s| s.role == Role::Primary)
    }

    /// The servers that follow it.
    pub fn replicas(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|s| s.role == Role::Replica)
    }
}

/// A database as clients name it.
#[derive(Clone, Debug, PartialEq)]
pub struct Database {
    /// The name that clients give.
    pub name: Arc<str>,
    /// Its shards; `shards[i].id` is `i`.
    pub shards: Vec<Shard>,
}

/// The whole picture.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Topology {
    /// Grows with each published change.
    pub epoch: u64,
    /// By the name that clients give.
    pub databases: BTreeMap<Arc<str>, Arc<Database>>,
}

/// The publishing end: clones share one channel.
#[derive(Clone, Debug)]
pub struct Publisher {
    sender: Arc<watch::Sender<Arc<Topology>>>,
}

impl Publisher {
    /// Starts with `first`, whose epoch becomes 1.
    pub fn new(mut first: Topology) -> Self {
        first.epoch = 1;
        Publisher {
            sender: Arc::new(watch::Sender::new(Arc::new(first))),
        }
    }

    /// A reading end.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Topology>> {
        self.sender.subscribe()
    }

    /// The picture now.
    pub fn current(&self) -> Arc<Topology> {
        self.sender.borrow().clone()
    }

    /// Publishes what `change` makes of a copy of the current picture, with the next epoch;
    /// nothing is published when it leaves the copy equal. Returns whether it published.
    pub fn update(&self, change: impl FnOnce(&mut Topology)) -> bool {
        self.sender.send_if_modified(|current| {
            let mut next = Topology::clone(current);
            change(&mut next);
            if next == **current {
                return false;
            }
            next.epoch = current.epoch + 1;
            *current = Arc::new(next);
            true
        })
    }
}

/// What the data plane saw go wrong with a server.
#[derive(Clone, Debug)]
pub struct FailureReport {
    /// Which server.
    pub server: Address,
    /// What happened, for the log.
    pub what: String,
}

/// The reporting end of the data plane. A full queue drops the report: control probes anyway.
pub type FailureReporter = mpsc::Sender<FailureReport>;

/// `[[databases.shards]]`: a shard and its servers.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardSettings {
    /// The shard's name.
    pub name: String,
    /// The database on its servers; the client's name for the database when absent.
    pub dbname: Option<String>,
    /// Its servers.
    #[serde(default)]
    pub servers: Vec<ServerSettings>,
}

/// `[[databases.shards.servers]]`: one server.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerSettings {
    /// Host name, IP address, or directory of the Unix socket.
    pub host: String,
    /// Port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// `primary` or `replica` (`master` and `slave` are understood).
    pub role: Role,
    /// Its share of the reads among the replicas; 0 takes none.
    #[serde(default = "default_weight")]
    pub weight: u32,
}

fn default_port() -> u16 {
    5432
}

fn default_weight() -> u32 {
    1
}
