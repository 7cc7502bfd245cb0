use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{Readiness, Settings, State, bind};

struct Running {
    address: std::net::SocketAddr,
    ready: watch::Sender<Readiness>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

async fn start() -> Running {
    let settings = Settings {
        address: "127.0.0.1:0".into(),
    };
    let server = bind(&settings).await.unwrap().unwrap();
    let address = server.address();
    let (ready, receiver) = watch::channel(Readiness::Starting);
    let (stop, stopped) = oneshot::channel();
    let state = State {
        render: Arc::new(|| "pgdrover_clients 7\n".into()),
        ready: receiver,
    };
    let task = tokio::spawn(server.run(state, async {
        stopped.await.unwrap();
    }));
    Running {
        address,
        ready,
        stop,
        task,
    }
}

/// The status line and the body.
async fn ask(address: std::net::SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[tokio::test]
async fn readiness_follows_the_daemon_and_liveness_does_not() {
    let running = start().await;
    for (state, status, word) in [
        (Readiness::Starting, "503", "starting\n"),
        (Readiness::Ready, "200", "ready\n"),
        (Readiness::Draining, "503", "draining\n"),
    ] {
        running.ready.send_replace(state);
        let (head, body) = ask(running.address, "/readyz").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert_eq!(body, word);
        let (head, _) = ask(running.address, "/livez").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
}

#[tokio::test]
async fn metrics_are_shown_as_prometheus_wants_them() {
    let running = start().await;
    let (head, body) = ask(running.address, "/metrics").await;
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    assert_eq!(body, "pgdrover_clients 7\n");
    let (_, index) = ask(running.address, "/").await;
    assert!(index.contains("/metrics"), "{index}");
    let (head, _) = ask(running.address, "/nothing").await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[tokio::test]
async fn an_empty_address_binds_nothing() {
    let settings = Settings {
        address: String::new(),
    };
    assert!(bind(&settings).await.unwrap().is_none());
}

#[tokio::test]
async fn half_a_request_does_not_hold_the_shutdown_up() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /live").await.unwrap();
    // The server has taken the connection once it has answered a later one.
    ask(running.address, "/livez").await;
    running.stop.send(()).unwrap();
    let limit = std::time::Duration::from_secs(10);
    tokio::time::timeout(limit, running.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}
