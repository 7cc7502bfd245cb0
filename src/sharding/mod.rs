//! Key to slot to shard.
//!
//! Every function maps a canonical [`Key`] to a [`Slot`] and each slot to one shard, so that
//! moving data later means moving slots. Pure.

mod decode;
mod key;
mod modulo;

pub use key::{Key, KeyError, KeyType};
pub use modulo::Modulo;

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
}

impl Function {
    /// The slot of a key; `None` where the function leaves the key without one.
    pub fn slot(&self, key: &Key) -> Option<Slot> {
        match self {
            Function::Modulo(f) => f.slot(key),
        }
    }

    /// The shard that owns a key; `None` where no shard does (a key outside every range or list).
    pub fn shard(&self, key: &Key) -> Option<ShardId> {
        let slot = self.slot(key)?;
        match self {
            Function::Modulo(f) => f.owner(slot),
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
