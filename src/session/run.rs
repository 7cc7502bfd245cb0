//! Sending to a held connection, and what follows from the answer.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use super::client::{Client, End};
use super::gucs::{Changed, UNKNOWN};
use super::hold::run_aside;
use super::prepared::Prepared;
use super::pulse::Phase;
use super::spelling;
use super::startup::plain_strings_only;
use super::state::Prelude;
use crate::backend::Sent;
use crate::error::ClientError;
use crate::executor::{Failure, Progress, Touched, relay};
use crate::plan::{Access, Effect, Kind, Pin, Plan, Statement, Target};
use crate::router::{NoParams, set_configs};
use crate::sharding::ShardId;
use crate::wire;

/// A statement that was sent and what its success means for the session.
pub(super) struct Ran<'a> {
    /// What the router knows of it.
    pub(super) statement: &'a Statement,
    /// Its text, perhaps with a semicolon.
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
    /// Whether a statement is executed, and not only parsed or described.
    pub(super) executes: bool,
}

impl Client {
    /// Writes what is queued and relays the answers until the server owes nothing.
    pub(super) async fn exchange(&mut self, progress: &mut Progress) -> Result<(), Failure> {
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        let conn = held.lease.conn();
        if !conn.plain_strings {
            return Err(Failure::Refused(plain_strings_only()));
        }
        if self.me.slot.arm(&conn.address, conn.key) {
            self.me.slot.disarm().await;
            let _ = self.me.slot.arm(&conn.address, conn.key);
        }
        let pulse = &self.me.pulse;
        pulse.enter(Phase::Running);
        let mut relay = pin!(relay(
            &mut self.port,
            conn,
            &mut self.copy,
            &mut self.kept,
            progress,
        ));
        let outcome = poll_fn(|cx| match relay.as_mut().poll(cx) {
            Poll::Pending if pulse.is_due() => Poll::Ready(Err(Failure::Unresponsive)),
            polled => polled,
        });
        let outcome = outcome.await;
        pulse.enter(Phase::Busy);
        outcome
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
        let mut anew = false;
        for (i, ran) in ran.into_iter().enumerate() {
            let Some(Ran { statement, text }) = ran else {
                self.touched(Touched::Wrote);
                continue;
            };
            metrics.statement(statement.kind as usize, seconds);
            if let Effect::Pin(reason) = statement.effect {
                // Even if it or a later statement failed: an advisory lock survives that.
                self.pin(reason);
            }
            // A statement behind one that failed was not run; one before it was, and its effect
            // stays if a COMMIT came in between.
            if i < progress.completed && !matches!(statement.effect, Effect::None) {
                let text = text.trim().trim_end_matches(';');
                self.note_effect(statement, text, progress.rollbacks.contains(&i));
            }
            if anew {
                let shard = self.held.as_ref().map(|held| held.shard);
                let shard = shard.filter(|_| statement.plan != Plan::Single(Target::AnyOne));
                self.touched(Self::touches(shard, statement));
            }
            let ends = matches!(statement.effect, Effect::Commit | Effect::Rollback);
            if ends && i < progress.completed {
                // The next transaction on this connection has touched nothing yet.
                anew = true;
                if let Some(held) = &mut self.held {
                    held.touched = Touched::Nothing;
                }
            }
        }
    }

    fn touched(&mut self, touches: Touched) {
        if let Some(held) = &mut self.held {
            held.touched = held.touched.max(touches);
        }
    }

    fn note_set_config(&mut self, text: &str) {
        let Some(calls) = set_configs(text, &NoParams) else {
            // What it set is only known to this server connection.
            return self.pin(Pin::SetConfig);
        };
        for call in calls {
            let statement = format!("SELECT {}", call.call());
            self.tx.repeat(&statement);
            if call.local {
                self.gucs.set_local(&call.name, &statement);
            } else {
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
                self.state.block_ended();
                self.end_prelude(text);
                self.end_settings(!rolled_back);
            }
            Effect::Rollback => {
                self.state.block_ended();
                self.end_prelude(text);
                self.end_settings(false);
            }
            Effect::Set {
                name,
                local: true,
                value,
            } => {
                self.gucs.set_local(name, text);
                self.repeat(text);
                if value.is_none() {
                    self.restart_value(Some(name), true);
                }
            }
            Effect::Set {
                name, value: None, ..
            } => {
                self.gucs.reset(Some(name));
                self.repeat(text);
                self.restart_value(Some(name), false);
            }
            Effect::Set { name, .. } => {
                self.gucs.set(name, text);
                self.repeat(text);
            }
            Effect::SetConfig => self.note_set_config(text),
            Effect::Reset(name) => {
                self.gucs.reset(name.as_deref());
                self.repeat(text);
                self.restart_value(name.as_deref(), false);
            }
            Effect::TransactionControl => {
                self.gucs.transaction_control(text);
                self.repeat(text);
            }
            Effect::Release | Effect::Deallocate(Some(_)) => self.state.released(),
            Effect::Deallocate(None) => {
                self.state.released();
                self.named.clear();
                // It removed the statements of all clients from this server connection.
                if let Some(held) = &mut self.held {
                    held.lease.conn().prepared().clear();
                }
            }
            Effect::DiscardAll => {
                self.discarded();
                self.unnamed_there = None;
                // The state on other connections goes with the boundary.
                self.forget_pin();
                if let Some(held) = &mut self.held {
                    let conn = held.lease.conn();
                    conn.prepared().clear();
                    conn.settings = "".into();
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

    /// Within a block a setting went back to the server's default: the startup packet's value is
    /// the client's. (Outside, the next server connection is brought to it anyway.)
    fn restart_value(&mut self, name: Option<&str>, local: bool) {
        if !self.tx.in_block() && self.begun.is_none() {
            return;
        }
        for statement in self.gucs.after_reset(name, local) {
            self.repeat(&statement);
            self.behind.push(statement);
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
        let behind = std::mem::take(&mut self.behind);
        if status != b'I' {
            if status == b'T' && !behind.is_empty() {
                // A connection that is lost by it is found to be by the next statement.
                let _ = run_aside(held.lease.conn(), &behind.join(";\n")).await;
            }
            return;
        }
        held.lease.pool().metrics().transaction();
        self.end_settings(!progress.failed);
        self.state.boundary(progress.failed);
        self.release_held().await;
        if !self.keeps() && !self.pins.is_empty() {
            self.unpin().await;
        }
    }

    /// A transaction ended: the settings changed in it are the session's now, or are forgotten.
    pub(super) fn end_settings(&mut self, committed: bool) {
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
            // What it makes is on this connection: a transaction that moved would lose it.
            _ if matches!(statement.effect, Effect::Pin(_)) => Touched::Wrote,
            // A cursor, perhaps.
            (None, Access::Read, Kind::Other) => Touched::Read,
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
            text: &prepared.sql,
        })
    }
}
