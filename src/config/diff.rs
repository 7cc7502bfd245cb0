//! What changed between two configurations, and what of it a running pgdrover takes over.

use super::{Config, DatabaseConfig};
use crate::session;

/// What a running pgdrover goes by after a reload: of the new configuration all that concerns
/// logins (`[[users]]`, `[[hba]]`, `auth_query`, TLS towards clients), and the rest as it runs.
pub fn live(running: &Config, new: &Config) -> Config {
    let (was, session) = (&running.session, &new.session);
    let database = |database: &DatabaseConfig| {
        let same = |d: &&DatabaseConfig| d.name == database.name;
        let asked = new.databases.iter().find(same).unwrap_or(database);
        DatabaseConfig {
            auth_user: asked.auth_user.clone(),
            auth_query: asked.auth_query.clone(),
            auth_dbname: asked.auth_dbname.clone(),
            ..database.clone()
        }
    };
    Config {
        session: session::Settings {
            query_timeout: was.query_timeout,
            idle_transaction_timeout: was.idle_transaction_timeout,
            client_idle_timeout: was.client_idle_timeout,
            max_client_statements: was.max_client_statements,
            max_statement_memory: was.max_statement_memory,
            max_message_size: was.max_message_size,
            max_db_client_connections: was.max_db_client_connections,
            ..session.clone()
        },
        hba: new.hba.clone(),
        users: new.users.clone(),
        databases: running.databases.iter().map(database).collect(),
        ..running.clone()
    }
}

/// The parts in which two configurations differ, in the order of the file: a key, a section, or one
/// user or database, such as `listener.port` or `databases.app`.
pub fn compare(old: &Config, new: &Config) -> Vec<String> {
    let (a, b) = (&old.listener, &new.listener);
    let (s, t) = (&old.session, &new.session);
    // The session's keys that are not told one by one.
    let rest = &live(old, new).session;
    let parts = [
        ("workers", old.workers != new.workers),
        ("listener.host", a.host != b.host),
        ("listener.port", a.port != b.port),
        (
            "listener.unix_socket_dir",
            a.unix_socket_dir != b.unix_socket_dir,
        ),
        (
            "listener.max_client_conn",
            a.max_client_conn != b.max_client_conn,
        ),
        ("http.address", old.http != new.http),
        ("log", old.log != new.log),
        ("session.query_timeout", s.query_timeout != t.query_timeout),
        (
            "session.idle_transaction_timeout",
            s.idle_transaction_timeout != t.idle_transaction_timeout,
        ),
        (
            "session.client_idle_timeout",
            s.client_idle_timeout != t.client_idle_timeout,
        ),
        (
            "session.max_client_statements",
            s.max_client_statements != t.max_client_statements,
        ),
        (
            "session.max_statement_memory",
            s.max_statement_memory != t.max_statement_memory,
        ),
        (
            "session.max_message_size",
            s.max_message_size != t.max_message_size,
        ),
        (
            "session.max_db_client_connections",
            s.max_db_client_connections != t.max_db_client_connections,
        ),
        ("session", s != rest),
        ("pool", old.pool != new.pool),
        ("router", old.router != new.router),
        ("control", old.control != new.control),
        ("hba", old.hba != new.hba),
    ];
    let differ = parts.into_iter().filter(|(_, differ)| *differ);
    let mut changes: Vec<String> = differ.map(|(part, _)| part.to_owned()).collect();
    changes.extend(named("users", &old.users, &new.users, |u| &u.name));
    changes.extend(named("databases", &old.databases, &new.databases, |d| {
        &d.name
    }));
    changes
}

/// Entries that were added, removed or altered, by name.
fn named<T: PartialEq>(section: &str, old: &[T], new: &[T], name: fn(&T) -> &str) -> Vec<String> {
    let same = |list: &[T], entry: &T| list.iter().any(|other| other == entry);
    let gone = old
        .iter()
        .filter(|o| !new.iter().any(|n| name(n) == name(o)));
    gone.chain(new.iter().filter(|n| !same(old, n)))
        .map(|entry| format!("{section}.{}", name(entry)))
        .collect()
}
