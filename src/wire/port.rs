//! A stream with its two queues.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Buffer, Stream};

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// So many bytes.
    Bytes(usize),
    /// The peer closed its side.
    End,
}

/// One end of a relay: bytes that came in and wait to be scanned, bytes that wait to go out.
#[derive(Debug)]
pub struct Port {
    stream: Stream,
    /// What was read and not yet consumed.
    pub input: Buffer,
    /// What will be written by the next flush.
    pub output: Buffer,
    /// TLS keeps written bytes of its own until flushed.
    unflushed: bool,
    written: u64,
}

impl Port {
    /// A port over a stream, with nothing queued.
    pub fn new(stream: Stream) -> Self {
        Port {
            stream,
            input: Buffer::default(),
            output: Buffer::default(),
            unflushed: false,
            written: 0,
        }
    }

    /// The stream itself.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Gives the stream back; what was queued is lost.
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Reads once into `input`.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Fill>> {
        let mut space = ReadBuf::new(self.input.space());
        match Pin::new(&mut self.stream).poll_read(cx, &mut space) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Ready(Ok(())) => {
                let n = space.filled().len();
                self.input.filled(n);
                Poll::Ready(Ok(if n == 0 { Fill::End } else { Fill::Bytes(n) }))
            }
        }
    }

    /// Writes `output` out; ready when all of it is gone.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written =
                std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, self.output.bytes()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.consume(written);
            self.written += written as u64;
            self.unflushed = self.stream.is_tls();
        }
        if self.unflushed {
            std::task::ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// How many bytes have been written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Whether bytes wait to be written.
    pub fn wants_flush(&self) -> bool {
        !self.output.is_empty() || self.unflushed
    }

    /// Reads once.
    pub async fn fill(&mut self) -> io::Result<Fill> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Writes everything out.
    pub async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Whether the peer sent something, or closed, without being asked: for a connection at rest.
    /// Costs no system call unless the reactor saw the socket become readable.
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.input.is_empty() && self.poll_fill(&mut cx).is_pending()
    }
}
