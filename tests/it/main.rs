//! The integration tests: one binary, whose modules bear the names of `src`.

// A test that cannot go on fails, helpers included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Tables of scripts are long and yet one thing each.
#![allow(clippy::too_many_lines)]

mod backend_fake;
mod backend_login;
mod backend_pool;
mod backend_tls;
mod config;
mod daemon_reload;
mod demo;
mod drivers;
mod lessons;
mod replica_loss;
mod router;
mod server_down;
mod session_auth;
mod session_binding;
mod session_block;
mod session_cancel;
mod session_cert;
mod session_hba;
mod session_limits;
mod session_lookup;
mod session_lost;
mod session_pins;
mod session_pool;
mod session_random;
mod session_same;
mod session_settings;
mod session_shards;
mod session_startup;
mod session_state;
mod session_strangers;
mod session_timeouts;
mod session_tls;
mod splitting;
mod support;
mod tidy;
mod torture;
