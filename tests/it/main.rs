//! The integration tests: one binary, whose modules bear the names of `src`.

mod demo;
mod support;
