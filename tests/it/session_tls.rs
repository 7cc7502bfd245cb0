//! Encryption towards clients.

use pgdrover::demo;

use crate::support::daemon::Setup;
use crate::support::database::TestDb;
use crate::support::raw::Raw;
use crate::support::say;
use crate::support::tls::{encrypted, localhost};

#[tokio::test]
async fn a_session_is_encrypted_on_request_or_at_once() {
    let e = encrypted("allow").await;
    let mut asked = Raw::new(e.tcp().await);
    asked.send(say::packet(&[say::GSS_REQUEST])).await;
    assert_eq!(asked.byte().await, Some(b'N'));
    asked.send(say::packet(&[say::SSL_REQUEST])).await;
    assert_eq!(asked.byte().await, Some(b'S'));
    let stream = e
        .client(false)
        .connect(localhost(), asked.into_stream())
        .await;
    let direct = e.client(true).connect(localhost(), e.tcp().await).await;
    let direct = direct.unwrap();
    assert_eq!(direct.get_ref().1.alpn_protocol(), Some(&b"postgresql"[..]));
    for mut raw in [Raw::new(stream.unwrap()), Raw::new(direct)] {
        raw.login(demo::USER, demo::PASSWORD, &e.pgdrover.database, &[])
            .await;
        assert_eq!(raw.value("SELECT 1").await, "1");
        // More than one record each way.
        let long = "x".repeat(100_000);
        assert_eq!(raw.value(&format!("SELECT '{long}'")).await, long);
        let rows = raw
            .values("SELECT repeat('y', 1000) FROM generate_series(1, 2000)")
            .await;
        assert_eq!(rows.len(), 2000);
    }
}

#[tokio::test]
async fn a_library_that_requires_encryption_gets_it() {
    let e = encrypted("require").await;
    let tls = tokio_postgres_rustls::MakeRustlsConnect::new(e.client_config());
    let mut named = tokio_postgres::Config::new();
    named
        .host("localhost")
        .hostaddr(e.pgdrover.address.ip())
        .port(e.pgdrover.address.port())
        .user(demo::USER)
        .password(demo::PASSWORD)
        .dbname(&e.pgdrover.database)
        .ssl_mode(tokio_postgres::config::SslMode::Require);
    let (client, connection) = named.connect(tls).await.unwrap();
    tokio::spawn(connection);
    let row = client
        .query_one("SELECT $1::text", &[&"encrypted"])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "encrypted");
}

#[tokio::test]
async fn plaintext_is_refused_where_encryption_is_required() {
    let e = encrypted("require").await;
    let mut raw = Raw::new(e.tcp().await);
    let login = raw.try_login(demo::USER, demo::PASSWORD, &e.pgdrover.database, &[]);
    let error = login.await.unwrap_err();
    assert_eq!(error.field(b'C'), "28000");
    assert!(error.field(b'H').contains("sslmode=require"), "{error:?}");
}

#[tokio::test]
async fn without_a_certificate_encryption_is_declined() {
    let db = TestDb::new("").await;
    for section in ["", "[session]\nclient_tls_mode = \"disable\""] {
        let pgdrover = Setup::solo(&db).with(section).start().await;
        let mut raw = pgdrover.stranger().await;
        raw.send(say::packet(&[say::SSL_REQUEST])).await;
        assert_eq!(raw.byte().await, Some(b'N'));
        raw.send(say::packet(&[say::GSS_REQUEST])).await;
        assert_eq!(raw.byte().await, Some(b'N'));
        raw.login(demo::USER, demo::PASSWORD, &pgdrover.database, &[])
            .await;
        assert_eq!(raw.value("SELECT 1").await, "1");
    }
}

/// CVE-2021-3935 (PgBouncer), CVE-2021-23222 (libpq): what someone on the way puts between SSLRequest and the handshake must not be
/// taken for the client's words.
#[tokio::test]
async fn words_before_the_handshake_are_not_the_clients() {
    let e = encrypted("allow").await;
    let mut raw = Raw::new(e.tcp().await);
    let slipped = say::startup(
        0,
        &[("user", demo::USER), ("database", &e.pgdrover.database)],
    );
    let both = [say::packet(&[say::SSL_REQUEST]), slipped].concat();
    raw.send(both).await;
    assert_eq!(raw.byte().await, Some(b'S'));
    // They stand where the handshake should, and spoil it: a TLS alert, or the end.
    const ALERT: u8 = 0x15;
    let answer = raw.byte().await;
    assert!(matches!(answer, None | Some(ALERT)), "{answer:?}");
}

#[tokio::test]
async fn psql_requires_encryption_and_gets_it() {
    let e = encrypted("allow").await;
    let psql = tokio::process::Command::new("psql")
        .args(["-XAtc", "SELECT 'hello'"])
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", e.pgdrover.address.port().to_string())
        .env("PGUSER", demo::USER)
        .env("PGPASSWORD", demo::PASSWORD)
        .env("PGDATABASE", &e.pgdrover.database)
        .env("PGSSLMODE", "require")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&psql.stderr);
    assert!(psql.status.success(), "{said}");
    assert_eq!(psql.stdout, b"hello\n");
}
