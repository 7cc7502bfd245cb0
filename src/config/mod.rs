//! The TOML file: every owner's settings composed, cross-checked and compared.
//!
//! Each room defines its own `Settings`; [`Config`] puts them together. Reading goes in steps,
//! and all errors of all steps are told at once, each with file, line, key and remedy:
//!
//! 1. `document`: the TOML syntax, and `${VAR}` in strings;
//! 2. `shape`: unknown keys, missing keys, wrong types;
//! 3. `files`: password files and TLS files;
//! 4. `validate`: what the settings mean together.

mod diff;
mod document;
mod error;
mod files;
mod shape;
mod validate;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::router::{Schema, Table, TableKind, TableSettings};
use crate::sharding::{Function, Problem, ShardId};
use crate::topology::{Address, Database, Health, Server, Shard, ShardSettings, Topology};
use crate::{backend, control, http, listener, router, session, sharding, telemetry};

pub use diff::{compare, live};
pub use error::{Error, Errors};

/// A whole configuration. What [`load`] and [`parse`] return has passed every check.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Threads that serve clients; 0 takes one for each two cores.
    pub workers: usize,
    /// `[listener]`.
    pub listener: listener::Settings,
    /// `[http]`.
    pub http: http::Settings,
    /// `[log]`.
    pub log: telemetry::Settings,
    /// `[session]`.
    pub session: session::Settings,
    /// `[pool]`.
    pub pool: backend::Settings,
    /// `[router]`.
    pub router: router::Settings,
    /// `[control]`.
    pub control: control::Settings,
    /// `[[hba]]`, in their order.
    pub hba: Vec<session::HbaRule>,
    /// `[[users]]`. Passwords from files have been read into `password` and `server_password`.
    pub users: Vec<session::UserSettings>,
    /// `[[databases]]`.
    pub databases: Vec<DatabaseConfig>,
}

/// `[[databases]]`: a database as clients see it, and the shards that it consists of.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// The name that clients give.
    pub name: String,
    /// `session.auth_user`, if it is another for this database.
    pub auth_user: Option<String>,
    /// `session.auth_query`, if it is another for this database.
    pub auth_query: Option<String>,
    /// `session.auth_dbname`, if it is another for this database.
    pub auth_dbname: Option<String>,
    /// Most connections of each of its pools; `pool.default_pool_size` when absent.
    pub pool_size: Option<usize>,
    /// Least connections of each of its pools; `pool.min_pool_size` when absent.
    pub min_pool_size: Option<usize>,
    /// The reserve of each of its pools; `pool.reserve_pool_size` when absent.
    pub reserve_pool_size: Option<usize>,
    /// Most connections of all its pools; `pool.max_db_connections` when absent.
    pub max_db_connections: Option<usize>,
    /// Most clients; `session.max_db_client_connections` when absent.
    pub max_db_client_connections: Option<usize>,
    /// Which key goes to which shard.
    #[serde(default)]
    pub sharding: sharding::Settings,
    /// Where each table's rows are.
    #[serde(default)]
    pub tables: Vec<TableSettings>,
    /// The shards, in the order of their numbers.
    #[serde(default)]
    pub shards: Vec<ShardSettings>,
}

/// Reads and checks a file, with the environment's variables and the files that it names.
pub fn load(path: &Path) -> Result<Config, Errors> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Errors::new(vec![Error {
            file: name.clone(),
            line: 1,
            key: String::new(),
            message: format!("cannot read the file: {error}"),
            remedy: match error.kind() {
                io::ErrorKind::NotFound => "name the configuration file with -c FILE".into(),
                _ => "name a file with -c FILE that this user can read, in UTF-8".into(),
            },
        }])
    })?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let env = |variable: &str| std::env::var(variable).ok();
    // `join` leaves absolute paths as they are.
    let read_file = |file: &Path| std::fs::read_to_string(folder.join(file));
    parse(&text, &name, &env, &read_file).map(|mut config| {
        files::anchor(&mut config, folder);
        config
    })
}

/// Checks the text of a configuration. `name` stands in errors as the file's name; `env` looks
/// up a variable; `read_file` reads a file named in the text, relative to the text's own place.
pub fn parse(
    text: &str,
    name: &str,
    env: &dyn Fn(&str) -> Option<String>,
    read_file: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Config, Errors> {
    let mut document = document::Document::parse(text, name).map_err(Errors::new)?;
    let mut findings = document.substitute(env);
    let mut shape = shape::read(&document);
    findings
        .iter()
        .for_each(|f| shape.lost.add_unset(f.path.clone()));
    findings.extend(shape.findings);
    let mut read = shape.config;
    if let Some(config) = &mut read {
        let mut deeper = files::read(config, read_file);
        deeper.extend(validate::validate(config));
        // x
        // What follows from a mended key is no news: the key itself was told.
        deeper.retain(|finding| !shape.lost.explains(&finding.path));
        findings.extend(deeper);
    }
    match read {
        Some(config) if findings.is_empty() => Ok(config),
        _ => Err(Errors::new(
            findings.into_iter().map(|f| document.place(f)).collect(),
        )),
    }
}

impl Config {
    /// The picture to start from: roles as configured, health unknown.
    pub fn topology(&self) -> Topology {
        let databases = self.databases.iter().map(|database| {
            let topology = Arc::new(database.topology());
            (topology.name.clone(), topology)
        });
        Topology {
            epoch: 0,
            databases: databases.collect(),
        }
    }
}

impl DatabaseConfig {
    fn topology(&self) -> Database {
        let shards = self.shards.iter().enumerate().map(|(id, shard)| Shard {
            id: ShardId(id as u16),
            name: shard.name.as_str().into(),
            dbname: shard.dbname.as_deref().unwrap_or(&self.name).into(),
            servers: shard
                .servers
                .iter()
                .map(|server| Server {
                    address: Address {
                        host: server.host.as_str().into(),
                        port: server.port,
                    },
                    role: server.role,
                    weight: server.weight,
                    health: Health::Unknown,
                })
                .collect(),
        });
        Database {
            name: self.name.as_str().into(),
            shards: shards.collect(),
        }
    }

    /// What its pools have instead of the values in `[pool]`.
    pub fn pool_limits(&self) -> backend::Overrides {
        backend::Overrides {
            pool_size: self.pool_size,
            min_pool_size: self.min_pool_size,
            reserve_pool_size: self.reserve_pool_size,
            max_connections: self.max_db_connections,
        }
    }

    /// The sharding function, or all that is wrong with its settings.
    pub fn function(&self) -> Result<Function, Vec<Problem>> {
        Function::build(&self.sharding, &self.shard_names())
    }

    /// What the router needs to know. Fails only for settings that did not pass the checks.
    pub fn schema(&self) -> Result<Schema, Vec<Problem>> {
        let function = self.function()?;
        let default_key = fold(&self.sharding.key_column);
        let tables = self.tables.iter().map(|table| {
            let place = match table.kind {
                TableKind::Sharded => Table::Sharded {
                    column: table
                        .key_column
                        .as_deref()
                        .map_or_else(|| default_key.clone(), fold),
                    columns: table
                        .columns
                        .as_ref()
                        .map(|c| c.iter().map(|c| fold(c)).collect()),
                },
                TableKind::Reference => Table::Reference,
                TableKind::Home => {
                    let shard = self
                        .shards
                        .iter()
                        .position(|s| Some(&s.name) == table.shard.as_ref());
                    Table::Home(ShardId(shard.unwrap_or_default() as u16))
                }
            };
            (fold(&table.name), place)
        });
        Ok(Schema {
            shards: self.shards.len() as u16,
            function: Arc::new(function),
            key_type: self.sharding.key_type,
            tables: tables.collect::<HashMap<_, _>>(),
        })
    }

    /// The shards' names, in the order of their numbers.
    pub fn shard_names(&self) -> Vec<&str> {
        self.shards.iter().map(|s| s.name.as_str()).collect()
    }
}

/// An identifier as PostgreSQL folds it: to lower case, unless it stands in double quotes.
fn fold(identifier: &str) -> Box<str> {
    match identifier
        .strip_prefix('"')
        .and_then(|i| i.strip_suffix('"'))
    {
        Some(quoted) => quoted.replace("\"\"", "\"").into(),
        None => identifier.to_ascii_lowercase().into(),
    }
}
