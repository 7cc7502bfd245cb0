//! The integration tests: one binary, whose modules bear the names of `src`.

// A test that cannot go on fails, helpers included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod config;
mod demo;
mod drivers;
mod router;
mod session_random;
mod session_same;
mod support;
mod tidy;
