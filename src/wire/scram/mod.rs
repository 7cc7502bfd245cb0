//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 5929 and 7677; PostgreSQL documentation, section
//! 55.3): the server's side, towards clients, and the client's side, towards servers.
//!
//! From a client's proof the server's side learns the ClientKey, by which pgdrover can log in to a
//! server that has the same verifier: nobody's password is ever stored.

mod client;
mod server;

pub use client::ClientExchange;
pub use server::{Proven, Refusal, ServerExchange};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The mechanism without channel binding.
pub const SCRAM: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The only type of channel binding that PostgreSQL has: a hash of the server's certificate.
const END_POINT: &str = "p=tls-server-end-point";

/// PostgreSQL's stored form of a SCRAM password:
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Verifier {
    iterations: u32,
    salt: String,
    stored_key: [u8; 32],
    server_key: [u8; 32],
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// Reads PostgreSQL's form; `None` if it is not of that form.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        let key = |text| STANDARD.decode(text).ok()?.try_into().ok();
        STANDARD.decode(salt).ok()?;
        Some(Verifier {
            iterations: iterations.parse().ok().filter(|i| *i > 0)?,
            salt: salt.to_owned(),
            stored_key: key(stored)?,
            server_key: key(server)?,
        })
    }

    /// A verifier with a salt of its own.
    pub fn of_password(password: &str) -> Option<Self> {
        Self::parse(&postgres_protocol::password::scram_sha_256(
            password.as_bytes(),
        ))
    }

    /// A verifier that no password matches, for users who do not exist. The salt depends on the
    /// name and a secret of this process alone, as it would if the user existed.
    pub fn of_nobody(user: &str, process_secret: &[u8; 32]) -> Self {
        let digest = hmac(process_secret, user.as_bytes());
        Verifier {
            iterations: 4096,
            salt: STANDARD.encode(&digest[..16]),
            stored_key: rand::random(),
            server_key: rand::random(),
        }
    }
}

/// What proves a password to a server whose verifier has this salt and these iterations.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Keys {
    iterations: u32,
    salt: Vec<u8>,
    client_key: [u8; 32],
    server_key: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Derives the keys, which takes milliseconds on purpose.
    pub fn of_password(password: &str, salt: &[u8], iterations: u32) -> Self {
        // PostgreSQL takes a password that SASLprep refuses as it is.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = salted_password(prepared.as_bytes(), salt, iterations);
        let keys = Keys {
            iterations,
            salt: salt.to_owned(),
            client_key: hmac(&salted, b"Client Key"),
            server_key: hmac(&salted, b"Server Key"),
        };
        salted.zeroize();
        keys
    }

    /// Whether a verifier with this salt and these iterations may be of the same password.
    pub fn fit(&self, salt: &[u8], iterations: u32) -> bool {
        self.iterations == iterations && self.salt == salt
    }

    /// Whether both are for the same salt and iterations.
    pub fn same_verifier(&self, other: &Keys) -> bool {
        self.fit(&other.salt, other.iterations)
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        self.same_verifier(other)
            && bool::from(self.client_key.ct_eq(&other.client_key))
            && bool::from(self.server_key.ct_eq(&other.server_key))
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of every length: the construction cannot fail.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(message).finalize().into_bytes().into())
        .unwrap_or_default()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn xor(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// `Hi` of RFC 5802: PBKDF2 with one block of output.
fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
    let Ok(keyed) = Hmac::<Sha256>::new_from_slice(password) else {
        return [0; 32]; // Cannot be: HMAC takes keys of every length.
    };
    let first = keyed.clone().chain_update(salt).chain_update([0, 0, 0, 1]);
    let mut block: [u8; 32] = first.finalize().into_bytes().into();
    let mut out = block;
    for _ in 1..iterations {
        block = keyed
            .clone()
            .chain_update(block)
            .finalize()
            .into_bytes()
            .into();
        out = xor(&out, &block);
    }
    out
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
