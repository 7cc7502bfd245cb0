//! The language between router and executor.
//!
//! A [`Plan`] is made once for a statement's *shape* (its text with the literals abstracted) and
//! says how the shards follow from values: [`KeySet`]s over literals and parameters. Only when the
//! values are known (at Bind, or at once for a simple query) does it become a [`Decision`].
//!
//! Pure: no input or output, no clock, no hosts. Shards are numbers here.

use crate::error::ClientError;
use crate::sharding::{KeyType, ShardId};

/// Everything that pgdrover knows about one statement of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Where it runs.
    pub plan: Plan,
    /// Whether a replica may run it.
    pub access: Access,
    /// What it does to the session beyond returning rows.
    pub effect: Effect,
    /// The kind of command, for metrics.
    pub kind: Kind,
    /// Which predicate or rule led to the plan: a phrase for people, free of literal values.
    pub proof: Box<str>,
    /// The statement's bytes in a text of several statements, without the semicolon. Such texts
    /// are never shared by shape; the plan of a lone statement is, and has `0..usize::MAX` here.
    pub span: std::ops::Range<usize>,
}

/// Where a statement runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// One server runs the client's own bytes, if the values allow it.
    Single(Target),
    /// Rows or counts of several shards make one answer. Refused until the executor can merge,
    /// but when `target` narrows to one shard at Bind it is the same as `Single`.
    Several {
        /// The shards concerned.
        target: Target,
        /// What would have to be done with the shards' answers, for the explanation.
        merge: Merge,
        /// Which part of the statement needs it: ends the sentence "needs several shards: …".
        because: Box<str>,
    },
    /// pgdrover answers by itself.
    Local(LocalOp),
    /// Never run.
    Reject(ClientError),
}

/// Which shards a statement concerns.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Those that own the keys: one set for each query block that is not colocated with the
    /// others. Blocks must agree on one single key; a lone block may have several.
    Keys(Vec<KeySet>),
    /// Every shard.
    All,
    /// Whichever shard: the answer is the same everywhere (no table, reference tables, catalogs).
    AnyOne,
    /// The named shard (home tables).
    Home(ShardId),
    /// The shard that a hint names.
    Forced(ShardId),
}

/// A set of sharding keys, known when values are.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySet {
    /// Not restricted.
    All,
    /// No row can match, as with `key = NULL`.
    Empty,
    /// Exactly this value.
    One(KeyExpr),
    /// The union (OR, IN).
    Or(Vec<KeySet>),
    /// The intersection (AND).
    And(Vec<KeySet>),
}

/// Where a key's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyExpr {
    /// The n-th abstracted literal of the text, counted from 0.
    Literal {
        /// Its number among the literals of the text.
        index: usize,
        /// Whether a unary minus stands before it.
        negated: bool,
        /// The type that the statement casts it to, if any.
        cast: Option<KeyType>,
    },
    /// A parameter, counted from 0 (`$1` is 0).
    Param {
        /// Its number.
        index: usize,
        /// The type that the statement casts it to, if any.
        cast: Option<KeyType>,
    },
    /// Every element of an array parameter, as in `= ANY($1)`.
    ParamArray {
        /// Its number.
        index: usize,
    },
    /// Every element of an array literal, as in `= ANY('{1,2}')`.
    LiteralArray {
        /// Its number among the literals of the text.
        index: usize,
    },
}

/// Whether a replica may run a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It only reads: a replica may.
    Read,
    /// It writes or locks, or could: only the primary may.
    Write,
}

/// What would merge the answers of several shards. Named here so that the oracle and the
/// explanation can say it; the engines come with the executor that uses them.
#[derive(Clone, Debug, PartialEq)]
pub enum Merge {
    /// Rows one after another; tags summed.
    Concat,
    /// Any other: the phrase of the explanation, such as `kway(created_at DESC) limit 10`.
    Other(Box<str>),
}

/// What pgdrover answers without a server.
#[derive(Clone, Debug, PartialEq)]
pub enum LocalOp {
    /// `EXPLAIN (ROUTE) statement`: the text after the parenthesis.
    ExplainRoute(Box<str>),
    /// A text with no statement in it.
    Empty,
}

/// What a statement does to the session's state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Nothing beyond its rows.
    None,
    /// BEGIN or START TRANSACTION; `read_only` when it says READ ONLY.
    Begin {
        /// READ ONLY was given.
        read_only: bool,
    },
    /// COMMIT or END (also PREPARE TRANSACTION, which ends the block).
    Commit,
    /// ROLLBACK or ABORT of the whole transaction.
    Rollback,
    /// SAVEPOINT, RELEASE, ROLLBACK TO, SET TRANSACTION, SET CONSTRAINTS: replayed when a
    /// transaction that has touched no shard's data yet moves to the shard that it needs.
    TransactionControl,
    /// SET name: the session's value of a setting changes. `name` is folded to lower case and
    /// `statement_local` is true for SET LOCAL.
    Set {
        /// The setting.
        name: Box<str>,
        /// What follows TO or `=`, as written; `None` for DEFAULT.
        value: Option<Box<str>>,
        /// SET LOCAL.
        local: bool,
    },
    /// SELECT of nothing but calls of set_config(): like SET, but the text has to be read for what
    /// it sets.
    SetConfig,
    /// RESET name, or RESET ALL with `None`.
    Reset(Option<Box<str>>),
    /// DISCARD ALL.
    DiscardAll,
    /// DEALLOCATE name, or ALL with `None` (SQL-level prepared statements).
    Deallocate(Option<Box<str>>),
    /// State that lives in the server connection and cannot be replayed: the session keeps the
    /// connection.
    Pin(Pin),
    /// It may end such state: UNLISTEN, CLOSE, DROP, DISCARD TEMP, unlocking.
    Release,
    /// EXECUTE of a statement that was prepared by name.
    Execute,
    /// COPY … FROM STDIN or TO STDOUT.
    Copy,
}

/// The kinds of state for which a session keeps its server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    /// A temporary table, or anything else in the temporary schema.
    TempTable,
    /// An advisory lock of the session.
    AdvisoryLock,
    /// A channel that is listened to.
    Listen,
    /// A cursor that outlives its transaction.
    CursorWithHold,
    /// A statement prepared by SQL.
    Prepare,
    /// A setting whose value pgdrover could not read.
    SetConfig,
    /// A loaded library.
    Load,
}

impl Pin {
    /// The label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Pin::TempTable => "temp_table",
            Pin::AdvisoryLock => "advisory_lock",
            Pin::Listen => "listen",
            Pin::CursorWithHold => "cursor_with_hold",
            Pin::Prepare => "prepare",
            Pin::SetConfig => "set_config",
            Pin::Load => "load",
        }
    }

    /// Whether a server can be asked if such state is left. What cannot be told lasts until
    /// DISCARD ALL.
    pub fn can_be_asked(self) -> bool {
        !matches!(self, Pin::SetConfig | Pin::Load)
    }
}

/// The kind of a command, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// SELECT, VALUES, TABLE, WITH … SELECT.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// COPY.
    Copy,
    /// BEGIN, COMMIT, SAVEPOINT and their kin.
    Transaction,
    /// CREATE, ALTER, DROP, TRUNCATE and other changes of the schema.
    Ddl,
    /// SET, RESET, SHOW, DISCARD.
    Session,
    /// Whatever else.
    Other,
}

impl Kind {
    /// Every kind, in the order of `index`.
    pub const ALL: [Kind; 9] = [
        Kind::Select,
        Kind::Insert,
        Kind::Update,
        Kind::Delete,
        Kind::Copy,
        Kind::Transaction,
        Kind::Ddl,
        Kind::Session,
        Kind::Other,
    ];

    /// The label of the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Select => "select",
            Kind::Insert => "insert",
            Kind::Update => "update",
            Kind::Delete => "delete",
            Kind::Copy => "copy",
            Kind::Transaction => "transaction",
            Kind::Ddl => "ddl",
            Kind::Session => "session",
            Kind::Other => "other",
        }
    }
}

/// A plan with its values: what to do now.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// This shard, proven.
    Shard(ShardId),
    /// Any shard gives the right answer (or the server's own error).
    AnyShard,
    /// pgdrover answers; the plan says what.
    Local,
    /// Not run; the client is told why.
    Refused(ClientError),
}
