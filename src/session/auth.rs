//! Proving who a client is: trust, MD5, SCRAM-SHA-256 (PostgreSQL documentation, section 55.3;
//! RFC 5802 and 7677).
//!
//! An unknown user goes through the same exchange as a known one and fails with the same words,
//! so that nobody learns which users exist.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use pgwire::messages::startup::Authentication;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::AuthType;
use crate::error::{ClientError, SqlState};
use crate::wire::{self, Fill, Port};

/// What is stored for a user.
#[derive(Clone)]
pub enum Secret {
    /// The password itself, and the verifier made from it once: deriving it at each login would
    /// cost milliseconds.
    Clear(String, Option<Verifier>),
    /// PostgreSQL's `md5` + hex of md5(password + user).
    Md5(String),
    /// PostgreSQL's `SCRAM-SHA-256$…`.
    Scram(Verifier),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// PostgreSQL's stored form of a SCRAM password:
/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
#[derive(Clone)]
pub struct Verifier {
    iterations: u32,
    salt: String,
    stored_key: [u8; 32],
    server_key: [u8; 32],
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

    fn of_password(password: &str) -> Option<Self> {
        Self::parse(&postgres_protocol::password::scram_sha_256(
            password.as_bytes(),
        ))
    }

    /// A verifier that no password matches, for users who do not exist. The salt depends on the
    /// name and a secret of this process alone, as it would if the user existed.
    fn of_nobody(user: &str, process_secret: &[u8; 32]) -> Self {
        let digest = hmac(process_secret, user.as_bytes());
        Verifier {
            iterations: 4096,
            salt: STANDARD.encode(&digest[..16]),
            stored_key: rand::random(),
            server_key: rand::random(),
        }
    }
}

impl Secret {
    /// Reads what stands in the configuration.
    pub fn parse(text: &str) -> Self {
        if let Some(verifier) = Verifier::parse(text) {
            return Secret::Scram(verifier);
        }
        match text.strip_prefix("md5") {
            Some(hex) if hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Secret::Md5(hex.to_ascii_lowercase())
            }
            _ => Secret::Clear(text.to_owned(), Verifier::of_password(text)),
        }
    }
}

/// Why a login failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The client is told.
    Refused(ClientError),
    /// The connection broke.
    Lost(std::io::Error),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Failed::Lost(error)
    }
}

fn wrong_password(user: &str) -> Failed {
    Failed::Refused(ClientError::fatal(
        SqlState::INVALID_PASSWORD,
        format!("password authentication failed for user \"{user}\""),
    ))
}

fn violation(message: &'static str) -> Failed {
    Failed::Refused(ClientError::fatal(SqlState::PROTOCOL_VIOLATION, message))
}

/// Asks the client for proof that it is `user`. `secret` is `None` for a user who does not exist
/// or has no password..
pub(super) async fn authenticate(
    port: &mut Port,
    auth: AuthType,
    user: &str,
    secret: Option<&Secret>,
    process_secret: &[u8; 32],
) -> Result<(), Failed> {
    match (auth, secret) {
        (AuthType::Trust, _) => Ok(()),
        // A stored SCRAM verifier cannot answer an MD5 challenge, as in PostgreSQL.
        (AuthType::Md5, Some(Secret::Clear(..) | Secret::Md5(_))) => md5(port, user, secret).await,
        (AuthType::ScramSha256, Some(Secret::Md5(_))) => {
            let _ = scram(port, user, Verifier::of_nobody(user, process_secret)).await;
            Err(wrong_password(user))
        }
        (_, Some(Secret::Scram(verifier))) => scram(port, user, verifier.clone()).await,
        (_, Some(Secret::Clear(_, verifier))) => {
            let verifier = verifier.clone().ok_or_else(|| wrong_password(user))?;
            scram(port, user, verifier).await
        }
        (AuthType::Md5, None) => md5(port, user, None).await,
        (_, None) => scram(port, user, Verifier::of_nobody(user, process_secret)).await,
    }
}

/// AuthenticationOk: queued once the rest of the login has been checked too.
pub(super) fn accepted(port: &mut Port) {
    wire::authentication(&mut port.output, &Authentication::Ok);
}

/// Reads one password message, bounded in size.
async fn password_message(port: &mut Port) -> Result<Vec<u8>, Failed> {
    const LONGEST: usize = 64 << 10;
    loop {
        let header = wire::frame_at(port.input.bytes())
            .map_err(|_| violation("invalid message length during authentication"))?;
        if let Some(h) = header {
            if h.tag != b'p' {
                return Err(violation("expected a password message"));
            }
            if h.total > LONGEST {
                return Err(violation("password message is too long"));
            }
            if port.input.len() >= h.total {
                let body = port.input.bytes()[5..h.total].to_vec();
                port.input.consume(h.total);
                return Ok(body);
            }
        }
        if port.fill().await? == Fill::End {
            return Err(Failed::Lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

async fn md5(port: &mut Port, user: &str, secret: Option<&Secret>) -> Result<(), Failed> {
    let salt: [u8; 4] = rand::random();
    wire::authentication(
        &mut port.output,
        &Authentication::MD5Password(salt.to_vec()),
    );
    port.flush().await?;
    let answer = password_message(port).await?;
    let answer = wire::first_cstr(&answer).unwrap_or(&answer);
    let inner = match secret {
        Some(Secret::Clear(password, _)) => md5_hex(&[password.as_bytes(), user.as_bytes()]),
        Some(Secret::Md5(hex)) => hex.clone(),
        _ => return Err(wrong_password(user)),
    };
    let expected = format!("md5{}", md5_hex(&[inner.as_bytes(), &salt]));
    if bool::from(expected.as_bytes().ct_eq(answer)) {
        Ok(())
    } else {
        Err(wrong_password(user))
    }
}

fn md5_hex(parts: &[&[u8]]) -> String {
    let mut hash = md5::Md5::default();
    for part in parts {
        md5::Digest::update(&mut hash, part);
    }
    let digest = md5::Digest::finalize(hash);
    digest.iter().fold(String::with_capacity(32), |hex, b| {
        hex + &format!("{b:02x}")
    })
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // HMAC takes keys of every length: the construction cannot fail.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| mac.chain_update(message).finalize().into_bytes().into())
        .unwrap_or_default()
}

/// The server's side of SCRAM-SHA-256, without channel binding.
async fn scram(port: &mut Port, user: &str, verifier: Verifier) -> Result<(), Failed> {
    const MECHANISM: &str = "SCRAM-SHA-256";
    wire::authentication(
        &mut port.output,
        &Authentication::SASL(vec![MECHANISM.into()]),
    );
    port.flush().await?;
    let initial = password_message(port).await?;
    let (mechanism, rest) =
        wire::cstr(&initial).ok_or_else(|| violation("malformed SASL message"))?;
    if mechanism != MECHANISM.as_bytes() {
        return Err(violation(
            "client selected a SASL mechanism that was not offered",
        ));
    }
    let client_first = rest
        .get(4..)
        .ok_or_else(|| violation("malformed SASL message"))?;
    let exchange = Exchange::begin(client_first, verifier)
        .ok_or_else(|| violation("malformed SCRAM message"))?;
    let challenge = exchange.challenge.clone().into_bytes();
    wire::authentication(
        &mut port.output,
        &Authentication::SASLContinue(challenge.into()),
    );
    port.flush().await?;
    let client_final = password_message(port).await?;
    match exchange.finish(&client_final) {
        None => Err(violation("malformed SCRAM message")),
        Some(None) => Err(wrong_password(user)),
        Some(Some(proof)) => {
            wire::authentication(
                &mut port.output,
                &Authentication::SASLFinal(proof.into_bytes().into()),
            );
            Ok(())
        }
    }
}

/// A SCRAM exchange after the client's first message. Pure but for the nonce.
struct Exchange {
    verifier: Verifier,
    gs2_header: String,
    client_first_bare: String,
    nonce: String,
    challenge: String,
}

impl Exchange {
    /// `client_first` is `gs2-header n=,r=<nonce>`; `None` if malformed or if it insists on
    /// channel binding, which was not offered.
    fn begin(client_first: &[u8], verifier: Verifier) -> Option<Self> {
        let text = std::str::from_utf8(client_first).ok()?;
        let mut parts = text.splitn(3, ',');
        let binding = parts.next().filter(|b| matches!(*b, "n" | "y"))?;
        let authzid = parts.next().filter(|a| a.is_empty())?;
        let bare = parts.next()?;
        let client_nonce = bare.split(',').nth(1)?.strip_prefix("r=")?;
        // Printable ASCII without comma (RFC 5802, section 7), and of a sane length.
        let printable = client_nonce.bytes().all(|b| (0x21..0x7f).contains(&b));
        if client_nonce.is_empty() || client_nonce.len() > 1024 || !printable {
            return None;
        }
        let nonce = format!(
            "{client_nonce}{}",
            STANDARD.encode(rand::random::<[u8; 18]>())
        );
        let challenge = format!("r={nonce},s={},i={}", verifier.salt, verifier.iterations);
        Some(Exchange {
            verifier,
            gs2_header: format!("{binding},{authzid},"),
            client_first_bare: bare.to_owned(),
            nonce,
            challenge,
        })
    }

    /// Checks `c=<gs2>,r=<nonce>,p=<proof>`. `None`: malformed; `Some(None)`: wrong password;
    /// else the server's signature.
    fn finish(&self, client_final: &[u8]) -> Option<Option<String>> {
        let text = std::str::from_utf8(client_final).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let mut parts = without_proof.split(',');
        let binding = parts.next()?.strip_prefix("c=")?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        if STANDARD.decode(binding).ok()? != self.gs2_header.as_bytes() || nonce != self.nonce {
            return None;
        }
        let proof: [u8; 32] = STANDARD.decode(proof).ok()?.try_into().ok()?;
        let auth_message = format!(
            "{},{},{without_proof}",
            self.client_first_bare, self.challenge
        );
        let signature = hmac(&self.verifier.stored_key, auth_message.as_bytes());
        let mut client_key = [0; 32];
        for (key, (p, s)) in client_key.iter_mut().zip(proof.iter().zip(signature)) {
            *key = p ^ s;
        }
        let stored: [u8; 32] = Sha256::digest(client_key).into();
        if !bool::from(stored.ct_eq(&self.verifier.stored_key)) {
            return Some(None);
        }
        let server = hmac(&self.verifier.server_key, auth_message.as_bytes());
        Some(Some(format!("v={}", STANDARD.encode(server))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    /// Runs the exchange against the client of another implementation.
    fn login(stored: &str, password: &str) -> Option<Option<String>> {
        let mut client = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        let exchange = Exchange::begin(client.message(), Verifier::parse(stored)?)?;
        client.update(exchange.challenge.as_bytes()).ok()?;
        let outcome = exchange.finish(client.message())?;
        if let Some(proof) = &outcome {
            client.finish(proof.as_bytes()).ok()?;
        }
        Some(outcome)
    }

    #[test]
    fn the_right_password_passes_and_a_wrong_one_does_not() {
        let stored = postgres_protocol::password::scram_sha_256(b"secret");
        assert!(matches!(login(&stored, "secret"), Some(Some(_))));
        assert!(matches!(login(&stored, "Secret"), Some(None)));
    }

    #[test]
    fn malformed_messages_are_told_from_wrong_passwords() {
        let verifier = Verifier::of_password("x").unwrap();
        for first in [
            "",
            "n",
            "n,,",
            "n,,n=",
            "p=tls-server-end-point,,n=,r=abc",
            "n,,n=,r=",
            "n,,n=,r=a\u{1}",
        ] {
            assert!(
                Exchange::begin(first.as_bytes(), verifier.clone()).is_none(),
                "{first}"
            );
        }
        let exchange = Exchange::begin(b"n,,n=,r=abc", verifier).unwrap();
        for last in ["", "c=biws", "c=biws,r=abc,p=AAAA", "c=eSws,r=abc,p=AAAA"] {
            assert_eq!(exchange.finish(last.as_bytes()), None, "{last}");
        }
    }

    #[test]
    fn stored_forms_are_told_apart() {
        assert!(matches!(Secret::parse("plain"), Secret::Clear(..)));
        assert!(matches!(
            Secret::parse("md50123456789abcdef0123456789ABCDEF"),
            Secret::Md5(_)
        ));
        assert!(matches!(Secret::parse("md5x"), Secret::Clear(..)));
        let scram = postgres_protocol::password::scram_sha_256(b"x");
        assert!(matches!(Secret::parse(&scram), Secret::Scram(_)));
    }

    #[test]
    fn nobody_has_a_steady_salt_and_no_password() {
        let secret = [1; 32];
        let (a, b) = (
            Verifier::of_nobody("u", &secret),
            Verifier::of_nobody("u", &secret),
        );
        assert_eq!(a.salt, b.salt);
        assert_ne!(a.salt, Verifier::of_nobody("v", &secret).salt);
    }
}
