//! `config/pgdrover.toml` has every key, with its default.

use super::good;
use crate::config::*;
use crate::session::UserSettings;
use crate::topology::ServerSettings;

fn listed_keys<T: serde::de::DeserializeOwned>() -> Vec<String> {
    // serde's own list of a structure's keys stands in its error for a key that is not among them.
    let Err(error) = toml::from_str::<T>("no_such_key_at_all = 1") else {
        panic!("unknown keys are accepted");
    };
    error
        .message()
        .split('`')
        .skip(3)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

const TEMPLATE: &str = include_str!("../../../config/pgdrover.toml");

#[test]
fn the_template_has_every_key() {
    for (keys, count) in [
        (listed_keys::<listener::Settings>(), 4),
        (listed_keys::<http::Settings>(), 0),
        (listed_keys::<telemetry::Settings>(), 2),
        (listed_keys::<session::Settings>(), 6),
        (listed_keys::<backend::Settings>(), 9),
        (listed_keys::<router::Settings>(), 2),
        (listed_keys::<control::Settings>(), 4),
        (listed_keys::<UserSettings>(), 12),
        (listed_keys::<DatabaseConfig>(), 9),
        (listed_keys::<session::HbaRule>(), 5),
        (listed_keys::<sharding::Settings>(), 7),
        (listed_keys::<TableSettings>(), 5),
        (listed_keys::<ShardSettings>(), 3),
        (listed_keys::<ServerSettings>(), 4),
    ] {
        assert!(keys.len() >= count, "{keys:?}");
        let tables = ["servers", "sharding", "tables", "shards"];
        for key in keys.iter().filter(|k| !tables.contains(&k.as_str())) {
            let stands = TEMPLATE.lines().any(|line| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                line.strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.starts_with(" = "))
            });
            assert!(stands, "config/pgdrover.toml lacks {key}");
        }
    }
}

#[test]
fn the_template_shows_the_defaults() {
    let config = good(TEMPLATE);
    let default = Config {
        users: config.users.clone(),
        databases: config.databases.clone(),
        ..Config::default()
    };
    assert_eq!(config, default);
    assert_eq!(config.databases[0].sharding, sharding::Settings::default());
    // Not only what is equal to the default: it stands there.
    let table: toml::Table = TEMPLATE.parse().unwrap();
    for (section, keys) in [
        ("listener", listed_keys::<listener::Settings>()),
        ("log", listed_keys::<telemetry::Settings>()),
        ("session", listed_keys::<session::Settings>()),
        ("pool", listed_keys::<backend::Settings>()),
        ("router", listed_keys::<router::Settings>()),
        ("control", listed_keys::<control::Settings>()),
    ] {
        for key in keys {
            assert!(table[section].get(&key).is_some(), "{section}.{key}");
        }
    }
    assert!(table["http"].get("address").is_some());
}

#[test]
fn the_examples_in_the_template_are_valid() {
    for (function, key) in [
        ("ring", "positions"),
        ("range", "ranges"),
        ("list", "lists"),
    ] {
        let mut inside = false;
        let lines = TEMPLATE.lines().map(|line| {
            inside |= line.starts_with(&format!("# {key} = ["));
            let shown = if inside {
                line.trim_start_matches("# ")
            } else {
                line
            };
            inside &= line != "# ]";
            shown
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let config = good(&text.replace(
            "function = \"modulo\"",
            &format!("function = \"{function}\""),
        ));
        config.databases[0].schema().unwrap();
    }
}
