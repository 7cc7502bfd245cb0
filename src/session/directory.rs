//! Users who do not stand in the configuration: `auth_query` looks them up on a server of their
//! database. Answers are remembered for a while; their number is bounded.
//!
//! The query runs on a connection of its own ([`Reader`]), with a search_path that holds nothing of
//! users, and with the name as a bound value: nothing else that a client sent takes part.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use tracing::warn;
use zeroize::Zeroizing;

use super::auth::Secret;
use super::gate::User;
use crate::backend::{Credentials, FirstRow, Overrides, PoolMode, Pools, Reader};
use crate::error::{ClientError, SqlState};
use crate::topology::{Address, Role, Shard, Topology};

/// What is asked unless the configuration says otherwise: PostgreSQL's own roles that may log in;
/// without their password when its time is over. Every name and operator is qualified.
pub const AUTH_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) \
     pg_catalog.now() THEN NULL ELSE rolpassword END FROM pg_catalog.pg_authid \
     WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin";

/// How many users of a database are remembered.
const MOST_USERS: usize = 10_000;
/// A user who was not found, or whose login failed, is looked up again after this.
const AGAIN: Duration = Duration::from_secs(2);
/// The length of a role's name is below this (PostgreSQL's NAMEDATALEN): a longer one is nobody's.
const NAMEDATALEN: usize = 64;

/// The users of one database that its servers know.
pub struct Directory {
    /// The database.
    pub database: Arc<str>,
    /// The query, with the name as `$1`; its columns are name and password.
    pub query: String,
    /// The database on the server, if another than the shard's.
    pub dbname: Option<Arc<str>>,
    /// Who asks.
    pub reader: Reader,
    /// How long an answer counts.
    pub keep: Duration,
    /// The pool mode of these users.
    pub pool_mode: PoolMode,
    /// How many clients each of them may have; 0: any number.
    pub most_clients: usize,
    known: Cache<String, Arc<Entry>>,
}

struct Entry {
    user: Option<Arc<User>>,
    password: Option<Zeroizing<String>>,
    at: Instant,
}

impl Directory {
    /// A directory of which nothing is known yet.
    pub fn new(database: &str, query: String, dbname: Option<Arc<str>>, reader: Reader) -> Self {
        Directory {
            database: database.into(),
            query,
            dbname,
            reader,
            keep: Duration::from_secs(60),
            pool_mode: PoolMode::Transaction,
            most_clients: 0,
            known: Cache::new(MOST_USERS),
        }
    }

    /// The user of that name, from memory or from a server; `None` if there is none.
    pub(super) async fn find(
        &self,
        topology: &Topology,
        pools: &Pools,
        name: &str,
    ) -> Result<Option<Arc<User>>, ClientError> {
        // PostgreSQL would cut a longer name, and so take it for another's.
        if name.len() >= NAMEDATALEN {
            return Ok(None);
        }
        if let Some(entry) = self.fresh(name) {
            return Ok(entry.user.clone());
        }
        let shard = topology.databases.get(&self.database);
        let Some(shard) = shard.and_then(|d| d.shards.first()) else {
            return Ok(None);
        };
        let dbname = self.dbname.as_ref().unwrap_or(&shard.dbname);
        let servers = servers(shard);
        let answer = self.reader.ask(
            (&servers, dbname),
            (&self.query, name),
            || self.fresh(name),
            |row| self.remember(pools, name, row),
        );
        match answer.await {
            Ok(entry) => Ok(entry.user.clone()),
            Err(cause) => {
                // A stranger is not told about the servers.
                warn!(database = %self.database, %cause, "auth_query failed");
                let message = format!("cannot look up user \"{name}\"");
                Err(ClientError::fatal(SqlState::CANNOT_CONNECT_NOW, message)
                    .hint("The server may be down, or auth_query or auth_user wrong: see pgdrover's log."))
            }
        }
    }

    /// Closes a connection that rests.
    pub(super) fn rest(&self) {
        self.reader.rest();
    }

    /// What is remembered and still counts.
    fn fresh(&self, name: &str) -> Option<Arc<Entry>> {
        let entry = self.known.get(name)?;
        let counts = match &entry.user {
            // What its client proved is not what the servers want.
            Some(user) if user.passes_through && user.credentials.secret.is_refused() => AGAIN,
            Some(_) => self.keep,
            None => AGAIN.min(self.keep),
        };
        (entry.at.elapsed() < counts).then_some(entry)
    }

    fn remember(&self, pools: &Pools, name: &str, row: FirstRow) -> Arc<Entry> {
        let mut columns = row.columns.into_iter();
        let (user, password) = (columns.next().flatten(), columns.next().flatten());
        let is_user = row.rows == 1 && user.as_deref() == Some(name);
        if row.rows > 0 && !is_user {
            warn!(database = %self.database, user = name, rows = row.rows,
                "auth_query must return one row, the name and the password: user refused");
        }
        let password = password.filter(|_| is_user).map(Zeroizing::new);
        let before = self.known.get(name);
        let same = before.filter(|b| is_user && b.user.is_some() && b.password == password);
        let user = match same {
            Some(before) => before.user.clone(),
            None => is_user.then(|| Arc::new(self.user(pools, name, password.as_deref()))),
        };
        let entry = Arc::new(Entry {
            user,
            password,
            at: Instant::now(),
        });
        self.known.insert(name.to_owned(), entry.clone());
        entry
    }

    fn user(&self, pools: &Pools, name: &str, password: Option<&String>) -> User {
        let stored = password.map(|p| Secret::parse(p));
        let passes_through = !matches!(stored, Some(Secret::Md5(_) | Secret::Clear(..)));
        let secret = pools.learnt_secret(name);
        // An MD5 hash, or a clear password of a custom query, serves on the servers as well.
        let own = password.filter(|_| !passes_through);
        secret.set_password(own.map(String::as_str));
        User {
            secret: stored,
            credentials: Credentials {
                user: name.into(),
                secret,
                limits: Overrides::default(),
            },
            passes_through,
            pool_mode: self.pool_mode,
            most_clients: self.most_clients,
        }
    }

    /// A login failed: if what is remembered is not of this moment, it is looked up again.
    pub(super) fn failed(&self, name: &str) {
        if let Some(entry) = self.known.get(name)
            && entry.at.elapsed() >= AGAIN
        {
            self.known.remove(name);
        }
    }
}

/// The servers in the order in which they are asked: the primary has the newest passwords.
fn servers(shard: &Shard) -> Vec<Address> {
    let of_role = |role| {
        let servers = shard.servers.iter().filter(move |s| s.role == role);
        servers.map(|s| s.address.clone())
    };
    of_role(Role::Primary)
        .chain(of_role(Role::Replica))
        .collect()
}
