//! What a statement costs in the router: known shapes, new shapes.

// A benchmark that cannot go on may stop.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};

use pgdrover::plan::Decision;
use pgdrover::router::{NoParams, Param, Params, Router, Schema, Settings, Table};
use pgdrover::sharding::{Function, KeyType, Modulo};

const STATEMENTS: [(&str, &str); 5] = [
    (
        "point_select",
        "SELECT * FROM notifications WHERE user_id = 421337",
    ),
    (
        "insert",
        "INSERT INTO notifications (id, user_id, title, country, amount, created_at) \
         VALUES (1, 42, 'It is a title', 'PL', 12.50, '2026-01-01')",
    ),
    (
        "in_list",
        "SELECT id, title FROM notifications WHERE user_id IN (3, 6, 9, 12, 15, 18, 21, 24, 27, 30) \
         AND country = 'PL' ORDER BY id",
    ),
    (
        "join",
        "SELECT n.id, n.title, p.lang FROM notifications n JOIN user_preferences p \
         ON p.user_id = n.user_id WHERE n.user_id = 42 AND n.country = 'PL' ORDER BY n.id LIMIT 10",
    ),
    (
        "parameter",
        "SELECT * FROM notifications WHERE user_id = $1",
    ),
];

struct One;

impl Params for One {
    fn get(&self, _: usize) -> Option<Param<'_>> {
        Some(Param {
            value: Some(b"421337"),
            binary: false,
            declared_type: 0,
        })
    }
}

fn router() -> Router {
    let table = || Table::Sharded {
        column: "user_id".into(),
        columns: None,
    };
    let schema = Schema {
        shards: 3,
        function: Arc::new(Function::Modulo(Modulo::new(3).unwrap())),
        key_type: KeyType::BigInt,
        tables: HashMap::from([
            ("notifications".into(), table()),
            ("user_preferences".into(), table()),
        ]),
    };
    Router::new(schema, &Settings::default())
}

fn decide(router: &Router, sql: &str) -> Decision {
    let routed = router.route(sql, &[]);
    match sql.contains('$') {
        true => router.decide(sql, &routed, 0, &One),
        false => router.decide(sql, &routed, 0, &NoParams),
    }
}

fn known_shape(c: &mut Criterion) {
    let router = router();
    let mut group = c.benchmark_group("route/known_shape");
    for (name, sql) in STATEMENTS {
        assert!(matches!(decide(&router, sql), Decision::Shard(_)), "{sql}");
        group.bench_function(name, |b| b.iter(|| decide(&router, black_box(sql))));
    }
    group.finish();
}

fn new_shape(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/new_shape");
    for (name, sql) in STATEMENTS {
        // A statement that is too long for the cache is planned each time.
        let settings = Settings {
            cache_max_statement: 0,
            ..Settings::default()
        };
        let router = Router::new(router().schema().clone(), &settings);
        group.bench_function(name, |b| b.iter(|| decide(&router, black_box(sql))));
    }
    group.finish();
}

criterion_group!(benches, known_shape, new_shape);
criterion_main!(benches);
