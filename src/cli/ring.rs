//! `pgdrover ring`: which share of the keys has each shard, and what would a further one move?

use std::process::ExitCode;

use super::{ConfigFile, EXIT_USAGE, complain, report, say};
use crate::config::DatabaseConfig;
use crate::sharding::{Function, Modulo, Ring, Share};

/// Show each shard's share of the keys, and what adding a shard would move.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Only this database.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// What would move if this shard were added: NAME=POSITION on a ring, NAME for modulo.
    #[arg(long, value_name = "NAME[=POSITION]", value_parser = parse_addition)]
    add: Option<Addition>,
}

/// A shard that might be added.
#[derive(Clone, Debug)]
struct Addition {
    name: String,
    position: Option<u32>,
}

fn parse_addition(text: &str) -> Result<Addition, String> {
    let (name, position) = match text.split_once('=') {
        Some((name, position)) => {
            let number = position
                .parse()
                .map_err(|_| format!("\"{position}\" is not a position"))?;
            (name, Some(number))
        }
        None => (text, None),
    };
    if name.is_empty() {
        return Err("the shard's name is missing".into());
    }
    Ok(Addition {
        name: name.into(),
        position,
    })
}

pub(super) fn run(args: Args) -> ExitCode {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(status) => return status,
    };
    let wanted = |d: &&DatabaseConfig| args.database.as_ref().is_none_or(|name| *name == d.name);
    let databases: Vec<&DatabaseConfig> = config.databases.iter().filter(wanted).collect();
    if databases.is_empty() {
        let names: Vec<&str> = config.databases.iter().map(|d| d.name.as_str()).collect();
        complain(format_args!(
            "there is no such database; the databases are {}",
            names.join(", ")
        ));
        return ExitCode::from(EXIT_USAGE);
    }
    for database in databases {
        match describe(database, args.add.as_ref()) {
            Ok(lines) => lines.iter().for_each(say),
            Err(message) => {
                complain(message);
                return ExitCode::from(EXIT_USAGE);
            }
        }
    }
    ExitCode::SUCCESS
}

fn describe(database: &DatabaseConfig, add: Option<&Addition>) -> Result<Vec<String>, String> {
    // The checks have built the function before.
    let function = database
        .function()
        .map_err(|_| "the configuration did not pass its checks")?;
    let title = match &function {
        Function::Ring(_) => "positions",
        _ => "keys",
    };
    let mut rows = vec![vec![
        "shard".to_owned(),
        title.to_owned(),
        "share".to_owned(),
    ]];
    let shares = report::shares(database, &function);
    for (index, (shard, holding)) in database
        .shards
        .iter()
        .zip(report::holdings(database, &function))
        .enumerate()
    {
        let share = shares
            .as_ref()
            .and_then(|s| s.get(index))
            .map_or("–".into(), |s| s.to_string());
        rows.push(vec![shard.name.clone(), holding, share]);
    }
    let mut lines = vec![report::headline(database, &function), report::table(&rows)];
    lines.extend(report::imbalance(database, &function));
    if let Some(add) = add {
        lines.extend(match &function {
            Function::Ring(ring) => add_to_ring(database, ring, add)?,
            Function::Modulo(modulo) => vec![add_to_modulo(database, modulo, add)?],
            Function::Range(_) | Function::List(_) => {
                return Err("--add is for modulo and ring: a range or list moves exactly the keys that you give the new shard".into());
            }
        });
    }
    Ok(lines)
}

fn add_to_ring(
    database: &DatabaseConfig,
    ring: &Ring,
    add: &Addition,
) -> Result<Vec<String>, String> {
    let names = database.shard_names();
    let position = add
        .position
        .ok_or_else(|| format!("a ring needs a position: --add {}=POSITION", add.name))?;
    let (giver, moved) = ring.gain_of(position).ok_or_else(|| {
        format!(
            "position {position} is taken, or outside 0 to {}",
            ring.size() - 1
        )
    })?;
    let giver = names[usize::from(giver.0)];
    let mut rows = vec![["shard", "now", "then"].map(str::to_owned).to_vec()];
    let shares = ring.shares(names.len() as u16);
    let known = names.contains(&add.name.as_str());
    let all = names
        .iter()
        .copied()
        .zip(shares)
        .chain((!known).then_some((add.name.as_str(), Share::new(0, u64::from(ring.size())))));
    for (name, now) in all {
        let mut then = now;
        if name == add.name {
            then.part += moved.part;
        }
        if name == giver {
            then.part -= moved.part;
        }
        rows.push(vec![name.to_owned(), now.to_string(), then.to_string()]);
    }
    let first = if giver == add.name {
        format!(
            "adding {} at position {position} moves nothing: {giver} has these keys already",
            add.name
        )
    } else {
        format!(
            "adding {} at position {position} moves {moved} of the keys, all from {giver} to {}:",
            add.name, add.name
        )
    };
    Ok(vec![first, report::table(&rows)])
}

fn add_to_modulo(
    database: &DatabaseConfig,
    modulo: &Modulo,
    add: &Addition,
) -> Result<String, String> {
    if add.position.is_some() {
        return Err(format!("modulo has no positions: use --add {}", add.name));
    }
    if database.shard_names().contains(&add.name.as_str()) {
        return Err(format!("there is a shard {} already", add.name));
    }
    let shards = database.shards.len();
    Ok(format!(
        "adding {} moves {} of the keys, between all shards: modulo {shards} becomes modulo {}",
        add.name,
        modulo.moved_by_one_more(),
        shards + 1
    ))
}
