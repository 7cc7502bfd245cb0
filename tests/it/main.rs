//! The integration tests, one module for each room of `src`.

// A test that cannot go on fails, helpers included.
#![allow(clippy::unwrap_used)]

mod config;
mod tidy;
