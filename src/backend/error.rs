//! Why there is no server connection, or no longer.

use std::time::Duration;

use crate::error::{ClientError, SqlState};
use crate::topology::Address;

use super::Limit;

/// A failure of this room, convertible to what a client sees.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("cannot connect to server {server}: {cause}")]
    Connect {
        /// The server.
        server: Address,
        /// The system's or TLS's words.
        cause: String,
    },
    /// The server answered the login with an error.
    #[error("server {server} refused the login: {message} ({code})")]
    Login {
        /// The server.
        server: Address,
        /// Its SQLSTATE.
        code: String,
        /// Its message.
        message: String,
    },
    /// What pgdrover has of the role's password does not do for this server.
    #[error("cannot prove to server {server} to be role \"{role}\": {cause}")]
    Unproven {
        /// The server.
        server: Address,
        /// The role.
        role: String,
        /// What is missing or wrong.
        cause: &'static str,
    },
    /// All connections were in use for too long.
    #[error(
        "no connection to {server} became free within query_wait_timeout ({waited:.1?}): {limit}"
    )]
    PoolTimeout {
        /// The server.
        server: Address,
        /// How long the client waited.
        waited: Duration,
        /// What kept it waiting.
        limit: Limit,
    },
    /// The pool is being closed.
    #[error("the pool of {server} is closed")]
    Closed {
        /// The server.
        server: Address,
    },
    /// A write was to go to a server that is in recovery.
    #[error("server {server} is in recovery and takes no writes")]
    InRecovery {
        /// The server.
        server: Address,
    },
    /// The connection broke, or the server said something that no protocol allows.
    #[error("connection to server {server} was lost: {cause}")]
    Lost {
        /// The server.
        server: Address,
        /// What was seen.
        cause: String,
    },
}

impl Error {
    /// Whether the server itself cannot be reached, whoever tries.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Error::Connect { .. } => true,
            Error::Login { code, .. } => code == "57P03",
            _ => false,
        }
    }

    /// Whether the server is there and does not let the role in.
    pub(super) fn is_about_the_role(&self) -> bool {
        match self {
            Error::Unproven { .. } => true,
            Error::Login { code, .. } => code.starts_with("28"),
            _ => false,
        }
    }

    /// Whether another server of the shard may do instead, and control should look at this one.
    pub fn is_server_fault(&self) -> bool {
        !matches!(
            self,
            Error::Unproven { .. } | Error::PoolTimeout { .. } | Error::Closed { .. }
        )
    }

    /// The server concerned.
    pub fn server(&self) -> &Address {
        match self {
            Error::Connect { server, .. }
            | Error::Login { server, .. }
            | Error::Unproven { server, .. }
            | Error::PoolTimeout { server, .. }
            | Error::Closed { server }
            | Error::InRecovery { server }
            | Error::Lost { server, .. } => server,
        }
    }
}

impl From<&Error> for ClientError {
    fn from(error: &Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Connect { .. } => ClientError::error(SqlState::CANNOT_CONNECT, message)
                .hint("The server may be down or restarting; try again."),
            Error::Login { code, .. } if code == "57P03" || code == "53300" => {
                ClientError::error(SqlState::CANNOT_CONNECT_NOW, message)
                    .hint("The server is starting, stopping or full; try again.")
            }
            Error::Login { .. } => ClientError::error(SqlState::CANNOT_CONNECT, message)
                .hint("Check the user's server_user and server_password, and the server's pg_hba.conf."),
            Error::PoolTimeout { limit, .. } => {
                let raise = match limit {
                    Limit::Pool(_) => "default_pool_size",
                    Limit::Database(..) => "max_db_connections",
                    Limit::User(..) => "max_user_connections",
                };
                ClientError::error(SqlState::TOO_MANY_CONNECTIONS, message).hint(format!(
                    "Raise {raise}, or look for transactions that stay open."
                ))
            }
            Error::Unproven { .. } => ClientError::error(SqlState::INVALID_PASSWORD, message)
                .hint("Log in again with the current password, or set the user's server_password."),
            Error::Closed { .. } => ClientError::error(SqlState::ADMIN_SHUTDOWN, message),
            Error::InRecovery { .. } => ClientError::error(SqlState::CANNOT_CONNECT_NOW, message)
                .hint("The configured primary is a standby now; correct the roles or wait for the failover."),
            Error::Lost { .. } => ClientError::error(SqlState::CONNECTION_FAILURE, message),
        }
    }
}
