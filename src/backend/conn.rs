//! One connection to a server, with all that is known of its state.

use std::collections::HashMap;
use std::time::Duration;

use crate::topology::Address;
use crate::wire::{self, Port};

use super::ledger::{Ledger, StatementId};

/// A logged-in connection to a PostgreSQL server.
#[derive(Debug)]
pub struct Conn {
    /// The stream and its queues.
    pub port: Port,
    /// What the server owes.
    pub ledger: Ledger,
    /// The status in the last ReadyForQuery: `I`, `T` or `E`.
    pub status: u8,
    /// The script that brought the server's settings to what its last client wanted; empty for a
    /// connection as it came from login. Opaque here: compared, never read.
    pub settings: std::sync::Arc<str>,
    /// Where it goes.
    pub address: Address,
    /// The server process's number and secret, for cancel.
    pub key: (i32, i32),
    /// The number by which the client that has it knows its server process.
    pub tenant: i32,
    /// Whether the server is in recovery and so refuses writes, by its own ParameterStatus
    /// `in_hot_standby` (PostgreSQL 14).
    pub in_recovery: bool,
    /// Whether a backslash in a plain string literal is a backslash: the router reads literals so.
    pub plain_strings: bool,
    parameters: Vec<(String, String)>,
    prepared: Prepared,
    /// When it was opened, by its pool's coarse clock.
    pub(super) opened: Duration,
    /// When it last came back to its pool, by the same clock.
    pub(super) rested: Duration,
}

const STRINGS: &str = "standard_conforming_strings";

/// What a connection brings from login.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) port: Port,
    pub(super) address: Address,
    pub(super) key: (i32, i32),
    pub(super) in_recovery: bool,
    pub(super) parameters: Vec<(String, String)>,
}

impl Conn {
    pub(super) fn new(login: LoggedIn, max_prepared: usize, now: Duration) -> Self {
        Conn {
            port: login.port,
            ledger: Ledger::default(),
            status: b'I',
            settings: "".into(),
            address: login.address,
            key: login.key,
            tenant: login.key.0,
            in_recovery: login.in_recovery,
            plain_strings: !login
                .parameters
                .iter()
                .any(|(n, v)| n == STRINGS && v == "off"),
            parameters: login.parameters,
            prepared: Prepared::new(max_prepared),
            opened: now,
            rested: now,
        }
    }

    /// One that nobody logged in.
    #[cfg(test)]
    pub(crate) fn for_tests(port: Port) -> Self {
        let login = LoggedIn {
            port,
            address: Address {
                host: "test".into(),
                port: 0,
            },
            key: (0, 0),
            in_recovery: false,
            parameters: Vec::new(),
        };
        Conn::new(login, 8, Duration::ZERO)
    }

    /// The values that the server reported at login and since, in its order.
    pub fn parameters(&self) -> &[(String, String)] {
        &self.parameters
    }

    /// Remembers a ParameterStatus body.
    pub fn note_parameter(&mut self, body: &[u8]) {
        let Some((name, rest)) = wire::cstr(body) else {
            return;
        };
        let Some(value) = wire::first_cstr(rest) else {
            return;
        };
        let (name, value) = (
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value),
        );
        match &*name {
            "in_hot_standby" => self.in_recovery = value == "on",
            STRINGS => self.plain_strings = value == "on",
            _ => {}
        }
        match self.parameters.iter_mut().find(|(n, _)| *n == name) {
            Some((_, v)) => *v = value.into_owned(),
            None => self
                .parameters
                .push((name.into_owned(), value.into_owned())),
        }
    }

    /// The statements that exist on the server.
    pub fn prepared(&mut self) -> &mut Prepared {
        &mut self.prepared
    }

    /// Whether another client may have it: nothing owed, no transaction, no byte unread. (What came
    /// since the last read is looked for at the next checkout.)
    pub fn is_clean(&mut self) -> bool {
        self.ledger.is_empty()
            && self.status == b'I'
            && !self.port.wants_flush()
            && self.port.input.is_empty()
    }
}

/// The prepared statements on one server connection, at most so many, the least recently used
/// leaving first.
#[derive(Debug)]
pub struct Prepared {
    used: HashMap<StatementId, u64, foldhash::fast::FixedState>,
    clock: u64,
    max: usize,
}

impl Prepared {
    fn new(max: usize) -> Self {
        Prepared {
            used: HashMap::default(),
            clock: 0,
            max: max.max(1),
        }
    }

    /// Whether the statement exists there; marks it as used.
    pub fn touch(&mut self, id: StatementId) -> bool {
        self.clock += 1;
        match self.used.get_mut(&id) {
            Some(used) => {
                *used = self.clock;
                true
            }
            None => false,
        }
    }

    /// Remembers that it exists.
    pub fn insert(&mut self, id: StatementId) {
        self.clock += 1;
        self.used.insert(id, self.clock);
    }

    /// Forgets all of them: DISCARD ALL or DEALLOCATE ALL removed them from the server.
    pub fn clear(&mut self) {
        self.used.clear();
    }

    /// The statement to close before another is prepared, if the connection is full. It is
    /// forgotten at once: Close cannot fail outside an aborted batch, and there the connection's
    /// statements are forgotten altogether.
    pub fn make_room(&mut self) -> Option<StatementId> {
        if self.used.len() < self.max {
            return None;
        }
        let oldest = self
            .used
            .iter()
            .min_by_key(|(_, used)| **used)
            .map(|(id, _)| *id)?;
        self.used.remove(&oldest);
        Some(oldest)
    }
}

/// The name of a statement on the servers.
pub fn statement_name(id: StatementId) -> String {
    format!("pgdrover_{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_statement_makes_room() {
        let mut p = Prepared::new(2);
        p.insert(1);
        p.insert(2);
        assert!(p.touch(1));
        assert_eq!(p.make_room(), Some(2));
        assert!(!p.touch(2));
        assert_eq!(p.make_room(), None);
    }
}
