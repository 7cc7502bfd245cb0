//! The key proof: for every sharded table that a statement names, which keys can matter.
//!
//! What is not understood is not proven: any table or form that the analysis did not account for
//! makes the statement refused, never narrowed.

mod arena;
mod block;
mod constant;
mod filter;
mod from;
mod scope;
mod write;

use std::ops::ControlFlow;

use sqlparser::ast::{
    Ident, ObjectName, ObjectNamePart, Query, Statement, Value, ValueWithSpan, Visit, Visitor,
};
use sqlparser::tokenizer::Location;

use crate::error::{ClientError, SqlState};
use crate::plan::KeySet;
use crate::sharding::ShardId;

use super::scan::Literal;
use super::{Schema, Table};

pub(super) use arena::Group;
pub(super) use constant::{of_type, textual};

use arena::Arena;
use constant::{Constants, without};
use scope::Relation;

/// What the analysis of one statement found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The groups of sharded references that no other group governs.
    pub(super) groups: Vec<Group>,
    /// Key sets that rows get (INSERT, SET of the key), beside those that they have.
    pub(super) assigned: Vec<KeySet>,
    /// Home tables.
    pub(super) homes: Vec<(ShardId, Box<str>)>,
    /// Reference tables that are written.
    pub(super) reference_written: Option<Box<str>>,
    /// A catalog is read.
    pub(super) catalogs: bool,
    /// Why the answers of several shards could not be put together.
    pub(super) barrier: Option<Box<str>>,
    /// Why the outermost block must see the rows of all shards at once.
    pub(super) whole: Option<&'static str>,
    /// The keys are of rows that an INSERT makes, from its own VALUES.
    pub(super) splits: bool,
    /// The key of existing rows is set.
    pub(super) moves: bool,
}

/// The analysis in progress.
pub(super) struct Analyzer<'a> {
    schema: &'a Schema,
    constants: Constants<'a>,
    arena: Arena,
    ctes: Vec<Cte>,
    /// How many table names were looked at, to compare with how many there are.
    accounted: usize,
    out: Findings,
}

struct Cte {
    name: Box<str>,
    relation: Relation,
    sharded: bool,
    /// The nodes of each use, beside those of the relation.
    uses: Vec<Vec<(arena::Node, arena::Node)>>,
}

/// What a table's name means.
enum Named {
    Cte(usize),
    Table(Box<str>, Table),
    Catalog,
}

/// Analyses a statement.
pub(super) fn analyze(
    schema: &Schema,
    literals: &[Literal],
    param_types: &[u32],
    statement: &Statement,
) -> Result<Findings, ClientError> {
    let mut analyzer = Analyzer {
        schema,
        constants: Constants::new(literals, param_types, schema.key_type),
        arena: Arena::default(),
        ctes: Vec::new(),
        accounted: 0,
        out: Findings::default(),
    };
    analyzer.statement(statement)?;
    if analyzer.arena.len() > MAX_NODES {
        return Err(not_proven("it names too many tables"));
    }
    let mut census = Census::default();
    let _ = statement.visit(&mut census);
    if analyzer.accounted != census.relations {
        return Err(not_proven(
            "a table stands where pgdrover does not follow it",
        ));
    }
    let doubtful = analyzer.constants.doubtful(&census.params);
    let mut out = analyzer.out;
    out.groups = analyzer.arena.groups();
    for group in &mut out.groups {
        group.keys = without(std::mem::replace(&mut group.keys, KeySet::All), &doubtful);
    }
    out.assigned = std::mem::take(&mut out.assigned)
        .into_iter()
        .map(|set| without(set, &doubtful))
        .collect();
    Ok(out)
}

impl Analyzer<'_> {
    fn statement(&mut self, statement: &Statement) -> Result<(), ClientError> {
        match statement {
            Statement::Query(query) => {
                let relation = self.query(query, None)?;
                self.out.whole = relation.whole;
                Ok(())
            }
            Statement::Insert(_)
            | Statement::Update(_)
            | Statement::Delete(_)
            | Statement::Merge(_) => self.write(statement, None),
            _ => Err(not_proven("this kind of statement is not followed")),
        }
    }

    /// What a table's name means here.
    fn table(&mut self, name: &ObjectName) -> Result<Named, ClientError> {
        self.accounted += 1;
        let parts = parts(name)?;
        let (schema, table) = match parts.as_slice() {
            [table] => (None, table),
            [schema, table] => (Some(&**schema), table),
            _ => return Err(not_proven(&format!("table name \"{name}\""))),
        };
        if schema.is_none()
            && let Some(index) = self.ctes.iter().rposition(|c| c.name == *table)
        {
            return Ok(Named::Cte(index));
        }
        if matches!(schema, None | Some("public"))
            && let Some(known) = self.schema.tables.get(table)
        {
            return Ok(Named::Table(table.clone(), known.clone()));
        }
        let catalog = match schema {
            None => table.starts_with("pg_"),
            Some(schema) => matches!(schema, "pg_catalog" | "information_schema"),
        };
        if catalog {
            self.out.catalogs = true;
            return Ok(Named::Catalog);
        }
        Err(unknown_table(name))
    }

    fn barrier(&mut self, why: &str) {
        self.out.barrier.get_or_insert_with(|| why.into());
    }
}

/// A table that the configuration does not name.
pub(super) fn unknown_table(name: impl std::fmt::Display) -> ClientError {
    ClientError::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("table {name} is not declared, so pgdrover does not know where its rows are"),
    )
    .hint(
        "Declare it under [[databases.tables]] as sharded, reference or home, \
         or name a shard: /* pgdrover: shard=0 */.",
    )
}

/// Something that the analysis does not follow.
pub(super) fn not_proven(what: &str) -> ClientError {
    ClientError::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("pgdrover cannot prove which shards this statement concerns: {what}"),
    )
    .hint("Compare the sharding key with a value, or name a shard: /* pgdrover: shard=0 */.")
}

/// Most key columns of tables and subqueries that are related to each other.
const MAX_NODES: usize = 500;

/// Longest identifier, in bytes: PostgreSQL cuts the rest off.
const MAX_IDENTIFIER: usize = 63;

/// An identifier as PostgreSQL folds and cuts it.
pub(super) fn fold(ident: &Ident) -> Box<str> {
    let mut name = match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    };
    if name.len() > MAX_IDENTIFIER {
        let mut end = MAX_IDENTIFIER;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
    }
    name.into()
}

/// The folded parts of a dotted name.
pub(super) fn parts(name: &ObjectName) -> Result<Vec<Box<str>>, ClientError> {
    let part = |part: &ObjectNamePart| match part {
        ObjectNamePart::Identifier(ident) => Ok(fold(ident)),
        ObjectNamePart::Function(_) => Err(not_proven(&format!("name \"{name}\""))),
    };
    name.0.iter().map(part).collect()
}

/// All table names and parameters of a statement, wherever they stand.
#[derive(Default)]
struct Census {
    relations: usize,
    params: Vec<(usize, Location)>,
}

impl Visitor for Census {
    type Break = ();

    fn pre_visit_relation(&mut self, _: &ObjectName) -> ControlFlow<()> {
        self.relations += 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<()> {
        if let Value::Placeholder(name) = &value.value {
            let number = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok());
            if let Some(index) = number.and_then(|n| n.checked_sub(1)) {
                self.params.push((index, value.span.start));
            }
        }
        ControlFlow::Continue(())
    }
}

/// The subqueries that stand directly within something.
#[derive(Default)]
struct Subqueries {
    depth: usize,
    found: Vec<Query>,
}

impl Visitor for Subqueries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.depth == 0 {
            self.found.push(query.clone());
        }
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

/// The subqueries that stand directly within `node`.
fn subqueries(node: &impl Visit) -> Vec<Query> {
    let mut visitor = Subqueries::default();
    let _ = node.visit(&mut visitor);
    visitor.found
}
