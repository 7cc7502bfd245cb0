//! A database of a test's own on the shared cluster, so that tests run side by side.

use std::sync::atomic::{AtomicUsize, Ordering};

use pgdrover::demo::{self, Server, ShardServers};

use super::cluster::shared;

/// A database on the servers of one shard, owned by the demo's user.
#[derive(Clone, Debug)]
pub(crate) struct TestDb {
    /// Its name.
    pub(crate) name: String,
    shard: usize,
}

/// A database on each of three shards, with a table `items (key, shard)` whose rows name their shard.
pub(crate) async fn items_on_three_shards() -> Vec<TestDb> {
    let mut dbs = Vec::new();
    for shard in 0..3 {
        let sql = format!(
            "CREATE TABLE items (key bigint, shard int DEFAULT {shard}); \
             INSERT INTO items VALUES ({shard})"
        );
        dbs.push(TestDb::on_shard(shard, &sql).await);
    }
    dbs
}

impl TestDb {
    /// A new database on shard 0, with `setup` run in it by its owner.
    pub(crate) async fn new(setup: &str) -> TestDb {
        TestDb::on_shard(0, setup).await
    }

    /// A new database on a shard's servers. Its name is unique in this process.
    pub(crate) async fn on_shard(shard: usize, setup: &str) -> TestDb {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        TestDb::named(&name, shard, setup).await
    }

    /// A new database of this name.
    pub(crate) async fn named(name: &str, shard: usize, setup: &str) -> TestDb {
        let db = TestDb {
            name: name.to_owned(),
            shard,
        };
        let admin = shared().connect(db.primary()).await.unwrap();
        let create = format!("CREATE DATABASE {name} OWNER {}", demo::USER);
        admin.batch_execute(&create).await.unwrap();
        db.owner().await.batch_execute(setup).await.unwrap();
        db
    }

    /// The servers of its shard.
    pub(crate) fn servers(&self) -> &'static ShardServers {
        &shared().shards[self.shard]
    }

    /// The primary of its shard.
    pub(crate) fn primary(&self) -> &'static Server {
        self.servers().primary()
    }

    /// A connection of its owner, straight to the primary.
    pub(crate) async fn owner(&self) -> tokio_postgres::Client {
        connect(self.primary(), demo::USER, demo::PASSWORD, &self.name).await
    }

    /// A connection of the superuser to it, straight to the primary.
    pub(crate) async fn superuser(&self) -> tokio_postgres::Client {
        let (user, password) = (&shared().superuser, &shared().superuser_password);
        connect(self.primary(), user, password, &self.name).await
    }

    /// How many connections pgdrover's clients have to it on the primary.
    pub(crate) async fn connections(&self, watcher: &tokio_postgres::Client) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = $1 AND usename = 'app' AND application_name = ''";
        watcher.query_one(sql, &[&self.name]).await.unwrap().get(0)
    }
}

/// A connection straight to a server.
pub(crate) async fn connect(
    server: &Server,
    user: &str,
    password: &str,
    dbname: &str,
) -> tokio_postgres::Client {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&server.host)
        .port(server.port)
        .user(user)
        .password(password)
        .dbname(dbname);
    open(&config).await.unwrap()
}

/// Connects without TLS and drives the connection in a task of its own.
pub(crate) async fn open(
    config: &tokio_postgres::Config,
) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
