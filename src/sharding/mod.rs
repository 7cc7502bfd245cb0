//! Key to slot to shard.
//!
//! Every function maps a canonical [`Key`] to a [`Slot`] and each slot to one shard, so that
//! moving data later means moving slots. Pure.

mod decode;
mod key;
mod list;
mod modulo;
mod problem;
mod range;
mod ring;
mod share;

pub use key::{Key, KeyError, KeyType};
pub use list::List;
pub use modulo::Modulo;
pub use problem::Problem;
pub use range::Range;
pub use ring::Ring;
pub use share::Share;

#[cfg(test)]
mod tests;

/// The number of a shard within its database, from 0, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl std::fmt::Display for ShardId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The unit in which keys are owned: a residue, a point of the ring, a range, a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A sharding function, ready to use.
#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    /// `key % n`, never negative.
    Modulo(Modulo),
    /// md5 onto a ring of points.
    Ring(Ring),
    /// Contiguous ranges of keys.
    Range(Range),
    /// Enumerated keys.
    List(List),
}

impl Function {
    /// The function that the settings describe, over shards with these names.
    ///
    /// Returns every problem with the settings, each with the key that is to blame.
    pub fn build(settings: &Settings, shards: &[&str]) -> Result<Function, Vec<Problem>> {
        let mut problems = settings.unused_keys();
        if u16::try_from(shards.len()).is_err() {
            let message = format!(
                "{} shards are more than the {} possible",
                shards.len(),
                u16::MAX
            );
            problems.push(Problem::at("function", message, "use fewer shards"));
            return Err(problems);
        }
        let key_type = settings.key_type;
        let built = match settings.function {
            FunctionName::Modulo => {
                build_modulo(key_type, shards.len() as u16).map(Function::Modulo)
            }
            FunctionName::Ring => {
                Ring::new(settings.ring_size, &settings.positions, shards).map(Function::Ring)
            }
            FunctionName::Range => {
                Range::new(key_type, &settings.ranges, shards).map(Function::Range)
            }
            FunctionName::List => List::new(key_type, &settings.lists, shards).map(Function::List),
        };
        match built {
            Ok(function) if problems.is_empty() => Ok(function),
            Ok(_) => Err(problems),
            Err(found) => {
                problems.extend(found);
                Err(problems)
            }
        }
    }

    /// The slot of a key; `None` where the function leaves the key without one.
    pub fn slot(&self, key: &Key) -> Option<Slot> {
        match self {
            Function::Modulo(f) => f.slot(key),
            Function::Ring(f) => Some(f.slot(key)),
            Function::Range(f) => f.slot(key),
            Function::List(f) => f.slot(key),
        }
    }

    /// The shard that owns a key; `None` where no shard does (a key outside every range or list).
    pub fn shard(&self, key: &Key) -> Option<ShardId> {
        let slot = self.slot(key)?;
        match self {
            Function::Modulo(f) => f.owner(slot),
            Function::Ring(f) => f.owner(slot),
            Function::Range(f) => f.owner(slot),
            Function::List(f) => f.owner(slot),
        }
    }
}

fn build_modulo(key_type: KeyType, shards: u16) -> Result<Modulo, Vec<Problem>> {
    let mut problems = Vec::new();
    if !key_type.is_integer() {
        problems.push(Problem::at(
            "key_type",
            format!("function \"modulo\" needs an integer key, not {key_type}"),
            "use function = \"ring\", which hashes keys of any type",
        ));
    }
    match Modulo::new(shards) {
        Some(modulo) if problems.is_empty() => Ok(modulo),
        Some(_) => Err(problems),
        None => {
            problems.push(Problem::at(
                "function",
                "there are no shards",
                "declare [[databases.shards]]",
            ));
            Err(problems)
        }
    }
}

/// `[databases.sharding]`: which function, over which key.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The function and its own settings.
    #[serde(default)]
    pub function: FunctionName,
    /// The sharding key's column, unless a table names another.
    #[serde(default = "default_key_column")]
    pub key_column: String,
    /// Its type.
    #[serde(default = "default_key_type")]
    pub key_type: KeyType,
    /// `ring`: how many points the ring has; the positions lie in `0..ring_size`.
    #[serde(default = "default_ring_size")]
    pub ring_size: u32,
    /// `ring`: each shard's positions; a shard may have several.
    #[serde(default)]
    pub positions: Vec<RingPosition>,
    /// `range`: which keys each shard has.
    #[serde(default)]
    pub ranges: Vec<RangeEntry>,
    /// `list`: which keys each shard has.
    #[serde(default)]
    pub lists: Vec<ListEntry>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            function: FunctionName::default(),
            key_column: default_key_column(),
            key_type: default_key_type(),
            ring_size: default_ring_size(),
            positions: Vec::new(),
            ranges: Vec::new(),
            lists: Vec::new(),
        }
    }
}

impl Settings {
    /// Keys that belong to another function: most likely `function` is not the intended one.
    fn unused_keys(&self) -> Vec<Problem> {
        [
            ("positions", FunctionName::Ring, self.positions.is_empty()),
            ("ranges", FunctionName::Range, self.ranges.is_empty()),
            ("lists", FunctionName::List, self.lists.is_empty()),
        ]
        .into_iter()
        .filter(|(_, owner, empty)| !empty && *owner != self.function)
        .map(|(key, owner, _)| {
            let (wanted, given) = (owner.as_str(), self.function.as_str());
            Problem::at(
                key,
                format!(
                    "`{key}` belongs to function \"{wanted}\", but the function is \"{given}\""
                ),
                format!("remove `{key}`, or set function = \"{wanted}\""),
            )
        })
        .collect()
    }
}

/// The functions by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FunctionName {
    /// `key % number of shards`.
    #[default]
    Modulo,
    /// Consistent hashing on a ring.
    Ring,
    /// Contiguous ranges of keys.
    Range,
    /// Enumerated keys.
    List,
}

impl FunctionName {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            FunctionName::Modulo => "modulo",
            FunctionName::Ring => "ring",
            FunctionName::Range => "range",
            FunctionName::List => "list",
        }
    }
}

/// One position on the ring.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingPosition {
    /// The shard's name.
    pub shard: String,
    /// Its position: the shard owns the points from just after the previous position up to this.
    pub position: u32,
}

/// One range: `from` belongs to it, `to` does not; either may be absent (no bound).
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeEntry {
    /// The shard's name.
    pub shard: String,
    /// First key of the range.
    pub from: Option<KeyLiteral>,
    /// First key after it.
    pub to: Option<KeyLiteral>,
}

/// One list of keys.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListEntry {
    /// The shard's name.
    pub shard: String,
    /// Its keys.
    pub keys: Vec<KeyLiteral>,
}

/// A key as the configuration writes it: a number or a string.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
#[serde(untagged)]
pub enum KeyLiteral {
    /// A number.
    Int(i64),
    /// Anything else.
    Text(String),
}

fn default_key_column() -> String {
    "user_id".into()
}

fn default_key_type() -> KeyType {
    KeyType::BigInt
}

fn default_ring_size() -> u32 {
    1000
}
