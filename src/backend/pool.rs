//! The connections to one server for one user and database, and the lease on one of them.
//!
//! deadpool keeps the bound, the queue of waiters (first come, first served) and the making of new
//! connections; what a connection must be to go back is decided here.
//!
//! A connection that comes back while nobody waits is not given to deadpool but laid on a stack of
//! warm ones, from which the next checkout takes it without a future, a permit or a clock. To
//! deadpool it is still in use, so as soon as somebody waits, what comes back goes to deadpool.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    clock: Clock,
}

/// Time since the pool began, as of the last upkeep: good enough for limits of minutes, and it
/// costs a checkout nothing.
struct Clock {
    began: Instant,
    millis: AtomicU64,
}

impl Clock {
    fn new() -> Self {
        Clock {
            began: Instant::now(),
            millis: AtomicU64::new(0),
        }
    }

    fn set(&self) {
        let millis = self.began.elapsed().as_millis() as u64;
        self.millis.store(millis, Ordering::Relaxed);
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
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
        Ok(Box::new(Conn::new(
            login,
            self.max_prepared,
            self.clock.now(),
        )))
    }

    async fn recycle(&self, conn: &mut Box<Conn>, _: &Metrics) -> RecycleResult<Error> {
        self.usable(conn).map_err(|reason| {
            self.metrics.closed(reason);
            RecycleError::message(reason)
        })
    }
}

impl Manager {
    /// Whether a connection that rested may be given out; if not, why.
    fn usable(&self, conn: &mut Conn) -> Result<(), &'static str> {
        if !(conn.is_clean() && conn.port.is_quiet()) {
            // A server that went away, or spoke unasked, while the connection rested.
            return Err("server_closed");
        }
        if self.clock.now().saturating_sub(conn.opened) >= self.lifetime {
            return Err("lifetime");
        }
        Ok(())
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
    /// Connections at rest that deadpool takes for ones in use; the last is the one used last.
    warm: Mutex<Vec<Object>>,
    /// How many checkouts are with deadpool: as long as there are any, nothing is kept warm.
    asking: AtomicUsize,
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
            clock: Clock::new(),
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
            warm: Mutex::default(),
            asking: AtomicUsize::new(0),
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

    fn warm(&self) -> MutexGuard<'_, Vec<Object>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A warm connection, if there is one and nobody waits for it. Costs no clock and no future.
    pub fn try_checkout(self: &Arc<Self>) -> Option<Lease> {
        if self.asking.load(Ordering::SeqCst) > 0 {
            return None;
        }
        self.take_warm()
    }

    fn take_warm(self: &Arc<Self>) -> Option<Lease> {
        loop {
            let mut object = self.warm().pop()?;
            match self.pool.manager().usable(&mut object) {
                Ok(()) => return Some(self.lease(object)),
                Err(reason) => {
                    self.metrics.closed(reason);
                    drop(Object::take(object));
                }
            }
        }
    }

    /// A connection that nobody else has, waiting for one if all are in use. Errors: see
    /// [`Error`]; a wait that is given up (the future is dropped) leaves no trace.
    pub async fn checkout(self: &Arc<Self>) -> Result<Lease, Error> {
        if let Some(lease) = self.try_checkout() {
            return Ok(lease);
        }
        let _asking = Asking::begin(&self.asking);
        // Again: what came back before it was known that somebody asks.
        if let Some(lease) = self.take_warm() {
            return Ok(lease);
        }
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
        Ok(self.lease(object))
    }

    fn lease(self: &Arc<Self>, object: Object) -> Lease {
        Lease {
            object: Some(object),
            pool: self.clone(),
        }
    }

    /// Takes a clean connection back.
    fn put_back(&self, mut object: Object) {
        object.rested = self.pool.manager().clock.now();
        if self.is_asked() {
            return drop(object);
        }
        self.warm().push(object);
        // Whoever began to ask in between has not seen it.
        if self.is_asked() {
            let object = self.warm().pop();
            drop(object);
        }
    }

    /// Whether what comes back is deadpool's: somebody asks there, or the pool was closed.
    fn is_asked(&self) -> bool {
        self.asking.load(Ordering::SeqCst) > 0 || self.pool.is_closed()
    }

    /// Brings the gauges up to date. They are not kept at each checkout, which would cost more than
    /// all the other metrics of a transaction.
    pub(super) fn report(&self) {
        let status = self.pool.status();
        let idle = status.available + self.warm().len();
        let now = [status.size.saturating_sub(idle), idle].map(|n| n as i64);
        let mut last = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.active(now[0] - last[0]);
        self.metrics.idle(now[1] - last[1]);
        *last = now;
    }

    /// Closes the connections that rested longer than the limit. To be called every few seconds:
    /// the time by which connections age is that of the last call.
    pub(super) fn retire_idle(&self) {
        let clock = &self.pool.manager().clock;
        clock.set();
        let now = clock.now();
        let rested = |conn: &Conn| now.saturating_sub(conn.rested) >= self.idle_timeout;
        let warm: Vec<Object> = self.warm().extract_if(.., |o| rested(o)).collect();
        let kept = self.pool.retain(|conn, _| !rested(conn));
        let retired = warm.into_iter().map(Object::take).chain(kept.removed);
        for _ in retired {
            self.metrics.closed("idle");
        }
    }

    /// Closes the pool: resting connections now, leased ones when they come back.
    pub(super) fn close(&self) {
        self.pool.close();
        let warm = std::mem::take(&mut *self.warm());
        let rested = self.pool.retain(|_, _| false).removed;
        for _ in warm.into_iter().map(Object::take).chain(rested) {
            self.metrics.closed("pool_closed");
        }
        self.report();
    }
}

/// A checkout that is with deadpool, however it ends.
struct Asking<'a>(&'a AtomicUsize);

impl<'a> Asking<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Asking(count)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
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
            self.pool.put_back(object);
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
