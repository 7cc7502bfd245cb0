//! Key types and their canonical forms: two spellings that PostgreSQL holds equal are one key.

use serde::Deserialize;

/// The type of a sharding key's column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    /// `bigint`, `int8`.
    #[serde(alias = "int8")]
    BigInt,
    /// `integer`, `int4`.
    #[serde(alias = "integer", alias = "int4")]
    Int,
    /// `text`, `varchar`.
    #[serde(alias = "varchar")]
    Text,
    /// `uuid`.
    Uuid,
}

/// A canonical key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// An integer of any width.
    Int(i64),
    /// Text, byte for byte.
    Text(Box<str>),
    /// A UUID's 128 bits.
    Uuid(u128),
}

/// Why a value is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// A valid value that equals no key of the type: 42.5, or 3000000000 for an integer column.
    /// Reads find no row; a write must be refused, since PostgreSQL may round it to a key.
    NoSuchKey,
    /// Not a value of the type: PostgreSQL itself will say 22P02 or 22003.
    Malformed,
    /// A form that pgdrover does not decode: nothing is proven.
    Unknown,
}
