//! Cancelling what a client runs, and nothing else.
//!
//! A CancelRequest names a server process, not a statement. If it arrives after the process began
//! to work for another client, that client is hit. So a session does not give a connection back
//! while a cancel for it is on its way: [`CancelSlot::disarm`] waits until the request's socket is
//! closed, which PostgreSQL does only after it has signalled the process.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::topology::Address;

use super::connect::{Tls, open};

/// What a cancel of this session would hit now.
#[derive(Debug, Default)]
enum Phase {
    /// Nothing runs: a cancel does nothing, as in PostgreSQL.
    #[default]
    Idle,
    /// The session waits for a connection; `true` once a cancel came.
    Waiting(bool),
    /// The session's statement runs in this server process.
    Running(Address, (i32, i32)),
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    sending: usize,
}

/// The place where a session says what it does, for those who hold its cancel key.
#[derive(Debug, Default)]
pub struct CancelSlot {
    state: Mutex<State>,
    changed: Notify,
}

/// A cancel whose server does not answer must not hold a session for ever.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

impl CancelSlot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session's statement is about to run in this process. Returns whether a cancel for the
    /// statement before it is still on its way there: then the session must [`CancelSlot::disarm`]
    /// and arm again, so that it does not hit this one.
    #[must_use]
    pub fn arm(&self, address: &Address, key: (i32, i32)) -> bool {
        let mut state = self.lock();
        state.phase = Phase::Running(address.clone(), key);
        state.sending > 0
    }

    /// The session begins to wait for a connection.
    pub fn wait_begins(&self) {
        self.lock().phase = Phase::Waiting(false);
    }

    /// Completes when a cancel comes while the session waits.
    pub async fn cancelled_while_waiting(&self) {
        loop {
            let changed = self.changed.notified();
            if matches!(self.lock().phase, Phase::Waiting(true)) {
                return;
            }
            changed.await;
        }
    }

    /// Nothing runs any more. Whether no cancel is on its way to the process that was armed.
    pub fn try_disarm(&self) -> bool {
        let mut state = self.lock();
        state.phase = Phase::Idle;
        state.sending == 0
    }

    /// Nothing runs any more. Completes when no cancel is on its way to the process that was
    /// armed: only then may another client have it.
    pub async fn disarm(&self) {
        loop {
            let changed = self.changed.notified();
            if self.try_disarm() {
                return;
            }
            changed.await;
        }
    }

    /// Cancels what the session does now. Errors are not reported: the requester cannot be told.
    pub async fn fire(&self, tls: &Tls) {
        self.fire_if(tls, || true).await;
    }

    /// Cancels what the session does now if `still` says so, which is asked when nothing can
    /// change any more: a statement that began afterwards waits until the cancel has arrived.
    pub async fn fire_if(&self, tls: &Tls, still: impl FnOnce() -> bool) {
        let target = {
            let mut state = self.lock();
            if !still() {
                return;
            }
            let under_way = state.sending > 0;
            match &mut state.phase {
                Phase::Idle => return,
                // One is on its way to this very statement: the next cannot begin before it is
                // there. A thousand more would say no more.
                Phase::Running(..) if under_way => return,
                Phase::Waiting(cancelled) => {
                    *cancelled = true;
                    None
                }
                Phase::Running(address, key) => Some((address.clone(), *key)),
            }
            .inspect(|_| state.sending += 1)
        };
        if let Some((address, key)) = target {
            let _sending = Sending(self);
            let sent = tokio::time::timeout(SEND_TIMEOUT, send(&address, key, tls)).await;
            if !matches!(sent, Ok(Ok(()))) {
                tracing::warn!(server = %address, "cancel request could not be delivered");
            }
        } else {
            self.changed.notify_waiters();
        }
    }
}

/// A cancel on its way, however that ends.
struct Sending<'a>(&'a CancelSlot);

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        self.0.lock().sending -= 1;
        self.0.changed.notify_waiters();
    }
}

/// Sends a CancelRequest and waits until the server closed its side.
async fn send(address: &Address, key: (i32, i32), tls: &Tls) -> std::io::Result<()> {
    const CANCEL_REQUEST: i32 = 80_877_102;
    let mut stream = open(address, tls).await?;
    let mut message = Vec::with_capacity(16);
    for word in [16, CANCEL_REQUEST, key.0, key.1] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    stream.write_all(&message).await?;
    stream.flush().await?;
    let _ = stream.read(&mut [0; 1]).await;
    Ok(())
}
