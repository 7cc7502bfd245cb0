//! Which replica takes the next read: weighted round robin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fixed schedule in which each member appears as often as its weight, spread evenly, and a
/// counter that all sessions share.
#[derive(Debug)]
pub(super) struct RoundRobin {
    schedule: Vec<usize>,
    next: Arc<AtomicUsize>,
}

impl RoundRobin {
    /// Over members with these weights; a weight of 0 takes no part. It goes on where `before`
    /// is, so that a change of the topology does not favour the first member.
    pub(super) fn new(weights: &[u32], before: Option<&RoundRobin>) -> Self {
        RoundRobin {
            schedule: schedule(weights),
            next: before.map(|b| b.next.clone()).unwrap_or_default(),
        }
    }

    /// The turn was taken.
    pub(super) fn take(&self) {
        self.next.fetch_add(1, Ordering::Relaxed);
    }

    /// The members in the order in which to try them for one read: the one whose turn it is, then
    /// the others as they follow in the schedule (members repeat). What does not `count` leaves the
    /// turn to the next: were describing a statement a turn, a client that describes and then
    /// executes would always execute on the same one of two.
    pub(super) fn turn(&self, counts: bool) -> impl Iterator<Item = usize> + '_ {
        let n = self.schedule.len().max(1);
        let start = self.next.fetch_add(usize::from(counts), Ordering::Relaxed) % n;
        self.schedule[start..]
            .iter()
            .chain(&self.schedule[..start])
            .copied()
    }
}

/// Smooth weighted round robin: at each step every member earns its weight, the richest is chosen
/// and pays the total.
fn schedule(weights: &[u32]) -> Vec<usize> {
    let divisor = weights
        .iter()
        .copied()
        .filter(|w| *w > 0)
        .fold(0, gcd)
        .max(1);
    let weights: Vec<i64> = weights.iter().map(|w| i64::from(w / divisor)).collect();
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            for (c, w) in credit.iter_mut().zip(&weights) {
                *c += w;
            }
            let richest = (0..credit.len())
                .rev()
                .max_by_key(|i| credit[*i])
                .unwrap_or(0);
            credit[richest] -= total;
            richest
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_turns(weights: &[u32], n: usize) -> Vec<usize> {
        let rr = RoundRobin::new(weights, None);
        (0..n).filter_map(|_| rr.turn(true).next()).collect()
    }

    #[test]
    fn equal_weights_alternate() {
        assert_eq!(first_turns(&[1, 1], 4), [0, 1, 0, 1]);
        assert_eq!(first_turns(&[50, 50, 50], 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn weights_are_shares_and_zero_takes_none() {
        let turns = first_turns(&[3, 1, 0], 8);
        assert_eq!(turns.iter().filter(|t| **t == 0).count(), 6);
        assert_eq!(turns.iter().filter(|t| **t == 1).count(), 2);
        assert!(first_turns(&[0, 0], 3).is_empty());
    }

    #[test]
    fn what_does_not_count_leaves_the_turn_to_the_next() {
        let rr = RoundRobin::new(&[1, 1], None);
        let turns = [false, true, false, true].map(|counts| rr.turn(counts).next());
        assert_eq!(turns, [Some(0), Some(0), Some(1), Some(1)]);
    }

    #[test]
    fn a_new_topology_goes_on_where_the_last_was() {
        let old = RoundRobin::new(&[1, 1], None);
        assert_eq!(old.turn(true).next(), Some(0));
        let new = RoundRobin::new(&[1, 1], Some(&old));
        assert_eq!(new.turn(true).next(), Some(1));
        // Sessions that have not noticed yet share the turns.
        assert_eq!(old.turn(true).next(), Some(0));
    }

    #[test]
    fn every_member_is_tried_in_one_turn() {
        let rr = RoundRobin::new(&[1, 2], None);
        let all: std::collections::BTreeSet<_> = rr.turn(true).collect();
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [0, 1]);
    }
}
