//! The loop: when to probe whom, and what becomes of the outcomes.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::health::{Change, Outcome, Tracker, apply};
use super::probe::{Probe, ProbeTls, ServerProbe, Target};
use super::{Credentials, Settings};
use crate::telemetry::metrics::HealthMetrics;
use crate::topology::{Address, FailureReport, Health, Publisher, Role, Topology};

/// Two probes of one server are at least this far apart, however many failures are reported.
const SPACING: Duration = Duration::from_millis(100);

/// Watches the servers of the published topology until `shutdown` resolves.
///
/// It follows the topology: servers that a reload adds are probed at once, and what is known of
/// the others is written into the new picture. `reports` may end; the ticks go on.
pub async fn run(
    settings: Settings,
    credentials: Credentials,
    tls: ProbeTls,
    publisher: Publisher,
    reports: mpsc::Receiver<FailureReport>,
    shutdown: impl Future<Output = ()>,
) {
    let limit = settings.check_timeout;
    let make = move |target: &Target| ServerProbe::new(target, &credentials, &tls, limit);
    watch(&settings, make, publisher, reports, shutdown).await;
}

async fn watch<P: Probe>(
    settings: &Settings,
    make: impl Fn(&Target) -> P,
    publisher: Publisher,
    mut reports: mpsc::Receiver<FailureReport>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let mut topology = publisher.subscribe();
    // Servers are probed when they enter, so the first tick can wait.
    let interval = settings.check_interval;
    let mut tick = tokio::time::interval_at(Instant::now() + interval, interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch {
        make,
        publisher,
        check_fails: settings.check_fails,
        servers: HashMap::new(),
        known: HashMap::new(),
        running: JoinSet::new(),
    };
    // A borrow in the call's own line would last through it, and lock the publisher out.
    let first = topology.borrow_and_update().clone();
    watch.follow(&first);
    loop {
        tokio::select! {
            () = &mut shutdown => return,
            _ = tick.tick() => watch.probe_all(),
            Ok(()) = topology.changed() => {
                let now = topology.borrow_and_update().clone();
                watch.follow(&now);
            }
            Some(report) = reports.recv() => watch.reported(&report),
            Some(Ok(done)) = watch.running.join_next() => watch.settle(done),
        }
    }
}

/// Where a server stands in the topology: database, shard, role. It may stand in several.
type Place = (Arc<str>, Arc<str>, Role);

/// A server under watch.
struct Server<P> {
    target: Target,
    probe: Arc<P>,
    metrics: HashMap<Place, HealthMetrics>,
    state: State,
    /// When the last probe began.
    last: Option<Instant>,
    /// How the last probe ended, unless well.
    trouble: Option<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Resting,
    Probing,
    /// A failure was reported while a probe was on its way, which may have asked too early.
    ProbingThenAgain,
}

struct Done {
    target: Target,
    outcome: Outcome,
    took: Duration,
}

struct Watch<P, F> {
    make: F,
    publisher: Publisher,
    check_fails: u32,
    servers: HashMap<Address, Server<P>>,
    known: HashMap<Address, Tracker>,
    running: JoinSet<Done>,
}

impl<P: Probe, F: Fn(&Target) -> P> Watch<P, F> {
    /// Takes the servers of a new picture in, and forgets those that are gone.
    fn follow(&mut self, topology: &Topology) {
        let mut before = std::mem::take(&mut self.servers);
        let mut places = HashMap::new();
        for database in topology.databases.values() {
            for shard in &database.shards {
                for server in &shard.servers {
                    let target = Target {
                        address: server.address.clone(),
                        dbname: shard.dbname.clone(),
                    };
                    let place = (database.name.clone(), shard.name.clone(), server.role);
                    places
                        .entry(server.address.clone())
                        .or_insert_with(Vec::new)
                        .push(place);
                    // A server that holds several databases is probed through the first.
                    if !self.servers.contains_key(&server.address) {
                        let kept = before.remove(&server.address);
                        let server = self.enter(target, kept);
                        self.servers.insert(server.target.address.clone(), server);
                    }
                }
            }
        }
        for (address, gone) in before {
            self.known.remove(&address);
            gone.metrics.values().for_each(HealthMetrics::removed);
        }
        for (address, places) in places {
            if let Some(server) = self.servers.get_mut(&address) {
                server.stand(places, self.known.get(&address));
            }
        }
        self.probe_new();
        self.publish();
    }

    /// A server that was watched before keeps its probe, unless it must ask elsewhere now.
    fn enter(&self, target: Target, kept: Option<Server<P>>) -> Server<P> {
        match kept {
            Some(server) if server.target == target => server,
            _ => Server {
                probe: Arc::new((self.make)(&target)),
                target,
                metrics: HashMap::new(),
                state: State::Resting,
                last: None,
                trouble: None,
            },
        }
    }

    fn probe_new(&mut self) {
        for server in self.servers.values_mut().filter(|s| s.last.is_none()) {
            server.start(&mut self.running, false);
        }
    }

    fn probe_all(&mut self) {
        for server in self.servers.values_mut() {
            if server.state == State::Resting {
                server.start(&mut self.running, false);
            }
        }
    }

    fn reported(&mut self, report: &FailureReport) {
        let Some(server) = self.servers.get_mut(&report.server) else {
            return; // A reload has removed it meanwhile.
        };
        tracing::debug!(server = %report.server, what = report.what, "failure reported");
        match server.state {
            State::Resting => server.start(&mut self.running, true),
            State::Probing | State::ProbingThenAgain => server.state = State::ProbingThenAgain,
        }
    }

    fn settle(&mut self, done: Done) {
        let Some(server) = self.servers.get_mut(&done.target.address) else {
            return;
        };
        if server.target != done.target {
            return; // The probe of before a reload: its successor is on its way.
        }
        let again = server.state == State::ProbingThenAgain;
        server.state = State::Resting;
        if again {
            server.start(&mut self.running, true);
        }
        let tracker = self.known.entry(done.target.address.clone()).or_default();
        tracker.observe(&done.outcome, self.check_fails);
        let good = matches!(done.outcome, Outcome::Role { .. });
        for metrics in server.metrics.values() {
            metrics.probed(good, done.took.as_secs_f64());
        }
        server.complain(&done.outcome);
        self.publish();
    }

    /// Writes what is known into the topology; the data plane sees it at its next look.
    fn publish(&self) {
        let mut changes = Vec::new();
        self.publisher.update(|topology| {
            changes = apply(&self.known, topology);
        });
        for change in &changes {
            self.tell(change);
        }
    }

    fn tell(&self, change: &Change) {
        let Change {
            database,
            shard,
            address,
            role,
            health,
        } = change;
        let place = (database.clone(), shard.clone(), *role);
        let role = role.as_str();
        let server = self.servers.get(address);
        if let Some(metrics) = server.and_then(|s| s.metrics.get(&place)) {
            metrics.up(health.usable());
        }
        match health {
            Health::Down(why) => {
                tracing::warn!(%database, %shard, role, server = %address, %why, "server is down");
            }
            Health::Up | Health::Unknown => {
                tracing::info!(%database, %shard, role, server = %address, "server is up");
            }
        }
    }
}

impl<P: Probe> Server<P> {
    /// Sends a probe on its way.
    fn start(&mut self, running: &mut JoinSet<Done>, fresh: bool) {
        let now = Instant::now();
        let begin = self.last.map_or(now, |last| now.max(last + SPACING));
        self.state = State::Probing;
        self.last = Some(begin);
        let (probe, target) = (self.probe.clone(), self.target.clone());
        running.spawn(async move {
            tokio::time::sleep_until(begin).await;
            let outcome = probe.probe(fresh).await;
            Done {
                target,
                outcome,
                took: begin.elapsed(),
            }
        });
    }

    /// Logs what is no change of health and yet an operator's business, once.
    fn complain(&mut self, outcome: &Outcome) {
        let trouble = (!matches!(outcome, Outcome::Role { .. })).then(|| outcome.clone());
        if trouble == self.trouble {
            return;
        }
        let server = &self.target.address;
        match outcome {
            Outcome::Answered(why) => {
                tracing::warn!(%server, why, "probe cannot log in: the server's role is not known");
            }
            Outcome::Failed(why) => tracing::info!(%server, why, "probe failed"),
            Outcome::Role { .. } | Outcome::Refused(_) => {}
        }
        self.trouble = trouble;
    }

    /// Keeps metrics for exactly these places. Until it is known better, a server counts as up:
    /// so does the data plane treat it.
    fn stand(&mut self, places: Vec<Place>, known: Option<&Tracker>) {
        self.metrics.retain(|place, metrics| {
            let stays = places.contains(place);
            if !stays {
                metrics.removed();
            }
            stays
        });
        for place in places {
            let (database, shard, role) = &place;
            if !self.metrics.contains_key(&place) {
                let name = self.target.address.to_string();
                let metrics = HealthMetrics::new(database, shard, role.as_str(), &name);
                metrics.up(known.is_none_or(|tracker| tracker.health(*role).usable()));
                self.metrics.insert(place, metrics);
            }
        }
    }
}

#[cfg(test)]
mod tests;
