//! What several modules of the integration tests need.

pub(crate) mod cluster;
