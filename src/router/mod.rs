//! SQL text to plan: shape cache, parser, key proof, read/write classification. Pure.
//!
//! This room knows shard numbers, never hosts.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::sharding::{Function, KeyType, ShardId};

/// `[router]`: the plan cache.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many statement shapes are remembered for each database.
    pub cache_size: usize,
    /// Longest statement that is remembered, in bytes.
    pub cache_max_statement: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            cache_size: 10_000,
            cache_max_statement: 64 << 10,
        }
    }
}

/// `[[databases.tables]]`: where a table's rows are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSettings {
    /// Its name, folded as PostgreSQL folds it.
    pub name: String,
    /// `sharded`, `reference` or `home`.
    pub kind: TableKind,
    /// `sharded`: the column of the key, if not the database's.
    pub key_column: Option<String>,
    /// `home`: the name of the shard that has it.
    pub shard: Option<String>,
    /// `sharded`: all columns in order, so that INSERT and COPY without a column list can find
    /// the key. Without it they are refused.
    pub columns: Option<Vec<String>>,
}

/// Where a table's rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// Each row on the shard of its key.
    Sharded,
    /// All rows on every shard.
    Reference,
    /// All rows on one shard.
    Home,
}

/// What the router knows of a database.
#[derive(Clone, Debug)]
pub struct Schema {
    /// How many shards; with one, everything goes there and only reads and writes are told apart.
    pub shards: u16,
    /// Key to shard.
    pub function: Arc<Function>,
    /// The key's type.
    pub key_type: KeyType,
    /// Tables by folded name, without schema.
    pub tables: HashMap<Box<str>, Table>,
}

/// A table as the router sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// Rows live on the shard of this column's value.
    Sharded {
        /// The key's column, folded.
        column: Box<str>,
        /// The table's columns in order, when declared, for INSERT without a column list.
        columns: Option<Vec<Box<str>>>,
    },
    /// A copy on every shard.
    Reference,
    /// On one shard.
    Home(ShardId),
}
