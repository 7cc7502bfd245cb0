//! Users that only the servers know: auth_query, and logins to the servers by what clients prove.

use pgdrover::demo;

use crate::support::cluster::shared;
use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::raw::{Frame, Raw};

/// The lines of `[session]` by which the superuser looks users up.
fn auth_user() -> String {
    format!("[session]\nauth_user = \"{}\"", shared().superuser)
}

/// pgdrover whose `session` section is given, with the superuser among its users.
fn asking(db: &TestDb, session: &str) -> Setup {
    let (user, password) = (&shared().superuser, &shared().superuser_password);
    Setup::solo(db)
        .with(session)
        .user(&format!("name = \"{user}\"\npassword = \"{password}\""))
}

async fn role(db: &TestDb, name: &str, attributes: &str) {
    let sql = format!("DROP ROLE IF EXISTS {name}; CREATE ROLE {name} {attributes}");
    db.superuser().await.batch_execute(&sql).await.unwrap();
}

async fn login_with(
    pgdrover: &Running,
    user: &str,
    password: &str,
    settings: &[(&str, &str)],
) -> Result<Raw, Frame> {
    let mut raw = pgdrover.stranger().await;
    raw.try_login(user, password, &pgdrover.database, settings)
        .await?;
    Ok(raw)
}

async fn login(pgdrover: &Running, user: &str, password: &str) -> Result<Raw, Frame> {
    login_with(pgdrover, user, password, &[]).await
}

async fn code(pgdrover: &Running, user: &str, password: &str) -> String {
    match login(pgdrover, user, password).await {
        Ok(_) => "in".into(),
        Err(error) => error.field(b'C'),
    }
}

#[tokio::test]
async fn a_user_whom_only_the_servers_know_logs_in_by_what_it_proves() {
    let db = TestDb::new("").await;
    role(&db, "known_to_servers", "LOGIN PASSWORD 'x'").await;
    let pgdrover = asking(&db, &auth_user()).start().await;
    let mut raw = login(&pgdrover, "known_to_servers", "x").await.unwrap();
    assert_eq!(raw.value("SELECT current_user").await, "known_to_servers");
    for (user, password) in [("known_to_servers", "y"), ("no_such_role", "x")] {
        let error = login(&pgdrover, user, password).await.err().unwrap();
        assert_eq!(error.field(b'C'), "28P01");
        let words = format!("password authentication failed for user \"{user}\"");
        assert_eq!(error.field(b'M'), words);
    }
    // Those of the configuration are not looked up: their own password counts.
    assert_eq!(code(&pgdrover, demo::USER, demo::PASSWORD).await, "in");
}

/// CVE-2025-2291: a password whose time is over lets nobody in.
#[tokio::test]
async fn a_password_is_valid_until_its_time_is_over() {
    let db = TestDb::new("").await;
    let pgdrover = asking(&db, &auth_user()).start().await;
    for (name, attributes, expected) in [
        ("until_past", "LOGIN VALID UNTIL '2001-01-01'", "28P01"),
        ("until_future", "LOGIN VALID UNTIL '2999-01-01'", "in"),
        ("until_ever", "LOGIN VALID UNTIL 'infinity'", "in"),
        ("until_group", "NOLOGIN", "28P01"),
    ] {
        role(&db, name, &format!("{attributes} PASSWORD 'x'")).await;
        assert_eq!(code(&pgdrover, name, "x").await, expected, "{name}");
    }
    // pgdrover itself says so: the server, which would too, is not even asked.
    let error = login(&pgdrover, "until_past", "x").await.err().unwrap();
    let words = "password authentication failed for user \"until_past\"";
    assert_eq!(error.field(b'M'), words);
    role(&db, "until_null", "LOGIN").await;
    assert_eq!(code(&pgdrover, "until_null", "").await, "28P01");
}

/// CVE-2025-12819: a client's search_path, or anybody's who may set it for a role or database, must
/// not decide which objects auth_query means.
#[tokio::test]
async fn nobodys_search_path_reaches_the_query() {
    let db = TestDb::new("CREATE SCHEMA evil").await;
    role(&db, "victim", "LOGIN PASSWORD 'right'").await;
    let forged = postgres_protocol::password::scram_sha_256(b"forged");
    let sql = format!(
        "CREATE VIEW evil.pg_authid AS SELECT 'victim'::text AS rolname, '{forged}'::text AS \
         rolpassword; GRANT USAGE ON SCHEMA evil TO PUBLIC; GRANT SELECT ON evil.pg_authid TO \
         PUBLIC; ALTER DATABASE {} SET search_path = evil, pg_catalog",
        db.name
    );
    db.superuser().await.batch_execute(&sql).await.unwrap();
    let lax = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1";
    let session = format!("{}\nauth_query = \"{lax}\"", auth_user());
    let pgdrover = asking(&db, &session).start().await;
    for settings in [
        &[("search_path", "evil, pg_catalog")][..],
        &[("options", "-c search_path=evil,pg_catalog")],
        &[],
    ] {
        let forged = login_with(&pgdrover, "victim", "forged", settings).await;
        assert_eq!(forged.err().unwrap().field(b'C'), "28P01");
    }
    let mut raw = login(&pgdrover, "victim", "right").await.unwrap();
    assert_eq!(raw.value("SELECT current_user").await, "victim");
}

/// PostgreSQL cuts names after 63 bytes, and would let in by another's password.
#[tokio::test]
async fn a_name_too_long_is_nobodys() {
    let db = TestDb::new("").await;
    let name = "n".repeat(63);
    role(&db, &name, "LOGIN PASSWORD 'x'").await;
    let pgdrover = asking(&db, &auth_user()).start().await;
    assert_eq!(code(&pgdrover, &name, "x").await, "in");
    assert_eq!(code(&pgdrover, &format!("{name}n"), "x").await, "28P01");
}

#[tokio::test]
async fn a_changed_password_is_one_clear_error_until_the_next_login() {
    let db = TestDb::new("").await;
    role(&db, "changing", "LOGIN PASSWORD 'old'").await;
    let pgdrover = asking(&db, &auth_user()).start().await;
    let mut early = login(&pgdrover, "changing", "old").await.unwrap();
    early.value("SELECT 1").await;
    let change = "ALTER ROLE changing PASSWORD 'new'; SELECT count(pg_terminate_backend(pid)) FROM \
                  pg_stat_activity WHERE usename = 'changing'";
    let admin = db.superuser().await;
    admin.batch_execute(change).await.unwrap();
    let gone = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'changing'";
    eventually("the connections to end", async || {
        admin.query_one(gone, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    for _ in 0..3 {
        let frames = early.query("SELECT 1").await;
        let errors: Vec<_> = frames.iter().filter(|f| f.tag == b'E').collect();
        assert_eq!(errors.len(), 1, "{frames:?}");
        assert_eq!(errors[0].field(b'C'), "28P01", "{frames:?}");
        assert!(errors[0].field(b'M').contains("changing"), "{frames:?}");
        assert!(errors[0].field(b'H').contains("Log in again"));
    }
    // The new password is found out without waiting for what is remembered to grow old.
    eventually("the new password to be known", async || {
        code(&pgdrover, "changing", "new").await == "in"
    })
    .await;
    assert_eq!(code(&pgdrover, "changing", "old").await, "28P01");
    // What the new login proved serves the old session too.
    assert_eq!(early.value("SELECT current_user").await, "changing");
}

#[tokio::test]
async fn a_verifier_in_the_file_is_enough_if_the_servers_have_the_same() {
    let db = TestDb::new("").await;
    role(&db, "by_verifier", "LOGIN PASSWORD 'x'").await;
    role(&db, "by_other_verifier", "LOGIN PASSWORD 'x'").await;
    let admin = db.superuser().await;
    let stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'by_verifier'";
    let stored: String = admin.query_one(stored, &[]).await.unwrap().get(0);
    let pgdrover = Setup::solo(&db)
        .user(&format!("name = \"by_verifier\"\npassword = \"{stored}\""))
        .user(&format!(
            "name = \"by_other_verifier\"\npassword = \"{stored}\""
        ))
        .start()
        .await;
    let mut raw = login(&pgdrover, "by_verifier", "x").await.unwrap();
    assert_eq!(raw.value("SELECT current_user").await, "by_verifier");
    let error = login(&pgdrover, "by_other_verifier", "x").await;
    let error = error.err().unwrap();
    assert_eq!(error.field(b'C'), "28P01");
    assert!(error.field(b'M').contains("proven"), "{error:?}");
}

/// A query of one's own, which needs no superuser; and how often it is asked.
#[tokio::test]
async fn answers_are_remembered_for_their_time() {
    let db = TestDb::new("").await;
    role(&db, "remembered", "LOGIN PASSWORD 'x'").await;
    let sql = "CREATE SCHEMA door; CREATE TABLE door.asked (name text); \
               CREATE FUNCTION door.lookup(name text) RETURNS TABLE (n text, p text) LANGUAGE sql \
               SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ \
               INSERT INTO door.asked VALUES ($1); \
               SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1 $$; \
               GRANT USAGE ON SCHEMA door TO app";
    let admin = db.superuser().await;
    admin.batch_execute(sql).await.unwrap();
    let asked = async |pgdrover: Running| {
        admin.batch_execute("TRUNCATE door.asked").await.unwrap();
        for _ in 0..3 {
            assert_eq!(code(&pgdrover, "remembered", "x").await, "in");
        }
        let sql = "SELECT count(*) FROM door.asked";
        admin.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)
    };
    let session = "[session]\nauth_user = \"app\"\n\
                   auth_query = \"SELECT * FROM door.lookup($1)\"";
    let pgdrover = Setup::solo(&db).with(session).start().await;
    assert_eq!(asked(pgdrover).await, 1);
    let session = format!("{session}\nauth_query_cache_time = \"0s\"");
    let pgdrover = Setup::solo(&db).with(&session).start().await;
    assert_eq!(asked(pgdrover).await, 3);
}

#[tokio::test]
async fn strangers_are_not_told_why_nobody_can_be_looked_up() {
    let db = TestDb::new("").await;
    for session in [
        // Not allowed to read pg_authid.
        "[session]\nauth_user = \"app\"",
        "[session]\nauth_user = \"app\"\nauth_query = \"SELECT nonsense\"",
    ] {
        let pgdrover = Setup::solo(&db).with(session).start().await;
        for _ in 0..2 {
            let error = login(&pgdrover, "whoever", "x").await.err().unwrap();
            assert_eq!(error.field(b'C'), "57P03", "{error:?}");
            assert_eq!(error.field(b'M'), "cannot look up user \"whoever\"");
        }
        assert_eq!(code(&pgdrover, demo::USER, demo::PASSWORD).await, "in");
    }
    // An answer that is another's is no answer.
    let session = format!(
        "{}\nauth_query = \"SELECT 'app', rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1\"",
        auth_user()
    );
    role(&db, "misnamed", "LOGIN PASSWORD 'x'").await;
    let pgdrover = asking(&db, &session).start().await;
    assert_eq!(code(&pgdrover, "misnamed", "x").await, "28P01");
}
