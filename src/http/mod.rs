//! The HTTP endpoints for operators: `/metrics`, `/livez`, `/readyz`.
//!
//! This room shows what it is given: the daemon passes in what renders the metrics and whether
//! it takes clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// `[http]`: where operators and Prometheus ask.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `host:port` to listen on; nothing listens when empty.
    pub address: String,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            address: "127.0.0.1:9632".into(),
        }
    }
}

/// Whether new clients are welcome. A replica that is down changes nothing here: taking a
/// proxy out of service for it would take the other shards away as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Not listening yet.
    Starting,
    /// Listening.
    Ready,
    /// Shutting down: present clients finish, new ones should go elsewhere.
    Draining,
}

impl Readiness {
    fn answer(self) -> (StatusCode, &'static str) {
        match self {
            Readiness::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Readiness::Ready => (StatusCode::OK, "ready\n"),
            Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        }
    }
}

/// What the endpoints show.
#[derive(Clone)]
pub struct State {
    /// Gives the metrics in Prometheus's text format.
    pub render: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether new clients are welcome now.
    pub ready: watch::Receiver<Readiness>,
}

/// A bound listener that does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Binds the address of the settings; none when it is empty.
///
/// # Errors
///
/// When the address is not one, or another process has it.
pub async fn bind(settings: &Settings) -> io::Result<Option<Server>> {
    if settings.address.is_empty() {
        return Ok(None);
    }
    let listener = TcpListener::bind(&settings.address).await?;
    let address = listener.local_addr()?;
    Ok(Some(Server { listener, address }))
}

impl Server {
    /// Where it listens; tells the port when the settings said port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `shutdown` resolves. Requests in flight are finished, and a connection
    /// that a client keeps open does not hold the daemon up.
    ///
    /// # Errors
    ///
    /// When the listener breaks.
    pub async fn run(
        self,
        state: State,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (stopping, mut stopped) = watch::channel(false);
        let signal = async move {
            shutdown.await;
            stopping.send_replace(true);
        };
        let served = axum::serve(self.listener, router(state)).with_graceful_shutdown(signal);
        tokio::select! {
            outcome = served => outcome,
            () = grace(&mut stopped) => Ok(()),
        }
    }
}

/// Resolves some time after the shutdown began: a scrape takes milliseconds, a client that
/// sends half a request takes for ever.
async fn grace(stopped: &mut watch::Receiver<bool>) {
    const GRACE: std::time::Duration = std::time::Duration::from_secs(1);
    if stopped.wait_for(|stopped| *stopped).await.is_ok() {
        tokio::time::sleep(GRACE).await;
    } else {
        // The sender is gone without a word: only the server itself can end now.
        std::future::pending::<()>().await;
    }
}

/// The endpoints, and what the index says of each.
const INDEX: &str = "pgdrover: /metrics for Prometheus, /livez (the process runs), \
                     /readyz (new clients are welcome)\n";

fn router(state: State) -> Router {
    Router::new()
        .route("/", get(async || INDEX))
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(state)
}

async fn readyz(Extract(state): Extract<State>) -> impl IntoResponse {
    state.ready.borrow().answer()
}

async fn metrics(Extract(state): Extract<State>) -> impl IntoResponse {
    const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, TYPE)], (state.render)())
}
