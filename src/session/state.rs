//! Where a session stands in its transaction.
//!
//! ```text
//!            BEGIN (several shards)            first statement that needs a server
//!   Idle ───────────────────────────▶ Deferred ───────────────────────────▶ Open
//!    ▲ ◀───── COMMIT / ROLLBACK ─────────┘ │                                 │ │
//!    │                                     │ refused by pgdrover             │ │ server lost
//!    │ ◀─────────── ROLLBACK ─────────── Failed ◀────────────────────────────┼─┘
//!    └──────────────── ReadyForQuery(I) ─────────────────────────────────────┘
//! ```
//!
//! With one shard BEGIN goes to the server at once: Idle to Open. Pure.

/// What must be run on a server before the transaction's first statement there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prelude {
    /// The statements, in order; the first begins the transaction.
    pub statements: Vec<String>,
    /// Whether it declared itself READ ONLY, so that a replica may serve it.
    pub read_only: bool,
    /// Whether the transaction has failed already, and must be failed on a server too.
    pub failed: bool,
}

impl Prelude {
    /// A transaction begun by this statement.
    pub(super) fn begin(statement: &str, read_only: bool) -> Self {
        Prelude {
            statements: vec![statement.trim_end_matches([';', ' ', '\n']).to_owned()],
            read_only,
            failed: false,
        }
    }

    /// A transaction that is to begin as a failed one.
    pub(super) fn failed() -> Self {
        Prelude {
            failed: true,
            ..Prelude::begin("BEGIN", false)
        }
    }

    /// Whether it cannot fail, so that the first statement may follow without waiting: a lone
    /// BEGIN without options.
    pub(super) fn is_plain(&self) -> bool {
        let plain = [
            "begin",
            "begin transaction",
            "begin work",
            "start transaction",
        ];
        !self.failed
            && self.statements.len() == 1
            && plain.contains(&self.statements[0].trim().to_ascii_lowercase().as_str())
    }

    /// One text that runs all of it.
    pub(super) fn script(&self) -> String {
        // On lines of their own: a statement may end with a comment.
        self.statements.join("\n;")
    }
}

/// The transaction's state, as pgdrover sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Tx {
    /// No transaction block.
    #[default]
    Idle,
    /// BEGIN was answered; no server knows yet.
    Deferred(Prelude),
    /// A server has it. The prelude is what would begin it elsewhere.
    Open(Prelude),
    /// It failed and no server has it: only ROLLBACK helps. The prelude is what began it.
    Failed(Prelude),
}

impl Tx {
    /// The status for ReadyForQuery where pgdrover itself answers; `open` is the server's word for
    /// a transaction that a server has.
    pub(super) fn status(&self, open: u8) -> u8 {
        match self {
            Tx::Idle => b'I',
            Tx::Deferred(_) => b'T',
            Tx::Open(_) => open,
            Tx::Failed(_) => b'E',
        }
    }

    /// Whether a block is open, so that statements belong together.
    pub(super) fn in_block(&self) -> bool {
        !matches!(self, Tx::Idle)
    }

    /// Whether the block declared itself READ ONLY.
    pub(super) fn read_only(&self) -> bool {
        matches!(self, Tx::Deferred(p) | Tx::Open(p) if p.read_only)
    }

    /// The server was given the transaction.
    pub(super) fn opened(&mut self) {
        if let Tx::Deferred(prelude) = self {
            *self = Tx::Open(std::mem::take(prelude));
        }
    }

    /// The server's ReadyForQuery said `status`; `begun` is the prelude of a BEGIN that was sent.
    pub(super) fn ready(&mut self, status: u8, begun: Option<Prelude>) {
        match (status, &*self) {
            (b'I', _) => *self = Tx::Idle,
            (_, Tx::Open(_)) => {}
            _ => *self = Tx::Open(begun.unwrap_or_else(|| Prelude::begin("BEGIN", false))),
        }
    }

    /// A statement of the block succeeded that must be repeated if the block moves to another
    /// server before it touched data.
    pub(super) fn repeat(&mut self, statement: &str) {
        if let Tx::Open(prelude) | Tx::Deferred(prelude) = self {
            prelude.statements.push(statement.to_owned());
        }
    }

    /// BEGIN within the block succeeded: only its modes count.
    pub(super) fn repeat_begin(&mut self, statement: &str, read_only: bool) {
        self.repeat(statement);
        if let Tx::Open(prelude) | Tx::Deferred(prelude) = self
            && prelude.statements.len() == 1
        {
            prelude.read_only = read_only;
        }
    }

    /// The block ended on its server, where another may begin at once: as this one did if
    /// `chained`, else by a BEGIN to come.
    pub(super) fn restart(&mut self, chained: bool) {
        if let Tx::Open(prelude) = self {
            if chained {
                prelude.statements.truncate(1);
            } else {
                *prelude = Prelude::default();
            }
        }
    }

    /// pgdrover refused a statement, or the server was lost: the block, if any, has failed.
    pub(super) fn fail(&mut self) {
        if let Tx::Deferred(prelude) | Tx::Open(prelude) = self {
            *self = Tx::Failed(std::mem::take(prelude));
        }
    }

    /// Whether it failed and no server has it.
    pub(super) fn is_failed(&self) -> bool {
        matches!(self, Tx::Failed(_))
    }

    /// COMMIT or ROLLBACK of a block that no server has. With `chain` the next one begins as it
    /// had begun.
    pub(super) fn end(&mut self, chain: bool) {
        *self = match std::mem::take(self) {
            Tx::Deferred(mut prelude) | Tx::Failed(mut prelude) if chain => {
                prelude.statements.truncate(1);
                Tx::Deferred(prelude)
            }
            _ => Tx::Idle,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deferred_block_opens_on_its_first_statement_and_ends_with_ready() {
        let mut tx = Tx::Deferred(Prelude::begin("BEGIN;", false));
        assert_eq!(tx.status(b'?'), b'T');
        tx.opened();
        tx.ready(b'T', None);
        assert_eq!(tx, Tx::Open(Prelude::begin("BEGIN", false)));
        assert_eq!(tx.status(b'E'), b'E');
        tx.ready(b'I', None);
        assert_eq!(tx, Tx::Idle);
    }

    #[test]
    fn what_was_set_in_a_block_ends_with_it() {
        let mut tx = Tx::Open(Prelude::begin("BEGIN", true));
        tx.repeat("SET LOCAL a = 1");
        tx.restart(true);
        assert_eq!(tx, Tx::Open(Prelude::begin("BEGIN", true)));
        tx.restart(false);
        tx.repeat_begin("BEGIN READ WRITE", false);
        assert_eq!(tx, Tx::Open(Prelude::begin("BEGIN READ WRITE", false)));
    }

    #[test]
    fn only_a_block_can_fail() {
        let mut tx = Tx::Idle;
        tx.fail();
        assert_eq!(tx, Tx::Idle);
        tx = Tx::Deferred(Prelude::begin("BEGIN READ ONLY", true));
        tx.fail();
        assert_eq!(tx.status(b'?'), b'E');
        tx.end(true);
        assert_eq!(tx, Tx::Deferred(Prelude::begin("BEGIN READ ONLY", true)));
        tx.end(false);
        assert_eq!(tx, Tx::Idle);
    }

    #[test]
    fn only_a_lone_begin_is_plain() {
        assert!(Prelude::begin("BEGIN ;", false).is_plain());
        assert!(!Prelude::begin("BEGIN ISOLATION LEVEL SERIALIZABLE", false).is_plain());
        let mut tx = Tx::Deferred(Prelude::begin("begin", false));
        tx.repeat("SAVEPOINT a");
        let Tx::Deferred(prelude) = &tx else { panic!() };
        assert!(!prelude.is_plain());
        assert_eq!(prelude.script(), "begin\n;SAVEPOINT a");
    }
}
