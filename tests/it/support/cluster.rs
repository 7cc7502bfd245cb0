//! One real cluster for all tests of this binary.

use std::sync::OnceLock;

use pgdrover::demo::{Cluster, Options};

/// Three shards, each a primary and two replicas, modulo; started by the first test that asks.
///
/// Tests run side by side: use users of your own, and leave the servers running (a test that
/// injects faults starts a cluster of its own). Statics are never dropped: the cluster's watchdog
/// ends the servers and removes the folder once this process is gone.
pub(crate) fn shared() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        // The caller is inside a runtime of its own, which must not be blocked on from within,
        // and which ends with its test.
        let start = || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(Cluster::start(&Options::default()))
        };
        let started = std::thread::spawn(start)
            .join()
            .expect("the starting thread");
        started.expect("a cluster")
    })
}
