//! From the configuration to what decides about logins.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;

use crate::backend::{Credentials, Pools, Reader, ServerSecret};
use crate::config::{Config, DatabaseConfig};
use crate::session::{ClientTlsMode, Directory, Gate, Secret, User, UserSettings};
use crate::wire::ServerTls;
use crate::wire::scram::Verifier;

/// The gate that a reload replaces, and the configuration that it was built from.
pub(super) type Before<'a> = Option<(&'a Gate, &'a Config)>;

/// Builds the gate. Fails only for files that cannot be read, and then has changed nothing.
pub(super) fn build(config: &Config, pools: &Pools, before: Before<'_>) -> anyhow::Result<Gate> {
    let tls = client_tls(config)?;
    let users = users(config, pools, before);
    let directories = config
        .databases
        .iter()
        .filter_map(|d| Some((d.name.clone(), directory(config, d, &users, pools)?)))
        .collect();
    Ok(Gate {
        settings: config.session.clone(),
        tls,
        rules: config.hba.clone(),
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
    let (cert, key) = (&session.client_tls_cert_file, &session.client_tls_key_file);
    ServerTls::load(cert, key, &session.client_tls_ca_file)
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

/// Users who stay as they were are kept. Of others the pools on the servers are, and get the new
/// password.
fn users(config: &Config, pools: &Pools, before: Before<'_>) -> HashMap<String, Arc<User>> {
    let kept = |settings: &UserSettings| {
        let (gate, before_config) = before?;
        let unchanged = before_config.users.contains(settings)
            && before_config.session.max_user_client_connections
                == config.session.max_user_client_connections;
        gate.users
            .get(&settings.name)
            .filter(|_| unchanged)
            .cloned()
    };
    let secret_of = |settings: &UserSettings, role: &str, password: Option<&str>| {
        let user = before.and_then(|(gate, _)| gate.users.get(&settings.name));
        let same_role = user.filter(|u| *u.credentials.user == *role && !u.passes_through);
        let Some(user) = same_role else {
            return Arc::new(ServerSecret::new(password));
        };
        user.credentials.secret.set_password(password);
        user.credentials.secret.clone()
    };
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
                    false => secret_of(settings, role, password),
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
        .map(|s| {
            let user = kept(s).unwrap_or_else(|| Arc::new(user(s)));
            (s.name.clone(), user)
        })
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
