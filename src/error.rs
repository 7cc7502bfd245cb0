//! An error as a client sees it.
//!
//! Rooms have error enums of their own; what reaches a client is a [`ClientError`], into which
//! each owner converts. SQLSTATE values are constants here (PostgreSQL, appendix A), never
//! strings in passing, so that a typo cannot become a new error class.

use std::borrow::Cow;
use std::fmt;

/// A five-character SQLSTATE of PostgreSQL's appendix A.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(&'static str);

macro_rules! sqlstates {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$doc])* pub const $name: SqlState = SqlState($code);)*
        }
    };
}

sqlstates! {
    /// The connection to a server broke, or could not be made.
    CONNECTION_FAILURE = "08006";
    /// The server refused the connection.
    CANNOT_CONNECT = "08001";
    /// A COMMIT or a write was sent and its outcome is not known.
    TRANSACTION_RESOLUTION_UNKNOWN = "08007";
    /// The client broke the protocol.
    PROTOCOL_VIOLATION = "08P01";
    /// Something that pgdrover does not do, such as a statement over several shards.
    FEATURE_NOT_SUPPORTED = "0A000";
    /// Data does not have the form that its type wants.
    INVALID_TEXT_REPRESENTATION = "22P02";
    /// A key has no shard.
    CHECK_VIOLATION = "23514";
    /// The command is not allowed inside a transaction block.
    ACTIVE_SQL_TRANSACTION = "25001";
    /// A write reached a server that only reads.
    READ_ONLY_SQL_TRANSACTION = "25006";
    /// The transaction failed earlier; only ROLLBACK is possible.
    IN_FAILED_SQL_TRANSACTION = "25P02";
    /// No such prepared statement.
    INVALID_SQL_STATEMENT_NAME = "26000";
    /// The user may not log in.
    INVALID_AUTHORIZATION = "28000";
    /// Wrong password, or no such user.
    INVALID_PASSWORD = "28P01";
    /// No such portal.
    INVALID_CURSOR_NAME = "34000";
    /// No such database.
    INVALID_CATALOG_NAME = "3D000";
    /// Row-level conflict that a retry may cure.
    SERIALIZATION_FAILURE = "40001";
    /// The statement's syntax is wrong.
    SYNTAX_ERROR = "42601";
    /// The user lacks a privilege.
    INSUFFICIENT_PRIVILEGE = "42501";
    /// No such table.
    UNDEFINED_TABLE = "42P01";
    /// A prepared statement of that name exists.
    DUPLICATE_PREPARED_STATEMENT = "42P05";
    /// Too many connections.
    TOO_MANY_CONNECTIONS = "53300";
    /// A limit set by the operator was exceeded.
    CONFIGURATION_LIMIT_EXCEEDED = "53400";
    /// A limit of the implementation was exceeded.
    PROGRAM_LIMIT_EXCEEDED = "54000";
    /// The object is not in the state that the command needs.
    OBJECT_NOT_IN_PREREQUISITE_STATE = "55000";
    /// The statement was cancelled.
    QUERY_CANCELED = "57014";
    /// The server or pgdrover is shutting down.
    ADMIN_SHUTDOWN = "57P01";
    /// No server can take the statement now.
    CANNOT_CONNECT_NOW = "57P03";
    /// The session waited too long for its client.
    IDLE_SESSION_TIMEOUT = "57P05";
    /// A fault of pgdrover itself.
    INTERNAL_ERROR = "XX000";
}

impl SqlState {
    /// The five characters.
    pub fn code(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({})", self.0)
    }
}

/// How grave an error is to the session (PostgreSQL, section 55.8, field `S`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

impl Severity {
    /// As the protocol spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

/// What a client is told when something fails: always a cause, and a hint where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientError {
    /// Whether the session survives.
    pub severity: Severity,
    /// The error's class, which drivers act on.
    pub code: SqlState,
    /// The primary message: one line, lower case, naming the cause.
    pub message: Cow<'static, str>,
    /// More about this occurrence.
    pub detail: Option<Cow<'static, str>>,
    /// What the reader can do about it.
    pub hint: Option<Cow<'static, str>>,
}

impl ClientError {
    /// An error that fails the statement.
    pub fn error(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        ClientError {
            severity: Severity::Error,
            code,
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// An error that ends the session.
    pub fn fatal(code: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        ClientError {
            severity: Severity::Fatal,
            ..Self::error(code, message)
        }
    }

    /// Adds what the reader can do.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds more about this occurrence.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({})",
            self.severity.as_str(),
            self.message,
            self.code
        )
    }
}

impl std::error::Error for ClientError {}
