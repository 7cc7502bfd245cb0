//! Encryption towards the servers, and proofs bound to it.

use std::net::SocketAddr;

use pgdrover::demo::{self, Cluster, Options};
use rustls::RootCertStore;

use crate::support::daemon::{Running, Setup};
use crate::support::eventually;
use crate::support::tls::{encrypted, man_in_the_middle, self_signed};

/// A server with a certificate for localhost, and who trusts it.
async fn server_with_tls() -> (Cluster, RootCertStore) {
    let options = Options {
        shards: 1,
        replicas: 0,
        ..Options::default()
    };
    let cluster = Cluster::start(&options).await.unwrap();
    let made = self_signed();
    let admin = cluster.connect(cluster.shards[0].primary()).await.unwrap();
    // The server writes them itself, as the user that it runs as.
    for (file, pem) in [
        ("server.crt", made.cert.pem()),
        ("server.key", made.signing_key.serialize_pem()),
    ] {
        let lines = pem.trim().replace('\n', "'), ('");
        let copy = format!("COPY (VALUES ('{lines}')) TO PROGRAM 'umask 077; cat > {file}'");
        admin.batch_execute(&copy).await.unwrap();
    }
    admin
        .batch_execute("ALTER SYSTEM SET ssl = on")
        .await
        .unwrap();
    admin
        .batch_execute("SELECT pg_reload_conf()")
        .await
        .unwrap();
    eventually("the server to offer TLS", async || {
        let row = admin.query_one("SHOW ssl", &[]).await.unwrap();
        row.get::<_, &str>(0) == "on"
    })
    .await;
    let mut trust = RootCertStore::empty();
    trust.add(made.cert.der().clone()).unwrap();
    (cluster, trust)
}

async fn before(port: u16, dbname: &str, mode: &str) -> Running {
    Setup::at_port(dbname, port)
        .with(&format!("[pool]\nserver_tls_mode = \"{mode}\""))
        .with("[control]\ncheck_interval = \"1h\"")
        .start()
        .await
}

async fn refusal(pgdrover: &Running) -> String {
    let mut raw = pgdrover.stranger().await;
    let login = raw.try_login(demo::USER, demo::PASSWORD, &pgdrover.database, &[]);
    let error = login.await.expect_err("no login to the server");
    format!("{} {}", error.field(b'C'), error.field(b'M'))
}

#[tokio::test]
async fn a_server_is_logged_in_to_over_tls_bound_to_its_certificate() {
    let (cluster, trust) = server_with_tls().await;
    let port = cluster.shards[0].primary().port;
    for mode in ["prefer", "require"] {
        let pgdrover = before(port, demo::DATABASE, mode).await;
        let mut raw = pgdrover.raw().await;
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert_eq!(raw.value(sql).await, "t", "{mode}");
    }
    // A proof made for somebody in between is worth nothing to the server.
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let port = man_in_the_middle(server, trust).await;
    let pgdrover = before(port, demo::DATABASE, "require").await;
    let told = refusal(&pgdrover).await;
    assert!(told.contains("channel binding check failed"), "{told}");
}

/// pgdrover before pgdrover: both sides of the binding are ours.
#[tokio::test]
async fn pgdrover_binds_to_pgdrover() {
    let e = encrypted("require").await;
    let near = before(e.pgdrover.address.port(), &e.db.name, "require").await;
    assert_eq!(near.raw().await.value("SELECT 'far'").await, "far");
    let port = man_in_the_middle(e.pgdrover.address, e.trust()).await;
    let near = before(port, &e.db.name, "require").await;
    let told = refusal(&near).await;
    assert!(told.contains("channel binding check failed"), "{told}");
}

/// CVE-2021-3935, the other way round: what somebody slips in between the server's answer to
/// SSLRequest and the handshake is not taken for the server's words.
#[tokio::test]
async fn words_before_the_handshake_are_not_the_servers() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let heard = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.read_exact(&mut [0; 8]).await.unwrap();
        // "S", AuthenticationOk, ReadyForQuery.
        tcp.write_all(b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
            .await
            .unwrap();
        let mut rest = Vec::new();
        let _ = tcp.read_to_end(&mut rest).await;
        rest
    });
    let pgdrover = before(port, "x", "require").await;
    let told = refusal(&pgdrover).await;
    assert!(told.starts_with("08001"), "{told}");
    // No startup packet was sent in clear.
    let rest = heard.await.unwrap();
    assert!(!rest.windows(4).any(|w| w == b"user"), "{rest:?}");
}
