//! From a shard and an access to a leased connection.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use crate::backend::{CancelSlot, Cluster, Error, Lease, ServerPool};
use crate::error::{ClientError, SqlState};
use crate::plan::Access;
use crate::sharding::ShardId;
use crate::telemetry::metrics::{ClientMetrics, Closed};
use crate::topology::{FailureReport, FailureReporter};

/// Where a statement is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Where {
    /// On this shard.
    pub shard: ShardId,
    /// On its primary (`Write`), or on a replica if one is usable (`Read`).
    pub access: Access,
    /// Whether a statement is executed, and not only parsed or described: that is a replica's
    /// turn.
    pub executes: bool,
}

/// What a transaction has done on the connection that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// Nothing that belongs to a shard: it could as well have happened on another.
    Nothing,
    /// It read this shard's rows.
    Read,
    /// It wrote, or could have.
    Wrote,
}

/// A leased connection and what it is leased for.
#[derive(Debug)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    /// The shard that it goes to.
    pub shard: ShardId,
    /// Whether it was leased as the shard's primary.
    pub primary: bool,
    /// What the transaction did on it.
    pub touched: Touched,
}

impl Held {
    fn new(lease: Lease, shard: ShardId, primary: bool) -> Self {
        Held {
            lease,
            shard,
            primary,
            touched: Touched::Nothing,
        }
    }
}

/// What a checkout needs of the session.
pub struct Checkout<'a> {
    /// The pools.
    pub cluster: &'a Arc<Cluster>,
    /// Where a cancel finds the session while it waits.
    pub cancel: &'a CancelSlot,
    /// Where failures are reported.
    pub reports: &'a FailureReporter,
    /// The client's metrics.
    pub metrics: &'a ClientMetrics,
}

impl Checkout<'_> {
    /// Leases at once, if the right server has a warm connection: the way of nearly every
    /// statement, without a future to poll. `None` says that [`Checkout::lease`] must be asked.
    pub fn try_lease(&self, place: Where) -> Option<Held> {
        let shard = self.cluster.shards.get(usize::from(place.shard.0))?;
        let (mut lease, primary) = match place.access {
            Access::Write => (shard.primary.pool.try_checkout()?, true),
            Access::Read => shard.try_read(place.executes)?,
        };
        if place.access == Access::Write && lease.conn().in_recovery {
            lease.discard(Closed::InRecovery);
            return None;
        }
        Some(Held::new(lease, place.shard, primary))
    }

    /// Leases a connection for `place`. Reads try the usable replicas and then the primary;
    /// writes have the primary alone. Errors: 53300 after waiting too long, 57014 if cancelled
    /// while waiting, 08001 or 57P03 if no server can be reached.
    pub async fn lease(&self, place: Where) -> Result<Held, ClientError> {
        let shard = self
            .cluster
            .shards
            .get(usize::from(place.shard.0))
            .ok_or_else(|| {
                ClientError::error(
                    SqlState::INTERNAL_ERROR,
                    format!("the plan names shard {}, which does not exist", place.shard),
                )
            })?;
        if place.access == Access::Write {
            let lease = self.lease_from(&shard.primary.pool, true).await?;
            return Ok(Held::new(lease, place.shard, true));
        }
        let mut last = None;
        let readers: Vec<_> = shard.readers(place.executes).collect();
        // A replica whose connections are all in use leaves the read to another replica; if all are
        // so, it waits where its turn is. The primary is for when no replica can be reached.
        let (replicas, primary) = readers.split_at(readers.len() - 1);
        let free = replicas.iter().position(|pool| !pool.is_full());
        let turn = free.unwrap_or(0);
        let (before, after) = replicas.split_at(turn);
        for pool in after.iter().chain(before).chain(primary) {
            let primary = Arc::ptr_eq(pool, &shard.primary.pool);
            match self.lease_from(pool, false).await {
                Ok(lease) => return Ok(Held::new(lease, place.shard, primary)),
                // Who gave up waiting does not want to wait elsewhere.
                Err(error)
                    if error.code == SqlState::QUERY_CANCELED
                        || error.code == SqlState::TOO_MANY_CONNECTIONS =>
                {
                    return Err(error);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            ClientError::error(
                SqlState::CANNOT_CONNECT_NOW,
                "the shard has no server for reads",
            )
        }))
    }

    async fn lease_from(&self, pool: &Arc<ServerPool>, write: bool) -> Result<Lease, ClientError> {
        let checked = self.wait(pool).await?.and_then(|mut lease| {
            if write && lease.conn().in_recovery {
                lease.discard(Closed::InRecovery);
                return Err(Error::InRecovery {
                    server: pool.address().clone(),
                });
            }
            Ok(lease)
        });
        checked.map_err(|error| {
            if error.is_server_fault() {
                let report = FailureReport {
                    server: error.server().clone(),
                    what: error.to_string(),
                };
                // A full queue means that control has much to look at already.
                let _ = self.reports.try_send(report);
            }
            ClientError::from(&error)
        })
    }

    /// Checks out; only a checkout that has to wait pays for a clock and for being cancellable.
    async fn wait(&self, pool: &Arc<ServerPool>) -> Result<Result<Lease, Error>, ClientError> {
        let mut checkout = pin!(pool.checkout());
        let first = std::future::poll_fn(|cx| match checkout.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(done) = first.await {
            return Ok(done);
        }
        let started = Instant::now();
        self.cancel.wait_begins();
        self.metrics.waiting(1);
        let outcome = tokio::select! {
            biased;
            () = self.cancel.cancelled_while_waiting() => Err(ClientError::error(
                SqlState::QUERY_CANCELED,
                "canceling statement due to user request",
            )),
            done = checkout => Ok(done),
        };
        self.cancel.disarm().await;
        self.metrics.waiting(-1);
        pool.metrics().wait(started.elapsed().as_secs_f64());
        outcome
    }
}
