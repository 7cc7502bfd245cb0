//! Contiguous ranges of keys, in the order of the key's type: integers by value, text by bytes
//! (the order of the collation "C"), UUIDs by value.

use super::problem::parse_literal;
use super::{Key, KeyType, Problem, RangeEntry, ShardId, Slot};

/// Ranges in ascending order, without overlap.
#[derive(Clone, Debug, PartialEq)]
pub struct Range {
    /// Ascending by `from`; the slot is the index.
    spans: Vec<Span>,
}

/// One range. `from` belongs to it, `to` does not; `None` is without bound.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    from: Option<Key>,
    to: Option<Key>,
    shard: ShardId,
    /// Its index among the settings.
    index: usize,
}

impl Range {
    /// Ranges that neither overlap nor leave a gap between them. Below the first and above the
    /// last there may be no shard: keys there are refused.
    ///
    /// Returns every problem: a bound that is no key, an empty range, an overlap, a gap, a shard
    /// that is unknown, or one without a range.
    pub fn new(
        key_type: KeyType,
        settings: &[RangeEntry],
        shards: &[&str],
    ) -> Result<Range, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut spans = Vec::new();
        let mut placed = vec![false; shards.len()];
        for (index, entry) in settings.iter().enumerate() {
            match Problem::find_shard("ranges", index, &entry.shard, shards) {
                Ok(shard) => placed[usize::from(shard.0)] = true,
                Err(problem) => problems.push(problem),
            }
            match span(key_type, index, entry, shards) {
                Ok(span) => spans.push(span),
                Err(found) => problems.extend(found),
            }
        }
        for (shard, _) in shards.iter().zip(&placed).filter(|(_, placed)| !**placed) {
            problems.push(Problem::at(
                "ranges",
                format!("shard `{shard}` has no range: it would own no keys"),
                format!("add {{ shard = \"{shard}\", from = …, to = … }}"),
            ));
        }
        spans.sort_by(|a, b| a.from.cmp(&b.from).then(a.index.cmp(&b.index)));
        // A bad bound would make its neighbours look wrong too: tell about it first.
        if spans.len() == settings.len() {
            problems.extend(
                spans
                    .windows(2)
                    .filter_map(|pair| junction(&pair[0], &pair[1], settings)),
            );
        }
        if problems.is_empty() {
            Ok(Range { spans })
        } else {
            Err(problems)
        }
    }

    /// The index of the range that holds the key, in ascending order.
    pub fn slot(&self, key: &Key) -> Option<Slot> {
        let after = self
            .spans
            .partition_point(|s| s.from.as_ref().is_none_or(|from| from <= key));
        let index = after.checked_sub(1)?;
        let inside = self.spans[index].to.as_ref().is_none_or(|to| key < to);
        inside.then_some(Slot(index as u32))
    }

    /// The range's shard.
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        self.spans.get(slot.0 as usize).map(|s| s.shard)
    }

    /// The ranges in ascending order: lower bound, upper bound, shard.
    pub fn spans(&self) -> impl Iterator<Item = (Option<&Key>, Option<&Key>, ShardId)> {
        self.spans
            .iter()
            .map(|s| (s.from.as_ref(), s.to.as_ref(), s.shard))
    }
}

fn span(
    key_type: KeyType,
    index: usize,
    entry: &RangeEntry,
    shards: &[&str],
) -> Result<Span, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut bound = |field, literal: &Option<super::KeyLiteral>| match literal {
        None => None,
        Some(literal) => match parse_literal(key_type, literal) {
            Ok(key) => Some(key),
            Err(message) => {
                let remedy = format!("write a bound of type {key_type}");
                problems.push(Problem::entry("ranges", index, field, message, remedy));
                None
            }
        },
    };
    let from = bound("from", &entry.from);
    let to = bound("to", &entry.to);
    if let (Some(from), Some(to)) = (&from, &to)
        && from >= to
    {
        problems.push(Problem::entry(
            "ranges",
            index,
            "to",
            format!("the range from {from} to {to} is empty: `to` does not belong to it"),
            "make `to` greater than `from`".into(),
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let shard = shards
        .iter()
        .position(|s| *s == entry.shard)
        .unwrap_or_default();
    Ok(Span {
        from,
        to,
        shard: ShardId(shard as u16),
        index,
    })
}

/// What is wrong between two neighbours.
fn junction(left: &Span, right: &Span, settings: &[RangeEntry]) -> Option<Problem> {
    let name = |span: &Span| &settings[span.index].shard;
    let (message, remedy) = match (&left.to, &right.from) {
        (Some(to), Some(from)) if to == from => return None,
        (Some(to), Some(from)) if to < from => (
            format!(
                "keys from {to} up to {from} belong to no shard: a gap between `{}` and `{}`",
                name(left),
                name(right)
            ),
            format!("begin this range at {to}, or let the other end at {from}"),
        ),
        (to, _) => (
            format!(
                "this range of `{}` overlaps the one of `{}` before it",
                name(right),
                name(left)
            ),
            match to {
                Some(to) => format!("begin this range at {to}, or let the other end earlier"),
                None => "give the other range a `to`".into(),
            },
        ),
    };
    Some(Problem::entry(
        "ranges",
        right.index,
        "from",
        message,
        remedy,
    ))
}
