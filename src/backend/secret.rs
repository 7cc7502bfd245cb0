//! What proves a role to the servers: a password, or the keys that a client's own login brought.

use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use crate::wire::scram::Keys;

/// More verifiers than a role has at once: one for each cluster, and those before a change.
const MOST_KEYS: usize = 8;

/// The proof of one role. The pools of the role share it, so that a new password, or the keys of a
/// new login, reach connections that are opened later.
#[derive(Default)]
pub struct ServerSecret {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    password: Option<Zeroizing<String>>,
    /// The newest last.
    keys: Vec<Known>,
}

struct Known {
    keys: Keys,
    /// A server said that they are wrong.
    refused: bool,
}

impl std::fmt::Debug for ServerSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerSecret")
    }
}

impl ServerSecret {
    /// A password in clear, or `md5…` for servers that ask for MD5; none if the servers trust, or
    /// if keys will come.
    pub fn new(password: Option<&str>) -> Self {
        let secret = ServerSecret::default();
        secret.set_password(password);
        secret
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts another password in place; what followed from the old one is forgotten.
    pub fn set_password(&self, password: Option<&str>) {
        let mut state = self.lock();
        if state.password.as_deref().map(String::as_str) != password {
            state.password = password.map(|p| p.to_owned().into());
            state.keys.clear();
        }
    }

    /// Remembers keys that were proven just now.
    pub fn learn(&self, keys: Keys) {
        let mut state = self.lock();
        state.keys.retain(|known| !known.keys.same_verifier(&keys));
        if state.keys.len() >= MOST_KEYS {
            state.keys.remove(0);
        }
        state.keys.push(Known {
            keys,
            refused: false,
        });
    }

    /// Whether a server refused keys that nobody has proven since: the password was changed.
    pub fn is_refused(&self) -> bool {
        self.lock().keys.iter().any(|known| known.refused)
    }

    /// Whether it is a password that no login of a client changes.
    pub(super) fn is_fixed(&self) -> bool {
        self.lock().password.is_some()
    }

    pub(super) fn password(&self) -> Option<Zeroizing<String>> {
        self.lock().password.clone()
    }

    /// The keys for a server's verifier.
    pub(super) fn keys(&self, salt: &[u8], iterations: u32) -> Option<Keys> {
        let state = self.lock();
        let fits = |known: &&Known| !known.refused && known.keys.fit(salt, iterations);
        state.keys.iter().find(fits).map(|known| known.keys.clone())
    }

    /// A server that has this salt refused the keys: they are not tried again until a client proves
    /// them anew, or, with a password at hand, are derived anew.
    pub(super) fn refuse(&self, salt: &[u8], iterations: u32) {
        let mut state = self.lock();
        if state.password.is_some() {
            state.keys.retain(|known| !known.keys.fit(salt, iterations));
        }
        for known in &mut state.keys {
            known.refused |= known.keys.fit(salt, iterations);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(password: &str, salt: &[u8]) -> Keys {
        Keys::of_password(password, salt, 1)
    }

    #[test]
    fn keys_are_found_by_their_verifier_and_replaced_by_newer_ones() {
        let secret = ServerSecret::new(None);
        secret.learn(keys("a", b"1"));
        secret.learn(keys("b", b"2"));
        secret.learn(keys("c", b"1"));
        assert!(secret.keys(b"1", 1) == Some(keys("c", b"1")));
        assert!(secret.keys(b"2", 1) == Some(keys("b", b"2")));
        assert!(secret.keys(b"1", 2).is_none());
        for salt in 10..30u8 {
            secret.learn(keys("x", &[salt]));
        }
        assert_eq!(secret.lock().keys.len(), MOST_KEYS);
        assert!(secret.keys(&[29], 1).is_some() && secret.keys(b"1", 1).is_none());
    }

    #[test]
    fn refused_keys_rest_until_they_are_proven_again() {
        let secret = ServerSecret::new(None);
        secret.learn(keys("a", b"1"));
        secret.refuse(b"1", 1);
        assert!(secret.is_refused() && secret.keys(b"1", 1).is_none());
        secret.learn(keys("a", b"1"));
        assert!(!secret.is_refused() && secret.keys(b"1", 1).is_some());
    }

    #[test]
    fn a_new_password_makes_its_keys_anew() {
        let secret = ServerSecret::new(Some("old"));
        secret.learn(keys("old", b"1"));
        secret.set_password(Some("old"));
        assert!(secret.keys(b"1", 1).is_some());
        secret.set_password(Some("new"));
        assert!(secret.keys(b"1", 1).is_none());
        secret.learn(keys("new", b"1"));
        secret.refuse(b"1", 1);
        assert!(!secret.is_refused() && secret.keys(b"1", 1).is_none());
    }
}
