//! Clients that prove who they are by a certificate.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use pgdrover::demo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::raw::{Frame, Raw};
use crate::support::tls::{encrypt, files, self_signed, trusting};

/// An authority that signs clients' certificates.
struct Authority(Issuer<'static, KeyPair>, String);

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority(Issuer::new(params, key), pem)
    }

    /// A certificate for a name, and its key; `until` is a year.
    fn sign(&self, name: &str, until: i32) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

struct Guarded {
    pgdrover: Running,
    authority: Authority,
    trust: rustls::RootCertStore,
    folder: TempDir,
}

/// pgdrover that wants certificates of its authority.
async fn guarded(auth: &str) -> Guarded {
    let (authority, made) = (Authority::new(), self_signed());
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), &made);
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.1).unwrap();
    let mut trust = rustls::RootCertStore::empty();
    trust.add(made.cert.der().clone()).unwrap();
    let db = TestDb::new("").await;
    let session = format!(
        "[session]\n{auth}\n{files}\nclient_tls_ca_file = \"{}\"",
        ca.display()
    );
    Guarded {
        pgdrover: Setup::solo(&db)
            .user("name = \"other\"\npassword = \"x\"")
            .with(&session)
            .start()
            .await,
        authority,
        trust,
        folder,
    }
}

impl Guarded {
    fn client(&self, shown: Option<(rcgen::Certificate, KeyPair)>) -> ClientConfig {
        let Some((cert, key)) = shown else {
            return trusting(self.trust.clone());
        };
        let chain: Vec<CertificateDer<'static>> = vec![cert.der().clone()];
        let key: PrivateKeyDer<'static> = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.trust.clone())
            .with_client_auth_cert(chain, key)
            .unwrap()
    }

    async fn login(
        &self,
        user: &str,
        password: &str,
        shown: Option<(rcgen::Certificate, KeyPair)>,
    ) -> Result<Raw, Frame> {
        let tcp = TcpStream::connect(self.pgdrover.address).await.unwrap();
        let mut raw = encrypt(tcp, self.client(shown)).await;
        raw.try_login(user, password, &self.pgdrover.database, &[])
            .await?;
        Ok(raw)
    }

    /// What a client that shows this hears at the end of the handshake, or of its first words.
    async fn is_cut(&self, shown: (rcgen::Certificate, KeyPair)) -> bool {
        let tcp = TcpStream::connect(self.pgdrover.address).await.unwrap();
        let mut raw = encrypt(tcp, self.client(Some(shown))).await;
        let startup = crate::support::say::startup(0, &[("user", demo::USER)]);
        let _ = raw.try_send(startup).await;
        raw.byte().await.is_none()
    }
}

#[tokio::test]
async fn the_common_name_is_the_user() {
    let g = guarded("auth_type = \"cert\"").await;
    let shown = || Some(g.authority.sign(demo::USER, 2999));
    let mut raw = g.login(demo::USER, "", shown()).await.unwrap();
    assert_eq!(raw.value("SELECT current_user").await, demo::USER);
    let words = "certificate authentication failed for user \"other\"";
    for (user, shown, expected) in [
        ("other", shown(), words),
        (
            demo::USER,
            None,
            "connection requires a valid client certificate",
        ),
        (
            "nobody",
            Some(g.authority.sign("nobody", 2999)),
            "role \"nobody\" does not exist",
        ),
    ] {
        let error = g.login(user, "x", shown).await.err().unwrap();
        assert_eq!(error.field(b'C'), "28000", "{error:?}");
        assert_eq!(error.field(b'M'), expected);
    }
    let mut plain = g.pgdrover.stranger().await;
    let login = plain.try_login(demo::USER, demo::PASSWORD, &g.pgdrover.database, &[]);
    assert_eq!(login.await.unwrap_err().field(b'C'), "28000");
}

#[tokio::test]
async fn only_what_the_authority_signed_counts() {
    let g = guarded("auth_type = \"cert\"").await;
    let another = Authority::new();
    assert!(g.is_cut(another.sign(demo::USER, 2999)).await);
    assert!(g.is_cut(g.authority.sign(demo::USER, 2021)).await);
    let own = self_signed();
    let key = KeyPair::from_pem(&own.signing_key.serialize_pem()).unwrap();
    assert!(g.is_cut((own.cert, key)).await);
}

/// Other methods neither need a certificate nor are content with one.
#[tokio::test]
async fn a_certificate_is_no_password() {
    let g = guarded("auth_type = \"scram-sha-256\"").await;
    let shown = Some(g.authority.sign(demo::USER, 2999));
    let error = g.login(demo::USER, "wrong", shown).await.err().unwrap();
    assert_eq!(error.field(b'C'), "28P01");
    assert!(g.login(demo::USER, demo::PASSWORD, None).await.is_ok());
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn psql_shows_its_certificate() {
    let g = guarded("auth_type = \"cert\"").await;
    let (cert, key) = g.authority.sign(demo::USER, 2999);
    let (cert_file, key_file) = (g.folder.path().join("c"), g.folder.path().join("k"));
    write(&cert_file, &cert.pem());
    write(&key_file, &key.serialize_pem());
    let psql = tokio::process::Command::new("psql")
        .args(["-XAtc", "SELECT 'hello'"])
        .env("PGHOST", "127.0.0.1")
        .env("PGPORT", g.pgdrover.address.port().to_string())
        .env("PGUSER", demo::USER)
        .env("PGDATABASE", &g.pgdrover.database)
        .env("PGSSLMODE", "require")
        .env("PGSSLROOTCERT", "/nonexistent")
        .env("PGSSLCERT", cert_file)
        .env("PGSSLKEY", key_file)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&psql.stderr);
    assert!(psql.status.success(), "{said}");
    assert_eq!(psql.stdout, b"hello\n");
}
