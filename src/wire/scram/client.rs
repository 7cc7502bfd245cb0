//! The client's side: proving a password, or keys, to a server.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::{END_POINT, Keys, hmac, sha256, xor};

/// More iterations than any server wants; they would keep a processor busy for minutes.
const MAX_ITERATIONS: u32 = 10_000_000;
/// Longest message of a server that is read.
const LONGEST: usize = 8 << 10;

/// An exchange before the server's first message.
pub struct ClientExchange {
    /// The header, and the certificate's hash.
    bound: Vec<u8>,
    header: String,
    nonce: String,
}

/// An exchange after the server's first message.
pub struct Challenged {
    bound: Vec<u8>,
    messages: String,
    nonce: String,
    /// The salt of the server's verifier.
    pub salt: Vec<u8>,
    /// Its iterations, at most ten million.
    pub iterations: u32,
}

impl ClientExchange {
    /// Begins an exchange; with the hash of the server's certificate it is SCRAM-SHA-256-PLUS.
    /// `refused` says that we could have bound to the channel, but the server did not offer it.
    pub fn new(end_point: Option<&[u8]>, refused: bool) -> Self {
        let header = match end_point {
            Some(_) => format!("{END_POINT},,"),
            None if refused => "y,,".to_owned(),
            None => "n,,".to_owned(),
        };
        let mut bound = header.clone().into_bytes();
        bound.extend(end_point.unwrap_or_default());
        ClientExchange {
            bound,
            header,
            nonce: STANDARD.encode(rand::random::<[u8; 18]>()),
        }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("{}n=,r={}", self.header, self.nonce)
    }

    /// Reads the server's first message; says what is wrong with it.
    pub fn challenged(self, message: &[u8]) -> Result<Challenged, &'static str> {
        if message.len() > LONGEST {
            return Err("a SCRAM challenge that is too long");
        }
        let text = std::str::from_utf8(message).map_err(|_| MALFORMED)?;
        let mut parts = text.split(',');
        let mut part = |name| parts.next().and_then(|p| p.strip_prefix(name));
        let nonce = part("r=").ok_or(MALFORMED)?;
        let salt = part("s=").and_then(|s| STANDARD.decode(s).ok());
        let salt = salt.ok_or(MALFORMED)?;
        let iterations = part("i=").and_then(|i| i.parse().ok());
        let iterations = iterations.filter(|i| *i > 0).ok_or(MALFORMED)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("a SCRAM challenge with another nonce");
        }
        if iterations > MAX_ITERATIONS {
            return Err("a SCRAM challenge with too many iterations");
        }
        Ok(Challenged {
            bound: self.bound,
            messages: format!("n=,r={},{text}", self.nonce),
            nonce: nonce.to_owned(),
            salt,
            iterations,
        })
    }
}

const MALFORMED: &str = "a malformed SCRAM challenge";

impl Challenged {
    /// The client's last message, and the only answer that proves the server.
    pub fn answer(self, keys: &Keys) -> (String, Expected) {
        let without_proof = format!("c={},r={}", STANDARD.encode(&self.bound), self.nonce);
        let auth_message = format!("{},{without_proof}", self.messages);
        let signature = hmac(&sha256(&keys.client_key), auth_message.as_bytes());
        let proof = xor(&keys.client_key, &signature);
        let message = format!("{without_proof},p={}", STANDARD.encode(proof));
        let server = hmac(&keys.server_key, auth_message.as_bytes());
        (message, Expected(format!("v={}", STANDARD.encode(server))))
    }
}

/// What a server that knows the verifier says at the end.
pub struct Expected(String);

impl Expected {
    /// Whether the server said it.
    pub fn is(&self, server_final: &[u8]) -> bool {
        bool::from(self.0.as_bytes().ct_eq(server_final))
    }
}
