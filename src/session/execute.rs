//! PREPARE and EXECUTE in SQL: the statement is kept among the client's own, as if the protocol had
//! prepared it, and so it binds the session to no server connection.
//!
//! EXECUTE (in whose errors a position counts from the longer name) has the name replaced by the statement's name on the servers, and is prepared there if
//! the connection lacks it. Where pgdrover does not understand a text that may execute such a
//! statement (EXPLAIN EXECUTE, several statements in one text, EXECUTE in the extended protocol),
//! the server is told of the client's names first, and the session stays with it.

use std::sync::Arc;
use std::time::Instant;

use super::batch::{Sending, no_statement};
use super::client::{Client, End};
use super::hold::run_aside;
use super::local::aborted;
use super::prepared::Prepared;
use super::run::Place;
use super::simple::access_of;
use super::sqlprep;
use crate::backend::{Sent, statement_name};
use crate::error::{ClientError, SqlState};
use crate::executor::{Held, Progress, Touched};
use crate::plan::{Access, Effect, Pin, Statement};
use crate::router::{NoParams, Routed};
use crate::wire::{self, Header};

/// A statement that SQL prepared and pgdrover understood.
#[derive(Debug)]
pub(super) struct ByName {
    name: Box<[u8]>,
    statement: Arc<Prepared>,
    /// The whole PREPARE.
    text: Box<str>,
}

/// Whether a text may name a statement that SQL prepared.
pub(super) fn mentions(sql: &[u8]) -> bool {
    let word = |w: &[u8]| sql.windows(w.len()).any(|s| s.eq_ignore_ascii_case(w));
    word(b"execute") || word(b"prepare")
}

impl Client {
    /// Runs PREPARE or EXECUTE if it is understood; otherwise the server does, which
    /// [`Client::tell_names`] has to be called for.
    pub(super) async fn sql_prepared(
        &mut self,
        header: Header,
        sql: &str,
        routed: &Routed,
        started: Instant,
    ) -> Result<Option<()>, End> {
        if self.server_names || sql.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(None);
        }
        if self.batch_open {
            let wrote = |held: &Held| held.touched == Touched::Wrote;
            if !self.tx.in_block() && self.held.as_ref().is_none_or(wrote) {
                // What the batch did is one transaction with this statement.
                return Ok(None);
            }
            if let Err(error) = self.close_batch().await? {
                return self.refuse_query(header, &error).await.map(Some);
            }
        }
        if let Some(prepare) = sqlprep::prepare(sql) {
            return self.sql_prepare(header, sql, prepare).await;
        }
        let Some(execute) = sqlprep::execute(sql) else {
            return Ok(None);
        };
        let Some(prepared) = self.named.get(execute.name.as_bytes()).cloned() else {
            // No server has the name either; with one, it says so itself.
            if self.has_state() || self.shard_count() < 2 {
                return Ok(None);
            }
            let failed = self.tx.in_block() && self.status() == b'E';
            let error = match failed {
                true => aborted(),
                false => no_statement(execute.name.as_bytes()),
            };
            return self.refuse_query(header, &error).await.map(Some);
        };
        let Some(inner) = prepared.routed.shape.statements.first() else {
            return Ok(None);
        };
        if inner.effect != Effect::None {
            return Ok(None);
        }
        let place = match self.place_of_execute(&prepared, inner, &execute, sql) {
            Ok(Some(place)) => place,
            Ok(None) => return Ok(None),
            Err(error) => return self.refuse_query(header, &error).await.map(Some),
        };
        let mut text = sql.to_owned();
        text.replace_range(execute.span, &statement_name(prepared.id));
        let run = self.run_query(header, sql, routed, place, started, Some((prepared, text)));
        // Boxed: hardly any query comes here, and all would carry the space for it.
        Box::pin(run).await.map(Some)
    }

    fn place_of_execute(
        &self,
        prepared: &Prepared,
        inner: &Statement,
        execute: &sqlprep::Execute,
        sql: &str,
    ) -> Result<Option<Place>, ClientError> {
        let router = &self.served.router;
        let decision = match execute.arguments(sql) {
            Some(values) => router.decide(&prepared.sql, &prepared.routed, 0, &values),
            None if self.shard_count() > 1 => return Ok(None),
            None => router.decide(&prepared.sql, &prepared.routed, 0, &NoParams),
        };
        let shard = self.decided(decision)?;
        Ok(Some(Place {
            shard,
            access: access_of(inner),
            touches: Self::touches(shard, inner),
            executes: true,
        }))
    }

    async fn sql_prepare(
        &mut self,
        header: Header,
        sql: &str,
        prepare: sqlprep::Prepare,
    ) -> Result<Option<()>, End> {
        // Blanks in front keep the positions in errors what the client can count.
        let body = format!("{:1$}{2}", "", prepare.body, &sql[prepare.body..]);
        let served = &self.served;
        let naming = self.gucs.naming();
        let types = prepare.types;
        let limit = self.service.settings.max_statement_memory;
        let statements = &served.statements;
        let interned = statements.intern(&served.router, body.as_bytes(), types, &naming, limit);
        let interned = self.one_more_name().and(interned);
        let statement = match interned {
            Ok(statement) => statement,
            Err(error) => return self.refuse_query(header, &error).await.map(Some),
        };
        let effect = statement.routed.shape.statements.first().map(|s| &s.effect);
        if effect != Some(&Effect::None) {
            return Ok(None);
        }
        let name = prepare.name;
        let taken = self.named.contains_key(name.as_bytes());
        if self.tx.in_block() && self.status() == b'E' {
            return self.refuse_query(header, &aborted()).await.map(Some);
        }
        if taken {
            let error = ClientError::error(
                SqlState::DUPLICATE_PREPARED_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            );
            return self.refuse_query(header, &error).await.map(Some);
        }
        let place = Place {
            shard: None,
            access: Access::Write,
            touches: Touched::Nothing,
            executes: false,
        };
        if let Err(error) = Box::pin(self.acquire(place)).await {
            return self.refuse_query(header, &error).await.map(Some);
        }
        let there = self.prepare_here(&statement).await?;
        self.drop_frame(header);
        if there {
            let name: Box<[u8]> = name.into_bytes().into();
            let Client { named, by_name, .. } = self;
            named.insert(name.clone(), statement.clone());
            by_name.retain(|b| {
                named
                    .get(&b.name)
                    .is_some_and(|s| Arc::ptr_eq(s, &b.statement))
            });
            by_name.push(ByName {
                name,
                statement,
                text: sql.into(),
            });
            self.boundary(&Progress::default()).await;
            wire::command_complete(&mut self.port.output, "PREPARE");
        }
        self.ready().await.map(Some)
    }

    /// Whether the client may have another named statement.
    pub(super) fn one_more_name(&self) -> Result<(), ClientError> {
        if self.named.len() < self.service.settings.max_client_statements {
            return Ok(());
        }
        let message = "the client has too many prepared statements";
        let error = ClientError::error(SqlState::CONFIGURATION_LIMIT_EXCEEDED, message);
        Err(error.hint("Close statements, or raise session.max_client_statements."))
    }

    /// Sees to it that the held connection has the statement. If that fails the client has been
    /// told why, and the transaction's state is up to date.
    pub(super) async fn prepare_here(&mut self, statement: &Arc<Prepared>) -> Result<bool, End> {
        let Client {
            held,
            unnamed_there,
            retire,
            ..
        } = self;
        let Some(held) = held else { return Ok(false) };
        let mut sending = Sending {
            conn: held.lease.conn(),
            unnamed_there,
            parsing: Vec::new(),
            retire,
        };
        if !sending.ensure(statement, false) && sending.conn.ledger.is_empty() {
            return Ok(true);
        }
        wire::empty_message(&mut sending.conn.port.output, b'S');
        sending.conn.ledger.sent(Sent::Sync, false);
        let mut progress = Progress::default();
        if let Err(failure) = self.exchange(&mut progress).await {
            let error = self.lost(failure, &progress, false).await?;
            self.served.metrics.error(error.code.code());
            wire::error_response(&mut self.port.output, &error);
            return Ok(false);
        }
        if progress.failed {
            self.boundary(&progress).await;
            return Ok(false);
        }
        self.retire = None;
        Ok(true)
    }

    /// A text that is not understood may name statements that SQL prepared: the server that runs it
    /// must know them.
    pub(super) fn tell_names(&mut self, sql: &[u8]) {
        if !self.by_name.is_empty() && mentions(sql) {
            self.pin(Pin::Prepare);
            self.names_wanted = true;
        }
    }

    /// Prepares what SQL prepared on the held connection under the client's own names.
    pub(super) async fn names_here(&mut self) -> Result<(), ClientError> {
        if self.tx.in_block() && self.status() == b'E' {
            // Nothing can be executed before the block ends.
            return Ok(());
        }
        if self.batch_open {
            let error = ClientError::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                "EXECUTE of a statement that SQL prepared cannot be combined with others in a batch",
            );
            return Err(error.hint("Send Sync before it, or prepare by the protocol."));
        }
        self.names_wanted = false;
        let Some(held) = &mut self.held else {
            return Ok(());
        };
        for by_name in self.by_name.drain(..) {
            let known = self.named.get(&by_name.name);
            if known.is_some_and(|s| Arc::ptr_eq(s, &by_name.statement)) {
                self.named.remove(&by_name.name);
                self.server_names = true;
                run_aside(held.lease.conn(), &by_name.text).await?;
            }
        }
        Ok(())
    }
}
