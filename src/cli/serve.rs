//! `pgdrover serve`: run until a signal.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, complain};
use crate::config::{self, Config};
use crate::daemon::Daemon;
use crate::telemetry;

/// Run the proxy.
///
/// SIGTERM and SIGINT stop it: no new client is accepted, sessions end at their next transaction
/// boundary. A second signal ends it at once. SIGHUP makes it read its file again: users, [[hba]] and
/// TLS certificates count for logins from then on; what else changed is logged, and needs a restart.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// What to log, instead of log.level: error, warn, info, debug, trace, or a filter.
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How long sessions may take to finish when pgdrover stops, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain: u64,
}

pub(super) fn run(args: Args) -> ExitCode {
    let mut config = match args.config.load() {
        Ok(config) => config,
        Err(status) => return status,
    };
    let reread = Reread {
        file: args.config.path(),
        log_level: args.log_level,
    };
    reread.override_log_level(&mut config);
    telemetry::logging::init(&config.log);
    raise_file_limit();
    let served = runtime(config.workers)
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(serve(config, reread, Duration::from_secs(args.drain)))
        });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("pgdrover: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The runtime that serves clients, with `workers` threads. 0 takes one for each two cores: most of
/// a relayed transaction's work is the kernel's and the server's, and threads that find nothing to
/// do cost wake-ups. One thread needs no scheduler that moves tasks between threads.
fn runtime(workers: usize) -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = if workers > 0 {
        workers
    } else {
        cores.div_ceil(2)
    };
    let mut builder = match workers {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder
        .worker_threads(workers)
        .enable_all()
        .thread_name("pgdrover")
        .build()
}

/// Each client and each server connection is a file descriptor: take all that the system allows.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // The old limit does for a small site.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// What a reload reads.
#[derive(Clone)]
struct Reread {
    file: PathBuf,
    log_level: Option<String>,
}

impl Reread {
    fn override_log_level(&self, config: &mut Config) {
        if let Some(level) = &self.log_level {
            config.log.level.clone_from(level);
        }
    }

    /// Reads the file and hands it over. Whatever is wrong is logged, and changes nothing.
    fn reload(&self, daemon: &Daemon) {
        let mut config = match config::load(&self.file) {
            Ok(config) => config,
            Err(errors) => {
                for error in errors.iter() {
                    tracing::error!(%error, "reload");
                }
                return tracing::error!("the old configuration stays");
            }
        };
        self.override_log_level(&mut config);
        match daemon.reload(&config) {
            Ok(left) => {
                for part in left {
                    tracing::warn!(part, "changed, but only a restart brings it into effect");
                }
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the old configuration stays");
            }
        }
    }
}

async fn serve(config: Config, reread: Reread, patience: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let daemon = Arc::new(Daemon::start(config).await?);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let (reread, daemon) = (reread.clone(), daemon.clone());
                // Reading files and hashing passwords would hold up clients.
                let _ = tokio::task::spawn_blocking(move || reread.reload(&daemon)).await;
            }
        }
    }
    let Some(daemon) = Arc::into_inner(daemon) else {
        return Ok(()); // Cannot be: a reload has been waited for.
    };
    tracing::info!("stopping; a second signal ends it at once");
    tokio::select! {
        _ = daemon.stop(patience) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
