//! The cluster: one folder, its servers, and the watchdog over both.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::Rng;

use super::account::Account;
use super::build::Builder;
use super::install::Install;
use super::settings::pgdrover_toml;
use super::watchdog::Watchdog;
use super::{DATABASE, Endpoint, Error, Options, Server, Sharding, StopMode, free_port};
use crate::topology::Role;

/// How long replicas may take until they stream.
const STREAMING: Duration = Duration::from_secs(60);
/// How often a condition without an event of its own is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// One shard's servers.
#[derive(Debug)]
pub struct ShardServers {
    /// Its number, from 0.
    pub number: u16,
    /// Its name, for example `shard0`.
    pub name: String,
    /// The primary, then its replicas.
    pub servers: Vec<Server>,
}

impl ShardServers {
    /// The server that was made the primary.
    pub fn primary(&self) -> &Server {
        &self.servers[0]
    }

    /// The servers that were made replicas.
    pub fn replicas(&self) -> &[Server] {
        &self.servers[1..]
    }
}

/// A running cluster. Dropping it ends the servers and removes the folder.
#[derive(Debug)]
pub struct Cluster {
    /// Its shards, by number.
    pub shards: Vec<ShardServers>,
    /// The superuser on every server.
    pub superuser: String,
    /// The superuser's password.
    pub superuser_password: String,
    /// How keys are spread.
    pub sharding: Sharding,
    dir: PathBuf,
    keep: bool,
    watchdog: Watchdog,
}

impl Cluster {
    /// Makes the cluster and waits until every replica streams. Dropping the future ends
    /// what it began.
    ///
    /// # Errors
    /// PostgreSQL is not installed, the folder cannot be used, or a server does not start.
    pub async fn start(options: &Options) -> Result<Cluster, Error> {
        if options.shards == 0 {
            return Err(Error::Options("a cluster needs at least one shard".into()));
        }
        let install = Install::find(options.search_path.as_deref())?;
        let account = Account::find()?;
        let dir = make_dir(options.dir.as_deref(), account)?;
        let watchdog = Watchdog::start(&dir, options.keep)?;
        let shards = (0..options.shards).map(|shard| plan(shard, options, &dir, &install, account));
        let mut cluster = Cluster {
            shards: shards.collect(),
            superuser: "postgres".into(),
            superuser_password: password(),
            sharding: options.sharding,
            dir,
            keep: options.keep,
            watchdog,
        };
        let builder = Builder {
            options: options.clone(),
            install,
            account,
            dir: cluster.dir.clone(),
            superuser_password: cluster.superuser_password.clone(),
            replication_password: password(),
        };
        builder.build(&mut cluster).await?;
        cluster.wait_streaming().await?;
        Ok(cluster)
    }

    /// The folder that holds everything.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All servers, shard by shard.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        self.shards.iter().flat_map(|shard| &shard.servers)
    }

    /// A connection of the superuser straight to one server, to the demo's database.
    ///
    /// # Errors
    /// The server does not answer or refuses.
    pub async fn connect(&self, server: &Server) -> Result<tokio_postgres::Client, Error> {
        connect(server, &self.superuser, &self.superuser_password, DATABASE).await
    }

    /// Waits until every replica streams from its shard's first server.
    ///
    /// # Errors
    /// [`Error::Timeout`] after a minute, with what the first missing one logged.
    pub async fn wait_streaming(&self) -> Result<(), Error> {
        for shard in self.shards.iter().filter(|s| !s.replicas().is_empty()) {
            self.wait_shard_streaming(shard).await?;
        }
        Ok(())
    }

    async fn wait_shard_streaming(&self, shard: &ShardServers) -> Result<(), Error> {
        let deadline = Instant::now() + STREAMING;
        let client = self.connect(shard.primary()).await?;
        loop {
            let rows = client
                .query(
                    "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'",
                    &[],
                )
                .await
                .map_err(Error::sql("cannot read pg_stat_replication"))?;
            let streaming: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            let Some(missing) = shard
                .replicas()
                .iter()
                .find(|r| !streaming.contains(&r.name))
            else {
                return Ok(());
            };
            if Instant::now() > deadline {
                return Err(Error::Timeout {
                    what: format!("{} to stream", missing.name),
                    seconds: STREAMING.as_secs(),
                    found: missing.log_tail(12),
                });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until every replica has replayed what its primary has written so far, so that reads
    /// from replicas see it.
    ///
    /// # Errors
    /// [`Error::Timeout`] after a minute; a primary does not answer.
    pub async fn wait_replayed(&self) -> Result<(), Error> {
        for shard in self.shards.iter().filter(|s| !s.replicas().is_empty()) {
            let said = || Error::sql(format!("cannot compare {} with its replicas", shard.name));
            let client = self.connect(shard.primary()).await?;
            let now = "SELECT pg_current_wal_lsn()::text";
            let written: String = client.query_one(now, &[]).await.map_err(said())?.get(0);
            let behind = format!(
                "SELECT {} - count(*) FROM pg_stat_replication WHERE replay_lsn >= '{written}'",
                shard.replicas().len()
            );
            let deadline = Instant::now() + STREAMING;
            loop {
                let behind: i64 = client.query_one(&behind, &[]).await.map_err(said())?.get(0);
                if behind <= 0 {
                    break;
                }
                if Instant::now() > deadline {
                    return Err(Error::Timeout {
                        what: format!("the replicas of {} to replay {written}", shard.name),
                        seconds: STREAMING.as_secs(),
                        found: format!("{behind} of them have not"),
                    });
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
        Ok(())
    }

    /// A complete configuration of pgdrover before this cluster. `extra` holds whole further
    /// sections, such as `"[pool]\ndefault_pool_size = 5\n"`, other than `[listener]` and
    /// `[http]`; port 0 stands for any free one.
    pub fn config_toml(&self, endpoint: Endpoint, extra: &str) -> String {
        pgdrover_toml(&self.shards, self.sharding, endpoint, extra)
    }

    /// For programs that want to reach the servers themselves: for each server its shard, name,
    /// role, host, port, process id and data folder; the superuser's name and password.
    pub fn description_json(&self) -> String {
        let servers: Vec<_> = self
            .servers()
            .map(|server| {
                serde_json::json!({
                    "shard": server.shard,
                    "name": server.name,
                    "role": server.role,
                    "host": server.host,
                    "port": server.port,
                    "pid": server.pid(),
                    "data_dir": server.data_dir,
                })
            })
            .collect();
        let all = serde_json::json!({
            "database": DATABASE,
            "superuser": self.superuser,
            "superuser_password": self.superuser_password,
            "servers": servers,
        });
        format!("{all:#}\n")
    }

    /// Stops every server in order and removes the folder (unless it is to be kept).
    ///
    /// # Errors
    /// A server does not stop, or the folder cannot be removed; dropping the cluster, which
    /// happens in any case, then uses force.
    pub async fn stop(self) -> Result<(), Error> {
        // What is thrown away needs no last checkpoint.
        let mode = if self.keep {
            StopMode::Fast
        } else {
            StopMode::Immediate
        };
        // Replicas first: a primary that stops fast waits for them to receive everything.
        for role in [Role::Replica, Role::Primary] {
            let those = || self.servers().filter(|server| server.role == role);
            those().for_each(|server| server.signal(mode.signal()));
            for server in those() {
                server.stop(mode).await?;
            }
        }
        if !self.keep {
            std::fs::remove_dir_all(&self.dir).map_err(Error::file("remove", &self.dir))?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in self.servers() {
            server.signal(StopMode::Immediate.signal());
        }
        let until = Instant::now() + Duration::from_secs(5);
        for server in self.servers() {
            server.end_blocking(until);
        }
        // initdb or pg_basebackup, dropped a moment ago, may still be creating files.
        while !self.keep && self.dir.exists() {
            if std::fs::remove_dir_all(&self.dir).is_err() {
                if Instant::now() > until {
                    // The watchdog goes on trying.
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.watchdog.dismiss();
    }
}

fn password() -> String {
    let random = rand::rng().sample_iter(rand::distr::Alphanumeric);
    random.take(24).map(char::from).collect()
}

/// Makes the folder: readable by the servers' account alone, since it holds passwords.
fn make_dir(dir: Option<&Path>, account: Account) -> Result<PathBuf, Error> {
    let Some(dir) = dir else {
        let made = tempfile::Builder::new()
            .prefix("pgdrover-demo-")
            .tempdir()
            .map_err(Error::io("make a temporary folder"))?;
        account.own(made.path())?;
        account.check(made.path())?;
        return Ok(made.keep());
    };
    let is_new = !dir.exists();
    std::fs::create_dir_all(dir).map_err(Error::file("make", dir))?;
    let mut entries = std::fs::read_dir(dir).map_err(Error::file("read", dir))?;
    if entries.next().is_some() {
        return Err(Error::Options(format!(
            "the folder {} is not empty: name another one, or a new one, with --dir",
            dir.display()
        )));
    }
    account.own(dir)?;
    if let Err(error) = account.check(dir) {
        if is_new {
            // What remains if this fails is an empty folder.
            let _ = std::fs::remove_dir(dir);
        }
        return Err(error);
    }
    dir.canonicalize().map_err(Error::file("resolve", dir))
}

fn plan(
    number: u16,
    options: &Options,
    dir: &Path,
    install: &Install,
    account: Account,
) -> ShardServers {
    let server = |n| Server::new((number, n), free_port(), dir, install, account);
    ShardServers {
        number,
        name: format!("shard{number}"),
        servers: (0..=options.replicas).map(server).collect(),
    }
}

pub(super) async fn connect(
    server: &Server,
    user: &str,
    password: &str,
    dbname: &str,
) -> Result<tokio_postgres::Client, Error> {
    let (client, connection) = tokio_postgres::Config::new()
        .host(&server.host)
        .port(server.port)
        .user(user)
        .password(password)
        .dbname(dbname)
        .application_name("pgdrover demo")
        .connect(tokio_postgres::NoTls)
        .await
        .map_err(Error::sql(format!("cannot connect to {}", server.name)))?;
    // The client's own calls report a lost connection.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}
