//! What `check` and `ring` tell about a database's shards.

use crate::config::DatabaseConfig;
use crate::sharding::{Function, Key, ShardId, Share};

/// Lines of cells, each column as wide as its widest cell.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|r| r.get(column))
            .map(|c| c.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("  {}", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One line that names the function and its key.
pub(super) fn headline(database: &DatabaseConfig, function: &Function) -> String {
    let count = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    let sharding = &database.sharding;
    let how = match function {
        Function::Modulo(_) => format!("modulo {}", database.shards.len()),
        Function::Ring(ring) => format!("ring of {} points", ring.size()),
        Function::Range(range) => count(range.spans().count(), "range"),
        Function::List(_) => count(sharding.lists.len(), "list"),
    };
    format!(
        "database {}: {}, {}; {how} over {} ({})",
        database.name,
        count(database.shards.len(), "shard"),
        count(database.tables.len(), "table"),
        sharding.key_column,
        sharding.key_type,
    )
}

/// Each shard's share of the keys, if the function gives one: a range without bound, or ranges of
/// keys other than integers, have no measure.
pub(super) fn shares(database: &DatabaseConfig, function: &Function) -> Option<Vec<Share>> {
    let count = u16::try_from(database.shards.len()).ok()?;
    match function {
        Function::Modulo(_) => Some(vec![Share::new(1, u64::from(count)); usize::from(count)]),
        Function::Ring(ring) => Some(ring.shares(count)),
        Function::List(list) => {
            let counts = list.counts(count);
            let all: usize = counts.iter().sum();
            Some(
                counts
                    .into_iter()
                    .map(|c| Share::new(c as u64, all as u64))
                    .collect(),
            )
        }
        Function::Range(range) => {
            let mut widths = vec![0u64; usize::from(count)];
            for (from, to, ShardId(shard)) in range.spans() {
                let (Some(Key::Int(from)), Some(Key::Int(to))) = (from, to) else {
                    return None;
                };
                *widths.get_mut(usize::from(shard))? += to.abs_diff(*from);
            }
            let all = widths.iter().sum();
            Some(widths.into_iter().map(|w| Share::new(w, all)).collect())
        }
    }
}

/// What each shard owns, in words, as the function sees it.
pub(super) fn holdings(database: &DatabaseConfig, function: &Function) -> Vec<String> {
    let mut words: Vec<Vec<String>> = vec![Vec::new(); database.shards.len()];
    let mut add = |shard: ShardId, text: String| {
        if let Some(list) = words.get_mut(usize::from(shard.0)) {
            list.push(text);
        }
    };
    match function {
        Function::Modulo(_) => (0..database.shards.len())
            .for_each(|i| add(ShardId(i as u16), format!("remainder {i}"))),
        Function::Ring(ring) => ring
            .positions()
            .iter()
            .for_each(|(p, shard)| add(*shard, p.to_string())),
        Function::Range(range) => {
            for (from, to, shard) in range.spans() {
                let end = |key: Option<&Key>| key.map_or("…".to_owned(), Key::to_string);
                add(shard, format!("{} to {}", end(from), end(to)));
            }
        }
        Function::List(list) => {
            let counts = list.counts(database.shards.len() as u16);
            counts
                .iter()
                .enumerate()
                .for_each(|(i, count)| add(ShardId(i as u16), format!("{count} keys")));
        }
    }
    words.into_iter().map(|w| w.join(", ")).collect()
}

/// A warning when the largest share is well above the smallest.
pub(super) fn imbalance(database: &DatabaseConfig, function: &Function) -> Option<String> {
    let Function::Ring(ring) = function else {
        return None;
    };
    let shares = shares(database, function)?;
    let named = || database.shard_names().into_iter().zip(&shares);
    let (most, largest) = named().max_by_key(|(_, s)| s.part)?;
    let (least, smallest) = named().min_by_key(|(_, s)| s.part)?;
    // Up to a quarter more is what a ring of few positions cannot avoid.
    if largest.part * 4 <= smallest.part * 5 {
        return None;
    }
    let shards = database.shards.len() as u64;
    let even: Vec<String> = (1..=shards)
        .map(|i| {
            (u64::from(ring.size()) * i / shards)
                .saturating_sub(1)
                .to_string()
        })
        .collect();
    Some(format!(
        "warning: the ring is unbalanced: {most} has {largest} of the keys, {least} {smallest}; \
         positions {} would be even",
        even.join(", ")
    ))
}
