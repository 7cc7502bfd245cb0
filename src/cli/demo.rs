//! `pgdrover demo`: a real sharded and replicated cluster with pgdrover before it.

mod advice;
mod command;
mod signals;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_postgres::NoTls;

use super::{complain, say};
use crate::config;
use crate::daemon::Daemon;
use crate::demo::{self, Cluster, DATABASE, Endpoint, Options, PASSWORD, Sharding, USER};
use signals::Signals;

/// How many users get data.
const USERS: u32 = 3000;
/// How long pgdrover may take until it answers.
const ANSWER: Duration = Duration::from_secs(15);
/// How long clients may take to finish their transactions at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Where operators ask when that port is free.
const HTTP_PORT: u16 = 9632;

/// Start a real cluster from the installed PostgreSQL, with pgdrover before it and data in it.
///
/// Makes a primary and streaming replicas for each shard in a temporary folder, loads 3,000 users
/// with 10 notifications each through pgdrover, and says what to try. Ctrl-C stops everything and
/// leaves nothing behind.
///
/// With `-- COMMAND ARGS`, runs COMMAND once all is ready, stops everything after it, and exits
/// with its status. COMMAND gets PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE (through
/// pgdrover), PGDROVER_CONFIG (pgdrover's configuration), PGDROVER_HTTP (the base URL for
/// operators) and PGDROVER_CLUSTER (a JSON file that describes the servers).
#[derive(clap::Args)]
pub(super) struct Args {
    /// How many shards.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=32))]
    shards: u16,
    /// How many replicas each primary gets.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=8))]
    replicas: u16,
    /// pgdrover's port; 0 takes any free one.
    #[arg(long, default_value_t = 6432)]
    port: u16,
    /// How users are spread over the shards.
    #[arg(long, value_enum, default_value_t = ShardingName::Modulo)]
    sharding: ShardingName,
    /// The folder for everything, new or empty; a temporary one when absent.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the folder when the demo ends.
    #[arg(long)]
    keep: bool,
    /// Leave the sharded tables empty.
    #[arg(long)]
    no_data: bool,
    /// What to run once all is ready.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The functions that the demo offers.
#[derive(Clone, Copy, ValueEnum)]
enum ShardingName {
    /// user_id % shards.
    Modulo,
    /// Positions on a ring of 1000 points; three shards: 250, 500, 750.
    Ring,
    /// Ranges up to 100 million; three shards: 0–33M, 33M–66M, 66M–100M.
    Range,
}

impl From<ShardingName> for Sharding {
    fn from(name: ShardingName) -> Sharding {
        match name {
            ShardingName::Modulo => Sharding::Modulo,
            ShardingName::Ring => Sharding::Ring,
            ShardingName::Range => Sharding::Range,
        }
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!(
                "pgdrover demo: cannot start the runtime: {error}"
            ));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(demo(&args)).unwrap_or_else(|error| {
        complain(format_args!("pgdrover demo: {error:#}"));
        ExitCode::FAILURE
    })
}

async fn demo(args: &Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    // A signal drops the half-made cluster, which ends what was begun.
    let ready = tokio::select! {
        ready = Ready::prepare(args) => ready?,
        signal = signals.next() => return Ok(signal.exit_code()),
    };
    let outcome = match args.command.split_first() {
        Some((program, rest)) => command::run(&ready, program, rest, &mut signals).await,
        None => {
            say(advice::text(&ready, args));
            signals.next().await;
            complain("stopping");
            Ok(ExitCode::SUCCESS)
        }
    };
    ready.stop(args).await?;
    outcome
}

/// Everything runs.
struct Ready {
    // Fields drop in this order: pgdrover leaves before its servers.
    daemon: Daemon,
    cluster: Cluster,
    endpoint: Endpoint,
    config_file: PathBuf,
    cluster_file: PathBuf,
}

impl Ready {
    async fn prepare(args: &Args) -> anyhow::Result<Ready> {
        let endpoint = endpoint(args)?;
        let servers = u32::from(args.shards) * (u32::from(args.replicas) + 1);
        note(args, format_args!("starting {servers} PostgreSQL servers"));
        let cluster = Cluster::start(&Options {
            shards: args.shards,
            replicas: args.replicas,
            sharding: args.sharding.into(),
            dir: args.dir.clone(),
            keep: args.keep,
            ..Options::default()
        })
        .await?;

        let config_file = cluster.dir().join("pgdrover.toml");
        // What pgdrover logs at info about its clients would drown what the demo has to say.
        let text = cluster.config_toml(endpoint, "[log]\nlevel = \"warn\"\n");
        write_private(&config_file, &text)?;
        let config = config::load(&config_file).map_err(|errors| anyhow::anyhow!("{errors}"))?;
        crate::telemetry::logging::init(&config.log);
        let daemon = Daemon::start(config)
            .await
            .context("pgdrover did not start")?;

        let ready = Ready {
            endpoint,
            config_file,
            cluster_file: cluster.dir().join("cluster.json"),
            cluster,
            daemon,
        };
        ready.wait_answer().await?;
        if !args.no_data {
            ready.load(args).await?;
            ready.cluster.wait_replayed().await?;
        }
        write_private(&ready.cluster_file, &ready.cluster.description_json())?;
        Ok(ready)
    }

    /// How clients reach pgdrover.
    fn target(&self) -> tokio_postgres::Config {
        let mut target = tokio_postgres::Config::new();
        target.host("127.0.0.1").port(self.endpoint.port);
        target.user(USER).password(PASSWORD).dbname(DATABASE);
        target.application_name("pgdrover demo");
        target
    }

    /// Waits until pgdrover answers a statement.
    async fn wait_answer(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + ANSWER;
        let ask = async || {
            let (client, connection) = self.target().connect(NoTls).await?;
            tokio::spawn(async move { drop(connection.await) });
            client.simple_query("SELECT 1").await
        };
        while let Err(error) = ask().await {
            if Instant::now() > deadline {
                return Err(error).context("pgdrover does not answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn load(&self, args: &Args) -> anyhow::Result<()> {
        let users = demo::user_ids(USERS, args.sharding.into(), args.shards);
        note(
            args,
            format_args!("loading {} users through pgdrover", users.len()),
        );
        // Drawn on the standard error output, and only if that is a terminal.
        let bar = ProgressBar::new(users.len() as u64);
        let style = "{bar:40} {pos}/{len} users, {per_sec}";
        bar.set_style(ProgressStyle::with_template(style).context("the bar's style")?);
        let loaded = demo::load(&self.target(), &users, || bar.inc(1)).await;
        bar.finish_and_clear();
        loaded.context("loading through pgdrover")
    }

    async fn stop(self, args: &Args) -> anyhow::Result<()> {
        self.daemon.stop(FAREWELL).await;
        let dir = self.cluster.dir().to_path_buf();
        self.cluster.stop().await?;
        if args.keep {
            complain(format_args!(
                "the cluster's folder stays: {}",
                dir.display()
            ));
        }
        Ok(())
    }
}

/// With a command, the output is the command's: say nothing.
fn note(args: &Args, line: impl std::fmt::Display) {
    if args.command.is_empty() {
        complain(line);
    }
}

/// The ports of pgdrover. Only the one that the user chose must be had.
fn endpoint(args: &Args) -> anyhow::Result<Endpoint> {
    if args.port == 0 {
        return Ok(Endpoint {
            port: demo::free_port(),
            http_port: demo::free_port(),
        });
    }
    if !demo::is_free(args.port) {
        bail!(
            "port {} of 127.0.0.1 is taken: choose another one with --port (0 takes any free one)",
            args.port
        );
    }
    let http_port = match HTTP_PORT != args.port && demo::is_free(HTTP_PORT) {
        true => HTTP_PORT,
        false => demo::free_port(),
    };
    Ok(Endpoint {
        port: args.port,
        http_port,
    })
}

/// Writes a file that holds passwords.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || {
        std::fs::write(path, text)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
