//! SCRAM messages of both sides, broken in every way.

use super::*;
use crate::fuzz::{Rng, run};

const STORED: &str = "SCRAM-SHA-256$1:c2FsdHNhbHRzYWx0$";

/// A verifier of the password `secret` with one iteration, and the keys of it.
fn secret() -> (Verifier, Keys) {
    let keys = Keys::of_password("secret", b"saltsaltsalt", 1);
    let verifier = Verifier {
        iterations: 1,
        salt: STANDARD.encode(b"saltsaltsalt"),
        stored_key: sha256(&keys.client_key),
        server_key: keys.server_key,
    };
    (verifier, keys)
}

const TOKENS: &[&[u8]] = &[
    b",",
    b"=",
    b"n=",
    b"r=",
    b"s=",
    b"i=",
    b"c=",
    b"p=",
    b"v=",
    b",p=",
    b"biws",
    b"AAAA",
    b"m=ext",
    b"y,,",
    b"p=tls-server-end-point,,",
    b"4294967296",
    b"0",
    b"-1",
    b"$",
    b":",
    b"SCRAM-SHA-256$",
    "é".as_bytes(),
    b"\0",
    b"\xff",
];

#[test]
fn fuzz_scram_server_takes_the_one_proof_and_no_other() {
    let (verifier, keys) = secret();
    let firsts = [
        "n,,n=,r=abc",
        "y,,n=u,r=abc",
        "p=tls-server-end-point,,n=,r=abc",
    ];
    let make = |rng: &mut Rng| rng.bytes(&firsts, TOKENS);
    run("fuzz_scram_server", 1500, make, |first: &Vec<u8>, rng| {
        for (plus, hash) in [
            (false, None),
            (true, Some(&b"hash"[..])),
            (false, Some(b"hash")),
        ] {
            let _ = ServerExchange::begin(first, plus, hash, verifier.clone());
        }
        let client = ClientExchange::new(None, false);
        let server =
            ServerExchange::begin(client.first().as_bytes(), false, None, verifier.clone());
        let server = server.unwrap();
        let challenged = client.challenged(server.challenge().as_bytes()).unwrap();
        let (last, expected) = challenged.answer(&keys);
        let said = rng.bytes(&[&last], TOKENS);
        let proven = server.finish(&said);
        assert_eq!(
            proven.is_ok(),
            said == last.as_bytes(),
            "{}",
            said.escape_ascii()
        );
        if let Ok(proven) = proven {
            let answer = rng.bytes(&[&proven.signature], TOKENS);
            assert_eq!(expected.is(&answer), answer == proven.signature.as_bytes());
        }
    });
}

#[test]
fn fuzz_scram_client_reads_any_challenge() {
    let tail = [
        ",s=c2FsdA==,i=0",
        ",s=c2FsdA==,i=10000001",
        ",s=c2FsdA==,i=4096",
        ",s=,i=1",
        ",s=c2FsdA==,i=10000000,x=y",
    ];
    let make = |rng: &mut Rng| rng.bytes(&tail, TOKENS);
    let (_, keys) = secret();
    run("fuzz_scram_client", 2000, make, |tail: &Vec<u8>, rng| {
        let hash = [None, Some(&b"hash"[..])][rng.below(2)];
        let client = ClientExchange::new(hash, false);
        let first = client.first();
        let nonce = first.rsplit_once(",r=").unwrap().1;
        let mut message = format!("r={nonce}x").into_bytes();
        message.extend(tail);
        if let Ok(challenged) = client.challenged(&message) {
            assert!((1..=10_000_000).contains(&challenged.iterations));
            let (last, expected) = challenged.answer(&keys);
            assert!(last.contains(nonce) && !expected.is(tail));
        }
    });
}

#[test]
fn fuzz_verifiers_of_any_text() {
    let good = format!(
        "{STORED}{0}:{0}",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    );
    assert!(Verifier::parse(&good).is_some());
    let corpus = [
        good.replace("$1:", "$0:"),
        good.replace("$1:", "$4294967296:"),
        good,
    ];
    let make = |rng: &mut Rng| String::from_utf8_lossy(&rng.bytes(&corpus, TOKENS)).into_owned();
    run("fuzz_verifiers", 3000, make, |text: &String, _| {
        if let Some(verifier) = Verifier::parse(text) {
            let exchange = ServerExchange::begin(b"n,,n=,r=a", false, None, verifier).unwrap();
            // What a client is told is what stands in the verifier.
            let (_, told) = exchange.challenge().split_once(",s=").unwrap();
            let (salt, count) = told.rsplit_once(",i=").unwrap();
            assert!(text.contains(salt) && count.parse::<u32>().unwrap() > 0);
        }
    });
}
