//! The server's side: what a client says, checked against a verifier.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::{END_POINT, Keys, Verifier, hmac, sha256, xor};

/// Why an exchange fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What came is no SCRAM message, or not of the mechanism that the client chose.
    Malformed,
    /// The proof does not fit the verifier.
    WrongPassword,
    /// The client can bind to the channel but was told that we cannot, though we offered it:
    /// somebody on the way took the offer out.
    Downgrade,
    /// A type of channel binding that PostgreSQL does not have.
    UnknownBinding,
    /// The client sees another certificate than the one that we showed.
    BindingDiffers,
}

/// What a proof brings.
#[derive(Debug)]
pub struct Proven {
    /// The server's last message.
    pub signature: String,
    /// What proves the same password elsewhere.
    pub keys: Keys,
}

/// An exchange after the client's first message.
pub struct ServerExchange {
    verifier: Verifier,
    /// What the client must repeat under `c=`: its header, and the certificate's hash.
    bound: Vec<u8>,
    client_first_bare: String,
    nonce: String,
    challenge: String,
}

impl ServerExchange {
    /// `client_first` is `gs2-header n=,r=<nonce>`. `end_point` is the certificate's hash if
    /// channel binding was offered; `plus` says that the client chose it.
    pub fn begin(
        client_first: &[u8],
        plus: bool,
        end_point: Option<&[u8]>,
        verifier: Verifier,
    ) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(client_first).map_err(|_| Refusal::Malformed)?;
        let mut parts = text.splitn(3, ',');
        let flag = parts.next().ok_or(Refusal::Malformed)?;
        let authzid = parts.next().filter(|a| a.is_empty());
        let authzid = authzid.ok_or(Refusal::Malformed)?;
        let bare = parts.next().ok_or(Refusal::Malformed)?;
        let mut bound = format!("{flag},{authzid},").into_bytes();
        match (flag, plus, end_point) {
            ("n", false, _) | ("y", false, None) => {}
            ("y", false, Some(_)) => return Err(Refusal::Downgrade),
            (END_POINT, true, Some(hash)) => bound.extend(hash),
            (other, true, Some(_)) if other.starts_with("p=") => {
                return Err(Refusal::UnknownBinding);
            }
            _ => return Err(Refusal::Malformed),
        }
        let client_nonce = nonce_of(bare).ok_or(Refusal::Malformed)?;
        let ours = STANDARD.encode(rand::random::<[u8; 18]>());
        let nonce = format!("{client_nonce}{ours}");
        let challenge = format!("r={nonce},s={},i={}", verifier.salt, verifier.iterations);
        Ok(ServerExchange {
            verifier,
            bound,
            client_first_bare: bare.to_owned(),
            nonce,
            challenge,
        })
    }

    /// The server's first message.
    pub fn challenge(&self) -> &str {
        &self.challenge
    }

    /// Checks `c=<bound>,r=<nonce>,p=<proof>`.
    pub fn finish(&self, client_final: &[u8]) -> Result<Proven, Refusal> {
        let (without_proof, binding, proof) =
            self.read_final(client_final).ok_or(Refusal::Malformed)?;
        if !bool::from(binding.ct_eq(&self.bound)) {
            let bound = self.bound.starts_with(b"p=") && binding.starts_with(b"p=");
            return Err(match bound {
                true => Refusal::BindingDiffers,
                false => Refusal::Malformed,
            });
        }
        let auth_message = format!(
            "{},{},{without_proof}",
            self.client_first_bare, self.challenge
        );
        let signature = hmac(&self.verifier.stored_key, auth_message.as_bytes());
        let client_key = xor(&proof, &signature);
        if !bool::from(sha256(&client_key).ct_eq(&self.verifier.stored_key)) {
            return Err(Refusal::WrongPassword);
        }
        let server = hmac(&self.verifier.server_key, auth_message.as_bytes());
        Ok(Proven {
            signature: format!("v={}", STANDARD.encode(server)),
            keys: Keys {
                iterations: self.verifier.iterations,
                salt: STANDARD.decode(&self.verifier.salt).unwrap_or_default(),
                client_key,
                server_key: self.verifier.server_key,
            },
        })
    }

    /// The message without its proof, the binding and the proof, if the nonce is ours.
    fn read_final<'m>(&self, message: &'m [u8]) -> Option<(&'m str, Vec<u8>, [u8; 32])> {
        let text = std::str::from_utf8(message).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let binding = STANDARD.decode(parts.next()?.strip_prefix("c=")?).ok()?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        let proof = STANDARD.decode(proof).ok()?.try_into().ok()?;
        (nonce == self.nonce).then_some((without_proof, binding, proof))
    }
}

/// The nonce in `n=…,r=<nonce>`: printable ASCII without comma (RFC 5802, section 7), and of a sane
/// length. The name is ignored, as in PostgreSQL: the startup packet said it.
fn nonce_of(bare: &str) -> Option<&str> {
    const LONGEST: usize = 1024;
    let mut parts = bare.split(',');
    parts.next()?.strip_prefix("n=")?;
    let nonce = parts.next()?.strip_prefix("r=")?;
    let printable = nonce.bytes().all(|b| (0x21..0x7f).contains(&b));
    (!nonce.is_empty() && nonce.len() <= LONGEST && printable).then_some(nonce)
}
