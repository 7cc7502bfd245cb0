//! The explanation of a route, for `pgdrover route` and EXPLAIN (ROUTE).

use crate::plan::{Access, Decision, LocalOp, Merge, Plan, Target};
use crate::sharding::ShardId;

use super::place::describe;
use super::{Params, Router};

impl Router {
    /// Explains each statement of a text, one line of text for each fact. `shard_names` are the
    /// configured names in order; a shard without one is told by its number.
    pub fn explain(&self, sql: &str, params: &dyn Params, shard_names: &[&str]) -> Vec<String> {
        let routed = self.route(sql, &[]);
        let mut lines = Vec::new();
        let count = routed.shape.statements.len();
        for number in 0..count {
            if count > 1 {
                lines.push(format!("Statement {}:", number + 1));
            }
            let statement = &routed.shape.statements[number];
            let decision = self.decide(sql, &routed, number, params);
            lines.push(format!("Plan: {}", kind(&statement.plan, &decision)));
            lines.extend(shards(
                &statement.plan,
                &decision,
                shard_names,
                self.schema.shards,
            ));
            if let Decision::Refused(error) = &decision {
                lines.push(format!("Error: {}: {}", error.code, error.message));
                lines.extend(error.detail.iter().map(|d| format!("Detail: {d}")));
                lines.extend(error.hint.iter().map(|h| format!("Hint: {h}")));
            }
            if !matches!(statement.plan, Plan::Local(_)) {
                let reason = &routed.shape.details[number].access_reason;
                lines.push(format!(
                    "Server: {}",
                    server(statement.access, reason.as_deref())
                ));
            }
            lines.push(format!("Proof: {}", statement.proof));
            if let (Plan::Several { merge, .. }, Decision::Refused(_)) =
                (&statement.plan, &decision)
            {
                lines.push(format!("Merge: {}", merge_words(merge)));
            }
        }
        lines
    }
}

/// The kind of a plan, in words.
fn kind(plan: &Plan, decision: &Decision) -> &'static str {
    match (plan, decision) {
        (Plan::Local(LocalOp::Empty), _) => "local (nothing to run)",
        (Plan::Local(_), _) => "local",
        (Plan::Reject(_), _) => "rejected",
        (_, Decision::Shard(_)) => match plan {
            Plan::Single(Target::Home(_)) => "home",
            Plan::Single(Target::Forced(_)) => "single shard, forced",
            _ => "single shard",
        },
        (Plan::Single(Target::AnyOne), _) => "any one",
        (
            Plan::Several {
                target: Target::All,
                ..
            },
            _,
        ) => "scatter (not supported yet)",
        (Plan::Several { .. }, Decision::Refused(_)) => "targeted (not supported yet)",
        (Plan::Single(_), Decision::Refused(_)) => "rejected",
        _ => "any one",
    }
}

fn shards(plan: &Plan, decision: &Decision, names: &[&str], count: u16) -> Option<String> {
    let name = |shard: ShardId| match names.get(usize::from(shard.0)) {
        Some(name) => format!("{shard} ({name})"),
        None => shard.to_string(),
    };
    match (decision, plan) {
        (Decision::Shard(shard), _) => Some(format!("Shard: {}", name(*shard))),
        (
            Decision::AnyShard,
            Plan::Single(Target::Keys(sets))
            | Plan::Several {
                target: Target::Keys(sets),
                ..
            },
        ) => {
            let keys: Vec<String> = sets.iter().map(|s| describe(s, "key")).collect();
            Some(format!(
                "Shard: any (by {}; no value decides)",
                keys.join("; ")
            ))
        }
        (Decision::AnyShard, _) => Some("Shard: any".into()),
        (
            _,
            Plan::Several {
                target: Target::All,
                ..
            },
        ) => {
            let all: Vec<String> = (0..count).map(|n| name(ShardId(n))).collect();
            Some(format!("Shards: {}", all.join(", ")))
        }
        _ => None,
    }
}

fn server(access: Access, reason: Option<&str>) -> String {
    let role = match access {
        Access::Read => "replica",
        Access::Write => "primary",
    };
    match reason {
        Some(reason) => format!("{role}, {reason}"),
        None => role.into(),
    }
}

fn merge_words(merge: &Merge) -> &str {
    match merge {
        Merge::Concat => "concat",
        Merge::Other(how) => how,
    }
}
