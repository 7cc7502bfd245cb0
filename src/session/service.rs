//! What all sessions share, and the way of a connection into a session.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;
use tracing::{debug, info};

use super::attempts::Attempts;
use super::auth::Failed;
use super::client::{Client, Identity};
use super::entrance::Stranger;
use super::gate::Gate;
use super::hba::Peer;
use super::login::login;
use super::prepared::Statements;
use super::registry::Registry;
use super::startup::{Hello, Startup, negotiate};
use super::{Settings, gucs};
use crate::backend::{Conn, Pools, Sent};
use crate::error::{ClientError, SqlState};
use crate::router::Router;
use crate::telemetry::metrics::{ClientMetrics, RouteMetrics};
use crate::topology::{FailureReporter, Topology};
use crate::wire::{self, Port, Stream};

/// A database that clients may name.
pub struct Served {
    /// Its name.
    pub name: Arc<str>,
    /// Text to plan.
    pub router: Router,
    /// The prepared statements of all its clients.
    pub statements: Statements,
    /// Metrics of its clients.
    pub metrics: ClientMetrics,
    /// Metrics of its router.
    pub routes: RouteMetrics,
    pub(super) most_clients: usize,
    welcomes: Mutex<HashMap<(String, Arc<str>), Parameters>>,
    proven: Mutex<HashSet<Arc<str>>>,
}

/// What a server reported about itself and the session, as (name, value).
pub(super) type Parameters = Arc<[(String, String)]>;

/// How long a client that is refused may take to listen.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(1);

/// How many different startup settings are remembered for each database.
const MAX_WELCOMES: usize = 256;

impl Served {
    /// A database with its router and the number of clients that it may have (0: any).
    pub fn new(name: &str, router: Router, most_clients: usize) -> Self {
        Served {
            name: name.into(),
            router,
            statements: Statements::default(),
            metrics: ClientMetrics::new(name),
            routes: RouteMetrics::new(name),
            most_clients,
            welcomes: Mutex::default(),
            proven: Mutex::default(),
        }
    }

    /// Whether a settings script has worked on a server before, so that a statement may follow it
    /// without waiting.
    fn is_proven(&self, script: &Arc<str>) -> bool {
        script.is_empty()
            || self
                .proven
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(script)
    }

    pub(super) fn prove(&self, script: &Arc<str>) {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.len() >= MAX_WELCOMES {
            proven.clear();
        }
        proven.insert(script.clone());
    }

    /// Sees to it that what is queued next for the connection runs with these settings: they are
    /// there, or are queued before it. Returns false, and does nothing, if they might fail.
    pub(super) fn queue_settings(&self, conn: &mut Conn, script: &Arc<str>) -> bool {
        if conn.settings == *script {
            return true;
        }
        if !self.is_proven(script) {
            return false;
        }
        let text = gucs::transition(&conn.settings, script);
        wire::query(&mut conn.port.output, &text);
        conn.ledger.sent(Sent::Query, false);
        conn.settings = script.clone();
        true
    }

    /// The parameters that a server reported to a session of this user with these settings, if one
    /// has logged in before.
    pub(super) fn welcome(&self, user: &str, script: &Arc<str>) -> Option<Parameters> {
        let welcomes = self.welcomes.lock().unwrap_or_else(PoisonError::into_inner);
        welcomes.get(&(user.to_owned(), script.clone())).cloned()
    }

    pub(super) fn remember_welcome(&self, user: &str, script: &Arc<str>, parameters: &Parameters) {
        let mut welcomes = self.welcomes.lock().unwrap_or_else(PoisonError::into_inner);
        if welcomes.len() >= MAX_WELCOMES {
            welcomes.clear();
        }
        welcomes.insert((user.to_owned(), script.clone()), parameters.clone());
    }
}

/// Everything that a session needs and does not own.
pub struct Service {
    /// `[session]`, but for what the gate decides.
    pub settings: Settings,
    /// Who may come in, and how.
    pub gate: RwLock<Arc<Gate>>,
    /// The databases by name.
    pub databases: BTreeMap<String, Arc<Served>>,
    /// The picture of the cluster.
    pub topology: watch::Receiver<Arc<Topology>>,
    /// Connections to the servers.
    pub pools: Arc<Pools>,
    /// The live sessions.
    pub registry: Arc<Registry>,
    /// Failed logins of late.
    pub attempts: Attempts,
    /// Where failures of servers are reported.
    pub reports: FailureReporter,
    /// What makes the salt of a user who does not exist steady, and unlike another process's.
    pub process_secret: [u8; 32],
    /// Becomes true when pgdrover stops: sessions end at their next transaction boundary.
    pub draining: watch::Receiver<bool>,
}

impl Service {
    /// Logins that begin from now on go by this.
    pub fn replace_gate(&self, gate: Gate) {
        *self.gate.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(gate);
    }

    /// What decides about a login that begins now.
    pub fn gate(&self) -> Arc<Gate> {
        self.gate
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Serves one connection from its first byte to its last. When as many clients are connected as may
/// be, one more is told so, but a cancel request is still carried out.
pub async fn serve(service: Arc<Service>, stream: Stream, peer: Peer, stranger: Stranger) {
    let gate = service.gate();
    // Boxed, so that a session does not hold for life what its login took.
    let login = Box::pin(come_in(&service, &gate, stream, peer, &stranger));
    let came_in = tokio::select! {
        biased;
        came_in = login => came_in,
        () = stranger.sent_away() => {
            return info!(%peer, "closing: too many connections that have not logged in");
        }
    };
    // Nor the users and rules that held then.
    drop(gate);
    match came_in {
        CameIn::Client(hello, identity) => match stranger.becomes_client() {
            Some(_place) => {
                let peer = peer.to_string();
                Client::new(service, *hello, identity, peer).run().await;
            }
            None => refuse(hello.port, peer, &too_many()).await,
        },
        CameIn::Cancel { pid, secret } => {
            // However many they are, they keep no client out.
            drop(stranger);
            let tls = service.pools.tls();
            service.registry.cancel(pid, secret, tls).await;
        }
        CameIn::Nobody => {}
    }
}

/// What became of a connection.
enum CameIn {
    /// A client has logged in.
    Client(Box<Hello>, Identity),
    /// It wants to cancel what the session with this key runs.
    Cancel { pid: i32, secret: i32 },
    /// It was told why not, or is gone.
    Nobody,
}

/// From the first byte to a client that has logged in, within `client_login_timeout`.
async fn come_in(
    service: &Service,
    gate: &Gate,
    stream: Stream,
    peer: Peer,
    stranger: &Stranger,
) -> CameIn {
    let limit = gate.settings.client_login_timeout;
    let deadline = tokio::time::Instant::now() + limit;
    let startup = negotiate(stream, gate.tls.as_ref(), gate.settings.client_tls_mode);
    let (mut hello, refusal) = match tokio::time::timeout_at(deadline, startup).await {
        Ok(Ok(Startup::Cancel { pid, secret })) => return CameIn::Cancel { pid, secret },
        Ok(Ok(Startup::Refused(port, error))) => {
            refuse(*port, peer, &error).await;
            return CameIn::Nobody;
        }
        Ok(Ok(Startup::Session(hello))) => {
            let full = !stranger.may_enter();
            (hello, full.then(|| Failed::Refused(too_many())))
        }
        Ok(Err(error)) => {
            debug!(%peer, %error, "connection ended before a startup packet");
            return CameIn::Nobody;
        }
        Err(_) => {
            info!(%peer, ?limit, "no startup packet in time");
            return CameIn::Nobody;
        }
    };
    let outcome = match refusal {
        Some(refusal) => Err(refusal),
        None => {
            let login = login(service, gate, peer, &mut hello);
            let login = tokio::time::timeout_at(deadline, login);
            login.await.unwrap_or_else(|_| {
                let error = ClientError::fatal(
                    SqlState::INVALID_AUTHORIZATION,
                    "canceling authentication due to timeout",
                );
                Err(Failed::Refused(error))
            })
        }
    };
    match outcome {
        Ok(identity) => return CameIn::Client(hello, identity),
        Err(Failed::Refused(error)) => refuse(hello.port, peer, &error).await,
        Err(Failed::Lost(error)) => debug!(%peer, %error, "connection lost during login"),
    }
    CameIn::Nobody
}

fn too_many() -> ClientError {
    let message = "too many clients are connected to pgdrover";
    ClientError::fatal(SqlState::TOO_MANY_CONNECTIONS, message)
        .hint("Raise listener.max_client_conn.")
}

async fn refuse(mut port: Port, peer: Peer, error: &ClientError) {
    info!(%peer, code = %error.code, error = %error.message, "connection refused");
    wire::error_response(&mut port.output, error);
    // Who does not listen is not waited for.
    let _ = tokio::time::timeout(FAREWELL, port.flush()).await;
}
