//! A byte stream to a client or a server: TCP, Unix socket, or TLS over TCP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{client, server};

use super::certificate;

/// One of the streams that pgdrover speaks over.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS towards a client.
    TlsServer(Box<server::TlsStream<TcpStream>>),
    /// TLS towards a server.
    TlsClient(Box<client::TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether the bytes are encrypted.
    pub fn is_tls(&self) -> bool {
        matches!(self, Stream::TlsServer(_) | Stream::TlsClient(_))
    }

    /// What a client that we connected to shows for channel binding: the hash of the server's
    /// certificate, if it is encrypted and the certificate's signature has a hash.
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        let Stream::TlsClient(tls) = self else {
            return None;
        };
        let shown = tls.get_ref().1.peer_certificates()?;
        certificate::end_point(shown.first()?)
    }

    /// The common name in the certificate that a client showed, which has been verified.
    pub fn client_common_name(&self) -> Option<String> {
        let Stream::TlsServer(tls) = self else {
            return None;
        };
        let shown = tls.get_ref().1.peer_certificates()?;
        certificate::common_name(shown.first()?)
    }

    /// Whether it is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self, Stream::Unix(_))
    }
}

macro_rules! each {
    ($self:ident, $s:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($s) => $call,
            Stream::Unix($s) => $call,
            Stream::TlsServer($s) => $call,
            Stream::TlsClient($s) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, s => Pin::new(s).poll_shutdown(cx))
    }
}
