//! The design document's `user_id % N`.

use super::share::Share;
use super::{Key, ShardId, Slot};

/// `key mod n` with the mathematical remainder: −5 mod 3 is 1, unlike SQL's `%`.
#[derive(Clone, Debug, PartialEq)]
pub struct Modulo {
    shards: u16,
}

impl Modulo {
    /// Over `shards` shards; `None` for 0.
    pub fn new(shards: u16) -> Option<Self> {
        (shards > 0).then_some(Modulo { shards })
    }

    /// The residue; `None` for keys that are not integers.
    pub fn slot(&self, key: &Key) -> Option<Slot> {
        match key {
            Key::Int(k) => Some(Slot(k.rem_euclid(i64::from(self.shards)) as u32)),
            Key::Text(_) | Key::Uuid(_) => None,
        }
    }

    /// Residue `i` belongs to shard `i`.
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        u16::try_from(slot.0)
            .ok()
            .filter(|s| *s < self.shards)
            .map(ShardId)
    }

    /// The share of all keys whose shard changes when one shard is added.
    ///
    /// Among the residues modulo n(n+1), the least common multiple, exactly the residues 0 to
    /// n−1 keep their shard: two remainders agree only if both are that same small number.
    pub fn moved_by_one_more(&self) -> Share {
        let n = u64::from(self.shards);
        Share::new(n * n, n * (n + 1))
    }
}
