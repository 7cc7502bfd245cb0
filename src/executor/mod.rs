//! Runs a plan on server connections and relays the answer.
//!
//! `checkout` picks the server, `relay` moves frames between a client and the server it holds.
//! The session decides what is sent; this room never looks into SQL.

mod checkout;
mod relay;

pub use checkout::{Checkout, Held, Touched, Where};
pub use relay::{CopyState, Failure, Progress, listen, relay, settle};
