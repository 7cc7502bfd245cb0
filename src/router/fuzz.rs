//! Statements changed by chance: no text may bring a panic, a span that cuts a character, or a
//! plan that depends on what was routed before.

use std::collections::HashMap;
use std::sync::Arc;

use super::scan::{LiteralKind, scan};
use super::words::words;
use super::*;
use crate::fuzz::{Rng, SQL_TOKENS, run, statements};
use crate::plan::Effect;
use crate::sharding::{Modulo, Ring, RingPosition};

/// Kinds of keys, each under a function that takes them.
const KEYS: [KeyType; 4] = [KeyType::BigInt, KeyType::Int, KeyType::Text, KeyType::Uuid];

fn ring() -> Ring {
    let shards = ["a", "b", "c"];
    let positions = [0, 300, 600].into_iter().zip(shards);
    let positions: Vec<_> = positions
        .map(|(position, shard)| RingPosition {
            position,
            shard: shard.into(),
        })
        .collect();
    Ring::new(1000, &positions, &shards).unwrap()
}

fn router(key_type: KeyType, settings: &Settings) -> Router {
    let sharded = |columns: Option<&[&str]>| Table::Sharded {
        column: "user_id".into(),
        columns: columns.map(|c| c.iter().map(|c| (*c).into()).collect()),
    };
    let tables = [
        ("notifications", sharded(None)),
        ("user_preferences", sharded(Some(&["user_id", "lang"]))),
        ("devices", sharded(Some(&["user_id", "token"]))),
        ("countries", Table::Reference),
        ("settings", Table::Home(ShardId(0))),
    ];
    let schema = Schema {
        shards: 3,
        function: Arc::new(match key_type {
            KeyType::BigInt | KeyType::Int => Function::Modulo(Modulo::new(3).unwrap()),
            _ => Function::Ring(ring()),
        }),
        key_type,
        tables: HashMap::from(tables.map(|(name, table)| (name.into(), table))),
    };
    Router::new(schema, settings)
}

/// Remembers few shapes.
fn remembering(key_type: KeyType) -> Router {
    router(
        key_type,
        &Settings {
            cache_size: 8,
            ..Settings::default()
        },
    )
}

/// Remembers nothing: each plan is made afresh.
fn forgetful(key_type: KeyType) -> Router {
    router(
        key_type,
        &Settings {
            cache_max_statement: 0,
            ..Settings::default()
        },
    )
}

fn corpus() -> Vec<String> {
    let mut all: Vec<String> = [
        include_str!("../../tests/plans/oracle.sql"),
        include_str!("../../tests/plans/traps.sql"),
        include_str!("../../tests/plans/psql.sql"),
    ]
    .into_iter()
    .flat_map(statements)
    .collect();
    all.push("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END".into());
    all.push("SELECT set_config('JIT', 'it''s', false), set_config('a.b', $1, true)".into());
    all
}

/// A text, what Parse says of its parameters, and what they are.
type Case = (String, Vec<u32>, Vec<(Option<Vec<u8>>, bool)>);

fn case(rng: &mut Rng, corpus: &[String]) -> Case {
    const OIDS: [u32; 11] = [0, 16, 20, 21, 23, 25, 701, 1016, 1043, 1700, 2950];
    const VALUES: [&[u8]; 11] = [
        b"1",
        b"42",
        b"-1.50",
        b"{1,2,NULL}",
        b"\0\0\0\0\0\0\0\x2a",
        b"\0\0\0\x2a",
        b"\0\x2a",
        b"'a'",
        b"6F9619FF-8B86-D011-B42D-00CF4FC964FF",
        b"",
        b"x\xff",
    ];
    let sql = rng.text(corpus, SQL_TOKENS);
    let types = (0..rng.below(3)).map(|_| rng.pick(&OIDS)).collect();
    let values = (0..rng.below(4)).map(|_| {
        let value = (!rng.once_in(6)).then(|| rng.bytes(&VALUES, &VALUES));
        (value, rng.once_in(2))
    });
    (sql, types, values.collect())
}

struct Bound<'a>(&'a Case);

impl Params for Bound<'_> {
    fn get(&self, index: usize) -> Option<Param<'_>> {
        let (value, binary) = self.0.2.get(index)?;
        Some(Param {
            value: value.as_deref(),
            binary: *binary,
            declared_type: self.0.1.get(index).copied().unwrap_or(0),
        })
    }
}

/// The text with other literals: nothing of its shape.
fn other_values(sql: &str, rng: &mut Rng) -> String {
    let (mut out, mut at) = (String::new(), 0);
    for literal in scan(sql).literals {
        let number = rng.below(100);
        out.push_str(&sql[at..literal.start as usize]);
        out.push_str(&match literal.kind {
            LiteralKind::Integer => number.to_string(),
            LiteralKind::Decimal => format!("{number}.5"),
            LiteralKind::String => format!("'{number}'"),
            LiteralKind::Escape => format!("E'\\'{number}'"),
        });
        at = literal.end as usize;
    }
    out + &sql[at..]
}

#[test]
fn fuzz_plans_are_the_same_each_time() {
    let corpus = corpus();
    let forgetful = KEYS.map(forgetful);
    run(
        "fuzz_plans",
        700,
        |rng| case(rng, &corpus),
        |case, rng| {
            let (sql, types, _) = case;
            let kind = rng.below(KEYS.len());
            let (shared, forgetful) = (remembering(KEYS[kind]), &forgetful[kind]);
            let other = other_values(sql, rng);
            shared.route(&other, types);
            let (routed, fresh) = (shared.route(sql, types), forgetful.route(sql, types));
            if scan(&other).shape == scan(sql).shape && scan(sql).statements.len() == 1 {
                assert_eq!(scan(&other).literals.len(), scan(sql).literals.len());
            }
            let (cached, made) = (&routed.shape, &fresh.shape);
            assert_eq!(cached.statements, made.statements, "after {other:?}");
            assert_eq!(cached.details, made.details, "after {other:?}");
            for params in [&NoParams as &dyn Params, &Bound(case)] {
                for n in 0..=cached.statements.len() {
                    let decision = shared.decide(sql, &routed, n, params);
                    assert_eq!(decision, forgetful.decide(sql, &fresh, n, params));
                    assert_eq!(decision, shared.decide(sql, &routed, n, params));
                }
                shared.decide_all(sql, &routed, params);
            }
        },
    );
}

#[test]
fn fuzz_spans_cut_no_character() {
    let corpus = corpus();
    let make = |rng: &mut Rng| rng.text(&corpus, SQL_TOKENS);
    run("fuzz_spans", 2000, make, |sql: &String, _| {
        let found = scan(sql);
        let literals = found
            .literals
            .iter()
            .map(|l| l.start as usize..l.end as usize);
        let hints = found.hints.iter().map(|h| h.body.clone());
        let spans = literals.chain(hints).chain(found.comments.iter().cloned());
        for span in spans.chain(found.statements.iter().cloned()) {
            assert!(sql.get(span.clone()).is_some(), "{span:?}");
        }
        assert!(
            found
                .hints
                .iter()
                .all(|h| h.statement <= found.statements.len())
        );
        let mut end = 0;
        for statement in &found.statements {
            assert!(end <= statement.start && statement.start < statement.end);
            end = statement.start;
            for word in words(sql, &found, statement) {
                assert!(end <= word.span.start && word.span.end <= statement.end);
                assert!(sql.get(word.span.clone()).is_some_and(|w| !w.is_empty()));
                end = word.span.end;
            }
            end = statement.end;
        }
        let lone = Arc::new(found.shape.clone());
        assert_eq!(*lone, scan(sql).shape);
    });
}

/// Every parameter is known.
struct Known;

impl Params for Known {
    fn get(&self, _: usize) -> Option<Param<'_>> {
        Some(Param {
            value: Some(b"x"),
            binary: false,
            declared_type: 25,
        })
    }
}

#[test]
fn fuzz_set_config_is_read_where_it_is_promised() {
    const CALLS: [&str; 4] = [
        "SELECT set_config('JIT', 'it''s', false)",
        "SELECT pg_catalog.set_config('a.b', $1, true) AS x, current_setting('jit')",
        "SELECT /* x */ \"set_config\" ( 'a' , '' , TRUE ) ; -- end",
        "SELECT set_config('search_path', 'a, \"B\"', false), set_config('role', 'r', false)",
    ];
    let router = forgetful(KeyType::BigInt);
    let make = |rng: &mut Rng| rng.text(&CALLS, SQL_TOKENS);
    run("fuzz_set_config", 700, make, |sql: &String, _| {
        set_configs(sql, &NoParams);
        let routed = router.route(sql, &[]);
        if let [statement] = &routed.shape.statements[..]
            && statement.effect == Effect::SetConfig
        {
            assert!(set_configs(sql, &Known).is_some());
        }
        let call = SetConfig {
            name: sql.to_ascii_lowercase(),
            value: sql.clone(),
            local: sql.len().is_multiple_of(2),
        };
        let again = format!("SELECT {}", call.call());
        assert_eq!(set_configs(&again, &NoParams), Some(vec![call]));
    });
}
