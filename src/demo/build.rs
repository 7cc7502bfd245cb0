//! Makes the servers of a cluster: initdb and schema for primaries, copies of them for replicas.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;

use super::account::Account;
use super::cluster::{Cluster, connect};
use super::install::Install;
use super::settings::postgresql_conf;
use super::{DATABASE, Error, Options, PASSWORD, Server, USER};
use super::{free_port, schema};

/// Whom replicas log in as.
const REPLICATOR: &str = "replicator";
/// The file of a server's data folder that `postgresql.conf` includes.
const DEMO_CONF: &str = "pgdrover-demo.conf";
/// A port may be taken between its choice and its use; so often another one is tried.
const PORT_ATTEMPTS: u32 = 5;
/// The longest path of a Unix socket that every system takes, less the socket's own name.
const LONGEST_SOCKET_DIR: usize = 80;

/// What it takes to make servers.
#[derive(Clone)]
pub(super) struct Builder {
    pub(super) options: Options,
    pub(super) install: Install,
    pub(super) account: Account,
    pub(super) dir: PathBuf,
    pub(super) superuser_password: String,
    pub(super) replication_password: String,
}

impl Builder {
    /// Primaries side by side, then all replicas side by side.
    pub(super) async fn build(&self, cluster: &mut Cluster) -> Result<(), Error> {
        let password_file = self.dir.join("superuser-password");
        self.account
            .write(&password_file, &self.superuser_password)?;
        let shards = cluster.shards.iter_mut();
        try_join_all(shards.map(|shard| self.make_primary(&mut shard.servers[0]))).await?;
        std::fs::remove_file(&password_file).map_err(Error::file("remove", &password_file))?;

        let replicas = cluster.shards.iter_mut().flat_map(|shard| {
            let (primary, replicas) = shard.servers.split_at_mut(1);
            let port = primary[0].port;
            replicas
                .iter_mut()
                .map(move |replica| self.make_replica(replica, port))
        });
        try_join_all(replicas).await?;
        Ok(())
    }

    async fn make_primary(&self, server: &mut Server) -> Result<(), Error> {
        let mut initdb = self.program("initdb");
        initdb
            .arg("-D")
            .arg(&server.data_dir)
            .args([
                "-U",
                "postgres",
                "-A",
                "scram-sha-256",
                "-E",
                "UTF8",
                "--locale=C",
            ])
            .args(["--no-sync", "--no-instructions", "--data-checksums"])
            .arg("--pwfile")
            .arg(self.dir.join("superuser-password"));
        // Killed, its servers would leave shared memory behind: it may finish.
        run("initdb", initdb, Duration::from_secs(3)).await?;
        let conf = server.data_dir.join("postgresql.conf");
        let mut text = std::fs::read_to_string(&conf).map_err(Error::file("read", &conf))?;
        text.push_str(&format!("\ninclude '{DEMO_CONF}'\n"));
        self.account.write(&conf, &text)?;
        self.start_on_some_port(server).await?;
        self.fill(server).await
    }

    /// Roles, the database and its tables: before replicas are copied, so that they have all.
    async fn fill(&self, server: &Server) -> Result<(), Error> {
        let said = |what: &str| Error::sql(format!("cannot {what} on {}", server.name));
        let admin = connect(server, "postgres", &self.superuser_password, "postgres").await?;
        let roles = format!(
            "CREATE ROLE {REPLICATOR} LOGIN REPLICATION PASSWORD '{}'; \
             CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'; GRANT pg_monitor TO {USER}",
            self.replication_password
        );
        admin
            .batch_execute(&roles)
            .await
            .map_err(said("create roles"))?;
        // The linguistic order of text that real databases have, where this PostgreSQL was
        // built with ICU (and is 15 or newer); byte order elsewhere.
        let plain = format!("CREATE DATABASE {DATABASE} TEMPLATE template0 OWNER {USER}");
        let icu = format!("{plain} LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
        if admin.batch_execute(&icu).await.is_err() {
            let made = admin.batch_execute(&plain).await;
            made.map_err(said("create the database"))?;
        }
        let admin = connect(server, "postgres", &self.superuser_password, DATABASE).await?;
        if self.install.has_statement_statistics() {
            let made = admin
                .batch_execute("CREATE EXTENSION pg_stat_statements")
                .await;
            made.map_err(said("create pg_stat_statements"))?;
        }
        let owner = connect(server, USER, PASSWORD, DATABASE).await?;
        let made = owner
            .batch_execute(&schema::shard_sql(server.shard == 0))
            .await;
        made.map_err(said("create the tables"))
    }

    async fn make_replica(&self, server: &mut Server, primary_port: u16) -> Result<(), Error> {
        let mut copy = self.program("pg_basebackup");
        copy.args([
            "-h",
            "127.0.0.1",
            "-p",
            &primary_port.to_string(),
            "-U",
            REPLICATOR,
        ])
        .args(["--checkpoint=fast", "--no-sync", "-X", "stream", "-D"])
        .arg(&server.data_dir)
        .env("PGPASSWORD", &self.replication_password);
        run("pg_basebackup", copy, Duration::ZERO).await?;
        let upstream = format!(
            "primary_conninfo = 'host=127.0.0.1 port={primary_port} user={REPLICATOR} password={}'\n",
            self.replication_password
        );
        // Where ALTER SYSTEM would put it: a failover changes it there.
        let auto = server.data_dir.join("postgresql.auto.conf");
        self.account.write(&auto, &upstream)?;
        self.account
            .write(&server.data_dir.join("standby.signal"), "")?;
        self.start_on_some_port(server).await
    }

    /// Starts a new server; when its port was taken meanwhile, on another one.
    async fn start_on_some_port(&self, server: &mut Server) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            self.write_conf(server)?;
            match server.start().await {
                Err(Error::Start { log, .. })
                    if attempt < PORT_ATTEMPTS && log.contains("Address already in use") =>
                {
                    attempt += 1;
                    server.port = free_port();
                }
                done => return done,
            }
        }
    }

    fn write_conf(&self, server: &Server) -> Result<(), Error> {
        let dir = self.dir.to_string_lossy();
        let sockets = if dir.len() <= LONGEST_SOCKET_DIR {
            &*dir
        } else {
            ""
        };
        let text = postgresql_conf(
            &server.name,
            server.port,
            sockets,
            self.install.has_statement_statistics(),
            &self.options.extra_settings,
        );
        self.account.write(&server.data_dir.join(DEMO_CONF), &text)
    }

    fn program(&self, name: &str) -> std::process::Command {
        self.account.command(&self.install.program(name), &self.dir)
    }
}

/// Runs one of PostgreSQL's programs to its end; dropping the future ends it.
async fn run(
    name: &'static str,
    command: std::process::Command,
    patience: Duration,
) -> Result<(), Error> {
    let mut command = tokio::process::Command::from(command);
    // A group of its own, as for the servers: Ctrl-C is pgdrover's alone.
    command.process_group(0).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let said = || Error::io(format!("run {name}"));
    let mut program = Program {
        child: command.spawn().map_err(said())?,
        patience,
    };
    let mut output = String::new();
    if let Some(mut stderr) = program.child.stderr.take() {
        stderr.read_to_string(&mut output).await.map_err(said())?;
    }
    let status = program.child.wait().await.map_err(said())?;
    if status.success() {
        return Ok(());
    }
    Err(Error::Program {
        program: name,
        status: status.to_string(),
        output: output.trim().to_owned(),
    })
}

/// A running program. Dropping it waits a little for its end, then kills its whole group.
struct Program {
    child: tokio::process::Child,
    patience: Duration,
}

impl Drop for Program {
    fn drop(&mut self) {
        let group = self
            .child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()));
        // Without an id it has ended and was reaped.
        let Some(group) = group else {
            return;
        };
        let until = Instant::now() + self.patience;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() > until {
                // Every member may have ended just now.
                let _ = kill_process_group(group, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
