//! pgdrover in this process, on free ports, before databases of a test.

use std::fmt::Write;
use std::net::SocketAddr;

use pgdrover::config::{self, Config};
use pgdrover::daemon::Daemon;
use pgdrover::demo::{self, Cluster, Endpoint, Server};
use pgdrover::telemetry::metrics::Closed;
use pgdrover::topology::Role;

use super::database::{TestDb, open};
use super::raw::Raw;

/// A configuration in the making.
pub(crate) struct Setup {
    sections: String,
    listener: String,
    port: u16,
    users: String,
    database: String,
    database_lines: String,
    shards: String,
}

impl Setup {
    /// One shard: the database on its primary alone, so that whatever is read is up to date.
    pub(crate) fn solo(db: &TestDb) -> Setup {
        Setup::empty(&db.name).shard(db, &[db.primary()])
    }

    /// One shard: the database on its primary and both replicas.
    pub(crate) fn replicated(db: &TestDb) -> Setup {
        let servers: Vec<&Server> = db.servers().servers.iter().collect();
        Setup::empty(&db.name).shard(db, &servers)
    }

    /// Several shards, each the primary of one database; `table` is sharded by `key`.
    pub(crate) fn sharded(dbs: &[TestDb]) -> Setup {
        dbs.iter().fold(Setup::empty("sharded"), |setup, db| {
            setup.shard(db, &[db.primary()])
        })
    }

    /// A database with one shard on a server of any kind at this port.
    pub(crate) fn at_port(name: &str, port: u16) -> Setup {
        Setup::empty(name).raw_shard("shard0", name, &[("127.0.0.1", port, Role::Primary)])
    }

    fn empty(name: &str) -> Setup {
        Setup {
            sections: String::new(),
            listener: "host = \"127.0.0.1\"\n".into(),
            port: 0,
            users: String::new(),
            database: name.to_owned(),
            database_lines: String::new(),
            shards: String::new(),
        }
    }

    fn shard(self, db: &TestDb, servers: &[&Server]) -> Setup {
        let name = format!(
            "shard{}",
            self.shards.matches("[[databases.shards]]").count()
        );
        let servers: Vec<_> = servers
            .iter()
            .map(|s| (s.host.as_str(), s.port, s.role))
            .collect();
        self.raw_shard(&name, &db.name, &servers)
    }

    /// Adds a shard.
    pub(crate) fn raw_shard(
        mut self,
        name: &str,
        dbname: &str,
        servers: &[(&str, u16, Role)],
    ) -> Setup {
        let text = &mut self.shards;
        let _ = write!(
            text,
            "\n[[databases.shards]]\nname = \"{name}\"\ndbname = \"{dbname}\"\n"
        );
        for (host, port, role) in servers {
            let role = role.as_str();
            let _ = write!(
                text,
                "[[databases.shards.servers]]\nhost = \"{host}\"\nport = {port}\nrole = \"{role}\"\n"
            );
        }
        self
    }

    /// Adds a whole section, such as `"[pool]\ndefault_pool_size = 1"`.
    pub(crate) fn with(mut self, section: &str) -> Setup {
        self.sections.push_str(section);
        self.sections.push_str("\n\n");
        self
    }

    /// Adds lines to `[listener]`.
    pub(crate) fn listener(mut self, lines: &str) -> Setup {
        self.listener.push_str(lines);
        self.listener.push('\n');
        self
    }

    /// Takes this port rather than any that is free.
    pub(crate) fn port(mut self, port: u16) -> Setup {
        self.port = port;
        self
    }

    /// Adds a user by the lines of its section, beside the demo's user.
    pub(crate) fn user(mut self, lines: &str) -> Setup {
        let _ = write!(self.users, "[[users]]\n{lines}\n\n");
        self
    }

    /// Adds lines to `[[databases]]`.
    pub(crate) fn database(mut self, lines: &str) -> Setup {
        self.database_lines.push_str(lines);
        self
    }

    /// The whole file.
    pub(crate) fn toml(&self) -> String {
        let Setup {
            sections,
            listener,
            port,
            users,
            database,
            database_lines,
            shards,
        } = self;
        let (user, password) = (demo::USER, demo::PASSWORD);
        format!(
            "[listener]\nport = {port}\n{listener}\n[http]\naddress = \"\"\n\n{sections}\
             [[users]]\nname = \"{user}\"\npassword = \"{password}\"\n\n{users}\
             [[databases]]\nname = \"{database}\"\n{database_lines}\n\n[databases.sharding]\n\
             function = \"modulo\"\nkey_column = \"key\"\nkey_type = \"bigint\"\n\n\
             [[databases.tables]]\nname = \"items\"\nkind = \"sharded\"\n{shards}"
        )
    }

    /// The configuration, checked.
    pub(crate) fn config(&self) -> Config {
        let text = self.toml();
        match config::parse(&text, "test.toml", &|_| None, &|f| {
            std::fs::read_to_string(f)
        }) {
            Ok(config) => config,
            Err(errors) => panic!("{errors}\n{text}"),
        }
    }

    /// Starts pgdrover.
    pub(crate) async fn start(&self) -> Running {
        let daemon = Daemon::start(self.config()).await.unwrap();
        Running {
            address: daemon.address().unwrap(),
            database: self.database.clone(),
            daemon,
        }
    }
}

/// pgdrover before a whole cluster of the demo, with its tables and sharding. `extra` holds further
/// sections, such as `"[pool]\ndefault_pool_size = 3\n"`.
pub(crate) async fn over(cluster: &Cluster, extra: &str) -> Running {
    let endpoint = Endpoint {
        port: 0,
        http_port: 0,
    };
    let text = cluster.config_toml(endpoint, extra);
    let no_file = |_: &std::path::Path| Err(std::io::Error::other("no files here"));
    let config = match config::parse(&text, "test.toml", &|_| None, &no_file) {
        Ok(config) => config,
        Err(errors) => panic!("{errors}\n{text}"),
    };
    let daemon = Daemon::start(config).await.unwrap();
    Running {
        address: daemon.address().unwrap(),
        database: demo::DATABASE.into(),
        daemon,
    }
}

/// The sum of the samples of a metric of a database whose labels contain `labels`.
pub(crate) fn metric(database: &str, name: &str, labels: &str) -> i64 {
    let text = pgdrover::telemetry::metrics::install().render();
    let database = format!("database=\"{database}\"");
    let samples = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, shown) = series.split_once('{')?;
        let ours = found == name && shown.contains(&database) && shown.contains(labels);
        ours.then(|| value.parse::<f64>().unwrap() as i64)
    });
    samples.sum()
}

/// How many server connections of a database were closed for this reason.
pub(crate) fn closed(database: &str, reason: Closed) -> i64 {
    let label = format!("reason=\"{}\"", reason.as_str());
    metric(database, "pgdrover_server_connections_closed_total", &label)
}

/// A running pgdrover; it ends with the test's runtime.
pub(crate) struct Running {
    /// Where it accepts clients.
    pub(crate) address: SocketAddr,
    /// The database that it serves.
    pub(crate) database: String,
    /// Itself.
    pub(crate) daemon: Daemon,
}

impl Running {
    /// A raw client, logged in as the demo's user.
    pub(crate) async fn raw(&self) -> Raw {
        let tcp = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let mut raw = Raw::new(tcp);
        raw.login(demo::USER, demo::PASSWORD, &self.database, &[])
            .await;
        raw
    }

    /// A raw client, logged in as another user.
    pub(crate) async fn raw_as(&self, user: &str, password: &str) -> Raw {
        let mut raw = self.stranger().await;
        raw.login(user, password, &self.database, &[]).await;
        raw
    }

    /// The sum of the samples of a metric of this database whose labels contain `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> i64 {
        metric(&self.database, name, labels)
    }

    /// How many server connections were closed for this reason.
    pub(crate) fn closed(&self, reason: Closed) -> i64 {
        closed(&self.database, reason)
    }

    /// A connection on which nothing was said yet.
    pub(crate) async fn stranger(&self) -> Raw {
        Raw::new(tokio::net::TcpStream::connect(self.address).await.unwrap())
    }

    /// How to log in as the demo's user by tokio-postgres.
    pub(crate) fn client_config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host(self.address.ip().to_string())
            .port(self.address.port())
            .user(demo::USER)
            .password(demo::PASSWORD)
            .dbname(&self.database);
        config
    }

    /// A tokio-postgres client of the demo's user.
    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        open(&self.client_config()).await.unwrap()
    }
}
