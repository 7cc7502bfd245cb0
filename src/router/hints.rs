//! Hints in comments: `/* pgdrover: shard=2, role=replica */`, and the short `/* shard: 2 */`.
//!
//! A hint that cannot be obeyed is an error, never ignored: who writes one relies on it.

use crate::error::{ClientError, SqlState};
use crate::sharding::ShardId;

use super::scan::HintComment;

/// What a statement's hints ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// `shard=N`.
    pub(super) shard: Option<ShardId>,
    /// `role=primary` or `role=replica`.
    pub(super) role: Option<Role>,
}

/// A server role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The shard's primary.
    Primary,
    /// One of its replicas.
    Replica,
}

/// Reads the hints of one statement.
pub(super) fn read(
    sql: &str,
    comments: &[HintComment],
    statement: usize,
    shards: u16,
) -> Result<Hints, ClientError> {
    let mut hints = Hints::default();
    for comment in comments.iter().filter(|c| c.statement == statement) {
        let body = sql[comment.body.clone()].trim();
        if body.len() >= 8 && body.as_bytes()[..8].eq_ignore_ascii_case(b"pgdrover") {
            let rest = body[8..].trim_start();
            let rest = rest.strip_prefix(':').ok_or_else(|| malformed(body))?;
            read_pairs(rest, &mut hints, shards)?;
        } else if let Some((_, value)) = body.split_once(':') {
            hints.set_shard(value.trim(), shards)?;
        }
    }
    Ok(hints)
}

fn read_pairs(text: &str, hints: &mut Hints, shards: u16) -> Result<(), ClientError> {
    let mut any = false;
    for pair in text
        .split([' ', ',', '\t', '\n', '\r'])
        .filter(|p| !p.is_empty())
    {
        any = true;
        let (name, value) = pair.split_once(['=', ':']).ok_or_else(|| malformed(pair))?;
        match name.to_ascii_lowercase().as_str() {
            "shard" => hints.set_shard(value, shards)?,
            "role" => hints.set_role(value)?,
            _ => return Err(malformed(pair)),
        }
    }
    if any { Ok(()) } else { Err(malformed(text)) }
}

impl Hints {
    fn set_shard(&mut self, value: &str, shards: u16) -> Result<(), ClientError> {
        let shard: u16 = value.parse().map_err(|_| malformed(value))?;
        if shard >= shards {
            return Err(ClientError::error(
                SqlState::FEATURE_NOT_SUPPORTED,
                format!("the hint names shard {shard}, which does not exist"),
            )
            .hint(format!("This database has the shards 0 to {}.", shards - 1)));
        }
        if self.shard.is_some_and(|s| s.0 != shard) {
            return Err(contradiction());
        }
        self.shard = Some(ShardId(shard));
        Ok(())
    }

    fn set_role(&mut self, value: &str) -> Result<(), ClientError> {
        let role = match value.to_ascii_lowercase().as_str() {
            "primary" => Role::Primary,
            "replica" => Role::Replica,
            _ => return Err(malformed(value)),
        };
        if self.role.is_some_and(|r| r != role) {
            return Err(contradiction());
        }
        self.role = Some(role);
        Ok(())
    }
}

fn malformed(what: &str) -> ClientError {
    let what: String = what.trim().chars().take(60).collect();
    ClientError::error(
        SqlState::SYNTAX_ERROR,
        format!("routing hint not understood at \"{what}\""),
    )
    .hint("Hints look like /* pgdrover: shard=2 */ or /* pgdrover: role=primary */ (or replica).")
}

fn contradiction() -> ClientError {
    ClientError::error(
        SqlState::SYNTAX_ERROR,
        "routing hints contradict each other",
    )
    .hint("Give each of shard and role once.")
}
