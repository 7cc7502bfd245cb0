//! The settings (GUCs) that a client has changed, and the script that gives them to a server
//! connection.
//!
//! A setting is kept as the statement that sets it, so that every spelling of PostgreSQL's survives
//! unread. Inside a transaction changes are pending: COMMIT makes them the session's, ROLLBACK
//! forgets them, ROLLBACK TO forgets those after the savepoint, as the server does. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::words::words;

/// One change inside a transaction.
#[derive(Clone, Debug, PartialEq)]
enum Change {
    Set(Box<str>, Box<str>),
    Reset(Option<Box<str>>),
    /// SET LOCAL of a setting that [`NAMING`] lists.
    Local(Box<str>),
    Savepoint(Box<str>),
}

/// The settings on which it depends what the names in a statement mean.
const NAMING: [&str; 3] = ["search_path", "role", "session_authorization"];

/// A session's settings.
#[derive(Debug)]
pub(super) struct Gucs {
    /// From the startup packet: what RESET goes back to.
    startup: BTreeMap<Box<str>, Box<str>>,
    /// Name to the statement that sets it.
    current: BTreeMap<Box<str>, Box<str>>,
    pending: Vec<Change>,
    script: Arc<str>,
    naming: Box<str>,
}

/// What the end of a transaction did to a session's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// Nothing.
    No,
    /// Settings were set: the server connection has them too.
    Set,
    /// Some were reset: the server connection went back to its own defaults, which may differ from
    /// the client's startup packet.
    Reset,
}

/// What stands for a server connection whose settings nobody knows: no script is equal to it.
pub(super) const UNKNOWN: &str = "?";

impl Gucs {
    /// The settings of a startup packet, as (name, value).
    pub(super) fn new<'a>(startup: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let startup: BTreeMap<Box<str>, Box<str>> = startup
            .into_iter()
            .map(|(name, value)| (name.into(), set_config(name, value).into()))
            .collect();
        let mut gucs = Gucs {
            current: startup.clone(),
            startup,
            pending: Vec::new(),
            script: "".into(),
            naming: "".into(),
        };
        gucs.rebuild();
        gucs
    }

    /// The statements that bring a fresh server connection to the session's settings; empty when
    /// there are none. Equal settings give equal scripts.
    pub(super) fn script(&self) -> &Arc<str> {
        &self.script
    }

    /// What decides which tables the names in a statement are: two sessions that are alike in it
    /// mean the same by the same text. Mostly empty.
    pub(super) fn naming(&self) -> Cow<'_, str> {
        if self.pending.is_empty() {
            return Cow::Borrowed(&self.naming);
        }
        let concerns = |name: &str| NAMING.contains(&name);
        let mut all = self.naming.to_string();
        for change in &self.pending {
            match change {
                Change::Set(name, statement) if concerns(name) => all.push_str(statement),
                Change::Local(statement) => all.push_str(statement),
                Change::Reset(name) if name.as_deref().is_none_or(concerns) => {
                    all.push_str("RESET ");
                    all.push_str(name.as_deref().unwrap_or("ALL"));
                }
                _ => continue,
            }
            all.push_str("\n;");
        }
        Cow::Owned(all)
    }

    /// Whether statements come in UTF-8, as far as the client has said.
    pub(super) fn is_utf8(&self) -> bool {
        self.current.get("client_encoding").is_none_or(|statement| {
            let statement = statement.to_ascii_lowercase();
            ["utf8", "utf-8", "unicode", "default"]
                .iter()
                .any(|name| statement.contains(name))
        })
    }

    /// The client ran `statement`, which sets `name`.
    pub(super) fn set(&mut self, name: &str, statement: &str) {
        self.pending
            .push(Change::Set(name.into(), statement.into()));
    }

    /// The client ran `statement`, which sets `name` until the transaction ends.
    pub(super) fn set_local(&mut self, name: &str, statement: &str) {
        if NAMING.contains(&name) {
            self.pending.push(Change::Local(statement.into()));
        }
    }

    /// The client ran RESET of one setting, or of all.
    pub(super) fn reset(&mut self, name: Option<&str>) {
        self.pending.push(Change::Reset(name.map(Into::into)));
    }

    /// What a server must run behind a reset of one setting, or of all, so that it has the startup
    /// packet's values rather than its own; until the transaction ends if `local`.
    pub(super) fn after_reset(&self, name: Option<&str>, local: bool) -> Vec<String> {
        let identity = ["role", "session_authorization"];
        let concerned = self.startup.iter().filter(|(n, _)| match name {
            Some(name) => &***n == name,
            None => !identity.contains(&&***n),
        });
        concerned
            .map(|(_, statement)| match statement.strip_suffix("false)") {
                Some(start) if local => format!("{start}true)"),
                _ => statement.to_string(),
            })
            .collect()
    }

    /// The client ran SAVEPOINT, RELEASE or ROLLBACK TO: `text` is the statement.
    pub(super) fn transaction_control(&mut self, text: &str) {
        let words = words(text);
        // The name stands last in all of them, and may be spelt like the words before it.
        let (Some(first), Some(name)) = (words.first(), words.last()) else {
            return;
        };
        let name = name.as_str();
        let mark = Change::Savepoint(name.into());
        let at = self.pending.iter().rposition(|c| *c == mark);
        match (first.as_str(), at) {
            ("savepoint", _) => self.pending.push(mark),
            ("rollback" | "abort", Some(at)) => self.pending.truncate(at + 1),
            ("release", Some(at)) => {
                let later = self.pending.split_off(at);
                let kept = |c: &Change| !matches!(c, Change::Savepoint(_));
                self.pending.extend(later.into_iter().filter(kept));
            }
            _ => {}
        }
    }

    /// The transaction ended, or a statement outside any succeeded.
    pub(super) fn end(&mut self, committed: bool) -> Changed {
        let pending = std::mem::take(&mut self.pending);
        if !committed || pending.is_empty() {
            return Changed::No;
        }
        let reset = pending.iter().any(|c| matches!(c, Change::Reset(_)));
        for change in pending {
            match change {
                Change::Set(name, statement) => {
                    self.ends_role(&name);
                    self.current.insert(name, statement);
                }
                Change::Reset(Some(name)) => {
                    self.ends_role(&name);
                    match self.startup.get(&name) {
                        Some(statement) => self.current.insert(name, statement.clone()),
                        None => self.current.remove(&name),
                    };
                }
                Change::Reset(None) => self.reset_all(),
                Change::Local(_) | Change::Savepoint(_) => {}
            }
        }
        self.rebuild();
        if reset { Changed::Reset } else { Changed::Set }
    }

    /// Another session user has no role set, whichever there was.
    fn ends_role(&mut self, name: &str) {
        if name == "session_authorization" {
            self.current.remove("role");
        }
    }

    /// RESET ALL leaves the role alone, as PostgreSQL does.
    fn reset_all(&mut self) {
        let identity = ["role", "session_authorization"];
        let kept: Vec<_> = identity
            .iter()
            .filter_map(|name| self.current.remove_entry(*name))
            .collect();
        self.current = self.startup.clone();
        self.current.extend(kept);
    }

    /// DISCARD ALL: everything back to the startup packet.
    pub(super) fn discard(&mut self) {
        self.pending.clear();
        self.current = self.startup.clone();
        self.rebuild();
    }

    fn rebuild(&mut self) {
        let mut script = String::new();
        // The session's user first: what follows is done as that user.
        let identity = ["session_authorization", "role"];
        let rank = |name: &str| {
            identity
                .iter()
                .position(|i| *i == name)
                .unwrap_or(identity.len())
        };
        let mut entries: Vec<_> = self.current.iter().collect();
        entries.sort_by_key(|(name, _)| (rank(name), *name));
        for (_, statement) in entries {
            script.push_str(statement);
            // On a line of its own: the statement may end with a comment.
            script.push_str("\n;");
        }
        self.script = script.into();
        let naming = NAMING.iter().filter_map(|name| self.current.get(*name));
        self.naming = naming.map(|s| format!("{s}\n;")).collect::<String>().into();
    }
}

/// What to run on a server connection whose settings were brought about by `from`, so that they
/// become those of `to`.
pub(super) fn transition(from: &str, to: &str) -> String {
    if from.is_empty() {
        return to.to_owned();
    }
    format!("RESET SESSION AUTHORIZATION;\nRESET ROLE;\nRESET ALL;\n{to}")
}

/// A statement that sets `name` to `value` in the form that startup packets use, where a list is
/// one string.
fn set_config(name: &str, value: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config({}, {}, false)",
        quote(name),
        quote(value)
    )
}

/// An SQL string literal that means the same whatever `standard_conforming_strings` is.
fn quote(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "''");
    format!("E'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(gucs: &mut Gucs) -> String {
        gucs.end(true);
        gucs.script().to_string()
    }

    #[test]
    fn commit_keeps_and_rollback_forgets() {
        let mut g = Gucs::new([]);
        g.set("work_mem", "SET work_mem = '1MB'");
        assert_eq!(g.end(false), Changed::No);
        assert_eq!(&**g.script(), "");
        g.set("work_mem", "SET work_mem = '1MB'");
        assert_eq!(committed(&mut g), "SET work_mem = '1MB'\n;");
    }

    #[test]
    fn rollback_to_a_savepoint_forgets_what_came_after() {
        let mut g = Gucs::new([]);
        g.set("a", "SET a=1");
        g.transaction_control("SAVEPOINT s");
        g.set("b", "SET b=2");
        g.transaction_control("rollback work to savepoint S;");
        g.set("c", "SET c=3");
        assert_eq!(committed(&mut g), "SET a=1\n;SET c=3\n;");
    }

    #[test]
    fn a_released_savepoint_is_no_mark_any_more() {
        let mut g = Gucs::new([]);
        g.transaction_control("SAVEPOINT s");
        g.set("a", "SET a=1");
        g.transaction_control("SAVEPOINT s -- again");
        g.set("b", "SET b=2");
        g.transaction_control("RELEASE SAVEPOINT s");
        g.transaction_control("/* outer /* nested */ */ ROLLBACK TO s");
        g.set("c", "SET c=3");
        assert_eq!(committed(&mut g), "SET c=3\n;");
    }

    #[test]
    fn reset_goes_back_to_the_startup_packet() {
        let mut g = Gucs::new([("search_path", "a, \"B\"")]);
        let startup = g.script().to_string();
        assert!(startup.contains("E'a, \"B\"'"), "{startup}");
        g.set("search_path", "SET search_path TO x");
        g.set("role", "SET ROLE r");
        g.set("other", "SET other TO 1");
        g.reset(None);
        assert_eq!(committed(&mut g), format!("SET ROLE r\n;{startup}"));
        g.discard();
        assert_eq!(&**g.script(), startup);
    }

    #[test]
    fn an_encoding_other_than_utf8_is_noticed() {
        assert!(Gucs::new([]).is_utf8());
        assert!(Gucs::new([("client_encoding", "UTF8")]).is_utf8());
        assert!(!Gucs::new([("client_encoding", "latin1")]).is_utf8());
        let mut g = Gucs::new([]);
        g.set("client_encoding", "SET NAMES 'sjis'");
        g.end(true);
        assert!(!g.is_utf8());
    }

    #[test]
    fn a_value_cannot_end_its_literal() {
        assert_eq!(quote(r"a'b\"), r"E'a''b\\'");
    }

    #[test]
    fn a_used_connection_is_reset_first() {
        assert_eq!(transition("", "SET a=1;\n"), "SET a=1;\n");
        assert!(transition("SET b=1;\n", "").starts_with("RESET SESSION AUTHORIZATION"));
    }
}
