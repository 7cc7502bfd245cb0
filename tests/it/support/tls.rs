//! Certificates, pgdrover with one, and somebody who sits in between with another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::daemon::{Running, Setup};
use super::database::TestDb;
use super::raw::Raw;
use super::say;

/// A certificate for localhost, signed by itself.
pub(crate) fn self_signed() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap()
}

/// The lines of `[session]` that name a certificate's files.
pub(crate) fn files(folder: &Path, made: &CertifiedKey<KeyPair>) -> String {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    format!(
        "client_tls_cert_file = \"{}\"\nclient_tls_key_file = \"{}\"",
        cert.display(),
        key.display()
    )
}

/// pgdrover with a certificate for localhost, and a client's side that trusts it.
pub(crate) struct Encrypted {
    pub(crate) db: TestDb,
    pub(crate) pgdrover: Running,
    trust: RootCertStore,
    folder: TempDir,
}

/// pgdrover before a database, with `client_tls_mode`.
pub(crate) async fn encrypted(mode: &str) -> Encrypted {
    let made = self_signed();
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path(), &made);
    let mut trust = RootCertStore::empty();
    trust.add(made.cert.der().clone()).unwrap();
    let db = TestDb::new("").await;
    let session = format!("[session]\nclient_tls_mode = \"{mode}\"\n{files}");
    Encrypted {
        pgdrover: Setup::solo(&db).with(&session).start().await,
        db,
        trust,
        folder,
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client's side that trusts these.
pub(crate) fn trusting(trust: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trust)
        .with_no_client_auth()
}

impl Encrypted {
    /// Whom a client trusts.
    pub(crate) fn trust(&self) -> RootCertStore {
        self.trust.clone()
    }

    /// A client's side.
    pub(crate) fn client_config(&self) -> ClientConfig {
        trusting(self.trust())
    }

    /// The same, negotiating directly with `alpn`.
    pub(crate) fn client(&self, alpn: bool) -> TlsConnector {
        let mut config = self.client_config();
        if alpn {
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        TlsConnector::from(Arc::new(config))
    }

    /// Where its certificate is.
    pub(crate) fn cert_file(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// A connection on which nothing was said yet.
    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.pgdrover.address).await.unwrap()
    }

    /// A raw client that is encrypted and said nothing else.
    pub(crate) async fn stranger(&self) -> Raw {
        encrypt(self.tcp().await, self.client_config()).await
    }
}

/// Asks for encryption and gets it.
pub(crate) async fn encrypt(tcp: TcpStream, config: ClientConfig) -> Raw {
    let mut asked = Raw::new(tcp);
    asked.send(say::packet(&[say::SSL_REQUEST])).await;
    assert_eq!(asked.byte().await, Some(b'S'));
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(localhost(), asked.into_stream()).await;
    Raw::new(stream.unwrap())
}

/// The name in the certificates.
pub(crate) fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Somebody between a client and `target`, with a certificate of their own, who relays what they
/// read. Returns the port.
pub(crate) async fn man_in_the_middle(target: std::net::SocketAddr, trust: RootCertStore) -> u16 {
    let made = self_signed();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let connector = TlsConnector::from(Arc::new(trusting(trust)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, connector) = (acceptor.clone(), connector.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await.ok()?;
                client.write_all(b"S").await.ok()?;
                let mut client = acceptor.accept(client).await.ok()?;
                let mut server = TcpStream::connect(target).await.ok()?;
                server.write_all(&request).await.ok()?;
                assert_eq!(server.read_u8().await.ok()?, b'S');
                let mut server = connector.connect(localhost(), server).await.ok()?;
                tokio::io::copy_bidirectional(&mut client, &mut server)
                    .await
                    .ok()
            });
        }
    });
    port
}
