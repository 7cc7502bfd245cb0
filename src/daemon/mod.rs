//! The process: build from a configuration, run, drain on a signal.
//!
//! [`Daemon::start`] builds every part and spawns its loops; [`Daemon::reload`] replaces what decides
//! about logins; [`Daemon::stop`] lets the sessions end
//! at their next transaction boundary, and cuts those that do not in time.

mod gate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::backend::{self, Pools, ServerTlsMode};
use crate::config::{self, Config};
use crate::control::{self, ProbeTls};
use crate::http::{self, Readiness};
use crate::listener;
use crate::router::Router;
use crate::session::{Attempts, Registry, Served, Service, keep_time, wake_to_leave};
use crate::telemetry::metrics;
use crate::topology::{Publisher, Topology};
use crate::wire;

/// How often the pools' clock is set.
const TICK: Duration = Duration::from_millis(500);
/// In how many ticks idle connections are looked through and the metrics' samples are folded.
const UPKEEP: u32 = 4;

/// A running pgdrover.
pub struct Daemon {
    service: Arc<Service>,
    /// What it goes by.
    running: Mutex<Config>,
    addresses: Vec<SocketAddr>,
    http: Option<SocketAddr>,
    draining: watch::Sender<bool>,
    ready: watch::Sender<Readiness>,
    stop: CancellationToken,
    sessions: TaskTracker,
    loops: Vec<JoinHandle<()>>,
}

impl Daemon {
    /// Builds and starts everything that `config` describes. The configuration has been checked;
    /// what can still fail is the machine's: an address in use, an unreadable file.
    pub async fn start(config: Config) -> anyhow::Result<Daemon> {
        let exporter = metrics::install();
        let tls = server_tls(&config.pool)?;
        let publisher = Publisher::new(config.topology());
        let (draining, drained) = watch::channel(false);
        let (reports, reported) = mpsc::channel(64);
        let pools = Arc::new(pools(&config, &tls));
        let service = Arc::new(Service {
            settings: config.session.clone(),
            gate: RwLock::new(Arc::new(gate::build(&config, &pools, None)?)),
            databases: databases(&config)?,
            topology: publisher.subscribe(),
            pools,
            registry: Arc::new(Registry::default()),
            attempts: Attempts::default(),
            reports,
            process_secret: rand::random(),
            draining: drained.clone(),
        });
        let listener = listener::bind(&config.listener).await?;
        let addresses = listener.addresses();
        let web = http::bind(&config.http)
            .await
            .with_context(|| format!("cannot listen on http.address {}", config.http.address))?;
        let http = web.as_ref().map(http::Server::address);

        let stop = CancellationToken::new();
        let sessions = TaskTracker::new();
        let (ready, is_ready) = watch::channel(Readiness::Ready);
        let mut loops = vec![
            tokio::spawn(until(stop.clone(), keep_time(service.clone()))),
            tokio::spawn(wake_to_leave(service.clone())),
            tokio::spawn(listener.run(service.clone(), sessions.clone(), drained)),
            tokio::spawn(upkeep(
                service.clone(),
                publisher.subscribe(),
                exporter.clone(),
                stop.clone(),
            )),
        ];
        if let Some(credentials) = probe_credentials(&config) {
            let settings = config.control.clone();
            let stopped = stop.clone().cancelled_owned();
            let probes = control::run(
                settings,
                credentials,
                probe_tls(&tls),
                publisher,
                reported,
                stopped,
            );
            loops.push(tokio::spawn(probes));
        }
        if let Some(web) = web {
            let render = Arc::new(move || exporter.render());
            let state = http::State {
                render,
                ready: is_ready,
            };
            let stopped = stop.clone().cancelled_owned();
            loops.push(tokio::spawn(async move {
                if let Err(error) = web.run(state, stopped).await {
                    warn!(%error, "the HTTP endpoint stopped");
                }
            }));
        }
        info!(?addresses, ?http, "ready");
        Ok(Daemon {
            service,
            running: Mutex::new(config),
            addresses,
            http,
            draining,
            ready,
            stop,
            sessions,
            loops,
        })
    }

    /// Takes over what of a new configuration concerns logins, and reads the certificates anew.
    /// Sessions that have logged in go on undisturbed. What only a restart brings into effect is
    /// returned. An error changes nothing. To be called where one may block.
    pub fn reload(&self, new: &Config) -> anyhow::Result<Vec<String>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let applied = config::live(&running, new);
        let before = self.service.gate();
        let pools = &self.service.pools;
        let gate = gate::build(&applied, pools, Some((&before, &running)))?;
        self.service.replace_gate(gate);
        let changed = config::compare(&running, &applied);
        info!(?changed, "configuration reloaded, certificates read anew");
        let mut left = config::compare(&applied, new);
        for user in &applied.users {
            let before = running.users.iter().find(|u| u.name == user.name);
            if before.is_some_and(|before| before.pool_limits() != user.pool_limits()) {
                left.push(format!("users.{}: the limits of its pools", user.name));
            }
        }
        if probe_credentials(&running) != probe_credentials(&applied) {
            left.push("the password of the user that probes (control.user)".into());
        }
        *running = applied;
        Ok(left)
    }

    /// The first TCP address on which clients are accepted, if there is one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.addresses.first().copied()
    }

    /// Where `/metrics` is, if anywhere.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http
    }

    /// Stops accepting clients, lets the present ones finish their transactions for as long as
    /// `patience`, and ends. Returns whether all finished.
    pub async fn stop(self, patience: Duration) -> bool {
        self.ready.send_replace(Readiness::Draining);
        self.draining.send_replace(true);
        self.sessions.close();
        let finished = tokio::time::timeout(patience, self.sessions.wait())
            .await
            .is_ok();
        if !finished {
            warn!(
                sessions = self.sessions.len(),
                "cutting sessions that did not end in time"
            );
        }
        self.stop.cancel();
        for task in self.loops {
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
        finished
    }
}

/// Runs a loop until the process stops.
async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    stop.run_until_cancelled(work).await;
}

async fn upkeep(
    service: Arc<Service>,
    topology: watch::Receiver<Arc<Topology>>,
    exporter: metrics::Exporter,
    stop: CancellationToken,
) {
    let mut tick = tokio::time::interval(TICK);
    let mut ticks = 0u32;
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        service.pools.tick();
        ticks = ticks.wrapping_add(1);
        if !ticks.is_multiple_of(UPKEEP) {
            continue;
        }
        exporter.upkeep();
        let now = topology.borrow().clone();
        service.pools.maintain(&now);
        service.gate().rest();
    }
}

fn server_tls(settings: &backend::Settings) -> anyhow::Result<backend::Tls> {
    let mode = settings.server_tls_mode;
    let config = match mode {
        ServerTlsMode::Disable => None,
        _ => {
            let verify = mode == ServerTlsMode::VerifyFull;
            let config = wire::client_config(verify, &settings.server_tls_ca_file);
            Some(config.context("cannot set up TLS towards the servers")?)
        }
    };
    Ok(backend::Tls { mode, config })
}

fn probe_tls(tls: &backend::Tls) -> ProbeTls {
    match (tls.mode, &tls.config) {
        (ServerTlsMode::Disable, _) | (_, None) => ProbeTls::Disable,
        (ServerTlsMode::Prefer, Some(config)) => ProbeTls::Prefer(config.clone()),
        (_, Some(config)) => ProbeTls::Require(config.clone()),
    }
}

fn pools(config: &Config, tls: &backend::Tls) -> Pools {
    let databases = config.databases.iter();
    let limits = databases.map(|d| (d.name.as_str().into(), d.pool_limits()));
    Pools::new(config.pool.clone(), tls.clone(), limits.collect())
}

fn databases(config: &Config) -> anyhow::Result<BTreeMap<String, Arc<Served>>> {
    let served = |database: &crate::config::DatabaseConfig| {
        let schema = database
            .schema()
            .map_err(|problems| anyhow::anyhow!("database {}: {problems:?}", database.name))?;
        let router = Router::new(schema, &config.router);
        let clients = database
            .max_db_client_connections
            .unwrap_or(config.session.max_db_client_connections);
        Ok((
            database.name.clone(),
            Arc::new(Served::new(&database.name, router, clients)),
        ))
    };
    config.databases.iter().map(served).collect()
}

fn probe_credentials(config: &Config) -> Option<control::Credentials> {
    let named = config.users.iter().find(|u| u.name == config.control.user);
    let user = named.or(config.users.first())?;
    Some(control::Credentials {
        user: gate::server_user(user).to_owned(),
        password: gate::server_password(user).map(str::to_owned),
    })
}
