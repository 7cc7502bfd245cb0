//! One probe: log in, ask for the role.
//!
//! Each server has a pool of one connection, which is kept between probes. When the kept
//! connection fails, or the data plane had trouble, a new one decides, since a server that was
//! restarted is not down. The time limit covers everything from the TCP handshake to the answer:
//! a frozen server still completes the handshake, which the kernel does for it.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Pool, PoolError, RecyclingMethod};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Credentials;
use super::health::Outcome;
use crate::topology::Address;

/// How the probes encrypt. Unix sockets are never encrypted.
#[derive(Clone, Debug)]
pub enum ProbeTls {
    /// Never.
    Disable,
    /// If the server can.
    Prefer(Arc<rustls::ClientConfig>),
    /// Always; whether the certificate is checked is the matter of the configuration.
    Require(Arc<rustls::ClientConfig>),
}

/// Whom to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) address: Address,
    pub(super) dbname: Arc<str>,
}

/// What can probe one server. Beside the real one there is a scripted one in the tests.
pub(super) trait Probe: Send + Sync + 'static {
    /// Probes once; `fresh` wants a new connection, not the kept one.
    fn probe(&self, fresh: bool) -> impl Future<Output = Outcome> + Send;
}

/// Probes over the PostgreSQL protocol.
pub(super) struct ServerProbe {
    pool: Pool,
    limit: Duration,
}

impl ServerProbe {
    /// Connects to nothing yet. `limit` is the time that a probe may take.
    pub(super) fn new(
        target: &Target,
        credentials: &Credentials,
        tls: &ProbeTls,
        limit: Duration,
    ) -> Self {
        let mut config = tokio_postgres::Config::new();
        config
            .host(&*target.address.host)
            .port(target.address.port)
            .dbname(&*target.dbname)
            .user(&credentials.user)
            .application_name("pgdrover probe");
        if let Some(password) = &credentials.password {
            config.password(password);
        }
        let recycle = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let unix = target.address.host.starts_with('/');
        let manager = match tls {
            ProbeTls::Prefer(tls) if !unix => {
                config.ssl_mode(SslMode::Prefer);
                let tls = MakeRustlsConnect::new(rustls::ClientConfig::clone(tls));
                Manager::from_config(config, tls, recycle)
            }
            ProbeTls::Require(tls) if !unix => {
                config.ssl_mode(SslMode::Require);
                let tls = MakeRustlsConnect::new(rustls::ClientConfig::clone(tls));
                Manager::from_config(config, tls, recycle)
            }
            _ => {
                config.ssl_mode(SslMode::Disable);
                Manager::from_config(config, NoTls, recycle)
            }
        };
        let pool = Pool::builder(manager)
            .max_size(1)
            .build()
            .expect("a pool without time limits needs no runtime, the only thing that can lack");
        ServerProbe { pool, limit }
    }

    async fn ask(&self, fresh: bool) -> Outcome {
        if fresh {
            self.forget();
        }
        let kept = self.pool.status().available > 0;
        match self.role().await {
            Ok(in_recovery) => Outcome::Role { in_recovery },
            Err(_) if kept => {
                self.forget();
                match self.role().await {
                    Ok(in_recovery) => Outcome::Role { in_recovery },
                    Err(error) => classify(&error),
                }
            }
            Err(error) => classify(&error),
        }
    }

    async fn role(&self) -> Result<bool, Error> {
        let client = self.pool.get().await?;
        let answer = client
            .simple_query("select pg_catalog.pg_is_in_recovery()")
            .await?;
        let value = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        match value {
            Some("t") => Ok(true),
            Some("f") => Ok(false),
            _ => Err(Error::Nonsense),
        }
    }

    /// Closes the kept connection.
    fn forget(&self) {
        self.pool.retain(|_, _| false);
    }
}

impl Probe for ServerProbe {
    async fn probe(&self, fresh: bool) -> Outcome {
        let outcome = match tokio::time::timeout(self.limit, self.ask(fresh)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let limit = humantime_serde::re::humantime::format_duration(self.limit);
                Outcome::Failed(format!("no answer within {limit}"))
            }
        };
        if !matches!(outcome, Outcome::Role { .. }) {
            // Its state is not known: the answer to the last question may still come.
            self.forget();
        }
        outcome
    }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{0}")]
    Pool(#[from] PoolError),
    #[error("{0}")]
    Server(#[from] tokio_postgres::Error),
    #[error("pg_is_in_recovery() gave neither true nor false")]
    Nonsense,
}

/// What a failure says about the server.
fn classify(error: &Error) -> Outcome {
    match error {
        Error::Server(error) | Error::Pool(PoolError::Backend(error)) => classify_server(error),
        other => Outcome::Failed(other.to_string()),
    }
}

fn classify_server(error: &tokio_postgres::Error) -> Outcome {
    if let Some(db) = error.as_db_error() {
        let text = format!("{} ({})", db.message(), db.code().code());
        return if takes_no_one(db.code()) {
            Outcome::Refused(text)
        } else {
            Outcome::Answered(text)
        };
    }
    let text = text(error);
    // The kinds have no public name: these two mean that a login failed on our side, for want
    // of a password or in SCRAM, after the server had asked for it.
    if matches!(
        error.to_string().as_str(),
        "invalid configuration" | "authentication error"
    ) {
        return Outcome::Answered(text);
    }
    let refused = [io::ErrorKind::ConnectionRefused, io::ErrorKind::NotFound];
    match io_kind(error) {
        // The second: nobody has made the Unix socket.
        Some(kind) if refused.contains(&kind) => Outcome::Refused(text),
        _ => Outcome::Failed(text),
    }
}

/// It starts, stops, or has crashed: it says so itself, so there is no need to count.
fn takes_no_one(code: &SqlState) -> bool {
    [
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
    ]
    .contains(code)
}

fn io_kind(error: &tokio_postgres::Error) -> Option<io::ErrorKind> {
    let cause = error.source()?.downcast_ref::<io::Error>()?;
    Some(cause.kind())
}

fn text(error: &tokio_postgres::Error) -> String {
    match error.source() {
        // What the system says of a connection says it all.
        Some(cause) if cause.is::<io::Error>() => cause.to_string(),
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    fn probe(host: &str, port: u16, limit: Duration) -> ServerProbe {
        let target = Target {
            address: Address {
                host: host.into(),
                port,
            },
            dbname: "app".into(),
        };
        let credentials = Credentials {
            user: "app".into(),
            password: None,
        };
        ServerProbe::new(&target, &credentials, &ProbeTls::Disable, limit)
    }

    async fn listen() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Probes a server that accepts and sends `bytes`.
    async fn answered_with(bytes: &'static [u8]) -> Outcome {
        let (listener, port) = listen().await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(bytes).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        probe("127.0.0.1", port, Duration::from_secs(5))
            .probe(false)
            .await
    }

    fn error_response(code: &str, message: &str) -> &'static [u8] {
        let fields = format!("SFATAL\0VFATAL\0C{code}\0M{message}\0\0");
        let mut frame = vec![b'E'];
        frame.extend((fields.len() as u32 + 4).to_be_bytes());
        frame.extend(fields.as_bytes());
        frame.leak()
    }

    #[tokio::test]
    async fn a_closed_port_and_a_missing_socket_are_refusals() {
        let (listener, port) = listen().await;
        drop(listener);
        let limit = Duration::from_secs(5);
        let tcp = probe("127.0.0.1", port, limit).probe(false).await;
        assert!(matches!(&tcp, Outcome::Refused(why) if why.contains("refused")));
        let folder = tempfile::tempdir().unwrap();
        let unix = probe(folder.path().to_str().unwrap(), 5432, limit);
        let unix = unix.probe(false).await;
        assert!(matches!(&unix, Outcome::Refused(_)), "{unix:?}");
    }

    #[tokio::test]
    async fn silence_fails_within_the_limit() {
        // The kernel accepts, nobody answers: as a frozen server looks.
        let (_listener, port) = listen().await;
        let limit = Duration::from_millis(50);
        let outcome = probe("127.0.0.1", port, limit).probe(false).await;
        assert_eq!(outcome, Outcome::Failed("no answer within 50ms".into()));
    }

    #[tokio::test]
    async fn what_the_server_says_decides() {
        let starting = answered_with(error_response("57P03", "the system is starting up")).await;
        let text = "the system is starting up (57P03)".to_owned();
        assert_eq!(starting, Outcome::Refused(text));
        for code in ["53300", "28P01", "3D000"] {
            let outcome = answered_with(error_response(code, "no")).await;
            assert_eq!(outcome, Outcome::Answered(format!("no ({code})")));
        }
        // AuthenticationCleartextPassword, and there is none to give.
        let asked = answered_with(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]).await;
        assert!(matches!(&asked, Outcome::Answered(why) if why.contains("password")));
    }

    #[tokio::test]
    async fn nonsense_and_a_sudden_end_are_failures() {
        let closed = answered_with(b"").await;
        assert!(matches!(&closed, Outcome::Failed(_)), "{closed:?}");
        let garbage = answered_with(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(matches!(&garbage, Outcome::Failed(_)), "{garbage:?}");
    }
}
