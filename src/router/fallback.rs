//! Statements that the parser does not know.
//!
//! First the text is normalised for analysis only (the client's own bytes are what runs): forms
//! that mean the same as others as far as routing goes. What still cannot be parsed is told by
//! its keywords, and never narrowed to a shard.

use std::collections::HashSet;

use crate::error::{ClientError, SqlState};
use crate::plan::{Effect, Kind, Plan, Target};

use super::keys::unknown_table;
use super::statement::{Context, Draft};
use super::utility::called_state;
use super::words::{Word, WordKind};

/// A text with the same tables, keys and effects that the parser may know, if there is one.
pub(super) fn normalized(text: &str) -> Option<String> {
    let scan = super::scan::scan(text);
    let span = scan.statements.first()?.clone();
    let words = super::words::words(text, &scan, &span);
    let mut edits: Vec<(std::ops::Range<usize>, &str)> = Vec::new();
    for (n, word) in words.iter().enumerate() {
        let is = |ahead: usize, k: &str| words.get(n + ahead).is_some_and(|w| w.is(k));
        let sign = |ahead: usize, s: &str| words.get(n + ahead).is_some_and(|w| w.sign(s));
        let end = |ahead: usize| words.get(n + ahead).map_or(word.span.end, |w| w.span.end);
        if word.is("for") && is(1, "no") && is(2, "key") && is(3, "update") {
            edits.push((word.span.start..end(3), "for update"));
        } else if word.is("for") && is(1, "key") && is(2, "share") {
            edits.push((word.span.start..end(2), "for share"));
        } else if word.is("only") && n > 0 && names_table(&words[n - 1]) && !sign(1, "(") {
            edits.push((word.span.clone(), " "));
        } else if word.is("isnull") && n > 0 {
            edits.push((word.span.clone(), "is null"));
        } else if word.is("notnull") && n > 0 {
            edits.push((word.span.clone(), "is not null"));
        } else if word.is("operator") && sign(1, "(") && is(2, "pg_catalog") && sign(3, ".") {
            // OPERATOR(pg_catalog.~): only the matching ones, which prove nothing.
            let close = words[n..].iter().position(|w| w.sign(")"))?;
            let signs = &words[n + 4..n + close];
            if signs
                .iter()
                .all(|w| w.kind == WordKind::Sign && "~!*<>".contains(&*w.text))
            {
                edits.push((word.span.start..end(close), " ~ "));
            }
        } else if word.is("collate") && is(1, "pg_catalog") && sign(2, ".") && is(3, "default") {
            edits.push((word.span.start..end(3), " "));
        }
    }
    if edits.is_empty() {
        return None;
    }
    let mut out = text.to_string();
    for (range, with) in edits.into_iter().rev() {
        out.replace_range(range, with);
    }
    Some(out)
}

/// Longest chain of words without a comma that is parsed. The parser may nest one level for each
/// of them, and a hostile statement must not exhaust the stack.
const MAX_CHAIN: usize = 4000;

/// The same for set operations and joins, whose nesting takes far more of the stack.
const MAX_SETS: usize = 200;

/// The same for joins whose ON is still to come.
const MAX_OPEN_JOINS: usize = 32;

/// What is counted between two parentheses.
#[derive(Default)]
struct Level {
    /// Words since the last comma.
    chain: usize,
    /// Set operations and joins.
    sets: usize,
    open_joins: usize,
}

/// Whether a statement chains so many words, set operations or joins that it is not parsed.
pub(super) fn too_deep(words: &[Word]) -> bool {
    let mut levels = vec![Level::default()];
    let mut before = "";
    for word in words {
        let Some(level) = levels.last_mut() else {
            return true;
        };
        level.chain += 1;
        match &*word.text {
            "union" | "except" | "intersect" => level.sets += 1,
            "join" => {
                level.sets += 1;
                level.open_joins += usize::from(!matches!(before, "cross" | "natural"));
            }
            "on" | "using" => level.open_joins = level.open_joins.saturating_sub(1),
            "," if word.kind == WordKind::Sign => level.chain = 0,
            _ => {}
        }
        if level.chain > MAX_CHAIN || level.sets > MAX_SETS || level.open_joins > MAX_OPEN_JOINS {
            return true;
        }
        if word.sign("(") || word.sign("[") {
            levels.push(Level::default());
        } else if (word.sign(")") || word.sign("]")) && levels.len() > 1 {
            levels.pop();
        }
        before = &word.text;
    }
    false
}

/// Whether a table's name follows this word.
fn names_table(word: &Word) -> bool {
    word.is("from") || word.is("join") || word.is("update") || word.is("into")
}

/// Plans by keywords.
pub(super) fn by_keywords(context: &Context, words: &[Word]) -> Draft {
    let kind = match words.first().map_or("", |w| &*w.text) {
        "select" | "values" | "table" | "with" | "(" => Kind::Select,
        "insert" => Kind::Insert,
        "update" => Kind::Update,
        "delete" => Kind::Delete,
        _ => Kind::Other,
    };
    let mut draft = if context.several() {
        over_shards(context, words)
    } else {
        Draft::new(
            Plan::Single(Target::AnyOne),
            "there is one shard to go to",
            kind,
        )
    };
    draft.kind = kind;
    draft.unsure = Some("since pgdrover could not parse it".into());
    if let Some(reason) = called_state(words) {
        draft.effect = Effect::Pin(reason);
    }
    draft
}

/// With several shards, only queries over catalogs are safe anywhere.
fn over_shards(context: &Context, words: &[Word]) -> Draft {
    if let Some(word) = words
        .iter()
        .find(|w| w.is_name() && context.schema.tables.contains_key(&w.text))
    {
        return Draft::rejected(not_parsed(Some(&word.text)), "not parsed");
    }
    let first = words.first();
    if !first.is_some_and(|w| w.is("select") || w.is("with") || w.is("values")) {
        return Draft::rejected(not_parsed(None), "not parsed");
    }
    match foreign_table(words) {
        Some(name) => Draft::rejected(unknown_table(name), "not parsed"),
        None => Draft::new(
            Plan::Single(Target::AnyOne),
            "it names catalogs only",
            Kind::Select,
        ),
    }
}

/// The first name in a FROM list that is neither a catalog nor a query's own name.
fn foreign_table(words: &[Word]) -> Option<String> {
    let own: HashSet<&str> = words
        .windows(3)
        .filter(|w| w[0].is_name() && w[1].is("as") && w[2].sign("("))
        .map(|w| &*w[0].text)
        .collect();
    let mut in_from = false;
    let mut expect = false;
    for (n, word) in words.iter().enumerate() {
        let sign = |ahead: usize, s: &str| words.get(n + ahead).is_some_and(|w| w.sign(s));
        if word.is("from") || word.is("join") || word.is("update") || word.is("into") {
            (in_from, expect) = (true, true);
            continue;
        }
        if in_from && word.sign(",") {
            expect = true;
            continue;
        }
        if word.is("where") || word.is("order") || word.is("group") || word.is("union") {
            in_from = false;
        }
        if !expect || word.sign("(") || word.is("only") || word.is("lateral") {
            continue;
        }
        expect = false;
        if !word.is_name() || word.is("select") || sign(1, "(") || own.contains(&*word.text) {
            continue;
        }
        let catalog = matches!(&*word.text, "pg_catalog" | "information_schema") && sign(1, ".")
            || word.text.starts_with("pg_") && !sign(1, ".");
        if !catalog {
            return Some(word.text.to_string());
        }
    }
    None
}

fn not_parsed(table: Option<&str>) -> ClientError {
    let detail = match table {
        Some(table) => format!("It names table {table}."),
        None => "It is no plain query over catalogs.".into(),
    };
    ClientError::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        "pgdrover could not parse this statement, so it cannot tell which shards it concerns",
    )
    .detail(detail)
    .hint("Write it in another form, or name a shard: /* pgdrover: shard=0 */.")
}
