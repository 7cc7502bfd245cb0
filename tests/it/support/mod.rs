//! What several modules of the integration tests need.

pub(crate) mod cluster;
pub(crate) mod daemon;
pub(crate) mod database;
pub(crate) mod differ;
pub(crate) mod fake;
pub(crate) mod program;
pub(crate) mod raw;
pub(crate) mod say;
pub(crate) mod script;
pub(crate) mod tls;

use std::time::{Duration, Instant};

/// Waits until a condition holds, at most half a minute (the machine may
/// be busy with other tests); `what` ends "waited for".
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
