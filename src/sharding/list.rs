//! Enumerated keys.

use std::collections::HashMap;

use super::problem::parse_literal;
use super::{Key, KeyType, ListEntry, Problem, ShardId, Slot};

/// Each listed key's shard; other keys have none.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    slots: HashMap<Key, Slot>,
    /// The shard of each entry of the settings; the slot is the index.
    owners: Vec<ShardId>,
}

impl List {
    /// Returns every problem: a key of another type, a key listed twice, a shard that is
    /// unknown, or one without keys.
    pub fn new(
        key_type: KeyType,
        settings: &[ListEntry],
        shards: &[&str],
    ) -> Result<List, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut slots: HashMap<Key, Slot> = HashMap::new();
        let mut owners = Vec::new();
        let mut placed = vec![false; shards.len()];
        for (index, entry) in settings.iter().enumerate() {
            let shard = match Problem::find_shard("lists", index, &entry.shard, shards) {
                Ok(shard) => {
                    placed[usize::from(shard.0)] |= !entry.keys.is_empty();
                    shard
                }
                Err(problem) => {
                    problems.push(problem);
                    ShardId(0)
                }
            };
            owners.push(shard);
            for literal in &entry.keys {
                match parse_literal(key_type, literal) {
                    Err(message) => {
                        let remedy = format!("write keys of type {key_type}");
                        problems.push(Problem::entry("lists", index, "keys", message, remedy));
                    }
                    Ok(key) => {
                        let shown = key.to_string();
                        if let Some(first) = slots.insert(key, Slot(index as u32)) {
                            let other = &settings[first.0 as usize].shard;
                            problems.push(Problem::entry(
                                "lists",
                                index,
                                "keys",
                                format!("key {shown} is listed twice, first for shard `{other}`"),
                                "leave it in one list only".into(),
                            ));
                        }
                    }
                }
            }
        }
        for (shard, _) in shards.iter().zip(&placed).filter(|(_, placed)| !**placed) {
            problems.push(Problem::at(
                "lists",
                format!("shard `{shard}` has no keys"),
                format!("add {{ shard = \"{shard}\", keys = [ … ] }}"),
            ));
        }
        if problems.is_empty() {
            Ok(List { slots, owners })
        } else {
            Err(problems)
        }
    }

    /// The entry that lists the key.
    pub fn slot(&self, key: &Key) -> Option<Slot> {
        self.slots.get(key).copied()
    }

    /// The entry's shard.
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        self.owners.get(slot.0 as usize).copied()
    }

    /// How many keys each shard lists.
    pub fn counts(&self, shards: u16) -> Vec<usize> {
        let mut counts = vec![0; usize::from(shards)];
        for slot in self.slots.values() {
            if let Some(shard) = self.owner(*slot)
                && let Some(count) = counts.get_mut(usize::from(shard.0))
            {
                *count += 1;
            }
        }
        counts
    }
}
