//! A server that misbehaves by script. Only for what a real server never does.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::raw::Frame;
use super::say;

/// A connection that pgdrover opened, after a login by trust.
pub(crate) struct FakeConn {
    stream: TcpStream,
    input: Vec<u8>,
}

/// Starts a server; `serve` gets each connection once it has logged in. Returns the port.
pub(crate) async fn start<F>(serve: impl Fn(usize, FakeConn) -> F + Send + 'static) -> u16
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            let mut conn = FakeConn {
                stream,
                input: Vec::new(),
            };
            if conn.login().await.is_some() {
                tokio::spawn(serve(number, conn));
                number += 1;
            }
        }
    });
    port
}

impl FakeConn {
    /// Answers SSLRequest and the startup packet. `None` for a cancel or a probe's end.
    async fn login(&mut self) -> Option<()> {
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).await.ok()?;
            let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
            self.stream.read_exact(&mut rest).await.ok()?;
            match rest.first_chunk::<4>().map(|c| i32::from_be_bytes(*c)) {
                Some(say::SSL_REQUEST) => self.send(b"N").await,
                Some(say::CANCEL_REQUEST) => return None,
                _ => break,
            }
        }
        let parameter = |n: &str, v: &str| say::frame(b'S', format!("{n}\0{v}\0").as_bytes());
        let hello = [
            say::frame(b'R', &[0, 0, 0, 0]),
            parameter("server_version", "15.0"),
            parameter("client_encoding", "UTF8"),
            parameter("standard_conforming_strings", "on"),
            parameter("in_hot_standby", "off"),
            say::frame(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]),
            ready(b'I'),
        ];
        self.send(hello.concat()).await;
        Some(())
    }

    /// Writes whatever it is.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// The next message of pgdrover; `None` when it closed.
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
            match self.stream.read_buf(&mut self.input).await {
                Ok(n) if n > 0 => {}
                _ => return None,
            }
        }
    }

    /// Answers queries as a server would that returns the text of each in one row, until one
    /// contains `trigger`, which is returned.
    pub(crate) async fn until_query(&mut self, trigger: &str) -> Option<String> {
        loop {
            let frame = self.frame().await?;
            if frame.tag == b'X' {
                return None;
            }
            let sql = frame.strings().concat();
            if sql.contains(trigger) {
                return Some(sql);
            }
            if frame.tag == b'Q' {
                self.send(
                    [
                        row_description(),
                        row(&sql),
                        complete("SELECT 1"),
                        ready(b'I'),
                    ]
                    .concat(),
                )
                .await;
            }
        }
    }

    /// Closes with a reset rather than an orderly end.
    pub(crate) fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

/// ReadyForQuery.
pub(crate) fn ready(status: u8) -> Vec<u8> {
    say::frame(b'Z', &[status])
}

/// RowDescription of one text column.
pub(crate) fn row_description() -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend(b"text\0");
    body.extend([
        0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0,
    ]);
    say::frame(b'T', &body)
}

/// DataRow of one value.
pub(crate) fn row(value: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    body.extend((value.len() as u32).to_be_bytes());
    body.extend(value.as_bytes());
    say::frame(b'D', &body)
}

/// CommandComplete.
pub(crate) fn complete(tag: &str) -> Vec<u8> {
    say::frame(b'C', format!("{tag}\0").as_bytes())
}

/// ErrorResponse.
pub(crate) fn error(severity: &str, code: &str, message: &str) -> Vec<u8> {
    let body = format!("S{severity}\0V{severity}\0C{code}\0M{message}\0\0");
    say::frame(b'E', body.as_bytes())
}
