//! What the answers of several shards would need, for the explanation: the engines come later.

use sqlparser::ast::{Distinct, Query, Select, SetExpr, SetOperator, SetQuantifier, Statement};

use crate::plan::Merge;

use super::access::aggregate_names;
use super::keys::Findings;
use super::place::{Described, UNION, UNION_ALL};
use super::stand_in::readable;

/// How the shards' answers become one, or why they cannot.
pub(super) fn describe(statement: &Statement, findings: &Findings) -> Described {
    match statement {
        Statement::Query(query) => describe_query(query, findings),
        Statement::Insert(_) => Ok(Merge::Other("each shard its own rows, 2pc".into())),
        Statement::Update(_) | Statement::Delete(_) => {
            Ok(Merge::Other("sum of the tags, 2pc".into()))
        }
        _ => Err("this kind of statement".into()),
    }
}

fn describe_query(query: &Query, findings: &Findings) -> Described {
    let limited = query.limit_clause.is_some() || query.fetch.is_some();
    if limited && !query.locks.is_empty() {
        return Err("locking with LIMIT".into());
    }
    let select = match &*query.body {
        SetExpr::Select(select) => select,
        SetExpr::SetOperation {
            op: SetOperator::Union,
            set_quantifier,
            ..
        } if query.order_by.is_none() && !limited => {
            return Ok(Merge::Other(match set_quantifier {
                SetQuantifier::All => UNION_ALL.into(),
                _ => UNION.into(),
            }));
        }
        _ => return Err("a set operation".into()),
    };
    if findings.whole == Some(WINDOW) {
        return Err(WINDOW.into());
    }
    let mut steps: Vec<String> = Vec::new();
    if findings.whole == Some(AGGREGATE) {
        steps.push(aggregation(select)?);
    } else if findings.whole == Some("DISTINCT ON") {
        return Err("DISTINCT ON without the key".into());
    } else if findings.whole == Some("DISTINCT") {
        steps.push("distinct".into());
    }
    if let Some(order) = &query.order_by {
        let order = readable(&order.to_string()).to_lowercase();
        steps.push(format!("kway({})", order.replace("order by ", "")));
    }
    if limited {
        steps.push("limit".into());
    }
    if steps.is_empty() {
        return Ok(Merge::Concat);
    }
    Ok(Merge::Other(steps.join(", ").into()))
}

/// Why a block needs all rows, as the analysis words it.
pub(super) const WINDOW: &str = "a window function that is not partitioned by the key";
/// The same for aggregates.
pub(super) const AGGREGATE: &str = "an aggregate over more than one key";

/// Aggregates whose partial results can be combined.
const COMBINABLE: [&str; 9] = [
    "count", "sum", "min", "max", "avg", "bool_and", "bool_or", "every", "bit_and",
];

fn aggregation(select: &Select) -> Result<String, Box<str>> {
    let names = aggregate_names(select);
    if let Some(name) = names.iter().find(|n| !COMBINABLE.contains(&n.as_str())) {
        return Err(format!("the aggregate {name}()").into());
    }
    let grouped = matches!(&select.group_by, sqlparser::ast::GroupByExpr::Expressions(list, _) if !list.is_empty());
    Ok(match (grouped, &select.distinct) {
        (true, _) => "combine partial groups".to_string(),
        (false, Some(Distinct::Distinct)) => "distinct, combine".to_string(),
        (false, _) => format!("combine {}", names.join(", ")),
    })
}
