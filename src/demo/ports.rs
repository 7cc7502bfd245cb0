//! Ports for the servers.

use std::net::{Ipv4Addr, TcpListener};

use rand::Rng;

/// Below the range from which systems take the near end of outgoing connections: such a
/// connection could otherwise hold the port of a server that is down for a moment.
const RANGE: std::ops::Range<u16> = 15_000..32_000;

/// A port of the loopback address on which nothing listens now. Another process may still take
/// it before its user does.
pub fn free_port() -> u16 {
    let mut random = rand::rng();
    loop {
        let port = random.random_range(RANGE);
        if is_free(port) {
            return port;
        }
    }
}

/// Whether nothing listens on a port of the loopback address.
pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
