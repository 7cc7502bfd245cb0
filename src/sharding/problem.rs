//! What is wrong with a function's settings, and where.

use super::{Key, KeyError, KeyLiteral, KeyType, ShardId};

/// One thing wrong with `[databases.sharding]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key of the settings, such as `positions`.
    pub key: &'static str,
    /// The entry of that list and the key within it, where one is to blame.
    pub entry: Option<(usize, &'static str)>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// A problem of a key as a whole.
    pub fn at(key: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Problem {
            key,
            entry: None,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// A problem of one entry's field.
    pub(super) fn entry(
        key: &'static str,
        index: usize,
        field: &'static str,
        message: String,
        remedy: String,
    ) -> Self {
        Problem {
            key,
            entry: Some((index, field)),
            message,
            remedy,
        }
    }

    /// The number of a shard that an entry names.
    pub(super) fn find_shard(
        key: &'static str,
        index: usize,
        name: &str,
        shards: &[&str],
    ) -> Result<ShardId, Problem> {
        match shards.iter().position(|s| *s == name) {
            Some(shard) => Ok(ShardId(shard as u16)),
            None => Err(Problem::entry(
                key,
                index,
                "shard",
                format!("there is no shard `{name}`"),
                match shards {
                    [] => "declare the shard under [[databases.shards]]".into(),
                    _ => format!("the shards are {}", shards.join(", ")),
                },
            )),
        }
    }
}

/// The key that the configuration writes, or what is wrong with it.
pub(super) fn parse_literal(key_type: KeyType, literal: &KeyLiteral) -> Result<Key, String> {
    let (shown, parsed) = match literal {
        KeyLiteral::Int(value) => (value.to_string(), key_type.parse_number(&value.to_string())),
        KeyLiteral::Text(text) => (format!("{text:?}"), key_type.parse_text(text)),
    };
    parsed.map_err(|error| match error {
        KeyError::NoSuchKey => format!("{shown} is outside the type {key_type}"),
        KeyError::Malformed | KeyError::Unknown => {
            format!("{shown} is not a key of type {key_type}")
        }
    })
}
