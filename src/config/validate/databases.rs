//! What the settings of databases mean together: shards, servers, sharding, tables.

use std::collections::HashMap;

use super::{Findings, unique};
use crate::config::error::Path;
use crate::config::{Config, DatabaseConfig, fold};
use crate::router::{TableKind, TableSettings};
use crate::sharding::Function;
use crate::topology::{Role, ShardSettings};

pub(super) fn check(config: &Config, found: &mut Findings) {
    if config.databases.is_empty() {
        found.add(
            Path::root("databases"),
            "there is no database",
            "add a section [[databases]]",
        );
    }
    unique(
        config.databases.iter().map(|d| d.name.as_str()),
        &Path::root("databases"),
        "database",
        found,
    );
    for (index, entry) in config.databases.iter().enumerate() {
        database(entry, &Path::root("databases").index(index), found);
    }
    roles_across_databases(config, found);
}

fn database(database: &DatabaseConfig, path: &Path, found: &mut Findings) {
    let shards = path.key("shards");
    unique(
        database.shards.iter().map(|s| s.name.as_str()),
        &shards,
        "shard",
        found,
    );
    for (index, entry) in database.shards.iter().enumerate() {
        shard(entry, &shards.index(index), found);
    }
    duplicate_servers(database, &shards, found);
    if database.shards.is_empty() {
        found.add(
            path.clone(),
            format!("database `{}` has no shard", database.name),
            "add [[databases.shards]] with its servers",
        );
    } else if let Err(problems) = Function::build(&database.sharding, &distinct_shards(database)) {
        let sharding = path.key("sharding");
        for problem in problems {
            let path = match problem.entry {
                Some((index, field)) => sharding.key(problem.key).index(index).key(field),
                None => sharding.key(problem.key),
            };
            found.add(path, problem.message, problem.remedy);
        }
    }
    tables(database, path, found);
}

/// The shards' names, each once: a repeated name is an error of its own.
fn distinct_shards(database: &DatabaseConfig) -> Vec<&str> {
    let mut names = Vec::new();
    for name in database.shard_names() {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn shard(shard: &ShardSettings, path: &Path, found: &mut Findings) {
    let of_role = |role| {
        shard
            .servers
            .iter()
            .enumerate()
            .filter(move |(_, s)| s.role == role)
    };
    let servers = path.key("servers");
    match of_role(Role::Primary)
        .map(|(index, _)| index)
        .collect::<Vec<_>>()[..]
    {
        [] => found.add(
            path.clone(),
            format!("shard `{}` has no primary", shard.name),
            "give one of its servers role = \"primary\"",
        ),
        [_] => {}
        [first, ref more @ ..] => {
            for index in more {
                found.add(
                    servers.index(*index).key("role"),
                    format!(
                        "shard `{}` has a second primary; the first is {}",
                        shard.name,
                        place(shard, first)
                    ),
                    "keep one primary, and give the other role = \"replica\"",
                );
            }
        }
    }
    if of_role(Role::Replica).next().is_some() && of_role(Role::Replica).all(|(_, s)| s.weight == 0)
    {
        found.add(
            path.clone(),
            format!(
                "every replica of shard `{}` has weight 0: none would take reads",
                shard.name
            ),
            "give at least one replica a weight of 1 or more",
        );
    }
    for (index, server) in shard.servers.iter().enumerate() {
        let path = servers.index(index);
        if server.host.is_empty() {
            found.add(
                path.key("host"),
                "the host is empty",
                "write a host name, an IP address, or a socket's directory",
            );
        } else if server.host.contains([' ', ','])
            || (server.host.contains('/') && !server.host.starts_with('/'))
        {
            found.add(
                path.key("host"),
                format!("\"{}\" is not one host", server.host),
                "write one host name, IP address, or absolute directory; one [[databases.shards.servers]] each",
            );
        }
        if server.port == 0 {
            found.add(
                path.key("port"),
                "a server cannot have port 0",
                "write the server's port, usually 5432",
            );
        }
    }
}

fn place(shard: &ShardSettings, server: usize) -> String {
    let server = &shard.servers[server];
    format!("{}:{}", server.host, server.port)
}

/// The same server twice in one database, unless it holds two shards in two databases of its own.
fn duplicate_servers(database: &DatabaseConfig, path: &Path, found: &mut Findings) {
    let mut seen: HashMap<(&str, u16, &str), &str> = HashMap::new();
    for (at, shard) in database.shards.iter().enumerate() {
        let dbname = shard.dbname.as_deref().unwrap_or(&database.name);
        for (index, server) in shard.servers.iter().enumerate() {
            match seen.insert((&server.host, server.port, dbname), &shard.name) {
                Some(first) if !server.host.is_empty() => found.add(
                    path.index(at).key("servers").index(index).key("host"),
                    format!(
                        "{} is already a server of shard `{first}`",
                        place(shard, index)
                    ),
                    "list each server once; two shards on one server need different dbname",
                ),
                _ => {}
            }
        }
    }
}

/// Whether a server is a primary is a fact about the server, not about one of its databases.
fn roles_across_databases(config: &Config, found: &mut Findings) {
    let mut seen: HashMap<(&str, u16), (Role, &str)> = HashMap::new();
    for (at, database) in config.databases.iter().enumerate() {
        for (number, shard) in database.shards.iter().enumerate() {
            for (index, server) in shard.servers.iter().enumerate() {
                let (role, first) = *seen
                    .entry((&server.host, server.port))
                    .or_insert((server.role, &shard.name));
                // Two primaries within one shard are told by `shard`.
                if role != server.role && first != shard.name {
                    found.add(
                        Path::root("databases")
                            .index(at)
                            .key("shards")
                            .index(number)
                            .key("servers")
                            .index(index)
                            .key("role"),
                        format!(
                            "{} is a {} here, but a {} of shard `{first}`",
                            place(shard, index),
                            server.role.as_str(),
                            role.as_str()
                        ),
                        "give the server the same role everywhere",
                    );
                }
            }
        }
    }
}

fn tables(database: &DatabaseConfig, path: &Path, found: &mut Findings) {
    let mut seen: HashMap<Box<str>, usize> = HashMap::new();
    for (index, entry) in database.tables.iter().enumerate() {
        let path = path.key("tables").index(index);
        let first = *seen.entry(fold(&entry.name)).or_insert(index);
        if first != index {
            found.add(
                path.key("name"),
                format!(
                    "table `{}` is declared twice (first as number {})",
                    entry.name,
                    first + 1
                ),
                "remove one of the two",
            );
        }
        table(entry, database, &path, found);
    }
}

fn table(table: &TableSettings, database: &DatabaseConfig, path: &Path, found: &mut Findings) {
    let name = &table.name;
    if name.is_empty() || (name.contains('.') && !name.starts_with('"')) {
        found.add(
            path.key("name"),
            format!("\"{name}\" is not the name of a table"),
            "write the table's name without its schema",
        );
    }
    let names = database.shard_names();
    match (&table.kind, &table.shard) {
        (TableKind::Home, None) => found.add(
            path.clone(),
            format!("table `{name}` is of kind \"home\", but names no shard"),
            "add shard = \"…\" with the shard that has the table",
        ),
        (TableKind::Home, Some(shard)) if !names.contains(&shard.as_str()) => {
            found.add(
                path.key("shard"),
                format!("there is no shard `{shard}`"),
                format!("the shards are {}", names.join(", ")),
            );
        }
        (TableKind::Sharded | TableKind::Reference, Some(_)) => {
            found.add(
                path.key("shard"),
                "only a table of kind \"home\" is on one shard",
                "remove `shard`, or set kind = \"home\"",
            );
        }
        _ => {}
    }
    if table.kind != TableKind::Sharded {
        for (key, present) in [
            ("key_column", table.key_column.is_some()),
            ("columns", table.columns.is_some()),
        ] {
            if present {
                found.add(
                    path.key(key),
                    format!("`{key}` is for tables of kind \"sharded\""),
                    format!("remove `{key}`, or set kind = \"sharded\""),
                );
            }
        }
        return;
    }
    let column = fold(
        table
            .key_column
            .as_deref()
            .unwrap_or(&database.sharding.key_column),
    );
    if column.is_empty() {
        found.add(
            path.clone(),
            format!("table `{name}` has no key column"),
            "set key_column, here or under [databases.sharding]",
        );
    }
    if let Some(columns) = &table.columns {
        if !columns.iter().any(|c| fold(c) == column) {
            found.add(
                path.key("columns"),
                format!("the key column `{column}` is not among the columns of `{name}`"),
                "list all columns in the order of the table, or set key_column to one of them",
            );
        }
        for (at, repeated) in columns
            .iter()
            .enumerate()
            .filter(|(at, c)| columns[..*at].iter().any(|d| fold(d) == fold(c)))
        {
            found.add(
                path.key("columns").index(at),
                format!("column `{repeated}` is listed twice"),
                "list each column once",
            );
        }
    }
}
