//! The live sessions by their cancel keys, and the sweep that looks for those that are overdue.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use subtle::ConstantTimeEq;

use super::limit::Counts;
use super::pulse::{Cancelled, Clock, Limits, Pulse, judge};
use crate::backend::{CancelSlot, Tls};

struct Entry {
    secret: i32,
    slot: Arc<CancelSlot>,
    pulse: Arc<Pulse>,
    cancelled: Cancelled,
}

/// Every session that has logged in.
#[derive(Default)]
pub struct Registry {
    sessions: Mutex<HashMap<i32, Entry>>,
    clock: Clock,
    pub(super) counts: Arc<Counts>,
}

/// A session's place in the registry; leaving is dropping it.
pub struct Registered {
    registry: Arc<Registry>,
    /// The number that stands for a process id.
    pub pid: i32,
    /// The secret that a cancel must know.
    pub secret: i32,
    /// What a cancel would hit.
    pub slot: Arc<CancelSlot>,
    /// What the session does now.
    pub(super) pulse: Arc<Pulse>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a session under a number that no other has.
    pub fn enter(self: &Arc<Self>) -> Registered {
        let mut sessions = self.lock();
        let pid = loop {
            let pid = rand::random::<i32>() & i32::MAX;
            if pid != 0 && !sessions.contains_key(&pid) {
                break pid;
            }
        };
        let (secret, slot) = (rand::random(), Arc::new(CancelSlot::default()));
        let pulse = Arc::new(Pulse::new(&self.clock));
        sessions.insert(
            pid,
            Entry {
                secret,
                slot: slot.clone(),
                pulse: pulse.clone(),
                cancelled: Cancelled::default(),
            },
        );
        Registered {
            registry: self.clone(),
            pid,
            secret,
            slot,
            pulse,
        }
    }

    /// Turns the clock by a tick and looks at every session. Returns the statements to cancel:
    /// where, whose, and as which word.
    pub(super) fn sweep(&self, limits: &Limits) -> Vec<(Arc<CancelSlot>, Arc<Pulse>, u64)> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut sessions = self.lock();
        let overdue = sessions.values_mut().filter_map(|entry| {
            let word = judge(&entry.pulse, &mut entry.cancelled, limits, now)?;
            Some((entry.slot.clone(), entry.pulse.clone(), word))
        });
        overdue.collect()
    }

    /// Wakes every session, so that one at rest sees that pgdrover stops.
    pub(super) fn wake_all(&self) {
        for entry in self.lock().values() {
            entry.pulse.wake();
        }
    }

    /// Cancels what the session with this key runs; a wrong key changes nothing.
    pub async fn cancel(&self, pid: i32, secret: i32, tls: &Tls) {
        let slot = {
            let sessions = self.lock();
            sessions
                .get(&pid)
                .filter(|e| bool::from(e.secret.to_be_bytes().ct_eq(&secret.to_be_bytes())))
                .map(|e| e.slot.clone())
        };
        if let Some(slot) = slot {
            slot.fire(tls).await;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.lock().remove(&self.pid);
    }
}
