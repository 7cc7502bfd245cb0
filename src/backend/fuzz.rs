//! What a server says at login, broken in every way and cut anywhere.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;

use super::connect::connect;
use super::{Login, ServerSecret, ServerTlsMode, Tls};
use crate::fuzz::{Rng, run};
use crate::topology::Address;

/// Logins as a server answers them; what a client says between is ignored.
const LOGINS: [&[u8]; 6] = [
    b"R\0\0\0\x08\0\0\0\0S\0\0\0\x11TimeZone\0UTC\0S\0\0\0\x16in_hot_standby\0on\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I",
    b"R\0\0\0\x0c\0\0\0\x05saltR\0\0\0\x08\0\0\0\0K\0\0\0\x0c\0\0\0\x01\0\0\0\x02Z\0\0\0\x05I",
    b"R\0\0\0\x08\0\0\0\x03R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I",
    b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R\0\0\0\x22\0\0\0\x0br=abcd,s=c2FsdA==,i=4096",
    b"N\0\0\0\x0cSNOTICE\0\0E\0\0\0\x24SFATAL\0VFATAL\0C28P01\0Mno password\0\0",
    b"v\0\0\0\x0c\0\0\0\0\0\0\0\0R\0\0\0\x08\0\0\0\0K\0\0\0\x18\0\0\0\x010123456789abcdefZ\0\0\0\x05I",
];

const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\0\0\0\x04",
    b"R\0\0\0\x08\0\0\0\0",
    b"R\0\0\0\x04",
    b"R\0\0\0\x09\0\0\0\x05",
    b"R\0\0\0\x08\0\0\0\x0a",
    b"R\0\0\0\x08\0\0\0\x0b",
    b"R\0\0\0\x08\0\0\0\x0c",
    b"R\0\0\0\x08\0\0\0\x07",
    b"R\0\0\0\x08\0\0\0\x08",
    b"S\0\0\0\x05x",
    b"K\0\0\0\x04",
    b"K\0\0\0\x08\0\0\0\x01",
    b"Z\0\0\0\x05I",
    b"Z\0\0\0\x04",
    b"E\0\0\0\x05\0",
    b"SCRAM-SHA-256\0",
    b"\xff",
];

struct Server {
    listener: UnixListener,
    address: Address,
    login: Login,
    tls: Tls,
}

impl Server {
    fn new(folder: &tempfile::TempDir) -> Server {
        Server {
            listener: UnixListener::bind(folder.path().join(".s.PGSQL.1")).unwrap(),
            address: Address {
                host: folder.path().to_str().unwrap().into(),
                port: 1,
            },
            login: Login {
                user: "u".into(),
                secret: Arc::new(ServerSecret::new(Some("secret"))),
                dbname: "d".into(),
            },
            tls: Tls {
                mode: ServerTlsMode::Disable,
                config: None,
            },
        }
    }

    /// What a login comes to when the server says these chunks.
    async fn says(&self, chunks: &[&[u8]]) -> String {
        let (done, finished) = tokio::sync::oneshot::channel();
        let serve = async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            for chunk in chunks {
                // A client that has heard enough closes.
                if stream.write_all(chunk).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let _ = stream.shutdown().await;
            let _ = finished.await;
        };
        let log_in = async {
            let outcome = connect(&self.address, &self.login, &self.tls).await;
            let _ = done.send(());
            match outcome {
                Ok(l) => format!("{:?} {:?} {}", l.parameters, l.key, l.in_recovery),
                Err(error) => error.to_string(),
            }
        };
        tokio::join!(serve, log_in).1
    }
}

#[test]
fn fuzz_logins_are_the_same_in_any_split() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::new(&folder);
    let make = |rng: &mut Rng| rng.bytes(&LOGINS, TOKENS);
    run("fuzz_logins", 500, make, |bytes: &Vec<u8>, rng| {
        let whole = runtime.block_on(server.says(&[bytes]));
        let cut = runtime.block_on(server.says(&rng.chunks(bytes)));
        assert_eq!(cut, whole);
    });
}
