//! State that cannot leave its server connection: a session that has some keeps the connection,
//! and gives it back when the state is gone.
//!
//! ```text
//! a statement makes state ──▶ pinned, with the reason ──▶ a statement may have ended it, or its
//!                               ▲      transaction did: at the boundary the server is asked
//!                               └── something is left ──┘  └── nothing ──▶ cleaned, back to the pool
//! ```
//!
//! Only then is it asked, behind the client's back: no other statement costs more. State of which a
//! server can say nothing lasts until DISCARD ALL, or the client's end.

use tracing::debug;

use super::client::Client;
use crate::backend::{Conn, PoolMode, Sent};
use crate::executor::{Held, Progress, settle};
use crate::plan::Pin;
use crate::telemetry::metrics::Closed;
use crate::wire;

/// A row for each kind of state that the session has on this connection; all names are qualified,
/// since the client's search_path is in force. Temporary objects of all kinds depend on their
/// schema.
const LEFT: &str = "SELECT 1 FROM pg_catalog.pg_listening_channels() \
    UNION ALL SELECT 1 FROM pg_catalog.pg_prepared_statements WHERE from_sql \
    UNION ALL SELECT 1 FROM pg_catalog.pg_cursors WHERE is_holdable \
    UNION ALL SELECT 1 FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
    AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() \
    UNION ALL SELECT 1 FROM pg_catalog.pg_depend \
    WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass \
    AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 1";

/// Longest that cleaning a connection may take.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(5);

/// What the statements since the last boundary did to state on the held connection.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// They may have made some.
    made: bool,
    /// It may be gone.
    gone: bool,
}

impl Doubt {
    /// State was made, or it was tried.
    fn made(&mut self, reason: Pin) {
        self.made = true;
        // A lock that was only tried for may not be held.
        self.gone |= reason == Pin::AdvisoryLock;
    }

    /// A statement ran that ends state.
    pub(super) fn released(&mut self) {
        self.gone = true;
    }

    /// A transaction block ended, and what was made in it may have gone with it.
    pub(super) fn block_ended(&mut self) {
        self.gone |= self.made;
    }

    /// ReadyForQuery outside a block; `failed` if a statement before it did.
    pub(super) fn boundary(&mut self, failed: bool) {
        self.gone |= self.made && failed;
        self.made = false;
    }

    fn take(&mut self) -> bool {
        std::mem::take(&mut self.gone)
    }
}

impl Client {
    fn session_mode(&self) -> bool {
        self.user.pool_mode == PoolMode::Session
    }

    /// Whether the session has state on a server connection. State is made on primaries, so that
    /// is where all its statements go, reads included: a temporary table is on no replica.
    pub(super) fn has_state(&self) -> bool {
        self.pinned.is_some()
    }

    /// Whether connections stay with the session when a transaction ends.
    pub(super) fn keeps(&self) -> bool {
        self.pinned.is_some() || self.session_mode()
    }

    /// The session has state on its connection that cannot be had elsewhere.
    pub(super) fn pin(&mut self, reason: Pin) {
        self.state.made(reason);
        self.server_names |= reason == Pin::Prepare;
        let worse = |now: Pin| now.can_be_asked() && !reason.can_be_asked();
        if self.pinned.is_none_or(worse) {
            self.forget_pin();
            self.server_names |= reason == Pin::Prepare;
            debug!(pid = self.me.pid, database = %self.served.name, reason = reason.as_str(), "session pinned");
            self.served.metrics.pinned(reason.as_str());
            self.pinned = Some(reason);
        }
    }

    /// The session has no such state any more.
    pub(super) fn forget_pin(&mut self) {
        self.server_names = false;
        if let Some(reason) = self.pinned.take() {
            debug!(pid = self.me.pid, database = %self.served.name, reason = reason.as_str(), "session unpinned");
            self.served.metrics.unpinned(reason.as_str());
        }
    }

    /// Keeps a connection, unless the state that it was kept for is gone.
    pub(super) async fn keep(&mut self, mut held: Held) {
        let asked = self.state.take() && self.pinned.is_some_and(Pin::can_be_asked);
        if !asked || has_state(held.lease.conn()).await {
            self.pins.push(held);
            return;
        }
        // On other shards there may be more.
        let mut left = false;
        let mut empty = vec![held];
        for mut other in std::mem::take(&mut self.pins) {
            if has_state(other.lease.conn()).await {
                left = true;
                self.pins.push(other);
            } else {
                empty.push(other);
            }
        }
        if !left {
            self.forget_pin();
        }
        for held in empty {
            if self.session_mode() {
                self.pins.push(held);
            } else {
                give_back(held).await;
            }
        }
    }

    /// The state for which connections were pinned is gone, or the client: they go back.
    pub(super) async fn unpin(&mut self) {
        self.forget_pin();
        for held in std::mem::take(&mut self.pins) {
            give_back(held).await;
        }
    }
}

/// Whether anything is left on a connection that only its session may use. When in doubt there is.
async fn has_state(conn: &mut Conn) -> bool {
    if !conn.is_clean() {
        return true;
    }
    wire::query(&mut conn.port.output, LEFT);
    conn.ledger.sent(Sent::Quiet, false);
    let mut progress = Progress::default();
    let settled = settle(conn, &mut progress).await;
    settled.is_err() || progress.failed || progress.hidden_rows > 0
}

/// Cleans a connection that was pinned, so that another client may have it.
async fn give_back(mut held: Held) {
    let conn = held.lease.conn();
    if conn.is_clean() {
        conn.settings = "".into();
        conn.prepared().clear();
        let discard = super::hold::run_aside(conn, "DISCARD ALL");
        let cleaned = tokio::time::timeout(LONGEST, discard).await;
        if matches!(cleaned, Ok(Ok(()))) {
            return held.lease.release();
        }
    }
    held.lease.discard(Closed::Pinned);
}
