//! From the configuration to what decides about logins.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;

use crate::backend::{Credentials, Pools, Reader, ServerSecret};
use crate::config::{Config, DatabaseConfig};
use crate::session::{ClientTlsMode, Directory, Gate, Secret, User, UserSettings};
use crate::wire::ServerTls;
use crate::wire::scram::Verifier;

/// Builds the gate. Fails only for files that cannot be read.
pub(super) fn build(config: &Config, pools: &Pools) -> anyhow::Result<Gate> {
    let users = users(config, pools);
    let directories = config
        .databases
        .iter()
        .filter_map(|d| Some((d.name.clone(), directory(config, d, &users, pools)?)))
        .collect();
    Ok(Gate {
        settings: config.session.clone(),
        tls: client_tls(config)?,
        users,
        directories,
    })
}

fn client_tls(config: &Config) -> anyhow::Result<Option<ServerTls>> {
    let session = &config.session;
    if session.client_tls_mode == ClientTlsMode::Disable || session.client_tls_cert_file.is_empty()
    {
        return Ok(None);
    }
    ServerTls::load(&session.client_tls_cert_file, &session.client_tls_key_file)
        .map(Some)
        .context("cannot set up TLS towards the clients")
}

/// The role that a user has on the servers.
pub(super) fn server_user(user: &UserSettings) -> &str {
    user.server_user.as_deref().unwrap_or(&user.name)
}

/// The role's password: the user's own serves there too if it is in clear, or in the form that an
/// MD5 challenge can be answered with.
pub(super) fn server_password(user: &UserSettings) -> Option<&str> {
    let own = user.password.as_deref().map(String::as_str);
    let own = own.filter(|p| Verifier::parse(p).is_none());
    let server = user.server_password.as_deref();
    server.map(String::as_str).or(own)
}

fn users(config: &Config, pools: &Pools) -> HashMap<String, Arc<User>> {
    let user = |settings: &UserSettings| {
        let (role, password) = (server_user(settings), server_password(settings));
        let secret = settings.password.as_deref().map(|p| Secret::parse(p));
        let passes_through = password.is_none() && matches!(secret, Some(Secret::Scram(_)));
        User {
            secret,
            credentials: Credentials {
                user: role.into(),
                secret: match passes_through {
                    true => pools.learnt_secret(role),
                    false => Arc::new(ServerSecret::new(password)),
                },
                limits: settings.pool_limits(),
            },
            passes_through,
            pool_mode: settings.pool_mode.unwrap_or(config.pool.pool_mode),
            most_clients: settings
                .max_user_client_connections
                .unwrap_or(config.session.max_user_client_connections),
        }
    };
    config
        .users
        .iter()
        .map(|s| (s.name.clone(), Arc::new(user(s))))
        .collect()
}

/// Where the users of a database are looked up that stand nowhere in the configuration.
fn directory(
    config: &Config,
    database: &DatabaseConfig,
    users: &HashMap<String, Arc<User>>,
    pools: &Pools,
) -> Option<Directory> {
    let session = &config.session;
    let auth_user = database.auth_user.as_ref().unwrap_or(&session.auth_user);
    let asks = users.get(auth_user)?;
    let query = database.auth_query.as_ref().unwrap_or(&session.auth_query);
    let dbname = database.auth_dbname.as_ref();
    let dbname = Some(dbname.unwrap_or(&session.auth_dbname)).filter(|d| !d.is_empty());
    let reader = Reader::new(
        asks.credentials.clone(),
        pools.tls().clone(),
        config.pool.server_connect_timeout,
    );
    let dbname = dbname.map(|d| d.as_str().into());
    let mut directory = Directory::new(&database.name, query.clone(), dbname, reader);
    directory.keep = session.auth_query_cache_time;
    directory.pool_mode = config.pool.pool_mode;
    directory.most_clients = session.max_user_client_connections;
    Some(directory)
}
