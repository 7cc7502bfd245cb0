//! Statements told by their keywords: transactions, session settings, cursors, and whatever
//! changes the schema.

use crate::plan::{Effect, Kind, Pin};

use super::words::{Word, WordKind};

/// What the keywords say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Utility {
    /// Where it runs when there are several shards.
    pub(super) place: Place,
    /// What it does to the session.
    pub(super) effect: Effect,
    /// Its kind.
    pub(super) kind: Kind,
    /// Why only the primary may run it; `None` when a replica may.
    pub(super) writes: Option<&'static str>,
}

/// Where a utility statement runs when there are several shards.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    /// Wherever the session is.
    AnyOne,
    /// On shard 0, where channels live.
    Channels,
    /// On all shards, one way or another.
    AllShards(&'static str),
    /// Nowhere, for this reason; a shard hint would do.
    Refused(&'static str, &'static str),
    /// Nowhere at all.
    Never(&'static str, &'static str),
}

fn local(effect: Effect, kind: Kind) -> Option<Utility> {
    Some(Utility {
        place: Place::AnyOne,
        effect,
        kind,
        writes: None,
    })
}

fn ddl(merge: &'static str) -> Option<Utility> {
    Some(Utility {
        place: Place::AllShards(merge),
        effect: Effect::None,
        kind: Kind::Ddl,
        writes: Some("since it changes the schema"),
    })
}

fn other(place: Place, effect: Effect, writes: &'static str) -> Option<Utility> {
    Some(Utility {
        place,
        effect,
        kind: Kind::Other,
        writes: Some(writes),
    })
}

/// Reads the keywords; `None` for statements that need parsing.
pub(super) fn classify(sql: &str, words: &[Word]) -> Option<Utility> {
    let word = |n: usize| {
        words
            .get(n)
            .map_or("", |w| if w.is_name() { &*w.text } else { "" })
    };
    match word(0) {
        "begin" | "start" | "commit" | "end" | "rollback" | "abort" | "savepoint" | "release" => {
            transaction(words)
        }
        "prepare" if word(1) == "transaction" => {
            local(Effect::Commit, Kind::Transaction).map(|u| Utility {
                writes: Some("since it prepares a commit"),
                ..u
            })
        }
        "set" => set(sql, words),
        "reset" => {
            let name = match (word(1), word(2)) {
                ("all", _) => None,
                ("time", "zone") => Some("timezone".into()),
                ("session", "authorization") => Some("session_authorization".into()),
                _ => Some(setting(&words[1..]).0),
            };
            local(Effect::Reset(name), Kind::Session)
        }
        "discard" if word(1) == "all" => local(Effect::DiscardAll, Kind::Session),
        "discard" => local(Effect::Release, Kind::Session),
        "show" => local(Effect::None, Kind::Session),
        "deallocate" => {
            let at = if word(1) == "prepare" { 2 } else { 1 };
            let all = words.get(at).is_some_and(|w| w.is("all"));
            let name = (!all).then(|| word(at).into());
            local(Effect::Deallocate(name), Kind::Session)
        }
        "fetch" | "move" => local(Effect::None, Kind::Other),
        "close" => local(Effect::Release, Kind::Other),
        "listen" => other(
            Place::Channels,
            Effect::Pin(Pin::Listen),
            "since it listens",
        ),
        "unlisten" => other(Place::Channels, Effect::Release, "since it listens"),
        "notify" => other(Place::Channels, Effect::None, "since it notifies"),
        "load" => other(
            Place::AnyOne,
            Effect::Pin(Pin::Load),
            "since it loads a library",
        ),
        "prepare" => other(
            Place::Refused(
                "PREPARE in SQL is not routed over several shards",
                "Use the protocol's prepared statements, as drivers do.",
            ),
            Effect::Pin(Pin::Prepare),
            "since a prepared statement stays with its server",
        ),
        "execute" => other(
            Place::Refused(
                "EXECUTE in SQL is not routed over several shards",
                "Use the protocol's prepared statements, as drivers do.",
            ),
            Effect::Execute,
            "since what it executes may write",
        ),
        "call" | "do" => other(
            Place::Refused(
                "a procedure may touch rows of any shard",
                "Name a shard: /* pgdrover: shard=0 */.",
            ),
            Effect::None,
            "since a procedure may write",
        ),
        _ => schema_change(words),
    }
}

/// Changes of the schema, and maintenance.
fn schema_change(words: &[Word]) -> Option<Utility> {
    let first = words.first().filter(|w| w.is_name())?;
    let has = |keyword: &str| words.iter().any(|w| w.is(keyword));
    match &*first.text {
        "create" if makes_temporary(words) => Some(Utility {
            place: Place::Refused(
                "a temporary table would live on one shard only",
                "Name the shard: /* pgdrover: shard=0 */.",
            ),
            effect: Effect::Pin(Pin::TempTable),
            kind: Kind::Ddl,
            writes: Some("since it makes a table"),
        }),
        "create" | "alter" | "drop" | "reindex" if has("concurrently") => {
            ddl("all shards, one by one")
        }
        "drop" => ddl("all shards, atomic").map(|u| Utility {
            effect: Effect::Release,
            ..u
        }),
        "create" | "alter" | "truncate" | "comment" | "grant" | "revoke" | "security"
        | "reassign" | "import" | "refresh" | "reindex" => ddl("all shards, atomic"),
        "vacuum" | "analyze" | "analyse" | "cluster" | "checkpoint" => {
            ddl("all shards, one by one")
        }
        "lock" => ddl("all shards"),
        _ => None,
    }
}

/// CREATE TEMP, or what it makes has a name in the temporary schema: types and functions have no
/// other spelling.
fn makes_temporary(words: &[Word]) -> bool {
    let keyword = |w: &Word| w.is("temp") || w.is("temporary");
    words.iter().take(4).any(keyword)
        || words
            .windows(2)
            .any(|w| w[0].is_name() && is_temporary_schema(&w[0].text) && w[1].sign("."))
}

/// `pg_temp`, or the name that it stands for in some session.
pub(super) fn is_temporary_schema(name: &str) -> bool {
    name == "pg_temp" || name.starts_with("pg_temp_")
}

/// The pin for what the functions that a statement seems to call leave behind on the
/// server connection: for statements that nobody parsed.
pub(super) fn called_state(words: &[Word]) -> Option<Pin> {
    words
        .windows(2)
        .filter(|w| w[0].is_name() && w[1].sign("("))
        .find_map(|w| function_state(&w[0].text))
}

/// The pin for what a function leaves behind on the server connection.
pub(super) fn function_state(name: &str) -> Option<Pin> {
    match name {
        "set_config" => Some(Pin::SetConfig),
        // To unlock takes no lock: a pool's reset query must not bind the session for good.
        _ if name.contains("advisory") && !name.contains("xact") && !name.contains("unlock") => {
            Some(Pin::AdvisoryLock)
        }
        _ => None,
    }
}

fn transaction(words: &[Word]) -> Option<Utility> {
    let is = |n: usize, k: &str| words.get(n).is_some_and(|w| w.is(k));
    let first = &*words.first()?.text;
    // COMMIT [WORK | TRANSACTION] …
    let next = if is(1, "work") || is(1, "transaction") {
        2
    } else {
        1
    };
    let effect = match first {
        "begin" | "start" => Effect::Begin {
            read_only: read_only(words),
        },
        "commit" | "rollback" if is(1, "prepared") => {
            return other(
                Place::Refused(
                    "the prepared transaction may be on any shard",
                    "Name its shard: /* pgdrover: shard=0 */.",
                ),
                Effect::None,
                "since it ends a prepared transaction",
            );
        }
        "savepoint" | "release" => Effect::TransactionControl,
        "rollback" | "abort" if is(next, "to") => Effect::TransactionControl,
        "commit" | "end" => Effect::Commit,
        _ => Effect::Rollback,
    };
    local(effect, Kind::Transaction)
}

/// The last of READ ONLY and READ WRITE counts.
fn read_only(words: &[Word]) -> bool {
    words
        .windows(2)
        .rfind(|w| w[0].is("read") && (w[1].is("only") || w[1].is("write")))
        .is_some_and(|w| w[1].is("only"))
}

/// A setting's name at the start of `words`, dots included, and how many words it takes.
fn setting(words: &[Word]) -> (Box<str>, usize) {
    let mut name = String::new();
    let mut used = 0;
    for (n, word) in words.iter().enumerate() {
        if n % 2 == 0 && word.is_name() || n % 2 == 1 && word.sign(".") {
            name.push_str(&word.text.to_ascii_lowercase());
            used = n + 1;
        } else {
            break;
        }
    }
    (name.into(), used)
}

fn set(sql: &str, words: &[Word]) -> Option<Utility> {
    let is = |n: usize, k: &str| words.get(n).is_some_and(|w| w.is(k));
    if is(1, "transaction") || is(1, "constraints") || is(1, "local") && is(2, "transaction") {
        return local(Effect::TransactionControl, Kind::Transaction);
    }
    if is(1, "session") && is(2, "characteristics") {
        return characteristics(sql, words.get(5..).unwrap_or_default());
    }
    let local_scope = is(1, "local");
    let scoped = local_scope || is(1, "session") && !is(2, "authorization");
    let rest = words.get(if scoped { 2 } else { 1 }..)?;
    let at = |n: usize, k: &str| rest.get(n).is_some_and(|w| w.is(k));
    let (name, value_at): (Box<str>, usize) = if at(0, "time") && at(1, "zone") {
        ("timezone".into(), 2)
    } else if at(0, "session") && at(1, "authorization") {
        ("session_authorization".into(), 2)
    } else if at(0, "role") {
        ("role".into(), 1)
    } else if at(0, "names") {
        ("client_encoding".into(), 1)
    } else if at(0, "schema") {
        ("search_path".into(), 1)
    } else if at(0, "xml") && at(1, "option") {
        ("xmloption".into(), 2)
    } else {
        let (name, used) = setting(rest);
        (name, used)
    };
    let to = rest
        .get(value_at)
        .is_some_and(|w| w.is("to") || w.sign("="));
    let values = rest.get(value_at + usize::from(to)..).unwrap_or_default();
    let value: Option<Box<str>> = match (values.first(), values.last()) {
        (Some(first), _) if first.is("default") => None,
        (Some(first), Some(last)) => Some(sql[first.span.start..last.span.end].into()),
        _ => None,
    };
    if &*name == "standard_conforming_strings" && !is_on(values) {
        return Some(Utility {
            place: Place::Never(
                "standard_conforming_strings cannot be turned off through pgdrover",
                "Write strings with backslash escapes as E'…'.",
            ),
            effect: Effect::None,
            kind: Kind::Session,
            writes: None,
        });
    }
    let effect = Effect::Set {
        name,
        value,
        local: local_scope,
    };
    local(effect, Kind::Session)
}

/// SET SESSION CHARACTERISTICS AS TRANSACTION: another spelling of up to three settings, of which
/// a statement that the session repeats can concern only one.
fn characteristics(sql: &str, modes: &[Word]) -> Option<Utility> {
    let has = |k: &str| modes.iter().any(|w| w.is(k));
    let named = [
        (has("isolation"), "default_transaction_isolation"),
        // READ alone may be the READ of READ COMMITTED.
        (has("only") || has("write"), "default_transaction_read_only"),
        (has("deferrable"), "default_transaction_deferrable"),
    ];
    let mut settings = named.into_iter().filter(|(has, _)| *has);
    let (Some((_, name)), None) = (settings.next(), settings.next()) else {
        return Some(Utility {
            place: Place::Never(
                "several transaction characteristics cannot be set by one statement through pgdrover",
                "Set one at a time, or default_transaction_isolation and its kin.",
            ),
            effect: Effect::None,
            kind: Kind::Session,
            writes: None,
        });
    };
    let (Some(first), Some(last)) = (modes.first(), modes.last()) else {
        return None;
    };
    let effect = Effect::Set {
        name: name.into(),
        value: Some(sql[first.span.start..last.span.end].into()),
        local: false,
    };
    local(effect, Kind::Session)
}

/// Whether a boolean setting's value is surely on (or the default).
fn is_on(values: &[Word]) -> bool {
    match values {
        [one] if one.kind == WordKind::Plain => {
            matches!(&*one.text, "on" | "true" | "yes" | "default")
        }
        // psql and drivers write 'on'; a string's text is not kept here.
        [one] if one.kind == WordKind::String => one.span.len() == 4,
        [one] => &*one.text == "1",
        _ => false,
    }
}
