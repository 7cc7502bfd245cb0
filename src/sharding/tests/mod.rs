//! Tests of keys and functions.

mod functions;
mod keys;
