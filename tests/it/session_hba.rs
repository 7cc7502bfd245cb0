//! `[[hba]]`: who may come from where, and by which proof.

use pgdrover::demo;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::raw::{Frame, Raw};
use crate::support::tls::{encrypt, files, self_signed, trusting};

async fn login(mut raw: Raw, pgdrover: &Running, user: &str, password: &str) -> Result<(), Frame> {
    raw.try_login(user, password, &pgdrover.database, &[])
        .await
        .map(|_| ())
}

async fn told(raw: Raw, pgdrover: &Running, user: &str, password: &str) -> String {
    match login(raw, pgdrover, user, password).await {
        Ok(()) => "in".into(),
        Err(e) => format!("{} {}", e.field(b'C'), e.field(b'M')),
    }
}

#[tokio::test]
async fn the_first_rule_that_fits_a_client_decides() {
    let db = TestDb::new("").await;
    let made = self_signed();
    let folder = tempfile::tempdir().unwrap();
    let port = demo::free_port();
    let rules = format!(
        "[session]\nauth_type = \"trust\"\n{}\n\n\
         [[hba]]\naddress = \"local\"\nusers = [\"app\"]\nmethod = \"trust\"\n\n\
         [[hba]]\naddress = \"10.0.0.0/8\"\nmethod = \"trust\"\n\n\
         [[hba]]\nusers = [\"nasty\"]\nmethod = \"reject\"\n\n\
         [[hba]]\ndatabases = [\"elsewhere\"]\nmethod = \"trust\"\n\n\
         [[hba]]\naddress = \"127.0.0.0/8\"\nusers = [\"old\"]\nmethod = \"md5\"\n\n\
         [[hba]]\naddress = \"127.0.0.1\"\ntls = true\nmethod = \"scram-sha-256\"",
        files(folder.path(), &made)
    );
    let as_app = "server_user = \"app\"\nserver_password = \"app\"";
    let hash = postgres_protocol::password::md5(b"x", "old");
    let pgdrover = Setup::solo(&db)
        .with(&rules)
        .user(&format!("name = \"old\"\npassword = \"{hash}\"\n{as_app}"))
        .user(&format!("name = \"nasty\"\npassword = \"x\"\n{as_app}"))
        .listener(&format!(
            "unix_socket_dir = \"{}\"",
            folder.path().display()
        ))
        .port(port)
        .start()
        .await;
    let mut trust = rustls::RootCertStore::empty();
    trust.add(made.cert.der().clone()).unwrap();
    let tcp = async || {
        tokio::net::TcpStream::connect(pgdrover.address)
            .await
            .unwrap()
    };
    let plain = async || Raw::new(tcp().await);
    let tls = async || encrypt(tcp().await, trusting(trust.clone())).await;
    let unix = async || {
        let path = folder.path().join(format!(".s.PGSQL.{port}"));
        Raw::new(tokio::net::UnixStream::connect(path).await.unwrap())
    };
    let d = &db.name;
    let none = |host: &str, user: &str, how: &str| {
        format!(
            "28000 no entry in pgdrover's [[hba]] for host \"{host}\", user \"{user}\", \
             database \"{d}\", {how}"
        )
    };
    let p = &pgdrover;
    assert_eq!(told(unix().await, p, "app", "wrong").await, "in");
    let expected = none("[local]", "old", "no encryption");
    assert_eq!(told(unix().await, p, "old", "x").await, expected);
    let expected = none("127.0.0.1", "app", "no encryption");
    assert_eq!(told(plain().await, p, "app", "app").await, expected);
    assert_eq!(told(tls().await, p, "app", "app").await, "in");
    let wrong = told(tls().await, p, "app", "wrong").await;
    assert!(wrong.starts_with("28P01"), "{wrong}");
    for raw in [plain().await, tls().await] {
        let rejected = told(raw, p, "nasty", "x").await;
        assert!(
            rejected.starts_with("28000 pgdrover's [[hba]] rejects"),
            "{rejected}"
        );
    }
    assert_eq!(told(plain().await, p, "old", "x").await, "in");
    let wrong = told(plain().await, p, "old", "y").await;
    assert!(wrong.starts_with("28P01"), "{wrong}");
}
