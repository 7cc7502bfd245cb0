//! From the tree to [`Config`]: which keys exist and of which type their values are.
//!
//! serde stops at the first error. To tell all of them, the key that is to blame is taken out of
//! the tree and reading starts again, until nothing is left to complain about.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::Config;
use super::document::{Document, find, remove};
use super::error::{Finding, Path};

/// What could be read.
pub(super) struct Shape {
    /// `None` when the errors left nothing to check further.
    pub(super) config: Option<Config>,
    /// What was wrong.
    pub(super) findings: Vec<Finding>,
}

/// Reads the document into [`Config`], telling every unknown key, missing key and wrong type.
pub(super) fn read(document: &Document<'_>) -> Shape {
    let mut root = document.root.clone();
    let mut findings = Vec::new();
    let mut removed: Vec<Path> = Vec::new();
    loop {
        let error = match Config::deserialize(Deserializer::from(Spanned::new(0..0, root.clone())))
        {
            Ok(config) => {
                return Shape {
                    config: Some(config),
                    findings,
                };
            }
            Err(error) => error,
        };
        let kind = Kind::of(error.message());
        let missing = matches!(kind, Kind::Missing(_));
        // Paths for people come from the whole tree, since removal shifts the indexes.
        let place = |tree: &DeTable<'_>| error.span().and_then(|span| find(tree, &span, missing));
        let (Some(shown), Some(path)) = (place(&document.root), place(&root)) else {
            findings.push(Finding::new(
                Path::default(),
                error.message(),
                "compare with config/pgdrover.toml, which has every key",
            ));
            return Shape {
                config: None,
                findings,
            };
        };
        remove(&mut root, &path);
        // A key taken out above is missed below; that is no news.
        let known = matches!(&kind, Kind::Missing(field) if removed.contains(&shown.key(field)));
        if !known {
            let (message, remedy) = kind.explain(&shown);
            findings.push(Finding::new(shown.clone(), message, remedy));
        }
        removed.push(shown);
    }
}

/// An error of serde, read from its message: serde offers nothing else.
enum Kind<'e> {
    Unknown { key: &'e str, known: Vec<&'e str> },
    Missing(&'e str),
    Variant { value: &'e str, known: Vec<&'e str> },
    Other { message: &'e str, expected: &'e str },
}

impl<'e> Kind<'e> {
    fn of(message: &'e str) -> Kind<'e> {
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        match quoted.split_first() {
            Some((key, known)) if message.starts_with("unknown field") => Kind::Unknown {
                key,
                known: known.to_vec(),
            },
            Some((value, known)) if message.starts_with("unknown variant") => Kind::Variant {
                value,
                known: known.to_vec(),
            },
            Some((key, _)) if message.starts_with("missing field") => Kind::Missing(key),
            _ => {
                let expected = message.rsplit_once("expected ").map_or("", |(_, e)| e);
                Kind::Other { message, expected }
            }
        }
    }

    /// Message and remedy.
    fn explain(&self, path: &Path) -> (String, String) {
        match self {
            Kind::Unknown { key, known } => {
                let message = format!("unknown key `{key}`");
                (message, nearest(key, known, "the keys here are"))
            }
            Kind::Missing(key) => (format!("missing key `{key}`"), format!("add {key} = …")),
            Kind::Variant { value, known } => {
                let message = format!("\"{value}\" is not a value of this key");
                (message, nearest(value, known, "the values are"))
            }
            Kind::Other { message, expected } => {
                let remedy = match *expected {
                    "a duration" => {
                        "write a duration in quotes, such as \"5s\", \"500ms\" or \"1h\"".into()
                    }
                    "u16" => "write a whole number from 0 to 65535".into(),
                    "u32" => format!("write a whole number from 0 to {}", u32::MAX),
                    "usize" | "u64" => "write a whole number, 0 or more".into(),
                    "a string" => "write text in quotes".into(),
                    "a sequence" => "write a list, or a section in double brackets: [[…]]".into(),
                    e if e.starts_with("struct ") => "write a section in brackets: […]".into(),
                    _ if message.contains("KeyLiteral") => {
                        "write each key as a whole number or as text in quotes".into()
                    }
                    _ => "compare with config/pgdrover.toml, which has every key".into(),
                };
                let message = if path.to_string().ends_with("password") {
                    // The value stays out of terminals and logs.
                    "the password must be text in quotes".into()
                } else if message.contains("KeyLiteral") {
                    "a key is neither a whole number nor text".into()
                } else {
                    plain(message)
                };
                (message, remedy)
            }
        }
    }
}

/// serde's message without the names of Rust's types.
fn plain(message: &str) -> String {
    let wanted = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        (
            "expected u32",
            "expected a whole number that is not negative",
        ),
        (
            "expected usize",
            "expected a whole number that is not negative",
        ),
        ("expected a sequence", "expected a list"),
    ];
    for (rust, words) in wanted {
        if let Some(start) = message.strip_suffix(rust) {
            return format!("{start}{words}");
        }
    }
    match message.split_once("expected struct ") {
        Some((start, _)) => format!("{start}expected a section"),
        None => message.to_owned(),
    }
}

/// What was probably meant, else all that is possible.
fn nearest(given: &str, known: &[&str], list: &str) -> String {
    let close = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(&given.to_lowercase(), k), k))
        .min()
        .filter(|(distance, _)| *distance <= 1 + given.len() / 4);
    match close {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("{list} {}", known.join(", ")),
    }
}
