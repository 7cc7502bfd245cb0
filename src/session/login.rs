//! From a startup packet to an authenticated user of a database that exists.

use std::time::Instant;

use super::auth::{self, Demand, Failed, authenticate};
use super::client::Identity;
use super::gate::Gate;
use super::gucs;
use super::hba::{Peer, Who};
use super::limit::Whose;
use super::service::Service;
use super::startup::Hello;
use crate::error::{ClientError, SqlState};
use crate::wire::{self, ServerTls};

/// Lets a client in, or says why not. The database is looked up only after the client has proven
/// who it is, so that a stranger cannot probe for names.
pub(super) async fn login(
    service: &Service,
    gate: &Gate,
    peer: Peer,
    hello: &mut Hello,
) -> Result<Identity, Failed> {
    if let Some(options) = &hello.unsupported {
        wire::negotiate_version(&mut hello.port.output, options);
    }
    let encrypted = hello.port.stream().is_tls();
    let who = Who {
        peer,
        user: &hello.user,
        database: &hello.database,
        encrypted,
    };
    let method = gate.method(&who).map_err(Failed::Refused)?;
    let attempts = &service.attempts;
    attempts
        .may_try(&gate.settings, peer, &hello.user, Instant::now())
        .map_err(Failed::Refused)?;
    let found = gate
        .find(service, &hello.user, &hello.database)
        .await
        .map_err(Failed::Refused)?;
    let user = found.user.as_ref();
    let end_point = gate.tls.as_ref().and_then(ServerTls::end_point);
    let common_name = hello.port.stream().client_common_name();
    let demand = Demand {
        auth: method,
        user: &hello.user,
        secret: user.and_then(|u| u.secret.as_ref()),
        process_secret: &service.process_secret,
        end_point: end_point.filter(|_| encrypted).map(|hash| &**hash),
        common_name: common_name.as_deref(),
    };
    let proven = authenticate(&mut hello.port, &demand).await;
    let keys = proven.inspect_err(|error| {
        found.failed(&hello.user);
        // Who left may have gone to ask for the password, as psql does.
        if matches!(error, Failed::Refused(_)) {
            attempts.failed(&gate.settings, peer, &hello.user, Instant::now());
        }
    })?;
    let Some(user) = user else {
        // Only `trust` and `cert` come here.
        return Err(Failed::Refused(
            ClientError::fatal(
                SqlState::INVALID_AUTHORIZATION,
                format!("role \"{}\" does not exist", hello.user),
            )
            .hint("Add it under [[users]]."),
        ));
    };
    if let Some(keys) = keys.filter(|_| user.passes_through) {
        user.credentials.secret.learn(keys);
    }
    let Some(served) = service.databases.get(&hello.database) else {
        return Err(Failed::Refused(
            ClientError::fatal(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{}\" does not exist", hello.database),
            )
            .hint("Databases are declared under [[databases]]."),
        ));
    };
    let counts = &service.registry.counts;
    let of_user = Whose::User.admit(counts, &hello.user, user.most_clients);
    let of_database = Whose::Database.admit(counts, &hello.database, served.most_clients);
    let admitted = (
        of_user.map_err(Failed::Refused)?,
        of_database.map_err(Failed::Refused)?,
    );
    auth::accepted(&mut hello.port);
    let settings = hello.settings.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    Ok(Identity {
        user: user.clone(),
        served: served.clone(),
        gucs: gucs::Gucs::new(settings),
        admitted,
    })
}
