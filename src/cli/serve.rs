//! `pgdrover serve`: run until a signal.

use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, complain};
use crate::config::Config;
use crate::daemon::Daemon;
use crate::telemetry;

/// Run the proxy.
///
/// SIGTERM and SIGINT stop it: no new client is accepted, sessions end at their next transaction
/// boundary. A second signal ends it at once.
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
    if let Some(level) = args.log_level {
        config.log.level = level;
    }
    telemetry::logging::init(&config.log);
    raise_file_limit();
    let served = runtime(config.workers)
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(serve(config, Duration::from_secs(args.drain))));
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

async fn serve(config: Config, patience: Duration) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let daemon = Daemon::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; a second signal ends it at once");
    tokio::select! {
        _ = daemon.stop(patience) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
