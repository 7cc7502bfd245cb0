//! All pools, following the topology.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::sharding::ShardId;
use crate::telemetry::metrics::ServerMetrics;
use crate::topology::{Address, Database, Health, Role, Server, Shard, Topology};

use super::balance::RoundRobin;
use super::clock::Clock;
use super::connect::{Login, Tls};
use super::lease::Lease;
use super::outage::Outage;
use super::pool::{ServerPool, Shared, Sizes};
use super::quota::Quota;
use super::{Error, Limit, Overrides, ServerSecret, Settings};

/// Who logs in to the servers on behalf of a client.
#[derive(Clone)]
pub struct Credentials {
    /// The role on the servers.
    pub user: Arc<str>,
    /// What proves it.
    pub secret: Arc<ServerSecret>,
    /// What it has instead of the values in `[pool]`. Of several users who log in to the servers
    /// as one, the first to come counts.
    pub limits: Overrides,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The pools of one server of a shard.
#[derive(Debug)]
pub struct Member {
    /// Its pool.
    pub pool: Arc<ServerPool>,
    /// Whether the probes let statements go there.
    pub usable: bool,
}

/// The pools of a shard for one user.
#[derive(Debug)]
pub struct ShardPools {
    /// Its number.
    pub id: ShardId,
    /// Its name.
    pub name: Arc<str>,
    /// The server that takes writes.
    pub primary: Member,
    replicas: Vec<Member>,
    turns: RoundRobin,
}

impl ShardPools {
    /// A warm connection of the server whose turn it is to read, if it has one.
    pub fn try_read(&self, counts: bool) -> Option<(Lease, bool)> {
        let pool = self.readers(false).next()?;
        let lease = pool.try_checkout()?;
        if counts {
            self.turns.take();
        }
        Some((lease, Arc::ptr_eq(pool, &self.primary.pool)))
    }

    /// The servers to try for one read: usable replicas from the one whose turn it is, then the
    /// primary. What does not `count` leaves the turn to the next read.
    pub fn readers(&self, counts: bool) -> impl Iterator<Item = &Arc<ServerPool>> {
        let mut seen = 0u64;
        self.turns
            .turn(counts)
            .filter(move |i| {
                let bit = 1u64 << (i % 64);
                let first = seen & bit == 0;
                seen |= bit;
                first && self.replicas[*i].usable
            })
            .map(|i| &self.replicas[i].pool)
            .chain(std::iter::once(&self.primary.pool))
    }
}

/// The pools of a database for one user, as of one epoch of the topology.
#[derive(Debug)]
pub struct Cluster {
    /// The epoch of the topology that it was made from.
    pub epoch: u64,
    /// By shard number.
    pub shards: Vec<ShardPools>,
}

/// Server, database as clients name it, user on the server, database on the server.
type PoolKey = (Address, Arc<str>, Arc<str>, Arc<str>);
type ClusterKey = (Arc<str>, Arc<str>);

#[derive(Default)]
struct State {
    pools: HashMap<PoolKey, Arc<ServerPool>>,
    clusters: HashMap<ClusterKey, Arc<Cluster>>,
    databases: HashMap<Arc<str>, Arc<Quota>>,
    users: HashMap<Arc<str>, Arc<Quota>>,
    servers: HashMap<Address, Arc<Outage>>,
    /// The secrets of roles whose keys come from their clients' logins, as long as somebody, such
    /// as a pool, has them.
    learnt: HashMap<Box<str>, Weak<ServerSecret>>,
}

/// Every pool of the process.
pub struct Pools {
    settings: Settings,
    tls: Tls,
    databases: HashMap<Arc<str>, Overrides>,
    clock: Arc<Clock>,
    state: Mutex<State>,
}

impl Pools {
    /// No pools yet; they come with the first client that needs them.
    /// `databases` says what they have instead of the values in `settings`.
    pub fn new(settings: Settings, tls: Tls, databases: HashMap<Arc<str>, Overrides>) -> Self {
        Pools {
            settings,
            tls,
            databases,
            clock: Arc::new(Clock::new()),
            state: Mutex::default(),
        }
    }

    /// TLS towards the servers.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// The one secret of a role whose keys come from its clients' logins.
    pub fn learnt_secret(&self, role: &str) -> Arc<ServerSecret> {
        let mut state = self.lock();
        if let Some(secret) = state.learnt.get(role).and_then(Weak::upgrade) {
            return secret;
        }
        let secret = Arc::new(ServerSecret::default());
        state.learnt.insert(role.into(), Arc::downgrade(&secret));
        secret
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pools of `database` for `credentials`, as the topology is at `epoch`. Pools of servers
    /// that stay are kept with their connections.
    pub fn cluster(
        &self,
        database: &Database,
        epoch: u64,
        credentials: &Credentials,
    ) -> Result<Arc<Cluster>, Error> {
        let key = (database.name.clone(), credentials.user.clone());
        let mut state = self.lock();
        if let Some(cluster) = state.clusters.get(&key).filter(|c| c.epoch >= epoch) {
            return Ok(cluster.clone());
        }
        let before = state.clusters.get(&key).cloned();
        let before = |shard: &Shard| {
            let shards = before.iter().flat_map(|c| &c.shards);
            shards.into_iter().find(|s| s.id == shard.id)
        };
        let shards = database
            .shards
            .iter()
            .map(|shard| self.shard(&mut state, database, shard, credentials, before(shard)))
            .collect::<Result<Vec<_>, _>>()?;
        let cluster = Arc::new(Cluster { epoch, shards });
        state.clusters.insert(key, cluster.clone());
        Ok(cluster)
    }

    fn shard(
        &self,
        state: &mut State,
        database: &Database,
        shard: &Shard,
        credentials: &Credentials,
        before: Option<&ShardPools>,
    ) -> Result<ShardPools, Error> {
        let mut primary = None;
        let mut replicas = Vec::new();
        let mut weights = Vec::new();
        for server in &shard.servers {
            if server.health == Health::Up
                && let Some(outage) = state.servers.get(&server.address)
            {
                // The probes reach it: no reason to wait any longer.
                outage.over();
            }
            let pool = self.pool(state, database, shard, server, credentials);
            let member = Member {
                pool,
                usable: server.health.usable(),
            };
            match server.role {
                Role::Primary => primary = Some(member),
                Role::Replica => {
                    replicas.push(member);
                    weights.push(server.weight);
                }
            }
        }
        let primary = primary.ok_or_else(|| Error::Connect {
            server: Address {
                host: shard.name.clone(),
                port: 0,
            },
            cause: "the shard has no primary".into(),
        })?;
        let turns = RoundRobin::new(&weights, before.map(|b| &b.turns));
        Ok(ShardPools {
            id: shard.id,
            name: shard.name.clone(),
            primary,
            replicas,
            turns,
        })
    }

    fn pool(
        &self,
        state: &mut State,
        database: &Database,
        shard: &Shard,
        server: &Server,
        credentials: &Credentials,
    ) -> Arc<ServerPool> {
        let key = (
            server.address.clone(),
            database.name.clone(),
            credentials.user.clone(),
            shard.dbname.clone(),
        );
        if let Some(pool) = state.pools.get(&key) {
            return pool.clone();
        }
        let login = Login {
            user: credentials.user.clone(),
            secret: credentials.secret.clone(),
            dbname: shard.dbname.clone(),
        };
        let metrics = ServerMetrics::new(
            &database.name,
            &shard.name,
            server.role.as_str(),
            &server.address.to_string(),
        );
        let of_database = self
            .databases
            .get(&database.name)
            .copied()
            .unwrap_or_default();
        let pool = ServerPool::new(
            server.address.clone(),
            login,
            self.tls.clone(),
            (
                &self.settings,
                self.sizes(&of_database, &credentials.limits),
            ),
            self.shared(state, database, server, credentials, &of_database),
            metrics,
        );
        state.pools.insert(key, pool.clone());
        pool
    }

    /// What the user has counts before what the database has, and that before `[pool]`.
    fn sizes(&self, of_database: &Overrides, of_user: &Overrides) -> Sizes {
        let settings = &self.settings;
        let first = |of: fn(&Overrides) -> Option<usize>, default| {
            of(of_user).or(of(of_database)).unwrap_or(default)
        };
        Sizes {
            size: first(|o| o.pool_size, settings.default_pool_size),
            min: first(|o| o.min_pool_size, settings.min_pool_size),
            reserve: first(|o| o.reserve_pool_size, settings.reserve_pool_size),
        }
    }

    fn shared(
        &self,
        state: &mut State,
        database: &Database,
        server: &Server,
        credentials: &Credentials,
        of_database: &Overrides,
    ) -> Shared {
        let (name, user) = (&database.name, &credentials.user);
        let most = of_database.max_connections;
        let most = most.unwrap_or(self.settings.max_db_connections);
        let of_database = state
            .databases
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Quota::new(Limit::Database(name.clone(), most))));
        let most = credentials.limits.max_connections;
        let most = most.unwrap_or(self.settings.max_user_connections);
        let of_user = state
            .users
            .entry(user.clone())
            .or_insert_with(|| Arc::new(Quota::new(Limit::User(user.clone(), most))));
        Shared {
            quotas: [of_database.clone(), of_user.clone()],
            server: state
                .servers
                .entry(server.address.clone())
                .or_default()
                .clone(),
            clock: self.clock.clone(),
        }
    }

    /// Sets the clock by which connections age. To be called twice a second or so.
    pub fn tick(&self) {
        self.clock.set();
    }

    /// Closes connections that rested too long, and the pools of servers that left the topology.
    /// To be called every few seconds.
    pub fn maintain(&self, topology: &Topology) {
        let mut state = self.lock();
        let known = |address: &Address| {
            topology
                .databases
                .values()
                .flat_map(|d| &d.shards)
                .flat_map(|s| &s.servers)
                .any(|s| s.address == *address)
        };
        state.servers.retain(|address, _| known(address));
        state.learnt.retain(|_, secret| secret.strong_count() > 0);
        state
            .clusters
            .retain(|(database, _), _| topology.databases.contains_key(database));
        state.pools.retain(|(address, ..), pool| {
            let keep = known(address);
            if keep {
                pool.maintain();
                pool.report();
            } else {
                pool.close();
            }
            keep
        });
    }
}
