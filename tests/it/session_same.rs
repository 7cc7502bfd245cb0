//! Through pgdrover every answer is PostgreSQL's own: scripts of frames, sent both ways.

use crate::support::differ::{Cut, Pair, Step, Until, step, until};
use crate::support::say::*;

const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 20) g;";

/// Between scripts.
const RESET: &str =
    "DELETE FROM t; INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 20) g;";

fn q(sql: &str) -> Step {
    step(query(sql))
}

/// One extended statement and its Sync.
fn x(sql: &str, values: &[Option<&str>]) -> Step {
    step([extended(sql, values), sync()].concat())
}

fn batch(parts: &[Vec<u8>]) -> Step {
    let mut bytes = parts.concat();
    bytes.extend(sync());
    step(bytes)
}

/// Scripts, each with a name.
fn scripts() -> Vec<(&'static str, Vec<Step>)> {
    let mut all = simple();
    all.extend(pipelines());
    all.extend(statements());
    all.extend(copies());
    all.extend(transactions());
    all
}

fn simple() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("one row", vec![q("SELECT 1")]),
        (
            "empty query",
            vec![q(""), q("  "), q(";"), q("-- only a comment")],
        ),
        (
            "several statements",
            vec![q(
                "SELECT 1; SELECT 'b'; SELECT id FROM t ORDER BY id LIMIT 3",
            )],
        ),
        (
            "error stops the rest",
            vec![q("SELECT 1; SELECT 1/0; SELECT 2"), q("SELECT 3")],
        ),
        ("syntax error", vec![q("SELEC 1"), q("SELECT 1")]),
        (
            "notice",
            vec![q(
                "DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'well'; END $$",
            )],
        ),
        (
            "pipelined queries",
            vec![until(
                [
                    query("SELECT 1"),
                    query("SELECT 1/0"),
                    query("SELECT 2"),
                    query(""),
                ]
                .concat(),
                Until::Ready(4),
            )],
        ),
        (
            "many rows",
            vec![q(
                "SELECT g, repeat('x', g % 300) FROM generate_series(1, 5000) g",
            )],
        ),
        ("a long row", vec![q("SELECT repeat('abc', 300000)")]),
        (
            "function call",
            vec![
                step(frame(
                    b'F',
                    &[0, 0, 6, 0x93, 0, 0, 0, 1, 0, 0, 0, 2, b'-', b'7', 0, 0],
                )),
                step(frame(
                    b'F',
                    &[
                        0, 0, 0, 177, 0, 1, 0, 1, 0, 2, 0, 0, 0, 4, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0,
                        0, 3, 0, 1,
                    ],
                )),
                step(frame(b'F', &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0])),
            ],
        ),
    ]
}

fn pipelines() -> Vec<(&'static str, Vec<Step>)> {
    let insert = |id: &str| extended("INSERT INTO t VALUES ($1, 'new')", &[Some(id)]);
    vec![
        (
            "an extended statement",
            vec![x("SELECT $1::int + 1", &[Some("41")])],
        ),
        (
            "only Sync",
            vec![
                step(sync()),
                until([sync(), sync()].concat(), Until::Ready(2)),
            ],
        ),
        (
            "an error in the middle",
            vec![
                batch(&[insert("100"), extended("SELECT 1/0", &[]), insert("101")]),
                q("SELECT count(*) FROM t WHERE id >= 100"),
            ],
        ),
        (
            "an error then new batches",
            vec![until(
                [
                    extended("SELECT 1/0", &[]),
                    extended("SELECT 1", &[]),
                    sync(),
                    extended("SELECT 2", &[]),
                    sync(),
                    query("SELECT 3"),
                    extended("SELECT 4", &[]),
                    sync(),
                ]
                .concat(),
                Until::Ready(4),
            )],
        ),
        (
            "a query inside a failed batch is dropped",
            vec![
                batch(&[
                    extended("SELECT 1/0", &[]),
                    query("SELECT 'dropped'"),
                    flush(),
                    extended("SELECT 1", &[]),
                ]),
                q("SELECT 'answered'"),
            ],
        ),
        (
            "a query inside an open batch",
            vec![until(
                [extended("SELECT 1", &[]), query("SELECT 2"), sync()].concat(),
                Until::Ready(2),
            )],
        ),
        (
            "a query behind Flush",
            vec![
                until([extended("SELECT 1", &[]), flush()].concat(), Until::Quiet),
                until([query("SELECT 2"), sync()].concat(), Until::Ready(2)),
            ],
        ),
        (
            "Flush keeps the batch open",
            vec![
                until([insert("102"), flush()].concat(), Until::Quiet),
                until(
                    [extended("SELECT count(*) FROM t", &[]), flush()].concat(),
                    Until::Quiet,
                ),
                batch(&[extended("SELECT 1/0", &[])]),
                q("SELECT count(*) FROM t"),
            ],
        ),
        (
            "Parse, Describe, Flush",
            vec![
                until(
                    [
                        parse("a", "SELECT id, v FROM t WHERE id = $1"),
                        describe_statement("a"),
                        flush(),
                    ]
                    .concat(),
                    Until::Quiet,
                ),
                until(
                    [bind("", "a", &[Some("3")]), execute("", 0), flush()].concat(),
                    Until::Quiet,
                ),
                step(sync()),
                until([flush(), flush()].concat(), Until::Quiet),
            ],
        ),
        (
            "types of answers",
            vec![batch(&[
                extended("", &[]),
                extended("INSERT INTO t VALUES (200, 'x') RETURNING id", &[]),
                extended("DELETE FROM t WHERE id = 200", &[]),
                extended("SELECT NULL", &[]),
            ])],
        ),
        (
            "65,535 parameters",
            vec![{
                let list: Vec<String> = (1..=65535).map(|i| format!("${i}")).collect();
                let sql = format!("SELECT 1 IN ({})", list.join(","));
                let values = vec![Some("0"); 65535];
                batch(&[parse("", &sql), bind("", "", &values), execute("", 0)])
            }],
        ),
        (
            "wrong number of parameters",
            vec![
                batch(&[
                    parse("", "SELECT $1::int"),
                    bind("", "", &[]),
                    execute("", 0),
                ]),
                x("SELECT $1::int", &[None]),
                x("SELECT $1::int", &[Some("x")]),
            ],
        ),
    ]
}

fn statements() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        (
            "named statements",
            vec![
                batch(&[
                    parse("s", "SELECT v FROM t WHERE id = $1"),
                    describe_statement("s"),
                ]),
                batch(&[
                    bind("p", "s", &[Some("5")]),
                    describe_portal("p"),
                    execute("p", 0),
                ]),
                batch(&[close_statement("s")]),
                batch(&[bind("", "s", &[Some("5")]), execute("", 0)]),
            ],
        ),
        (
            "unknown names",
            vec![
                batch(&[describe_statement("nope")]),
                batch(&[describe_portal("nope")]),
                batch(&[close_statement("nope"), close_portal("nope")]),
                batch(&[execute("nope", 0)]),
                batch(&[bind("", "nope", &[])]),
                batch(&[describe_statement("")]),
                batch(&[describe_portal("")]),
                batch(&[execute("", 0)]),
            ],
        ),
        (
            "a name twice",
            vec![
                batch(&[parse("s", "SELECT 1")]),
                batch(&[parse("s", "SELECT 2")]),
                batch(&[bind("", "s", &[]), execute("", 0)]),
                batch(&[
                    close_statement("s"),
                    parse("s", "SELECT 3"),
                    bind("", "s", &[]),
                    execute("", 0),
                ]),
            ],
        ),
        (
            "a failed Parse leaves no name",
            vec![
                batch(&[parse("s", "SELECT broken FROM nowhere")]),
                batch(&[bind("", "s", &[]), execute("", 0)]),
                batch(&[parse("s", "SELECT 7"), bind("", "s", &[]), execute("", 0)]),
            ],
        ),
        (
            "a skipped Parse leaves no name",
            vec![
                batch(&[parse("known", "SELECT 11")]),
                batch(&[extended("SELECT 1/0", &[]), parse("s", "SELECT 11")]),
                batch(&[bind("", "s", &[]), execute("", 0)]),
                batch(&[parse("s", "SELECT 12"), bind("", "s", &[]), execute("", 0)]),
            ],
        ),
        (
            "a skipped Close leaves the name",
            vec![
                batch(&[parse("s", "SELECT 11")]),
                batch(&[extended("SELECT 1/0", &[]), close_statement("s")]),
                batch(&[bind("", "s", &[]), execute("", 0)]),
            ],
        ),
        (
            "Parse in a failed transaction",
            vec![
                q("BEGIN"),
                q("SELECT 1/0"),
                batch(&[parse("s", "SELECT 5")]),
                batch(&[parse("r", "ROLLBACK"), bind("", "r", &[]), execute("", 0)]),
                batch(&[parse("s", "SELECT 6"), bind("", "s", &[]), execute("", 0)]),
            ],
        ),
        (
            "Parse of a known text in a failed transaction",
            vec![
                batch(&[parse("known", "SELECT 5")]),
                q("BEGIN"),
                q("SELECT 1/0"),
                batch(&[parse("s", "SELECT 5")]),
                q("ROLLBACK"),
                batch(&[parse("s", "SELECT 6"), bind("", "s", &[]), execute("", 0)]),
            ],
        ),
        (
            "the unnamed statement",
            vec![
                batch(&[parse("", "SELECT 1")]),
                batch(&[bind("", "", &[]), execute("", 0)]),
                batch(&[parse("", "SELECT broken")]),
                batch(&[bind("", "", &[]), execute("", 0)]),
                batch(&[
                    parse("", "SELECT 2"),
                    bind("", "", &[]),
                    parse("", "SELECT 3"),
                    execute("", 0),
                    bind("", "", &[]),
                    execute("", 0),
                ]),
                q("SELECT 1"),
                batch(&[bind("", "", &[]), execute("", 0)]),
                batch(&[parse("", "SELECT 4"), close_statement("")]),
                batch(&[bind("", "", &[])]),
            ],
        ),
        (
            "portals with a row limit",
            vec![
                q("BEGIN"),
                batch(&[
                    parse("", "SELECT id FROM t ORDER BY id"),
                    bind("p", "", &[]),
                    execute("p", 7),
                    execute("p", 7),
                ]),
                batch(&[execute("p", 0), execute("p", 1), close_portal("p")]),
                batch(&[execute("p", 0)]),
                q("ROLLBACK"),
                batch(&[
                    parse("", "SELECT id FROM t ORDER BY id"),
                    bind("p", "", &[]),
                    execute("p", 3),
                ]),
                batch(&[execute("p", 3)]),
            ],
        ),
        (
            "a cursor",
            vec![
                q("BEGIN"),
                q("DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id"),
                q("FETCH 3 FROM c"),
                batch(&[describe_portal("c"), execute("c", 2)]),
                q("CLOSE c"),
                q("COMMIT"),
            ],
        ),
        (
            "a statement used twice in a batch",
            vec![batch(&[
                parse("s", "SELECT $1::int"),
                bind("a", "s", &[Some("1")]),
                bind("b", "s", &[Some("2")]),
                execute("b", 0),
                execute("a", 0),
                close_portal("a"),
                close_statement("s"),
                execute("b", 0),
            ])],
        ),
        (
            "declared types",
            vec![
                batch(&[
                    parse_typed("s", "SELECT $1", &[23]),
                    describe_statement("s"),
                    parse_typed("u", "SELECT $1", &[25]),
                    describe_statement("u"),
                ]),
                batch(&[
                    bind("", "s", &[Some("1")]),
                    execute("", 0),
                    bind("", "u", &[Some("x")]),
                    execute("", 0),
                    bind("", "s", &[Some("x")]),
                ]),
            ],
        ),
        (
            "parse errors",
            vec![
                batch(&[parse("", "SELECT 1; SELECT 2")]),
                batch(&[parse("", "SELEC")]),
                batch(&[parse("n", "SELECT 1; SELECT 2")]),
                x("SELECT 1", &[]),
            ],
        ),
    ]
}

fn copies() -> Vec<(&'static str, Vec<Step>)> {
    let copy_in = || until(query("COPY t FROM STDIN"), Until::Tag(b"GZ"));
    let copy_x = || extended("COPY t FROM STDIN", &[]);
    vec![
        (
            "copy out",
            vec![
                q("COPY (SELECT * FROM t ORDER BY id) TO STDOUT"),
                x("COPY (SELECT * FROM t ORDER BY id) TO STDOUT", &[]),
            ],
        ),
        (
            "copy in",
            vec![
                copy_in(),
                step([copy_data("300\ta\n30"), copy_data("1\tb\n"), copy_done()].concat()),
                q("DELETE FROM t WHERE id >= 300 RETURNING *"),
            ],
        ),
        (
            "copy in, all at once",
            vec![
                step(
                    [
                        query("COPY t FROM STDIN"),
                        copy_data("302\ta\n"),
                        copy_done(),
                    ]
                    .concat(),
                ),
                q("DELETE FROM t WHERE id >= 300 RETURNING *"),
            ],
        ),
        (
            "copy in fails by the client",
            vec![
                copy_in(),
                step([copy_data("303\ta\n"), copy_fail("no")].concat()),
                q("SELECT count(*) FROM t"),
            ],
        ),
        (
            "copy in fails in the middle",
            vec![
                copy_in(),
                step([copy_data("bad\n"), copy_data("304\tb\n"), copy_done()].concat()),
                q("SELECT count(*) FROM t"),
            ],
        ),
        (
            "copy in fails in the middle of a long message",
            vec![
                copy_in(),
                step(
                    [
                        copy_data("bad\n"),
                        copy_data(&"304\tb\n".repeat(100_000)),
                        copy_done(),
                    ]
                    .concat(),
                ),
                q("SELECT count(*) FROM t"),
            ],
        ),
        (
            "copy in with Sync and Flush inside",
            vec![
                copy_in(),
                step([copy_data("305\ta\n"), sync(), flush(), copy_done()].concat()),
                q("DELETE FROM t WHERE id >= 300 RETURNING *"),
            ],
        ),
        (
            "extended copy in",
            vec![
                until([copy_x(), flush()].concat(), Until::Tag(b"GE")),
                until(
                    [copy_data("306\ta\n"), copy_done(), flush()].concat(),
                    Until::Tag(b"CE"),
                ),
                step(sync()),
                q("DELETE FROM t WHERE id >= 300 RETURNING *"),
            ],
        ),
        (
            "extended copy in as libpq does it",
            vec![
                until([copy_x(), sync()].concat(), Until::Tag(b"GE")),
                step([copy_data("307\ta\n"), copy_done(), sync()].concat()),
                q("DELETE FROM t WHERE id >= 300 RETURNING *"),
            ],
        ),
        (
            "extended copy in, all at once",
            vec![
                step([copy_x(), copy_data("308\ta\n"), copy_done(), sync()].concat()),
                q("DELETE FROM t WHERE id >= 300 RETURNING *"),
            ],
        ),
        (
            "extended copy in fails",
            vec![
                until([copy_x(), sync()].concat(), Until::Tag(b"GE")),
                step(
                    [
                        copy_data("bad\n"),
                        copy_data("308\tb\n"),
                        copy_done(),
                        sync(),
                    ]
                    .concat(),
                ),
                until([copy_x(), sync()].concat(), Until::Tag(b"GE")),
                step([copy_fail("no"), sync()].concat()),
                q("SELECT count(*) FROM t"),
            ],
        ),
        (
            "two copies in one query",
            vec![
                until(
                    query("COPY t FROM STDIN; COPY t FROM STDIN; SELECT 1"),
                    Until::Tag(b"GZ"),
                ),
                until(
                    [copy_data("309\ta\n"), copy_done()].concat(),
                    Until::Tag(b"GZ"),
                ),
                step([copy_data("310\tb\n"), copy_done()].concat()),
                q("DELETE FROM t WHERE id >= 300 RETURNING *"),
            ],
        ),
        (
            "copy messages out of place",
            vec![step(
                [
                    copy_data("x"),
                    copy_done(),
                    copy_fail("y"),
                    query("SELECT 1"),
                ]
                .concat(),
            )],
        ),
        (
            "copy messages inside a batch",
            vec![batch(&[
                parse("", "SELECT 1"),
                copy_data("x"),
                bind("", "", &[]),
                copy_done(),
                execute("", 0),
            ])],
        ),
        (
            "copy in a transaction",
            vec![
                q("BEGIN"),
                copy_in(),
                step([copy_data("311\ta\n"), copy_done()].concat()),
                q("SELECT count(*) FROM t"),
                copy_in(),
                step([copy_data("311\ta\n"), copy_done()].concat()),
                q("SELECT 1"),
                q("ROLLBACK"),
            ],
        ),
    ]
}

fn transactions() -> Vec<(&'static str, Vec<Step>)> {
    let all = |list: &[&str]| list.iter().map(|sql| q(sql)).collect::<Vec<_>>();
    let insert = "INSERT INTO t VALUES (400, 'x')";
    let count = "SELECT count(*) FROM t";
    vec![
        (
            "commit",
            all(&[
                "BEGIN",
                insert,
                "COMMIT",
                count,
                "DELETE FROM t WHERE id = 400",
            ]),
        ),
        ("rollback", all(&["BEGIN", insert, "ROLLBACK", count])),
        (
            "commit of a failed transaction",
            all(&["BEGIN", insert, "SELECT 1/0", "SELECT 1", "COMMIT", count]),
        ),
        (
            "savepoints",
            all(&[
                "BEGIN",
                "SAVEPOINT a",
                insert,
                "SAVEPOINT b",
                "SELECT 1/0",
                "SELECT 1",
                "ROLLBACK TO b",
                count,
                "RELEASE a",
                "ROLLBACK TO a",
                "ROLLBACK",
                count,
            ]),
        ),
        (
            "begin and end out of place",
            all(&[
                "COMMIT",
                "ROLLBACK",
                "BEGIN",
                "BEGIN",
                "END",
                "ABORT",
                "SAVEPOINT x",
                "ROLLBACK TO x",
            ]),
        ),
        (
            "kinds of begin",
            all(&[
                "START TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY",
                insert,
                "ROLLBACK",
                "BEGIN READ ONLY",
                "SHOW transaction_read_only",
                "COMMIT AND CHAIN",
                "SHOW transaction_read_only",
                "ROLLBACK",
                "BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "SHOW transaction_isolation",
                "COMMIT",
            ]),
        ),
        (
            "a transaction in one query",
            all(&[
                "BEGIN; INSERT INTO t VALUES (400, 'x'); ROLLBACK; SELECT count(*) FROM t",
                count,
            ]),
        ),
        (
            "an implicit transaction",
            all(&["INSERT INTO t VALUES (400, 'x'); SELECT 1/0", count]),
        ),
        (
            "an extended transaction",
            vec![
                x("BEGIN", &[]),
                x(insert, &[]),
                x("SELECT count(*) FROM t", &[]),
                x("ROLLBACK", &[]),
                q(count),
                batch(&[
                    extended("BEGIN", &[]),
                    extended(insert, &[]),
                    extended("SELECT 1/0", &[]),
                    extended("COMMIT", &[]),
                ]),
                x("SELECT 1", &[]),
                x("COMMIT", &[]),
                q(count),
                batch(&[
                    extended("BEGIN", &[]),
                    extended(insert, &[]),
                    extended("ROLLBACK", &[]),
                    extended(count, &[]),
                ]),
            ],
        ),
        (
            "settings",
            all(&[
                "SET work_mem = '1MB'",
                "SHOW work_mem",
                "BEGIN",
                "SET work_mem = '2MB'",
                "SET LOCAL geqo = off",
                "SHOW work_mem",
                "SHOW geqo",
                "ROLLBACK",
                "SHOW work_mem",
                "SHOW geqo",
                "BEGIN",
                "SET work_mem = '3MB'",
                "SAVEPOINT s",
                "SET work_mem = '4MB'",
                "ROLLBACK TO s",
                "SHOW work_mem",
                "COMMIT",
                "SHOW work_mem",
                "RESET work_mem",
                "SHOW work_mem",
                "SET search_path = a, \"B c\"",
                "SHOW search_path",
                "SET search_path TO DEFAULT",
                "SHOW search_path",
                "SET application_name = 'it''s'",
                "SHOW application_name",
                "RESET ALL",
                "SHOW application_name",
                "SET no.such = 'x'",
                "SHOW no.such",
                "SET nonsense = 1",
                "SET DateStyle = 'German'",
                "SHOW DateStyle",
            ]),
        ),
        (
            "settings in one query",
            all(&[
                "BEGIN; SET work_mem = '1MB'; COMMIT; SELECT 1/0",
                "SHOW work_mem",
                "BEGIN; SET work_mem = '2MB'; ROLLBACK; SELECT 1",
                "SHOW work_mem",
                "BEGIN; SET work_mem = '3MB'; COMMIT; BEGIN; SET work_mem = '4MB'; ROLLBACK",
                "SHOW work_mem",
                "SET work_mem = '5MB'; SELECT 1/0",
                "SHOW work_mem",
                "SET work_mem = '6MB' -- why",
                "SET geqo = off",
                "SHOW work_mem",
                "SHOW geqo",
            ]),
        ),
        (
            "nested savepoints and settings",
            all(&[
                "BEGIN",
                "SAVEPOINT s",
                "SET work_mem = '1MB'",
                "SAVEPOINT s",
                "SET work_mem = '2MB'",
                "RELEASE s",
                "/* c */ ROLLBACK TO s -- d",
                "SET geqo = off",
                "COMMIT",
                "SHOW work_mem",
                "SHOW geqo",
            ]),
        ),
        (
            "discard",
            all(&[
                "SET work_mem = '1MB'",
                "DISCARD ALL",
                "SHOW work_mem",
                "BEGIN",
                "DISCARD ALL",
                "ROLLBACK",
                "DISCARD PLANS",
            ]),
        ),
        (
            "deallocate",
            vec![
                batch(&[parse("s", "SELECT 1"), parse("u", "SELECT 2")]),
                q("DEALLOCATE s"),
                q("DEALLOCATE s"),
                batch(&[bind("", "s", &[])]),
                batch(&[bind("", "u", &[]), execute("", 0)]),
                q("DEALLOCATE ALL"),
                batch(&[bind("", "u", &[])]),
            ],
        ),
        (
            "deallocate with Parse behind it",
            vec![
                batch(&[parse("s", "SELECT 1")]),
                batch(&[
                    extended("DEALLOCATE ALL", &[]),
                    parse("s", "SELECT 2"),
                    bind("", "s", &[]),
                    execute("", 0),
                ]),
                batch(&[bind("", "s", &[]), execute("", 0)]),
                batch(&[
                    extended("DEALLOCATE s", &[]),
                    parse("s", "SELECT 3"),
                    bind("", "s", &[]),
                    execute("", 0),
                ]),
                batch(&[bind("", "s", &[]), execute("", 0)]),
            ],
        ),
        (
            "discard all with Parse behind it",
            vec![
                batch(&[parse("s", "SELECT 1")]),
                until(
                    [
                        extended("DISCARD ALL", &[]),
                        sync(),
                        parse("s", "SELECT 2"),
                        sync(),
                    ]
                    .concat(),
                    Until::Ready(2),
                ),
                batch(&[bind("", "s", &[]), execute("", 0)]),
            ],
        ),
        (
            "SQL-level statements",
            all(&[
                "PREPARE a AS SELECT $1::int",
                "EXECUTE a(5)",
                "PREPARE a AS SELECT 1",
                "DEALLOCATE a",
                "EXECUTE a(5)",
            ]),
        ),
        (
            "advisory locks",
            all(&[
                "SELECT pg_advisory_lock(77)",
                "SELECT pg_advisory_unlock(77)",
                "SELECT pg_advisory_unlock(77)",
            ]),
        ),
        (
            "temporary tables",
            all(&[
                "CREATE TEMP TABLE x (a int)",
                "INSERT INTO x VALUES (1)",
                "SELECT * FROM x",
                "DROP TABLE x",
                "SELECT * FROM x",
            ]),
        ),
        (
            "listen",
            vec![
                q("LISTEN c"),
                until(query("NOTIFY c, 'hello'"), Until::Quiet),
                q("UNLISTEN *"),
            ],
        ),
    ]
}

#[tokio::test]
async fn answers_are_the_same() {
    all_the_same(Cut::Whole).await;
}

#[tokio::test]
async fn answers_are_the_same_byte_by_byte() {
    all_the_same(Cut::Every(1)).await;
}

#[tokio::test]
async fn answers_are_the_same_in_odd_pieces() {
    all_the_same(Cut::Every(7)).await;
}

async fn all_the_same(cut: Cut) {
    let pair = Pair::new(SETUP, "").await;
    let mut wrong = Vec::new();
    for (name, script) in scripts() {
        let size: usize = script.iter().map(|s| s.bytes.len()).sum();
        if size > 10_000 && !matches!(cut, Cut::Whole) {
            continue;
        }
        pair.both(RESET).await;
        if let Err(difference) = pair.difference(&script, cut).await {
            wrong.push(format!("=== {name}: {difference}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
