//! Which server connection a session has: leased for a statement, kept for a transaction or for the
//! state that lives in it, given back.

use std::sync::Arc;

use super::client::Client;
use super::gucs::{UNKNOWN, transition};
use super::local::aborted;
use super::lost::{fail_aside, server_lost};
use super::run::Place;
use super::state::Tx;
use crate::backend::{Conn, Sent};
use crate::error::{ClientError, SqlState};
use crate::executor::{Checkout, Held, Progress, Touched, Where, listen, settle};
use crate::plan::Access;
use crate::sharding::ShardId;
use crate::telemetry::metrics::Closed;
use crate::wire;

impl Client {
    /// Leases a connection.
    pub(super) async fn checkout(&mut self, place: Where) -> Result<Held, ClientError> {
        self.refresh_cluster()?;
        match self.pools() {
            Some(checkout) => checkout.lease(place).await,
            None => Err(ClientError::error(SqlState::INTERNAL_ERROR, "no cluster")),
        }
    }

    fn pools(&self) -> Option<Checkout<'_>> {
        Some(Checkout {
            cluster: self.cluster.as_ref()?,
            cancel: &self.me.slot,
            reports: &self.service.reports,
            metrics: &self.served.metrics,
        })
    }

    /// What nearly every statement outside a transaction needs, without a future to poll: a warm
    /// connection of the right server, on which the session's settings are, or can be queued.
    /// Where that is not to be had at once nothing has changed, and [`Client::acquire`] is asked.
    pub(super) fn try_acquire(&mut self, place: Place) -> bool {
        let plain = self.held.is_none() && !self.keeps() && !self.tx.in_block();
        if !plain || self.refresh_cluster().is_err() {
            return false;
        }
        let lease = |pools: Checkout<'_>| pools.try_lease(self.place_for(place));
        let Some(mut held) = self.pools().and_then(lease) else {
            return false;
        };
        let script = self.gucs.script();
        if !self.served.queue_settings(held.lease.conn(), script) {
            held.lease.release();
            return false;
        }
        held.touched = place.touches;
        self.held = Some(held);
        true
    }

    /// Leases a connection for what may run on any shard: a shard that cannot be reached holds up
    /// nobody who does not need it.
    pub(super) async fn checkout_any(
        &mut self,
        access: Access,
        executes: bool,
    ) -> Result<Held, ClientError> {
        let (first, shards) = (self.any_shard().0, self.shard_count().max(1) as u16);
        let mut place = Where {
            shard: ShardId(first),
            access,
            executes,
        };
        let mut outcome = self.checkout(place).await;
        for step in 1..shards {
            match &outcome {
                Err(error) if error.code.code().starts_with("08") => {}
                _ => break,
            }
            place.shard = ShardId((first + step) % shards);
            outcome = self.checkout(place).await;
        }
        outcome
    }

    /// Makes `held` a connection on which `place` may run, with the session's settings and the
    /// transaction's beginning queued or done. On an error nothing was sent for the statement.
    pub(super) async fn acquire(&mut self, place: Place) -> Result<(), ClientError> {
        if let Some(held) = &mut self.held
            && !held.lease.conn().port.input.is_empty()
            && let Err(failure) = listen(&mut self.port, held.lease.conn())
        {
            self.discard_held(Closed::ServerLost).await;
            self.gucs.end(false);
            return Err(server_lost(&failure));
        }
        if self.batch_open
            && self.tx.in_block()
            && self.held.as_ref().is_some_and(|h| !self.fits(h, place))
        {
            // The batch may have ended the block, or begun another: only the server knows.
            self.sync_aside().await?;
        }
        if let Some(held) = &self.held
            && !self.fits(held, place)
        {
            if self.tx.in_block() && self.status() == b'E' {
                // Elsewhere it would be a fresh transaction, which would let the statement pass.
                return Err(aborted());
            }
            self.move_away(place).await?;
        }
        if self.held.is_none() {
            let mut held = match self.take_pin(place) {
                Some(held) => held,
                None => self.lease_for(place).await?,
            };
            held.lease.conn().tenant = self.me.pid;
            self.held = Some(held);
            if let Err(error) = self.prepare_connection().await {
                self.discard_held(Closed::SetupFailed).await;
                return Err(error);
            }
        }
        if self.names_wanted {
            self.names_here().await?;
        }
        if let Some(held) = &mut self.held {
            held.touched = held.touched.max(place.touches);
        }
        Ok(())
    }

    /// Ends an open batch within a block without the client's knowledge: nothing is committed by it
    /// that was not before.
    async fn sync_aside(&mut self) -> Result<(), ClientError> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        let conn = held.lease.conn();
        wire::empty_message(&mut conn.port.output, b'S');
        conn.ledger.sent(Sent::Sync, false);
        self.batch_open = false;
        match settle(conn, &mut Progress::default()).await {
            Ok(()) => {
                self.boundary(&Progress::default()).await;
                Ok(())
            }
            Err(failure) => {
                self.discard_held(Closed::ServerLost).await;
                self.tx.fail();
                Err(server_lost(&failure))
            }
        }
    }

    /// The shard and the server's role for a statement that no connection is held for.
    fn place_for(&self, place: Place) -> Where {
        // In an explicit transaction all goes to the primary, unless it said READ ONLY.
        let access = match (self.tx.in_block(), self.tx.read_only()) {
            _ if self.has_state() => Access::Write,
            (true, true) => Access::Read,
            (true, false) => Access::Write,
            (false, _) => place.access,
        };
        let shard = place
            .shard
            .unwrap_or_else(|| match (self.tx.in_block(), place.access) {
                // Catalogs are looked up on one shard, so that type OIDs stay the same.
                (false, Access::Write) => ShardId(0),
                _ => self.any_shard(),
            });
        Where {
            shard,
            access,
            executes: place.executes,
        }
    }

    async fn lease_for(&mut self, place: Place) -> Result<Held, ClientError> {
        let at = self.place_for(place);
        // A write outside a transaction that no shard is known for has its shard all the same.
        if place.shard.is_some() || !self.tx.in_block() && place.access == Access::Write {
            return self.checkout(at).await;
        }
        self.checkout_any(at.access, at.executes).await
    }

    fn fits(&self, held: &Held, place: Place) -> bool {
        let shard = place.shard.is_none_or(|s| s == held.shard);
        let may_read = place.access == Access::Read || self.tx.read_only();
        shard && (held.primary || may_read && !self.has_state())
    }

    fn take_pin(&mut self, place: Place) -> Option<Held> {
        let at = self.pins.iter().position(|held| self.fits(held, place))?;
        Some(self.pins.swap_remove(at))
    }

    /// Leaves a connection that cannot serve `place`, if nothing is lost by it: the transaction or
    /// batch has not touched data there.
    async fn move_away(&mut self, place: Place) -> Result<(), ClientError> {
        let in_block = self.tx.in_block();
        let Some(mut held) = self.held.take() else {
            return Ok(());
        };
        // A BEGIN whose batch goes on was answered, though no ReadyForQuery showed it yet.
        let begun = self.begun.take();
        let in_block = in_block || begun.is_some();
        let bound = match held.touched {
            Touched::Nothing => false,
            Touched::Read => in_block,
            Touched::Wrote => true,
        };
        if bound {
            self.begun = begun;
            let error = self.elsewhere(&held, place);
            self.held = Some(held);
            return Err(error);
        }
        let conn = held.lease.conn();
        if let Some(prelude) = begun {
            self.tx = Tx::Deferred(prelude);
            wire::empty_message(&mut conn.port.output, b'S');
            conn.ledger.sent(Sent::Sync, false);
            wire::query(&mut conn.port.output, "ROLLBACK");
            conn.ledger.sent(Sent::Quiet, false);
        } else if let Tx::Open(prelude) = &mut self.tx {
            self.tx = Tx::Deferred(std::mem::take(prelude));
            wire::query(&mut conn.port.output, "ROLLBACK");
            conn.ledger.sent(Sent::Quiet, false);
        } else if self.batch_open {
            wire::empty_message(&mut conn.port.output, b'S');
            conn.ledger.sent(Sent::Sync, false);
        }
        self.batch_open = false;
        let settled = settle(conn, &mut Progress::default()).await;
        self.held = Some(held);
        match settled {
            Ok(()) => {
                if !in_block {
                    self.end_settings(true);
                }
                self.release_held().await;
                Ok(())
            }
            Err(failure) => {
                self.discard_held(Closed::ServerLost).await;
                Err(server_lost(&failure))
            }
        }
    }

    fn elsewhere(&self, held: &Held, place: Place) -> ClientError {
        let here = held.shard;
        match place.shard.filter(|s| *s != here) {
            Some(there) => ClientError::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("the transaction is on shard {here} and the statement needs shard {there}"),
            )
            .hint("Use one transaction for each shard, or statements outside a transaction."),
            None => ClientError::error(
                SqlState::READ_ONLY_SQL_TRANSACTION,
                "the batch is on a replica and the statement must go to the primary",
            )
            .hint("Send Sync before it, or begin a transaction."),
        }
    }

    /// Brings a freshly leased connection to the session's settings and begins the transaction.
    /// What cannot fail is only queued, and travels with the statement.
    async fn prepare_connection(&mut self) -> Result<(), ClientError> {
        let script = self.gucs.script().clone();
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        let conn = held.lease.conn();
        if !self.served.queue_settings(conn, &script) {
            apply_settings(conn, &script).await?;
            self.served.prove(&script);
        }
        if let Tx::Deferred(prelude) = &self.tx {
            let script = prelude.script();
            if prelude.is_plain() {
                wire::query(&mut conn.port.output, &script);
                conn.ledger.sent(Sent::Query, false);
            } else {
                run_aside(conn, &script).await?;
                if prelude.failed {
                    fail_aside(conn).await.map_err(|f| server_lost(&f))?;
                }
            }
            self.tx.opened();
        }
        Ok(())
    }

    /// The transaction or batch is over: the connection goes back, or stays if it is pinned.
    pub(super) async fn release_held(&mut self) {
        let Some(mut held) = self.held.take() else {
            return;
        };
        self.unnamed_there = None;
        self.portals.clear();
        self.batch_open = false;
        if !self.me.slot.try_disarm() {
            self.me.slot.disarm().await;
        }
        if let Some(reason) = self.retire.take() {
            held.lease.discard(reason);
        } else if self.keeps() {
            held.touched = Touched::Nothing;
            self.keep(held).await;
        } else {
            held.lease.release();
        }
    }

    pub(super) async fn discard_held(&mut self, reason: Closed) {
        let Some(held) = self.held.take() else { return };
        self.unnamed_there = None;
        self.portals.clear();
        self.batch_open = false;
        self.me.slot.disarm().await;
        held.lease.discard(reason);
    }

    /// The client leaves: a statement that still runs is cancelled, so that its locks go.
    pub(super) async fn leave_servers(&mut self) {
        if let Some(held) = &mut self.held
            && !held.lease.conn().ledger.is_empty()
        {
            self.me.slot.fire(self.service.pools.tls()).await;
        }
        self.discard_held(Closed::ClientLeft).await;
        self.unpin().await;
    }
}

/// Runs the script on a connection that no client uses yet, and checks that it worked.
pub(super) async fn apply_settings(conn: &mut Conn, script: &Arc<str>) -> Result<(), ClientError> {
    if conn.settings == *script {
        return Ok(());
    }
    let text = transition(&conn.settings, script);
    conn.settings = UNKNOWN.into();
    run_aside(conn, &text).await?;
    conn.settings = script.clone();
    Ok(())
}

/// Runs a text of pgdrover's own and waits for its end; the server's error becomes the client's.
pub(super) async fn run_aside(conn: &mut Conn, text: &str) -> Result<(), ClientError> {
    wire::query(&mut conn.port.output, text);
    conn.ledger.sent(Sent::Quiet, false);
    let mut progress = Progress::default();
    settle(conn, &mut progress)
        .await
        .map_err(|f| server_lost(&f))?;
    progress.error.map_or(Ok(()), Err)
}
