//! `pgdrover route`: where would a statement run, and why?

use std::path::PathBuf;
use std::process::ExitCode;

use super::{ConfigFile, EXIT_USAGE, complain, say};
use crate::config::DatabaseConfig;
use crate::router::{Param, Params, Router, Settings};

/// Explain where a statement would run: plan, shard, server role, and the proof.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The database, if the configuration has several.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The value of a parameter, in text: $1 first, then $2, and so on. NULL is the null value.
    #[arg(long = "param", value_name = "VALUE", allow_hyphen_values = true)]
    params: Vec<String>,
    /// The statement.
    #[arg(value_name = "SQL")]
    sql: String,
}

/// Parameters in text format, of no declared type.
struct TextParams<'a>(&'a [String]);

impl Params for TextParams<'_> {
    fn get(&self, index: usize) -> Option<Param<'_>> {
        let text = self.0.get(index)?;
        Some(Param {
            value: (text != "NULL").then_some(text.as_bytes()),
            binary: false,
            declared_type: 0,
        })
    }
}

pub(super) fn run(args: Args) -> ExitCode {
    let file = ConfigFile {
        config: Some(args.config),
        file: None,
    };
    let config = match file.load() {
        Ok(config) => config,
        Err(status) => return status,
    };
    let database = match choose(&config.databases, args.database.as_deref()) {
        Ok(database) => database,
        Err(message) => {
            complain(message);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let Ok(schema) = database.schema() else {
        complain("the configuration did not pass its checks");
        return ExitCode::from(EXIT_USAGE);
    };
    let router = Router::new(schema, &Settings::default());
    say(render(
        &router,
        &database.shard_names(),
        &args.sql,
        &args.params,
    ));
    ExitCode::SUCCESS
}

fn choose<'a>(
    databases: &'a [DatabaseConfig],
    name: Option<&str>,
) -> Result<&'a DatabaseConfig, String> {
    let names = || {
        let names: Vec<&str> = databases.iter().map(|d| d.name.as_str()).collect();
        names.join(", ")
    };
    match (name, databases) {
        (Some(name), _) => databases
            .iter()
            .find(|d| d.name == name)
            .ok_or_else(|| format!("there is no such database; the databases are {}", names())),
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("--database is needed: one of {}", names())),
    }
}

/// The explanation, as EXPLAIN (ROUTE) gives it.
fn render(router: &Router, shard_names: &[&str], sql: &str, params: &[String]) -> String {
    router
        .explain(sql, &TextParams(params), shard_names)
        .join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use super::*;
    use crate::router::{Schema, Table};
    use crate::sharding::{Function, KeyType, Modulo};

    fn explained(sql: &str, params: &[&str]) -> String {
        let table = Table::Sharded {
            column: "user_id".into(),
            columns: None,
        };
        let schema = Schema {
            shards: 3,
            function: Arc::new(Function::Modulo(Modulo::new(3).unwrap())),
            key_type: KeyType::BigInt,
            tables: HashMap::from([("notifications".into(), table)]),
        };
        let router = Router::new(schema, &Settings::default());
        let params: Vec<String> = params.iter().map(|p| (*p).to_string()).collect();
        render(&router, &["a", "b", "c"], sql, &params)
    }

    #[test]
    fn a_read_of_one_key() {
        let text = explained("SELECT * FROM notifications WHERE user_id = $1", &["43"]);
        assert_eq!(
            text,
            "Plan: single shard\nShard: 1 (b)\nServer: replica\n\
             Proof: notifications by user_id = $1"
        );
    }

    #[test]
    fn a_refusal_says_why_and_what_to_do() {
        let text = explained("INSERT INTO notifications(id) VALUES (1)", &[]);
        assert!(text.starts_with("Plan: rejected\nError: 0A000: "), "{text}");
        assert!(text.contains("\nHint: Give user_id as"), "{text}");
    }

    #[test]
    fn null_is_no_key() {
        let text = explained("SELECT * FROM notifications WHERE user_id = $1", &["NULL"]);
        assert!(text.contains("Plan: any one"), "{text}");
    }
}
