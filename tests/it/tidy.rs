//! The rules of the house, checked by reading the source: which room may import which, which
//! code must stay pure, which package belongs where.
//!
//! Each rule is a function from the files to its violations, and each was seen to object to a
//! planted violation (`planted`). The tables below are the rules: a new room gets a row here.

mod planted;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use source::Source;

/// The rooms. Each may import rooms of later rows, never of its own or an earlier one.
const ROOMS: &[&[&str]] = &[
    &["main"],
    &["cli"],
    &["demo"],
    &["daemon"],
    &["config"],
    &["listener", "http", "admin"],
    &["session"],
    &["executor"],
    &["router", "merge", "backend", "control"],
    &["plan", "topology"],
    &["sharding", "wire"],
    &["error", "telemetry"],
];

/// Arrows that the rows would allow and the house does not: (from, to, except, why).
const FORBIDDEN: &[(&str, &str, &[&str], &str)] = &[
    ("listener", "control", &[], DATA_PLANE),
    ("session", "control", &[], DATA_PLANE),
    ("executor", "control", &[], DATA_PLANE),
    (
        "router",
        "topology",
        &["Role"],
        "the router knows shard numbers, never hosts",
    ),
    (
        "backend",
        "plan",
        &[],
        "backend knows hosts, never statements",
    ),
];

const DATA_PLANE: &str = "the data plane hears of control only through the topology";

/// Who may import `config`: everyone else gets the Settings that it owns itself.
const MAY_IMPORT_CONFIG: &[&str] = &["daemon", "cli"];

/// Modules that other rooms may reach into: their room's face says so.
const FACES: &[(&str, &str)] = &[
    ("telemetry", "metrics"),
    ("telemetry", "logging"),
    ("wire", "scram"),
];

/// What must stay pure: rooms, and files within rooms.
const PURE: &[&str] = &[
    "src/sharding/",
    "src/plan/",
    "src/router/",
    "src/merge/",
    "src/topology/",
    "src/control/health",
    "src/control/decide",
    "src/session/state",
    "src/config/validate",
    "src/config/diff",
];

/// What pure code cannot name: tasks, sockets, clocks, chance, the environment.
const IMPURE: &[&str] = &[
    "tokio",
    "rand",
    "socket2",
    "rustix",
    "libc",
    "std::env",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
];

/// What a pure file may name all the same.
const IMPURE_ALLOWED: &[(&str, &str)] = &[
    // The published topology is a channel; it has no task of its own.
    ("src/topology/", "tokio::sync::watch"),
    ("src/topology/", "tokio::sync::mpsc"),
];

/// Packages that belong to few rooms.
const PACKAGES: &[(&str, &[&str])] = &[
    ("axum", &["http"]),
    ("clap", &["cli"]),
    ("deadpool_postgres", CATALOGUE_READERS),
    ("metrics", &["telemetry"]),
    ("metrics_exporter_prometheus", &["telemetry"]),
    ("sqlparser", &["router"]),
    ("tokio_postgres", CATALOGUE_READERS),
    ("tokio_postgres_rustls", CATALOGUE_READERS),
    ("toml", &["config"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// Never on the path of a client's rows.
const CATALOGUE_READERS: &[&str] = &["control", "demo", "admin", "cli"];

/// How many statics a file may have; none where it does not stand here.
const STATICS: &[(&str, usize)] = &[
    // The recorder of metrics: a process has one.
    ("src/telemetry/metrics.rs", 1),
];

/// A file that is longer, its tests apart, is two things.
const MOST_LINES: usize = 600;

/// A violation, as a compiler would print it.
#[derive(Debug, PartialEq)]
struct Violation(String);

impl Violation {
    fn new(source: &Source, line: usize, what: impl std::fmt::Display) -> Violation {
        Violation(format!("{}:{line}: {what}", source.path))
    }
}

type Rule = fn(&[Source]) -> Vec<Violation>;

const RULES: &[(&str, Rule)] = &[
    ("rooms are known", rooms_are_known),
    ("arrows point down", arrows_point_down),
    ("forbidden arrows", forbidden_arrows),
    ("config is composed, not imported", config_is_not_imported),
    ("no cycles", no_cycles),
    ("faces only", faces_only),
    ("pure code stays pure", pure_stays_pure),
    ("packages stay in their rooms", packages_in_their_rooms),
    ("no statics", no_statics),
    ("nothing is left for later", nothing_left),
    ("files are short", files_are_short),
];

#[test]
fn the_house_is_tidy() {
    let sources = read_all(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(sources.len() > 15, "src was not found");
    let mut report = String::new();
    for (name, rule) in RULES {
        for Violation(text) in rule(&sources) {
            report.push_str(&format!("{text} [{name}]\n"));
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

fn read_all(root: &Path) -> Vec<Source> {
    let mut folders = vec![root.join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            let is_test = path
                .file_stem()
                .is_some_and(|stem| stem == "tests" || stem == "fuzz");
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if name.ends_with(".rs") && !is_test {
                sources.push(Source::new(name, &fs::read_to_string(&path).unwrap()));
            }
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}

fn row(room: &str) -> Option<usize> {
    ROOMS.iter().position(|row| row.contains(&room))
}

/// The imports of other rooms: the line, the room, and what of it.
fn foreign(source: &Source) -> impl Iterator<Item = (usize, &str, &[String])> {
    let own = source.room();
    source.paths.iter().filter_map(move |(line, path)| {
        let room = path.get(1)?;
        let other = path[0] == "crate" && room != own && row(room).is_some();
        (other && own != "lib").then(|| (*line, room.as_str(), &path[2..]))
    })
}

fn rooms_are_known(sources: &[Source]) -> Vec<Violation> {
    let unknown = |s: &&Source| s.room() != "lib" && row(s.room()).is_none();
    let what = "this room has no row in tests/it/tidy.rs";
    let sources = sources.iter().filter(unknown);
    sources.map(|s| Violation::new(s, 1, what)).collect()
}

fn arrows_point_down(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        for (line, room, _) in foreign(source) {
            if row(source.room()) >= row(room) {
                let what = format!("{} must not import {room}", source.room());
                found.push(Violation::new(source, line, what));
            }
        }
    }
    found
}

fn forbidden_arrows(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        for (line, room, what) in foreign(source) {
            for (from, to, except, why) in FORBIDDEN {
                let allowed = what.first().is_some_and(|w| except.contains(&w.as_str()));
                if *from == source.room() && *to == room && !allowed {
                    let what = format!("{from} must not import {to}: {why}");
                    found.push(Violation::new(source, line, what));
                }
            }
        }
    }
    found
}

fn config_is_not_imported(sources: &[Source]) -> Vec<Violation> {
    let strangers = sources
        .iter()
        .filter(|s| !MAY_IMPORT_CONFIG.contains(&s.room()));
    let imports = strangers.flat_map(|s| foreign(s).map(move |(line, room, _)| (s, line, room)));
    let what = "only daemon and cli import config";
    imports
        .filter(|(_, _, room)| *room == "config")
        .map(|(source, line, _)| Violation::new(source, line, what))
        .collect()
}

fn no_cycles(sources: &[Source]) -> Vec<Violation> {
    let mut below: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in sources {
        for (_, room, _) in foreign(source) {
            below.entry(source.room()).or_default().insert(room);
        }
    }
    // Take away, again and again, the rooms that import nothing that is left.
    loop {
        let rooms: BTreeSet<&str> = below.keys().copied().collect();
        let before = below.len();
        below.retain(|_, imports| imports.iter().any(|room| rooms.contains(room)));
        if below.is_empty() {
            return Vec::new();
        }
        if below.len() == before {
            let rooms: Vec<&str> = below.into_keys().collect();
            let text = format!("src: a cycle of imports runs through {}", rooms.join(", "));
            return vec![Violation(text)];
        }
    }
}

fn faces_only(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        for (line, room, what) in foreign(source) {
            let [module, _, ..] = what else {
                continue;
            };
            let is_module = module.starts_with(char::is_lowercase);
            if is_module && !FACES.contains(&(room, module.as_str())) {
                let what = format!("import from the face of {room}, not from {room}::{module}");
                found.push(Violation::new(source, line, what));
            }
        }
    }
    found
}

/// Whether a path is the named thing or lies within it.
fn within(path: &[String], prefix: &str) -> bool {
    let mut parts = path.iter();
    prefix
        .split("::")
        .all(|p| parts.next().is_some_and(|q| q == p))
}

fn pure_stays_pure(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        if !PURE.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for (line, path) in &source.paths {
            let impure = IMPURE.iter().any(|prefix| within(path, prefix));
            let allowed = IMPURE_ALLOWED
                .iter()
                .any(|(place, prefix)| source.path.starts_with(place) && within(path, prefix));
            if impure && !allowed {
                let what = format!("pure code must not name {}", path.join("::"));
                found.push(Violation::new(source, *line, what));
            }
        }
    }
    found
}

fn packages_in_their_rooms(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        for (line, path) in &source.paths {
            for (package, rooms) in PACKAGES {
                if path[0] == *package && !rooms.contains(&source.room()) {
                    let rooms = rooms.join(", ");
                    let what = format!("{package} is used only in {rooms}");
                    found.push(Violation::new(source, *line, what));
                }
            }
        }
    }
    found
}

fn no_statics(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        let known = STATICS.iter().find(|(path, _)| *path == source.path);
        let allowed = known.map_or(0, |(_, most)| *most);
        let mut lines = source.lines_with("static");
        lines.extend(source.lines_with("thread_local"));
        lines.sort_unstable();
        for line in lines.into_iter().skip(allowed) {
            found.push(Violation::new(
                source,
                line,
                "state belongs to an owner, not to a static",
            ));
        }
    }
    found
}

fn nothing_left(sources: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for source in sources {
        for word in ["todo", "unimplemented"] {
            for line in source.lines_with(word) {
                found.push(Violation::new(
                    source,
                    line,
                    format!("{word}! is no answer"),
                ));
            }
        }
    }
    found
}

fn files_are_short(sources: &[Source]) -> Vec<Violation> {
    let lines = |s: &Source| s.code.lines().filter(|l| !l.trim().is_empty()).count();
    let long = sources.iter().filter(|s| lines(s) > MOST_LINES);
    long.map(|s| {
        let what = format!("{} lines of code, {MOST_LINES} are allowed", lines(s));
        Violation::new(s, 1, what)
    })
    .collect()
}
