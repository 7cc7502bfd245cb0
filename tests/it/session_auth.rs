//! Who may log in, by which method, and what those learn who may not.

use pgdrover::demo;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::raw::{Frame, Raw};
use crate::support::say;

/// Users whose password is "secret", stored in every form that the method can do with; on the
/// servers all are the demo's user.
fn users(setup: Setup, auth: &str) -> Setup {
    let server = format!(
        "server_user = \"{}\"\nserver_password = \"{}\"",
        demo::USER,
        demo::PASSWORD
    );
    let scram = postgres_protocol::password::scram_sha_256(b"secret");
    let md5 = postgres_protocol::password::md5(b"secret", "hashed");
    let setup = setup
        .user(&format!(
            "name = \"clear\"\npassword = \"secret\"\n{server}"
        ))
        .user(&format!(
            "name = \"verifier\"\npassword = \"{scram}\"\n{server}"
        ));
    match auth {
        "md5" => setup.user(&format!(
            "name = \"hashed\"\npassword = \"{md5}\"\n{server}"
        )),
        _ => setup,
    }
}

async fn with(auth: &str) -> Running {
    let db = TestDb::new("").await;
    let session = format!("[session]\nauth_type = \"{auth}\"");
    users(Setup::solo(&db), auth).with(&session).start().await
}

async fn login(pgdrover: &Running, user: &str, password: &str) -> Result<Raw, Frame> {
    let mut raw = pgdrover.stranger().await;
    raw.try_login(user, password, &pgdrover.database, &[])
        .await?;
    Ok(raw)
}

#[tokio::test]
async fn each_form_of_password_and_each_method() {
    let cases = [
        ("scram-sha-256", "clear"),
        ("scram-sha-256", "verifier"),
        ("md5", "clear"),
        ("md5", "hashed"),
        ("md5", "verifier"),
    ];
    for auth in ["scram-sha-256", "md5"] {
        let pgdrover = with(auth).await;
        for (_, user) in cases.iter().filter(|c| c.0 == auth) {
            let right = login(&pgdrover, user, "secret").await;
            let mut raw = right.unwrap_or_else(|e| panic!("{auth} {user}: {e:?}"));
            assert_eq!(raw.value("SELECT current_user").await, demo::USER);
            let Err(wrong) = login(&pgdrover, user, "Secret").await else {
                panic!("{auth} {user}: any password will do");
            };
            assert_eq!(wrong.field(b'C'), "28P01");
        }
    }
}

#[tokio::test]
async fn trust_wants_a_known_user() {
    let pgdrover = with("trust").await;
    assert!(login(&pgdrover, "clear", "").await.is_ok());
    let error = login(&pgdrover, "nobody", "").await.err().unwrap();
    assert_eq!(error.field(b'C'), "28000");
}

/// All that a login attempt hears, with what is random in it taken out.
async fn heard(pgdrover: &Running, user: &str) -> Vec<String> {
    let mut raw = pgdrover.stranger().await;
    let startup = [("user", user), ("database", &pgdrover.database)];
    raw.send(say::startup(0, &startup)).await;
    let asked = raw.frame().await.unwrap();
    let mut heard = vec![shape(&asked)];
    match asked.body[3] {
        5 => {
            raw.send(say::frame(b'p', b"md500000000000000000000000000000000\0"))
                .await
        }
        _ => {
            let first = b"n,,n=,r=abcdefghijklmnopqrstuvwx";
            let mut body = b"SCRAM-SHA-256\0\0\0\0".to_vec();
            body.push(first.len() as u8);
            body.extend(first);
            raw.send(say::frame(b'p', &body)).await;
            let challenge = raw.frame().await.unwrap();
            heard.push(shape(&challenge));
            let text = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
            let nonce = text.split(',').next().unwrap().to_owned();
            let proof = "A".repeat(43);
            let last = format!("c=biws,{nonce},p={proof}=");
            raw.send(say::frame(b'p', last.as_bytes())).await;
        }
    }
    while let Some(frame) = raw.frame().await {
        heard.push(shape(&frame));
    }
    heard
}

fn shape(frame: &Frame) -> String {
    match (frame.tag, frame.body.get(3)) {
        (b'R', Some(5)) => "md5 with a salt".into(),
        (b'R', Some(11)) => {
            let text = String::from_utf8_lossy(&frame.body[4..]).into_owned();
            let lengths: Vec<String> = text
                .split(',')
                .map(|part| format!("{} of {}", &part[..2], part.len()))
                .collect();
            format!("challenge {}", lengths.join(", "))
        }
        _ => format!("{frame:?} {}", frame.field(b'H')),
    }
}

#[tokio::test]
async fn an_unknown_user_looks_like_a_wrong_password() {
    for auth in ["scram-sha-256", "md5"] {
        let pgdrover = with(auth).await;
        let known = heard(&pgdrover, "clear").await;
        let unknown = heard(&pgdrover, "nobody").await;
        let unknown: Vec<_> = unknown
            .iter()
            .map(|h| h.replace("nobody", "clear"))
            .collect();
        assert_eq!(known, unknown);
        assert!(known.last().unwrap().contains("28P01"), "{known:?}");
    }
    // Asked twice, a user who does not exist has the same salt, as one who does.
    let pgdrover = with("scram-sha-256").await;
    let mut salts = Vec::new();
    for _ in 0..2 {
        let mut raw = pgdrover.stranger().await;
        raw.send(say::startup(0, &[("user", "nobody")])).await;
        raw.frame().await.unwrap();
        let first = b"SCRAM-SHA-256\0\0\0\0\x0an,,n=,r=ab";
        raw.send(say::frame(b'p', first)).await;
        let challenge = raw.frame().await.unwrap();
        let text = String::from_utf8_lossy(&challenge.body[4..]).into_owned();
        salts.push(text.split(',').nth(1).unwrap().to_owned());
    }
    assert_eq!(salts[0], salts[1]);
}

#[tokio::test]
async fn malformed_proofs_are_violations_and_bounded() {
    let pgdrover = with("scram-sha-256").await;
    let long = vec![b'x'; 100_000];
    let nonce = format!("SCRAM-SHA-256\0\0\0\x10\0n,,n=,r={}", "x".repeat(5000));
    let cases: [&[u8]; 6] = [
        &say::frame(b'p', b""),
        &say::frame(b'p', b"SCRAM-SHA-256\0"),
        &say::frame(b'p', b"SCRAM-SHA-1\0\0\0\0\x00"),
        &say::frame(b'Q', b"SELECT 1\0"),
        &say::frame(b'p', &long),
        &say::frame(b'p', nonce.as_bytes()),
    ];
    for bytes in cases {
        let mut raw = pgdrover.stranger().await;
        raw.send(say::startup(0, &[("user", "clear")])).await;
        assert_eq!(raw.frame().await.unwrap().tag, b'R');
        raw.send(bytes).await;
        let error = raw.frame().await.unwrap();
        assert_eq!(error.field(b'C'), "08P01", "{error:?}");
    }
}

#[tokio::test]
async fn a_user_that_cannot_log_in_to_the_servers_is_told_so() {
    let db = TestDb::new("").await;
    let setup = Setup::solo(&db)
        .user("name = \"stranger\"\npassword = \"p\"")
        .start()
        .await;
    let error = login(&setup, "stranger", "p").await.err().unwrap();
    assert_eq!(error.field(b'C'), "08001", "{error:?}");
    assert!(error.field(b'H').contains("server_password"), "{error:?}");
}
