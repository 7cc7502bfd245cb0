//! The scanner, the shapes, and what a statement does beside returning rows. Where statements go
//! is in `tests/plans`.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::scan::{LiteralKind, scan};
use super::*;
use crate::plan::{Effect, Kind, Pin};
use crate::sharding::Modulo;

fn router(shards: u16) -> Router {
    let sharded = || Table::Sharded {
        column: "user_id".into(),
        columns: None,
    };
    let schema = Schema {
        shards,
        function: Arc::new(Function::Modulo(Modulo::new(shards).unwrap())),
        key_type: KeyType::BigInt,
        tables: HashMap::from([("n".into(), sharded()), ("p".into(), sharded())]),
    };
    Router::new(schema, &Settings::default())
}

fn shape(sql: &str) -> Vec<u8> {
    scan(sql).shape
}

#[test]
fn literals_spacing_comments_and_case_do_not_change_a_shape() {
    let one = shape("SELECT * FROM n WHERE user_id = 1 AND t = 'a'");
    for same in [
        "select * from N where USER_ID = 22 and t = 'it''s'",
        "SELECT  *\nFROM n /* why */ WHERE user_id = 333 AND t = ''",
        "SELECT * FROM n -- why\n WHERE user_id = 4 AND t = 'x';",
    ] {
        assert_eq!(shape(same), one, "{same}");
    }
}

#[test]
fn what_could_change_a_plan_changes_the_shape() {
    let different = [
        "SELECT * FROM n WHERE user_id = 1",
        "SELECT * FROM n WHERE user_id = 1.0",
        "SELECT * FROM n WHERE user_id = '1'",
        "SELECT * FROM n WHERE user_id = E'1'",
        "SELECT * FROM n WHERE user_id = B'1'",
        "SELECT * FROM n WHERE user_id = X'1'",
        "SELECT * FROM n WHERE user_id = $1",
        "SELECT * FROM n WHERE user_id = $2",
        "SELECT * FROM n WHERE user_id = $$1$$",
        "SELECT * FROM n WHERE user_id = NULL",
        "SELECT * FROM n WHERE user_id = -1",
        "SELECT * FROM n WHERE user_id = 0x1",
        "SELECT * FROM \"N\" WHERE user_id = 1",
        "SELECT * FROM n WHERE user_id = 1 ORDER BY 1",
        "SELECT * FROM n WHERE user_id = 1 ORDER BY 2",
        "SELECT * FROM n WHERE user_id = 1 GROUP BY 1, 2",
        "SELECT * FROM n WHERE user_id = 1 GROUP BY 1, 3",
        "/* pgdrover: shard=1 */ SELECT * FROM n WHERE user_id = 1",
        "/* pgdrover: shard=2 */ SELECT * FROM n WHERE user_id = 1",
        "SET x = 1",
        "SET x = 2",
        "SET x = 'a'",
        "SET x = 'b'",
    ];
    for (i, a) in different.iter().enumerate() {
        for b in &different[i + 1..] {
            assert_ne!(shape(a), shape(b), "{a}\n{b}");
        }
    }
}

#[test]
fn literals_of_an_order_by_list_are_values_where_they_are_not_ordinals() {
    let found = scan("SELECT 5 FROM n ORDER BY 1, abs(2), x LIMIT 3");
    let texts: Vec<&str> = found
        .literals
        .iter()
        .map(|l| l.text("SELECT 5 FROM n ORDER BY 1, abs(2), x LIMIT 3"))
        .collect();
    assert_eq!(texts, ["5", "2", "3"]);
}

#[test]
fn statements_are_split_where_the_server_splits_them() {
    let count = |sql: &str| scan(sql).statements.len();
    assert_eq!(count(""), 0);
    assert_eq!(count(" ; -- nothing\n;"), 0);
    assert_eq!(count("select 1;"), 1);
    assert_eq!(count("select 1; select 2"), 2);
    assert_eq!(
        count("select ';', \";\", $$;$$, $a$;$$;$a$, E'\\';' /* ; */ -- ;"),
        1
    );
    assert_eq!(
        count(
            "create function f() returns int begin atomic select 1; select case when true then 1 end; end; select 1"
        ),
        2
    );
}

#[test]
fn what_does_not_end_is_broken() {
    for sql in [
        "select 'a",
        "select \"a",
        "select /* a",
        "select $$a",
        "select $a",
        "select \u{1}",
    ] {
        assert!(scan(sql).broken, "{sql}");
    }
    assert!(!scan("select 'a' /* /* */ */").broken);
}

#[test]
fn a_shape_is_cached_once() {
    let router = router(3);
    assert!(
        !router
            .route("SELECT * FROM n WHERE user_id = 1;", &[])
            .cached
    );
    assert!(
        router
            .route("SELECT * FROM n WHERE user_id = 2", &[])
            .cached
    );
    assert!(
        !router
            .route("SELECT * FROM n WHERE user_id = 2", &[20])
            .cached
    );
    assert!(!router.route("SELECT 1; SELECT 2", &[]).cached);
    assert!(!router.route("SELECT 1; SELECT 2", &[]).cached);
    assert_eq!(router.cached_shapes(), 2);
}

#[test]
fn a_text_of_several_statements_must_agree_on_a_shard() {
    let router = router(3);
    let all = |sql: &str| {
        let routed = router.route(sql, &[]);
        router.decide_all(sql, &routed, &NoParams)
    };
    let one = "SELECT * FROM n WHERE user_id = 42; SELECT now(); DELETE FROM p WHERE user_id = 45";
    assert_eq!(all(one), Decision::Shard(ShardId(0)));
    assert_eq!(all("SELECT 1; SELECT 2"), Decision::AnyShard);
    let two = "SELECT * FROM n WHERE user_id = 42; SELECT * FROM n WHERE user_id = 43";
    match all(two) {
        Decision::Refused(error) => {
            assert_eq!(error.code, SqlState::FEATURE_NOT_SUPPORTED);
            assert!(error.message.contains("statement 1"), "{}", error.message);
            assert!(error.message.contains("shard 1"), "{}", error.message);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn spans_are_of_each_statement() {
    let sql = " SELECT 1 ; /* x */ SELECT 'a;b' ;";
    let routed = router(3).route(sql, &[]);
    let texts: Vec<&str> = routed
        .shape
        .statements
        .iter()
        .map(|s| &sql[s.span.clone()])
        .collect();
    assert_eq!(texts, ["SELECT 1", "SELECT 'a;b'"]);
    assert_eq!(routed.text(sql, 1), "SELECT 'a;b'");
    let lone = router(3).route(" SET x = 1 ;", &[]);
    assert_eq!(lone.text(" SET x = 1 ;", 0), "SET x = 1");
    assert_eq!(lone.shape.statements[0].span, 0..usize::MAX);
}

/// What a statement's access, effect and kind are, on one shard and on several.
fn planned(sql: &str) -> (Access, Effect, Kind) {
    let [one, several] = [1, 3].map(|shards| {
        let routed = router(shards).route(sql, &[]);
        let statement = &routed.shape.statements[0];
        (statement.access, statement.effect.clone(), statement.kind)
    });
    assert_eq!(one, several, "{sql}");
    one
}

#[test]
fn reads_are_told_from_writes() {
    let reads = [
        "SELECT 1",
        "SELECT * FROM n WHERE user_id = 42",
        "SELECT count(*), sum(x), now(), lower(t), coalesce(t, '') FROM n WHERE user_id = 42",
        "SELECT pg_catalog.lower(t) FROM n WHERE user_id = 42",
        "SELECT current_setting('x'), current_user, current_date",
        "SELECT row_number() OVER (PARTITION BY user_id) FROM n WHERE user_id = 42",
        "VALUES (1), (2)",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "SHOW search_path",
        "EXPLAIN SELECT * FROM n WHERE user_id = 42",
        "EXPLAIN ANALYZE SELECT * FROM n WHERE user_id = 42",
        "COPY (SELECT * FROM n WHERE user_id = 42) TO STDOUT",
        "SELECT * FROM generate_series(1, 3)",
        "SELECT E'\\'', $$FOR UPDATE$$ -- nextval()",
        "BEGIN",
        "COMMIT",
        "SET x = 1",
    ];
    for sql in reads {
        assert_eq!(planned(sql).0, Access::Read, "{sql}");
    }
    let writes = [
        "SELECT * FROM n WHERE user_id = 42 FOR UPDATE",
        "SELECT * FROM n WHERE user_id = 42 FOR NO KEY UPDATE",
        "SELECT * FROM n WHERE user_id = 42 FOR SHARE",
        "SELECT * FROM n WHERE user_id = 42 FOR KEY SHARE",
        "SELECT * FROM (SELECT * FROM n WHERE user_id = 42 FOR UPDATE) x",
        "WITH x AS (SELECT * FROM n WHERE user_id = 42 FOR UPDATE) SELECT count(*) FROM x",
        "WITH x AS (DELETE FROM n WHERE user_id = 42 RETURNING *) SELECT * FROM x",
        "SELECT nextval('s')",
        "SELECT setval('s', 1)",
        "SELECT pg_advisory_lock(1)",
        "SELECT random()",
        "SELECT my_function()",
        "SELECT other.lower(t) FROM n WHERE user_id = 42",
        "SELECT x FROM n WHERE user_id = 42 AND my_function(x)",
        "SELECT * FROM my_function()",
        "SELECT * INTO t FROM n WHERE user_id = 42",
        "INSERT INTO n(user_id) VALUES (42)",
        "UPDATE n SET x = 1 WHERE user_id = 42",
        "DELETE FROM n WHERE user_id = 42",
        "MERGE INTO n USING p ON n.user_id = p.user_id WHEN MATCHED THEN DELETE",
        "EXPLAIN ANALYZE DELETE FROM n WHERE user_id = 42",
        "EXPLAIN (ANALYZE) SELECT my_function()",
        "COPY n FROM STDIN",
        "COPY n TO PROGRAM 'cat'",
        "COPY (DELETE FROM n WHERE user_id = 42 RETURNING *) TO STDOUT",
        "CALL p()",
        "DO $$ begin end $$",
        "TRUNCATE n",
        "CREATE TABLE t (a int)",
        "VACUUM n",
        "LOCK TABLE n",
        "LISTEN c",
        "NOTIFY c",
        "PREPARE q AS SELECT 1",
        "EXECUTE q",
        "GARBAGE IN",
        "SELECT 1 +",
        "SELECT txid_current()",
        "SELECT pg_notify('a', 'b')",
    ];
    for sql in writes {
        assert_eq!(planned(sql).0, Access::Write, "{sql}");
    }
}

fn set(name: &str, value: Option<&str>, local: bool) -> Effect {
    Effect::Set {
        name: name.into(),
        value: value.map(Into::into),
        local,
    }
}

#[test]
fn effects_on_the_session() {
    let expected = [
        ("BEGIN", Effect::Begin { read_only: false }),
        (
            "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY",
            Effect::Begin { read_only: true },
        ),
        (
            "BEGIN READ ONLY READ WRITE",
            Effect::Begin { read_only: false },
        ),
        ("COMMIT", Effect::Commit),
        ("END WORK", Effect::Commit),
        ("COMMIT AND CHAIN", Effect::Commit),
        ("PREPARE TRANSACTION 'x'", Effect::Commit),
        ("ROLLBACK", Effect::Rollback),
        ("ABORT", Effect::Rollback),
        ("ROLLBACK TO SAVEPOINT a", Effect::TransactionControl),
        ("ROLLBACK WORK TO a", Effect::TransactionControl),
        ("SAVEPOINT a", Effect::TransactionControl),
        ("RELEASE a", Effect::TransactionControl),
        ("SET TRANSACTION READ ONLY", Effect::TransactionControl),
        ("SET CONSTRAINTS ALL DEFERRED", Effect::TransactionControl),
    ];
    for (sql, effect) in expected {
        assert_eq!(planned(sql).1, effect, "{sql}");
    }
}

#[test]
fn effects_on_settings() {
    let expected = [
        (
            "SET search_path TO a, \"B\"",
            set("search_path", Some("a, \"B\""), false),
        ),
        (
            "SET Search_Path = 'a'",
            set("search_path", Some("'a'"), false),
        ),
        (
            "SET SESSION work_mem = '1MB' -- much",
            set("work_mem", Some("'1MB'"), false),
        ),
        ("SET LOCAL work_mem = DEFAULT", set("work_mem", None, true)),
        (
            "SET my.setting = -1.5",
            set("my.setting", Some("-1.5"), false),
        ),
        ("SET TIME ZONE 'UTC'", set("timezone", Some("'UTC'"), false)),
        ("SET ROLE NONE", set("role", Some("NONE"), false)),
        ("SET LOCAL ROLE x", set("role", Some("x"), true)),
        (
            "SET SESSION AUTHORIZATION x",
            set("session_authorization", Some("x"), false),
        ),
        (
            "SET NAMES 'utf8'",
            set("client_encoding", Some("'utf8'"), false),
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
            set(
                "default_transaction_isolation",
                Some("ISOLATION LEVEL READ COMMITTED"),
                false,
            ),
        ),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            set("default_transaction_read_only", Some("READ ONLY"), false),
        ),
    ];
    for (sql, effect) in expected {
        assert_eq!(planned(sql).1, effect, "{sql}");
    }
}

#[test]
fn effects_on_connections() {
    let expected = [
        ("RESET work_mem", Effect::Reset(Some("work_mem".into()))),
        ("RESET ALL", Effect::Reset(None)),
        (
            "RESET SESSION AUTHORIZATION",
            Effect::Reset(Some("session_authorization".into())),
        ),
        ("DISCARD ALL", Effect::DiscardAll),
        ("DISCARD PLANS", Effect::Release),
        ("UNLISTEN c", Effect::Release),
        ("CLOSE c", Effect::Release),
        ("DROP TABLE IF EXISTS t", Effect::Release),
        (
            "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS ''",
            Effect::Pin(Pin::TempTable),
        ),
        ("DEALLOCATE ALL", Effect::Deallocate(None)),
        (
            "DEALLOCATE PREPARE \"A b\"",
            Effect::Deallocate(Some("A b".into())),
        ),
        ("LISTEN c", Effect::Pin(Pin::Listen)),
        ("LOAD 'x'", Effect::Pin(Pin::Load)),
        ("PREPARE q AS SELECT 1", Effect::Pin(Pin::Prepare)),
        (
            "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM n WHERE user_id = 42",
            Effect::Pin(Pin::CursorWithHold),
        ),
        (
            "DECLARE c CURSOR FOR SELECT * FROM n WHERE user_id = 42",
            Effect::None,
        ),
        ("CREATE TEMP TABLE t (a int)", Effect::Pin(Pin::TempTable)),
        (
            "CREATE LOCAL TEMPORARY TABLE t (a int)",
            Effect::Pin(Pin::TempTable),
        ),
        ("SELECT pg_advisory_lock(1)", Effect::Pin(Pin::AdvisoryLock)),
        (
            "SELECT pg_try_advisory_lock_shared(1)",
            Effect::Pin(Pin::AdvisoryLock),
        ),
        ("SELECT pg_advisory_xact_lock(1)", Effect::None),
        ("SELECT pg_advisory_unlock_all()", Effect::Release),
        ("SELECT set_config('a.b', 'c', false)", Effect::SetConfig),
        (
            "SELECT coalesce(set_config('a.b', 'c', false), '')",
            Effect::Pin(Pin::SetConfig),
        ),
        ("COPY n FROM STDIN", Effect::Copy),
        ("COPY n TO STDOUT (FORMAT csv)", Effect::Copy),
        ("SELECT 1", Effect::None),
    ];
    for (sql, effect) in expected {
        assert_eq!(planned(sql).1, effect, "{sql}");
    }
}

#[test]
fn effects_on_connections_in_other_spellings() {
    let expected = [
        (
            "CREATE TYPE \"pg_temp\".mood AS ENUM ('sad')",
            Effect::Pin(Pin::TempTable),
        ),
        ("SELECT 1 AS a INTO pg_temp.t", Effect::Pin(Pin::TempTable)),
        (
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = a, pg_temp AS 'SELECT 1'",
            Effect::None,
        ),
        (
            "SELECT 1 <=> pg_advisory_lock(1) OPERATOR(x.<%>) 2",
            Effect::Pin(Pin::AdvisoryLock),
        ),
        (
            "EXPLAIN ANALYZE SELECT pg_advisory_lock(1)",
            Effect::Pin(Pin::AdvisoryLock),
        ),
        ("EXPLAIN SELECT pg_advisory_lock(1)", Effect::None),
        (
            "EXPLAIN (ANALYZE) SELECT set_config('a.b', 'c', false)",
            Effect::Pin(Pin::SetConfig),
        ),
        (
            "COPY (SELECT pg_advisory_lock(1)) TO STDOUT",
            Effect::Pin(Pin::AdvisoryLock),
        ),
    ];
    for (sql, effect) in expected {
        assert_eq!(planned(sql).1, effect, "{sql}");
    }
}

#[test]
fn long_chains_do_not_exhaust_the_stack() {
    let router = router(3);
    let ors = |n: usize| vec!["user_id = 42"; n].join(" OR ");
    let few = format!("SELECT * FROM n WHERE {}", ors(900));
    let routed = router.route(&few, &[]);
    assert_eq!(
        router.decide(&few, &routed, 0, &NoParams),
        Decision::Shard(ShardId(0))
    );
    for many in [
        format!("SELECT * FROM n WHERE {}", ors(50_000)),
        format!("SELECT 1{}", "+1".repeat(1_900)),
        format!("SELECT a{}", "[1]".repeat(1_900)),
        format!("SELECT 1{}", "::int".repeat(1_200)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(190)),
        format!("SELECT x{}", " COLLATE c".repeat(1_900)),
        format!("SELECT x{}", " IS NULL".repeat(1_900)),
        format!("SELECT {} 1", "CASE WHEN".repeat(1_900)),
        format!("SELECT * FROM n {}", "JOIN n ON true ".repeat(190)),
        format!("SELECT * FROM {}", "n JOIN ".repeat(190)),
        format!("SELECT {}1", "- ".repeat(1_900)),
        format!("SELECT {}1", "- ".repeat(50_000)),
        format!("SELECT {}1", "NOT ".repeat(50_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(20_000)),
        format!("SELECT 1{}", "::int".repeat(20_000)),
        format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000)),
        format!("SELECT a{}", "[1]".repeat(20_000)),
        format!("SELECT {}", "a.".repeat(20_000)),
        format!("SELECT {} 1", "CASE WHEN".repeat(20_000)),
        format!("SELECT * FROM {}", "n JOIN ".repeat(20_000)),
        format!("SELECT x {}", "COLLATE c ".repeat(20_000)),
        format!("{} SELECT 1", "EXPLAIN ".repeat(20_000)),
        format!("/*{}", "/*".repeat(20_000)),
    ] {
        let routed = router.route(&many, &[]);
        router.decide(&many, &routed, 0, &NoParams);
    }
}

/// Statement templates: `#i` is an integer literal, `#d` a decimal, `#s` a string.
const TEMPLATES: [&str; 12] = [
    "SELECT * FROM n WHERE user_id = #i",
    "SELECT * FROM n WHERE user_id = #s AND id = #i",
    "SELECT * FROM n WHERE user_id IN (#i, #d, #i) ORDER BY 1 LIMIT #i",
    "SELECT * FROM n WHERE user_id IN (#i, #s)",
    "SELECT * FROM n WHERE (user_id, id) = (#i, #s) OR user_id = -#i",
    "SELECT #i, user_id FROM n JOIN p USING (user_id) WHERE n.user_id = #i AND p.x = #s",
    "INSERT INTO n (id, user_id) VALUES (#i, #i), (#i, #s)",
    "INSERT INTO n (user_id, t) VALUES (#d, #s)",
    "UPDATE n SET user_id = #i WHERE user_id = #i AND x = #d",
    "DELETE FROM n WHERE user_id = #i::bigint AND t = E'\\n'",
    "SELECT * FROM n WHERE user_id = #i UNION ALL SELECT * FROM p WHERE user_id = #i",
    "EXPLAIN SELECT * FROM n WHERE user_id = #i AND t = $q$ #s $q$",
];

/// Fills a template with values drawn one after another.
fn fill(template: &str, ints: &[u32], strings: &[String]) -> String {
    let mut out = String::new();
    let mut parts = template.split('#');
    out.push_str(parts.next().unwrap());
    for (n, part) in parts.enumerate() {
        let int = ints[n % ints.len()];
        match &part[..1] {
            "i" => out.push_str(&int.to_string()),
            "d" => out.push_str(&format!("{int}.{}", int % 10)),
            _ => {
                let text = match int % 3 {
                    0 => int.to_string(),
                    _ => strings[n % strings.len()].replace('\'', "''"),
                };
                out.push_str(&format!("'{text}'"));
            }
        }
        out.push_str(&part[1..]);
    }
    out
}

proptest! {
    #[test]
    fn the_scanner_takes_any_text(sql in "\\PC*|[-/*'\"$;eEuU&a-b0-9. \n\\\\]{0,40}") {
        let found = scan(&sql);
        let mut at = 0;
        for literal in &found.literals {
            let (start, end) = (literal.start as usize, literal.end as usize);
            prop_assert!(at <= start && start < end && end <= sql.len());
            let text = literal.text(&sql);
            let first = text.as_bytes()[0];
            match literal.kind {
                LiteralKind::Integer => prop_assert!(text.bytes().all(|b| b.is_ascii_digit())),
                LiteralKind::Decimal => prop_assert!(first.is_ascii_digit() || first == b'.'),
                LiteralKind::String => prop_assert_eq!(first, b'\''),
                LiteralKind::Escape => prop_assert!(matches!(first, b'e' | b'E')),
            }
            at = end;
        }
        for span in &found.statements {
            prop_assert!(span.start < span.end && span.end <= sql.len());
        }
        let routed = router(3).route(&sql, &[]);
        for n in 0..routed.shape.statements.len() {
            router(3).decide(&sql, &routed, n, &NoParams);
        }
    }

    #[test]
    fn a_shape_does_not_depend_on_values(
        template in prop::sample::select(&TEMPLATES[..11]),
        a in prop::collection::vec(0..2_000_000_000_u32, 1..5),
        b in prop::collection::vec(0..2_000_000_000_u32, 1..5),
        strings in prop::collection::vec("[^\u{0}]{0,6}", 1..3),
    ) {
        prop_assert_eq!(
            shape(&fill(template, &a, &strings)),
            shape(&fill(template, &b, &["x".to_string()]))
        );
    }

    #[test]
    fn a_cached_plan_decides_as_a_fresh_one(
        template in prop::sample::select(&TEMPLATES[..]),
        a in prop::collection::vec(0..50_u32, 1..5),
        b in prop::collection::vec(0..50_u32, 1..5),
        strings in prop::collection::vec("[^\u{0}]{0,6}", 1..3),
    ) {
        let shared = router(3);
        shared.route(&fill(template, &a, &strings), &[]);
        let sql = fill(template, &b, &strings);
        let (cached, fresh) = (shared.route(&sql, &[]), router(3).route(&sql, &[]));
        let plan = |routed: &Routed| {
            let statement = &routed.shape.statements[0];
            (statement.plan.clone(), statement.proof.clone(), statement.access)
        };
        prop_assert_eq!(plan(&cached), plan(&fresh));
        prop_assert_eq!(
            shared.decide(&sql, &cached, 0, &NoParams),
            router(3).decide(&sql, &fresh, 0, &NoParams)
        );
    }
}
