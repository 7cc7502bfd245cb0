//! Plans: `tests/plans/*.sql` hold statements with the plans that they must get.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgdrover::plan::{Access, Decision, Kind, Merge, Plan, Statement, Target};
use pgdrover::router::{NoParams, Param, Params, Router, Schema, Settings, Table};
use pgdrover::sharding::{Function, KeyType, Modulo, ShardId};

fn sharded(columns: &[&str]) -> Table {
    Table::Sharded {
        column: "user_id".into(),
        columns: (!columns.is_empty()).then(|| columns.iter().map(|c| (*c).into()).collect()),
    }
}

/// The schema of the oracle: three shards, `user_id` modulo 3.
pub(crate) fn schema(shards: u16) -> Schema {
    let tables = [
        ("notifications", sharded(&[])),
        ("user_preferences", sharded(&["user_id", "lang"])),
        ("devices", sharded(&["user_id", "token"])),
        ("countries", Table::Reference),
        ("settings", Table::Home(ShardId(0))),
    ];
    Schema {
        shards,
        function: Arc::new(Function::Modulo(Modulo::new(shards).unwrap())),
        key_type: KeyType::BigInt,
        tables: HashMap::from(tables.map(|(name, table)| (name.into(), table))),
    }
}

pub(crate) fn router() -> Router {
    Router::new(schema(3), &Settings::default())
}

/// One block of a plan file.
struct Case {
    /// Its first line up to the colon, such as `row 4`.
    title: String,
    expected: String,
    params: Vec<Bound>,
    sql: String,
}

struct Bound {
    annotation: String,
    oid: u32,
    binary: bool,
    value: Option<Vec<u8>>,
}

struct Bindings<'a>(&'a [Bound]);

impl Params for Bindings<'_> {
    fn get(&self, index: usize) -> Option<Param<'_>> {
        let bound = self.0.get(index)?;
        Some(Param {
            value: bound.value.as_deref(),
            binary: bound.binary,
            declared_type: bound.oid,
        })
    }
}

/// Reads `int8 binary 42`, `text 42` (undeclared), `varchar abc`, `NULL`.
fn bound(annotation: &str) -> Bound {
    let (type_name, rest) = annotation.split_once(' ').unwrap_or((annotation, ""));
    let (binary, text) = match rest.strip_prefix("binary ") {
        Some(text) => (true, text),
        None => (false, rest),
    };
    let oid = match type_name {
        "text" | "NULL" => 0,
        "int2" => 21,
        "int4" => 23,
        "int8" => 20,
        "float8" => 701,
        "numeric" => 1700,
        "varchar" => 1043,
        "int8[]" => 1016,
        other => unreachable!("type {other}"),
    };
    let value = match (type_name, binary) {
        ("NULL", _) => None,
        ("int4", true) => Some(text.parse::<i32>().unwrap().to_be_bytes().to_vec()),
        ("int2", true) => Some(text.parse::<i16>().unwrap().to_be_bytes().to_vec()),
        ("int8", true) => Some(text.parse::<i64>().unwrap().to_be_bytes().to_vec()),
        ("varchar", true) => Some(text.as_bytes().to_vec()),
        ("float8", true) => Some(text.parse::<f64>().unwrap().to_be_bytes().to_vec()),
        (other, true) => unreachable!("binary {other}"),
        (_, false) => Some(text.as_bytes().to_vec()),
    };
    Bound {
        annotation: annotation.to_string(),
        oid,
        binary,
        value,
    }
}

/// The comment at the top of a plan file, and its cases.
fn read(text: &str) -> (String, Vec<Case>) {
    let mut blocks = text.split("\n\n").map(str::trim).filter(|b| !b.is_empty());
    let head = blocks.next().unwrap().to_string();
    let cases = blocks.map(|block| {
        let (comments, sql): (Vec<&str>, Vec<&str>) = block
            .lines()
            .partition(|l| l.starts_with("-- row ") || l.starts_with("-- $"));
        let (title, expected) = comments[0][3..].split_once(": ").unwrap();
        Case {
            title: title.to_string(),
            expected: expected.to_string(),
            params: comments[1..]
                .iter()
                .map(|c| bound(c.split_once(" = ").unwrap().1))
                .collect(),
            sql: sql.join("\n"),
        }
    });
    (head, cases.collect())
}

fn write(head: &str, cases: &[Case], plans: &[String]) -> String {
    let mut out = head.to_string();
    for (case, plan) in cases.iter().zip(plans) {
        write!(out, "\n\n-- {}: {plan}\n", case.title).unwrap();
        for (n, param) in case.params.iter().enumerate() {
            writeln!(out, "-- ${} = {}", n + 1, param.annotation).unwrap();
        }
        out.push_str(&case.sql);
    }
    out + "\n"
}

/// The plan of a whole text in the oracle's notation.
fn notation(router: &Router, sql: &str, params: &[Bound]) -> String {
    let types: Vec<u32> = params.iter().map(|p| p.oid).collect();
    let routed = router.route(sql, &types);
    let plans: Vec<String> = (0..routed.shape.statements.len())
        .map(|n| {
            let decision = router.decide(sql, &routed, n, &Bindings(params));
            short(&routed.shape.statements[n], &decision)
        })
        .collect();
    plans.join("; ")
}

fn short(statement: &Statement, decision: &Decision) -> String {
    let session = matches!(statement.kind, Kind::Session | Kind::Transaction);
    match (&statement.plan, decision) {
        (Plan::Local(_), _) => "L".into(),
        (Plan::Single(Target::AnyOne), Decision::AnyShard) if session => "L".into(),
        (Plan::Single(Target::Home(_)), Decision::Shard(shard)) => format!("H{shard}"),
        (Plan::Single(Target::Forced(_)), Decision::Shard(shard)) => format!("S{shard} forced"),
        (_, Decision::Shard(shard)) => format!("S{shard}"),
        (_, Decision::AnyShard) if statement.access == Access::Write => "R1 sticky".into(),
        (_, Decision::AnyShard) => "R1".into(),
        (Plan::Several { target, merge, .. }, Decision::Refused(error)) => {
            let detail = error.detail.as_deref().unwrap_or("");
            let shards: String = detail.chars().filter(char::is_ascii_digit).collect();
            let shards: Vec<String> = shards.chars().map(String::from).collect();
            let (set, how) = several(merge);
            let on = match target {
                Target::All => String::new(),
                _ => format!("{{{}}}", shards.join(",")),
            };
            let set = match (set, target) {
                ("", Target::All) => "SC",
                ("", _) => "T",
                (set, _) => set,
            };
            format!("{set}{on} {how}, later")
        }
        (_, Decision::Refused(error)) => {
            assert!(
                !error.message.is_empty() && error.hint.is_some(),
                "{error:?}"
            );
            "X".into()
        }
        (_, Decision::Local) => "L".into(),
    }
}

/// What stands before the shards, and what after them.
fn several(merge: &Merge) -> (&'static str, &str) {
    let Merge::Other(how) = merge else {
        return ("", "concat");
    };
    match &**how {
        "split rows, 2pc" => ("Split", "2pc"),
        "move row, 2pc" => ("MoveRow", "2pc"),
        "copy split, 2pc" => ("CopySplit", "2pc"),
        "all shards, 2pc" => ("RA", "2pc"),
        "all shards, atomic" => ("AllShards", "atomic"),
        "all shards, one by one" => ("AllShards", "one by one"),
        how => ("", how),
    }
}

fn plan_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    files
}

/// `PGDROVER_BLESS=1` writes the plans there are into the files instead.
#[test]
fn every_statement_of_the_plan_files_gets_its_plan() {
    let router = router();
    let mut wrong = String::new();
    for path in plan_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (head, cases) = read(&text);
        let plans: Vec<String> = cases
            .iter()
            .map(|c| notation(&router, &c.sql, &c.params))
            .collect();
        if std::env::var_os("PGDROVER_BLESS").is_some() {
            std::fs::write(&path, write(&head, &cases, &plans)).unwrap();
            continue;
        }
        for (case, plan) in cases.iter().zip(&plans) {
            if case.expected != *plan {
                let (title, sql, expected) = (&case.title, &case.sql, &case.expected);
                writeln!(
                    wrong,
                    "{title}: {sql}\n  expected {expected}\n  got      {plan}"
                )
                .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// A second time, from the cache and with no parameter types, nothing changes.
#[test]
fn a_cached_plan_is_the_fresh_plan() {
    let shared = router();
    for path in plan_files() {
        let (_, cases) = read(&std::fs::read_to_string(&path).unwrap());
        for case in &cases {
            let fresh = notation(&router(), &case.sql, &case.params);
            let first = notation(&shared, &case.sql, &case.params);
            let second = notation(&shared, &case.sql, &case.params);
            assert_eq!((&first, &second), (&fresh, &fresh), "{}", case.sql);
        }
    }
}

#[test]
fn describe_before_bind_may_use_any_shard() {
    let router = router();
    let sql = "SELECT * FROM notifications WHERE user_id = $1";
    let routed = router.route(sql, &[]);
    assert_eq!(
        router.decide(sql, &routed, 0, &NoParams),
        Decision::AnyShard
    );
}
