//! Moving frames between a client and the server connection that it holds.
//!
//! The session's own task polls both sockets: no task for the server connection, no channel, no
//! timer. Frames are relayed in the chunks in which they came; only their headers are read, and
//! the bodies of the few that change the connection's state. A frame longer than a chunk (a large
//! row) streams through and is never held whole.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use crate::backend::{Conn, Note, Verdict};
use crate::error::{ClientError, SqlState};
use crate::wire::{self, Buffer, Fill, FrameError, Port};

/// How much may wait for a slow client, or be read ahead from a fast one.
const HIGH_WATER: usize = 64 << 10;

/// Why a relay ended early.
#[derive(Debug)]
pub enum Failure {
    /// The server connection is of no use any more.
    Server {
        /// What was seen, or the server's own message.
        cause: String,
        /// Whether the server said so itself, with a FATAL error.
        code: Option<String>,
    },
    /// The server did not react to the cancel request for a statement that ran too long.
    Unresponsive,
    /// The client is gone.
    Client(io::Error),
    /// The client broke the protocol.
    Protocol(FrameError),
    /// The session put the server connection into a state in which pgdrover cannot serve it.
    Refused(ClientError),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Server { cause, .. } => f.write_str(cause),
            Failure::Unresponsive => f.write_str(
                "the statement ran longer than query_timeout and the server did not cancel it in time",
            ),
            Failure::Client(error) => write!(f, "client: {error}"),
            Failure::Protocol(error) => write!(f, "client: {error}"),
            Failure::Refused(error) => f.write_str(&error.message),
        }
    }
}

impl Failure {
    fn server(cause: impl std::fmt::Display) -> Self {
        Failure::Server {
            cause: cause.to_string(),
            code: None,
        }
    }
}

/// What a relay did.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that went to the client's queue.
    pub to_client: u64,
    /// The last error that the server sent.
    pub error: Option<ClientError>,
    /// How many statements the server completed for the client.
    pub completed: usize,
    /// Which of those, counted from 0, it completed with the tag ROLLBACK: a COMMIT of a failed
    /// transaction did not commit.
    pub rollbacks: Vec<usize>,
    /// ReadyForQuery went to the client.
    pub ready: bool,
    /// A statement failed.
    pub failed: bool,
    /// Rows that answered pgdrover's own statements.
    pub hidden_rows: usize,
    /// The client has the beginning of a frame whose end has not come yet.
    pub mid_frame: bool,
}

/// Where a client is within its CopyData.
#[derive(Debug, Default)]
pub struct CopyState {
    /// Bytes of a frame whose beginning was relayed already.
    rest: usize,
}

impl CopyState {
    /// Drops from `input` what is left of a CopyData frame whose COPY failed in its middle.
    /// Returns whether the frame is gone.
    pub fn skip(&mut self, input: &mut Buffer) -> bool {
        let n = self.rest.min(input.len());
        input.consume(n);
        self.rest -= n;
        self.rest == 0
    }
}

/// Everything that [`relay`] moves between.
struct Relay<'a> {
    client: &'a mut Port,
    conn: &'a mut Conn,
    copy: &'a mut CopyState,
    /// Bytes at the front of the client's input that belong to the statement being run: kept so
    /// that it can be sent again elsewhere, as long as nothing came back.
    kept: &'a mut usize,
    progress: &'a mut Progress,
    /// Bytes of a server frame still to come whose beginning was relayed (or swallowed).
    rest: usize,
    swallow_rest: bool,
}

/// Relays until the server owes nothing. `kept` bytes at the front of the client's input are the
/// statement itself; they are consumed here once they can no longer be needed.
pub async fn relay(
    client: &mut Port,
    conn: &mut Conn,
    copy: &mut CopyState,
    kept: &mut usize,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut relay = Relay {
        client,
        conn,
        copy,
        kept,
        progress,
        rest: 0,
        swallow_rest: false,
    };
    let begin = relay.client.written() + relay.client.output.len() as u64;
    let outcome = poll_fn(|cx| relay.poll(cx)).await;
    if outcome.is_err() && relay.client.written() <= begin {
        // Nothing of the answer has left for the client: it can be taken back, so that the
        // statement may be run again elsewhere.
        relay
            .client
            .output
            .take_back(relay.progress.to_client as usize);
        *relay.progress = Progress::default();
    }
    outcome
}

/// Runs what pgdrover queued for itself on a connection that no client is waiting on, until the
/// server owes nothing. What the server says goes nowhere.
pub async fn settle(conn: &mut Conn, progress: &mut Progress) -> Result<(), Failure> {
    let mut sink = Buffer::default();
    let mut rest = (0, false);
    while !conn.ledger.is_empty() {
        conn.port.flush().await.map_err(Failure::server)?;
        match conn.port.fill().await.map_err(Failure::server)? {
            Fill::Bytes(_) => scan(conn, &mut sink, &mut rest, progress)?,
            Fill::End => return Err(Failure::server("the server closed the connection")),
        }
        sink.clear();
    }
    Ok(())
}

/// Takes what a connection at rest has said, without waiting: notifications, notices and changed
/// parameters go to the client's queue. An error means that the connection is lost.
pub fn listen(client: &mut Port, conn: &mut Conn) -> Result<(), Failure> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    loop {
        scan(
            conn,
            &mut client.output,
            &mut (0, false),
            &mut Progress::default(),
        )?;
        unasked(conn)?;
        match conn.port.poll_fill(&mut cx) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(Fill::Bytes(_))) => {}
            Poll::Ready(Ok(Fill::End)) => {
                return Err(Failure::server("the server closed the connection"));
            }
            Poll::Ready(Err(e)) => return Err(Failure::server(e)),
        }
    }
}

/// Whether the server said something that it may not say to a connection at rest.
fn unasked(conn: &Conn) -> Result<(), Failure> {
    let bytes = conn.port.input.bytes();
    let Some(h) = wire::frame_at(bytes).map_err(Failure::server)? else {
        return Ok(());
    };
    if speaks_unasked(h.tag) || h.tag == b'E' && bytes.len() < h.total {
        return Ok(());
    }
    let farewell = bytes.get(5..h.total).filter(|_| h.tag == b'E');
    Err(farewell
        .and_then(fatal)
        .unwrap_or_else(|| unexpected(h.tag)))
}

/// Messages that may come at any time: notices, changed parameters, notifications.
fn speaks_unasked(tag: u8) -> bool {
    matches!(tag, b'N' | b'S' | b'A')
}

fn unexpected(tag: u8) -> Failure {
    Failure::server(format!("unexpected message {:?}", tag as char))
}

impl Relay<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.conn.ledger.is_silent() {
            owed(self.conn, &mut self.client.output, self.progress);
        }
        loop {
            // A full queue keeps its other side from being read: who makes room has moved.
            let queued = self.conn.port.output.len() + self.client.output.len();
            let full = self.conn.port.output.len().max(self.client.output.len()) >= HIGH_WATER;
            let mut moved = self.forward_copy()?;
            if self.conn.port.wants_flush()
                && let Poll::Ready(Err(e)) = self.conn.port.poll_flush(cx)
            {
                // The server may have said why before it closed: read that first.
                self.last_words(cx)?;
                return Poll::Ready(Err(Failure::server(e)));
            }
            if self.client.output.len() < HIGH_WATER {
                moved |= self.read_server(cx)?;
            }
            // A server that was given the beginning of a CopyData waits for its end, even if the
            // COPY has failed meanwhile.
            let settled = self.conn.ledger.is_empty() && self.copy.rest == 0;
            if self.client.wants_flush() && (settled || !moved || self.is_full()) {
                match self.client.poll_flush(cx) {
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(Failure::Client(e))),
                    Poll::Ready(Ok(())) => {}
                    // A slow client does not keep the connection from others.
                    Poll::Pending if settled => return Poll::Ready(Ok(())),
                    Poll::Pending => {}
                }
            }
            moved |= full && self.conn.port.output.len() + self.client.output.len() < queued;
            if settled {
                return Poll::Ready(Ok(()));
            }
            moved |= self.read_client(cx)?;
            if !moved {
                return Poll::Pending;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.client.output.len() >= HIGH_WATER / 4
    }

    fn read_server(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        match self.conn.port.poll_fill(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(e)) => Err(Failure::server(e)),
            Poll::Ready(Ok(Fill::End)) => Err(Failure::server("the server closed the connection")),
            Poll::Ready(Ok(Fill::Bytes(_))) => {
                let mut rest = (self.rest, self.swallow_rest);
                let result = scan(self.conn, &mut self.client.output, &mut rest, self.progress);
                (self.rest, self.swallow_rest) = rest;
                result.map(|()| true)
            }
        }
    }

    fn last_words(&mut self, cx: &mut Context<'_>) -> Result<(), Failure> {
        while self.read_server(cx)? {}
        Ok(())
    }

    /// Reads ahead, so that a client that left is noticed and a COPY goes on.
    fn read_client(&mut self, cx: &mut Context<'_>) -> Result<bool, Failure> {
        let waiting = self.client.input.len() - *self.kept;
        if waiting >= HIGH_WATER || self.conn.port.output.len() >= HIGH_WATER {
            return Ok(false);
        }
        match self.client.poll_fill(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(e)) => Err(Failure::Client(e)),
            Poll::Ready(Ok(Fill::End)) => Err(Failure::Client(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(Fill::Bytes(_))) => Ok(true),
        }
    }

    /// Moves CopyData on while the server waits for it, and to the end of a frame once begun.
    fn forward_copy(&mut self) -> Result<bool, Failure> {
        if self.conn.ledger.copy_in() {
            // The server answered: the statement cannot be sent again.
            self.client.input.consume(*self.kept);
            *self.kept = 0;
        }
        let mut moved = false;
        while self.conn.port.output.len() < HIGH_WATER && !self.client.input.is_empty() {
            if self.copy.rest > 0 {
                self.forward(self.copy.rest);
                moved = true;
                continue;
            }
            if !self.conn.ledger.copy_in() {
                break;
            }
            let bytes = self.client.input.bytes();
            let Some(h) = wire::frame_at(bytes).map_err(Failure::Protocol)? else {
                break;
            };
            // Only data is long: the whole of any other message is waited for.
            if h.tag != b'd' && bytes.len() < h.total {
                break;
            }
            match h.tag {
                b'd' => self.copy.rest = h.total,
                b'c' | b'f' => {
                    self.copy.rest = h.total;
                    self.forward(h.total);
                    if self.conn.ledger.end_copy_in() {
                        wire::empty_message(&mut self.conn.port.output, b'H');
                    }
                }
                // The server ignores these while it copies (55.2.6); so does pgdrover.
                b'H' | b'S' => self.client.input.consume(h.total),
                tag => return Err(Failure::Protocol(FrameError::InCopy(tag))),
            }
            moved = true;
        }
        Ok(moved)
    }

    /// Moves up to `n` bytes of the frame in hand, as many as are there.
    fn forward(&mut self, n: usize) {
        let n = n.min(self.client.input.len());
        self.conn.port.output.put(&self.client.input.bytes()[..n]);
        self.client.input.consume(n);
        self.copy.rest -= n;
    }
}

/// Gives the client what pgdrover answers in the server's place.
fn owed(conn: &mut Conn, out: &mut Buffer, progress: &mut Progress) {
    let before = out.len();
    while let Some(tag) = conn.ledger.take_owed() {
        wire::empty_message(out, tag);
    }
    progress.to_client += (out.len() - before) as u64;
}

/// Moves a run of bytes that are the client's.
fn forwarded(conn: &Conn, out: &mut Buffer, run: std::ops::Range<usize>, progress: &mut Progress) {
    progress.to_client += run.len() as u64;
    out.put(&conn.port.input.bytes()[run]);
}

/// Settles every frame at hand and moves what is the client's into `out`. `rest`: bytes still to
/// come of a frame in the middle, and whether they are swallowed.
fn scan(
    conn: &mut Conn,
    out: &mut Buffer,
    rest: &mut (usize, bool),
    progress: &mut Progress,
) -> Result<(), Failure> {
    // What is forwarded is copied in runs: `from..at` is the run so far.
    let (mut from, mut at) = (0, 0);
    let length = conn.port.input.len();
    if rest.0 > 0 {
        at = rest.0.min(length);
        rest.0 -= at;
        if rest.1 {
            from = at;
        }
    }
    let outcome = loop {
        let bytes = &conn.port.input.bytes()[at..];
        let h = match wire::frame_at(bytes) {
            Ok(Some(h)) => h,
            Ok(None) => break Ok(()),
            Err(e) => break Err(Failure::server(e)),
        };
        let whole = bytes.len() >= h.total;
        // Rows and copied data may be longer than any buffer; all else is short.
        if !whole && !matches!(h.tag, b'D' | b'd') {
            break Ok(());
        }
        if conn.ledger.is_empty() && !speaks_unasked(h.tag) {
            // The client has its answer, and this is none of its. It stays unread, so that the
            // connection goes to nobody else.
            break Ok(());
        }
        if h.tag == b'E'
            && let Some(failure) = fatal(&bytes[5..h.total])
        {
            break Err(failure);
        }
        if conn.ledger.owes() {
            // What stands before this frame's message in the queue is answered before it.
            forwarded(conn, out, from..at, progress);
            from = at;
            owed(conn, out, progress);
        }
        let (verdict, note) = conn.ledger.received(h.tag);
        if verdict == Verdict::Unexpected {
            break Err(unexpected(h.tag));
        }
        let body_at = at + 5;
        progress.ready |= h.tag == b'Z' && verdict == Verdict::Forward;
        if whole {
            observe(conn, h.tag, body_at..at + h.total, progress);
        }
        if verdict == Verdict::Forward && matches!(h.tag, b'C' | b'I' | b's') {
            if conn.port.input.bytes().get(body_at..at + h.total) == Some(b"ROLLBACK\0") {
                progress.rollbacks.push(progress.completed);
            }
            progress.completed += 1;
        }
        match note {
            Note::None => {}
            Note::Parsed(id) => conn.prepared().insert(id),
            Note::Failed { internal: true } => {
                break Err(Failure::server(
                    "the session's settings could not be restored",
                ));
            }
            Note::Failed { internal: false } => progress.failed = true,
        }
        let end = (at + h.total).min(length);
        if !whole {
            *rest = (at + h.total - length, verdict == Verdict::Swallow);
        }
        if verdict == Verdict::Swallow {
            progress.hidden_rows += usize::from(h.tag == b'D');
            forwarded(conn, out, from..at, progress);
            from = end;
        }
        at = end;
        if conn.ledger.owes() {
            forwarded(conn, out, from..at, progress);
            from = at;
            owed(conn, out, progress);
        }
    };
    forwarded(conn, out, from..at, progress);
    progress.mid_frame = rest.0 > 0 && !rest.1;
    conn.port.input.consume(at);
    outcome
}

/// Remembers what a frame says about the connection.
fn observe(conn: &mut Conn, tag: u8, body: std::ops::Range<usize>, progress: &mut Progress) {
    let at = body.start;
    let bytes = &conn.port.input.bytes()[body];
    match tag {
        b'Z' => conn.status = bytes.first().copied().unwrap_or(b'?'),
        b'S' => {
            let body = bytes.to_vec();
            conn.note_parameter(&body);
        }
        b'E' => progress.error = Some(server_error(bytes)),
        // A client knows its own notifications by the number that it was given at login.
        b'A' if bytes.starts_with(&conn.key.0.to_be_bytes()) => {
            let tenant = conn.tenant.to_be_bytes();
            conn.port.input.overwrite(at, &tenant);
        }
        _ => {}
    }
}

/// What a server's ErrorResponse says.
fn server_error(body: &[u8]) -> ClientError {
    let field = |wanted| {
        wire::error_fields(body)
            .find(|(c, _)| *c == wanted)
            .map(|(_, text)| text)
    };
    let code = field(b'C')
        .and_then(SqlState::from_server)
        .unwrap_or(SqlState::INTERNAL_ERROR);
    let mut error = ClientError::error(code, field(b'M').unwrap_or("").to_owned());
    error.detail = field(b'D').map(|text| text.to_owned().into());
    error.hint = field(b'H').map(|text| text.to_owned().into());
    error
}

/// An error after which the server closes the connection: the client's session outlives it, so
/// the client is told in other words.
fn fatal(body: &[u8]) -> Option<Failure> {
    let field = |wanted| {
        wire::error_fields(body)
            .find(|(c, _)| *c == wanted)
            .map(|(_, text)| text)
    };
    match field(b'V')? {
        "FATAL" | "PANIC" => Some(Failure::Server {
            cause: field(b'M').unwrap_or("").to_owned(),
            code: field(b'C').map(str::to_owned),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod fuzz;
