//! What each session does and since when, for the timeouts.
//!
//! No statement arms a timer. A session writes what it does now, with the time of a coarse clock,
//! into one atomic word: a plain store each time it begins to wait or to run. One task for the
//! whole process ([`keep_time`]) turns the clock and looks through the words of all sessions; what
//! it finds overdue it wakes, or cancels. So a timeout costs what the sweep costs, however many
//! statements run, and nothing when none is set: then that task does not exist.
//!
//! A timeout never strikes early, and at most two ticks late. What the sweep finds overdue it names
//! by the word it saw, so that a session that has moved on meanwhile is left alone.
//!
//! ```text
//! in the word             overdue by                   what happens
//! Idle                    client_idle_timeout          57P05, the session ends
//! IdleInTransaction       idle_transaction_timeout     25P03, the session ends, the server rolls back
//! Running                 query_timeout                cancelled on the server (57014)
//!   … and cancelled       CANCEL_GRACE                 the server connection is closed (08006)
//! Busy                    never
//! ```

use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

use tracing::info;

use super::Settings;
use super::service::Service;
use crate::error::{ClientError, SqlState};

/// How long a server may take to react to the cancel request of `query_timeout`.
const CANCEL_GRACE: Duration = Duration::from_secs(5);
/// The clock's pace is a tenth of the shortest timeout, within these.
const TICK: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// What a session does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// pgdrover works for it, or it waits for a server connection.
    Busy = 1,
    /// It waits for its client, outside a transaction.
    Idle = 2,
    /// It waits for its client, which holds a transaction or a batch open.
    IdleInTransaction = 3,
    /// A server runs its statement.
    Running = 4,
}

/// The coarse clock: how many ticks have passed.
pub(super) type Clock = Arc<AtomicU32>;

/// One session's word.
#[derive(Debug)]
pub(super) struct Pulse {
    clock: Clock,
    /// The tick and the phase: `tick << 3 | phase`.
    word: AtomicU64,
    /// The word that the sweep found overdue.
    due: AtomicU64,
    /// Wakes the session's task, which is the same for the session's whole life.
    waker: OnceLock<Waker>,
}

impl Pulse {
    pub(super) fn new(clock: &Clock) -> Self {
        let pulse = Pulse {
            clock: clock.clone(),
            word: AtomicU64::new(0),
            due: AtomicU64::new(0),
            waker: OnceLock::new(),
        };
        pulse.enter(Phase::Busy);
        pulse
    }

    /// The session does this from now on.
    pub(super) fn enter(&self, phase: Phase) {
        let tick = u64::from(self.clock.load(Ordering::Relaxed));
        self.word.store(tick << 3 | phase as u64, Ordering::Relaxed);
    }

    /// Whether what the session does now has taken too long.
    pub(super) fn is_due(&self) -> bool {
        self.due.load(Ordering::Acquire) == self.word.load(Ordering::Relaxed)
    }

    /// Makes a wait for the client that is due an error.
    pub(super) fn timely<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending if self.is_due() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            polled => polled,
        }
    }

    /// Remembers how to wake the session. To be called once, by the task that it runs in.
    pub(super) async fn wake_here(&self) {
        std::future::poll_fn(|cx| {
            let _ = self.waker.set(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    }

    /// Whether the word is still what the sweep saw.
    pub(super) fn is_still(&self, word: u64) -> bool {
        self.word.load(Ordering::Relaxed) == word
    }

    /// The error for a session whose wait for its client is due.
    pub(super) fn farewell(&self, settings: &Settings) -> ClientError {
        match phase(self.word.load(Ordering::Relaxed)) {
            Some(Phase::IdleInTransaction) => ClientError::fatal(
                SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
                "terminating connection due to idle-in-transaction timeout",
            )
            .hint(format!(
                "session.idle_transaction_timeout is {:?}.",
                settings.idle_transaction_timeout
            )),
            _ => ClientError::fatal(
                SqlState::IDLE_SESSION_TIMEOUT,
                "terminating connection due to idle-session timeout",
            )
            .hint(format!(
                "session.client_idle_timeout is {:?}.",
                settings.client_idle_timeout
            )),
        }
    }

    fn strike(&self, word: u64) {
        self.due.store(word, Ordering::Release);
        self.wake();
    }

    /// Wakes the session's task.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }
}

fn phase(word: u64) -> Option<Phase> {
    use Phase::{Busy, Idle, IdleInTransaction, Running};
    [Busy, Idle, IdleInTransaction, Running]
        .into_iter()
        .find(|p| *p as u64 == word & 7)
}

/// The timeouts in ticks; `None` is never.
#[derive(Debug)]
pub(super) struct Limits {
    idle: Option<u32>,
    idle_in_transaction: Option<u32>,
    running: Option<u32>,
    grace: u32,
    tick: Duration,
}

impl Limits {
    /// `None` if there is nothing to watch.
    fn of(settings: &Settings) -> Option<Self> {
        let all = [
            settings.client_idle_timeout,
            settings.idle_transaction_timeout,
            settings.query_timeout,
        ];
        let shortest = all.into_iter().filter(|t| !t.is_zero()).min()?;
        let tick = (shortest / 10).clamp(TICK.0, TICK.1);
        let ticks = |time: Duration| time.as_nanos().div_ceil(tick.as_nanos()) as u32;
        let [idle, idle_in_transaction, running] =
            all.map(|time| (!time.is_zero()).then(|| ticks(time)));
        let grace = ticks(CANCEL_GRACE);
        Some(Limits {
            idle,
            idle_in_transaction,
            running,
            grace,
            tick,
        })
    }
}

/// What the sweep remembers of a session: the word whose statement it cancelled, and when.
#[derive(Debug, Default)]
pub(super) struct Cancelled {
    word: u64,
    at: u32,
}

/// Looks at one session. Returns the word of a statement that is to be cancelled.
pub(super) fn judge(
    pulse: &Pulse,
    cancelled: &mut Cancelled,
    limits: &Limits,
    now: u32,
) -> Option<u64> {
    let word = pulse.word.load(Ordering::Relaxed);
    let age = now.wrapping_sub((word >> 3) as u32);
    let limit = match phase(word)? {
        Phase::Busy => None,
        Phase::Idle => limits.idle,
        Phase::IdleInTransaction => limits.idle_in_transaction,
        Phase::Running if cancelled.word == word => {
            if now.wrapping_sub(cancelled.at) > limits.grace {
                pulse.strike(word);
            }
            return None;
        }
        Phase::Running if limits.running.is_some_and(|limit| age > limit) => {
            *cancelled = Cancelled { word, at: now };
            return Some(word);
        }
        Phase::Running => None,
    };
    if limit.is_some_and(|limit| age > limit) {
        pulse.strike(word);
    }
    None
}

/// Turns the clock and enforces the timeouts of all sessions. Returns at once if none is set.
pub async fn keep_time(service: Arc<Service>) {
    let Some(limits) = Limits::of(&service.settings) else {
        return;
    };
    let mut tick = tokio::time::interval(limits.tick);
    // After a stall of the machine time has passed for everybody alike: no volley of ticks.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (slot, pulse, word) in service.registry.sweep(&limits) {
            info!(
                query_timeout = ?service.settings.query_timeout,
                "cancelling a statement that ran too long"
            );
            let pools = service.pools.clone();
            tokio::spawn(async move {
                slot.fire_if(pools.tls(), || pulse.is_still(word)).await;
            });
        }
    }
}

/// Wakes the sessions once pgdrover stops. They wait for their clients without a place in a list
/// of those to be told, which would cost each statement its entry and its removal.
pub async fn wake_to_leave(service: Arc<Service>) {
    let mut draining = service.draining.clone();
    // An error says that the daemon is gone altogether: that is an end too.
    let _ = draining.wait_for(|d| *d).await;
    service.registry.wake_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(query: u64, idle: u64) -> Limits {
        Limits::of(&Settings {
            query_timeout: Duration::from_millis(query),
            client_idle_timeout: Duration::from_millis(idle),
            ..Settings::default()
        })
        .unwrap()
    }

    #[test]
    fn without_timeouts_there_is_nothing_to_watch() {
        assert!(Limits::of(&Settings::default()).is_none());
        assert_eq!(limits(1000, 0).tick, Duration::from_millis(100));
        assert_eq!(limits(1000, 20).tick, Duration::from_millis(10));
        assert_eq!(limits(3_600_000, 0).tick, TICK.1);
    }

    #[test]
    fn a_wait_is_due_when_its_whole_time_has_passed_and_only_for_itself() {
        let (clock, limits) = (Clock::default(), limits(0, 100));
        let pulse = Pulse::new(&clock);
        let mut cancelled = Cancelled::default();
        pulse.enter(Phase::Idle);
        for now in 0..=11 {
            clock.store(now, Ordering::Relaxed);
            assert_eq!(judge(&pulse, &mut cancelled, &limits, now), None);
            // The first tick may have come just after the wait began: ten more must pass.
            assert_eq!(pulse.is_due(), now > 10, "at {now}");
        }
        pulse.enter(Phase::Busy);
        assert!(!pulse.is_due());
        pulse.enter(Phase::Idle);
        assert!(!pulse.is_due());
    }

    #[test]
    fn a_statement_is_cancelled_once_and_given_up_after_the_grace() {
        let (clock, limits) = (Clock::default(), limits(100, 0));
        let pulse = Pulse::new(&clock);
        let mut cancelled = Cancelled::default();
        pulse.enter(Phase::Running);
        assert_eq!(judge(&pulse, &mut cancelled, &limits, 10), None);
        let word = judge(&pulse, &mut cancelled, &limits, 11).unwrap();
        assert!(pulse.is_still(word));
        assert_eq!(judge(&pulse, &mut cancelled, &limits, 12), None);
        assert!(!pulse.is_due());
        judge(&pulse, &mut cancelled, &limits, 12 + limits.grace);
        assert!(pulse.is_due());
        // The next statement, which began meanwhile, is neither cancelled nor given up.
        clock.store(12 + limits.grace, Ordering::Relaxed);
        pulse.enter(Phase::Running);
        assert!(!pulse.is_still(word) && !pulse.is_due());
        assert_eq!(
            judge(&pulse, &mut cancelled, &limits, 13 + limits.grace),
            None
        );
    }
}
