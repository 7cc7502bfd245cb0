//! From what was proven to the plan.

use crate::error::{ClientError, SqlState};
use crate::plan::{KeyExpr, KeySet, Kind, Merge, Plan, Target};
use crate::sharding::ShardId;

use super::access::Footprint;
use super::keys::{Findings, unknown_table};
use super::statement::Draft;
use super::words::Word;
use super::{Schema, Table};

/// What merging would take, or why it cannot be.
pub(super) type Described = Result<Merge, Box<str>>;

/// Decides where an analysed statement runs.
pub(super) fn place(findings: &Findings, print: &Footprint, merge: &Described) -> Draft {
    if let Some(name) = &print.dynamic {
        return refused(
            format!("{name}() may read rows of any shard"),
            "Name a shard: /* pgdrover: shard=0 */.",
        );
    }
    let sharded = !findings.groups.is_empty() || !findings.assigned.is_empty();
    if let Some((home, table)) = findings.homes.first() {
        return home_table(findings, *home, table, sharded);
    }
    if let Some(table) = &findings.reference_written {
        return reference_write(table, print, sharded);
    }
    if sharded {
        return keyed(findings, merge);
    }
    if let Some(name) = &print.sequence {
        return refused(
            format!("{name}() would use the sequence of one shard, which others use too"),
            "Name a shard, /* pgdrover: shard=0 */, or make the numbers elsewhere.",
        );
    }
    if let Some(name) = &print.unknown_function {
        return refused(
            format!(
                "function {name} is not one of PostgreSQL's own and may touch rows of any shard"
            ),
            "Name a shard: /* pgdrover: shard=0 */.",
        );
    }
    if print.advisory {
        let plan = Plan::Single(Target::Home(ShardId(0)));
        return Draft::new(plan, "advisory locks are taken on shard 0", Kind::Select);
    }
    let proof = match (findings.catalogs, print.volatile) {
        (true, _) => "a catalog, the same on every shard",
        (false, true) => "no table's rows",
        (false, false) => "no table, or reference tables only",
    };
    Draft::new(Plan::Single(Target::AnyOne), proof, Kind::Select)
}

fn refused(message: impl Into<String>, hint: &'static str) -> Draft {
    let error = ClientError::error(SqlState::FEATURE_NOT_SUPPORTED, message.into()).hint(hint);
    Draft::rejected(error, "not proven")
}

fn home_table(findings: &Findings, home: ShardId, table: &str, sharded: bool) -> Draft {
    if sharded {
        return refused(
            format!("home table {table} and sharded tables cannot meet in one statement"),
            "Run one statement for each, or make the home table a reference table.",
        );
    }
    if let Some((_, other)) = findings.homes.iter().find(|(shard, _)| *shard != home) {
        return refused(
            format!("home tables {table} and {other} are on different shards"),
            "Run one statement for each.",
        );
    }
    if let Some(reference) = &findings.reference_written {
        return refused(
            format!("reference table {reference} cannot be written from home table {table}"),
            "Run one statement for each.",
        );
    }
    let proof = format!("home table {table}");
    Draft::new(Plan::Single(Target::Home(home)), proof, Kind::Select)
}

fn reference_write(table: &str, print: &Footprint, sharded: bool) -> Draft {
    if sharded {
        return refused(
            format!(
                "reference table {table} cannot be written from sharded tables: each shard would write other rows"
            ),
            "Read the rows first, then write them.",
        );
    }
    if print.volatile || print.sequence.is_some() || print.unknown_function.is_some() {
        return refused(
            format!(
                "a volatile function would give reference table {table} other values on each shard"
            ),
            "Give the value as a literal or a parameter.",
        );
    }
    let because = format!("reference table {table} has a copy on every shard");
    several(
        Target::All,
        Merge::Other("all shards, 2pc".into()),
        &because,
        &because,
    )
}

fn several(target: Target, merge: Merge, because: &str, proof: &str) -> Draft {
    let plan = Plan::Several {
        target,
        merge,
        because: because.into(),
    };
    Draft::new(plan, proof, Kind::Select)
}

/// Statements over sharded tables.
fn keyed(findings: &Findings, merge: &Described) -> Draft {
    let mut sets: Vec<KeySet> = findings.groups.iter().map(|g| g.keys.clone()).collect();
    sets.extend(findings.assigned.iter().cloned());
    sets.dedup();
    let open = findings.groups.iter().find(|g| g.keys == KeySet::All);
    let assigned_open = findings.assigned.contains(&KeySet::All);
    let mut draft = match open {
        _ if assigned_open => refused(
            "the key of a row that is written is not known for certain",
            "Declare the parameter's type, or use it only as the key.",
        ),
        Some(group) => unrestricted(findings, &group.tables, merge),
        None => restricted(findings, sets, merge),
    };
    draft.assigns = !findings.assigned.is_empty();
    draft
}

/// At least one group may have rows on every shard.
fn unrestricted(findings: &Findings, tables: &[Box<str>], merge: &Described) -> Draft {
    let names = list(tables);
    if findings.groups.len() > 1 || findings.moves {
        let all: Vec<Box<str>> = findings
            .groups
            .iter()
            .flat_map(|g| g.tables.clone())
            .collect();
        return refused(
            format!(
                "the rows of {} are not joined by the sharding key, and {names} is not \
                 restricted to one key",
                list(&all)
            ),
            "Compare the sharding key of each with the same value, or join them by it.",
        );
    }
    let because = format!("{names} is not restricted to one sharding key");
    let barrier = findings.barrier.as_ref().or(merge.as_ref().err());
    match (barrier, merge) {
        (None, Ok(merge)) => several(Target::All, merge.clone(), &because, &because),
        (barrier, _) => {
            let barrier = barrier.map_or("its form", |b| &**b);
            refused(
                format!("{because}, and {barrier} needs the rows of all shards together"),
                "Compare the sharding key with a value.",
            )
        }
    }
}

/// Every group is confined to keys.
fn restricted(findings: &Findings, sets: Vec<KeySet>, merge: &Described) -> Draft {
    let proof = proof(findings);
    let target = Target::Keys(sets);
    let Target::Keys(sets) = &target else {
        return refused("no key", "");
    };
    if findings.moves {
        let because = "setting the sharding key may move the row to another shard";
        return several(
            target.clone(),
            Merge::Other("move row, 2pc".into()),
            because,
            &proof,
        );
    }
    if findings.splits && findings.groups.is_empty() {
        if matches!(sets.as_slice(), [KeySet::Or(_)]) {
            let because = "the rows belong to several shards";
            return several(
                target.clone(),
                Merge::Other("split rows, 2pc".into()),
                because,
                &proof,
            );
        }
        return Draft::new(Plan::Single(target), proof, Kind::Insert);
    }
    let lone = sets.len() == 1 && !single_valued(&sets[0]);
    let branches = sets.len() > 1 && findings.barrier.is_none() && findings.assigned.is_empty();
    match merge {
        Ok(merge) if lone && findings.barrier.is_none() || branches && is_union(merge) => {
            let because = "it concerns several keys";
            several(target.clone(), merge.clone(), because, &proof)
        }
        _ => Draft::new(Plan::Single(target), proof, Kind::Select),
    }
}

/// Marks the merges of set operations, whose branches may be on different shards.
pub(super) const UNION_ALL: &str = "concat";
/// The same, without duplicates.
pub(super) const UNION: &str = "distinct";

fn is_union(merge: &Merge) -> bool {
    matches!(merge, Merge::Other(how) if matches!(&**how, UNION_ALL | UNION))
}

/// At most one key, whatever the values.
fn single_valued(set: &KeySet) -> bool {
    match set {
        KeySet::Empty => true,
        KeySet::One(KeyExpr::Literal { .. } | KeyExpr::Param { .. }) => true,
        KeySet::And(sets) => sets.iter().any(single_valued),
        KeySet::One(_) | KeySet::All | KeySet::Or(_) => false,
    }
}

/// The proof for people: without values, since plans are shared by shape.
fn proof(findings: &Findings) -> String {
    let mut parts: Vec<String> = findings
        .groups
        .iter()
        .map(|g| format!("{} by {}", list(&g.tables), describe(&g.keys, &g.column)))
        .collect();
    parts.extend(
        findings
            .assigned
            .iter()
            .map(|set| format!("new row by {}", describe(set, "key"))),
    );
    parts.join("; ")
}

/// A key set in words, as of `column`.
pub(super) fn describe(set: &KeySet, column: &str) -> String {
    let join = |sets: &[KeySet], word: &str| {
        let parts: Vec<String> = sets.iter().take(8).map(|s| describe(s, column)).collect();
        let more = if sets.len() > 8 {
            word.to_string() + "…"
        } else {
            String::new()
        };
        parts.join(word) + &more
    };
    match set {
        KeySet::All => "any key".into(),
        KeySet::Empty => format!("{column} = NULL"),
        KeySet::One(KeyExpr::Literal { .. }) => format!("{column} = literal"),
        KeySet::One(KeyExpr::Param { index, .. }) => format!("{column} = ${}", index + 1),
        KeySet::One(KeyExpr::ParamArray { index }) => format!("{column} = ANY (${})", index + 1),
        KeySet::One(KeyExpr::LiteralArray { .. }) => format!("{column} = ANY (array)"),
        KeySet::Or(sets) => format!("({})", join(sets, " or ")),
        KeySet::And(sets) => format!("({})", join(sets, " and ")),
    }
}

fn list(tables: &[Box<str>]) -> String {
    let mut names: Vec<&str> = tables.iter().map(|t| &**t).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

/// COPY of a table, when there are several shards.
pub(super) fn copy(
    schema: &Schema,
    names: &[Box<str>],
    columns: Option<&[Word]>,
    from: bool,
) -> Draft {
    let known = match names {
        [table] => schema.tables.get(table),
        [schema_name, table] if &**schema_name == "public" => schema.tables.get(table),
        _ => None,
    };
    let name = names.join(".");
    match known {
        None => Draft::rejected(unknown_table(&name), "not proven"),
        Some(Table::Home(shard)) => {
            let plan = Plan::Single(Target::Home(*shard));
            Draft::new(plan, format!("home table {name}"), Kind::Copy)
        }
        Some(Table::Reference) if from => {
            let because = format!("reference table {name} has a copy on every shard");
            several(
                Target::All,
                Merge::Other("all shards, 2pc".into()),
                &because,
                &because,
            )
        }
        Some(Table::Reference) => Draft::new(
            Plan::Single(Target::AnyOne),
            "reference tables only",
            Kind::Copy,
        ),
        Some(Table::Sharded {
            column,
            columns: declared,
        }) => {
            let has_key = match (columns, declared) {
                (Some(listed), _) => listed.iter().any(|w| w.is_name() && w.text == *column),
                (None, Some(declared)) => declared.contains(column),
                (None, None) => false,
            };
            if from && !has_key {
                return refused(
                    format!(
                        "COPY into sharded table {name} has no key column {column} that pgdrover knows the place of"
                    ),
                    "List the columns with the key, or declare them under [[databases.tables]].",
                );
            }
            let because = format!("{name} is not restricted to one sharding key");
            let merge = match from {
                true => Merge::Other("copy split, 2pc".into()),
                false => Merge::Concat,
            };
            several(Target::All, merge, &because, &because)
        }
    }
}
