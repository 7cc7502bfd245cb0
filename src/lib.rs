//! pgdrover: one PostgreSQL endpoint over a sharded and replicated cluster.
//!
//! The **listener** opens a **session**, which asks the **router** for a **plan**; the
//! **executor** runs it on **backend** leases; **control** watches the servers and publishes
//! the **topology**.
//!
//! Modules stand below in the order in which they may import: each may use what comes after
//! it, never what comes before or stands beside it (`tests/it/tidy.rs` holds the table).
//! Data falls one way, down. The data plane never imports `control`: control speaks by
//! publishing a [`topology::Topology`], and the data plane answers with failure reports.

/// One server connection, its lease, its pools, and the choice among replicas.
pub mod backend;
/// The command line: one file for each subcommand, and the table of them.
pub mod cli;
/// The TOML file: every owner's settings composed, cross-checked and compared.
pub mod config;
/// Watches the servers and publishes what it sees.
pub mod control;
/// The process: build from a configuration, run, drain on a signal.
pub mod daemon;
/// A real local cluster from the installed PostgreSQL, for trying, testing and benchmarking.
pub mod demo;
/// An error as a client sees it: severity, SQLSTATE, message, hint.
pub mod error;
/// Runs a plan on server connections and relays the answer.
pub mod executor;
/// Inputs made by chance, for the `fuzz` modules of the rooms.
#[cfg(test)]
mod fuzz;
/// The HTTP endpoints for operators: /metrics, /livez, /readyz.
pub mod http;
/// Bind, accept, limit, and hand over to a session. (Beside it: `http`.)
pub mod listener;
/// The types in which the router speaks: plans, targets, key sets. Pure.
pub mod plan;
/// SQL text to plan: shape cache, parser, key proof, read/write classification. Pure.
pub mod router;
/// One client: startup, authentication, the protocol's states, prepared statements, settings.
pub mod session;
/// Key to slot to shard: modulo, ring, range, list; key types. Pure.
pub mod sharding;
/// Metrics (the catalogue), logging and their exporter.
pub mod telemetry;
/// The published picture of databases, shards and servers, and the failure reports. Pure.
pub mod topology;
/// Frames of the PostgreSQL protocol: buffers, header scan, encoding, streams and TLS.
pub mod wire;
