//! What comes over the wire, broken in every way: frames and certificates.

use super::*;
use crate::fuzz::{Rng, run};

/// Messages of both sides.
fn messages() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut one = |write: &dyn Fn(&mut Buffer)| {
        let mut out = Buffer::default();
        write(&mut out);
        all.push(out.bytes().to_vec());
    };
    one(&|out| query(out, "SELECT 1"));
    one(&|out| parse(out, "s", b"SELECT $1, $2", &[23, 0]));
    one(&|out| parse(out, "", b"", &[]));
    let bind = b"p\0s\0\0\x02\0\x01\0\0\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0\0\0";
    one(&|out| out.frame(b'B', |out| out.put(bind)));
    one(&|out| bind_renamed(out, b"", "t", bind, 4));
    one(&|out| execute(out, "p"));
    one(&|out| describe_statement(out, "s"));
    one(&|out| close_statement(out, "s"));
    one(&|out| empty_message(out, b'S'));
    one(&|out| ready_for_query(out, b'I'));
    one(&|out| text_row(out, &["a", "", "longer"]));
    one(&|out| command_complete(out, "SELECT 1"));
    one(&|out| parameter_status(out, "TimeZone", "UTC"));
    one(&|out| out.frame(b'E', |out| out.put(b"SERROR\0VERROR\0C42P01\0Mno\0\0")));
    one(&|out| out.frame(b'd', |out| out.put(&[7; 5000])));
    all
}

const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\0\0\0\x04",
    b"\0\0\0\x03",
    b"\x3f\xff\xff\xff",
    b"\x40\0\0\0",
    b"\xff\xff\xff\xff",
    b"P",
    b"B",
    b"Q",
    b"D",
    b"d",
    b"S\0\0\0\x04",
    b"\0\x01",
    b"\xff\xff",
    b"\x80",
];

type Frames = (Vec<(u8, Vec<u8>)>, Option<FrameError>, usize);

/// The frames of bytes that come in chunks, the error after them, and how much is left over.
fn frames(chunks: &[&[u8]]) -> Frames {
    let (mut input, mut found) = (Buffer::default(), Vec::new());
    for chunk in chunks {
        input.put(chunk);
        loop {
            match frame_at(input.bytes()) {
                Ok(Some(h)) if h.total <= input.len() => {
                    found.push((h.tag, input.bytes()[5..h.total].to_vec()));
                    input.consume(h.total);
                }
                Ok(_) => break,
                Err(error) => return (found, Some(error), 0),
            }
        }
    }
    (found, None, input.len())
}

#[test]
fn fuzz_frames_are_the_same_in_any_split() {
    let corpus = messages();
    let make = |rng: &mut Rng| {
        let count = 1 + rng.below(4);
        (0..count)
            .flat_map(|_| rng.bytes(&corpus, TOKENS))
            .collect()
    };
    run("fuzz_frames", 3000, make, |bytes: &Vec<u8>, rng| {
        let whole = frames(&[bytes]);
        assert_eq!(frames(&rng.chunks(bytes)), whole);
        if whole.1.is_none() {
            let read = whole
                .0
                .iter()
                .map(|(_, body)| 5 + body.len())
                .sum::<usize>();
            assert_eq!(read + whole.2, bytes.len());
        }
    });
}

#[test]
fn fuzz_views_of_any_body() {
    let corpus: Vec<Vec<u8>> = messages().iter().map(|m| m[5..].to_vec()).collect();
    let make = |rng: &mut Rng| rng.bytes(&corpus, TOKENS);
    run("fuzz_views", 5000, make, |body: &Vec<u8>, _| {
        if let (Ok(view), Ok(name)) = (
            ParseView::new(body),
            first_cstr(body).map_or(Ok(""), std::str::from_utf8),
        ) {
            let types: Vec<u32> = view.types().collect();
            let mut again = Buffer::default();
            parse(&mut again, name, view.sql, &types);
            assert_eq!(&again.bytes()[5..], body);
        }
        if let Ok(view) = BindView::new(body) {
            let mut missing = false;
            for index in (0..view.len().min(50)).chain([view.len(), usize::MAX]) {
                view.is_binary(index.min(usize::from(u16::MAX)));
                let value = view.value(index);
                // After one that is cut short there is no other.
                assert!(!(missing && value.is_some()));
                missing |= value.is_none();
            }
        }
        let said: usize = error_fields(body).map(|(_, text)| text.len() + 2).sum();
        assert!(said <= body.len());
        assert_eq!(
            cstr(body).map(|(s, rest)| s.len() + 1 + rest.len()),
            first_cstr(body).map(|_| body.len())
        );
    });
}

#[test]
fn fuzz_certificates_of_any_bytes() {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let der = STANDARD.decode(CERTIFICATE).unwrap();
    assert_eq!(
        super::certificate::common_name(&der).as_deref(),
        Some("app")
    );
    let tokens: &[&[u8]] = &[
        b"\x30\x82\xff\xff",
        b"\x30\x80",
        b"\x06\x03\x55\x04\x03",
        b"\0",
        b"\x84\xff\xff\xff\xff",
    ];
    // A name that ends early for whoever reads it as C does.
    let mut short = der.clone();
    for at in 2..short.len() {
        if &der[at - 2..=at] == b"app" {
            short[at - 1] = 0;
        }
    }
    let corpus = [der, short];
    let make = |rng: &mut Rng| rng.bytes(&corpus, tokens);
    run("fuzz_certificates", 1500, make, |bytes: &Vec<u8>, _| {
        let name = super::certificate::common_name(bytes);
        assert!(name.is_none_or(|n| !n.contains('\0')));
        let hash = super::certificate::end_point(bytes);
        assert!(hash.is_none_or(|h| (28..=64).contains(&h.len())));
    });
}

/// Self-signed, ECDSA with SHA-256, CN=app.
const CERTIFICATE: &str = "\
    MIIBcDCCARegAwIBAgIUHzwQtnyOzj8Gj8S/mT6O3jWFmqkwCgYIKoZIzj0EAwIwDjEMMAoGA1UEAwwD\
    YXBwMB4XDTI2MTEyNDE2NDQ1M1oXDTI2MTIyNDE2NDQ1M1owDjEMMAoGA1UEAwwDYXBwMFkwEwYHKoZI\
    zj0CAQYIKoZIzj0DAQcDQgAEaXGbnInTXrB4awhLczbrWnHwro03AhwCwdlvNQ2U3tUFwXeFt3aT1K8l\
    Dp1MWqq6UOHnoTSlGHZey4HFVSCfIqNTMFEwHQYDVR0OBBYEFA2KmNeok6KnbMeq+9ZbtV0B+vRqMB8G\
    A1UdIwQYMBaAFA2KmNeok6KnbMeq+9ZbtV0B+vRqMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwID\
    RwAwRAIgdQwlbOsJDv/WV4sRBCEuQUjyn8x2gGYpzDhsNL/qN+UCIAzB5ivMisH7R12I/Ig5J53cxKBi\
    9s+UncujXj4cYxFt";
