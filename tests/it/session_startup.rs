//! The first packets of a connection: versions, options, refusals, limits, and strangers.

use std::time::Duration;

use pgdrover::demo;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::raw::{Frame, Raw};
use crate::support::say;

async fn solo() -> (TestDb, Running) {
    let db = TestDb::new("").await;
    let pgdrover = Setup::solo(&db).start().await;
    (db, pgdrover)
}

/// A stranger sends bytes; whether the connection then ends without a word.
async fn is_cut(pgdrover: &Running, bytes: &[u8]) -> bool {
    let mut raw = pgdrover.stranger().await;
    let _ = raw.try_send(bytes).await;
    raw.byte().await.is_none()
}

#[tokio::test]
async fn newer_versions_and_options_are_negotiated() {
    let (_db, pgdrover) = solo().await;
    for (minor, extra) in [
        (2, None),
        (9999, None),
        (0, Some("_pq_.thing")),
        (2, Some("_pq_.thing")),
    ] {
        let mut raw = pgdrover.stranger().await;
        let mut parameters = vec![("user", demo::USER), ("database", &pgdrover.database)];
        parameters.extend(extra.map(|name| (name, "1")));
        raw.send(say::startup(minor, &parameters)).await;
        let negotiated = raw.frame().await.unwrap();
        assert_eq!(negotiated.tag, b'v', "{negotiated:?}");
        assert_eq!(negotiated.body[..4], [0, 0, 0, 0], "3.0 is what is spoken");
        assert_eq!(negotiated.body[7], u8::from(extra.is_some()));
        let names = extra.map_or(String::new(), |name| format!("{name}\0"));
        assert_eq!(negotiated.body[8..], *names.as_bytes());
        raw.finish_login(demo::USER, demo::PASSWORD).await.unwrap();
        assert_eq!(raw.value("SELECT 1").await, "1");
    }
}

#[tokio::test]
async fn what_is_not_spoken_is_refused() {
    let (_db, pgdrover) = solo().await;
    let mut raw = pgdrover.stranger().await;
    raw.send(say::packet(&[2 << 16, 0])).await;
    let error = raw.frame().await.unwrap();
    assert_eq!(
        (error.tag, &*error.field(b'C')),
        (b'E', "0A000"),
        "{error:?}"
    );
    for value in ["true", "database", "1"] {
        let error = refused(
            &pgdrover,
            demo::USER,
            demo::PASSWORD,
            &[("replication", value)],
        )
        .await;
        assert_eq!(error.field(b'C'), "0A000");
        assert_eq!(error.field(b'S'), "FATAL");
    }
    let mut raw = pgdrover.stranger().await;
    raw.send(say::startup(0, &[("database", "x")])).await;
    assert_eq!(raw.frame().await.unwrap().field(b'C'), "28000");
}

async fn refused(
    pgdrover: &Running,
    user: &str,
    password: &str,
    parameters: &[(&str, &str)],
) -> Frame {
    let mut raw = pgdrover.stranger().await;
    let outcome = raw
        .try_login(user, password, &pgdrover.database, parameters)
        .await;
    let error = outcome.expect_err("a refusal");
    assert_eq!(
        raw.frame().await,
        None,
        "the connection ends after a refusal"
    );
    error
}

#[tokio::test]
async fn settings_that_the_server_refuses_end_the_login_in_its_words() {
    let (_db, pgdrover) = solo().await;
    let cases = [
        (("no_such_setting", "1"), "42704"),
        (("work_mem", "plenty"), "22023"),
        (("options", "-c geqo=maybe"), "22023"),
        (("options", "-p 5"), "0A000"),
    ];
    for (setting, code) in cases {
        let error = refused(&pgdrover, demo::USER, demo::PASSWORD, &[setting]).await;
        assert_eq!(error.field(b'C'), code, "{error:?}");
        assert_eq!(error.field(b'S'), "FATAL");
    }
}

#[tokio::test]
async fn a_wrong_database_is_told_only_to_those_who_proved_themselves() {
    let (_db, pgdrover) = solo().await;
    let mut raw = pgdrover.stranger().await;
    let error = raw
        .try_login(demo::USER, demo::PASSWORD, "nowhere", &[])
        .await;
    assert_eq!(error.unwrap_err().field(b'C'), "3D000");
    let mut raw = pgdrover.stranger().await;
    let error = raw.try_login(demo::USER, "wrong", "nowhere", &[]).await;
    assert_eq!(error.unwrap_err().field(b'C'), "28P01");
}

#[tokio::test]
async fn the_client_is_told_what_a_server_tells() {
    let (db, pgdrover) = solo().await;
    let server = db.primary();
    let address = (server.host.as_str(), server.port);
    let mut direct = Raw::new(tokio::net::TcpStream::connect(address).await.unwrap());
    let settings = [("application_name", "me"), ("TimeZone", "Asia/Tokyo")];
    direct
        .login(demo::USER, demo::PASSWORD, &db.name, &settings)
        .await;
    for _ in 0..2 {
        let mut through = pgdrover.stranger().await;
        through
            .login(demo::USER, demo::PASSWORD, &db.name, &settings)
            .await;
        let sorted = |raw: &Raw| {
            let mut all = raw.parameters.clone();
            all.sort();
            all
        };
        assert_eq!(sorted(&direct), sorted(&through));
        assert_ne!(through.key, (0, 0));
    }
}

#[tokio::test]
async fn one_client_too_many_is_told_so_but_may_cancel() {
    let db = TestDb::new("").await;
    let setup = Setup::solo(&db).listener("max_client_conn = 1");
    let pgdrover = setup.start().await;
    let mut only = pgdrover.raw().await;
    let error = refused(&pgdrover, demo::USER, demo::PASSWORD, &[]).await;
    assert_eq!(error.field(b'C'), "53300");
    assert!(error.field(b'H').contains("max_client_conn"));
    only.send(say::query("SELECT pg_sleep(20)")).await;
    assert!(
        only.frame_within(Duration::from_millis(100))
            .await
            .is_none()
    );
    let (pid, secret) = only.key;
    assert!(is_cut(&pgdrover, &say::packet(&[say::CANCEL_REQUEST, pid, secret])).await);
    assert_eq!(
        only.ready()
            .await
            .iter()
            .filter(|f| f.field(b'C') == "57014")
            .count(),
        1
    );
    drop(only);
    crate::support::eventually("the place to be free", async || {
        let mut raw = pgdrover.stranger().await;
        raw.try_login(demo::USER, demo::PASSWORD, &pgdrover.database, &[])
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test]
async fn impossible_packets_end_the_connection_and_harm_nobody() {
    let (_db, pgdrover) = solo().await;
    let mut bystander = pgdrover.raw().await;
    let mut short = say::startup(0, &[("user", "x")]);
    short.truncate(12);
    short[3] = 12;
    let bad: [&[u8]; 8] = [
        &[0, 0, 0, 0],
        &[0, 0, 0, 7, 0, 3, 0],
        &[0xff; 8],
        &[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0],
        &[0, 0, 0x27, 0x11, 0, 3, 0, 0],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        &say::packet(&[say::CANCEL_REQUEST]),
        &say::packet(&[say::CANCEL_REQUEST, 1]),
    ];
    for bytes in bad {
        assert!(is_cut(&pgdrover, bytes).await, "{bytes:?}");
    }
    let mut raw = pgdrover.stranger().await;
    raw.send(&short).await;
    assert_eq!(raw.frame().await.unwrap().field(b'C'), "08P01");
    // Asking for encryption for ever is no way to begin.
    assert!({
        let mut raw = pgdrover.stranger().await;
        let ask = say::packet(&[say::SSL_REQUEST]);
        let _ = raw.try_send(ask.repeat(20)).await;
        let mut answers = 0;
        while raw.byte().await.is_some() {
            answers += 1;
        }
        answers < 10
    });
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for length in (1..400).step_by(7) {
        let mut raw = pgdrover.stranger().await;
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        let _ = raw.try_send(&bytes).await;
    }
    assert_eq!(bystander.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn random_bytes_after_the_login_end_that_session_alone() {
    let (_db, pgdrover) = solo().await;
    let mut bystander = pgdrover.raw().await;
    let bad: [&[u8]; 5] = [
        &[b'Q', 0, 0, 0, 3],
        &[b'Q', 0x7f, 0xff, 0xff, 0xff],
        &[b'!', 0, 0, 0, 4],
        &[b'B', 0, 0, 0, 6, b'x', b'y'],
        &[0; 50],
    ];
    for bytes in bad {
        let mut client = pgdrover.raw().await;
        client.send(bytes).await;
        let frames = client.until(b"Z").await;
        assert_eq!(frames.len(), 1, "{frames:?}");
        assert_eq!(frames[0].field(b'C'), "08P01");
        assert_eq!(bystander.value("SELECT 1").await, "1");
    }
    let mut copying = pgdrover.raw().await;
    bystander.query("CREATE TABLE t (a int)").await;
    copying.send(say::query("COPY t FROM STDIN")).await;
    copying.until(b"G").await;
    copying.send(say::query("SELECT 1")).await;
    let frames = copying.until(b"Z").await;
    assert_eq!(frames[0].field(b'S'), "FATAL", "{frames:?}");
    assert_eq!(frames[0].field(b'C'), "08P01");
}

#[tokio::test]
async fn half_open_connections_are_closed_in_time() {
    let db = TestDb::new("").await;
    let setup = Setup::solo(&db).with("[session]\nclient_login_timeout = \"200ms\"");
    let pgdrover = setup.start().await;
    let startup = say::startup(0, &[("user", demo::USER), ("database", &db.name)]);
    let beginnings: [&[u8]; 3] = [b"", &startup[..5], &startup];
    for bytes in beginnings {
        let mut raw = pgdrover.stranger().await;
        raw.send(bytes).await;
        let end = async { while raw.byte().await.is_some() {} };
        let end = tokio::time::timeout(Duration::from_secs(5), end).await;
        assert!(end.is_ok(), "after {} bytes", bytes.len());
    }
    // Who is logged in may take all the time.
    let mut client = pgdrover.raw().await;
    assert!(
        client
            .frame_within(Duration::from_millis(400))
            .await
            .is_none()
    );
    assert_eq!(client.value("SELECT 1").await, "1");
}

#[tokio::test]
async fn a_unix_socket_is_served() {
    let db = TestDb::new("").await;
    let folder = tempfile::tempdir().unwrap();
    // The socket's name has the configured port, whose TCP side must be free.
    let port = demo::free_port();
    let setup = Setup::solo(&db).listener(&format!(
        "unix_socket_dir = \"{}\"",
        folder.path().display()
    ));
    let pgdrover = setup.port(port).start().await;
    let path = folder.path().join(format!(".s.PGSQL.{port}"));
    let mut raw = Raw::new(tokio::net::UnixStream::connect(&path).await.unwrap());
    raw.login(demo::USER, demo::PASSWORD, &pgdrover.database, &[])
        .await;
    assert_eq!(raw.value("SELECT 1").await, "1");
    drop(raw);
    assert!(pgdrover.daemon.stop(Duration::from_secs(5)).await);
    assert!(!path.exists(), "the socket is removed at the end");
}
