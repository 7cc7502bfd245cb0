//! A logged-in client: what it has, and the loop that reads its frames.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, info};

use super::extended::Collected;
use super::gate::User;
use super::gucs::Gucs;
use super::limit::Admitted;
use super::prepared::{Portals, Prepared};
use super::pulse::Phase;
use super::registry::Registered;
use super::service::{Parameters, Served, Service};
use super::startup::Hello;
use super::state::{Prelude, Tx};
use crate::backend::Cluster;
use crate::error::{ClientError, SqlState};
use crate::executor::{CopyState, Held};
use crate::plan::{Access, Pin};
use crate::sharding::ShardId;
use crate::telemetry::metrics::Closed;
use crate::topology::Topology;
use crate::wire::{self, Fill, Header, Port};

/// Who logged in, and to what.
pub(super) struct Identity {
    pub(super) user: Arc<User>,
    pub(super) served: Arc<Served>,
    pub(super) gucs: Gucs,
    /// Its place among the clients of user and database.
    pub(super) admitted: (Admitted, Admitted),
}

/// Why a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client left, or cannot be reached.
    Left(io::Error),
    /// The client sent Terminate.
    Terminated,
    /// The client is told, then disconnected.
    Fatal(ClientError),
    /// The client's stream was cut in the middle of a message: nothing more can be said on it.
    Cut,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        End::Left(error)
    }
}

/// How long a client may take to read why it is disconnected.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// One client's session.
pub(super) struct Client {
    pub(super) service: Arc<Service>,
    pub(super) served: Arc<Served>,
    pub(super) user: Arc<User>,
    pub(super) port: Port,
    pub(super) me: Registered,
    topology: watch::Receiver<Arc<Topology>>,
    draining: watch::Receiver<bool>,
    /// The pools, as of the topology last looked at.
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) gucs: Gucs,
    pub(super) tx: Tx,
    /// The connection that the current transaction, or batch, has.
    pub(super) held: Option<Held>,
    /// Connections kept beyond transactions, and why.
    pub(super) pins: Vec<Held>,
    pub(super) pinned: Option<Pin>,
    /// The statements that SQL prepared, which are among `named` as well.
    pub(super) by_name: Vec<super::execute::ByName>,
    /// The server that runs the next text must know them by their names.
    pub(super) names_wanted: bool,
    /// The pinned connection has statements that SQL prepared, by the client's own names.
    pub(super) server_names: bool,
    /// What the held connection must run when it is next at rest within its block.
    pub(super) behind: Vec<String>,
    /// What may be left of the state on the held connection.
    pub(super) state: super::pins::Doubt,
    pub(super) named: HashMap<Box<[u8]>, Arc<Prepared>, foldhash::fast::RandomState>,
    pub(super) unnamed: Option<Arc<Prepared>>,
    /// What the unnamed statement is on the held connection.
    pub(super) unnamed_there: Option<Arc<Prepared>>,
    pub(super) portals: Portals,
    pub(super) copy: CopyState,
    /// Bytes at the front of the input whose frames were accepted but are not done with.
    pub(super) kept: usize,
    /// After an error in the extended protocol: frames are dropped up to the next Sync.
    pub(super) skipping: bool,
    /// Extended messages went to the held connection and no Sync followed yet.
    pub(super) batch_open: bool,
    pub(super) batch: super::batch::Batch,
    /// What became of the transaction while the client was silent: told with its next statement.
    pub(super) untold: Option<ClientError>,
    /// A BEGIN that was run and whose ReadyForQuery has not come yet.
    pub(super) begun: Option<Prelude>,
    /// Why the held connection must not be used by another client.
    pub(super) retire: Option<Closed>,
    peer: String,
    _admitted: (Admitted, Admitted),
}

impl Client {
    pub(super) fn new(service: Arc<Service>, hello: Hello, id: Identity, peer: String) -> Self {
        Client {
            topology: service.topology.clone(),
            draining: service.draining.clone(),
            me: service.registry.enter(),
            service,
            served: id.served,
            user: id.user,
            port: hello.port,
            cluster: None,
            gucs: id.gucs,
            tx: Tx::Idle,
            held: None,
            pins: Vec::new(),
            pinned: None,
            by_name: Vec::new(),
            names_wanted: false,
            server_names: false,
            behind: Vec::new(),
            state: Default::default(),
            named: HashMap::default(),
            unnamed: None,
            unnamed_there: None,
            portals: Portals::default(),
            copy: CopyState::default(),
            kept: 0,
            skipping: false,
            batch_open: false,
            batch: Default::default(),
            untold: None,
            begun: None,
            retire: None,
            peer,
            _admitted: id.admitted,
        }
    }

    /// Runs the session to its end.
    pub(super) async fn run(mut self) {
        self.served.metrics.connected();
        self.me.pulse.wake_here().await;
        debug!(peer = %self.peer, database = %self.served.name, "client logged in");
        // Boxes: what comes but once, or seldom, takes no room while the session rests.
        let end = match Box::pin(self.welcome()).await {
            Ok(()) => self.serve().await,
            Err(end) => end,
        };
        match end {
            End::Terminated | End::Cut => {}
            End::Left(error) => debug!(peer = %self.peer, %error, "client left"),
            End::Fatal(error) => {
                info!(peer = %self.peer, code = %error.code, error = %error.message, "closing");
                self.served.metrics.error(error.code.code());
                wire::error_response(&mut self.port.output, &error);
                let port = &mut self.port;
                poll_fn(|cx| {
                    let _ = port.poll_flush(cx);
                    Poll::Ready(())
                })
                .await;
            }
        }
        Box::pin(self.leave_servers()).await;
        // A client that does not read keeps no server connection, and not its task for ever.
        let _ = tokio::time::timeout(LAST_WORDS, self.port.flush()).await;
        self.served.metrics.disconnected();
    }

    /// Tells the client what a server would tell it after login. The values come from a server of
    /// the database, which also checks the startup settings.
    async fn welcome(&mut self) -> Result<(), End> {
        let script = self.gucs.script().clone();
        let user = self.user.credentials.user.clone();
        let parameters = match self.served.welcome(&user, &script) {
            Some(parameters) => parameters,
            None => self.ask_parameters().await.map_err(|mut error| {
                error.severity = crate::error::Severity::Fatal;
                End::Fatal(error)
            })?,
        };
        for (name, value) in parameters.iter() {
            wire::parameter_status(&mut self.port.output, name, value);
        }
        wire::backend_key_data(&mut self.port.output, self.me.pid, self.me.secret);
        wire::ready_for_query(&mut self.port.output, b'I');
        Ok(())
    }

    async fn ask_parameters(&mut self) -> Result<Parameters, ClientError> {
        let script = self.gucs.script().clone();
        self.refresh_cluster()?;
        let mut held = self.checkout_any(Access::Read, false).await?;
        if let Err(error) = super::hold::apply_settings(held.lease.conn(), &script).await {
            held.lease.discard(Closed::SetupFailed);
            return Err(error);
        }
        let parameters: Parameters = held
            .lease
            .conn()
            .parameters()
            .iter()
            // pgdrover decides about reads and writes; the client is never "in hot standby".
            .map(|(n, v)| match n.as_str() {
                "in_hot_standby" => (n.clone(), "off".to_owned()),
                _ => (n.clone(), v.clone()),
            })
            .collect();
        self.served
            .remember_welcome(&self.user.credentials.user, &script, &parameters);
        held.lease.release();
        Ok(parameters)
    }

    /// The shard for what may run on any: always the same for one session, spread over sessions.
    pub(super) fn any_shard(&self) -> ShardId {
        let shards = self.shard_count().max(1);
        ShardId((self.me.pid as usize % shards) as u16)
    }

    pub(super) fn shard_count(&self) -> usize {
        self.cluster.as_ref().map_or(0, |c| c.shards.len())
    }

    /// Follows the topology. Cheap when nothing changed.
    pub(super) fn refresh_cluster(&mut self) -> Result<(), ClientError> {
        if self.cluster.is_some() && !self.topology.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let topology = self.topology.borrow_and_update().clone();
        let Some(database) = topology.databases.get(&self.served.name) else {
            return Err(ClientError::error(
                SqlState::INVALID_CATALOG_NAME,
                format!("database \"{}\" is no longer served", self.served.name),
            ));
        };
        let credentials = &self.user.credentials;
        let cluster = self
            .service
            .pools
            .cluster(database, topology.epoch, credentials);
        self.cluster = Some(cluster.map_err(|e| ClientError::from(&e))?);
        Ok(())
    }

    async fn serve(&mut self) -> End {
        loop {
            let step = match self.frame_at_hand() {
                Ok(Some(header)) if self.collects(header) => match self.collect(header) {
                    Ok(Collected::Yes) => continue,
                    Ok(collected) => self.collected(header, collected).await,
                    Err(end) => Err(end),
                },
                Ok(Some(header)) => self.dispatch(header).await,
                Ok(None) => self.wait_for_input().await,
                Err(end) => Err(end),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Whether the frame is of a batch of the extended protocol, and the batch is still good.
    fn collects(&self, header: Header) -> bool {
        !self.skipping && matches!(header.tag, b'P' | b'B' | b'D' | b'E' | b'C')
    }

    async fn dispatch(&mut self, header: Header) -> Result<(), End> {
        // These stand outside a batch: what came before is run first, and if that was a COPY,
        // it may have taken the frame along.
        if self.kept > 0 && matches!(header.tag, b'Q' | b'F' | b'd' | b'c' | b'f') {
            return self.run_batch(false).await;
        }
        match header.tag {
            b'S' => self.sync(header).await,
            b'X' => Err(End::Terminated),
            // What is left of a COPY that failed: PostgreSQL ignores it as well.
            b'd' | b'c' | b'f' => {
                self.drop_frame(header);
                Ok(())
            }
            _ if self.skipping => {
                self.drop_frame(header);
                Ok(())
            }
            b'Q' => self.query(header).await,
            b'H' => self.flush(header).await,
            b'F' => self.function_call(header).await,
            tag => Err(End::Fatal(ClientError::fatal(
                SqlState::PROTOCOL_VIOLATION,
                format!("invalid frontend message type {tag}"),
            ))),
        }
    }

    /// Removes a frame that stands behind the kept ones. Only called when nothing is kept.
    pub(super) fn drop_frame(&mut self, header: Header) {
        debug_assert_eq!(self.kept, 0);
        self.port.input.consume(header.total);
    }

    /// The body of the next frame.
    pub(super) fn body(&self, header: Header) -> &[u8] {
        &self.port.input.bytes()[self.kept + 5..self.kept + header.total]
    }

    /// The header of the frame behind the kept ones, if all of it is there.
    fn frame_at_hand(&mut self) -> Result<Option<Header>, End> {
        if self.kept == 0 && !self.copy.skip(&mut self.port.input) {
            return Ok(None);
        }
        let bytes = &self.port.input.bytes()[self.kept..];
        let header = wire::frame_at(bytes).map_err(|e| {
            End::Fatal(ClientError::fatal(
                SqlState::PROTOCOL_VIOLATION,
                e.to_string(),
            ))
        })?;
        let limit = self.service.settings.max_message_size;
        match header {
            Some(header) if bytes.len() >= header.total => Ok(Some(header)),
            Some(header) if header.total > limit => Err(End::Fatal(
                ClientError::fatal(
                    SqlState::PROGRAM_LIMIT_EXCEEDED,
                    format!("a message of {} bytes exceeds {limit}", header.total),
                )
                .hint("Raise session.max_message_size."),
            )),
            _ => Ok(None),
        }
    }

    /// Waits until the client sends something. Meanwhile a connection that the session holds may
    /// speak (a notification, a farewell), and pgdrover may stop.
    async fn wait_for_input(&mut self) -> Result<(), End> {
        let phase = match self.held.is_some() || self.tx.in_block() {
            true => Phase::IdleInTransaction,
            false => Phase::Idle,
        };
        self.me.pulse.enter(phase);
        let waited = match self.input().await {
            Err(End::Left(_)) if self.me.pulse.is_due() => {
                Err(End::Fatal(self.me.pulse.farewell(&self.service.settings)))
            }
            waited => waited,
        };
        self.me.pulse.enter(Phase::Busy);
        waited
    }

    async fn input(&mut self) -> Result<(), End> {
        let at_rest = self.held.is_none() && self.pins.is_empty() && self.kept == 0;
        if at_rest && !self.tx.in_block() {
            let (port, pulse) = (&mut self.port, &self.me.pulse);
            poll_fn(|cx| pulse.timely(port.poll_flush(cx))).await?;
            port.input.release_memory();
            port.output.release_memory();
            let draining = &self.draining;
            let filled = poll_fn(|cx| match pulse.timely(port.poll_fill(cx)) {
                // A look at a number; `wake_to_leave` sees to it that it is looked at.
                Poll::Pending if draining.has_changed().unwrap_or(true) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
                Poll::Ready(filled) => Poll::Ready(Some(filled)),
            });
            let Some(filled) = filled.await else {
                return Err(shutdown());
            };
            return ended(filled?);
        }
        if self.held.is_none() && self.pins.is_empty() {
            let (port, pulse) = (&mut self.port, &self.me.pulse);
            poll_fn(|cx| pulse.timely(port.poll_flush(cx))).await?;
            return ended(poll_fn(|cx| pulse.timely(port.poll_fill(cx))).await?);
        }
        self.wait_with_servers().await
    }

    async fn wait_with_servers(&mut self) -> Result<(), End> {
        loop {
            let Client {
                port, held, pins, ..
            } = self;
            let pulse = &self.me.pulse;
            let heard = poll_fn(|cx| {
                if let Poll::Ready(Err(e)) = port.poll_flush(cx) {
                    return Poll::Ready(Err(e));
                }
                if let Poll::Ready(filled) = port.poll_fill(cx) {
                    return Poll::Ready(filled.map(Some));
                }
                for h in held.iter_mut().chain(pins.iter_mut()) {
                    let server = &mut h.lease.conn().port;
                    if let Poll::Ready(heard) = server.poll_fill(cx) {
                        // An end, too, is found when what came is read.
                        let _ = heard;
                        return Poll::Ready(Ok(None));
                    }
                }
                pulse.timely(Poll::Pending)
            })
            .await?;
            match heard {
                Some(filled) => return ended(filled),
                None => self.hear_servers().await?,
            }
        }
    }
}

fn ended(filled: Fill) -> Result<(), End> {
    match filled {
        Fill::Bytes(_) => Ok(()),
        Fill::End => Err(End::Left(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn shutdown() -> End {
    End::Fatal(ClientError::fatal(
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection due to administrator command",
    ))
}
