//! What changed between two configurations, and what of it a running pgdrover cannot take over.

use super::Config;

/// One part that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// A key, a section, or one user or database, such as `listener.port` or `databases.app`.
    pub part: String,
    /// Whether only a restart brings it into effect.
    pub restart: bool,
}

/// The parts in which two configurations differ, in the order of the file.
pub fn compare(old: &Config, new: &Config) -> Vec<Change> {
    let (a, b) = (&old.listener, &new.listener);
    let fixed = [
        ("workers", old.workers != new.workers),
        ("listener.host", a.host != b.host),
        ("listener.port", a.port != b.port),
        (
            "listener.unix_socket_dir",
            a.unix_socket_dir != b.unix_socket_dir,
        ),
        ("http.address", old.http != new.http),
    ];
    let live = [
        (
            "listener.max_client_conn",
            a.max_client_conn != b.max_client_conn,
        ),
        ("log", old.log != new.log),
        ("session", old.session != new.session),
        ("hba", old.hba != new.hba),
        ("pool", old.pool != new.pool),
        ("router", old.router != new.router),
        ("control", old.control != new.control),
    ];
    let change = |restart| {
        move |(part, _): (&str, bool)| Change {
            part: part.into(),
            restart,
        }
    };
    let mut changes: Vec<Change> = Vec::new();
    changes.extend(
        fixed
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(change(true)),
    );
    changes.extend(
        live.into_iter()
            .filter(|(_, differs)| *differs)
            .map(change(false)),
    );
    changes.extend(named("users", &old.users, &new.users, |u| &u.name));
    changes.extend(named("databases", &old.databases, &new.databases, |d| {
        &d.name
    }));
    changes
}

/// Entries that were added, removed or altered, by name.
fn named<T: PartialEq>(section: &str, old: &[T], new: &[T], name: fn(&T) -> &str) -> Vec<Change> {
    let same = |list: &[T], entry: &T| list.iter().any(|other| other == entry);
    let gone = old
        .iter()
        .filter(|o| !new.iter().any(|n| name(n) == name(o)));
    gone.chain(new.iter().filter(|n| !same(old, n)))
        .map(|entry| Change {
            part: format!("{section}.{}", name(entry)),
            restart: false,
        })
        .collect()
}
