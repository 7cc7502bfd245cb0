//! What the probes mean: pure, so that every sequence can be tested.

use std::collections::HashMap;
use std::sync::Arc;

use crate::topology::{Address, Health, Role, Server, Topology};

/// How one probe ended. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It answered, and told its role.
    Role { in_recovery: bool },
    /// It answered, but would not let the probe in: it is full, or refused the login. That
    /// says nothing against it: others may get in.
    Answered(String),
    /// Nobody listens, or the server says itself that it takes no one now.
    Refused(String),
    /// No answer in time, or no sense in it. May be chance, so it takes several.
    Failed(String),
}

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Tracker {
    /// Failures since the last answer.
    fails: u32,
    /// The role that it told last; its role cannot change without a new answer that we accept.
    in_recovery: Option<bool>,
    /// Whether it has ever answered.
    answered: bool,
    /// Why it must not be used.
    down: Option<Arc<str>>,
}

impl Tracker {
    /// Takes one outcome in. So many failures in a row as `check_fails` says take the server
    /// down; a refusal does at once, and one answer brings it back.
    pub(super) fn observe(&mut self, outcome: &Outcome, check_fails: u32) {
        match outcome {
            Outcome::Role { in_recovery } => {
                self.alive();
                self.in_recovery = Some(*in_recovery);
            }
            Outcome::Answered(_) => self.alive(),
            Outcome::Refused(why) => {
                self.fails += 1;
                self.down = Some(why.as_str().into());
            }
            Outcome::Failed(why) => {
                self.fails += 1;
                // A server that is down already keeps its first reason.
                if self.fails >= check_fails && self.down.is_none() {
                    self.down = Some(why.as_str().into());
                }
            }
        }
    }

    fn alive(&mut self) {
        self.fails = 0;
        self.answered = true;
        self.down = None;
    }

    /// What that means for a server that is configured as `role`. A primary in recovery refuses
    /// writes; a "replica" out of recovery is a fork whose rows the primary does not know.
    pub(super) fn health(&self, role: Role) -> Health {
        if let Some(why) = &self.down {
            return Health::Down(why.clone());
        }
        match (role, self.in_recovery) {
            (Role::Primary, Some(true)) => {
                Health::Down("it is in recovery, but configured as a primary".into())
            }
            (Role::Replica, Some(false)) => {
                Health::Down("it is not in recovery, but configured as a replica".into())
            }
            _ if self.answered => Health::Up,
            _ => Health::Unknown,
        }
    }
}

/// One server's health has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) database: Arc<str>,
    pub(super) shard: Arc<str>,
    pub(super) address: Address,
    pub(super) role: Role,
    pub(super) health: Health,
}

/// Writes what is known into the topology, and tells what that changed. A server without a
/// tracker stays as it is.
pub(super) fn apply(known: &HashMap<Address, Tracker>, topology: &mut Topology) -> Vec<Change> {
    let verdict = |server: &Server| {
        let tracker = known.get(&server.address)?;
        let health = tracker.health(server.role);
        (health != server.health).then_some(health)
    };
    let mut changes = Vec::new();
    for database in topology.databases.values_mut() {
        let servers = database.shards.iter().flat_map(|shard| &shard.servers);
        if servers.into_iter().all(|server| verdict(server).is_none()) {
            continue; // Leaves the database shared with the previous topology.
        }
        let database = Arc::make_mut(database);
        for shard in &mut database.shards {
            for server in &mut shard.servers {
                let Some(health) = verdict(server) else {
                    continue;
                };
                server.health = health.clone();
                changes.push(Change {
                    database: database.name.clone(),
                    shard: shard.name.clone(),
                    address: server.address.clone(),
                    role: server.role,
                    health,
                });
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Database, Shard};

    const REPLICA: Outcome = Outcome::Role { in_recovery: true };
    const PRIMARY: Outcome = Outcome::Role { in_recovery: false };

    fn failed() -> Outcome {
        Outcome::Failed("no answer within 2s".into())
    }

    fn refused() -> Outcome {
        Outcome::Refused("connection refused".into())
    }

    fn full() -> Outcome {
        Outcome::Answered("too many clients".into())
    }

    fn after(outcomes: &[Outcome]) -> Tracker {
        let mut tracker = Tracker::default();
        for outcome in outcomes {
            tracker.observe(outcome, 3);
        }
        tracker
    }

    fn down(why: &str) -> Health {
        Health::Down(why.into())
    }

    #[test]
    fn a_server_is_unknown_until_the_first_answer() {
        assert_eq!(after(&[]).health(Role::Primary), Health::Unknown);
        let failing = after(&[failed(), failed()]);
        assert_eq!(failing.health(Role::Primary), Health::Unknown);
        assert_eq!(after(&[PRIMARY]).health(Role::Primary), Health::Up);
        assert_eq!(after(&[REPLICA]).health(Role::Replica), Health::Up);
        assert_eq!(after(&[full()]).health(Role::Replica), Health::Up);
    }

    #[test]
    fn failures_count_only_in_a_row() {
        let two = after(&[REPLICA, failed(), failed()]);
        assert_eq!(two.health(Role::Replica), Health::Up);
        let three = after(&[REPLICA, failed(), failed(), failed()]);
        assert_eq!(three.health(Role::Replica), down("no answer within 2s"));
        let broken = after(&[REPLICA, failed(), failed(), REPLICA, failed(), failed()]);
        assert_eq!(broken.health(Role::Replica), Health::Up);
        let full = after(&[REPLICA, failed(), failed(), full(), failed(), failed()]);
        assert_eq!(full.health(Role::Replica), Health::Up);
    }

    #[test]
    fn a_refusal_takes_down_at_once_and_one_answer_brings_back() {
        let refused = after(&[REPLICA, refused()]);
        assert_eq!(refused.health(Role::Replica), down("connection refused"));
        let mut back = refused;
        back.observe(&failed(), 3);
        assert_eq!(back.health(Role::Replica), down("connection refused"));
        back.observe(&REPLICA, 3);
        assert_eq!(back.health(Role::Replica), Health::Up);
        back.observe(&failed(), 3);
        assert_eq!(back.health(Role::Replica), Health::Up);
    }

    #[test]
    fn the_wrong_role_is_down() {
        let fork = after(&[PRIMARY]).health(Role::Replica);
        assert!(matches!(&fork, Health::Down(why) if why.contains("configured as a replica")));
        let standby = after(&[REPLICA]).health(Role::Primary);
        assert!(matches!(&standby, Health::Down(why) if why.contains("configured as a primary")));
        let promoted = after(&[REPLICA, PRIMARY]);
        assert_eq!(promoted.health(Role::Primary), Health::Up);
    }

    #[test]
    fn a_full_server_does_not_hide_its_wrong_role() {
        for outcomes in [
            &[REPLICA, full()][..],
            &[REPLICA, refused(), full()],
            &[REPLICA, failed(), failed(), failed(), full()],
        ] {
            let health = after(outcomes).health(Role::Primary);
            assert!(!health.usable(), "{outcomes:?}: {health:?}");
        }
    }

    fn address(port: u16) -> Address {
        Address {
            host: "h".into(),
            port,
        }
    }

    fn database(name: &str, servers: &[(u16, Role)]) -> Arc<Database> {
        let server = |(port, role): &(u16, Role)| Server {
            address: address(*port),
            role: *role,
            weight: 1,
            health: Health::Unknown,
        };
        Arc::new(Database {
            name: name.into(),
            shards: vec![Shard {
                id: crate::sharding::ShardId(0),
                name: "shard0".into(),
                dbname: name.into(),
                servers: servers.iter().map(server).collect(),
            }],
        })
    }

    #[test]
    fn the_topology_takes_what_is_known_and_shares_the_rest() {
        let app = database("app", &[(1, Role::Primary), (2, Role::Replica)]);
        let other = database("other", &[(9, Role::Primary)]);
        let mut topology = Topology::default();
        for database in [&app, &other] {
            topology
                .databases
                .insert(database.name.clone(), database.clone());
        }
        let known = HashMap::from([
            (address(1), after(&[PRIMARY])),
            (address(2), after(&[refused()])),
        ]);
        let changes = apply(&known, &mut topology);
        let told: Vec<_> = changes
            .iter()
            .map(|c| (c.address.port, c.role, c.health.clone()))
            .collect();
        assert_eq!(
            told,
            [
                (1, Role::Primary, Health::Up),
                (2, Role::Replica, down("connection refused")),
            ]
        );
        let servers = &topology.databases["app"].shards[0].servers;
        assert_eq!(servers[0].health, Health::Up);
        assert_eq!(servers[1].health, down("connection refused"));
        assert!(Arc::ptr_eq(&topology.databases["other"], &other));
        assert_eq!(apply(&known, &mut topology), []);
    }
}
