//! Why a demo cluster could not do what was asked.

use std::error::Error as _;
use std::path::PathBuf;

/// What went wrong, told so that the reader can act. The text holds the cause: there is no source
/// to print beside it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL is not installed, or not where we look.
    #[error(
        "PostgreSQL's server programs (postgres, initdb, pg_basebackup) were not found; \
         install the package `postgresql` (Fedora: `postgresql-server`). Looked in: {looked_in}"
    )]
    NotInstalled {
        /// The folders that were searched.
        looked_in: String,
    },
    /// Root cannot run PostgreSQL, and the user to run it as is missing.
    #[error(
        "PostgreSQL refuses to run as root, and there is no user `postgres` to run it as; \
         create that user, or run pgdrover as an ordinary one"
    )]
    NoAccount,
    /// A setting makes no sense.
    #[error("{0}")]
    Options(String),
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// Its name.
        program: &'static str,
        /// How it ended.
        status: String,
        /// What it printed.
        output: String,
    },
    /// A server did not come up.
    #[error("the server {server} did not start: {why}\n{log}")]
    Start {
        /// Its name.
        server: String,
        /// The reason in short.
        why: String,
        /// The end of its log.
        log: String,
    },
    /// Something did not happen in time.
    #[error("waited {seconds} s for {what}: {found}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long, in seconds.
        seconds: u64,
        /// What was seen instead.
        found: String,
    },
    /// A file or process operation failed.
    #[error("cannot {what}: {cause}")]
    Io {
        /// What was attempted.
        what: String,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// A server, or pgdrover, refused a statement or a connection.
    #[error("{what}: {}", describe(cause))]
    Sql {
        /// What was attempted.
        what: String,
        /// What came back.
        cause: tokio_postgres::Error,
    },
}

impl Error {
    /// Puts what was attempted before an I/O error.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |cause| Error::Io { what, cause }
    }

    /// Puts what was attempted before a database error.
    pub(crate) fn sql(what: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Error {
        let what = what.into();
        move |cause| Error::Sql { what, cause }
    }

    /// Names the file of an I/O error.
    pub(crate) fn file(
        verb: &str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Error {
        Error::io(format!("{verb} {}", path.into().display()))
    }
}

/// The driver prints "db error" and hides the message: take it out.
fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => {
            let hint = db
                .hint()
                .map(|h| format!(" (hint: {h})"))
                .unwrap_or_default();
            format!("{} [{}]{hint}", db.message(), db.code().code())
        }
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
