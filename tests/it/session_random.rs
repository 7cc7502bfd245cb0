//! Scripts nobody thought of: random messages, sent to PostgreSQL itself and through pgdrover.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::support::differ::{Cut, FENCE, Pair, Step, Until, until};
use crate::support::say::*;

const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);";
const RESET: &str = "DELETE FROM t; INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 5) g;";

/// The same on three shards: what names the table concerns one key, so that one shard.
const SHARDED: &str = "CREATE TABLE items (key bigint, id int, v text, PRIMARY KEY (key, id));";
const SHARDED_RESET: &str = "DELETE FROM items; \
    INSERT INTO items SELECT 4, g, 'v' || g FROM generate_series(1, 5) g;";

/// What scripts are made of.
#[derive(Clone, Copy)]
struct Words {
    /// Statements without parameters.
    statements: &'static [&'static str],
    /// Texts for the simple protocol alone.
    texts: &'static [&'static str],
    /// Data for `COPY t FROM STDIN`.
    copies: &'static [&'static str],
}

const ONE_SHARD: Words = Words {
    statements: STATEMENTS,
    texts: TEXTS,
    copies: COPIES,
};

const THREE_SHARDS: Words = Words {
    statements: &[
        "SELECT 1",
        "SELECT count(*) FROM items WHERE key = 4",
        "SELECT id, v FROM items WHERE key = 4 ORDER BY id",
        "SELECT 1/0",
        "INSERT INTO items (key, id, v) VALUES (4, 6, 'n')",
        "DELETE FROM items WHERE key = 4 AND id > 5",
        "BEGIN",
        "START TRANSACTION READ ONLY",
        "COMMIT",
        "ROLLBACK",
        "COMMIT AND CHAIN",
        "SAVEPOINT s",
        "SAVEPOINT u",
        "ROLLBACK TO s",
        "RELEASE s",
        "SET work_mem = '1MB'",
        "SET LOCAL work_mem = '3MB'",
        "RESET work_mem",
        "SHOW work_mem",
        "SHOW transaction_isolation",
        "SHOW transaction_read_only",
    ],
    texts: &[
        "SELECT 1; SELECT 2",
        "BEGIN; SET work_mem = '4MB'; COMMIT; SELECT 1/0",
        "BEGIN; SET work_mem = '5MB'; ROLLBACK; SHOW work_mem",
        "BEGIN; INSERT INTO items (key, id) VALUES (4, 50)",
        "BEGIN; SET TRANSACTION READ ONLY",
        "COMMIT; BEGIN",
        "SAVEPOINT s; SET work_mem = '7MB'; ROLLBACK TO s",
        "",
    ],
    copies: &[],
};

/// Statements without parameters. No two sessions of one script share anything but the table.
const STATEMENTS: &[&str] = &[
    "SELECT 1",
    "SELECT count(*) FROM t",
    "SELECT id, v FROM t ORDER BY id",
    "SELECT 1/0",
    "INSERT INTO t SELECT max(id) + 1, 'n' FROM t",
    "INSERT INTO t VALUES (1, 'again')",
    "DELETE FROM t WHERE id > 5",
    "BEGIN",
    "BEGIN READ ONLY",
    "START TRANSACTION",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SET work_mem = '1MB'",
    "SET work_mem = '2MB'",
    "SET LOCAL work_mem = '3MB'",
    "RESET work_mem",
    "SET work_mem TO DEFAULT",
    "SHOW work_mem",
    "SET geqo = off",
    "SHOW geqo",
    "RESET ALL",
    "SET LOCAL geqo TO DEFAULT",
    "SAVEPOINT \"s\"",
    "SAVEPOINT \"S\"",
    "ROLLBACK TO \"S\"",
    "ROLLBACK AND CHAIN",
    "COMMIT AND CHAIN",
    "SELECT set_config('work_mem', '8MB', false)",
    "SELECT set_config('work_mem', '9MB', true)",
    "SELECT set_config('my.own', 'it''s', false)",
    "SELECT coalesce(current_setting('my.own', true), '')",
    "SET my.own TO ''",
    "SET search_path = \"A b\", public",
    "SET LOCAL search_path = public, nowhere",
    "RESET search_path",
    "SHOW search_path",
    "SET ROLE app",
    "SET ROLE none",
    "SET LOCAL ROLE app",
    "RESET ROLE",
    "SHOW role",
    "SET SESSION AUTHORIZATION app",
    "RESET SESSION AUTHORIZATION",
    "SELECT current_user, session_user",
    "DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id",
    "DECLARE h CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id",
    "FETCH 2 FROM c",
    "FETCH 2 FROM h",
    "CLOSE c",
    "CLOSE h",
    "CLOSE ALL",
    "PREPARE q AS SELECT count(*) FROM t",
    "EXECUTE q",
    "DEALLOCATE q",
    "CREATE TEMP TABLE tmp (a int)",
    "DROP TABLE tmp",
    "DISCARD TEMP",
    "DISCARD PLANS",
    "LISTEN x",
    "UNLISTEN *",
    "SELECT pg_advisory_lock(77)",
    "SELECT pg_advisory_unlock(77)",
];

/// Statements whose Parse may fail: under a name that is taken it would have two faults.
const UNNAMED: &[&str] = &["SELECT nothing", "INSERT INTO tmp VALUES (1)"];

/// Statements that pgdrover answers itself. Executed once each time they are bound: that a portal
/// cannot be run twice is the server's rule, and these do not reach it.
const LOCAL: &[&str] = &["DEALLOCATE ALL", "DEALLOCATE a"];

/// Texts of several statements, for the simple protocol; and one of none, since where a Parse has
/// two faults, which of them is told may differ.
const TEXTS: &[&str] = &[
    "SELECT 1; SELECT 2",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "BEGIN; SET work_mem = '4MB'; COMMIT; SELECT 1/0",
    "BEGIN; SET work_mem = '5MB'; ROLLBACK; SHOW work_mem",
    "SET work_mem = '6MB'; SELECT 1/0",
    "BEGIN; INSERT INTO t VALUES (50, 'x')",
    "COMMIT; BEGIN",
    "SAVEPOINT s; SET work_mem = '7MB'; ROLLBACK TO s",
    "; ;",
    "",
    "SELEC",
    "SELECT nothing",
];

const COPIES: &[&str] = &["", "60\ta\n", "61\ta\n62\tb\n", "bad\n", "1\tagain\n"];

fn name() -> impl Strategy<Value = &'static str> {
    select(&["", "a", "b"][..])
}

/// A name by which a portal may be executed more than once.
fn portal() -> impl Strategy<Value = &'static str> {
    select(&["a", "b"][..])
}

/// One message, or a few that only make sense together.
fn message(words: Words) -> impl Strategy<Value = Vec<u8>> {
    let statement = || select(words.statements);
    let none = words.copies.is_empty();
    let copies = if none { &[""] } else { words.copies };
    let copy = (select(copies), any::<bool>(), any::<bool>());
    let copy = copy.prop_map(move |(data, fail, simple)| {
        let begin = match simple {
            true => query("COPY t FROM STDIN"),
            false => extended("COPY t FROM STDIN", &[]),
        };
        let end = if fail {
            copy_fail("enough")
        } else {
            copy_done()
        };
        match none {
            true => Vec::new(),
            false => [begin, copy_data(data), end].concat(),
        }
    });
    prop_oneof![
        4 => statement().prop_map(query),
        1 => select(LOCAL).prop_map(query),
        // Inside a batch it is refused, or not, by rules finer than pgdrover's.
        1 => Just([sync(), query("DISCARD ALL")].concat()),
        1 => select(LOCAL).prop_map(|sql| extended(sql, &[])),
        // Behind anything else in its block it comes too late, and what counts as that is finer than
        // pgdrover's rules.
        1 => Just([sync(), query("ROLLBACK"), query("BEGIN ISOLATION LEVEL SERIALIZABLE")].concat()),
        2 => select(words.texts).prop_map(query),
        6 => statement().prop_map(|sql| extended(sql, &[])),
        1 => select(UNNAMED).prop_map(|sql| extended(sql, &[])),
        4 => (name(), statement()).prop_map(|(name, sql)| parse(name, sql)),
        1 => name().prop_map(|name| parse(name, "SELECT $1::int + 1")),
        4 => (portal(), name()).prop_map(|(portal, name)| bind(portal, name, &[])),
        1 => (portal(), name()).prop_map(|(portal, name)| bind(portal, name, &[Some("7")])),
        2 => name().prop_map(describe_statement),
        1 => name().prop_map(describe_portal),
        4 => (portal(), 0u32..3).prop_map(|(name, rows)| execute(name, rows)),
        1 => name().prop_map(close_statement),
        1 => name().prop_map(close_portal),
        1 => Just(flush()),
        4 => Just(sync()),
        1 => copy,
        1 => Just(copy_data("out of place")),
    ]
}

fn script(words: Words) -> impl Strategy<Value = Vec<Step>> {
    let fenced = |messages: Vec<Vec<u8>>| {
        let fence = [sync(), query(&format!("SELECT '{FENCE}'"))].concat();
        // In a failed transaction the fence itself fails: out of it first.
        let out = query("ROLLBACK");
        until(
            [messages.concat(), sync(), out, fence].concat(),
            Until::Fence,
        )
    };
    let step = prop::collection::vec(message(words), 1..12).prop_map(fenced);
    prop::collection::vec(step, 1..4)
}

#[test]
fn random_scripts_are_answered_the_same() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pair = runtime.block_on(Pair::new(SETUP, SECTIONS));
    compare(&runtime, &pair, RESET, ONE_SHARD);
}

/// Where a transaction begins is only known with its first statement that names a key: until then
/// it may have to move, and nobody must notice.
#[test]
fn random_scripts_on_three_shards_are_answered_the_same() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pair = runtime.block_on(Pair::sharded(SHARDED, SECTIONS));
    compare(&runtime, &pair, SHARDED_RESET, THREE_SHARDS);
}

const SECTIONS: &str = "[pool]\nmax_prepared_statements = 2";

fn compare(runtime: &tokio::runtime::Runtime, pair: &Pair, reset: &str, words: Words) {
    // The same scripts each time, so that a red test means a change; RANDOM_SCRIPTS=n asks for n
    // new ones.
    let cases = std::env::var("RANDOM_SCRIPTS").ok();
    let seeded = cases.is_none();
    let config = Config {
        cases: cases.map_or(60, |n| n.parse().unwrap()),
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Config::default()
    };
    let cut = prop_oneof![3 => Just(Cut::Whole), 1 => (1usize..40).prop_map(Cut::Every)];
    let mut runner = if seeded {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    } else {
        TestRunner::new(config)
    };
    let outcome = runner.run(&(script(words), cut), |(script, cut)| {
        runtime.block_on(async {
            pair.both(reset).await;
            let difference = pair.difference(&script, cut).await;
            difference.map_err(TestCaseError::fail)
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
