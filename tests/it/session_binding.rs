//! Channel binding towards clients: a proof is worth nothing on another connection than the one
//! that it was made for (RFC 5929; SCRAM-SHA-256-PLUS).

use std::process::Output;

use pgdrover::demo;
use tokio_postgres::config::{ChannelBinding, SslMode};

use crate::support::raw::{Frame, Raw};
use crate::support::say;
use crate::support::tls::{Encrypted, encrypted, man_in_the_middle};

async fn psql(e: &Encrypted, port: u16, binding: &str, ssl: &str) -> Output {
    // libpq checks the certificate as soon as it has authorities, which "require" is not about.
    let trust = match ssl {
        "verify-full" => e.cert_file(),
        _ => "/nonexistent".into(),
    };
    tokio::process::Command::new("psql")
        .args(["-XAtc", "SELECT 'hello'"])
        .env("PGHOST", "localhost")
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGPORT", port.to_string())
        .env("PGUSER", demo::USER)
        .env("PGPASSWORD", demo::PASSWORD)
        .env("PGDATABASE", &e.pgdrover.database)
        .env("PGSSLMODE", ssl)
        .env("PGSSLROOTCERT", trust)
        .env("PGCHANNELBINDING", binding)
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn libpq_binds_to_the_channel_where_it_must() {
    let e = encrypted("allow").await;
    let port = e.pgdrover.address.port();
    for (binding, ssl) in [
        ("require", "verify-full"),
        ("prefer", "require"),
        ("disable", "require"),
        ("prefer", "disable"),
    ] {
        let told = psql(&e, port, binding, ssl).await;
        let said = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success(), "{binding} {ssl}: {said}");
        assert_eq!(told.stdout, b"hello\n");
    }
    let plain = psql(&e, port, "require", "disable").await;
    assert!(!plain.status.success());
}

#[tokio::test]
async fn tokio_postgres_binds_to_the_channel() {
    let e = encrypted("allow").await;
    let tls = tokio_postgres_rustls::MakeRustlsConnect::new(e.client_config());
    let mut config = tokio_postgres::Config::new();
    config
        .host("localhost")
        .hostaddr(e.pgdrover.address.ip())
        .port(e.pgdrover.address.port())
        .user(demo::USER)
        .password(demo::PASSWORD)
        .dbname(&e.pgdrover.database)
        .ssl_mode(SslMode::Require)
        .channel_binding(ChannelBinding::Require);
    let (client, connection) = config.connect(tls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one("SELECT 7", &[]).await.unwrap();
    assert_eq!(row.get::<_, i32>(0), 7);
}

/// A client that trusts every certificate still finds out, since its proof is bound to what it sees.
#[tokio::test]
async fn somebody_in_between_is_found_out() {
    let e = encrypted("allow").await;
    let port = man_in_the_middle(e.pgdrover.address, e.trust()).await;
    for binding in ["require", "prefer"] {
        let told = psql(&e, port, binding, "require").await;
        let said = String::from_utf8_lossy(&told.stderr);
        assert!(!told.status.success(), "{binding}");
        assert!(said.contains("channel binding check failed"), "{said}");
    }
    // Without it nobody notices: the relay itself works.
    let told = psql(&e, port, "disable", "require").await;
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{said}");
}

async fn begin(raw: &mut Raw, mechanism: &str, first: &str) -> Frame {
    raw.send(say::startup(0, &[("user", demo::USER)])).await;
    let asked = raw.frame().await.unwrap();
    // The better one first, as PostgreSQL does.
    assert_eq!(&asked.body[4..], b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    let mut body = format!("{mechanism}\0").into_bytes();
    body.extend((first.len() as u32).to_be_bytes());
    body.extend(first.as_bytes());
    raw.send(say::frame(b'p', &body)).await;
    raw.frame().await.unwrap()
}

/// Somebody who takes the better mechanism out of the offer makes the client say `y`: it could bind,
/// but thinks that we cannot.
#[tokio::test]
async fn a_client_that_was_misled_about_the_offer_is_refused() {
    let e = encrypted("allow").await;
    let mut raw = e.stranger().await;
    let error = begin(&mut raw, "SCRAM-SHA-256", "y,,n=,r=abc").await;
    assert_eq!(error.field(b'C'), "28000", "{error:?}");
    assert_eq!(error.field(b'S'), "FATAL");
    assert!(error.field(b'M').contains("negotiation"), "{error:?}");
    // A client that cannot bind says `n` and goes on; one that mixes the two breaks the protocol.
    let mut raw = e.stranger().await;
    let challenge = begin(&mut raw, "SCRAM-SHA-256", "n,,n=,r=abc").await;
    assert_eq!(challenge.tag, b'R', "{challenge:?}");
    for (mechanism, first) in [
        ("SCRAM-SHA-256-PLUS", "n,,n=,r=abc"),
        ("SCRAM-SHA-256-PLUS", "p=tls-unique,,n=,r=abc"),
        ("SCRAM-SHA-256", "p=tls-server-end-point,,n=,r=abc"),
    ] {
        let mut raw = e.stranger().await;
        let error = begin(&mut raw, mechanism, first).await;
        assert_eq!(error.field(b'C'), "08P01", "{error:?}");
    }
}

/// Without encryption there is nothing to bind to, and `y` is right.
#[tokio::test]
async fn nothing_is_offered_where_there_is_no_channel() {
    let e = encrypted("allow").await;
    let mut raw = e.pgdrover.stranger().await;
    raw.send(say::startup(0, &[("user", demo::USER)])).await;
    let asked = raw.frame().await.unwrap();
    assert!(!asked.strings().concat().contains("PLUS"), "{asked:?}");
    let body = b"SCRAM-SHA-256\0\0\0\0\x0by,,n=,r=abc";
    raw.send(say::frame(b'p', body)).await;
    assert_eq!(raw.frame().await.unwrap().tag, b'R');
}
