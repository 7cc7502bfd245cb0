//! A client that speaks in raw frames and can break the protocol in every way.

use std::fmt;
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::say;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a stream must be.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// One message of a server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// A field of an ErrorResponse or NoticeResponse, or "".
    pub(crate) fn field(&self, code: u8) -> String {
        let mut rest = &self.body[..];
        while let Some((&found, tail)) = rest.split_first().filter(|(c, _)| **c != 0) {
            let end = tail.iter().position(|b| *b == 0).unwrap_or(tail.len());
            if found == code {
                return String::from_utf8_lossy(&tail[..end]).into_owned();
            }
            rest = tail.get(end + 1..).unwrap_or(&[]);
        }
        String::new()
    }

    /// The zero-terminated strings of the body.
    pub(crate) fn strings(&self) -> Vec<String> {
        let parts = self.body.split(|b| *b == 0);
        parts
            .map(|p| String::from_utf8_lossy(p).into_owned())
            .collect()
    }

    /// The values of a DataRow, as text.
    pub(crate) fn values(&self) -> Vec<Option<String>> {
        assert_eq!(self.tag, b'D', "{self:?}");
        let mut rest = &self.body[2..];
        let mut out = Vec::new();
        while let Some((head, tail)) = rest.split_first_chunk::<4>() {
            let length = i32::from_be_bytes(*head);
            let Ok(length) = usize::try_from(length) else {
                out.push(None);
                rest = tail;
                continue;
            };
            out.push(Some(String::from_utf8_lossy(&tail[..length]).into_owned()));
            rest = &tail[length..];
        }
        out
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tag = self.tag as char;
        match self.tag {
            b'E' | b'N' => write!(f, "{tag} {} {}", self.field(b'C'), self.field(b'M')),
            b'Z' => write!(f, "Z({})", self.body[0] as char),
            _ if self.body.len() > 200 => write!(f, "{tag} of {} bytes", self.body.len()),
            _ => write!(f, "{tag} {:?}", String::from_utf8_lossy(&self.body)),
        }
    }
}

/// A client.
pub(crate) struct Raw {
    stream: Box<dyn Wire>,
    input: Vec<u8>,
    /// How long an answer may take.
    pub(crate) patience: Duration,
    /// BackendKeyData of the login.
    pub(crate) key: (i32, i32),
    /// ParameterStatus messages of the login, in order.
    pub(crate) parameters: Vec<(String, String)>,
}

impl Raw {
    /// Over a stream on which nothing was said yet.
    pub(crate) fn new(stream: impl Wire + 'static) -> Raw {
        Raw {
            stream: Box::new(stream),
            input: Vec::new(),
            patience: PATIENCE,
            key: (0, 0),
            parameters: Vec::new(),
        }
    }

    /// The stream, for TLS.
    pub(crate) fn into_stream(self) -> Box<dyn Wire> {
        assert!(self.input.is_empty());
        self.stream
    }

    /// Writes bytes, whatever they are.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Writes bytes to a peer that may have closed.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await?;
        self.stream.flush().await
    }

    async fn fill(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.input);
        let read = tokio::time::timeout(self.patience, read).await;
        let read = read.unwrap_or_else(|_| panic!("no answer in time; so far {:?}", self.input));
        matches!(read, Ok(n) if n > 0)
    }

    /// The next bytes as they are; `None` at the end of the stream.
    pub(crate) async fn byte(&mut self) -> Option<u8> {
        if self.input.is_empty() && !self.fill().await {
            return None;
        }
        Some(self.input.remove(0))
    }

    /// The next frame; `None` at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some((head, _)) = self.input.split_first_chunk::<5>() {
                let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.input.len() > length {
                    let tag = head[0];
                    let body = self.input[5..=length].to_vec();
                    self.input.drain(..=length);
                    return Some(Frame { tag, body });
                }
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// Whether a frame is there, or comes within the time.
    pub(crate) async fn frame_within(&mut self, time: Duration) -> Option<Frame> {
        tokio::time::timeout(time, self.frame())
            .await
            .ok()
            .flatten()
    }

    /// Frames up to and with one of these types, or the end of the stream.
    pub(crate) async fn until(&mut self, tags: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            let last = tags.contains(&frame.tag);
            frames.push(frame);
            if last {
                break;
            }
        }
        frames
    }

    /// Frames up to and with the next ReadyForQuery.
    pub(crate) async fn ready(&mut self) -> Vec<Frame> {
        let frames = self.until(b"Z").await;
        assert!(frames.last().is_some_and(|f| f.tag == b'Z'), "{frames:?}");
        frames
    }

    /// Runs a simple query.
    pub(crate) async fn query(&mut self, sql: &str) -> Vec<Frame> {
        self.send(say::query(sql)).await;
        self.ready().await
    }

    /// Runs a simple query and returns the first value of each row; panics on an error.
    pub(crate) async fn values(&mut self, sql: &str) -> Vec<String> {
        let frames = self.query(sql).await;
        assert!(frames.iter().all(|f| f.tag != b'E'), "{sql}: {frames:?}");
        let rows = frames.iter().filter(|f| f.tag == b'D');
        rows.map(|row| row.values()[0].clone().unwrap_or_default())
            .collect()
    }

    /// The only value of a simple query.
    pub(crate) async fn value(&mut self, sql: &str) -> String {
        let values = self.values(sql).await;
        assert_eq!(values.len(), 1, "{sql}: {values:?}");
        values.into_iter().next().unwrap()
    }

    /// The SQLSTATE of a simple query's error and the final status.
    pub(crate) async fn error(&mut self, sql: &str) -> (String, char) {
        let frames = self.query(sql).await;
        let error = frames.iter().find(|f| f.tag == b'E');
        let error = error.unwrap_or_else(|| panic!("{sql}: {frames:?}"));
        (error.field(b'C'), frames.last().unwrap().body[0] as char)
    }

    /// Startup and authentication by whatever method is asked for; returns the frames from
    /// AuthenticationOk, or the error.
    pub(crate) async fn try_login(
        &mut self,
        user: &str,
        password: &str,
        database: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Vec<Frame>, Frame> {
        let mut all = vec![("user", user), ("database", database)];
        all.extend(parameters);
        self.send(say::startup(0, &all)).await;
        self.finish_login(user, password).await
    }

    /// What follows the startup packet.
    pub(crate) async fn finish_login(
        &mut self,
        user: &str,
        password: &str,
    ) -> Result<Vec<Frame>, Frame> {
        let mut scram = None;
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await.expect("an answer to the login");
            match (frame.tag, &frame.body[..]) {
                (b'E', _) => return Err(frame),
                (b'R', [0, 0, 0, 5, salt @ ..]) => {
                    let salt = salt.try_into().unwrap();
                    let answer = postgres_protocol::authentication::md5_hash(
                        user.as_bytes(),
                        password.as_bytes(),
                        salt,
                    );
                    let answer = [answer.as_bytes(), b"\0"].concat();
                    self.send(say::frame(b'p', &answer)).await;
                }
                (b'R', [0, 0, 0, 10, ..]) => {
                    let client =
                        ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
                    let first = client.message().to_vec();
                    let mut body = b"SCRAM-SHA-256\0".to_vec();
                    body.extend((first.len() as u32).to_be_bytes());
                    body.extend(first);
                    self.send(say::frame(b'p', &body)).await;
                    scram = Some(client);
                }
                (b'R', [0, 0, 0, 11, challenge @ ..]) => {
                    let client = scram.as_mut().unwrap();
                    client.update(challenge).unwrap();
                    let answer = client.message().to_vec();
                    self.send(say::frame(b'p', &answer)).await;
                }
                (b'R', [0, 0, 0, 12, proof @ ..]) => scram.as_mut().unwrap().finish(proof).unwrap(),
                (b'S', _) => {
                    let s = frame.strings();
                    self.parameters.push((s[0].clone(), s[1].clone()));
                    frames.push(frame);
                }
                (b'K', body) => {
                    let word = |at: usize| i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
                    self.key = (word(0), word(4));
                    frames.push(frame);
                }
                (b'Z', _) => {
                    frames.push(frame);
                    return Ok(frames);
                }
                _ => frames.push(frame),
            }
        }
    }

    /// Logs in; panics if refused.
    pub(crate) async fn login(
        &mut self,
        user: &str,
        password: &str,
        database: &str,
        parameters: &[(&str, &str)],
    ) {
        let outcome = self.try_login(user, password, database, parameters).await;
        outcome.unwrap_or_else(|e| panic!("{e:?}"));
    }
}
