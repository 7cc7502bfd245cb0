//! What a client says before and after it is known, broken in every way.

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::auth::{Demand, authenticate};
use super::gucs::Gucs;
use super::startup::{Startup, negotiate};
use super::words::words;
use super::*;
use crate::fuzz::{Rng, SQL_TOKENS, run, statements};
use crate::plan::Effect;
use crate::router::{Router, Schema};
use crate::sharding::{Function, KeyType, Modulo};
use crate::wire::{Port, Stream};

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// Says chunks to `ours`, which ends before they do or hears the end of them.
async fn say(mut stream: UnixStream, chunks: &[&[u8]], done: tokio::sync::oneshot::Receiver<()>) {
    for chunk in chunks {
        if stream.write_all(chunk).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = stream.shutdown().await;
    let _ = done.await;
}

fn packet(body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32 + 4).to_be_bytes().to_vec();
    out.extend(body);
    out
}

/// Startup packets, cancel requests, and requests for encryption.
fn packets() -> Vec<Vec<u8>> {
    let hello =
        packet(b"\0\x03\0\0user\0u\0database\0d\0options\0-c geqo=off --search-path=a,\\ b\0\0");
    let ssl = packet(b"\x04\xd2\x16\x2f");
    let gss = packet(b"\x04\xd2\x16\x30");
    vec![
        [&*ssl, &*hello].concat(),
        [&*gss, &*ssl, &*ssl, &*ssl, &*hello].concat(),
        packet(b"\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02"),
        packet(b"\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02and a longer key"),
        packet(b"\0\x03\0\x02user\0u\0_pq_.x\0y\0client_encoding\0utf8\0DateStyle\0ISO\0\0"),
        packet(b"\0\x02\0\0user\0u\0\0"),
        packet(b"\0\x03\0\0user\0u\0replication\0true\0\0"),
        hello,
    ]
}

const PACKET_TOKENS: &[&[u8]] = &[
    b"\0",
    b"\0\0",
    b"\0\0\0\x08",
    b"\0\0\0\x09",
    b"\0\0\0\x0c",
    b"\0\0\x27\x10",
    b"\x04\xd2\x16\x2e",
    b"\x04\xd2\x16\x2f",
    b"\0\x03\0\0",
    b"user\0",
    b"database\0",
    b"options\0",
    b"-c ",
    b"--",
    b"=",
    b"\\",
    b"replication\0",
    b"_pq_.",
    b"standard_conforming_strings\0",
    "é".as_bytes(),
    b"\xff",
];

async fn begun(chunks: &[&[u8]]) -> String {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (done, finished) = tokio::sync::oneshot::channel();
    let read = async {
        let outcome = negotiate(Stream::Unix(ours), None, ClientTlsMode::Allow).await;
        let _ = done.send(());
        match outcome {
            Ok(Startup::Session(h)) => {
                assert!(!h.user.is_empty() && !h.database.is_empty());
                format!(
                    "{} {} {:?} {:?}",
                    h.user, h.database, h.settings, h.unsupported
                )
            }
            Ok(Startup::Cancel { pid, secret }) => format!("cancel {pid} {secret}"),
            Ok(Startup::Refused(_, error)) => format!("{error:?}"),
            Err(error) => error.to_string(),
        }
    };
    tokio::join!(say(theirs, chunks, finished), read).1
}

#[test]
fn fuzz_startup_is_the_same_in_any_split() {
    let (runtime, corpus) = (runtime(), packets());
    let make = |rng: &mut Rng| rng.bytes(&corpus, PACKET_TOKENS);
    run("fuzz_startup", 500, make, |bytes: &Vec<u8>, rng| {
        let whole = runtime.block_on(begun(&[bytes]));
        assert_eq!(runtime.block_on(begun(&rng.chunks(bytes))), whole);
    });
}

fn message(body: &[u8]) -> Vec<u8> {
    [b"p", &*packet(body)].concat()
}

#[test]
fn fuzz_nobody_logs_in_without_the_password() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let scram = [
        message(b"SCRAM-SHA-256\0\0\0\0\x0cn,,n=,r=abcd"),
        message(b"c=biws,r=abcd,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    ];
    let corpus = [
        scram.concat(),
        message(b"SCRAM-SHA-256-PLUS\0\0\0\0\x1ep=tls-server-end-point,,n=,r=ab"),
        message(b"md50123456789abcdef0123456789abcdef\0"),
        message(b"secret\0"),
        message(b""),
        message(b"SCRAM-SHA-256\0\0\0"),
    ];
    let tokens: &[&[u8]] = &[
        b"\0",
        b"p\0\0\0\x04",
        b"p\0\x01\0\0",
        b"SCRAM-SHA-256\0",
        b",",
        b"r=",
        b"\xff",
        b"n,,",
    ];
    let stored = format!(
        "SCRAM-SHA-256$4096:c2FsdA==${0}:{0}",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
    );
    let secrets = [
        None,
        Some(Secret::parse(&stored)),
        Some(Secret::parse("secret")),
        Some(Secret::parse("md50123456789abcdef0123456789abcdef")),
    ];
    let make = |rng: &mut Rng| rng.bytes(&corpus, tokens);
    run("fuzz_nobody_logs_in", 500, make, |bytes: &Vec<u8>, rng| {
        let demand = Demand {
            auth: rng.pick(&[AuthType::Md5, AuthType::ScramSha256]),
            user: "u",
            secret: secrets[rng.below(secrets.len())].as_ref(),
            process_secret: &[7; 32],
            end_point: rng.pick(&[None, Some(&b"hash"[..])]),
            common_name: None,
        };
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (done, finished) = tokio::sync::oneshot::channel();
        let chunks = rng.chunks(bytes);
        let log_in = async {
            let mut port = Port::new(Stream::Unix(ours));
            let outcome = authenticate(&mut port, &demand).await;
            let _ = done.send(());
            outcome
        };
        let outcome =
            runtime.block_on(async { tokio::join!(say(theirs, &chunks, finished), log_in).1 });
        assert!(outcome.is_err());
    });
}

#[test]
fn fuzz_secrets_of_any_text() {
    let corpus = [
        "md50123456789abcdef0123456789ABCDEF",
        "SCRAM-SHA-256$1:AA==$AA==:AA==",
        "pässword",
        "md50123456789abcdef",
    ];
    let tokens = [
        "md5",
        "$",
        ":",
        "=",
        "SCRAM-SHA-256$",
        "é",
        "\u{ad}",
        "\u{7}",
        "\u{a0}",
        "ﬁ",
        "\u{5d0}",
    ];
    let make = |rng: &mut Rng| rng.text(&corpus, &tokens);
    // Each password that is none of the stored forms costs 4096 iterations.
    run(
        "fuzz_secrets",
        12,
        make,
        |text: &String, _| match Secret::parse(text) {
            Secret::Md5(hex) => assert!(hex.len() == 32 && text.starts_with("md5")),
            Secret::Scram(_) => assert!(text.starts_with("SCRAM-SHA-256$")),
            Secret::Clear(password, _) => assert_eq!(*password, *text),
        },
    );
}

fn router() -> Router {
    let schema = Schema {
        shards: 3,
        function: std::sync::Arc::new(Function::Modulo(Modulo::new(3).unwrap())),
        key_type: KeyType::BigInt,
        tables: Default::default(),
    };
    Router::new(schema, &Default::default())
}

/// The effect of a text of one statement.
fn effect(router: &Router, text: &str) -> Option<Effect> {
    let routed = router.route(text, &[]);
    match &routed.shape.statements[..] {
        [one] => Some(one.effect.clone()),
        _ => None,
    }
}

#[test]
fn fuzz_statements_that_are_answered_here_are_what_the_router_says() {
    const TEXTS: [&str; 8] = [
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        "start transaction",
        "COMMIT AND NO CHAIN;",
        "ROLLBACK WORK",
        "SAVEPOINT \"A \"\" b\"",
        "/* a /* nested */ */ROLLBACK TO s--x",
        "abort transaction and chain",
        "release savepoint s",
    ];
    let router = router();
    let make = |rng: &mut Rng| rng.text(&TEXTS, SQL_TOKENS);
    run("fuzz_statements", 2000, make, |text: &String, _| {
        let found = words(text);
        assert!(found.iter().all(|w| !w.is_empty()));
        let _ = local::rolls_back_to(text);
        if spelling::begin(text).is_some() {
            assert!(matches!(effect(&router, text), Some(Effect::Begin { .. })));
        }
        if spelling::end(text).is_some() {
            assert!(matches!(
                effect(&router, text),
                Some(Effect::Commit | Effect::Rollback)
            ));
        }
    });
}

#[test]
fn fuzz_prepare_and_execute_of_any_text() {
    const TEXTS: [&str; 5] = [
        "PREPARE p (int, double precision) AS SELECT $1, $2",
        "prepare \"P q\" as insert into t values ($1)",
        "EXECUTE p (1, 'it''s', NULL, -5);",
        "execute \"P q\"",
        "EXECUTE p ( '' , -1 ) ;",
    ];
    let make = |rng: &mut Rng| rng.text(&TEXTS, SQL_TOKENS);
    run("fuzz_prepare", 3000, make, |text: &String, _| {
        if let Some(prepare) = sqlprep::prepare(text) {
            assert!(
                text.get(prepare.body..)
                    .is_some_and(|body| !body.is_empty())
            );
        }
        if let Some(execute) = sqlprep::execute(text) {
            let name = text.get(execute.span.clone()).unwrap();
            assert_eq!(
                name.trim_matches('"').to_ascii_lowercase(),
                execute.name.to_ascii_lowercase()
            );
            let _ = execute.arguments(text);
        }
    });
}

#[test]
fn fuzz_settings_end_where_they_began() {
    let corpus: Vec<String> = statements(include_str!("../../tests/plans/psql.sql")).collect();
    let router = router();
    let make = |rng: &mut Rng| {
        let mut text = || rng.text(&corpus, SQL_TOKENS);
        [text(), text(), text(), text()]
    };
    run("fuzz_settings", 500, make, |[a, b, c, d], rng| {
        // No value ends its own statement.
        let mut gucs = Gucs::new([(&**a, &**b), (&**c, &**d)]);
        let startup = gucs.script().clone();
        let count = router.route(&startup, &[]).shape.statements.len();
        assert_eq!(count, if a == c { 1 } else { 2 }, "{startup}");
        gucs.is_utf8();
        let names = ["role", "search_path", "session_authorization", a];
        for _ in 0..rng.below(8) {
            let (name, text) = (rng.pick(&names), rng.pick(&[a, b, c, d]));
            match rng.below(5) {
                0 => gucs.set(name, text),
                1 => gucs.set_local(name, text),
                2 => gucs.reset(Some(name).filter(|_| text != a)),
                3 => gucs.transaction_control(&format!("SAVEPOINT {text}")),
                _ => gucs.transaction_control(text),
            }
            gucs.naming();
        }
        gucs.end(false);
        assert_eq!(*gucs.script(), startup);
        gucs.set("x", a);
        gucs.end(true);
        gucs.discard();
        assert_eq!(*gucs.script(), startup);
    });
}

#[test]
fn fuzz_origins_of_any_text() {
    let corpus = [
        "all",
        "local",
        "10.0.0.0/8",
        "::1/128",
        "fe80::/10",
        "192.168.1.1",
        "10.0.0.0/33",
        "::/129",
    ];
    let tokens = ["/", "33", "129", "-1", ":", ".", "::ffff:1.2.3.4", "é", " "];
    let make = |rng: &mut Rng| rng.text(&corpus, &tokens);
    run("fuzz_origins", 3000, make, |text: &String, _| {
        if let Some(Origin::Network(address, length)) = Origin::parse(text) {
            assert!(length <= if address.is_ipv4() { 32 } else { 128 });
            let again = Origin::parse(&format!("{address}/{length}"));
            assert_eq!(again, Some(Origin::Network(address, length)));
        }
    });
}
