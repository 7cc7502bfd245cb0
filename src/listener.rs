//! Bind, accept, limit, and hand over to a session.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::session::{Entrance, Peer, Service, serve};
use crate::wire::Stream;

/// `[listener]`: where clients connect.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Addresses to listen on.
    pub host: String,
    /// Port; also names the Unix socket `.s.PGSQL.<port>`.
    pub port: u16,
    /// Directory of the Unix socket; none when empty.
    pub unix_socket_dir: String,
    /// How many clients may be connected at once; one more gets 53300.
    pub max_client_conn: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            host: "127.0.0.1".into(),
            port: 6432,
            unix_socket_dir: String::new(),
            max_client_conn: 1000,
        }
    }
}

/// The sockets on which clients are accepted.
#[derive(Debug)]
pub struct Listener {
    tcp: Vec<TcpListener>,
    unix: Option<UnixSocket>,
    entrance: Arc<Entrance>,
}

/// A Unix socket that is removed when it is closed.
#[derive(Debug)]
struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Binds what the settings name. `host` may list several addresses, separated by commas; `*` is
/// every IPv4 address. Errors name the address that could not be bound.
pub async fn bind(settings: &Settings) -> io::Result<Listener> {
    let mut tcp = Vec::new();
    for host in settings
        .host
        .split(',')
        .map(str::trim)
        .filter(|h| !h.is_empty())
    {
        let host = if host == "*" { "0.0.0.0" } else { host };
        let listener = TcpListener::bind((host, settings.port))
            .await
            .map_err(|e| {
                io::Error::new(
                    e.kind(),
                    format!("cannot listen on {host}:{}: {e}", settings.port),
                )
            })?;
        tcp.push(listener);
    }
    let unix = match settings.unix_socket_dir.as_str() {
        "" => None,
        dir => Some(bind_unix(
            &Path::new(dir).join(format!(".s.PGSQL.{}", settings.port)),
        )?),
    };
    Ok(Listener {
        tcp,
        unix,
        entrance: Arc::new(Entrance::new(settings.max_client_conn)),
    })
}

/// A socket file that nobody listens on is a remnant of a process that died.
fn bind_unix(path: &Path) -> io::Result<UnixSocket> {
    let stale = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err();
    if stale {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path).map_err(|e| {
        io::Error::new(
            e.kind(),
            format!("cannot listen on {}: {e}", path.display()),
        )
    })?;
    Ok(UnixSocket {
        listener,
        path: path.to_owned(),
    })
}

impl Listener {
    /// The TCP addresses; they tell the port when the settings said port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.tcp
            .iter()
            .filter_map(|l| l.local_addr().ok())
            .collect()
    }

    /// Accepts clients until `draining` becomes true; each session is a task of `sessions`.
    pub async fn run(
        self,
        service: Arc<Service>,
        sessions: TaskTracker,
        mut draining: watch::Receiver<bool>,
    ) {
        let accept = TaskTracker::new();
        for listener in self.tcp {
            let door = Door {
                service: service.clone(),
                sessions: sessions.clone(),
                entrance: self.entrance.clone(),
            };
            accept.spawn(door.accept_tcp(listener, draining.clone()));
        }
        if let Some(unix) = self.unix {
            let door = Door {
                service,
                sessions,
                entrance: self.entrance,
            };
            accept.spawn(door.accept_unix(unix, draining.clone()));
        }
        let _ = draining.wait_for(|d| *d).await;
        accept.close();
        accept.wait().await;
    }
}

/// What an accept loop needs to start sessions.
struct Door {
    service: Arc<Service>,
    sessions: TaskTracker,
    entrance: Arc<Entrance>,
}

impl Door {
    async fn accept_tcp(self, listener: TcpListener, mut draining: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = draining.wait_for(|d| *d) => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true);
                    self.enter(Stream::Tcp(stream), Peer::Tcp(peer));
                }
                Err(error) => pause(&error).await,
            }
        }
    }

    async fn accept_unix(self, socket: UnixSocket, mut draining: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = socket.listener.accept() => accepted,
                _ = draining.wait_for(|d| *d) => return,
            };
            match accepted {
                Ok((stream, _)) => self.enter(Stream::Unix(stream), Peer::Unix),
                Err(error) => pause(&error).await,
            }
        }
    }

    /// The session begins in its own task, under its own time limit: a slow stranger holds nobody
    /// up. One client too many is accepted all the same, to be told so, and because it may be a
    /// cancel request.
    fn enter(&self, stream: Stream, peer: Peer) {
        let stranger = self.entrance.enter();
        let service = self.service.clone();
        self.sessions.spawn(serve(service, stream, peer, stranger));
    }
}

/// Out of file descriptors, most likely: trying again at once would only spin.
async fn pause(error: &io::Error) {
    warn!(%error, "cannot accept a client");
    tokio::time::sleep(Duration::from_millis(100)).await;
}
