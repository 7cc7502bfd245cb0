//! Why there is no server connection, or no longer.

use std::time::Duration;

use crate::error::{ClientError, SqlState};
use crate::topology::Address;

/// A failure of this room, convertible to what a client sees.
#[derive(Debug, thiserror::Error)]
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
    #[error("no connection to {server} became free within {waited:?}")]
    PoolTimeout {
        /// The server.
        server: Address,
        /// How long the client waited.
        waited: Duration,
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
            Error::Unproven { .. } => ClientError::error(SqlState::INVALID_PASSWORD, message)
                .hint("Log in again with the current password, or set the user's server_password."),
            Error::PoolTimeout { .. } => ClientError::error(SqlState::TOO_MANY_CONNECTIONS, message)
                .hint("Raise pool.default_pool_size, or look for transactions that stay open."),
            Error::Closed { .. } => ClientError::error(SqlState::ADMIN_SHUTDOWN, message),
            Error::InRecovery { .. } => ClientError::error(SqlState::CANNOT_CONNECT_NOW, message)
                .hint("The configured primary is a standby now; correct the roles or wait for the failover."),
            Error::Lost { .. } => ClientError::error(SqlState::CONNECTION_FAILURE, message),
        }
    }
}
