//! How many clients one user, or one database, may have.
//!
//! The counts outlive a reload, which may change the limits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{ClientError, SqlState};

/// Whose clients are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    User,
    Database,
}

/// How many clients each user and each database has.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<HashMap<(Whose, Box<str>), usize>>);

impl Counts {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Whose, Box<str>), usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Whose {
    /// Admits one more client, until what is returned is dropped; `most` 0 is no limit.
    /// Errors: 53300.
    pub(super) fn admit(
        self,
        counts: &Arc<Counts>,
        name: &str,
        most: usize,
    ) -> Result<Admitted, ClientError> {
        let key = (self, Box::from(name));
        let mut clients = counts.lock();
        let count = clients.entry(key.clone()).or_default();
        if most > 0 && *count >= most {
            let (whose, setting) = match self {
                Whose::User => ("user", "max_user_client_connections"),
                Whose::Database => ("database", "max_db_client_connections"),
            };
            let message = format!("{whose} \"{name}\" has all its {most} clients ({setting})");
            return Err(ClientError::fatal(SqlState::TOO_MANY_CONNECTIONS, message)
                .hint(format!("Raise {setting}.")));
        }
        *count += 1;
        drop(clients);
        Ok(Admitted {
            counts: counts.clone(),
            key,
        })
    }
}

/// One client among those that are counted.
pub(super) struct Admitted {
    counts: Arc<Counts>,
    key: (Whose, Box<str>),
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut clients = self.counts.lock();
        if let Some(count) = clients.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.key);
            }
        }
    }
}
