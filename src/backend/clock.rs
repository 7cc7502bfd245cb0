//! A clock that costs nothing to read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time since the process began, as of the last upkeep: good enough for limits of seconds, and it
/// costs a checkout nothing.
#[derive(Debug)]
pub(super) struct Clock {
    began: Instant,
    millis: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Clock {
            began: Instant::now(),
            millis: AtomicU64::new(0),
        }
    }

    /// To be called twice a second or so.
    pub(super) fn set(&self) {
        let millis = self.began.elapsed().as_millis() as u64;
        self.millis.store(millis, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Duration {
        Duration::from_millis(self.millis.load(Ordering::Relaxed))
    }
}
