//! Who may come in, and how: all about logins that a reload replaces at once. A login that has begun
//! ends by what held when it began.

use std::collections::HashMap;
use std::sync::Arc;

use super::auth::Secret;
use super::directory::Directory;
use super::hba::{self, HbaRule, Who};
use super::service::Service;
use super::{AuthType, Settings};
use crate::backend::{Credentials, PoolMode};
use crate::error::ClientError;
use crate::wire::ServerTls;

/// A user who may log in.
#[derive(Debug)]
pub struct User {
    /// What proves it.
    pub secret: Option<Secret>,
    /// As whom it works on the servers.
    pub credentials: Credentials,
    /// Whether what its client proves by SCRAM is what proves it to the servers.
    pub passes_through: bool,
    /// When its server connections go back to their pool.
    pub pool_mode: PoolMode,
    /// How many clients it may have; 0: any number.
    pub most_clients: usize,
}

/// What decides about a login.
pub struct Gate {
    /// `[session]`, as of this gate.
    pub settings: Settings,
    /// TLS towards clients, if a certificate is configured.
    pub tls: Option<ServerTls>,
    /// `[[hba]]`; without any, `session.auth_type` holds for everybody.
    pub rules: Vec<HbaRule>,
    /// `[[users]]` by name.
    pub users: HashMap<String, Arc<User>>,
    /// Where the other users of a database are looked up, by the database's name.
    pub directories: HashMap<String, Directory>,
}

/// A user, and where it was looked up if it is none of `[[users]]`.
pub(super) struct Found<'g> {
    pub(super) user: Option<Arc<User>>,
    directory: Option<&'g Directory>,
}

impl Gate {
    /// How this client is to prove who it is.
    pub(super) fn method(&self, who: &Who<'_>) -> Result<AuthType, ClientError> {
        match &self.rules[..] {
            [] => Ok(self.settings.auth_type),
            rules => hba::method(rules, who),
        }
    }

    /// The user of that name in that database.
    pub(super) async fn find(
        &self,
        service: &Service,
        name: &str,
        database: &str,
    ) -> Result<Found<'_>, ClientError> {
        if let Some(user) = self.users.get(name) {
            return Ok(Found {
                user: Some(user.clone()),
                directory: None,
            });
        }
        let directory = self.directories.get(database);
        let user = match directory {
            Some(directory) => {
                let topology = service.topology.borrow().clone();
                directory.find(&topology, &service.pools, name).await?
            }
            None => None,
        };
        Ok(Found { user, directory })
    }

    /// Closes what rests. To be called every few seconds.
    pub fn rest(&self) {
        self.directories.values().for_each(Directory::rest);
    }
}

impl Found<'_> {
    /// A login of the user failed: what is remembered of it may be out of date.
    pub(super) fn failed(&self, name: &str) {
        if let Some(directory) = self.directory {
            directory.failed(name);
        }
    }
}
