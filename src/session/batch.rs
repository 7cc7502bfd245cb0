//! The messages of an open batch, and how they are put to a server connection.

use std::sync::Arc;
use std::time::Instant;

use super::client::Client;
use super::prepared::Prepared;
use crate::backend::{Conn, Sent, StatementId, statement_name};
use crate::error::{ClientError, SqlState};
use crate::plan::{Effect, Plan};
use crate::router::{Param, Params};
use crate::sharding::ShardId;
use crate::telemetry::metrics::Closed;
use crate::wire::{self, BindView};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Parse,
    Bind,
    DescribeStatement,
    DescribePortal,
    Execute,
    CloseStatement,
    ClosePortal,
}

/// A message that waits to be sent: its place in the client's input and what it is about.
#[derive(Debug)]
pub(super) struct Op {
    pub(super) kind: Kind,
    pub(super) at: usize,
    pub(super) total: usize,
    pub(super) statement: Option<Arc<Prepared>>,
    pub(super) shard: Option<ShardId>,
    pub(super) undo: Undo,
}

impl Op {
    /// Whether it concerns a statement of which nothing can be pgdrover's own to answer, wherever
    /// the session stands, but in a transaction that failed.
    pub(super) fn is_plain(&self) -> bool {
        let statement = self.statement.as_ref();
        let first = statement.and_then(|p| p.routed.shape.statements.first());
        first.is_some_and(|s| s.effect == Effect::None && !matches!(s.plan, Plan::Local(_)))
    }
}

/// How to take back what a message did to the session's names, should the server not come to it.
#[derive(Debug)]
pub(super) enum Undo {
    /// It did nothing to them.
    Nothing,
    /// It parsed or closed the unnamed statement; this was there before.
    Unnamed(Option<Arc<Prepared>>),
    /// It parsed or closed this name; that was there before.
    Named(Box<[u8]>, Option<Arc<Prepared>>),
}

/// The messages since the last Sync or Flush.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) ops: Vec<Op>,
    pub(super) started: Option<Instant>,
    /// How many of them were answered with success.
    pub(super) answered: usize,
    /// One of them changes which names there are: it must be run before the next is looked at.
    pub(super) renames: bool,
}

impl Client {
    /// How many of the messages may run together: what comes behind the end of a block may need
    /// another shard than the block.
    pub(super) fn to_the_end_of_the_block(&self, ops: &[Op]) -> usize {
        let (true, Some(held)) = (self.tx.in_block() && self.shard_count() > 1, &self.held) else {
            return ops.len();
        };
        let ends = |op: &Op| {
            let statement = op.statement.as_ref();
            let statement = statement.and_then(|p| p.routed.shape.statements.first());
            op.kind == Kind::Execute
                && statement.is_some_and(|s| matches!(s.effect, Effect::Commit | Effect::Rollback))
        };
        match ops.iter().position(ends) {
            Some(at)
                if ops[at..]
                    .iter()
                    .any(|op| op.shard.is_some_and(|s| s != held.shard)) =>
            {
                at + 1
            }
            _ => ops.len(),
        }
    }
}

/// Encodes messages for one server connection.
pub(super) struct Sending<'a> {
    pub(super) conn: &'a mut Conn,
    pub(super) unnamed_there: &'a mut Option<Arc<Prepared>>,
    /// Statements whose Parse is on its way.
    pub(super) parsing: Vec<StatementId>,
    pub(super) retire: &'a mut Option<Closed>,
}

impl Sending<'_> {
    /// Queues one message, with what the server lacks for it before it.
    pub(super) fn put(&mut self, op: &Op, frame: &[u8]) {
        match (op.kind, &op.statement) {
            (Kind::Parse, Some(p)) if p.id != 0 => {
                if !self.ensure(p, true) {
                    self.conn.ledger.owe(b'1');
                }
            }
            (Kind::Parse, p) => {
                self.unnamed_there.clone_from(p);
                self.raw(frame, Sent::Parse(None));
            }
            (Kind::Bind, Some(p)) if p.id != 0 => {
                self.ensure(p, false);
                let body = &frame[5..];
                let names = wire::cstr(body).and_then(|(portal, rest)| {
                    Some((portal, portal.len() + 2 + wire::cstr(rest)?.0.len()))
                });
                if let Some((portal, names)) = names {
                    let name = statement_name(p.id);
                    wire::bind_renamed(&mut self.conn.port.output, portal, &name, body, names);
                    self.conn.ledger.sent(Sent::Bind, true);
                }
            }
            (Kind::Bind, p) => {
                self.ensure_unnamed(p);
                self.raw(frame, Sent::Bind);
            }
            (Kind::DescribeStatement, Some(p)) if p.id != 0 => {
                self.ensure(p, false);
                wire::describe_statement(&mut self.conn.port.output, &statement_name(p.id));
                self.conn.ledger.sent(Sent::Describe, true);
            }
            (Kind::DescribeStatement, p) => {
                self.ensure_unnamed(p);
                self.raw(frame, Sent::Describe);
            }
            (Kind::DescribePortal, _) => self.raw(frame, Sent::Describe),
            (Kind::Execute, _) => self.raw(frame, Sent::Execute),
            (Kind::ClosePortal, _) => self.raw(frame, Sent::Close),
            // The statement stays on the server: others may use it.
            (Kind::CloseStatement, _) => self.conn.ledger.owe(b'3'),
        }
    }

    fn raw(&mut self, frame: &[u8], sent: Sent) {
        self.conn.port.output.put(frame);
        self.conn.ledger.sent(sent, true);
    }

    /// Sees to it that the statement exists on the server; returns whether a Parse was needed.
    pub(super) fn ensure(&mut self, p: &Prepared, for_client: bool) -> bool {
        if self.conn.prepared().touch(p.id) || self.parsing.contains(&p.id) {
            return false;
        }
        if let Some(evicted) = self.conn.prepared().make_room() {
            wire::close_statement(&mut self.conn.port.output, &statement_name(evicted));
            self.conn.ledger.sent(Sent::Close, false);
            *self.retire = Some(Closed::StatementsUnknown);
        }
        let name = statement_name(p.id);
        wire::parse(&mut self.conn.port.output, &name, p.bytes(), &p.types);
        self.conn.ledger.sent(Sent::Parse(Some(p.id)), for_client);
        self.parsing.push(p.id);
        true
    }

    /// Sees to it that the client's unnamed statement is the server's.
    fn ensure_unnamed(&mut self, p: &Option<Arc<Prepared>>) {
        let (Some(p), there) = (p, &*self.unnamed_there) else {
            return;
        };
        if there.as_ref().is_some_and(|t| Arc::ptr_eq(t, p)) {
            return;
        }
        wire::parse(&mut self.conn.port.output, "", p.bytes(), &p.types);
        self.conn.ledger.sent(Sent::Parse(None), false);
        *self.unnamed_there = Some(p.clone());
    }
}
/// The parameters of a Bind, as the router asks for them.
pub(super) struct Bound<'a> {
    pub(super) view: BindView<'a>,
    pub(super) types: &'a [u32],
}

impl Params for Bound<'_> {
    fn get(&self, index: usize) -> Option<Param<'_>> {
        Some(Param {
            value: self.view.value(index)?,
            binary: self.view.is_binary(index),
            declared_type: self.types.get(index).copied().unwrap_or(0),
        })
    }
}

/// A name that no statement has.
pub(super) fn no_statement(name: &[u8]) -> ClientError {
    let message = if name.is_empty() {
        "unnamed prepared statement does not exist".to_owned()
    } else {
        format!(
            "prepared statement \"{}\" does not exist",
            String::from_utf8_lossy(name)
        )
    };
    ClientError::error(SqlState::INVALID_SQL_STATEMENT_NAME, message)
}
