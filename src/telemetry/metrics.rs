//! The metrics of pgdrover: one catalogue, and the handles through which they are written.
//!
//! [`catalogue`] is the only list: a name, a kind, its help and its labels stand there once.
//! [`install`] describes all of it to the recorder. The owners of the handles (a session, a
//! pool, a probe) fetch them once, at the start of their life; after that a sample costs atomic
//! operations only, no lookup (`benches/telemetry.rs`: 10 ns for a counter, 40 ns for a
//! histogram). Handles made before [`install`] record nothing.

mod catalogue;
mod closed;
mod data;
mod health;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use metrics::{Counter, Gauge, Histogram, Key, Label, Metadata, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use catalogue::{BUCKETS, CATALOGUE, Kind, Metric};

pub use closed::Closed;
pub use data::{ClientMetrics, KINDS, RouteMetrics, ServerMetrics};
pub use health::HealthMetrics;

/// The one recorder of the process. Several daemons in one process (tests) share it.
static RECORDER: OnceLock<Exporter> = OnceLock::new();

/// What `/metrics` is made from.
#[derive(Clone)]
pub struct Exporter {
    // None when another recorder was installed before ours: then there is nothing to show.
    handle: Option<Arc<PrometheusHandle>>,
}

impl Exporter {
    /// All metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        self.handle
            .as_ref()
            .map_or_else(String::new, |h| h.render())
    }

    /// Folds the samples of the histograms into their buckets. The recorder keeps every sample
    /// (16 bytes) until somebody does this, so call it every second.
    pub fn upkeep(&self) {
        if let Some(handle) = &self.handle {
            handle.run_upkeep();
        }
    }
}

/// Installs the recorder on the first call; later calls give the same exporter.
pub fn install() -> Exporter {
    RECORDER.get_or_init(install_recorder).clone()
}

fn install_recorder() -> Exporter {
    let builder = match PrometheusBuilder::new().set_buckets(BUCKETS) {
        Ok(builder) => builder,
        // Only an empty list is refused.
        Err(error) => {
            tracing::error!(%error, "metrics are off");
            return Exporter { handle: None };
        }
    };
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if let Err(error) = metrics::set_global_recorder(recorder) {
        tracing::error!(%error, "metrics are off");
        return Exporter { handle: None };
    }
    describe();
    gauge(&catalogue::BUILD_INFO, &[env!("CARGO_PKG_VERSION")]).set(1.0);
    Exporter {
        handle: Some(Arc::new(handle)),
    }
}

fn describe() {
    metrics::with_recorder(|recorder| {
        for metric in CATALOGUE {
            let (name, help) = (metric.name.into(), metric.help.into());
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => recorder.describe_histogram(name, Some(Unit::Seconds), help),
            }
        }
    });
}

const METADATA: Metadata<'static> =
    Metadata::new("pgdrover", metrics::Level::INFO, Some(module_path!()));

/// The values stand in the order of the metric's labels.
fn key(metric: &Metric, values: &[&str]) -> Key {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let labels: Vec<Label> = metric
        .labels
        .iter()
        .zip(values)
        .map(|(name, value)| Label::new(*name, String::from(*value)))
        .collect();
    Key::from_parts(metric.name, labels)
}

/// A counter that stands at zero in `/metrics` from now on.
fn counter(metric: &Metric, values: &[&str]) -> Counter {
    debug_assert!(matches!(metric.kind, Kind::Counter), "{}", metric.name);
    let counter = metrics::with_recorder(|r| r.register_counter(&key(metric, values), &METADATA));
    counter.increment(0);
    counter
}

fn gauge(metric: &Metric, values: &[&str]) -> Gauge {
    debug_assert!(matches!(metric.kind, Kind::Gauge), "{}", metric.name);
    metrics::with_recorder(|r| r.register_gauge(&key(metric, values), &METADATA))
}

fn histogram(metric: &Metric, values: &[&str]) -> Histogram {
    debug_assert!(matches!(metric.kind, Kind::Histogram), "{}", metric.name);
    metrics::with_recorder(|r| r.register_histogram(&key(metric, values), &METADATA))
}
