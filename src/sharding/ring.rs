//! Consistent hashing: keys and shards lie on one ring of points.
//!
//! A key's point is the md5 of its canonical text, taken as a 128-bit big-endian integer, modulo
//! the ring's size. It belongs to the first position at or after its point, clockwise; beyond
//! the last position the ring wraps to the lowest. A shard may have several positions.

use md5::{Digest, Md5};

use super::share::Share;
use super::{Key, Problem, RingPosition, ShardId, Slot};

/// Up to this size each point's owner is looked up in a table; larger rings are searched.
const MAX_TABLE: u32 = 1 << 20;

/// A ring with its positions.
#[derive(Clone, Debug, PartialEq)]
pub struct Ring {
    size: u32,
    /// Ascending by position, no position twice, never empty.
    positions: Vec<(u32, ShardId)>,
    /// `owners[point]`, or empty for a large ring.
    owners: Vec<ShardId>,
}

impl Ring {
    /// A ring of `size` points; each shard's positions must lie in `0..size`.
    ///
    /// Returns every problem: a size of 0, a position outside the ring or taken twice, a shard
    /// that is unknown, or one without a position.
    pub fn new(
        size: u32,
        settings: &[RingPosition],
        shards: &[&str],
    ) -> Result<Ring, Vec<Problem>> {
        let mut problems = Vec::new();
        if size == 0 {
            problems.push(Problem::at(
                "ring_size",
                "the ring has no points",
                "use 1000, or leave it out",
            ));
        }
        let mut positions: Vec<(u32, ShardId)> = Vec::new();
        let mut placed = vec![false; shards.len()];
        for (index, entry) in settings.iter().enumerate() {
            if entry.position >= size && size > 0 {
                problems.push(Problem::entry(
                    "positions",
                    index,
                    "position",
                    format!(
                        "position {} lies outside the ring of {size} points",
                        entry.position
                    ),
                    format!("use a position from 0 to {}, or raise ring_size", size - 1),
                ));
            }
            if let Some((_, other)) = positions.iter().find(|p| p.0 == entry.position) {
                problems.push(Problem::entry(
                    "positions",
                    index,
                    "position",
                    format!(
                        "position {} is already taken by shard `{}`",
                        entry.position,
                        shards[usize::from(other.0)]
                    ),
                    "give each shard a position of its own".into(),
                ));
            }
            match Problem::find_shard("positions", index, &entry.shard, shards) {
                Ok(shard) => {
                    placed[usize::from(shard.0)] = true;
                    positions.push((entry.position, shard));
                }
                Err(problem) => problems.push(problem),
            }
        }
        for (shard, _) in shards.iter().zip(&placed).filter(|(_, placed)| !**placed) {
            problems.push(Problem::at(
                "positions",
                format!("shard `{shard}` has no position on the ring: it would own no keys"),
                format!("add {{ shard = \"{shard}\", position = … }}"),
            ));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        positions.sort_unstable();
        Ok(Ring::from_positions(size, positions))
    }

    fn from_positions(size: u32, positions: Vec<(u32, ShardId)>) -> Ring {
        let mut ring = Ring {
            size,
            positions,
            owners: Vec::new(),
        };
        if size <= MAX_TABLE {
            ring.owners = (0..size).filter_map(|point| ring.search(point)).collect();
        }
        ring
    }

    /// The point of a key.
    pub fn slot(&self, key: &Key) -> Slot {
        // Written straight into the hash: nothing is allocated on the way of a statement.
        let digest = match key {
            Key::Text(text) => Md5::digest(text.as_bytes()),
            Key::Int(_) | Key::Uuid(_) => {
                let mut hasher = Md5::new();
                let written =
                    std::fmt::Write::write_fmt(&mut HashText(&mut hasher), format_args!("{key}"));
                debug_assert!(written.is_ok(), "hashing cannot fail");
                hasher.finalize()
            }
        };
        let hash = u128::from_be_bytes(digest.into());
        Slot((hash % u128::from(self.size)) as u32)
    }

    /// The shard at the first position at or after the point, clockwise.
    pub fn owner(&self, slot: Slot) -> Option<ShardId> {
        if slot.0 >= self.size {
            return None;
        }
        match self.owners.get(slot.0 as usize) {
            Some(owner) => Some(*owner),
            None => self.search(slot.0),
        }
    }

    pub(super) fn search(&self, point: u32) -> Option<ShardId> {
        let next = self
            .positions
            .partition_point(|(position, _)| *position < point);
        let (_, shard) = self.positions.get(next).or(self.positions.first())?;
        Some(*shard)
    }

    /// How many points there are.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The positions, ascending.
    pub fn positions(&self) -> &[(u32, ShardId)] {
        &self.positions
    }

    /// The points of the arc that ends at each position, in the order of the positions.
    fn arcs(&self) -> impl Iterator<Item = (u32, ShardId)> {
        let last = self.positions.last().map_or(0, |p| p.0);
        let before = std::iter::once(i64::from(last) - i64::from(self.size))
            .chain(self.positions.iter().map(|p| i64::from(p.0)));
        self.positions
            .iter()
            .zip(before)
            .map(|((position, shard), before)| ((i64::from(*position) - before) as u32, *shard))
    }

    /// Each shard's share of the points.
    pub fn shares(&self, shards: u16) -> Vec<Share> {
        let mut points = vec![0u64; usize::from(shards)];
        for (arc, shard) in self.arcs() {
            if let Some(sum) = points.get_mut(usize::from(shard.0)) {
                *sum += u64::from(arc);
            }
        }
        points
            .into_iter()
            .map(|p| Share::new(p, u64::from(self.size)))
            .collect()
    }

    /// What a further position would take, and from which shard; `None` if it is outside the ring
    /// or taken. One position lies within one arc, so that only one shard gives.
    pub fn gain_of(&self, position: u32) -> Option<(ShardId, Share)> {
        if position >= self.size || self.positions.iter().any(|p| p.0 == position) {
            return None;
        }
        let giver = self.search(position)?;
        let before = self
            .positions
            .iter()
            .rev()
            .find(|p| p.0 < position)
            .map_or_else(
                || {
                    self.positions
                        .last()
                        .map(|p| i64::from(p.0) - i64::from(self.size))
                },
                |p| Some(i64::from(p.0)),
            )?;
        let gained = (i64::from(position) - before) as u64;
        Some((giver, Share::new(gained, u64::from(self.size))))
    }
}

/// Lets formatting write straight into the hash.
struct HashText<'a>(&'a mut Md5);

impl std::fmt::Write for HashText<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}
