//! A client's wait in the queue of a pool, from its first moment to its last.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Error;
use super::lease::{Lease, Place};
use super::pool::ServerPool;

/// What somebody who asks for a connection is given.
pub(super) enum Grant {
    /// A connection that came back.
    Resting(Lease),
    /// The right to open one.
    Open(Place),
    /// Nothing, and why.
    Failed(Error),
}

/// A place in the queue. Dropping it leaves the queue, and gives back what was granted meanwhile.
pub(super) struct Waiting {
    pool: Arc<ServerPool>,
    ticket: u64,
    since: Instant,
    granted: oneshot::Receiver<Grant>,
    /// Whether it may still stand in the queue.
    queued: bool,
}

impl Waiting {
    pub(super) fn begin(
        pool: Arc<ServerPool>,
        ticket: u64,
        since: Instant,
        granted: oneshot::Receiver<Grant>,
    ) -> Self {
        pool.shared.quotas.iter().for_each(|q| q.waits(true));
        Waiting {
            pool,
            ticket,
            since,
            granted,
            queued: true,
        }
    }

    /// Waits for `query_wait_timeout` (for ever if it is 0), and may use the reserve after
    /// `reserve_pool_timeout`.
    pub(super) async fn granted(mut self) -> Grant {
        let settings = &self.pool.settings;
        let some = |time: Duration| (!time.is_zero()).then_some(time);
        let whole = some(settings.query_wait_timeout);
        let patience = some(settings.reserve_pool_timeout)
            .filter(|p| self.pool.sizes.reserve > 0 && whole.is_none_or(|w| *p < w));
        if let Some(patience) = patience {
            match self.until(patience).await {
                Some(grant) => return grant,
                None => self.pool.serve(),
            }
        }
        let grant = match whole {
            Some(whole) => self.until(whole).await,
            None => {
                let granted = (&mut self.granted).await.ok();
                self.taken(granted)
            }
        };
        grant.unwrap_or_else(|| {
            Grant::Failed(Error::PoolTimeout {
                server: self.pool.address().clone(),
                waited: self.since.elapsed(),
                limit: self.pool.full(),
            })
        })
    }

    /// Waits until so long after the wait began.
    async fn until(&mut self, time: Duration) -> Option<Grant> {
        let end = (self.since + time).into();
        let granted = tokio::time::timeout_at(end, &mut self.granted).await;
        let granted = granted.ok()?.ok();
        self.taken(granted)
    }

    /// Who was granted something has been taken out of the queue.
    fn taken(&mut self, granted: Option<Grant>) -> Option<Grant> {
        self.queued = granted.is_none();
        granted
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pool.shared.quotas.iter().for_each(|q| q.waits(false));
        if !self.queued {
            return;
        }
        self.pool.lock().waiters.retain(|w| w.ticket != self.ticket);
        match self.granted.try_recv() {
            Ok(Grant::Resting(lease)) => lease.release(),
            Ok(grant) => drop(grant),
            Err(_) => {}
        }
    }
}
