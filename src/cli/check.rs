//! `pgdrover check`: is this configuration right?

use std::process::ExitCode;

use super::{ConfigFile, report, say};
use crate::config::{Config, DatabaseConfig};
use crate::topology::{Role, ShardSettings};

/// Check a configuration file: every error at once, with its line and what to do.
///
/// Exits with 0 when the file is right, with 78 when it is not. Files that it names (passwords,
/// TLS) are looked into; no server is contacted.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
}

pub(super) fn run(args: Args) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(status) => return status,
    };
    say(format_args!(
        "{}: the configuration is valid",
        args.config.path().display()
    ));
    for line in summary(&config) {
        say(line);
    }
    ExitCode::SUCCESS
}

/// What the configuration describes, and what may surprise.
fn summary(config: &Config) -> Vec<String> {
    let users: Vec<&str> = config.users.iter().map(|u| u.name.as_str()).collect();
    let mut lines = vec![
        format!(
            "listens on {}:{}",
            config.listener.host, config.listener.port
        ),
        format!("users: {}", users.join(", ")),
    ];
    for database in &config.databases {
        lines.extend(describe(database));
    }
    for user in &config.users {
        let hashed = user
            .password
            .as_ref()
            .is_some_and(|p| p.starts_with("SCRAM-SHA-256$"));
        if hashed && user.server_password.is_none() {
            lines.push(format!(
                "note: user {} has only a verifier: it logs in to servers by what its client \
                 proves, so the servers must have the very same verifier; or set server_password",
                user.name
            ));
        }
    }
    lines
}

fn describe(database: &DatabaseConfig) -> Vec<String> {
    // The checks have built the function before.
    let Ok(function) = database.function() else {
        return Vec::new();
    };
    let shares = report::shares(database, &function);
    let rows: Vec<Vec<String>> = database
        .shards
        .iter()
        .enumerate()
        .map(|(index, shard)| {
            let share = shares
                .as_ref()
                .and_then(|s| s.get(index))
                .map_or("–".into(), |s| s.to_string());
            vec![shard.name.clone(), share, servers(shard)]
        })
        .collect();
    let mut lines = vec![report::headline(database, &function), report::table(&rows)];
    lines.extend(report::imbalance(database, &function));
    lines
}

fn servers(shard: &ShardSettings) -> String {
    let of_role = |role: Role| {
        let servers = shard.servers.iter().filter(|s| s.role == role);
        servers
            .map(|s| format!("{}:{}", s.host, s.port))
            .collect::<Vec<_>>()
    };
    let primary = of_role(Role::Primary).join(", ");
    match of_role(Role::Replica)[..] {
        [] => format!("primary {primary}, no replica"),
        ref replicas => format!("primary {primary}, replicas {}", replicas.join(", ")),
    }
}
