//! What pgdrover answers by itself: BEGIN before a shard is known, the end of a transaction that no
//! server has, DISCARD ALL and DEALLOCATE (the statements are pgdrover's), EXPLAIN (ROUTE).

use super::client::{Client, End};
use super::spelling;
use super::state::{Prelude, Tx};
use super::words::words;
use crate::error::{ClientError, SqlState};
use crate::plan::{Effect, LocalOp, Plan, Statement};
use crate::router::Params;
use crate::wire;

/// An answer of pgdrover's own.
#[derive(Debug)]
pub(super) enum Answer {
    /// CommandComplete with this tag.
    Tag(&'static str),
    /// CommandComplete after a warning.
    Warned(ClientError, &'static str),
    /// EmptyQueryResponse.
    Empty,
    /// The rows of EXPLAIN (ROUTE).
    Explain(Vec<String>),
}

/// The column of EXPLAIN's answer.
pub(super) const EXPLAIN_COLUMN: &str = "QUERY PLAN";

impl Client {
    /// Whether pgdrover answers the statement by itself, given where the session stands. With
    /// `alone` false the statement travels with others that need a server, and so does a BEGIN.
    pub(super) fn is_local(&self, statement: &Statement, text: &str, alone: bool) -> bool {
        if self.tx.is_failed() {
            return true;
        }
        if matches!(statement.plan, Plan::Local(_)) {
            return true;
        }
        match &statement.effect {
            // A transaction or a pipeline that a server has is its own to judge.
            Effect::DiscardAll => !self.batch_open && !matches!(self.tx, Tx::Open(_)),
            // Statements that SQL prepared bind the session to a server, and it goes there.
            Effect::Deallocate(None) => !self.has_state(),
            Effect::Deallocate(Some(name)) => self.named.contains_key(name.as_bytes()),
            Effect::Begin { .. } => match (spelling::begin(text), &self.tx) {
                // In an open batch it takes what the batch did into the transaction.
                (Some(_), Tx::Idle) => alone && self.shard_count() > 1 && !self.batch_open,
                // A second BEGIN warns, but its modes count.
                (Some(begin), Tx::Deferred(_)) => alone && !begin.modes,
                _ => false,
            },
            Effect::Commit | Effect::Rollback => {
                matches!(self.tx, Tx::Deferred(_)) && alone && spelling::end(text).is_some()
            }
            _ => false,
        }
    }

    /// Answers such a statement: what it does is done here.
    pub(super) async fn answer(
        &mut self,
        statement: &Statement,
        text: &str,
        params: &(dyn Params + Sync),
    ) -> Result<Answer, ClientError> {
        if self.tx.is_failed() {
            return self.answer_failed(statement, text);
        }
        match (&statement.plan, &statement.effect) {
            (Plan::Local(LocalOp::Empty), _) => Ok(Answer::Empty),
            _ if self.tx.in_block() && self.status() == b'E' => Err(aborted()),
            (Plan::Local(LocalOp::ExplainRoute(inner)), _) => {
                let names: Vec<&str> = self
                    .cluster
                    .iter()
                    .flat_map(|c| &c.shards)
                    .map(|s| &*s.name)
                    .collect();
                Ok(Answer::Explain(
                    self.served.router.explain(inner, params, &names),
                ))
            }
            (_, Effect::DiscardAll) => self.discard_all().await,
            (_, Effect::Deallocate(None)) => {
                self.named.clear();
                Ok(Answer::Tag("DEALLOCATE ALL"))
            }
            (_, Effect::Deallocate(Some(name))) => {
                self.named.remove(name.as_bytes());
                Ok(Answer::Tag("DEALLOCATE"))
            }
            (_, Effect::Begin { read_only }) => Ok(self.begin(text, *read_only)),
            (_, Effect::Commit) => Ok(self.end_deferred(text, "COMMIT")),
            (_, Effect::Rollback) => Ok(self.end_deferred(text, "ROLLBACK")),
            _ => Err(ClientError::error(
                SqlState::INTERNAL_ERROR,
                "the statement is not local",
            )),
        }
    }

    fn begin(&mut self, text: &str, read_only: bool) -> Answer {
        let tag = if starts_with(text, "start") {
            "START TRANSACTION"
        } else {
            "BEGIN"
        };
        if self.tx.in_block() {
            let warning = ClientError::error(
                SqlState::ACTIVE_SQL_TRANSACTION,
                "there is already a transaction in progress",
            );
            return Answer::Warned(warning, tag);
        }
        self.tx = Tx::Deferred(Prelude::begin(text, read_only));
        Answer::Tag(tag)
    }

    /// Nothing was done in it, so committing and rolling back are the same. AND CHAIN begins the
    /// next transaction as this one was begun.
    fn end_deferred(&mut self, text: &str, tag: &'static str) -> Answer {
        self.gucs.end(tag == "COMMIT");
        self.tx.end(chains(text));
        Answer::Tag(tag)
    }

    fn answer_failed(&mut self, statement: &Statement, text: &str) -> Result<Answer, ClientError> {
        let commits = statement.effect == Effect::Commit;
        let ends = commits || statement.effect == Effect::Rollback;
        let untold = self.untold.take();
        if ends {
            self.tx.end(untold.is_none() && chains(text));
            self.gucs.end(false);
        }
        match untold {
            // To a client that knows of no failure, a COMMIT that did not happen is an error.
            Some(error) if statement.effect != Effect::Rollback => return Err(error),
            _ => {}
        }
        if ends {
            return Ok(Answer::Tag("ROLLBACK"));
        }
        if matches!(statement.plan, Plan::Local(LocalOp::Empty)) {
            return Ok(Answer::Empty);
        }
        if let Some(name) = rolls_back_to(text)
            && let Tx::Failed(prelude) = &self.tx
            && prelude.statements.len() <= 1
        {
            let message = format!("savepoint \"{name}\" does not exist");
            return Err(ClientError::error(SqlState::NO_SUCH_SAVEPOINT, message));
        }
        Err(aborted())
    }

    async fn discard_all(&mut self) -> Result<Answer, ClientError> {
        if self.tx.in_block() {
            let reason = "DISCARD ALL cannot run inside a transaction block";
            return Err(ClientError::error(SqlState::ACTIVE_SQL_TRANSACTION, reason));
        }
        self.discarded();
        self.unpin().await;
        Ok(Answer::Tag("DISCARD ALL"))
    }

    /// The session is as it began, but for the state on its server connections.
    pub(super) fn discarded(&mut self) {
        self.named.clear();
        self.unnamed = None;
        self.gucs.discard();
    }

    /// Writes an answer out. `described`: a RowDescription was asked for and sent before.
    pub(super) fn write_answer(&mut self, answer: &Answer, described: bool) {
        let out = &mut self.port.output;
        match answer {
            Answer::Tag(tag) => wire::command_complete(out, tag),
            Answer::Warned(warning, tag) => {
                wire::notice(out, "WARNING", warning);
                wire::command_complete(out, tag);
            }
            Answer::Empty => wire::empty_message(out, b'I'),
            Answer::Explain(lines) => {
                if !described {
                    wire::row_description_text(out, &[EXPLAIN_COLUMN]);
                }
                for line in lines {
                    wire::text_row(out, &[line]);
                }
                wire::command_complete(out, "EXPLAIN");
            }
        }
    }

    /// Ends a query that pgdrover answered.
    pub(super) async fn ready(&mut self) -> Result<(), End> {
        let status = self.status();
        wire::ready_for_query(&mut self.port.output, status);
        // With more frames at hand the answers may travel together.
        if self.port.input.len() == self.kept {
            self.port.flush().await?;
        }
        Ok(())
    }
}

/// What PostgreSQL says to everything but the end of a failed transaction.
pub(super) fn aborted() -> ClientError {
    ClientError::error(
        SqlState::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}

fn starts_with(text: &str, word: &str) -> bool {
    words(text).first().is_some_and(|first| first == word)
}

/// The savepoint of ROLLBACK TO.
pub(super) fn rolls_back_to(text: &str) -> Option<String> {
    let words = words(text);
    let to = words.iter().position(|w| w == "to")?;
    let rolls_back = matches!(words.first()?.as_str(), "rollback" | "abort");
    words
        .into_iter()
        .next_back()
        .filter(|_| rolls_back && to <= 2)
}

/// Whether COMMIT or ROLLBACK says AND CHAIN.
fn chains(text: &str) -> bool {
    words(text).ends_with(&["and".into(), "chain".into()])
}
