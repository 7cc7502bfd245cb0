//! The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync.
//!
//! Messages are collected up to the next Sync or Flush, since only Bind tells the key that says
//! where Parse must go. Then they go out in one write, with what the server connection lacks (the
//! statement, the settings, BEGIN) woven in; the ledger keeps the answers apart.

use std::sync::Arc;
use std::time::Instant;

use super::batch::{Bound, Kind, Op, Sending, Undo, no_statement};
use super::client::{Client, End};
use super::local::{EXPLAIN_COLUMN, aborted, rolls_back_to};
use super::prepared::{Prepared, unnamed};
use super::run::Place;
use super::simple::{access_of, stricter};
use super::state::Tx;
use crate::backend::Sent;
use crate::error::{ClientError, SqlState};
use crate::executor::{Failure, Progress, Touched};
use crate::plan::{Access, Effect, LocalOp, Plan};
use crate::router::NoParams;
use crate::wire::{self, BindView, Header, ParseView};

/// Messages are sent on when so many bytes of them wait for a Sync.
const LONG_BATCH: usize = 256 << 10;

fn violation(message: impl ToString) -> End {
    End::Fatal(ClientError::fatal(
        SqlState::PROTOCOL_VIOLATION,
        message.to_string(),
    ))
}

/// What became of a message of a batch.
pub(super) enum Collected {
    /// It waits for the batch to run.
    Yes,
    /// What was collected must run first.
    NotYet,
    /// It cannot be: the client is told, and the rest of the batch is skipped.
    Refused(ClientError),
}

fn too_many_values(n: usize) -> ClientError {
    ClientError::error(
        SqlState::PROTOCOL_VIOLATION,
        format!("bind message supplies {n} parameters, but prepared statement requires 0"),
    )
}

impl Client {
    /// Parse, Bind, Describe, Execute or Close: checked, planned, and kept until the batch runs.
    /// Not async: most of a batch's messages need no more than this.
    pub(super) fn collect(&mut self, header: Header) -> Result<Collected, End> {
        if self.batch.renames {
            return Ok(Collected::NotYet);
        }
        self.batch.started.get_or_insert_with(Instant::now);
        let planned = if self.cluster.is_none() {
            self.refresh_cluster()
        } else {
            Ok(())
        };
        let queued = match (planned, header.tag) {
            (Err(error), _) => Err(error),
            (_, b'P') => self.queue_parse(header)?,
            (_, b'B') => self.queue_bind(header)?,
            (_, b'D' | b'C') => self.queue_named(header)?,
            _ => self.queue_execute(header)?,
        };
        Ok(match queued {
            Ok(op) => {
                self.batch.ops.push(op);
                self.kept += header.total;
                if self.kept > LONG_BATCH {
                    Collected::NotYet
                } else {
                    Collected::Yes
                }
            }
            // What came before it is answered first, and may change what is wrong with it.
            Err(_) if self.kept > 0 => Collected::NotYet,
            Err(error) => Collected::Refused(error),
        })
    }

    /// What follows when a message was not just collected.
    pub(super) async fn collected(
        &mut self,
        header: Header,
        collected: Collected,
    ) -> Result<(), End> {
        match collected {
            Collected::Yes => Ok(()),
            Collected::NotYet => self.run_batch(false).await,
            Collected::Refused(error) => {
                self.drop_frame(header);
                self.refuse_batch(&error).await
            }
        }
    }

    async fn refuse_batch(&mut self, error: &ClientError) -> Result<(), End> {
        self.skipping = true;
        self.refuse(error).await?;
        self.port.flush().await?;
        Ok(())
    }

    fn op(&self, kind: Kind, header: Header, statement: Option<Arc<Prepared>>) -> Op {
        Op {
            kind,
            at: self.kept,
            total: header.total,
            statement,
            shard: None,
            undo: Undo::Nothing,
        }
    }

    fn queue_parse(&mut self, header: Header) -> Result<Result<Op, ClientError>, End> {
        let view = ParseView::new(self.body(header)).map_err(violation)?;
        if !self.by_name.is_empty() {
            let sql = view.sql.to_vec();
            self.tell_names(&sql);
        }
        let view = ParseView::new(self.body(header)).map_err(violation)?;
        if view.name.is_empty() {
            let same = self.unnamed.as_ref().is_some_and(|u| {
                u.sql.as_bytes() == view.sql && u.types.iter().copied().eq(view.types())
            });
            let before = self.unnamed.clone();
            let statement = match &before {
                Some(unnamed) if same => {
                    self.served.routes.cache_hit();
                    unnamed.clone()
                }
                _ => {
                    let types = view.types().collect();
                    let statement = unnamed(&self.served.router, view.sql, types, 0);
                    self.count_route(&statement.routed);
                    Arc::new(statement)
                }
            };
            let mut op = self.op(Kind::Parse, header, Some(statement.clone()));
            op.undo = Undo::Unnamed(before);
            let checked = self.checked(op);
            match checked {
                Ok(_) => self.unnamed = Some(statement),
                // Not decided yet: what came before it is run first.
                Err(_) if self.kept > 0 => {}
                // A Parse that fails has ended the unnamed statement all the same.
                Err(_) => self.unnamed = None,
            }
            return Ok(checked);
        }
        let name: Box<[u8]> = view.name.into();
        let types = view.types().collect();
        let served = &self.served;
        let naming = self.gucs.naming();
        let limit = self.service.settings.max_statement_memory;
        let statements = &served.statements;
        let statement = match statements.intern(&served.router, view.sql, types, &naming, limit) {
            Ok(statement) => statement,
            Err(error) => return Ok(Err(error)),
        };
        let mut op = match self.checked(self.op(Kind::Parse, header, Some(statement.clone()))) {
            Ok(op) => op,
            Err(error) => return Ok(Err(error)),
        };
        if self.named.contains_key(&name) {
            let name = String::from_utf8_lossy(&name);
            return Ok(Err(ClientError::error(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )));
        }
        if let Err(error) = self.one_more_name() {
            return Ok(Err(error));
        }
        self.count_route(&statement.routed);
        op.undo = Undo::Named(name.clone(), None);
        self.named.insert(name, statement);
        Ok(Ok(op))
    }

    /// In a transaction that failed without a server only its end may be parsed. In one that failed
    /// on a server it is the server's to say so, but for a Parse, which may not get there: the
    /// statement may exist already.
    fn checked(&mut self, op: Op) -> Result<Op, ClientError> {
        let failed = match op.kind {
            Kind::Parse => self.tx.in_block() && self.status() == b'E',
            _ => self.tx.is_failed(),
        };
        let decided = self.batch.ops.iter().all(|op| op.kind != Kind::Execute);
        let ends = op
            .statement
            .as_ref()
            .and_then(|p| Some((&p.sql, p.routed.shape.statements.first()?)))
            .is_none_or(|(sql, s)| {
                let steps = s.effect == Effect::TransactionControl && rolls_back_to(sql).is_some();
                matches!(s.effect, Effect::Commit | Effect::Rollback)
                    || matches!(s.plan, Plan::Local(LocalOp::Empty))
                    || steps
            });
        if !failed || !decided || ends {
            return Ok(op);
        }
        // Unless something is run before it, this is the first that the client hears of a loss.
        let untold = match self.batch.ops.is_empty() {
            true => self.untold.take(),
            false => None,
        };
        Err(untold.unwrap_or_else(aborted))
    }

    fn statement(&self, name: &[u8]) -> Result<Arc<Prepared>, ClientError> {
        let found = if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.named.get(name)
        };
        found.cloned().ok_or_else(|| no_statement(name))
    }

    fn queue_bind(&mut self, header: Header) -> Result<Result<Op, ClientError>, End> {
        let view = BindView::new(self.body(header)).map_err(violation)?;
        let statement = match self.statement(view.statement) {
            Ok(statement) => statement,
            Err(error) => return Ok(Err(error)),
        };
        let params = Bound {
            view,
            types: &statement.types,
        };
        let router = &self.served.router;
        let shard = match statement.routed.shape.statements.first().map(|s| &s.plan) {
            None | Some(Plan::Local(_)) => None,
            Some(_) => {
                let decision = router.decide(&statement.sql, &statement.routed, 0, &params);
                match self.decided(decision) {
                    Ok(shard) => shard,
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        let portal: Box<[u8]> = view.portal.into();
        let with_values = statement.with_values(router, &params);
        let mut op = self.op(Kind::Bind, header, Some(statement.clone()));
        op.shard = shard;
        self.portals
            .insert(&portal, with_values.unwrap_or(statement));
        Ok(self.checked(op))
    }

    /// Describe and Close name a statement (`S`) or a portal (`P`).
    fn queue_named(&mut self, header: Header) -> Result<Result<Op, ClientError>, End> {
        let body = self.body(header);
        let parsed = body
            .split_first()
            .and_then(|(what, rest)| Some((*what, wire::cstr(rest)?.0)));
        let Some((what, name)) = parsed else {
            return Err(violation("invalid string in message"));
        };
        let name: Box<[u8]> = name.into();
        Ok(match (header.tag, what) {
            (b'D', b'S') => self.statement(&name).and_then(|statement| {
                self.checked(self.op(Kind::DescribeStatement, header, Some(statement)))
            }),
            (b'D', b'P') => self
                .portal(&name)
                .map(|statement| self.op(Kind::DescribePortal, header, statement)),
            (b'C', b'S') => {
                let mut op = self.op(Kind::CloseStatement, header, None);
                op.undo = if name.is_empty() {
                    Undo::Unnamed(self.unnamed.take())
                } else {
                    let before = self.named.remove(&name);
                    Undo::Named(name, before)
                };
                Ok(op)
            }
            (b'C', b'P') => {
                self.portals.remove(&name);
                Ok(self.op(Kind::ClosePortal, header, None))
            }
            _ => {
                return Err(violation(format!(
                    "invalid subtype {what} of Describe or Close"
                )));
            }
        })
    }

    fn queue_execute(&mut self, header: Header) -> Result<Result<Op, ClientError>, End> {
        let Some(portal) = wire::first_cstr(self.body(header)) else {
            return Err(violation("invalid string in message"));
        };
        let statement = match self.portal(portal) {
            Ok(statement) => statement,
            Err(error) => return Ok(Err(error)),
        };
        let effect = statement
            .as_ref()
            .and_then(|p| p.routed.shape.statements.first())
            .map(|s| &s.effect);
        self.batch.renames = matches!(effect, Some(Effect::DiscardAll | Effect::Deallocate(_)));
        Ok(Ok(self.op(Kind::Execute, header, statement)))
    }

    /// The statement of a portal; `None` for one that only the server may know, made by SQL.
    fn portal(&self, name: &[u8]) -> Result<Option<Arc<Prepared>>, ClientError> {
        let statement = self.portals.get(name).cloned();
        // A cursor of SQL outlives its transaction WITH HOLD, on the connection kept for it.
        if statement.is_none() && self.held.is_none() && self.pins.is_empty() {
            let name = String::from_utf8_lossy(name);
            return Err(ClientError::error(
                SqlState::INVALID_CURSOR_NAME,
                format!("portal \"{name}\" does not exist"),
            ));
        }
        Ok(statement)
    }

    /// Flush (`H`): what was sent so far is answered, the connection stays.
    pub(super) async fn flush(&mut self, header: Header) -> Result<(), End> {
        self.kept += header.total;
        self.run_batch(false).await?;
        self.port.flush().await?;
        Ok(())
    }

    /// Sync (`S`): the batch ends, with exactly one ReadyForQuery.
    pub(super) async fn sync(&mut self, header: Header) -> Result<(), End> {
        self.kept += header.total;
        self.run_batch(true).await
    }

    /// Runs the messages collected, and ends the batch if `sync`.
    pub(super) async fn run_batch(&mut self, sync: bool) -> Result<(), End> {
        if self.batch.ops.is_empty() && !sync {
            self.port.input.consume(std::mem::take(&mut self.kept));
            return Ok(());
        }
        self.served.metrics.bytes_received(self.kept as u64);
        let mut ops = std::mem::take(&mut self.batch.ops);
        self.batch.answered = 0;
        self.batch.renames = false;
        let started = self.batch.started.take().unwrap_or_else(Instant::now);
        let mut synced = false;
        let mut rest = &ops[..];
        // Most batches are all the server's, which is quickly seen.
        let plain = !self.tx.is_failed() && ops.iter().all(Op::is_plain);
        let alone = !plain
            && !ops
                .iter()
                .any(|op| op.kind == Kind::Execute && !self.op_is_local(op, true));
        while let Some(op) = rest.first().filter(|_| !self.skipping) {
            if !plain && self.op_is_local(op, alone) {
                rest = &rest[1..];
                self.run_local(op).await?;
                continue;
            }
            let n = rest
                .iter()
                .take_while(|op| plain || !self.op_is_local(op, alone))
                .count();
            let n = self.to_the_end_of_the_block(&rest[..n]);
            let (now, later) = rest.split_at(n);
            rest = later;
            synced = self
                .run_on_server(now, sync && later.is_empty(), started)
                .await?;
            if self.kept == 0 && !later.is_empty() && !self.skipping {
                return Err(violation(
                    "messages behind a COPY in one batch are not supported",
                ));
            }
        }
        if self.batch.answered < ops.len() {
            let unanswered = ops.drain(..).skip(self.batch.answered).collect();
            self.undo(unanswered);
        }
        ops.clear();
        self.batch.ops = ops;
        self.port.input.consume(std::mem::take(&mut self.kept));
        if sync && !synced {
            self.end_batch(started).await
        } else {
            Ok(())
        }
    }

    /// Answers a Sync that did not travel with other messages.
    async fn end_batch(&mut self, started: Instant) -> Result<(), End> {
        self.skipping = false;
        if self.batch_open && self.held.is_some() {
            self.run_on_server(&[], true, started).await?;
            return Ok(());
        }
        self.batch_open = false;
        if self.held.is_none() {
            self.portals.clear();
        }
        self.ready().await
    }

    /// Takes back what messages did to the session's names that the server did not come to, the
    /// first of which is the one that failed, if any did.
    fn undo(&mut self, unanswered: Vec<Op>) {
        for (i, op) in unanswered.into_iter().enumerate().rev() {
            match op.undo {
                Undo::Nothing => {}
                // Parse ends the unnamed statement before it can fail.
                Undo::Unnamed(_) if i == 0 && op.kind == Kind::Parse => self.unnamed = None,
                Undo::Unnamed(before) => self.unnamed = before,
                Undo::Named(name, None) => {
                    self.named.remove(&name);
                }
                Undo::Named(name, Some(before)) => {
                    self.named.insert(name, before);
                }
            }
        }
    }

    fn op_is_local(&self, op: &Op, alone: bool) -> bool {
        match &op.statement {
            Some(prepared) => match prepared.routed.shape.statements.first() {
                // What the portal did may be why it would not be answered here a second time.
                Some(statement) if op.kind == Kind::DescribePortal && self.held.is_none() => {
                    let begun = matches!(statement.effect, Effect::Begin { .. })
                        && matches!(self.tx, Tx::Deferred(_));
                    begun
                        || matches!(statement.effect, Effect::Deallocate(_))
                        || self.is_local(statement, &prepared.sql, alone)
                }
                Some(statement) => self.is_local(statement, &prepared.sql, alone),
                None => false,
            },
            // Of a portal that SQL made only a server knows.
            None if matches!(op.kind, Kind::DescribePortal | Kind::Execute) => false,
            // Close: the server's, if there is one.
            None => self.held.is_none() && alone,
        }
    }

    async fn run_local(&mut self, op: &Op) -> Result<(), End> {
        let Client { port, .. } = self;
        let out = &mut port.output;
        let statement = op
            .statement
            .as_ref()
            .and_then(|p| Some((p, p.routed.shape.statements.first()?)));
        let explains =
            statement.is_some_and(|(_, s)| matches!(s.plan, Plan::Local(LocalOp::ExplainRoute(_))));
        match op.kind {
            Kind::Parse => wire::empty_message(out, b'1'),
            Kind::Bind => {
                let body = &port.input.bytes()[op.at + 5..op.at + op.total];
                let n = BindView::new(body).map_or(0, |view| view.len());
                if n > 0 && !explains {
                    return self.refuse_batch(&too_many_values(n)).await;
                }
                wire::empty_message(out, b'2');
            }
            Kind::CloseStatement | Kind::ClosePortal => wire::empty_message(out, b'3'),
            Kind::DescribeStatement | Kind::DescribePortal => {
                if op.kind == Kind::DescribeStatement {
                    let types = statement.map_or(&[][..], |(p, _)| &p.types);
                    wire::parameter_description(out, types);
                }
                if explains {
                    wire::row_description_text(out, &[EXPLAIN_COLUMN]);
                } else {
                    wire::empty_message(out, b'n');
                }
            }
            Kind::Execute => {
                let Some((prepared, statement)) = statement else {
                    return Ok(());
                };
                match self.answer(statement, &prepared.sql, &NoParams).await {
                    Ok(answer) => self.write_answer(&answer, true),
                    Err(error) => return self.refuse_batch(&error).await,
                }
            }
        }
        self.batch.answered += 1;
        Ok(())
    }

    /// Where a run of messages goes: all Binds must agree.
    fn place_of(&self, ops: &[Op]) -> Result<Place, ClientError> {
        let mut place = Place {
            shard: None,
            access: Access::Read,
            touches: Touched::Nothing,
            executes: false,
        };
        for op in ops {
            place.executes |= op.kind == Kind::Execute;
            if let (Some(a), Some(b)) = (place.shard, op.shard)
                && a != b
            {
                return Err(ClientError::error(
                    SqlState::FEATURE_NOT_SUPPORTED,
                    format!("statements of one batch need shard {a} and shard {b}"),
                )
                .hint("Send Sync between them: without it they are one transaction."));
            }
            place.shard = place.shard.or(op.shard);
            let Some(prepared) = &op.statement else {
                continue;
            };
            for statement in &prepared.routed.shape.statements {
                place.access = stricter(place.access, access_of(statement));
                if op.kind == Kind::Execute {
                    place.touches = place.touches.max(Self::touches(place.shard, statement));
                }
            }
        }
        Ok(place)
    }

    /// Sends a run of messages to the server and relays the answers. Returns whether the client
    /// got its ReadyForQuery.
    async fn run_on_server(
        &mut self,
        ops: &[Op],
        sync: bool,
        started: Instant,
    ) -> Result<bool, End> {
        let place = match self.place_of(ops) {
            Ok(place) => place,
            Err(error) => {
                self.refuse_batch(&error).await?;
                return Ok(false);
            }
        };
        let in_block = self.tx.in_block();
        let fresh = self.held.is_none() && !self.keeps() && !in_block;
        let mut may_retry = fresh && sync && place.access == Access::Read;
        let (kept, answered) = (self.kept, self.batch.answered);
        loop {
            if !self.try_acquire(place)
                && let Err(error) = Box::pin(self.acquire(place)).await
            {
                self.refuse_batch(&error).await?;
                return Ok(false);
            }
            self.send(ops, sync);
            let mut progress = Progress::default();
            let outcome = self.exchange(&mut progress).await;
            let failure = match outcome {
                Ok(()) => {
                    self.served.metrics.bytes_sent(progress.to_client);
                    return Ok(self.after(ops, &progress, started).await);
                }
                Err(failure) => failure,
            };
            self.note_answered();
            if progress.to_client == 0 {
                // What was answered did not get to the client.
                self.batch.answered = answered;
            }
            let server = matches!(failure, Failure::Server { .. });
            if server && may_retry && self.kept == kept && progress.to_client == 0 {
                // Nothing came back and nothing was changed: another server may answer.
                may_retry = false;
                self.lost(failure, &progress, false).await?;
                continue;
            }
            let commits = ops.iter().filter_map(|op| op.statement.as_ref()).any(|p| {
                p.routed
                    .shape
                    .statements
                    .iter()
                    .any(|s| s.effect == Effect::Commit)
            });
            let writes = !in_block && place.touches == Touched::Wrote;
            let error = self.lost(failure, &progress, commits || writes).await?;
            self.served.metrics.error(error.code.code());
            wire::error_response(&mut self.port.output, &error);
            self.skipping = true;
            return Ok(false);
        }
    }

    /// Queues a run of messages for the held connection.
    fn send(&mut self, ops: &[Op], sync: bool) {
        let Client {
            port,
            held,
            unnamed_there,
            retire,
            ..
        } = self;
        let Some(held) = held else { return };
        let conn = held.lease.conn();
        let mut sending = Sending {
            conn,
            unnamed_there,
            parsing: Vec::new(),
            retire,
        };
        for op in ops {
            sending.put(op, &port.input.bytes()[op.at..op.at + op.total]);
        }
        let conn = sending.conn;
        if sync {
            wire::empty_message(&mut conn.port.output, b'S');
            conn.ledger.sent(Sent::Sync, true);
        } else {
            wire::empty_message(&mut conn.port.output, b'H');
        }
        self.batch_open = true;
    }

    /// What follows from the answers to a run.
    async fn after(&mut self, ops: &[Op], progress: &Progress, started: Instant) -> bool {
        let lost_sync = self.note_answered();
        if progress.failed {
            self.forget_stale(ops.iter().filter_map(|op| op.statement.as_ref()), progress);
            // The server skips to the next Sync, and so does pgdrover.
            self.skipping = !progress.ready;
        } else {
            // An eviction is only doubtful while the batch that carries it may fail.
            self.retire = None;
        }
        let ran = ops
            .iter()
            .filter(|op| op.kind == Kind::Execute)
            .map(|op| Self::ran(op.statement.as_ref()?));
        self.note_effects(ran, progress, started.elapsed().as_secs_f64());
        if progress.ready {
            self.batch_open = false;
            self.boundary(progress).await;
        }
        progress.ready || lost_sync
    }

    /// A change of the schema makes prepared statements useless ("cached plan must not change
    /// result type"): drivers then prepare them again, and must not be given the old ones.
    pub(super) fn forget_stale<'a>(
        &self,
        ran: impl IntoIterator<Item = &'a Arc<Prepared>>,
        progress: &Progress,
    ) {
        let error = progress.error.as_ref();
        if error.is_none_or(|e| e.code != SqlState::FEATURE_NOT_SUPPORTED) {
            return;
        }
        for prepared in ran {
            if prepared.id != 0 {
                self.served.statements.forget(prepared);
            }
        }
    }

    /// Counts what the server answered. Returns whether a Sync was lost in a COPY.
    fn note_answered(&mut self) -> bool {
        let Some(held) = &mut self.held else {
            return false;
        };
        let ledger = &mut held.lease.conn().ledger;
        self.batch.answered += ledger.take_answered();
        ledger.take_lost_sync()
    }
}
