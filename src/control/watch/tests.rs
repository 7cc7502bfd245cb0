use std::sync::Mutex;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::sharding::ShardId;
use crate::topology::{Database, Server as Member, Shard};

/// What each server shall answer, and how often it was asked.
#[derive(Clone, Default)]
struct Script {
    servers: Arc<Mutex<HashMap<u16, (Outcome, usize)>>>,
}

impl Script {
    fn set(&self, port: u16, outcome: Outcome) {
        let mut servers = self.servers.lock().unwrap();
        let asked = servers.get(&port).map_or(0, |s| s.1);
        servers.insert(port, (outcome, asked));
    }

    fn asked(&self, port: u16) -> usize {
        self.servers.lock().unwrap()[&port].1
    }
}

struct Scripted {
    script: Script,
    port: u16,
}

impl Probe for Scripted {
    async fn probe(&self, _fresh: bool) -> Outcome {
        let mut servers = self.script.servers.lock().unwrap();
        let server = servers.get_mut(&self.port).unwrap();
        server.1 += 1;
        server.0.clone()
    }
}

const PRIMARY: Outcome = Outcome::Role { in_recovery: false };
const REPLICA: Outcome = Outcome::Role { in_recovery: true };

fn address(port: u16) -> Address {
    Address {
        host: "h".into(),
        port,
    }
}

fn topology(servers: &[(u16, Role)]) -> Topology {
    let member = |(port, role): &(u16, Role)| Member {
        address: address(*port),
        role: *role,
        weight: 1,
        health: Health::Unknown,
    };
    let database = Database {
        name: "app".into(),
        shards: vec![Shard {
            id: ShardId(0),
            name: "shard0".into(),
            dbname: "app".into(),
            servers: servers.iter().map(member).collect(),
        }],
    };
    Topology {
        epoch: 0,
        databases: [(database.name.clone(), Arc::new(database))].into(),
    }
}

struct Running {
    script: Script,
    publisher: Publisher,
    reports: mpsc::Sender<FailureReport>,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<()>,
}

fn start(interval: Duration, script: Script) -> Running {
    let publisher = Publisher::new(topology(&[(1, Role::Primary), (2, Role::Replica)]));
    let (reports, receiver) = mpsc::channel(8);
    let (stop, stopped) = oneshot::channel();
    let settings = Settings {
        check_interval: interval,
        ..Settings::default()
    };
    let (probes, shared) = (script.clone(), publisher.clone());
    let task = tokio::spawn(async move {
        let make = |target: &Target| Scripted {
            script: probes.clone(),
            port: target.address.port,
        };
        watch(&settings, make, shared, receiver, async {
            stopped.await.unwrap_or_default();
        })
        .await;
    });
    Running {
        script,
        publisher,
        reports,
        _stop: stop,
        _task: task,
    }
}

impl Running {
    /// Waits until the published health of a server is as wanted.
    async fn until(&self, port: u16, wanted: impl Fn(&Health) -> bool) {
        let mut topology = self.publisher.subscribe();
        let seen = topology.wait_for(|topology| {
            let servers = &topology.databases["app"].shards[0].servers;
            servers
                .iter()
                .any(|s| s.address == address(port) && wanted(&s.health))
        });
        tokio::time::timeout(Duration::from_secs(10), seen)
            .await
            .unwrap_or_else(|_| panic!("server {port} never got there"))
            .unwrap();
    }
}

fn both() -> Script {
    let script = Script::default();
    script.set(1, PRIMARY);
    script.set(2, REPLICA);
    script
}

fn up(health: &Health) -> bool {
    *health == Health::Up
}

fn down(health: &Health) -> bool {
    !health.usable()
}

#[tokio::test]
async fn a_replica_leaves_rotation_and_comes_back_by_ticks_alone() {
    let running = start(Duration::from_millis(5), both());
    running.until(1, up).await;
    running.until(2, up).await;
    running.script.set(2, Outcome::Failed("silence".into()));
    running.until(2, down).await;
    running.script.set(2, REPLICA);
    running.until(2, up).await;
    running.until(1, up).await;
}

#[tokio::test]
async fn a_report_probes_without_waiting_for_the_tick() {
    let running = start(Duration::from_secs(3600), both());
    running.until(2, up).await;
    running.script.set(2, Outcome::Refused("refused".into()));
    let report = FailureReport {
        server: address(2),
        what: "broken pipe".into(),
    };
    running.reports.send(report.clone()).await.unwrap();
    running.until(2, down).await;
    // One nobody knows is no reason to stop.
    let stranger = FailureReport {
        server: address(77),
        ..report.clone()
    };
    running.reports.send(stranger).await.unwrap();
    running.script.set(2, REPLICA);
    running.reports.send(report).await.unwrap();
    running.until(2, up).await;
    assert_eq!(running.script.asked(1), 1, "nobody reported the primary");
}

#[tokio::test]
async fn a_reload_is_followed_and_keeps_what_is_known() {
    let script = both();
    script.set(2, Outcome::Refused("refused".into()));
    script.set(3, REPLICA);
    let running = start(Duration::from_secs(3600), script);
    running.until(1, up).await;
    running.until(2, down).await;
    let asked = running.script.asked(2);
    // As a reload does it: a new picture, in which nothing is known.
    let servers = [(1, Role::Primary), (2, Role::Replica), (3, Role::Replica)];
    let next = topology(&servers);
    running
        .publisher
        .update(|topology| topology.databases = next.databases);
    running.until(3, up).await;
    running.until(2, down).await;
    running.until(1, up).await;
    assert_eq!(running.script.asked(2), asked, "known without a new probe");
}

#[tokio::test]
async fn a_reload_that_turns_the_roles_round_shows_both_as_wrong() {
    let running = start(Duration::from_secs(3600), both());
    running.until(1, up).await;
    running.until(2, up).await;
    let next = topology(&[(2, Role::Primary), (1, Role::Replica)]);
    running
        .publisher
        .update(|topology| topology.databases = next.databases);
    running.until(1, down).await;
    running.until(2, down).await;
}

#[tokio::test]
async fn a_storm_of_reports_becomes_few_probes() {
    let running = start(Duration::from_secs(3600), both());
    running.until(2, up).await;
    let before = running.script.asked(2);
    let begin = Instant::now();
    for _ in 0..1000 {
        let report = FailureReport {
            server: address(2),
            what: "reset".into(),
        };
        running.reports.send(report).await.unwrap();
    }
    let most = 2 + begin.elapsed().as_millis() / SPACING.as_millis();
    let probes = running.script.asked(2) - before;
    assert!(probes as u128 <= most, "{probes} probes, {most} allowed");
}
