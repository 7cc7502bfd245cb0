//! Both sides against each other, and each against another implementation.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::*;

const HASH: &[u8] = b"the hash of a certificate";

/// Runs the exchange against the client of another implementation.
fn login(
    stored: &str,
    password: &str,
    end_point: Option<&[u8]>,
    binding: ChannelBinding,
) -> Result<Proven, Refusal> {
    let mut client = ScramSha256::new(password.as_bytes(), binding);
    let verifier = Verifier::parse(stored).unwrap();
    let plus = client.message().starts_with(b"p=");
    let exchange = ServerExchange::begin(client.message(), plus, end_point, verifier)?;
    client.update(exchange.challenge().as_bytes()).unwrap();
    let proven = exchange.finish(client.message())?;
    client.finish(proven.signature.as_bytes()).unwrap();
    Ok(proven)
}

fn stored() -> String {
    postgres_protocol::password::scram_sha_256(b"secret")
}

#[test]
fn the_right_password_passes_and_a_wrong_one_does_not() {
    let unbound = ChannelBinding::unsupported;
    assert!(login(&stored(), "secret", None, unbound()).is_ok());
    let wrong = login(&stored(), "Secret", None, unbound()).unwrap_err();
    assert_eq!(wrong, Refusal::WrongPassword);
}

#[test]
fn a_client_binds_to_the_certificate_that_it_sees() {
    let bound = |hash: &[u8]| ChannelBinding::tls_server_end_point(hash.to_vec());
    assert!(login(&stored(), "secret", Some(HASH), bound(HASH)).is_ok());
    let other = login(&stored(), "secret", Some(HASH), bound(b"another")).unwrap_err();
    assert_eq!(other, Refusal::BindingDiffers);
    let wrong = login(&stored(), "Secret", Some(HASH), bound(HASH)).unwrap_err();
    assert_eq!(wrong, Refusal::WrongPassword);
    // It need not bind; but it may not believe that it could not.
    let unbound = ChannelBinding::unsupported();
    assert!(login(&stored(), "secret", Some(HASH), unbound).is_ok());
    let misled = login(
        &stored(),
        "secret",
        Some(HASH),
        ChannelBinding::unrequested(),
    );
    assert_eq!(misled.unwrap_err(), Refusal::Downgrade);
    assert!(login(&stored(), "secret", None, ChannelBinding::unrequested()).is_ok());
}

#[test]
fn a_mechanism_and_its_first_message_must_agree() {
    let verifier = Verifier::parse(&stored()).unwrap();
    let begin = |first: &str, plus, hash| {
        ServerExchange::begin(first.as_bytes(), plus, hash, verifier.clone())
            .err()
            .unwrap()
    };
    let bound = "p=tls-server-end-point,,n=,r=abc";
    assert_eq!(begin(bound, false, Some(HASH)), Refusal::Malformed);
    assert_eq!(begin(bound, true, None), Refusal::Malformed);
    assert_eq!(begin("n,,n=,r=abc", true, Some(HASH)), Refusal::Malformed);
    assert_eq!(begin("y,,n=,r=abc", true, Some(HASH)), Refusal::Malformed);
    let unique = "p=tls-unique,,n=,r=abc";
    assert_eq!(begin(unique, true, Some(HASH)), Refusal::UnknownBinding);
}

#[test]
fn malformed_messages_are_told_from_wrong_passwords() {
    let verifier = Verifier::of_password("x").unwrap();
    let begin = |first: &[u8]| ServerExchange::begin(first, false, None, verifier.clone());
    for first in [
        "",
        "n",
        "n,,",
        "n,,n=",
        "p=tls-server-end-point,,n=,r=abc",
        "n,a=me,n=,r=abc",
        "n,,m=x,r=abc",
        "n,,n=,r=",
        "n,,n=,r=a\u{1}",
    ] {
        let refused = begin(first.as_bytes()).err();
        assert_eq!(refused, Some(Refusal::Malformed), "{first}");
    }
    let exchange = begin(b"n,,n=,r=abc").ok().unwrap();
    for last in ["", "c=biws", "c=biws,r=abc,p=AAAA", "c=eSws,r=abc,p=AAAA"] {
        let refused = exchange.finish(last.as_bytes()).unwrap_err();
        assert_eq!(refused, Refusal::Malformed, "{last}");
    }
}

/// CVE-2026-6665: a nonce that is too long for the buffers of others.
#[test]
fn a_long_nonce_is_refused_on_both_sides() {
    let verifier = Verifier::of_password("x").unwrap();
    let first = format!("n,,n=,r={}", "x".repeat(1025));
    let refused = ServerExchange::begin(first.as_bytes(), false, None, verifier);
    assert_eq!(refused.err(), Some(Refusal::Malformed));
    let client = ClientExchange::new(None, false);
    let nonce = client.first().replace("n,,n=,r=", "");
    let challenge = format!("r={nonce}{},s=c2FsdA==,i=4096", "x".repeat(10_000));
    let refused = client.challenged(challenge.as_bytes()).err();
    assert_eq!(refused, Some("a SCRAM challenge that is too long"));
}

/// Our client against our server, by whatever keys.
fn relay(keys: &Keys, stored: &str, end_point: Option<&[u8]>) -> Result<bool, Refusal> {
    let client = ClientExchange::new(end_point, false);
    let verifier = Verifier::parse(stored).unwrap();
    let first = client.first();
    let server = ServerExchange::begin(first.as_bytes(), end_point.is_some(), end_point, verifier)?;
    let challenged = client.challenged(server.challenge().as_bytes()).unwrap();
    assert!(keys.fit(&challenged.salt, challenged.iterations));
    let (last, expected) = challenged.answer(keys);
    let proven = server.finish(last.as_bytes())?;
    Ok(expected.is(proven.signature.as_bytes()))
}

#[test]
fn what_a_client_proved_proves_it_to_a_server_with_the_same_verifier() {
    let stored = stored();
    let unbound = ChannelBinding::unsupported();
    let keys = login(&stored, "secret", None, unbound).unwrap().keys;
    assert_eq!(relay(&keys, &stored, None), Ok(true));
    assert_eq!(relay(&keys, &stored, Some(HASH)), Ok(true));
    let verifier = Verifier::parse(&stored).unwrap();
    let salt = STANDARD.decode(&verifier.salt).unwrap();
    assert!(keys == Keys::of_password("secret", &salt, 4096));
    let wrong = Keys::of_password("Secret", &salt, 4096);
    assert_eq!(relay(&wrong, &stored, None), Err(Refusal::WrongPassword));
    let other = postgres_protocol::password::scram_sha_256(b"secret");
    let other = Verifier::parse(&other).unwrap();
    assert!(!keys.fit(&STANDARD.decode(&other.salt).unwrap(), 4096));
}

#[test]
fn a_server_that_does_not_know_the_verifier_is_found_out() {
    let client = ClientExchange::new(None, false);
    let nonce = client.first().replace("n,,n=,r=", "");
    let challenge = format!("r={nonce}ours,s=c2FsdA==,i=1");
    let challenged = client.challenged(challenge.as_bytes()).unwrap();
    let (_, expected) = challenged.answer(&Keys::of_password("x", b"salt", 1));
    assert!(!expected.is(b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    assert!(!expected.is(b"e=other-error"));
}

#[test]
fn impossible_challenges_are_refused() {
    for rest in [
        ",s=c2FsdA==,i=1",
        "x,s=!,i=1",
        "x,s=c2FsdA==,i=0",
        "x,s=c2FsdA==,i=4294967296",
        "x,s=c2FsdA==,i=10000001",
        "x,s=c2FsdA==",
    ] {
        let client = ClientExchange::new(None, false);
        let nonce = client.first().replace("n,,n=,r=", "");
        let challenge = format!("r={nonce}{rest}");
        assert!(client.challenged(challenge.as_bytes()).is_err(), "{rest}");
    }
    let stolen = ClientExchange::new(None, false);
    assert!(stolen.challenged(b"r=other,s=c2FsdA==,i=1").is_err());
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

#[test]
fn secrets_have_no_debug_form() {
    let keys = Keys::of_password("secret", b"salt", 1);
    let verifier = Verifier::of_password("secret").unwrap();
    assert_eq!(format!("{keys:?} {verifier:?}"), "Keys Verifier");
}
