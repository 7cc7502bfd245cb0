//! How many server connections all pools of a database, or of a user, may have together.
//!
//! A pool that is below its own size but at such a limit takes the place of a connection that rests
//! in another pool. If none rests, its client waits; a place that becomes free goes to the pool
//! whose first client has waited longest. A pool with clients of its own keeps its connections,
//! except for a client of another pool that has waited for [`PATIENCE`] longer: otherwise two busy
//! pools would open and close connections all the time, and without that exception one of them
//! could starve the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::pool::ServerPool;

/// How much longer than a pool's own clients another pool's must have waited to get its place.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a limit is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `default_pool_size` or `pool_size`, of so many.
    Pool(usize),
    /// `max_db_connections` of this database, of so many.
    Database(Arc<str>, usize),
    /// `max_user_connections` of this user, of so many.
    User(Arc<str>, usize),
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Limit::Pool(most) => write!(f, "all {most} connections of the pool are in use"),
            Limit::Database(name, most) => write!(
                f,
                "database \"{name}\" has all its {most} server connections (max_db_connections)"
            ),
            Limit::User(name, most) => write!(
                f,
                "user \"{name}\" has all its {most} server connections (max_user_connections)"
            ),
        }
    }
}

/// One such limit.
#[derive(Debug)]
pub(super) struct Quota {
    limit: Limit,
    most: usize,
    used: AtomicUsize,
    waiting: AtomicUsize,
    pools: Mutex<Vec<Weak<ServerPool>>>,
}

impl Quota {
    /// For what is limited; 0 is no limit.
    pub(super) fn new(limit: Limit) -> Self {
        let (Limit::Pool(most) | Limit::Database(_, most) | Limit::User(_, most)) = limit;
        Quota {
            limit,
            most: if most == 0 { usize::MAX } else { most },
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            pools: Mutex::default(),
        }
    }

    fn pools(&self) -> MutexGuard<'_, Vec<Weak<ServerPool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool counts here.
    pub(super) fn join(&self, pool: &Arc<ServerPool>) {
        if self.is_limited() {
            let mut pools = self.pools();
            pools.retain(|p| p.strong_count() > 0);
            pools.push(Arc::downgrade(pool));
        }
    }

    pub(super) fn is_limited(&self) -> bool {
        self.most != usize::MAX
    }

    /// Takes a place for a connection.
    pub(super) fn take(&self) -> Result<(), Limit> {
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
                (used < self.most).then_some(used + 1)
            })
            .map(drop)
            .map_err(|_| self.limit.clone())
    }

    pub(super) fn is_full(&self) -> bool {
        self.used.load(Ordering::Acquire) >= self.most
    }

    /// Gives a place back.
    pub(super) fn give(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }

    /// So many more clients wait in pools that count here.
    pub(super) fn waits(&self, more: bool) {
        if self.is_limited() {
            match more {
                true => self.waiting.fetch_add(1, Ordering::AcqRel),
                false => self.waiting.fetch_sub(1, Ordering::AcqRel),
            };
        }
    }

    /// Whether somebody may want a place here.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    fn others(&self, pool: &ServerPool) -> Vec<Arc<ServerPool>> {
        let pools = self.pools();
        let live = pools.iter().filter_map(Weak::upgrade);
        live.filter(|p| !std::ptr::eq(&**p, pool)).collect()
    }

    /// Closes the connection that rests longest in another pool than `pool`. Returns whether there
    /// was one.
    pub(super) fn evict_for(&self, pool: &ServerPool) -> bool {
        let resting = self
            .others(pool)
            .into_iter()
            .filter_map(|p| Some((p.rests_since()?, p)));
        let longest = resting.min_by_key(|(since, _)| *since);
        longest.is_some_and(|(_, p)| p.evict())
    }

    /// Whether a client of another pool than `pool`, whose own first client waits since `own`, is
    /// to have the next place.
    pub(super) fn is_owed(&self, pool: &ServerPool, own: Option<Instant>) -> bool {
        let others = self.others(pool).into_iter();
        let oldest = others.filter_map(|p| p.first_in_need()).min();
        match (oldest, own) {
            (Some(oldest), Some(own)) => own.saturating_duration_since(oldest) > PATIENCE,
            (oldest, None) => oldest.is_some(),
            (None, _) => false,
        }
    }

    /// A place has become free: offers it to the pools, the one first whose first client has waited
    /// longest.
    pub(super) fn offer(&self) {
        let pools = self.pools().clone();
        let live = pools.iter().filter_map(Weak::upgrade);
        let mut wanting: Vec<_> = live.filter_map(|p| Some((p.first_in_need()?, p))).collect();
        wanting.sort_by_key(|(since, _)| *since);
        for (_, pool) in wanting {
            pool.serve();
        }
    }
}
