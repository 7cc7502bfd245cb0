//! The exclusive use of one connection, and of the place that a connection takes in its pool.

use std::sync::Arc;

use crate::telemetry::metrics::Closed;

use super::conn::Conn;
use super::pool::ServerPool;

/// The exclusive use of one connection.
///
/// Dropping a lease closes the connection, since nothing is known of its state; only
/// [`Lease::release`] gives it back, and only if it is proven clean.
pub struct Lease {
    conn: Option<Box<Conn>>,
    pool: Arc<ServerPool>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("server", self.pool.address())
            .finish_non_exhaustive()
    }
}

impl Lease {
    pub(super) fn new(conn: Box<Conn>, pool: Arc<ServerPool>) -> Self {
        Lease {
            conn: Some(conn),
            pool,
        }
    }

    /// The connection.
    #[expect(
        clippy::expect_used,
        reason = "the connection leaves only in functions that consume self"
    )]
    pub fn conn(&mut self) -> &mut Conn {
        self.conn
            .as_mut()
            .expect("a lease holds its connection until it ends")
    }

    /// The pool that it came from.
    pub fn pool(&self) -> &Arc<ServerPool> {
        &self.pool
    }

    /// Gives the connection back if it is clean, closes it otherwise.
    pub fn release(mut self) {
        if !self.conn().is_clean() {
            self.discard(Closed::Dirty);
        } else if let Some(conn) = self.conn.take() {
            self.pool.put_back(conn);
        }
    }

    /// Closes the connection; `reason` is the metric's label.
    pub fn discard(mut self, reason: Closed) {
        self.end(reason);
    }

    /// Closes the connection and keeps its place, for another one.
    pub(super) fn replace(mut self, reason: Closed) -> Place {
        if let Some(conn) = self.conn.take() {
            self.pool.bury(conn, reason);
        }
        self.pool.reopens();
        Place::new(self.pool.clone())
    }

    fn end(&mut self, reason: Closed) {
        if let Some(conn) = self.conn.take() {
            self.pool.bury(conn, reason);
            self.pool.gone();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end(Closed::Abandoned);
    }
}

/// The right to one connection that is being opened: dropping it gives it back.
pub(super) struct Place(Option<Arc<ServerPool>>);

impl Place {
    pub(super) fn new(pool: Arc<ServerPool>) -> Self {
        Place(Some(pool))
    }

    /// A connection has taken it.
    pub(super) fn fill(mut self, conn: Box<Conn>) -> Option<Lease> {
        let pool = self.0.take()?;
        pool.opened();
        Some(Lease::new(conn, pool))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.opened();
            pool.gone();
        }
    }
}
