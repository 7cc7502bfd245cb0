//! Tests of the router as a whole live in `tests/it/router.rs`; these look inside.
