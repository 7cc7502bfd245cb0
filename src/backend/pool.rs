//! The connections to one server for one user and database, and the lease on one of them.
//!
//! deadpool keeps the queue of connections and the queue of waiters (first come, first served);
//! what a connection must be to go back is decided here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool::managed::{
    self, Metrics, PoolError, QueueMode, RecycleError, RecycleResult, Timeouts,
};

use crate::telemetry::metrics::ServerMetrics;
use crate::topology::Address;
use crate::wire;

use super::conn::Conn;
use super::connect::{Login, Tls, connect};
use super::{Error, Settings};

/// Opens connections and says whether one that rested may be used.
struct Manager {
    address: Address,
    login: Login,
    tls: Tls,
    connect_timeout: Duration,
    lifetime: Duration,
    max_prepared: usize,
    metrics: ServerMetrics,
}

impl managed::Manager for Manager {
    type Type = Box<Conn>;
    type Error = Error;

    async fn create(&self) -> Result<Box<Conn>, Error> {
        let attempt = connect(&self.address, &self.login, &self.tls);
        let login = tokio::time::timeout(self.connect_timeout, attempt)
            .await
            .map_err(|_| {
                let cause = format!("no answer within {:?}", self.connect_timeout);
                Error::Connect {
                    server: self.address.clone(),
                    cause,
                }
            })??;
        self.metrics.opened();
        Ok(Box::new(Conn::new(login, self.max_prepared)))
    }

    async fn recycle(&self, conn: &mut Box<Conn>, _: &Metrics) -> RecycleResult<Error> {
        let reason = if !(conn.is_clean() && conn.port.is_quiet()) {
            // A server that went away, or spoke unasked, while the connection rested.
            "server_closed"
        } else if conn.opened().elapsed() >= self.lifetime {
            "lifetime"
        } else {
            return Ok(());
        };
        self.metrics.closed(reason);
        Err(RecycleError::message(reason))
    }
}

type Object = managed::Object<Manager>;

/// The pool of one (server, user, database).
pub struct ServerPool {
    pool: managed::Pool<Manager>,
    address: Address,
    wait_timeout: Duration,
    idle_timeout: Duration,
    metrics: ServerMetrics,
    /// The numbers of active and idle connections that the gauges show.
    reported: Mutex<[i64; 2]>,
}

const NO_WAIT: Timeouts = Timeouts {
    wait: Some(Duration::ZERO),
    create: None,
    recycle: None,
};

impl std::fmt::Debug for ServerPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerPool")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl ServerPool {
    pub(super) fn new(
        address: Address,
        login: Login,
        tls: Tls,
        settings: &Settings,
        metrics: ServerMetrics,
    ) -> Result<Self, managed::BuildError> {
        let manager = Manager {
            address: address.clone(),
            login,
            tls,
            connect_timeout: settings.server_connect_timeout,
            lifetime: settings.server_lifetime,
            max_prepared: settings.max_prepared_statements,
            metrics: metrics.clone(),
        };
        let pool = managed::Pool::builder(manager)
            .max_size(settings.default_pool_size)
            // The connection used last is the one with the warmest caches on the server.
            .queue_mode(QueueMode::Lifo)
            .wait_timeout(Some(settings.query_wait_timeout))
            .runtime(deadpool::Runtime::Tokio1)
            .build()?;
        Ok(ServerPool {
            pool,
            address,
            wait_timeout: settings.query_wait_timeout,
            idle_timeout: settings.server_idle_timeout,
            metrics,
            reported: Mutex::default(),
        })
    }

    /// Where its connections go.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The metrics of its server.
    pub fn metrics(&self) -> &ServerMetrics {
        &self.metrics
    }

    /// A connection that nobody else has, waiting for one if all are in use. Errors: see
    /// [`Error`]; a wait that is given up (the future is dropped) leaves no trace.
    pub async fn checkout(self: &Arc<Self>) -> Result<Lease, Error> {
        // deadpool arms a timer for a wait with a limit: first try without one.
        let object = match self.pool.timeout_get(&NO_WAIT).await {
            Err(PoolError::Timeout(_)) => self.pool.get().await,
            done => done,
        };
        let object = object.map_err(|e| match e {
            PoolError::Backend(e) => e,
            PoolError::Timeout(_) => Error::PoolTimeout {
                server: self.address.clone(),
                waited: self.wait_timeout,
            },
            _ => Error::Closed {
                server: self.address.clone(),
            },
        })?;
        Ok(Lease {
            object: Some(object),
            pool: self.clone(),
        })
    }

    /// Brings the gauges up to date. They are not kept at each checkout, which would cost more than
    /// all the other metrics of a transaction.
    pub(super) fn report(&self) {
        let status = self.pool.status();
        let now = [status.size - status.available, status.available].map(|n| n as i64);
        let mut last = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.active(now[0] - last[0]);
        self.metrics.idle(now[1] - last[1]);
        *last = now;
    }

    /// Closes the connections that rested longer than the limit.
    pub(super) fn retire_idle(&self) {
        let limit = self.idle_timeout;
        let retired = self
            .pool
            .retain(|_, metrics| metrics.last_used() < limit)
            .removed;
        for _ in &retired {
            self.metrics.closed("idle");
        }
    }

    /// Closes the pool: resting connections now, leased ones when they come back.
    pub(super) fn close(&self) {
        let removed = self.pool.retain(|_, _| false).removed;
        for _ in &removed {
            self.metrics.closed("pool_closed");
        }
        self.pool.close();
        self.report();
    }
}

/// The exclusive use of one connection.
///
/// Dropping a lease closes the connection, since nothing is known of its state; only
/// [`Lease::release`] gives it back, and only if it is proven clean.
pub struct Lease {
    object: Option<Object>,
    pool: Arc<ServerPool>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease")
            .field("server", &self.pool.address)
            .finish_non_exhaustive()
    }
}

impl Lease {
    /// The connection.
    #[expect(
        clippy::expect_used,
        reason = "the object leaves only in functions that consume self"
    )]
    pub fn conn(&mut self) -> &mut Conn {
        self.object
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
            self.discard("dirty");
            return;
        }
        if let Some(object) = self.object.take() {
            drop(object);
        }
    }

    /// Closes the connection; `reason` is the metric's label.
    pub fn discard(mut self, reason: &'static str) {
        self.close(reason);
    }

    fn close(&mut self, reason: &'static str) {
        let Some(object) = self.object.take() else {
            return;
        };
        let mut conn = Object::take(object);
        self.pool.metrics.closed(reason);
        if conn.ledger.is_empty() && !conn.port.wants_flush() {
            // A polite end, so that the server's log shows no broken connection.
            wire::empty_message(&mut conn.port.output, b'X');
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = conn.port.poll_flush(&mut cx);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.close("abandoned");
    }
}
