//! An error as a client sees it.
//!
//! Rooms have error enums of their own; what reaches a client is a [`ClientError`], into which
//! each owner converts. SQLSTATE values are constants here (PostgreSQL, appendix A), never
//! strings in passing, so that a typo cannot become a new error class.

use std::borrow::Cow;
use std::fmt;

/// A five-character SQLSTATE of PostgreSQL's appendix A.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

macro_rules! sqlstates {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$doc])* pub const $name: SqlState = SqlState(*$code);)*
        }
    };
}

sqlstates! {
    /// The connection to a server broke, or could not be made.
    CONNECTION_FAILURE = b"08006";
    /// The server refused the connection.
    CANNOT_CONNECT = b"08001";
    /// A COMMIT or a write was sent and its outcome is not known.
    TRANSACTION_RESOLUTION_UNKNOWN = b"08007";
    /// The client broke the protocol.
    PROTOCOL_VIOLATION = b"08P01";
    /// Something that pgdrover does not do, such as a statement over several shards.
    FEATURE_NOT_SUPPORTED = b"0A000";
    /// Data does not have the form that its type wants.
    INVALID_TEXT_REPRESENTATION = b"22P02";
    /// A key has no shard.
    CHECK_VIOLATION = b"23514";
    /// The command is not allowed inside a transaction block.
    ACTIVE_SQL_TRANSACTION = b"25001";
    /// A write reached a server that only reads.
    READ_ONLY_SQL_TRANSACTION = b"25006";
    /// The client left a transaction open for too long.
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT = b"25P03";
    /// The transaction failed earlier; only ROLLBACK is possible.
    IN_FAILED_SQL_TRANSACTION = b"25P02";
    /// No such prepared statement.
    INVALID_SQL_STATEMENT_NAME = b"26000";
    /// The user may not log in.
    INVALID_AUTHORIZATION = b"28000";
    /// Wrong password, or no such user.
    INVALID_PASSWORD = b"28P01";
    /// No such portal.
    INVALID_CURSOR_NAME = b"34000";
    /// No such database.
    INVALID_CATALOG_NAME = b"3D000";
    /// No such savepoint.
    NO_SUCH_SAVEPOINT = b"3B001";
    /// Row-level conflict that a retry may cure.
    SERIALIZATION_FAILURE = b"40001";
    /// The statement's syntax is wrong.
    SYNTAX_ERROR = b"42601";
    /// The user lacks a privilege.
    INSUFFICIENT_PRIVILEGE = b"42501";
    /// No such table.
    UNDEFINED_TABLE = b"42P01";
    /// A prepared statement of that name exists.
    DUPLICATE_PREPARED_STATEMENT = b"42P05";
    /// Too many connections.
    TOO_MANY_CONNECTIONS = b"53300";
    /// A limit set by the operator was exceeded.
    CONFIGURATION_LIMIT_EXCEEDED = b"53400";
    /// A limit of the implementation was exceeded.
    PROGRAM_LIMIT_EXCEEDED = b"54000";
    /// The object is not in the state that the command needs.
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000";
    /// The statement was cancelled.
    QUERY_CANCELED = b"57014";
    /// The server or pgdrover is shutting down.
    ADMIN_SHUTDOWN = b"57P01";
    /// No server can take the statement now.
    CANNOT_CONNECT_NOW = b"57P03";
    /// The session waited too long for its client.
    IDLE_SESSION_TIMEOUT = b"57P05";
    /// A fault of pgdrover itself.
    INTERNAL_ERROR = b"XX000";
}

impl SqlState {
    /// A code that a server sent; `None` if it is not five ASCII letters or digits.
    pub fn from_server(code: &str) -> Option<Self> {
        let bytes: [u8; 5] = code.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(u8::is_ascii_alphanumeric)
            .then_some(SqlState(bytes))
    }

    /// The five characters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({})", self.code())
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
