//! From the tree to [`Config`]: which keys exist and of which type their values are.
//!
//! serde stops at the first error. To tell all of them, what is to blame is mended in a copy of
//! the tree (a stand-in of the right type, or the key taken out) and reading starts again, until
//! nothing is left to complain about. [`Lost`] remembers what was mended, so that no later check
//! complains about a stand-in.

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue, Deserializer};

use super::Config;
use super::document::{Document, find, get_mut, remove};
use super::error::{Finding, Path, Step};

/// What could be read.
pub(super) struct Shape {
    /// `None` when the errors left nothing to check further.
    pub(super) config: Option<Config>,
    /// What was wrong.
    pub(super) findings: Vec<Finding>,
    /// What the configuration therefore lacks.
    pub(super) lost: Lost,
}

/// Reads the document into [`Config`], telling every unknown key, missing key and wrong type.
pub(super) fn read(document: &Document<'_>) -> Shape {
    let mut root = document.root.clone();
    let mut findings = Vec::new();
    let mut lost = Lost::default();
    // Each round mends one node, and no node more than a few times.
    for round in 0..MAX_ROUNDS {
        let error = match Config::deserialize(Deserializer::from(Spanned::new(0..0, root.clone())))
        {
            Ok(config) => {
                return Shape {
                    config: Some(config),
                    findings,
                    lost,
                };
            }
            Err(error) => error,
        };
        let kind = Kind::of(error.message());
        let missing = matches!(kind, Kind::Missing(_));
        let Some(path) = error.span().and_then(|span| find(&root, &span, missing)) else {
            let remedy = "compare with config/pgdrover.toml, which has every key";
            findings.push(Finding::new(Path::default(), error.message(), remedy));
            break;
        };
        let at = kind.mend(&mut root, &path, document.beyond() + round);
        // What was mended before, or stands below it, is no news.
        if !lost.holds(&at) {
            let (message, remedy) = kind.explain(&path);
            // A mistyped key is not also missing.
            if let (Kind::Unknown { key, known }, Some((_, parents))) = (&kind, path.0.split_last())
                && let Some(meant) = closest(key, known)
            {
                lost.mended.push(Path(parents.to_vec()).key(meant));
            }
            findings.push(Finding::new(path, message, remedy));
            lost.mended.push(at);
        }
    }
    Shape {
        config: None,
        findings,
        lost,
    }
}

/// More errors than anybody reads at once.
const MAX_ROUNDS: usize = 10_000;

/// The keys whose values in [`Config`] are not the operator's.
#[derive(Default)]
pub(super) struct Lost {
    /// Mended: what they belong to is not judged.
    mended: Vec<Path>,
    /// With an unset variable in their text: only they themselves are not judged.
    unset: Vec<Path>,
}

impl Lost {
    /// Adds a key whose text has an unset variable.
    pub(super) fn add_unset(&mut self, path: Path) {
        self.unset.push(path);
    }

    fn holds(&self, path: &Path) -> bool {
        self.mended.iter().any(|lost| path.0.starts_with(&lost.0))
    }

    /// Whether a finding may be the consequence of something lost.
    pub(super) fn explains(&self, finding: &Path) -> bool {
        let mended = self.mended.iter().any(|lost| {
            let scope = scope(&lost.0);
            let related = finding.0.starts_with(scope) || scope.starts_with(&finding.0);
            let borrowed = matches!(
                (lost.section(), finding.section()),
                ("users", "control" | "session") | ("session" | "hba", "users" | "session" | "hba")
            );
            // A mistyped section makes the right one look absent.
            let absent = lost.0.len() == 1 && finding.0.len() == 1;
            related || borrowed || absent
        });
        mended || self.unset.contains(finding)
    }
}

/// How far the loss of a key reaches: over the section, shard or table that it belongs to.
fn scope(lost: &[Step]) -> &[Step] {
    let key = |at: usize| match lost.get(at) {
        Some(Step::Key(key)) => key.as_str(),
        _ => "",
    };
    let length = match (key(0), key(2)) {
        ("session" | "listener", _) => 1,
        ("users", _) => 2,
        // Sharding and tables speak of shards by their names.
        ("databases", "shards") if key(4) == "name" => 2,
        ("databases", "shards" | "tables") => 4,
        ("databases", "sharding") => 3,
        ("databases", _) => 2,
        _ => lost.len(),
    };
    &lost[..length.min(lost.len())]
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

    /// Makes the error go away; returns which key it was about. `beyond` is a place past the end
    /// of the text, where nothing else stands.
    fn mend(&self, root: &mut DeTable<'_>, path: &Path, beyond: usize) -> Path {
        let place = beyond..beyond + 1;
        if let Kind::Missing(key) = self
            && let Some(DeValue::Table(table)) = get_mut(root, path)
        {
            let value = DeValue::String("".into());
            table.insert(
                Spanned::new(place.clone(), (*key).to_owned().into()),
                Spanned::new(place, value),
            );
            return path.key(key);
        }
        match (self.stand_in(), get_mut(root, path)) {
            (Some(value), Some(node)) => *node = value,
            _ => remove(root, path),
        }
        path.clone()
    }

    /// A value that would have been right here.
    fn stand_in(&self) -> Option<DeValue<'static>> {
        match self {
            Kind::Unknown { .. } | Kind::Missing(_) => None,
            Kind::Variant { known, .. } => {
                Some(DeValue::String((*known.first()?).to_owned().into()))
            }
            Kind::Other { expected, .. } => match *expected {
                "a duration" => Some(DeValue::String("1s".into())),
                "a string" => Some(DeValue::String("".into())),
                "a sequence" => Some(DeValue::Array(DeArray::new())),
                "u16" | "u32" | "u64" | "usize" => Some(DeValue::Integer(DeInteger::default())),
                e if e.starts_with("struct ") => Some(DeValue::Table(DeTable::new())),
                _ => None,
            },
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
                    _ if *message == "wanted string or table" => "write text in quotes".into(),
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
                } else if *message == "wanted string or table" {
                    "the value must be text in quotes".into()
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
    match closest(given, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("{list} {}", known.join(", ")),
    }
}

/// The known name that differs from the given one by a slip or two.
fn closest<'n>(given: &str, known: &[&'n str]) -> Option<&'n str> {
    let given = given.to_lowercase();
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&given, name), *name))
        .min()
        .filter(|(distance, _)| *distance <= 1 + given.len() / 4)
        .map(|(_, name)| name)
}
