//! SIGHUP: the file and the certificates are read again, and nobody who is in notices.

use std::sync::Arc;

use pgdrover::demo;
use rustls::RootCertStore;
use tempfile::TempDir;

use crate::support::daemon::Setup;
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::program::Program;
use crate::support::raw::Raw;
use crate::support::tls::{encrypt, files, localhost, self_signed, trusting};

impl Program {
    /// An encrypted session, if its certificate is trusted.
    async fn session(&self, trust: &RootCertStore) -> Raw {
        let mut raw = encrypt(self.tcp().await, trusting(trust.clone())).await;
        raw.login(demo::USER, demo::PASSWORD, &self.database, &[])
            .await;
        raw
    }

    async fn shows(&self, trust: &RootCertStore) -> bool {
        let mut config = trusting(trust.clone());
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector
            .connect(localhost(), self.tcp().await)
            .await
            .is_ok()
    }

    async fn told(&self, user: &str, password: &str) -> String {
        let mut raw = Raw::new(self.tcp().await);
        match raw.try_login(user, password, &self.database, &[]).await {
            Ok(_) => "in".into(),
            Err(error) => error.field(b'C'),
        }
    }
}

/// A new certificate in the folder: the lines of `[session]` and who trusts it.
fn certificate(folder: &TempDir) -> (String, RootCertStore) {
    let made = self_signed();
    let mut trust = RootCertStore::empty();
    trust.add(made.cert.der().clone()).unwrap();
    (files(folder.path(), &made), trust)
}

#[tokio::test]
async fn certificates_are_replaced_under_live_sessions() {
    let db = TestDb::new("").await;
    let folder = tempfile::tempdir().unwrap();
    let (lines, first) = certificate(&folder);
    let setup = || Setup::solo(&db).with(&format!("[session]\n{lines}"));
    let program = Program::start(folder, &db, setup()).await;
    let mut early = program.session(&first).await;
    early.query("BEGIN").await;
    // Nothing in the configuration changed but the files that it names.
    let (_, second) = certificate(&program.folder);
    program.reload("certificates read anew").await;
    assert!(program.shows(&second).await && !program.shows(&first).await);
    // What is wrong is told, and changes nothing.
    std::fs::write(program.folder.path().join("key.pem"), "nonsense").unwrap();
    program.reload("the old configuration stays").await;
    let log = program.log.lock().unwrap().clone();
    assert!(log.contains("key.pem holds no private key"), "{log}");
    assert!(program.shows(&second).await);
    // Nor does a key of another certificate.
    let other = self_signed();
    let key = program.folder.path().join("key.pem");
    std::fs::write(key, other.signing_key.serialize_pem()).unwrap();
    program.reload("the old configuration stays").await;
    assert_eq!(program.session(&second).await.value("SELECT 2").await, "2");
    assert_eq!(early.value("SELECT 'still here'").await, "still here");
    early.query("COMMIT").await;
}

#[tokio::test]
async fn users_and_rules_are_replaced_and_the_rest_is_told() {
    let db = TestDb::new("").await;
    let as_app = "server_user = \"app\"\nserver_password = \"app\"";
    let user = |name: &str, password: &str| {
        format!("name = \"{name}\"\npassword = \"{password}\"\n{as_app}")
    };
    let setup = Setup::solo(&db).user(&user("guest", "old"));
    let program = Program::start(tempfile::tempdir().unwrap(), &db, setup).await;
    assert_eq!(program.told("guest", "old").await, "in");
    assert_eq!(program.told("late", "x").await, "28P01");
    let mut early = Raw::new(program.tcp().await);
    early.login("guest", "old", &db.name, &[]).await;
    let setup = Setup::solo(&db)
        .user(&user("guest", "new"))
        .user(&user("late", "x"))
        .with("[pool]\ndefault_pool_size = 7\n")
        .with("[[hba]]\nusers = [\"app\"]\nmethod = \"reject\"\n")
        .with("[[hba]]\nmethod = \"scram-sha-256\"");
    Program::write(&program.folder, setup, program.port);
    program.reload("only a restart").await;
    for (user, password, expected) in [
        ("guest", "new", "in"),
        ("guest", "old", "28P01"),
        ("late", "x", "in"),
        ("app", "app", "28000"),
    ] {
        assert_eq!(program.told(user, password).await, expected, "{user}");
    }
    let log = program.log.lock().unwrap().clone();
    let applied = "changed=[\"hba\", \"users.guest\", \"users.late\"]";
    assert!(log.contains(applied), "{log}");
    assert!(
        log.contains("part=\"pool\"") || log.contains("part=pool"),
        "{log}"
    );
    assert_eq!(early.value("SELECT 1").await, "1");
    // A broken file is told line by line, and changes nothing.
    std::fs::write(program.folder.path().join("pgdrover.toml"), "x = 1").unwrap();
    program.reload("the old configuration stays").await;
    let log = program.log.lock().unwrap().clone();
    assert!(log.contains("unknown key `x`"), "{log}");
    assert_eq!(program.told("late", "x").await, "in");
}

/// The pools keep the way in, not the password: a new one reaches them.
#[tokio::test]
async fn a_new_password_for_the_servers_reaches_the_pools() {
    let db = TestDb::new("").await;
    let admin = db.superuser().await;
    let role = "DROP ROLE IF EXISTS rotated; CREATE ROLE rotated LOGIN PASSWORD 'one'";
    admin.batch_execute(role).await.unwrap();
    let setup = |password: &str| {
        let line =
            format!("name = \"rotated\"\npassword = \"x\"\nserver_password = \"{password}\"");
        Setup::solo(&db).user(&line)
    };
    let pgdrover = setup("one").start().await;
    let mut raw = pgdrover.stranger().await;
    raw.login("rotated", "x", &db.name, &[]).await;
    let change = "ALTER ROLE rotated PASSWORD 'two'; SELECT count(pg_terminate_backend(pid)) \
                  FROM pg_stat_activity WHERE usename = 'rotated'";
    admin.batch_execute(change).await.unwrap();
    let gone = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'rotated'";
    eventually("the connections to end", async || {
        admin.query_one(gone, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    assert_eq!(raw.error("SELECT 1").await.0, "08001");
    let left = pgdrover.daemon.reload(&setup("two").config()).unwrap();
    assert!(left.is_empty(), "{left:?}");
    // The pool waits a moment after a failed login.
    eventually("the new password to be tried", async || {
        let frames = raw.query("SELECT current_user").await;
        frames.iter().any(|f| f.tag == b'D')
    })
    .await;
}
