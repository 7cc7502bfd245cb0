//! A server that is down, and its return: one clear error for everybody at once, few attempts to
//! connect, and no storm.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pgdrover::demo::{Cluster, Options, Server};

use crate::support::daemon::{Running, over};
use crate::support::eventually;
use crate::support::raw::{Frame, Raw};
use crate::support::say;

const CLIENTS: usize = 200;
const POOL: usize = 4;

struct Scene {
    cluster: Cluster,
    pgdrover: Running,
    clients: Vec<Raw>,
}

impl Scene {
    async fn new() -> Scene {
        let options = Options {
            shards: 1,
            replicas: 0,
            ..Options::default()
        };
        let cluster = Cluster::start(&options).await.unwrap();
        let extra = format!(
            "[session]\nauth_type = \"trust\"\n\n[control]\ncheck_interval = \"1h\"\n\n\
             [pool]\ndefault_pool_size = {POOL}\nserver_login_retry = \"1s\"\n"
        );
        let pgdrover = over(&cluster, &extra).await;
        let clients = join_all((0..CLIENTS).map(|_| pgdrover.raw())).await;
        Scene {
            cluster,
            pgdrover,
            clients,
        }
    }

    fn server(&self) -> &Server {
        &self.cluster.shards[0].servers[0]
    }

    fn count(&self, metric: &str) -> i64 {
        let server = self.server();
        let label = format!("server=\"{}:{}\"", server.host, server.port);
        self.pgdrover.metric(metric, &label)
    }

    /// Attempts that failed, and connections that were opened.
    fn attempts(&self) -> (i64, i64) {
        (
            self.count("pgdrover_server_connect_failures_total"),
            self.count("pgdrover_server_connections_opened_total"),
        )
    }
}

fn error(frames: &[Frame]) -> Option<(String, String)> {
    let error = frames.iter().find(|f| f.tag == b'E')?;
    Some((error.field(b'C'), error.field(b'M')))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn all_who_wait_are_told_at_once_and_a_restart_is_no_storm() {
    let mut scene = Scene::new().await;
    let mut clients = std::mem::take(&mut scene.clients);
    let (holders, waiters) = clients.split_at_mut(POOL);
    for holder in &mut *holders {
        holder.query("BEGIN").await;
        holder.query("SELECT 1").await;
    }
    for waiter in &mut *waiters {
        waiter.send(say::query("SELECT 2")).await;
    }
    eventually("everybody else to wait", async || {
        let waiting = scene.pgdrover.metric("pgdrover_clients_waiting", "");
        waiting == (CLIENTS - POOL) as i64
    })
    .await;
    let (failed, opened) = scene.attempts();
    scene.server().kill().await.unwrap();
    let killed = Instant::now();
    for waiter in &mut *waiters {
        let frames = waiter.ready().await;
        let (code, message) = error(&frames).unwrap_or_else(|| panic!("{frames:?}"));
        let known = ["08001", "57P03"].contains(&code.as_str());
        assert!(known && message.contains("cannot connect"), "{message}");
    }
    assert!(killed.elapsed() < Duration::from_secs(4), "{killed:?}");
    // Clients that do not give up: each is told at once, and the server is hardly asked.
    let until = Instant::now() + Duration::from_secs(2);
    let insist = async |client: &mut Raw| {
        let mut told = 0;
        while Instant::now() < until {
            let frames = client.query("SELECT 3").await;
            assert!(error(&frames).is_some(), "{frames:?}");
            told += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        told
    };
    let told: usize = join_all(waiters.iter_mut().map(insist)).await.iter().sum();
    assert!(told > 3 * waiters.len(), "{told}");
    let attempts = scene.attempts().0 - failed;
    assert!((1..=2 * POOL as i64 + 12).contains(&attempts), "{attempts}");
    for holder in &mut *holders {
        // Its transaction has failed; the client has yet to hear of it.
        holder.query("ROLLBACK").await;
    }
    scene.server().start().await.unwrap();
    let again = async |client: &mut Raw| {
        let mut tries = 0;
        while error(&client.query("SELECT 4").await).is_some() {
            tries += 1;
            assert!(tries < 300, "no way back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    join_all(clients.iter_mut().map(again)).await;
    let (failed, opened) = (scene.attempts().0 - failed, scene.attempts().1 - opened);
    assert!(failed <= attempts + 12, "{failed}");
    assert!(opened <= POOL as i64, "{opened}");
}
