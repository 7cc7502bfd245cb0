//! From a place in a pool to a connection that works: one that rested and is found good, or a new
//! one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Error;
use super::check::answers;
use super::conn::Conn;
use super::connect::connect;
use super::lease::{Lease, Place};
use super::pool::ServerPool;
use crate::telemetry::metrics::Closed;

impl ServerPool {
    /// Sees to it that a connection that rested works, or takes another.
    pub(super) async fn prove(self: &Arc<Self>, mut lease: Lease) -> Result<Lease, Error> {
        loop {
            let reason = match self.unfit(lease.conn()) {
                Some(reason) => reason,
                None if !self.wants_check(lease.conn()) => return Ok(lease),
                None if self.check(lease.conn()).await => return Ok(lease),
                // The others that rest are no better, and finding out takes time.
                None => return self.open(lease.replace(Closed::CheckFailed)).await,
            };
            let place = lease.replace(reason);
            let other = self.lock().idle.pop();
            let Some(other) = other else {
                return self.open(place).await;
            };
            lease = Lease::new(other, self.clone());
        }
    }

    async fn check(&self, conn: &mut Conn) -> bool {
        let asked = answers(conn, &self.settings.server_check_query);
        let asked = tokio::time::timeout(self.settings.server_connect_timeout, asked).await;
        asked.unwrap_or(false)
    }

    /// Opens a connection in a place that was taken for it.
    pub(super) async fn open(self: &Arc<Self>, place: Place) -> Result<Lease, Error> {
        let attempt = Attempt::begin(self)?;
        let limit = self.settings.server_connect_timeout;
        let opened = connect(&self.address, &self.login, &self.tls);
        let opened = tokio::time::timeout(limit, opened).await;
        let opened = opened.unwrap_or_else(|_| {
            Err(Error::Connect {
                server: self.address.clone(),
                cause: format!("no answer within {limit:?}"),
            })
        });
        let login = match opened {
            Ok(login) => login,
            Err(error) => {
                attempt.failed(&error);
                self.metrics.connect_failed();
                return Err(error);
            }
        };
        attempt.succeeded();
        self.metrics.opened();
        let now = self.shared.clock.now();
        let conn = Conn::new(login, self.settings.max_prepared_statements, now);
        place
            .fill(Box::new(conn))
            .ok_or_else(|| self.closed_error())
    }

    /// Opens connections up to the least that there shall be, as far as limits and server allow.
    pub(super) async fn fill(self: Arc<Self>) {
        loop {
            {
                let mut state = self.lock();
                let full = state.closed || state.size >= self.sizes.min.min(self.sizes.size);
                if full || self.take_place(&mut state, Duration::ZERO).is_err() {
                    return;
                }
            }
            match self.open(Place::new(self.clone())).await {
                Ok(lease) => lease.release(),
                Err(_) => return,
            }
        }
    }
}

/// One attempt to connect, however it ends.
struct Attempt<'a>(Option<&'a ServerPool>);

impl<'a> Attempt<'a> {
    fn begin(pool: &'a ServerPool) -> Result<Self, Error> {
        let now = Instant::now();
        pool.shared.server.may_try(now)?;
        if let Err(error) = pool.logins.may_try(now) {
            pool.shared.server.given_up();
            return Err(error);
        }
        Ok(Attempt(Some(pool)))
    }

    fn succeeded(mut self) {
        if let Some(pool) = self.0.take() {
            pool.shared.server.over();
            pool.logins.over();
        }
    }

    fn failed(mut self, error: &Error) {
        let Some(pool) = self.0.take() else { return };
        let (now, longest) = (Instant::now(), pool.settings.server_login_retry);
        let chance = rand::random::<f64>();
        if !pool.login.secret.is_fixed() && error.is_about_the_role() {
            // The next client's login may bring what was missing.
            pool.shared.server.over();
            pool.logins.given_up();
        } else if error.is_unreachable() {
            pool.logins.given_up();
            let server = &pool.shared.server;
            server.failed(now, longest, chance, error.clone());
        } else {
            // The server itself is there.
            pool.shared.server.over();
            pool.logins.failed(now, longest, chance, error.clone());
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.shared.server.given_up();
            pool.logins.given_up();
        }
    }
}
