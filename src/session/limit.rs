//! How many clients one user, or one database, may have.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{ClientError, SqlState};

/// One such limit, and how much of it is used.
#[derive(Debug)]
pub struct ClientLimit {
    /// Whose, and the setting's name: `("user", "max_user_client_connections")`.
    kind: (&'static str, &'static str),
    name: Box<str>,
    most: usize,
    clients: AtomicUsize,
}

impl ClientLimit {
    /// The limit on the clients of a user; 0 is none.
    pub fn of_user(name: &str, most: usize) -> Arc<Self> {
        Self::new(("user", "max_user_client_connections"), name, most)
    }

    /// The limit on the clients of a database; 0 is none.
    pub fn of_database(name: &str, most: usize) -> Arc<Self> {
        Self::new(("database", "max_db_client_connections"), name, most)
    }

    fn new(kind: (&'static str, &'static str), name: &str, most: usize) -> Arc<Self> {
        Arc::new(ClientLimit {
            kind,
            name: name.into(),
            most,
            clients: AtomicUsize::new(0),
        })
    }

    /// Admits one more client, until what is returned is dropped. Errors: 53300.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admitted, ClientError> {
        let admitted = self
            .clients
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| {
                (self.most == 0 || n < self.most).then_some(n + 1)
            });
        match admitted {
            Ok(_) => Ok(Admitted(self.clone())),
            Err(_) => {
                let ((whose, setting), name, most) = (self.kind, &self.name, self.most);
                Err(ClientError::fatal(
                    SqlState::TOO_MANY_CONNECTIONS,
                    format!("{whose} \"{name}\" has all its {most} clients ({setting})"),
                )
                .hint(format!("Raise {setting}.")))
            }
        }
    }
}

/// One client among those that a limit counts.
pub(super) struct Admitted(Arc<ClientLimit>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::AcqRel);
    }
}
