//! Prepared statements: whose they are, and on which server connections.

use crate::support::daemon::{Running, Setup};
use crate::support::database::TestDb;
use crate::support::raw::{Frame, Raw};
use crate::support::say;

const ONE: &str = "[pool]\ndefault_pool_size = 1";

async fn one_connection(setup: &str) -> (TestDb, Running) {
    let db = TestDb::new(setup).await;
    let pgdrover = Setup::solo(&db).with(ONE).start().await;
    (db, pgdrover)
}

/// Sends messages and a Sync behind them.
async fn ask(client: &mut Raw, messages: &[Vec<u8>]) -> Vec<Frame> {
    client.send([messages.concat(), say::sync()].concat()).await;
    client.ready().await
}

/// Binds and executes a statement.
async fn run(client: &mut Raw, name: &str, values: &[Option<&str>]) -> Vec<Frame> {
    let messages = [say::bind("", name, values), say::execute("", 0)];
    ask(client, &messages).await
}

fn tags(frames: &[Frame]) -> String {
    frames.iter().map(|f| f.tag as char).collect()
}

/// The only value of the first row.
fn value(frames: &[Frame]) -> String {
    let row = frames.iter().find(|f| f.tag == b'D');
    let row = row.unwrap_or_else(|| panic!("{frames:?}"));
    row.values()[0].clone().unwrap()
}

fn code(frames: &[Frame]) -> String {
    let error = frames.iter().find(|f| f.tag == b'E');
    error.unwrap_or_else(|| panic!("{frames:?}")).field(b'C')
}

/// Lesson 7. The name is free again, and what stands behind it is never an older statement, of
/// whichever client.
#[tokio::test]
async fn a_failed_parse_leaves_no_name() {
    let (_db, pgdrover) = one_connection("").await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    ask(&mut b, &[say::parse("s", "SELECT 'of another'")]).await;
    a.query("BEGIN").await;
    a.query("SELECT 1/0").await;
    let failed = ask(&mut a, &[say::parse("s", "SELECT 'early'")]).await;
    assert_eq!(code(&failed), "25P02");
    assert_eq!(code(&run(&mut a, "s", &[]).await), "26000");
    a.query("ROLLBACK").await;
    assert_eq!(code(&run(&mut a, "s", &[]).await), "26000");
    assert_eq!(
        tags(&ask(&mut a, &[say::parse("s", "SELECT nothing")]).await),
        "EZ"
    );
    assert_eq!(code(&run(&mut a, "s", &[]).await), "26000");
    // Skipped, since what stands before it fails.
    let behind = [
        say::extended("SELECT 1/0", &[]),
        say::parse("s", "SELECT 'skipped'"),
    ];
    assert_eq!(code(&ask(&mut a, &behind).await), "22012");
    assert_eq!(code(&run(&mut a, "s", &[]).await), "26000");
    assert_eq!(
        tags(&ask(&mut a, &[say::parse("s", "SELECT 'late'")]).await),
        "1Z"
    );
    assert_eq!(value(&run(&mut a, "s", &[]).await), "late");
    assert_eq!(value(&run(&mut b, "s", &[]).await), "of another");
}

/// Lesson 8. The reset takes what was before it, not what comes behind it.
#[tokio::test]
async fn a_statement_behind_a_reset_in_its_pipeline_survives() {
    let (_db, pgdrover) = one_connection("").await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    ask(&mut b, &[say::parse("s", "SELECT 'of another'")]).await;
    for reset in ["DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE PREPARE s"] {
        ask(&mut a, &[say::parse("s", "SELECT 'before'")]).await;
        let batch = [
            say::extended(reset, &[]),
            say::parse("new", "SELECT 'a new name'"),
            say::parse("s", &format!("SELECT 'behind {reset}'")),
        ];
        let frames = ask(&mut a, &batch).await;
        assert_eq!(tags(&frames), "12nC11Z", "{reset}: {frames:?}");
        // By way of another client's turn on the only connection.
        assert_eq!(value(&run(&mut b, "s", &[]).await), "of another");
        let behind = run(&mut a, "s", &[]).await;
        assert_eq!(value(&behind), format!("behind {reset}"));
        assert_eq!(value(&run(&mut a, "new", &[]).await), "a new name");
        ask(&mut a, &[say::close_statement("new")]).await;
        a.query(reset).await;
        assert_eq!(code(&run(&mut a, "s", &[]).await), "26000", "{reset}");
    }
}

/// Lesson 9. A statement is described by a server connection that never saw its Parse.
#[tokio::test]
async fn describe_on_another_connection() {
    let db = TestDb::new("CREATE TABLE t (id int, v text)").await;
    let pgdrover = Setup::solo(&db).start().await;
    let (mut a, mut holder) = (pgdrover.raw().await, pgdrover.raw().await);
    let parsed = [
        say::parse("s", "SELECT v FROM t WHERE id = $1"),
        say::describe_statement("s"),
    ];
    let first = ask(&mut a, &parsed).await;
    assert_eq!(tags(&first), "1tTZ");
    let before = a.value("SELECT pg_backend_pid()").await;
    holder.query("BEGIN").await;
    assert_eq!(holder.value("SELECT pg_backend_pid()").await, before);
    let second = ask(&mut a, &[say::describe_statement("s")]).await;
    assert_eq!(tags(&second), "tTZ", "{second:?}");
    assert_eq!(second[..2], first[1..3]);
}

/// Lesson 9. BEGIN is described though no server has it yet, and runs.
#[tokio::test]
async fn describe_of_a_deferred_begin() {
    let mut dbs = Vec::new();
    for shard in 0..3 {
        dbs.push(TestDb::on_shard(shard, "CREATE TABLE items (key bigint)").await);
    }
    let pgdrover = Setup::sharded(&dbs).start().await;
    let mut client = pgdrover.raw().await;
    let parsed = [say::parse("b", "BEGIN"), say::describe_statement("b")];
    let frames = ask(&mut client, &parsed).await;
    assert_eq!(tags(&frames), "1tnZ", "{frames:?}");
    assert_eq!(frames[1].body, [0, 0]);
    for key in 0..3 {
        let again = ask(&mut client, &[say::describe_statement("b")]).await;
        assert_eq!(tags(&again), "tnZ", "{again:?}");
        let begun = run(&mut client, "b", &[]).await;
        assert_eq!(begun.last().unwrap().body, b"T", "{begun:?}");
        client
            .query(&format!("INSERT INTO items (key) VALUES ({key})"))
            .await;
        client.query("COMMIT").await;
    }
    for db in &dbs {
        let rows = db.owner().await.query("SELECT key FROM items", &[]).await;
        assert_eq!(rows.unwrap().len(), 1);
    }
}

/// Lesson 10. One name, two clients; and a portal of a statement's name is not the statement.
#[tokio::test]
async fn names_are_private() {
    let (_db, pgdrover) = one_connection("").await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    for (client, sql) in [(&mut a, "SELECT 'a'"), (&mut b, "SELECT 'b'")] {
        ask(client, &[say::parse("x", sql)]).await;
    }
    for _ in 0..2 {
        assert_eq!(value(&run(&mut a, "x", &[]).await), "a");
        assert_eq!(value(&run(&mut b, "x", &[]).await), "b");
    }
    let portal = [
        say::bind("x", "x", &[]),
        say::close_portal("x"),
        say::execute("x", 0),
    ];
    assert_eq!(code(&ask(&mut a, &portal).await), "34000");
    assert_eq!(value(&run(&mut a, "x", &[]).await), "a");
    ask(&mut a, &[say::close_statement("x")]).await;
    assert_eq!(code(&run(&mut a, "x", &[]).await), "26000");
    assert_eq!(value(&run(&mut b, "x", &[]).await), "b");
}

/// Lesson 10. One text, and yet not one statement: the declared types differ, or what its names
/// mean.
#[tokio::test]
async fn one_text_with_other_types_or_another_path() {
    let (_db, pgdrover) = one_connection(
        "CREATE SCHEMA a; CREATE TABLE a.t (v int); INSERT INTO a.t VALUES (1);
         CREATE SCHEMA b; CREATE TABLE b.t (w text, v text); INSERT INTO b.t VALUES ('w', 'b');",
    )
    .await;
    let (mut a, mut b) = (pgdrover.raw().await, pgdrover.raw().await);
    ask(&mut a, &[say::parse_typed("s", "SELECT $1", &[23])]).await;
    ask(&mut b, &[say::parse_typed("s", "SELECT $1", &[25])]).await;
    for _ in 0..2 {
        assert_eq!(code(&run(&mut a, "s", &[Some("x")]).await), "22P02");
        assert_eq!(value(&run(&mut b, "s", &[Some("x")]).await), "x");
    }
    a.query("SET search_path = a").await;
    // In a transaction the path is not yet the session's, and yet it is what names mean.
    b.query("BEGIN; SET search_path = b").await;
    let sql = "SELECT * FROM t";
    ask(&mut b, &[say::parse("p", sql)]).await;
    let columns = |frames: &[Frame]| {
        frames
            .iter()
            .find(|f| f.tag == b'D')
            .map(|f| f.values().len())
    };
    assert_eq!(columns(&run(&mut b, "p", &[]).await), Some(2));
    b.query("COMMIT").await;
    for _ in 0..2 {
        let described = ask(&mut a, &[say::close_statement("p"), say::parse("p", sql)]).await;
        assert_eq!(tags(&described), "31Z");
        assert_eq!(columns(&run(&mut a, "p", &[]).await), Some(1));
        assert_eq!(columns(&run(&mut b, "p", &[]).await), Some(2));
    }
}

/// Lesson 10. What one pgdrover calls its statements does not meet another's names.
#[tokio::test]
async fn two_proxies_share_a_database() {
    let (db, first) = one_connection("").await;
    let second = Setup::solo(&db).with(ONE).start().await;
    let (mut a, mut b) = (first.raw().await, second.raw().await);
    for (client, sql) in [(&mut a, "SELECT 'first'"), (&mut b, "SELECT 'second'")] {
        ask(client, &[say::parse("s", sql)]).await;
    }
    for _ in 0..2 {
        assert_eq!(value(&run(&mut a, "s", &[]).await), "first");
        assert_eq!(value(&run(&mut b, "s", &[]).await), "second");
    }
}
