//! SQL text to plan: shape cache, parser, key proof, read/write classification. Pure.
//!
//! This room knows shard numbers, never hosts.
//!
//! A text is scanned into its *shape* ([`scan`]), and the shape looked up. Only a new shape is
//! parsed and analysed ([`statement`], [`keys`]); the plan says which literals or parameters are
//! the sharding key, never what they are. With the values at hand, [`decide`] names the shard.

mod access;
mod copy;
mod decide;
mod explain;
mod fallback;
mod functions;
#[cfg(test)]
mod fuzz;
mod hints;
mod keys;
mod merge;
mod place;
mod scan;
mod set_config;
mod stand_in;
mod statement;
#[cfg(test)]
mod tests;
mod utility;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::Deserialize;

use crate::error::{ClientError, SqlState};
use crate::plan::{Access, Decision, Plan, Statement};
use crate::sharding::{Function, KeyType, ShardId};

use decide::Values;
use scan::{Literal, Scan, scan};
pub use set_config::{SetConfig, set_configs};
use statement::Detail;

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

/// Plans statements for one database.
pub struct Router {
    schema: Schema,
    max_statement: usize,
    shapes: Cache<Box<[u8]>, Arc<Shape>, ByLength, foldhash::fast::RandomState>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("shards", &self.schema.shards)
            .field("shapes", &self.shapes.len())
            .finish_non_exhaustive()
    }
}

/// What the texts of one shape have in common.
#[derive(Debug)]
pub struct Shape {
    /// One plan for each statement of the text; one [`crate::plan::LocalOp::Empty`] when it has
    /// none.
    pub statements: Vec<Statement>,
    details: Vec<Detail>,
}

/// A shape's plan, and where one text's literals are.
#[derive(Debug)]
pub struct Routed {
    /// The plan.
    pub shape: Arc<Shape>,
    /// The shape was known.
    pub cached: bool,
    literals: Vec<Literal>,
    spans: Vec<std::ops::Range<usize>>,
}

/// The parameters of an execution, as far as they are known.
pub trait Params {
    /// The parameter with this number, counted from 0; `None` when it has no value yet.
    fn get(&self, index: usize) -> Option<Param<'_>>;
}

/// One bound parameter.
#[derive(Clone, Copy, Debug)]
pub struct Param<'a> {
    /// Its bytes as the client sent them; `None` is NULL.
    pub value: Option<&'a [u8]>,
    /// In binary rather than text format.
    pub binary: bool,
    /// The type that Parse declared, 0 for none.
    pub declared_type: u32,
}

/// No parameters: simple queries, and statements that are not bound yet.
#[derive(Clone, Copy, Debug)]
pub struct NoParams;

impl Params for NoParams {
    fn get(&self, _: usize) -> Option<Param<'_>> {
        None
    }
}

/// A long shape counts for several, so that the cache's size also bounds its memory.
#[derive(Clone)]
struct ByLength;

const BYTES_PER_WEIGHT: usize = 1024;

impl Weighter<Box<[u8]>, Arc<Shape>> for ByLength {
    fn weight(&self, key: &Box<[u8]>, _: &Arc<Shape>) -> u64 {
        (1 + key.len() / BYTES_PER_WEIGHT) as u64
    }
}

impl Router {
    /// A router over `schema`, its cache empty.
    pub fn new(schema: Schema, settings: &Settings) -> Router {
        Router {
            schema,
            max_statement: settings.cache_max_statement,
            shapes: Cache::with(
                settings.cache_size.max(1),
                settings.cache_size.max(1) as u64,
                ByLength,
                foldhash::fast::RandomState::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
        }
    }

    /// What the router knows of its database.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How many shapes are remembered.
    pub fn cached_shapes(&self) -> usize {
        self.shapes.len()
    }

    /// Plans a text. `param_types` are the types that Parse declared; empty for simple queries.
    pub fn route(&self, sql: &str, param_types: &[u32]) -> Routed {
        let mut scan = scan(sql);
        let shareable = scan.statements.len() == 1
            && !scan.broken
            && !scan.unshared
            && sql.len() <= self.max_statement;
        if !shareable {
            return Routed {
                shape: Arc::new(self.shape(sql, &scan, param_types)),
                cached: false,
                literals: scan.literals,
                spans: scan.statements,
            };
        }
        let mut key = std::mem::take(&mut scan.shape);
        // No shape holds a zero byte, so what follows it cannot be mistaken for text.
        key.push(0);
        for oid in param_types {
            key.extend_from_slice(&oid.to_be_bytes());
        }
        if let Some(shape) = self.shapes.get(key.as_slice()) {
            return Routed {
                shape,
                cached: true,
                literals: scan.literals,
                spans: scan.statements,
            };
        }
        let shape = Arc::new(self.shape(sql, &scan, param_types));
        self.shapes.insert(key.into_boxed_slice(), shape.clone());
        Routed {
            shape,
            cached: false,
            literals: scan.literals,
            spans: scan.statements,
        }
    }

    fn shape(&self, sql: &str, scan: &Scan, param_types: &[u32]) -> Shape {
        let count = scan.statements.len().max(1);
        let (statements, details) = (0..count)
            .map(|n| statement::plan(&self.schema, sql, scan, param_types, n))
            .unzip();
        Shape {
            statements,
            details,
        }
    }

    /// Decides where one statement of a routed text runs. `sql` must be the text that was routed.
    ///
    /// Parameters without a value leave the choice open ([`Decision::AnyShard`]): that is what
    /// describing a statement needs.
    pub fn decide(
        &self,
        sql: &str,
        routed: &Routed,
        statement: usize,
        params: &dyn Params,
    ) -> Decision {
        let shape = &routed.shape;
        match (
            shape.statements.get(statement),
            shape.details.get(statement),
        ) {
            (Some(planned), Some(detail)) => Values {
                schema: &self.schema,
                sql,
                literals: &routed.literals,
                params,
                detail,
            }
            .decide(planned),
            _ => Decision::Refused(ClientError::error(
                SqlState::INTERNAL_ERROR,
                "the text has no such statement",
            )),
        }
    }

    /// Decides where a whole text runs, all its statements on one server.
    pub fn decide_all(&self, sql: &str, routed: &Routed, params: &dyn Params) -> Decision {
        let count = routed.shape.statements.len();
        if count == 1 {
            return self.decide(sql, routed, 0, params);
        }
        let mut chosen: Option<(usize, ShardId)> = None;
        for number in 0..count {
            match self.decide(sql, routed, number, params) {
                Decision::AnyShard => {}
                Decision::Shard(shard) => match chosen {
                    None => chosen = Some((number, shard)),
                    Some((_, first)) if first == shard => {}
                    Some((first, on)) => {
                        return Decision::Refused(disagree(first, on, number, shard));
                    }
                },
                Decision::Refused(error) => return Decision::Refused(error),
                Decision::Local => {
                    return Decision::Refused(
                        ClientError::error(
                            SqlState::FEATURE_NOT_SUPPORTED,
                            "EXPLAIN (ROUTE) must be the only statement of its text",
                        )
                        .hint("Send it by itself."),
                    );
                }
            }
        }
        chosen.map_or(Decision::AnyShard, |(_, shard)| Decision::Shard(shard))
    }
}

impl Routed {
    /// One statement's own text within the text that was routed, without the semicolon.
    pub fn text<'a>(&self, sql: &'a str, statement: usize) -> &'a str {
        let span = self.spans.get(statement).cloned();
        span.and_then(|span| sql.get(span)).unwrap_or_default()
    }

    /// Whether every statement of the text may run on a replica.
    pub fn access(&self) -> Access {
        let write = |s: &Statement| s.access == Access::Write;
        match self.shape.statements.iter().any(write) {
            true => Access::Write,
            false => Access::Read,
        }
    }
}

impl Shape {
    /// The single plan, of a text of one statement.
    pub fn plan(&self) -> Option<&Plan> {
        match self.statements.as_slice() {
            [statement] => Some(&statement.plan),
            _ => None,
        }
    }
}

fn disagree(first: usize, on: ShardId, second: usize, shard: ShardId) -> ClientError {
    ClientError::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!(
            "statement {} of the text is for shard {on}, statement {} for shard {shard}",
            first + 1,
            second + 1
        ),
    )
    .hint("Send them one by one.")
}
