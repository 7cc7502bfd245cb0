//! Proving who a client is: trust, MD5, SCRAM-SHA-256 with and without channel binding (PostgreSQL
//! documentation, section 55.3).
//!
//! An unknown user goes through the same exchange as a known one and fails with the same words,
//! so that nobody learns which users exist.

use pgwire::messages::startup::Authentication;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::AuthType;
use crate::error::{ClientError, SqlState};
use crate::wire::scram::{Keys, Refusal, SCRAM, SCRAM_PLUS, ServerExchange, Verifier};
use crate::wire::{self, Fill, Port};

/// What is stored for a user.
#[derive(Clone)]
pub enum Secret {
    /// The password itself, and the verifier made from it once: deriving it at each login would
    /// cost milliseconds.
    Clear(Zeroizing<String>, Option<Verifier>),
    /// PostgreSQL's `md5` + hex of md5(password + user).
    Md5(Zeroizing<String>),
    /// PostgreSQL's `SCRAM-SHA-256$…`.
    Scram(Verifier),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
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
                Secret::Md5(hex.to_ascii_lowercase().into())
            }
            _ => Secret::Clear(text.to_owned().into(), Verifier::of_password(text)),
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

/// What a client must prove, and how.
pub(super) struct Demand<'a> {
    /// By which method.
    pub auth: AuthType,
    /// To be this user.
    pub user: &'a str,
    /// By what is stored: `None` for a user who does not exist or has no password.
    pub secret: Option<&'a Secret>,
    /// What makes up the salt of a user who does not exist.
    pub process_secret: &'a [u8; 32],
    /// What the client can bind its proof to, if it is encrypted.
    pub end_point: Option<&'a [u8]>,
    /// The name in the certificate that the client showed, which an authority of ours signed.
    pub common_name: Option<&'a str>,
}

/// Asks the client for proof. What it proves by SCRAM brings keys that servers with the same
/// verifier accept.
pub(super) async fn authenticate(
    port: &mut Port,
    demand: &Demand<'_>,
) -> Result<Option<Keys>, Failed> {
    let user = demand.user;
    let nobody = || Verifier::of_nobody(user, demand.process_secret);
    match (demand.auth, demand.secret) {
        (AuthType::Trust, _) => Ok(None),
        (AuthType::Cert, _) => certificate(user, demand.common_name).map(|()| None),
        (AuthType::Reject, _) => Err(denied("pgdrover rejects all connections".into())),
        // A stored SCRAM verifier cannot answer an MD5 challenge, as in PostgreSQL.
        (AuthType::Md5, Some(Secret::Clear(..) | Secret::Md5(_)) | None) => {
            md5(port, user, demand.secret).await.map(|()| None)
        }
        (AuthType::ScramSha256, Some(Secret::Md5(_))) => {
            let _ = scram(port, demand, nobody()).await;
            Err(wrong_password(user))
        }
        (_, Some(Secret::Scram(verifier))) => scram(port, demand, verifier.clone()).await.map(Some),
        (_, Some(Secret::Clear(_, verifier))) => {
            let verifier = verifier.clone().ok_or_else(|| wrong_password(user))?;
            scram(port, demand, verifier).await.map(Some)
        }
        (_, None) => scram(port, demand, nobody()).await.map(Some),
    }
}

fn denied(message: String) -> Failed {
    Failed::Refused(ClientError::fatal(SqlState::INVALID_AUTHORIZATION, message))
}

fn certificate(user: &str, common_name: Option<&str>) -> Result<(), Failed> {
    match common_name {
        Some(name) if name == user => Ok(()),
        Some(_) => Err(denied(format!(
            "certificate authentication failed for user \"{user}\""
        ))),
        None => Err(denied(
            "connection requires a valid client certificate".into(),
        )),
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
        Some(Secret::Clear(password, _)) => md5_hex(&[password.as_bytes(), user.as_bytes()]).into(),
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

/// SCRAM-SHA-256, and SCRAM-SHA-256-PLUS where there is a channel to bind to.
async fn scram(port: &mut Port, demand: &Demand<'_>, verifier: Verifier) -> Result<Keys, Failed> {
    let user = demand.user;
    let mut offered = vec![SCRAM.to_owned()];
    if demand.end_point.is_some() {
        // The better one first, as PostgreSQL does.
        offered.insert(0, SCRAM_PLUS.to_owned());
    }
    wire::authentication(&mut port.output, &Authentication::SASL(offered.clone()));
    port.flush().await?;
    let initial = password_message(port).await?;
    let (mechanism, rest) =
        wire::cstr(&initial).ok_or_else(|| violation("malformed SASL message"))?;
    if !offered.iter().any(|m| m.as_bytes() == mechanism) {
        return Err(violation(
            "client selected a SASL mechanism that was not offered",
        ));
    }
    let plus = mechanism == SCRAM_PLUS.as_bytes();
    let client_first = rest
        .get(4..)
        .ok_or_else(|| violation("malformed SASL message"))?;
    let exchange = ServerExchange::begin(client_first, plus, demand.end_point, verifier)
        .map_err(|refusal| refused(refusal, user))?;
    let challenge = exchange.challenge().as_bytes().to_vec();
    wire::authentication(
        &mut port.output,
        &Authentication::SASLContinue(challenge.into()),
    );
    port.flush().await?;
    let client_final = password_message(port).await?;
    let proven = exchange
        .finish(&client_final)
        .map_err(|refusal| refused(refusal, user))?;
    wire::authentication(
        &mut port.output,
        &Authentication::SASLFinal(proven.signature.into_bytes().into()),
    );
    Ok(proven.keys)
}

fn refused(refusal: Refusal, user: &str) -> Failed {
    let not_bound = |message: &'static str, detail: &'static str| {
        let error = ClientError::fatal(SqlState::INVALID_AUTHORIZATION, message);
        Failed::Refused(error.detail(detail))
    };
    match refusal {
        Refusal::Malformed => violation("malformed SCRAM message"),
        Refusal::UnknownBinding => violation("unsupported SCRAM channel-binding type"),
        Refusal::WrongPassword => wrong_password(user),
        Refusal::Downgrade => not_bound(
            "SCRAM channel binding negotiation error",
            "The client supports SCRAM channel binding but thinks the server does not. \
             However, this server does support channel binding.",
        ),
        Refusal::BindingDiffers => not_bound(
            "SCRAM channel binding check failed",
            "The client sees another certificate than the one shown: somebody is in between.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
