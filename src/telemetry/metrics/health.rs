//! The handles of the control plane: one server's probes.

use metrics::{Counter, Gauge, Histogram};

use super::{catalogue, counter, gauge, histogram};

/// What the probes of one server say.
#[derive(Clone)]
pub struct HealthMetrics {
    up: Gauge,
    probes: Counter,
    failures: Counter,
    duration: Histogram,
}

impl HealthMetrics {
    /// The handles for a server of a shard: the shard's name, `primary` or `replica`, and the
    /// server's address.
    pub fn new(database: &str, shard: &str, role: &str, server: &str) -> Self {
        let labels = [database, shard, role, server];
        HealthMetrics {
            up: gauge(&catalogue::SERVER_UP, &labels),
            probes: counter(&catalogue::PROBES, &labels),
            failures: counter(&catalogue::PROBE_FAILURES, &labels),
            duration: histogram(&catalogue::PROBE_DURATION, &labels),
        }
    }

    /// A probe has ended: how long it took, and whether the server answered as it should.
    pub fn probed(&self, good: bool, seconds: f64) {
        self.probes.increment(1);
        self.failures.increment(u64::from(!good));
        self.duration.record(seconds);
    }

    /// Whether the server takes statements now.
    pub fn up(&self, up: bool) {
        self.up.set(if up { 1.0 } else { 0.0 });
    }

    /// The server is no longer in the configuration: it counts as not up.
    pub fn removed(&self) {
        self.up.set(0.0);
    }
}
