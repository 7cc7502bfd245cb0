//! Scripts of frames as text: `tests/wire/*.txt`.
//!
//! A line without indentation names a script; each indented line below it is a step: messages
//! between ` | `, and after ` => ` what ends the answer if not one ReadyForQuery.
//!
//! | text | message |
//! |---|---|
//! | `Q SQL` | Query |
//! | `X SQL <- 1, NULL` | Parse, Bind with these values, Describe and Execute, all unnamed |
//! | `P name(23): SQL` | Parse, with the types' OIDs |
//! | `B portal=statement 1 NULL` | Bind with these values |
//! | `DS name`, `DP name`, `CS name`, `CP name` | Describe, Close of a statement or portal |
//! | `E portal 7` | Execute, of so many rows |
//! | `S`, `H` | Sync, Flush |
//! | `d text`, `c`, `f reason` | CopyData, CopyDone, CopyFail |
//!
//! Ends: `Z3` so many ReadyForQuery, `GE` a frame of one of these types, `quiet` when PostgreSQL
//! says no more.

use super::differ::{Step, Until};
use super::say;

/// The scripts of a file, by name.
pub(crate) fn read(text: &'static str) -> Vec<(&'static str, Vec<Step>)> {
    let mut scripts: Vec<(&str, Vec<Step>)> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        if line.trim().is_empty() {
            continue;
        }
        match line.strip_prefix("    ") {
            None => scripts.push((line, Vec::new())),
            Some(line) => scripts.last_mut().expect("a name first").1.push(step(line)),
        }
    }
    scripts
}

fn step(line: &'static str) -> Step {
    let (messages, end) = match line.rsplit_once(" =>") {
        Some((messages, end)) => (messages, end.trim()),
        None => (line, "Z1"),
    };
    let bytes = messages
        .split(" | ")
        .flat_map(|m| message(m.trim()))
        .collect();
    let until = match end.strip_prefix('Z').map(str::parse) {
        Some(Ok(n)) => Until::Ready(n),
        _ if end == "quiet" => Until::Quiet,
        _ => Until::Tag(end.as_bytes()),
    };
    Step { bytes, until }
}

fn message(text: &str) -> Vec<u8> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    match kind {
        "Q" => say::query(rest),
        "X" => {
            let (sql, values) = rest.split_once(" <- ").unwrap_or((rest, ""));
            let values = values.split(", ").filter(|v| !v.is_empty());
            say::extended(sql, &values.map(value).collect::<Vec<_>>())
        }
        "P" => {
            let (name, sql) = rest.split_once(':').expect("P name: SQL");
            let (name, types) = name.split_once('(').unwrap_or((name, ""));
            let types = types
                .trim_end_matches(')')
                .split(',')
                .filter(|t| !t.is_empty());
            let types: Vec<u32> = types.map(|t| t.parse().expect("an OID")).collect();
            say::parse_typed(name, sql.trim(), &types)
        }
        "B" => {
            let mut words = rest.split(' ');
            let (portal, statement) = words.next().unwrap_or("").split_once('=').expect("B p=s");
            say::bind(portal, statement, &words.map(value).collect::<Vec<_>>())
        }
        "DS" => say::describe_statement(rest),
        "DP" => say::describe_portal(rest),
        "CS" => say::close_statement(rest),
        "CP" => say::close_portal(rest),
        "E" => {
            let (portal, rows) = rest.split_once(' ').unwrap_or((rest, "0"));
            say::execute(portal, rows.parse().expect("a number of rows"))
        }
        "S" => say::sync(),
        "H" => say::flush(),
        "d" => say::copy_data(&rest.replace("\\t", "\t").replace("\\n", "\n")),
        "c" => say::copy_done(),
        "f" => say::copy_fail(rest),
        _ => panic!("no message: {text:?}"),
    }
}

fn value(text: &str) -> Option<&str> {
    (text != "NULL").then_some(text)
}
