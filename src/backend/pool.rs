//! The connections to one server for one user and database, and who waits for them.
//!
//! A checkout takes the connection used last, the one with the warmest caches on the server: one
//! lock, no future and no clock ([`ServerPool::try_checkout`]). All else is the slow way
//! ([`ServerPool::checkout`]), which opens connections as far as the limits allow (its own size, the
//! reserve, the quotas of database and user), and otherwise waits in a queue: what comes back is
//! handed to who came first. (deadpool, which this room used before, has neither limits that pools
//! share, nor a reserve, nor a way to tell all who wait that the server is down.)
//!
//! A place is the right to have one connection; it is taken before a connection is opened and given
//! back when it is closed, so that no limit is ever exceeded. Whenever something becomes free,
//! [`ServerPool::serve`] looks what the first in the queue can be given.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::telemetry::metrics::{Closed, ServerMetrics};
use crate::topology::Address;
use crate::wire;

use super::clock::Clock;
use super::conn::Conn;
use super::connect::{Login, Tls};
use super::lease::{Lease, Place};
use super::outage::Outage;
use super::quota::{Limit, Quota};
use super::waiting::{Grant, Waiting};
use super::{Error, Settings};

/// How many connections a pool has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// At most.
    pub(super) size: usize,
    /// At least, once it has had a client.
    pub(super) min: usize,
    /// More, for a client that has waited for `reserve_pool_timeout`.
    pub(super) reserve: usize,
}

/// What a pool shares with others.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    /// The limits of its database and of its user.
    pub(super) quotas: [Arc<Quota>; 2],
    /// Whether its server can be reached.
    pub(super) server: Arc<Outage>,
    pub(super) clock: Arc<Clock>,
}

/// The pool of one (server, user, database).
pub struct ServerPool {
    pub(super) address: Address,
    pub(super) login: Login,
    pub(super) tls: Tls,
    pub(super) settings: Settings,
    pub(super) sizes: Sizes,
    pub(super) shared: Shared,
    /// Whether its user can log in there.
    pub(super) logins: Outage,
    pub(super) metrics: ServerMetrics,
    state: Mutex<State>,
    /// The numbers of active and idle connections that the gauges show.
    reported: Mutex<[i64; 2]>,
}

#[derive(Default)]
pub(super) struct State {
    /// Connections at rest, in the order in which they came back.
    #[expect(clippy::vec_box, reason = "they move between pool and leases")]
    pub(super) idle: Vec<Box<Conn>>,
    pub(super) waiters: VecDeque<Waiter>,
    /// Places taken: connections at rest, leased, or being opened.
    pub(super) size: usize,
    /// Those of them whose connection is being opened.
    opening: usize,
    next_ticket: u64,
    pub(super) closed: bool,
}

/// Somebody in the queue.
pub(super) struct Waiter {
    pub(super) ticket: u64,
    pub(super) since: Instant,
    grant: oneshot::Sender<Grant>,
}

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
        (settings, sizes): (&Settings, Sizes),
        shared: Shared,
        metrics: ServerMetrics,
    ) -> Arc<Self> {
        let pool = Arc::new(ServerPool {
            address,
            login,
            tls,
            settings: settings.clone(),
            sizes,
            shared,
            logins: Outage::default(),
            metrics,
            state: Mutex::default(),
            reported: Mutex::default(),
        });
        for quota in &pool.shared.quotas {
            quota.join(&pool);
        }
        pool
    }

    /// Where its connections go.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The metrics of its server.
    pub fn metrics(&self) -> &ServerMetrics {
        &self.metrics
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that rests, unless somebody waits for it, or it rested so long that it must be
    /// tested. Costs no clock and no future.
    pub fn try_checkout(self: &Arc<Self>) -> Option<Lease> {
        let mut conn = {
            let mut state = self.lock();
            if !state.waiters.is_empty() || self.wants_check(state.idle.last()?) {
                return None;
            }
            state.idle.pop()?
        };
        let reason = self.unfit(&mut conn);
        let lease = Lease::new(conn, self.clone());
        match reason {
            None => Some(lease),
            Some(reason) => {
                lease.discard(reason);
                None
            }
        }
    }

    /// A connection that nobody else has, waiting for one if all are in use. Errors: see
    /// [`Error`]; a wait that is given up (the future is dropped) leaves no trace.
    pub async fn checkout(self: &Arc<Self>) -> Result<Lease, Error> {
        let grant = match self.ask() {
            Ok(grant) => grant,
            Err(waiting) => waiting.granted().await,
        };
        match grant {
            Grant::Resting(lease) => self.prove(lease).await,
            Grant::Open(place) => self.open(place).await,
            Grant::Failed(error) => Err(error),
        }
    }

    /// Whether a checkout would have to wait.
    pub fn is_full(&self) -> bool {
        let state = self.lock();
        !state.waiters.is_empty() || state.idle.is_empty() && state.size >= self.sizes.size
    }

    /// What can be given at once, or else a place in the queue.
    fn ask(self: &Arc<Self>) -> Result<Grant, Waiting> {
        // A place that another pool gives up may be taken by a third: not for ever.
        for _ in 0..3 {
            let mut state = self.lock();
            if state.closed {
                return Ok(Grant::Failed(self.closed_error()));
            }
            if !state.waiters.is_empty() {
                break;
            }
            if let Some(grant) = self.grant(&mut state, Duration::ZERO) {
                return Ok(grant);
            }
            drop(state);
            if !self.make_room() {
                break;
            }
        }
        let (grant, granted) = oneshot::channel();
        let since = Instant::now();
        let ticket = {
            let mut state = self.lock();
            let ticket = state.next_ticket;
            state.next_ticket += 1;
            state.waiters.push_back(Waiter {
                ticket,
                since,
                grant,
            });
            ticket
        };
        let waiting = Waiting::begin(self.clone(), ticket, since, granted);
        // What became free before it was known that somebody waits.
        self.serve();
        if self.first_in_need().is_some() {
            self.make_room();
        }
        Err(waiting)
    }

    /// What somebody who has waited so long can be given now.
    fn grant(self: &Arc<Self>, state: &mut State, waited: Duration) -> Option<Grant> {
        if let Some(conn) = state.idle.pop() {
            return Some(Grant::Resting(Lease::new(conn, self.clone())));
        }
        if let Some(error) = self.trouble() {
            // As long as there are connections, one of them may come back.
            let alone = state.size == state.opening;
            return alone.then_some(Grant::Failed(error));
        }
        self.take_place(state, waited).ok()?;
        Some(Grant::Open(Place::new(self.clone())))
    }

    /// Why no connection can be opened now.
    fn trouble(&self) -> Option<Error> {
        let now = Instant::now();
        let server = self.shared.server.cause(now);
        server.or_else(|| self.logins.cause(now))
    }

    pub(super) fn take_place(&self, state: &mut State, waited: Duration) -> Result<(), Limit> {
        let patience = self.settings.reserve_pool_timeout;
        let reserve = match !patience.is_zero() && waited >= patience {
            true => self.sizes.reserve,
            false => 0,
        };
        if state.size >= self.sizes.size + reserve {
            return Err(Limit::Pool(self.sizes.size + reserve));
        }
        let [database, user] = &self.shared.quotas;
        database.take()?;
        user.take().inspect_err(|_| database.give())?;
        state.size += 1;
        state.opening += 1;
        Ok(())
    }

    /// The limit that keeps a client of this pool waiting, for its error.
    pub(super) fn full(&self) -> Limit {
        let mut state = self.lock();
        let limit = self.take_place(&mut state, Duration::MAX);
        if limit.is_ok() {
            state.size -= 1;
            state.opening -= 1;
            self.shared.quotas.iter().for_each(|q| q.give());
        }
        limit.err().unwrap_or(Limit::Pool(self.sizes.size))
    }

    /// Takes a place under a common limit from a connection that rests in another pool.
    fn make_room(&self) -> bool {
        let mut full = self.shared.quotas.iter().filter(|q| q.is_full()).peekable();
        full.peek().is_some()
            && self.lock().size < self.sizes.size
            && full.all(|q| q.evict_for(self))
    }

    /// Gives the first in the queue what there is, and so on.
    pub(super) fn serve(self: &Arc<Self>) {
        let mut returned = Vec::new();
        let mut state = self.lock();
        while let Some(first) = state.waiters.front() {
            let waited = first.since.elapsed();
            let Some(grant) = self.grant(&mut state, waited) else {
                break;
            };
            if let Some(first) = state.waiters.pop_front() {
                returned.extend(first.grant.send(grant).err());
            }
        }
        drop(state);
        // What was refused is given back without the lock.
        drop(returned);
    }

    /// Since when the first in the queue waits, if only a common limit is in the way.
    pub(super) fn first_in_need(&self) -> Option<Instant> {
        let state = self.lock();
        let first = state.waiters.front()?;
        (state.size < self.sizes.size).then_some(first.since)
    }

    /// Since when its first connection at rest does.
    pub(super) fn rests_since(&self) -> Option<Duration> {
        Some(self.lock().idle.first()?.rested)
    }

    /// Closes the connection that rests longest.
    pub(super) fn evict(self: &Arc<Self>) -> bool {
        let mut state = self.lock();
        if state.idle.is_empty() {
            return false;
        }
        let conn = state.idle.remove(0);
        drop(state);
        Lease::new(conn, self.clone()).discard(Closed::Evicted);
        true
    }

    /// Takes a clean connection back.
    pub(super) fn put_back(self: &Arc<Self>, mut conn: Box<Conn>) {
        conn.rested = self.shared.clock.now();
        if self.shared.quotas.iter().any(|q| q.is_wanted()) && self.owes() {
            return Lease::new(conn, self.clone()).discard(Closed::Evicted);
        }
        let mut state = self.lock();
        if state.waiters.is_empty() && !state.closed && state.size <= self.sizes.size {
            return state.idle.push(conn);
        }
        let lease = Lease::new(conn, self.clone());
        let reason = match state.closed {
            true => Closed::PoolClosed,
            false => Closed::Surplus,
        };
        let returned = match state.waiters.pop_front() {
            Some(first) => first.grant.send(Grant::Resting(lease)),
            None => Err(Grant::Resting(lease)),
        };
        drop(state);
        if let Err(Grant::Resting(lease)) = returned {
            lease.discard(reason);
        }
    }

    /// Whether another pool is to have the place of a connection that comes back.
    fn owes(&self) -> bool {
        let own = self.lock().waiters.front().map(|w| w.since);
        let mut quotas = self.shared.quotas.iter();
        quotas.any(|q| q.is_full() && q.is_owed(self, own))
    }

    /// A connection that is being opened is there, or will not be.
    pub(super) fn opened(&self) {
        self.lock().opening -= 1;
    }

    /// A connection was closed, to open another in its place.
    pub(super) fn reopens(&self) {
        self.lock().opening += 1;
    }

    /// A place has become free.
    pub(super) fn gone(self: &Arc<Self>) {
        self.lock().size -= 1;
        for quota in &self.shared.quotas {
            quota.give();
        }
        for quota in &self.shared.quotas {
            if quota.is_wanted() {
                quota.offer();
            }
        }
        self.serve();
    }

    /// Closes a connection. Its place remains to be given back.
    pub(super) fn bury(&self, mut conn: Box<Conn>, reason: Closed) {
        self.metrics.closed(reason);
        if conn.ledger.is_empty() && !conn.port.wants_flush() {
            // A polite end, so that the server's log shows no broken connection.
            wire::empty_message(&mut conn.port.output, b'X');
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = conn.port.poll_flush(&mut cx);
        }
    }

    /// Why a connection that rested cannot be given out.
    pub(super) fn unfit(&self, conn: &mut Conn) -> Option<Closed> {
        if !(conn.is_clean() && conn.port.is_quiet()) {
            return Some(Closed::ServerClosed);
        }
        let age = self.shared.clock.now().saturating_sub(conn.opened);
        (age >= self.settings.server_lifetime).then_some(Closed::Lifetime)
    }

    pub(super) fn wants_check(&self, conn: &Conn) -> bool {
        let rested = self.shared.clock.now().saturating_sub(conn.rested);
        rested >= self.settings.server_check_delay && !self.settings.server_check_query.is_empty()
    }

    pub(super) fn closed_error(&self) -> Error {
        Error::Closed {
            server: self.address.clone(),
        }
    }

    /// Brings the gauges up to date. They are not kept at each checkout, which would cost more than
    /// all the other metrics of a transaction.
    pub(super) fn report(&self) {
        let now = {
            let state = self.lock();
            [state.size - state.idle.len(), state.idle.len()].map(|n| n as i64)
        };
        let mut last = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.active(now[0] - last[0]);
        self.metrics.idle(now[1] - last[1]);
        *last = now;
    }

    /// Looks through the connections at rest: closes those that the server closed, that are too old,
    /// or that rested too long, and opens what lacks to the least that there shall be.
    pub(super) fn maintain(self: &Arc<Self>) {
        let now = self.shared.clock.now();
        let mut state = self.lock();
        let mut spare = state.size.saturating_sub(self.sizes.min);
        let mut unfit = Vec::new();
        for mut conn in std::mem::take(&mut state.idle) {
            let rested = now.saturating_sub(conn.rested);
            let reason = match self.unfit(&mut conn) {
                None if rested >= self.settings.server_idle_timeout && spare > 0 => {
                    spare -= 1;
                    Some(Closed::Idle)
                }
                reason => reason,
            };
            match reason {
                Some(reason) => unfit.push((conn, reason)),
                None => state.idle.push(conn),
            }
        }
        let lacks = state.size - unfit.len() < self.sizes.min.min(self.sizes.size);
        drop(state);
        for (conn, reason) in unfit {
            Lease::new(conn, self.clone()).discard(reason);
        }
        if lacks {
            tokio::spawn(self.clone().fill());
        }
        // Who waits though the server was in trouble may have another try now.
        self.serve();
    }

    /// Closes the pool: resting connections now, leased ones when they come back.
    pub(super) fn close(self: &Arc<Self>) {
        let (idle, waiters) = {
            let mut state = self.lock();
            state.closed = true;
            (
                std::mem::take(&mut state.idle),
                std::mem::take(&mut state.waiters),
            )
        };
        for waiter in waiters {
            let _ = waiter.grant.send(Grant::Failed(self.closed_error()));
        }
        for conn in idle {
            Lease::new(conn, self.clone()).discard(Closed::PoolClosed);
        }
        self.report();
    }
}
