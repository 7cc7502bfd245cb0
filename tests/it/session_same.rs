//! Through pgdrover every answer is PostgreSQL's own: the scripts of `tests/wire`, sent both ways.

use crate::support::differ::{Cut, Pair, Step, Until, step, until};
use crate::support::say::*;
use crate::support::script;

const SETUP: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 20) g;";

/// Between scripts.
const RESET: &str =
    "DELETE FROM t; INSERT INTO t SELECT g, 'v' || g FROM generate_series(1, 20) g;";

/// Every script with its name.
fn scripts() -> Vec<(&'static str, Vec<Step>)> {
    let files = [
        include_str!("../wire/simple.txt"),
        include_str!("../wire/extended.txt"),
        include_str!("../wire/statements.txt"),
        include_str!("../wire/copy.txt"),
        include_str!("../wire/sqlprepare.txt"),
        include_str!("../wire/transactions.txt"),
    ];
    let mut all: Vec<_> = files.into_iter().flat_map(script::read).collect();
    all.push(("function calls", function_calls()));
    all.push(("65,535 parameters", vec![most_parameters()]));
    all.push(("a long message of a failed COPY", long_copy()));
    all
}

fn function_calls() -> Vec<Step> {
    // abs(int4) by text, int4pl by binary, and no function.
    let abs = [0, 0, 5, 117, 0, 0, 0, 1, 0, 0, 0, 2, b'-', b'7', 0, 0];
    let (two, three) = ([0, 0, 0, 4, 0, 0, 0, 2], [0, 0, 0, 4, 0, 0, 0, 3]);
    let plus = [&[0, 0, 0, 177, 0, 1, 0, 1, 0, 2][..], &two, &three, &[0, 1]].concat();
    let none = [0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&abs[..], &plus, &none]
        .map(|body| step(frame(b'F', body)))
        .into()
}

fn most_parameters() -> Step {
    let list: Vec<String> = (1..=65535).map(|i| format!("${i}")).collect();
    let sql = format!("SELECT 1 IN ({})", list.join(","));
    let values = vec![Some("0"); 65535];
    let batch = [
        parse("", &sql),
        bind("", "", &values),
        execute("", 0),
        sync(),
    ];
    step(batch.concat())
}

/// The COPY fails while most of a message is still to come.
fn long_copy() -> Vec<Step> {
    let long = copy_data(&"304\tb\n".repeat(100_000));
    vec![
        until(query("COPY t FROM STDIN"), Until::Tag(b"GZ")),
        step([copy_data("bad\n"), long, copy_done()].concat()),
        step(query("SELECT count(*) FROM t")),
    ]
}

#[tokio::test]
async fn answers_are_the_same() {
    all_the_same(Cut::Whole).await;
}

/// Lesson 4.
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
