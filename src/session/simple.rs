//! The simple protocol: one Query message, one or more statements, one ReadyForQuery.

use std::sync::Arc;
use std::time::Instant;

use super::client::{Client, End};
use super::local::aborted;
use super::prepared::Prepared;
use super::run::{Place, Ran};
use super::state::{Prelude, Tx};
use crate::backend::Sent;
use crate::error::{ClientError, SqlState};
use crate::executor::{Failure, Progress, Touched};
use crate::plan::{Access, Decision, Effect, Kind, Pin, Statement};
use crate::router::{NoParams, Routed};
use crate::sharding::{KeyType, ShardId};
use crate::wire::{self, Header};

impl Client {
    /// Query (`Q`).
    pub(super) async fn query(&mut self, header: Header) -> Result<(), End> {
        // A simple query ends the unnamed statement.
        self.unnamed = None;
        let started = Instant::now();
        let body = self.body(header);
        let Some(text) = wire::first_cstr(body).filter(|t| t.len() + 1 == body.len()) else {
            return Err(End::Fatal(ClientError::fatal(
                SqlState::PROTOCOL_VIOLATION,
                "invalid string in message",
            )));
        };
        let sql = match std::str::from_utf8(text) {
            Ok(text) => text.to_owned(),
            Err(_) => String::from_utf8_lossy(text).into_owned(),
        };
        self.served.metrics.bytes_received(header.total as u64);
        if self.cluster.is_none()
            && let Err(error) = self.refresh_cluster()
        {
            return self.refuse_query(header, &error).await;
        }
        let routed = self.served.router.route(&sql, &[]);
        self.count_route(&routed);
        if let [statement] = &routed.shape.statements[..]
            && self.is_local(statement, &sql, true)
        {
            if statement.effect != Effect::DiscardAll
                && let Err(error) = self.close_batch().await?
            {
                return self.refuse_query(header, &error).await;
            }
            return match self.answer(statement, &sql, &NoParams).await {
                Ok(answer) => {
                    self.drop_frame(header);
                    self.write_answer(&answer, false);
                    self.ready().await
                }
                Err(error) => self.refuse_query(header, &error).await,
            };
        }
        if self.tx.is_failed()
            && let Err(error) = self.revive(&routed.shape.statements)
        {
            return self.refuse_query(header, &error).await;
        }
        if let [statement] = &routed.shape.statements[..]
            && matches!(
                statement.effect,
                Effect::Pin(Pin::Prepare) | Effect::Execute
            )
        {
            let sql_prepared = self.sql_prepared(header, &sql, &routed, started);
            if Box::pin(sql_prepared).await?.is_some() {
                return Ok(());
            }
        }
        match self.place(&sql, &routed) {
            Ok(place) => {
                self.tell_names(sql.as_bytes());
                self.run_query(header, &sql, &routed, place, started, None)
                    .await
            }
            Err(error) => self.refuse_query(header, &error).await,
        }
    }

    pub(super) fn count_route(&self, routed: &Routed) {
        if routed.cached {
            self.served.routes.cache_hit();
        } else {
            self.served.routes.cache_miss();
        }
    }

    /// Where a text of one or more statements runs.
    fn place(&self, sql: &str, routed: &Routed) -> Result<Place, ClientError> {
        let statements = &routed.shape.statements;
        let router = &self.served.router;
        let decision = match &statements[..] {
            [_] => router.decide(sql, routed, 0, &NoParams),
            _ => router.decide_all(sql, routed, &NoParams),
        };
        let shard = self.decided(decision)?;
        let access = statements
            .iter()
            .map(access_of)
            .fold(Access::Read, stricter);
        let touches = statements
            .iter()
            .map(|s| Self::touches(shard, s))
            .max()
            .unwrap_or(Touched::Nothing);
        Ok(Place {
            shard,
            access,
            touches,
            executes: true,
        })
    }

    /// The shard of a decision, `None` for any; an error if it is not to be run.
    pub(super) fn decided(&self, decision: Decision) -> Result<Option<ShardId>, ClientError> {
        match decision {
            Decision::Shard(_) if self.hashes_foreign_text() => Err(ClientError::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "a text sharding key can be read in UTF-8 only",
            )
            .hint("SET client_encoding TO 'UTF8'.")),
            Decision::Shard(shard) => Ok(Some(shard)),
            Decision::AnyShard => Ok(None),
            Decision::Refused(error) => {
                self.served.routes.refused();
                Err(error)
            }
            Decision::Local => Err(ClientError::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "this statement cannot be combined with others in one message",
            )
            .hint("Send it by itself.")),
        }
    }

    /// The same text in another encoding has other bytes, and so another shard.
    fn hashes_foreign_text(&self) -> bool {
        let schema = self.served.router.schema();
        schema.shards > 1 && schema.key_type == KeyType::Text && !self.gucs.is_utf8()
    }

    /// Several statements in a transaction that failed and that no server has. If the first ends
    /// it, the others may run: a server gets a failed transaction of its own to judge that.
    fn revive(&mut self, statements: &[Statement]) -> Result<(), ClientError> {
        let first = statements.first().map(|s| &s.effect);
        let ends = matches!(first, Some(Effect::Commit | Effect::Rollback));
        if let Some(error) = self.untold.take() {
            if first == Some(&Effect::Commit) {
                self.tx.end(false);
            }
            if first != Some(&Effect::Rollback) {
                return Err(error);
            }
        }
        if !ends {
            return Err(aborted());
        }
        self.tx = Tx::Deferred(Prelude::failed());
        Ok(())
    }

    /// Runs a text on a server. `executes`: the prepared statement that it executes, and the text
    /// with the name that the servers know.
    pub(super) async fn run_query(
        &mut self,
        header: Header,
        sql: &str,
        routed: &Routed,
        place: Place,
        started: Instant,
        executes: Option<(Arc<Prepared>, String)>,
    ) -> Result<(), End> {
        let in_block = self.tx.in_block();
        let mut may_retry = place.access == Access::Read && !in_block && !self.keeps();
        loop {
            if !self.try_acquire(place)
                && let Err(error) = Box::pin(self.acquire(place)).await
            {
                return self.refuse_query(header, &error).await;
            }
            if let Some((statement, _)) = &executes
                && !self.prepare_here(statement).await?
            {
                self.drop_frame(header);
                return self.ready().await;
            }
            let Some(held) = &mut self.held else {
                return Ok(());
            };
            let conn = held.lease.conn();
            match &executes {
                None => {
                    let frame = &self.port.input.bytes()[..header.total];
                    conn.port.output.put(frame);
                }
                Some((_, text)) => wire::query(&mut conn.port.output, text),
            }
            conn.ledger.sent(Sent::Query, true);
            self.kept = header.total;
            let mut progress = Progress::default();
            let outcome = self.exchange(&mut progress).await;
            let untouched = self.kept == header.total && progress.to_client == 0;
            if let Err(Failure::Server { .. }) = outcome
                && may_retry
                && untouched
            {
                // Nothing came back and nothing was changed: another server may answer.
                may_retry = false;
                self.kept = 0;
                if let Err(failure) = outcome {
                    self.lost(failure, &progress, false).await?;
                }
                continue;
            }
            self.port.input.consume(self.kept);
            self.kept = 0;
            self.served.metrics.bytes_sent(progress.to_client);
            return match outcome {
                Ok(()) => {
                    let seconds = started.elapsed().as_secs_f64();
                    self.note_query(sql, routed, &progress, seconds);
                    if let Some((statement, _)) = &executes {
                        self.forget_stale([statement], &progress);
                    }
                    self.batch_open = false;
                    self.boundary(&progress).await;
                    Ok(())
                }
                Err(failure) => {
                    let commits = routed
                        .shape
                        .statements
                        .iter()
                        .any(|s| s.effect == Effect::Commit);
                    let writes = !in_block
                        && place.access == Access::Write
                        && routed
                            .shape
                            .statements
                            .iter()
                            .any(|s| s.kind != Kind::Session);
                    let error = self.lost(failure, &progress, commits || writes).await?;
                    self.served.metrics.error(error.code.code());
                    wire::error_response(&mut self.port.output, &error);
                    self.ready().await
                }
            };
        }
    }

    /// What the success of a text's statements means for the session is noted.
    fn note_query(&mut self, sql: &str, routed: &Routed, progress: &Progress, seconds: f64) {
        let statements = &routed.shape.statements;
        // The span is only meaningful among several: one alone may share its shape with texts of
        // another length.
        let alone = statements.len() == 1;
        let text = |span: &std::ops::Range<usize>| sql.get(span.clone()).unwrap_or(sql);
        let ran = statements.iter().map(|statement| {
            let text = if alone { sql } else { text(&statement.span) };
            Some(Ran { statement, text })
        });
        self.note_effects(ran, progress, seconds);
    }

    pub(super) async fn refuse_query(
        &mut self,
        header: Header,
        error: &ClientError,
    ) -> Result<(), End> {
        self.drop_frame(header);
        self.refuse(error).await?;
        self.ready().await
    }

    /// FunctionCall (`F`): relayed where one server has everything, refused elsewhere.
    pub(super) async fn function_call(&mut self, header: Header) -> Result<(), End> {
        if let Err(error) = self.refresh_cluster() {
            return self.refuse_query(header, &error).await;
        }
        if self.tx.is_failed() {
            return self.refuse_query(header, &aborted()).await;
        }
        if self.shard_count() > 1 {
            let error = ClientError::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "function calls by the fast-path protocol cannot be routed to a shard",
            );
            return self
                .refuse_query(header, &error.hint("Use SELECT function(...)."))
                .await;
        }
        let place = Place {
            shard: Some(ShardId(0)),
            access: Access::Write,
            touches: Touched::Wrote,
            executes: true,
        };
        if let Err(error) = Box::pin(self.acquire(place)).await {
            return self.refuse_query(header, &error).await;
        }
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        let conn = held.lease.conn();
        conn.port
            .output
            .put(&self.port.input.bytes()[..header.total]);
        conn.ledger.sent(Sent::Query, true);
        self.kept = header.total;
        let mut progress = Progress::default();
        let outcome = self.exchange(&mut progress).await;
        self.port.input.consume(self.kept);
        self.kept = 0;
        match outcome {
            Ok(()) => {
                self.boundary(&progress).await;
                Ok(())
            }
            Err(failure) => {
                let error = self.lost(failure, &progress, true).await?;
                wire::error_response(&mut self.port.output, &error);
                self.ready().await
            }
        }
    }
}

/// The access that a statement needs: a block that declares itself READ ONLY may begin on a
/// replica, any other begins on the primary.
pub(super) fn access_of(statement: &crate::plan::Statement) -> Access {
    match statement.effect {
        Effect::Begin { read_only: true } => Access::Read,
        Effect::Begin { .. } => Access::Write,
        _ => statement.access,
    }
}

pub(super) fn stricter(a: Access, b: Access) -> Access {
    if a == Access::Write { a } else { b }
}
