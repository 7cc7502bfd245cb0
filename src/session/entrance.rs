//! How many connections there may be: clients, and those that have not logged in yet.
//!
//! A stranger who opens connections and says nothing takes no client's place. There may be as many
//! of them as clients; one more closes the oldest, which is not one that is about to log in: a
//! login takes milliseconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// So many may stand at the door, however few clients there may be.
const LEAST: usize = 100;

/// Counts connections.
#[derive(Debug)]
pub struct Entrance {
    clients: Arc<Semaphore>,
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By age, the oldest first.
    strangers: BTreeMap<u64, Arc<Notify>>,
}

/// A connection that has not logged in.
#[derive(Debug)]
pub struct Stranger {
    entrance: Arc<Entrance>,
    number: u64,
    sent_away: Arc<Notify>,
}

impl Entrance {
    /// Lets so many clients in.
    pub fn new(max_clients: usize) -> Self {
        Entrance {
            clients: Arc::new(Semaphore::new(max_clients)),
            most: max_clients.max(LEAST),
            waiting: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was accepted. If there are too many strangers, the oldest is sent away.
    pub fn enter(self: &Arc<Self>) -> Stranger {
        let sent_away = Arc::new(Notify::new());
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.strangers.insert(number, sent_away.clone());
        if waiting.strangers.len() > self.most
            && let Some((_, oldest)) = waiting.strangers.pop_first()
        {
            oldest.notify_one();
        }
        drop(waiting);
        Stranger {
            entrance: self.clone(),
            number,
            sent_away,
        }
    }
}

impl Stranger {
    /// Becomes ready when others need the place at the door.
    pub(super) async fn sent_away(&self) {
        self.sent_away.notified().await;
    }

    /// Whether there is a place for one more client now.
    pub(super) fn may_enter(&self) -> bool {
        self.entrance.clients.available_permits() > 0
    }

    /// Becomes a client, unless there are as many as may be.
    pub(super) fn becomes_client(self) -> Option<OwnedSemaphorePermit> {
        self.entrance.clients.clone().try_acquire_owned().ok()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.entrance.lock().strangers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_stranger_makes_room() {
        let entrance = Arc::new(Entrance::new(1));
        let mut strangers: Vec<_> = (0..LEAST).map(|_| entrance.enter()).collect();
        let away = |s: &Stranger| !entrance.lock().strangers.contains_key(&s.number);
        assert!(strangers.iter().all(|s| !away(s)));
        drop(strangers.remove(0));
        strangers.push(entrance.enter());
        assert!(strangers.iter().all(|s| !away(s)));
        strangers.push(entrance.enter());
        strangers[0].sent_away().await;
        assert!(away(&strangers[0]) && !away(&strangers[1]));
        let client = strangers.pop().unwrap().becomes_client();
        assert!(client.is_some() && !strangers[1].may_enter());
        assert!(strangers.pop().unwrap().becomes_client().is_none());
        drop(client);
        assert!(strangers[1].may_enter());
    }
}
