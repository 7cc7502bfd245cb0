//! Getting a server connection, sending to it, and what follows from the answer.

use std::sync::Arc;

use tracing::warn;

use super::client::{Client, End};
use super::gucs::{Changed, UNKNOWN, transition};
use super::local::aborted;
use super::prepared::Prepared;
use super::spelling;
use super::startup::plain_strings_only;
use super::state::{Prelude, Tx};
use crate::backend::{Conn, PoolMode, Sent};
use crate::error::{ClientError, SqlState};
use crate::executor::{Checkout, Failure, Held, Progress, Touched, Where, listen, relay, settle};
use crate::plan::{Access, Effect, Kind, Statement};
use crate::router::{NoParams, set_configs};
use crate::sharding::ShardId;
use crate::topology::FailureReport;
use crate::wire;

/// A statement that was sent and what its success means for the session.
pub(super) struct Ran<'a> {
    /// What the router knows of it.
    pub(super) statement: &'a Statement,
    /// Its text, without a semicolon.
    pub(super) text: &'a str,
}

/// Where a group of statements may run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The shard, if it matters.
    pub(super) shard: Option<ShardId>,
    /// Whether a replica may do.
    pub(super) access: Access,
    /// What it does there.
    pub(super) touches: Touched,
}

/// Why a session in session pooling mode keeps its connections, though nothing compels it yet.
pub(super) const SESSION_MODE: &str = "session_mode";

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
async fn run_aside(conn: &mut Conn, text: &str) -> Result<(), ClientError> {
    wire::query(&mut conn.port.output, text);
    conn.ledger.sent(Sent::Quiet, false);
    let mut progress = Progress::default();
    settle(conn, &mut progress)
        .await
        .map_err(|f| server_lost(&f))?;
    progress.error.map_or(Ok(()), Err)
}

/// Makes the transaction on a connection fail. Leaves its statements and portals alone.
async fn fail_aside(conn: &mut Conn) -> Result<(), Failure> {
    wire::execute(&mut conn.port.output, "refused by pgdrover");
    conn.ledger.sent(Sent::Execute, false);
    wire::empty_message(&mut conn.port.output, b'S');
    conn.ledger.sent(Sent::Sync, false);
    settle(conn, &mut Progress::default()).await
}

fn server_lost(failure: &Failure) -> ClientError {
    ClientError::error(
        SqlState::CONNECTION_FAILURE,
        format!("server connection lost: {failure}"),
    )
}

impl Client {
    /// Leases a connection for `shard`.
    pub(super) async fn checkout(
        &mut self,
        shard: ShardId,
        access: Access,
    ) -> Result<Held, ClientError> {
        self.refresh_cluster()?;
        let Some(cluster) = &self.cluster else {
            return Err(ClientError::error(SqlState::INTERNAL_ERROR, "no cluster"));
        };
        let checkout = Checkout {
            cluster,
            cancel: &self.me.slot,
            reports: &self.service.reports,
            metrics: &self.served.metrics,
        };
        checkout.lease(Where { shard, access }).await
    }

    /// Makes `held` a connection on which `place` may run, with the session's settings and the
    /// transaction's beginning queued or done. On an error nothing was sent for the statement.
    pub(super) async fn acquire(&mut self, place: Place) -> Result<(), ClientError> {
        if let Some(held) = &mut self.held
            && !held.lease.conn().port.input.is_empty()
            && let Err(failure) = listen(&mut self.port, held.lease.conn())
        {
            self.discard_held("server_lost").await;
            self.gucs.end(false);
            return Err(server_lost(&failure));
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
            let held = match self.take_pin(place) {
                Some(held) => held,
                None => self.lease_for(place).await?,
            };
            self.held = Some(held);
            if let Err(error) = self.prepare_connection().await {
                self.discard_held("setup_failed").await;
                return Err(error);
            }
        }
        if let Some(held) = &mut self.held {
            held.touched = held.touched.max(place.touches);
        }
        Ok(())
    }

    async fn lease_for(&mut self, place: Place) -> Result<Held, ClientError> {
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
        self.checkout(shard, access).await
    }

    fn fits(&self, held: &Held, place: Place) -> bool {
        let shard = place.shard.is_none_or(|s| s == held.shard);
        let may_read = place.access == Access::Read || self.tx.read_only();
        shard && (held.primary || may_read && !self.has_state())
    }

    /// Whether the session has state on a server connection. State is made on primaries, so that
    /// is where all its statements go, reads included: a temporary table is on no replica.
    pub(super) fn has_state(&self) -> bool {
        self.pinned.is_some_and(|reason| reason != SESSION_MODE)
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
        if bound || self.pinned.is_some() && in_block {
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
                self.discard_held("server_lost").await;
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
        if conn.settings != script {
            if self.served.is_proven(&script) {
                let text = transition(&conn.settings, &script);
                wire::query(&mut conn.port.output, &text);
                conn.ledger.sent(Sent::Query, false);
                conn.settings = script;
            } else {
                apply_settings(conn, &script).await?;
                self.served.prove(&script);
            }
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

    /// Writes what is queued and relays the answers until the server owes nothing.
    pub(super) async fn exchange(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        let conn = held.lease.conn();
        if !conn.plain_strings {
            return Err(Failure::Refused(plain_strings_only()));
        }
        self.me.slot.arm(&conn.address, conn.key);
        relay(
            &mut self.port,
            conn,
            &mut self.copy,
            &mut self.kept,
            progress,
        )
        .await
    }

    /// Statements were run, each of which the server completes once unless it fails: what their
    /// success means for the session is noted. `None` stands for one of which nothing is known.
    pub(super) fn note_effects<'a>(
        &mut self,
        ran: impl IntoIterator<Item = Option<Ran<'a>>>,
        progress: &Progress,
        seconds: f64,
    ) {
        if let Some(error) = &progress.error {
            self.served.metrics.error(error.code.code());
        }
        let Some(held) = &self.held else { return };
        let metrics = held.lease.pool().metrics().clone();
        for (i, ran) in ran.into_iter().enumerate() {
            let Some(Ran { statement, text }) = ran else {
                continue;
            };
            metrics.statement(statement.kind as usize, seconds);
            if let Effect::Pin(reason) = &statement.effect {
                // Even if it or a later statement failed: an advisory lock survives that.
                self.pin(reason);
            }
            // A statement behind one that failed was not run; one before it was, and its effect
            // stays if a COMMIT came in between.
            if i < progress.completed {
                self.note_effect(statement, text, progress.rollbacks.contains(&i));
            }
        }
    }

    /// The session has state on its connection that cannot be had elsewhere.
    fn pin(&mut self, reason: &'static str) {
        if self.pinned.is_none_or(|p| p == SESSION_MODE) {
            self.pinned = Some(reason);
        }
    }

    fn note_set_config(&mut self, text: &str) {
        let Some(calls) = set_configs(text, &NoParams) else {
            // What it set is only known to this server connection.
            return self.pin("set_config");
        };
        for call in calls {
            let statement = format!("SELECT {}", call.call());
            self.tx.repeat(&statement);
            if !call.local {
                self.gucs.set(&call.name, &statement);
            }
        }
    }

    fn note_effect(&mut self, statement: &Statement, text: &str, rolled_back: bool) {
        match &statement.effect {
            Effect::None => {}
            Effect::Begin { .. } if self.begun.is_some() => self.repeat(text),
            Effect::Begin { read_only } if self.tx.in_block() => {
                self.tx.repeat_begin(text, *read_only);
            }
            Effect::Begin { read_only } => self.begun = Some(Prelude::begin(text, *read_only)),
            Effect::Commit => {
                self.end_prelude(text);
                self.end_settings(!rolled_back);
            }
            Effect::Rollback => {
                self.end_prelude(text);
                self.end_settings(false);
            }
            Effect::Set { local: true, .. } => self.repeat(text),
            Effect::Set {
                name, value: None, ..
            } => {
                self.gucs.reset(Some(name));
                self.repeat(text);
            }
            Effect::Set { name, .. } => {
                self.gucs.set(name, text);
                self.repeat(text);
            }
            Effect::SetConfig => self.note_set_config(text),
            Effect::Reset(name) => {
                self.gucs.reset(name.as_deref());
                self.repeat(text);
            }
            Effect::TransactionControl => {
                self.gucs.transaction_control(text);
                self.repeat(text);
            }
            Effect::Deallocate(None) => {
                self.named.clear();
                // It removed the statements of all clients from this server connection.
                if let Some(held) = &mut self.held {
                    held.lease.conn().prepared().clear();
                }
            }
            _ => {}
        }
    }

    /// Ends an open batch as a simple query does, by a Sync whose answer the client does not see.
    /// The inner error is what the client must be told instead.
    pub(super) async fn close_batch(&mut self) -> Result<Result<(), ClientError>, End> {
        let Some(held) = &mut self.held else {
            return Ok(Ok(()));
        };
        if !std::mem::take(&mut self.batch_open) {
            return Ok(Ok(()));
        }
        let conn = held.lease.conn();
        wire::empty_message(&mut conn.port.output, b'S');
        conn.ledger.sent(Sent::Sync, false);
        let mut progress = Progress::default();
        if let Err(failure) = self.exchange(&mut progress).await {
            let error = self.lost(failure, &progress, !self.tx.in_block()).await?;
            return Ok(Err(error));
        }
        self.boundary(&progress).await;
        Ok(Ok(()))
    }

    /// A statement belongs to the transaction's beginning, which this very text may have made.
    fn repeat(&mut self, text: &str) {
        match &mut self.begun {
            Some(prelude) => prelude.statements.push(text.to_owned()),
            None => self.tx.repeat(text),
        }
    }

    /// A transaction ended. AND CHAIN begins the next one as it was begun itself, without what
    /// was set in it.
    fn end_prelude(&mut self, text: &str) {
        // Unknown spellings are looked at as chained: if they are not, the server says Idle.
        let chained = spelling::end(text) != Some(false);
        match &mut self.begun {
            Some(prelude) if chained => prelude.statements.truncate(1),
            Some(_) => self.begun = None,
            None => self.tx.restart(chained),
        }
    }

    /// The server said ReadyForQuery: the transaction's state follows it, and outside a
    /// transaction the connection is given back.
    pub(super) async fn boundary(&mut self, progress: &Progress) {
        let Some(held) = &mut self.held else { return };
        let status = held.lease.conn().status;
        let begun = self.begun.take();
        self.tx.ready(status, begun);
        if status != b'I' {
            return;
        }
        held.lease.pool().metrics().transaction();
        self.end_settings(!progress.failed);
        self.release_held().await;
    }

    /// A transaction ended: the settings changed in it are the session's now, or are forgotten.
    fn end_settings(&mut self, committed: bool) {
        let changed = self.gucs.end(committed);
        let Some(held) = &mut self.held else { return };
        let conn = held.lease.conn();
        match changed {
            Changed::No => {}
            // What was reset before went to the server's default, not to the client's own.
            Changed::Set if &*conn.settings == UNKNOWN => {}
            Changed::Set => {
                let script = self.gucs.script().clone();
                self.served.prove(&script);
                conn.settings = script;
            }
            Changed::Reset => conn.settings = UNKNOWN.into(),
        }
    }

    /// The transaction or batch is over: the connection goes back, or stays if it is pinned.
    pub(super) async fn release_held(&mut self) {
        let Some(mut held) = self.held.take() else {
            return;
        };
        self.unnamed_there = None;
        self.portals.clear();
        self.batch_open = false;
        self.me.slot.disarm().await;
        if let Some(reason) = self.retire.take() {
            held.lease.discard(reason);
        } else if self.pinned.is_some() {
            held.touched = Touched::Nothing;
            self.pins.push(held);
        } else {
            held.lease.release();
        }
    }

    /// The state for which connections were pinned is gone: they go back.
    pub(super) async fn unpin(&mut self) {
        self.pinned = (self.user.pool_mode == PoolMode::Session).then_some(SESSION_MODE);
        for held in std::mem::take(&mut self.pins) {
            give_back(held).await;
        }
    }

    pub(super) async fn discard_held(&mut self, reason: &'static str) {
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
        self.discard_held("client_left").await;
        self.unpin().await;
    }

    /// The server connection failed in the middle of something: says so as exactly as is known.
    /// `committing`: a COMMIT or a write outside a transaction was sent, so its outcome is unknown.
    pub(super) async fn lost(
        &mut self,
        failure: Failure,
        progress: &Progress,
        committing: bool,
    ) -> Result<ClientError, End> {
        let (cause, code) = match failure {
            Failure::Client(error) => return Err(End::Left(error)),
            Failure::Refused(error) => return Err(End::Fatal(error)),
            Failure::Protocol(error) => {
                let error = ClientError::fatal(SqlState::PROTOCOL_VIOLATION, error.to_string());
                return Err(End::Fatal(error));
            }
            Failure::Server { cause, code } => (cause, code),
        };
        let pinned = self.pinned.is_some();
        let server = self
            .held
            .as_mut()
            .map(|held| held.lease.conn().address.clone());
        if let Some(server) = server {
            warn!(%server, %cause, code = code.as_deref(), "server connection lost");
            // A full queue means that control has much to look at already.
            let _ = self.service.reports.try_send(FailureReport {
                server,
                what: cause.clone(),
            });
        }
        self.discard_held("server_lost").await;
        if progress.mid_frame {
            return Err(End::Cut);
        }
        self.gucs.end(false);
        self.begun = None;
        let error = if committing {
            self.tx = Tx::Idle;
            outcome_unknown()
        } else {
            self.tx.fail();
            not_done()
        };
        let error = error.detail(format!("The server connection ended: {cause}"));
        if pinned {
            // State that lived in the connection is gone: the client must not go on as if it
            // were there.
            return Err(pin_lost(error));
        }
        Ok(error)
    }

    /// pgdrover refuses a statement. In a transaction that a server has, the server is made to fail
    /// as well, so that what follows (25P02, ROLLBACK TO) is its own word.
    pub(super) async fn refuse(&mut self, error: &ClientError) -> Result<(), End> {
        self.served.metrics.error(error.code.code());
        let open = matches!(self.tx, Tx::Open(_)) || self.batch_open;
        if let Some(held) = &mut self.held
            && open
        {
            let conn = held.lease.conn();
            if conn.status != b'E' {
                if let Err(failure) = fail_aside(conn).await {
                    let told = self.lost(failure, &Progress::default(), false).await?;
                    wire::error_response(&mut self.port.output, &told);
                    return Ok(());
                }
            }
        } else {
            self.tx.fail();
        }
        wire::error_response(&mut self.port.output, error);
        Ok(())
    }

    /// The status that ReadyForQuery must show now.
    pub(super) fn status(&mut self) -> u8 {
        let open = self
            .held
            .as_mut()
            .map_or(b'T', |held| held.lease.conn().status);
        self.tx.status(open)
    }

    /// What a statement does to the data of the shard that it runs on.
    pub(super) fn touches(shard: Option<ShardId>, statement: &Statement) -> Touched {
        match (shard, statement.access, statement.kind) {
            (None, Access::Read, _) | (None, _, Kind::Session | Kind::Transaction) => {
                Touched::Nothing
            }
            (Some(_), Access::Read, _) => Touched::Read,
            (_, Access::Write, _) => Touched::Wrote,
        }
    }

    /// The prepared statement that a client runs, as what ran.
    pub(super) fn ran(prepared: &Prepared) -> Option<Ran<'_>> {
        let statement = prepared.routed.shape.statements.first()?;
        Some(Ran {
            statement,
            text: prepared.sql.trim().trim_end_matches(';'),
        })
    }

    /// A connection at rest said something: notifications and notices are relayed, an end is noted.
    pub(super) async fn hear_servers(&mut self) -> Result<(), End> {
        if let Some(held) = &mut self.held
            && let Err(failure) = listen(&mut self.port, held.lease.conn())
        {
            let (in_block, in_batch) = (self.tx.in_block(), self.batch_open);
            let error = self.lost(failure, &Progress::default(), false).await?;
            if in_batch {
                // The client waits for no answer now, but its next Sync must not look like success.
                self.served.metrics.error(error.code.code());
                wire::error_response(&mut self.port.output, &error);
                self.skipping = true;
            } else if in_block {
                self.untold = Some(error);
            }
        }
        let mut i = 0;
        while i < self.pins.len() {
            match listen(&mut self.port, self.pins[i].lease.conn()) {
                Ok(()) => i += 1,
                Err(failure) => {
                    self.pins.swap_remove(i).lease.discard("server_lost");
                    return Err(pin_lost(server_lost(&failure)));
                }
            }
        }
        Ok(())
    }
}

/// Cleans a connection that was pinned, so that another client may have it.
async fn give_back(mut held: Held) {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(5);
    let conn = held.lease.conn();
    if conn.is_clean() {
        conn.settings = "".into();
        conn.prepared().clear();
        let cleaned = tokio::time::timeout(LONGEST, run_aside(conn, "DISCARD ALL")).await;
        if matches!(cleaned, Ok(Ok(()))) {
            return held.lease.release();
        }
    }
    held.lease.discard("pinned");
}

fn outcome_unknown() -> ClientError {
    ClientError::error(
        SqlState::TRANSACTION_RESOLUTION_UNKNOWN,
        "the connection to the server was lost while a change was being committed; \
         whether it was committed is not known",
    )
    .hint("Look whether the change is there before repeating it.")
}

fn not_done() -> ClientError {
    ClientError::error(
        SqlState::CONNECTION_FAILURE,
        "the connection to the server was lost; the statement did not take effect",
    )
    .hint("Repeat the statement, or the whole transaction.")
}

fn pin_lost(error: ClientError) -> End {
    End::Fatal(ClientError {
        severity: crate::error::Severity::Fatal,
        ..error
    })
}
