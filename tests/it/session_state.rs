//! What belongs to one session is seen by that session alone, whatever server connection it has.

use std::time::Duration;

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::eventually;
use crate::support::raw::Raw;
use crate::support::say;

const ONE: &str = "[pool]\ndefault_pool_size = 1";

async fn one_connection(setup: &str) -> (TestDb, Running) {
    let db = TestDb::new(setup).await;
    let pgdrover = Setup::solo(&db).with(ONE).start().await;
    (db, pgdrover)
}

/// The process that serves the client.
async fn server_pid(client: &mut Raw) -> String {
    client.value("SELECT pg_backend_pid()").await
}

#[tokio::test]
async fn settings_follow_their_session_and_no_other() {
    let (_db, pgdrover) = one_connection("").await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    assert_eq!(server_pid(&mut a).await, server_pid(&mut b).await);
    let default = b.value("SHOW work_mem").await;
    a.query("SET work_mem = '1MB'").await;
    a.query("SET search_path = \"A b\", c").await;
    assert_eq!(b.value("SHOW work_mem").await, default);
    b.query("SET work_mem = '2MB'").await;
    for _ in 0..3 {
        assert_eq!(a.value("SHOW work_mem").await, "1MB");
        assert_eq!(b.value("SHOW work_mem").await, "2MB");
    }
    assert_eq!(a.value("SHOW search_path").await, "\"A b\", c");
    b.query("BEGIN; SET work_mem = '3MB'").await;
    assert_eq!(b.value("SHOW work_mem").await, "3MB");
    b.query("ROLLBACK").await;
    assert_eq!(a.value("SHOW work_mem").await, "1MB");
    assert_eq!(b.value("SHOW work_mem").await, "2MB");
    // Committed, though the text fails after it.
    b.query("BEGIN; SET work_mem = '4MB'; COMMIT; SELECT 1/0")
        .await;
    assert_eq!(a.value("SHOW work_mem").await, "1MB");
    assert_eq!(b.value("SHOW work_mem").await, "4MB");
    b.query("DISCARD ALL").await;
    assert_eq!(b.value("SHOW work_mem").await, default);
    drop(a);
    assert_eq!(pgdrover.raw().await.value("SHOW work_mem").await, default);
}

#[tokio::test]
async fn settings_follow_to_another_connection() {
    let db = TestDb::new("").await;
    let pgdrover = Setup::solo(&db).start().await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    a.query("SET work_mem = '1MB'").await;
    let before = server_pid(&mut a).await;
    // B takes A's connection and keeps it.
    b.query("BEGIN").await;
    assert_eq!(server_pid(&mut b).await, before);
    assert_ne!(server_pid(&mut a).await, before);
    assert_eq!(a.value("SHOW work_mem").await, "1MB");
    assert_ne!(b.value("SHOW work_mem").await, "1MB");
}

#[tokio::test]
async fn startup_settings_hold_and_reset_goes_back_to_them() {
    let (_db, pgdrover) = one_connection("").await;
    let tcp = tokio::net::TcpStream::connect(pgdrover.address)
        .await
        .unwrap();
    let mut a = Raw::new(tcp);
    let settings = [
        (
            "options",
            "-c work_mem=1MB --geqo=off -c search_path=x,\\ y",
        ),
        ("work_mem", "2MB"),
        ("DateStyle", "German"),
    ];
    a.login("app", "app", &pgdrover.database, &settings).await;
    let shown = async |a: &mut Raw| {
        let mut all = Vec::new();
        for name in ["work_mem", "geqo", "search_path", "DateStyle"] {
            all.push(a.value(&format!("SHOW {name}")).await);
        }
        all
    };
    let wanted = ["2MB", "off", "x, y", "German, DMY"];
    assert_eq!(shown(&mut a).await, wanted);
    let style = a.parameters.iter().find(|(n, _)| n == "DateStyle").unwrap();
    assert_eq!(style.1, "German, DMY");
    a.query("SET work_mem = '3MB'").await;
    a.query("SET geqo = on").await;
    a.query("RESET work_mem").await;
    assert_eq!(a.value("SHOW work_mem").await, "2MB");
    a.query("SET work_mem TO DEFAULT").await;
    a.query("RESET ALL").await;
    assert_eq!(shown(&mut a).await, wanted);
    let mut b = pgdrover.raw().await;
    assert_ne!(b.value("SHOW DateStyle").await, "German, DMY");
}

#[tokio::test]
async fn statements_follow_and_names_are_private() {
    let (_db, pgdrover) = one_connection("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    for (client, sql) in [(&mut a, "SELECT 'a'"), (&mut b, "SELECT 'b'")] {
        client
            .send([say::parse("s", sql), say::sync()].concat())
            .await;
        client.ready().await;
    }
    let run = [say::bind("", "s", &[]), say::execute("", 0), say::sync()].concat();
    for _ in 0..3 {
        for (client, wanted) in [(&mut a, "a"), (&mut b, "b")] {
            client.send(&run).await;
            let frames = client.ready().await;
            assert_eq!(frames[1].values()[0].as_deref(), Some(wanted), "{frames:?}");
        }
    }
}

/// Lesson 10.
#[tokio::test]
async fn statements_survive_eviction_and_a_change_of_connection() {
    let db = TestDb::new("").await;
    let setup = Setup::solo(&db).with("[pool]\nmax_prepared_statements = 2");
    let pgdrover = setup.start().await;
    let (mut a, mut holder) = (pgdrover.raw().await, pgdrover.raw().await);
    for i in 0..6 {
        let parse = say::parse(&format!("s{i}"), &format!("SELECT {i} + $1::int"));
        a.send([parse, say::sync()].concat()).await;
        a.ready().await;
    }
    for round in 0..4 {
        // Every other round on another server connection.
        holder
            .query(if round % 2 == 0 { "BEGIN" } else { "COMMIT" })
            .await;
        holder.value("SELECT 1").await;
        let mut batch = Vec::new();
        for i in [5, 0, 1, 1, 4, 2, 3, 0] {
            let name = format!("s{i}");
            batch.extend(say::describe_statement(&name));
            batch.extend(say::bind("", &name, &[Some("100")]));
            batch.extend(say::execute("", 0));
        }
        batch.extend(say::sync());
        a.send(&batch).await;
        let frames = a.ready().await;
        let rows = frames.iter().filter(|f| f.tag == b'D');
        let rows: Vec<_> = rows.map(|f| f.values()[0].clone().unwrap()).collect();
        let wanted = ["105", "100", "101", "101", "104", "102", "103", "100"];
        assert_eq!(rows, wanted, "{frames:?}");
        // An error between them does not confuse who has what.
        let bad = [
            say::bind("", "s1", &[Some("x")]),
            say::bind("", "s5", &[Some("1")]),
            say::sync(),
        ];
        a.send(bad.concat()).await;
        assert!(a.ready().await.iter().any(|f| f.tag == b'E'));
    }
}

/// After a change of the schema drivers prepare again, while others still have the old statement.
#[tokio::test]
async fn a_stale_statement_can_be_prepared_again() {
    let (db, pgdrover) = one_connection("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    let prepare = [say::parse("s", "SELECT * FROM t"), say::sync()].concat();
    let run = [say::bind("", "s", &[]), say::execute("", 0), say::sync()].concat();
    for client in [&mut a, &mut b] {
        client.send([prepare.clone(), run.clone()].concat()).await;
        client.ready().await;
        assert_eq!(client.ready().await[1].values().len(), 1);
    }
    let owner = db.owner().await;
    owner
        .batch_execute("ALTER TABLE t ADD COLUMN b int")
        .await
        .unwrap();
    for client in [&mut a, &mut b] {
        client.send(&run).await;
        let frames = client.ready().await;
        assert_eq!(frames[0].field(b'C'), "0A000", "{frames:?}");
        let again = [say::close_statement("s"), prepare.clone(), run.clone()].concat();
        client.send(again).await;
        client.ready().await;
        let frames = client.ready().await;
        assert_eq!(frames[1].values().len(), 2, "{frames:?}");
    }
}

#[tokio::test]
async fn a_text_in_another_encoding_is_prepared_as_it_is() {
    let (_db, pgdrover) = one_connection("").await;
    let mut client = pgdrover.raw().await;
    client.query("SET client_encoding = 'LATIN1'").await;
    let mut body = b"latin\0SELECT length('\xe9'), '\xe9' = chr(233)\0".to_vec();
    body.extend([0, 0]);
    let batch = [
        say::frame(b'P', &body),
        say::bind("", "latin", &[]),
        say::execute("", 0),
        say::sync(),
    ];
    client.send(batch.concat()).await;
    let frames = client.ready().await;
    let values = frames.iter().find(|f| f.tag == b'D').map(|f| f.values());
    let wanted = ["1", "t"].map(|v| Some(v.to_owned()));
    assert_eq!(values.as_deref(), Some(&wanted[..]), "{frames:?}");
}

#[tokio::test]
async fn a_pinned_session_keeps_its_connection_and_hears_at_rest() {
    let (db, pgdrover) = {
        let db = TestDb::new("").await;
        let pgdrover = Setup::replicated(&db).start().await;
        (db, pgdrover)
    };
    let (mut listener, mut other) = (pgdrover.raw().await, pgdrover.raw().await);
    listener.query("LISTEN news").await;
    let pid = server_pid(&mut listener).await;
    let owner = db.owner().await;
    owner.batch_execute("NOTIFY news, 'hello'").await.unwrap();
    let heard = listener.frame().await.unwrap();
    assert_eq!(heard.tag, b'A');
    assert!(String::from_utf8_lossy(&heard.body).contains("hello"));
    assert!(!heard.body.starts_with(&listener.key.0.to_be_bytes()));
    // It knows its own by the number that it was given at login.
    listener
        .send(say::query("BEGIN; NOTIFY news, 'mine'; COMMIT"))
        .await;
    let mut frames = listener.until(b"A").await;
    let own = frames.pop().unwrap();
    assert!(own.body.starts_with(&listener.key.0.to_be_bytes()));
    if frames.iter().all(|f| f.tag != b'Z') {
        listener.ready().await;
    }
    for _ in 0..3 {
        assert_eq!(server_pid(&mut listener).await, pid);
        assert_ne!(server_pid(&mut other).await, pid);
    }
    // What DISCARD ALL frees is clean for the next.
    listener.query("SET work_mem = '1MB'").await;
    listener.query("DISCARD ALL").await;
    other.query("NOTIFY news, 'nobody listens'").await;
    assert!(
        listener
            .frame_within(Duration::from_millis(100))
            .await
            .is_none()
    );
    assert_ne!(listener.value("SHOW work_mem").await, "1MB");
}

#[tokio::test]
async fn temporary_tables_and_advisory_locks_stay_with_their_session() {
    let db = TestDb::new("").await;
    let pgdrover = Setup::replicated(&db).start().await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    a.query("CREATE TEMP TABLE mine (x int)").await;
    a.query("INSERT INTO mine VALUES (1)").await;
    assert_eq!(a.value("SELECT count(*) FROM mine").await, "1");
    assert_eq!(b.error("SELECT count(*) FROM mine").await.0, "42P01");
    a.query("SELECT pg_advisory_lock(5)").await;
    assert_eq!(b.value("SELECT pg_try_advisory_lock(5)").await, "f");
    drop(a);
    eventually("the lock to be free", async || {
        b.value("SELECT pg_try_advisory_lock(5)").await == "t"
    })
    .await;
}

#[tokio::test]
async fn session_pooling_keeps_one_connection_until_the_client_leaves() {
    let db = TestDb::new("").await;
    let setup = Setup::solo(&db).with("[pool]\npool_mode = \"session\"\ndefault_pool_size = 2");
    let pgdrover = setup.start().await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    let (pa, pb) = (server_pid(&mut a).await, server_pid(&mut b).await);
    assert_ne!(pa, pb);
    a.query("SET work_mem = '1MB'").await;
    a.query("SELECT set_config('geqo', 'off', false)").await;
    for _ in 0..3 {
        assert_eq!(server_pid(&mut a).await, pa);
        assert_eq!(server_pid(&mut b).await, pb);
    }
    a.send(say::terminate()).await;
    let mut c = pgdrover.raw().await;
    assert_eq!(server_pid(&mut c).await, pa);
    assert_ne!(c.value("SHOW work_mem").await, "1MB");
    assert_eq!(c.value("SHOW geqo").await, "on");
}

#[tokio::test]
async fn what_stays_on_a_connection_binds_the_session_however_it_is_spelt() {
    let db = TestDb::new("").await;
    let pgdrover = Setup::solo(&db).start().await;
    for sql in [
        "CREATE TYPE pg_temp.mood AS ENUM ('sad')",
        "SELECT 1 AS a INTO pg_temp.t",
        "EXPLAIN ANALYZE SELECT pg_advisory_lock(1)",
        "COPY (SELECT pg_advisory_lock(2)) TO STDOUT",
    ] {
        let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
        a.query(sql).await;
        assert_ne!(server_pid(&mut a).await, server_pid(&mut b).await, "{sql}");
    }
}

/// Names and texts are bounded; what is refused costs nobody a statement that is there.
#[tokio::test]
async fn prepared_statements_are_bounded() {
    let db = TestDb::new("").await;
    let limits = "[session]\nmax_client_statements = 5\nmax_statement_memory = 12000";
    let pgdrover = Setup::solo(&db).with(limits).start().await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    let parse = async |client: &mut Raw, name: &str, sql: &str| {
        client
            .send([say::parse(name, sql), say::sync()].concat())
            .await;
        let frames = client.ready().await;
        let error = frames.iter().find(|f| f.tag == b'E');
        error.map(|f| f.field(b'C')).unwrap_or_default()
    };
    for n in 0..5 {
        assert_eq!(
            parse(&mut a, &format!("s{n}"), &format!("SELECT {n}")).await,
            ""
        );
    }
    assert_eq!(parse(&mut a, "s5", "SELECT 5").await, "53400");
    assert_eq!(a.error("PREPARE s6 AS SELECT 6").await.0, "53400");
    // A shared text costs nothing, a long one too much.
    assert_eq!(parse(&mut b, "same", "SELECT 4").await, "");
    let long = format!("SELECT '{}'", "x".repeat(4000));
    assert_eq!(parse(&mut b, "long", &long).await, "53400");
    assert_eq!(b.error(&format!("PREPARE long AS {long}")).await.0, "53400");
    for (client, name, value) in [(&mut a, "s3", "3"), (&mut b, "same", "4")] {
        let run = [say::bind("", name, &[]), say::execute("", 0), say::sync()];
        client.send(run.concat()).await;
        let frames = client.ready().await;
        assert_eq!(frames[1].values()[0].as_deref(), Some(value));
    }
    a.query("DEALLOCATE ALL").await;
    assert_eq!(parse(&mut b, "long", &long).await, "");
    assert_eq!(parse(&mut a, "s5", "SELECT 5").await, "");
}

/// A statement that SQL prepared can be prepared again after a change of the schema.
#[tokio::test]
async fn a_stale_statement_of_sql_can_be_prepared_again() {
    let (db, pgdrover) = one_connection("CREATE TABLE t (a int); INSERT INTO t VALUES (7)").await;
    let mut client = pgdrover.raw().await;
    client.query("PREPARE q AS SELECT * FROM t").await;
    assert_eq!(client.value("EXECUTE q").await, "7");
    let owner = db.owner().await;
    owner
        .batch_execute("ALTER TABLE t ALTER a TYPE text")
        .await
        .unwrap();
    assert_eq!(client.error("EXECUTE q").await.0, "0A000");
    client.query("DEALLOCATE q").await;
    client.query("PREPARE q AS SELECT * FROM t").await;
    assert_eq!(client.value("EXECUTE q").await, "7");
}
