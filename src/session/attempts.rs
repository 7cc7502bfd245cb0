//! Failed logins by address: after too many, an address waits before it may try again.
//!
//! Two counts are kept: one for each user from an address, and a larger one for the address as a
//! whole. So an application with a wrong password does not lock out its neighbours behind the same
//! address, and somebody who tries many names is held up all the same. The table is bounded, and
//! forgets what is older than the window.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Settings;
use super::hba::Peer;
use crate::error::{ClientError, SqlState};

/// How many counts are kept.
const MOST: usize = 16_384;
/// An address may fail so many times as often as one user from it.
const USERS: u32 = 10;
/// The first wait; each further failure doubles it, up to the window.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Whose failures are counted: an address, or one user from there. The user's name is hashed, so
/// that nobody fills the memory with long names.
type Key = (IpAddr, Option<u64>);

/// The failures of late.
#[derive(Default)]
pub struct Attempts {
    table: Mutex<HashMap<Key, Failures>>,
    names: RandomState,
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
    until: Instant,
}

impl Attempts {
    /// Whether this user may try from there now. Errors: 28000, saying how long to wait.
    pub(super) fn may_try(
        &self,
        settings: &Settings,
        peer: Peer,
        user: &str,
        now: Instant,
    ) -> Result<(), ClientError> {
        let Some(keys) = self.keys(settings, peer, user) else {
            return Ok(());
        };
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let until = keys
            .iter()
            .filter_map(|(key, _)| Some(table.get(key)?.until))
            .max();
        drop(table);
        let Some(wait) = until.and_then(|until| until.checked_duration_since(now)) else {
            return Ok(());
        };
        if wait.is_zero() {
            return Ok(());
        }
        let host = keys[0].0.0;
        let message = format!("too many failed logins of user \"{user}\" from host \"{host}\"");
        let seconds = wait.as_secs() + 1;
        Err(
            ClientError::fatal(SqlState::INVALID_AUTHORIZATION, message).hint(format!(
                "Correct the password, and try again in {seconds} s."
            )),
        )
    }

    /// Counts a failure.
    pub(super) fn failed(&self, settings: &Settings, peer: Peer, user: &str, now: Instant) {
        let Some(keys) = self.keys(settings, peer, user) else {
            return;
        };
        let window = settings.login_failure_window;
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, most) in keys {
            make_room(&mut table, &key, window, now);
            let failures = table.entry(key).or_insert(Failures {
                count: 0,
                last: now,
                until: now,
            });
            if now.saturating_duration_since(failures.last) > window {
                failures.count = 0;
            }
            failures.count = failures.count.saturating_add(1);
            failures.last = now;
            if let Some(beyond) = failures.count.checked_sub(most) {
                let wait = FIRST_WAIT.saturating_mul(1 << beyond.min(20));
                failures.until = now + wait.min(window);
            }
        }
    }

    /// The counts that a login concerns, and the failures that each allows. None over a Unix socket,
    /// and none when there is no limit.
    fn keys(&self, settings: &Settings, peer: Peer, user: &str) -> Option<[(Key, u32); 2]> {
        let most = settings.max_login_failures;
        let address = network(peer.ip().filter(|_| most > 0)?);
        let name = self.names.hash_one(user);
        Some([
            ((address, Some(name)), most),
            ((address, None), most.saturating_mul(USERS)),
        ])
    }
}

/// Who has one address of IPv6 has all of its /64.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
    }
}

/// What is forgotten when the table is full: all that is old; failing that, whatever comes first.
fn make_room(table: &mut HashMap<Key, Failures>, key: &Key, window: Duration, now: Instant) {
    if table.len() < MOST || table.contains_key(key) {
        return;
    }
    table.retain(|_, f| now.saturating_duration_since(f.last) <= window);
    // A tenth, so that a full table is not gone through at each failure.
    if table.len() >= MOST {
        let some: Vec<Key> = table.keys().take(MOST / 10).copied().collect();
        for key in some {
            table.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            max_login_failures: 3,
            login_failure_window: Duration::from_secs(60),
            ..Settings::default()
        }
    }

    fn peer(ip: &str) -> Peer {
        Peer::Tcp((ip.parse::<IpAddr>().unwrap(), 1).into())
    }

    #[test]
    fn a_user_waits_longer_with_each_failure_and_is_forgiven_in_time() {
        let (a, s, home) = (Attempts::default(), settings(), peer("10.0.0.1"));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let may = |user, now| a.may_try(&s, home, user, now).is_ok();
        for _ in 0..2 {
            a.failed(&s, home, "u", start);
            assert!(may("u", start));
        }
        a.failed(&s, home, "u", start);
        assert!(!may("u", start) && may("u", at(1)));
        a.failed(&s, home, "u", at(1));
        assert!(!may("u", at(2)) && may("u", at(3)));
        for _ in 0..10 {
            a.failed(&s, home, "u", at(3));
        }
        assert!(!may("u", at(62)) && may("u", at(63)));
        // Neighbours behind the address, other addresses, and sockets are not concerned.
        assert!(may("v", at(4)));
        assert!(a.may_try(&s, peer("10.0.0.2"), "u", at(4)).is_ok());
        a.failed(&s, Peer::Unix, "u", at(4));
        assert!(a.may_try(&s, Peer::Unix, "u", at(4)).is_ok());
        // After a quiet window all begins anew.
        a.failed(&s, home, "u", at(200));
        assert!(may("u", at(200)));
        let error = a.may_try(&s, home, "u", at(4)).unwrap_err();
        assert_eq!(error.code, SqlState::INVALID_AUTHORIZATION);
    }

    #[test]
    fn many_names_from_one_address_count_together() {
        let (a, s, now) = (Attempts::default(), settings(), Instant::now());
        for number in 0..30 {
            let from = peer(&format!("2001:db8::{number:x}"));
            assert!(a.may_try(&s, from, "new", now).is_ok(), "{number}");
            a.failed(&s, from, &format!("u{number}"), now);
        }
        assert!(a.may_try(&s, peer("2001:db8::ffff"), "new", now).is_err());
        assert!(a.may_try(&s, peer("2001:db9::1"), "new", now).is_ok());
    }

    #[test]
    fn the_table_is_bounded() {
        let (a, s, now) = (Attempts::default(), settings(), Instant::now());
        for number in 0..40_000u32 {
            a.failed(
                &s,
                peer(&IpAddr::from(number.to_be_bytes()).to_string()),
                "u",
                now,
            );
        }
        assert!(a.table.lock().unwrap().len() <= MOST);
        let off = Settings {
            max_login_failures: 0,
            ..settings()
        };
        for _ in 0..100 {
            a.failed(&off, peer("10.0.0.1"), "u", now);
        }
        assert!(a.may_try(&off, peer("10.0.0.1"), "u", now).is_ok());
    }
}
