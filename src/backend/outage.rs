//! After a failed attempt to connect: when the next one may be made, and what everybody else is
//! told meanwhile. Time and chance are arguments.
//!
//! ```text
//!            an attempt failed                     the wait is over
//!   Fine ──────────────────────▶ Waiting(until) ────────────────────▶ one attempt
//!    ▲                              ▲                                    │   │
//!    │                              └──────────── failed: longer wait ───┘   │
//!    └───────────────────────────── succeeded ───────────────────────────────┘
//! ```
//!
//! Whoever comes while it waits, or while the one attempt is on its way, is told the remembered
//! cause at once. So a server that is down costs one attempt for each wait, however many clients
//! want it, and one that comes back is not overrun.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Error;

/// The first wait; each further one is twice as long, up to `server_login_retry`.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The attempts to connect to one server.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug)]
struct Failing {
    failures: u32,
    until: Instant,
    cause: Error,
    trying: bool,
}

impl Outage {
    fn lock(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an attempt may begin now; if not, why the last one failed.
    pub(super) fn may_try(&self, now: Instant) -> Result<(), Error> {
        match &mut *self.lock() {
            None => Ok(()),
            Some(failing) if failing.trying || now < failing.until => Err(failing.cause.clone()),
            Some(failing) => {
                failing.trying = true;
                Ok(())
            }
        }
    }

    /// Why no attempt may begin now.
    pub(super) fn cause(&self, now: Instant) -> Option<Error> {
        let failing = self.lock();
        let failing = failing.as_ref()?;
        (failing.trying || now < failing.until).then(|| failing.cause.clone())
    }

    /// An attempt failed. `chance`, from 0 to 1, spreads the waits of several pgdrovers.
    pub(super) fn failed(&self, now: Instant, longest: Duration, chance: f64, cause: Error) {
        let mut failing = self.lock();
        let failures = match &*failing {
            // It began before this outage was known, as others did: one failure, not several.
            Some(before) if !before.trying && now < before.until => return,
            Some(before) => before.failures + 1,
            None => 1,
        };
        *failing = Some(Failing {
            failures,
            until: now + wait(failures, longest, chance),
            cause,
            trying: false,
        });
    }

    /// An attempt succeeded, or the probes saw the server up.
    pub(super) fn over(&self) {
        *self.lock() = None;
    }

    /// An attempt was given up: its client is gone. The next who comes may try.
    pub(super) fn given_up(&self) {
        if let Some(failing) = &mut *self.lock() {
            failing.trying = false;
        }
    }
}

/// The wait after so many failures in a row, between half of it and the whole.
fn wait(failures: u32, longest: Duration, chance: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(20));
    doubled.min(longest).mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Address;

    fn cause(text: &str) -> Error {
        Error::Connect {
            server: Address {
                host: "h".into(),
                port: 1,
            },
            cause: text.into(),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread() {
        let longest = Duration::from_secs(15);
        let waits = [1, 2, 3, 8, 9, 1000].map(|n| wait(n, longest, 1.0).as_millis());
        assert_eq!(waits, [100, 200, 400, 12_800, 15_000, 15_000]);
        assert_eq!(wait(2, longest, 0.0), Duration::from_millis(100));
        assert_eq!(wait(5, Duration::ZERO, 1.0), Duration::ZERO);
    }

    #[test]
    fn one_attempt_for_each_wait_and_the_cause_for_all_others() {
        let outage = Outage::default();
        let (start, longest) = (Instant::now(), Duration::from_secs(15));
        let at = |ms| start + Duration::from_millis(ms);
        assert!(outage.may_try(at(0)).is_ok());
        assert!(outage.may_try(at(0)).is_ok());
        outage.failed(at(0), longest, 1.0, cause("refused"));
        // The second attempt had begun before: it does not make the wait longer.
        outage.failed(at(1), longest, 1.0, cause("refused, too"));
        let told = outage.may_try(at(99)).unwrap_err().to_string();
        assert!(told.ends_with("refused"), "{told}");
        assert!(outage.may_try(at(100)).is_ok());
        assert!(outage.may_try(at(100)).is_err(), "one attempt at a time");
        outage.given_up();
        assert!(outage.may_try(at(100)).is_ok());
        outage.failed(at(120), longest, 1.0, cause("again"));
        assert!(outage.cause(at(319)).is_some());
        assert!(outage.cause(at(320)).is_none());
        assert!(outage.may_try(at(320)).is_ok());
        outage.over();
        assert!(outage.may_try(at(321)).is_ok() && outage.may_try(at(321)).is_ok());
    }
}
