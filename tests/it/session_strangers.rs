//! Strangers: who fails to log in, who is slow about it, and who never begins.

use std::time::Duration;

use pgdrover::demo;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::raw::Raw;
use crate::support::say;

async fn told(pgdrover: &Running, user: &str, password: &str) -> String {
    let mut raw = pgdrover.stranger().await;
    match raw.try_login(user, password, &pgdrover.database, &[]).await {
        Ok(_) => "in".into(),
        Err(e) => format!("{} {}", e.field(b'C'), e.field(b'M')),
    }
}

#[tokio::test]
async fn who_guesses_has_to_wait_and_the_neighbours_do_not() {
    let db = TestDb::new("").await;
    let session = "[session]\nmax_login_failures = 3\nlogin_failure_window = \"1m\"";
    let as_app = "server_user = \"app\"\nserver_password = \"app\"";
    let pgdrover = Setup::solo(&db)
        .with(session)
        .user(&format!(
            "name = \"guessed\"\npassword = \"right\"\n{as_app}"
        ))
        .start()
        .await;
    for _ in 0..3 {
        let wrong = told(&pgdrover, "guessed", "wrong").await;
        assert!(wrong.starts_with("28P01"), "{wrong}");
    }
    // Even the right password, which the next guess could have been.
    let words = "28000 too many failed logins of user \"guessed\" from host \"127.0.0.1\"";
    assert_eq!(told(&pgdrover, "guessed", "right").await, words);
    assert_eq!(told(&pgdrover, demo::USER, demo::PASSWORD).await, "in");
    eventually("the wait to be over", async || {
        told(&pgdrover, "guessed", "right").await == "in"
    })
    .await;
}

/// Names that do not exist count as well, and so does a proof that breaks the protocol.
#[tokio::test]
async fn every_failure_counts_and_leaving_does_not() {
    let db = TestDb::new("").await;
    let session = "[session]\nmax_login_failures = 2";
    let pgdrover = Setup::solo(&db).with(session).start().await;
    // psql goes to ask for the password when it learns that one is wanted.
    for _ in 0..5 {
        let mut raw = pgdrover.stranger().await;
        raw.send(say::startup(0, &[("user", "nobody")])).await;
        raw.frame().await.unwrap();
    }
    assert!(told(&pgdrover, "nobody", "x").await.starts_with("28P01"));
    let mut raw = pgdrover.stranger().await;
    raw.send(say::startup(0, &[("user", "nobody")])).await;
    raw.frame().await.unwrap();
    raw.send(say::frame(b'p', b"nonsense")).await;
    assert_eq!(raw.frame().await.unwrap().field(b'C'), "08P01");
    assert!(told(&pgdrover, "nobody", "x").await.starts_with("28000"));
}

/// Connections that never log in take no client's place, and cannot shut the door.
#[tokio::test]
async fn many_half_open_connections_keep_nobody_out() {
    let db = TestDb::new("").await;
    let setup = Setup::solo(&db)
        .listener("max_client_conn = 2")
        .with("[session]\nclient_login_timeout = \"1h\"");
    let pgdrover = setup.start().await;
    let mut early = pgdrover.raw().await;
    let startup = say::startup(0, &[("user", demo::USER), ("database", &db.name)]);
    let mut strangers = Vec::new();
    for number in 0..250 {
        let mut raw = pgdrover.stranger().await;
        // Some say nothing, some half a packet, some stop when asked for the password.
        let words = [&[][..], &startup[..7], &startup[..]][number % 3];
        let _ = raw.try_send(words).await;
        strangers.push(raw);
    }
    assert_eq!(pgdrover.raw().await.value("SELECT 1").await, "1");
    assert_eq!(early.value("SELECT 1").await, "1");
    // The oldest were closed: what they hold is bounded.
    let mut closed = 0;
    for raw in &mut strangers[..150] {
        closed += usize::from(is_over(raw).await);
    }
    assert!(closed >= 140, "{closed}");
}

/// Whether the connection ends; it may have been asked for a password before.
async fn is_over(raw: &mut Raw) -> bool {
    let end = async { while raw.byte().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(2), end)
        .await
        .is_ok()
}

/// A slow loris: a byte now and then buys no time.
#[tokio::test]
async fn a_byte_now_and_then_buys_no_time() {
    let db = TestDb::new("").await;
    let setup = Setup::solo(&db).with("[session]\nclient_login_timeout = \"500ms\"");
    let pgdrover = setup.start().await;
    let name = "n".repeat(2000);
    let startup = say::startup(0, &[("user", &name), ("database", &db.name)]);
    let password = say::frame(b'p', &[b'x'; 2000]);
    for (at_once, slowly) in [(0, startup.clone()), (startup.len(), password)] {
        let mut raw = pgdrover.stranger().await;
        raw.send(&startup[..at_once]).await;
        let begun = std::time::Instant::now();
        for byte in slowly {
            if raw.try_send([byte]).await.is_err() {
                break;
            }
            if begun.elapsed() > Duration::from_secs(10) {
                panic!("still listening");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(begun.elapsed() >= Duration::from_millis(400));
        assert!(begun.elapsed() < Duration::from_secs(5), "{begun:?}");
    }
}

/// CVE-2026-6664: lengths that overflow, or that nobody sends, before anybody is known.
#[tokio::test]
async fn impossible_lengths_before_the_login_are_refused() {
    let db = TestDb::new("").await;
    let pgdrover = Setup::solo(&db).start().await;
    for length in [0u32, 3, 7, 10_001, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let mut raw = pgdrover.stranger().await;
        let packet = [&length.to_be_bytes()[..], &[0, 3, 0, 0]].concat();
        let _ = raw.try_send(packet).await;
        assert!(is_over(&mut raw).await, "startup packet of {length}");
    }
    for length in [0u32, 3, 70_000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let mut raw = pgdrover.stranger().await;
        raw.send(say::startup(0, &[("user", demo::USER)])).await;
        raw.frame().await.unwrap();
        let message = [&b"p"[..], &length.to_be_bytes(), b"SCRAM-SHA-256\0"].concat();
        raw.send(message).await;
        let error = raw.frame().await.unwrap();
        assert_eq!(error.field(b'C'), "08P01", "{length}: {error:?}");
    }
    // Within a SASL message: the length of what follows the mechanism's name.
    for length in [0u32, 0x7fff_ffff, 0xffff_ffff] {
        let mut raw = pgdrover.stranger().await;
        raw.send(say::startup(0, &[("user", demo::USER)])).await;
        raw.frame().await.unwrap();
        let mut body = b"SCRAM-SHA-256\0".to_vec();
        body.extend(length.to_be_bytes());
        body.extend(b"n,,n=,r=");
        raw.send(say::frame(b'p', &body)).await;
        assert_eq!(raw.frame().await.unwrap().field(b'C'), "08P01");
    }
    assert_eq!(pgdrover.raw().await.value("SELECT 1").await, "1");
}
