//! The byte streams that WebSockets run on.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Anything that carries bytes both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A stream on its way to the worker that will own it.
pub(crate) enum Handover {
    /// A bare TCP stream; the worker registers it with its own reactor.
    Tcp(std::net::TcpStream),
    /// TLS, HTTP/2 or memory: whatever drives it stays where it is.
    Other(Box<dyn Io>),
}

impl Handover {
    /// Where the stream comes from, if it tells.
    pub(crate) fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok(),
            Self::Other(_) => None,
        }
    }
}

/// A stream owned by a worker.
pub(crate) enum Stream {
    /// In the worker's own reactor, which tells when it can be read or written: waiting on it wakes no task.
    Direct(mio::net::TcpStream),
    // Boxed: every connection of the reactor carries this type.
    Tcp(Box<TcpStream>),
    Other(Box<dyn Io>),
}

impl Stream {
    /// Takes a stream over; to be called on the worker's runtime.
    pub(crate) fn adopt(handover: Handover) -> io::Result<Self> {
        Ok(match handover {
            Handover::Tcp(stream) => Self::Tcp(Box::new(TcpStream::from_std(stream)?)),
            Handover::Other(io) => Self::Other(io),
        })
    }

    /// Whether a write now would do something; if not, the task is woken when it would. Streams that are no sockets are asked by
    /// writing.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // A broken stream shows that when it is written to.
            Self::Tcp(stream) => stream.poll_write_ready(cx).map(drop),
            Self::Direct(_) | Self::Other(_) => Poll::Ready(()),
        }
    }

    /// Whether the worker's own reactor looks after it.
    pub(crate) const fn is_direct(&self) -> bool {
        matches!(self, Self::Direct(_))
    }
}

/// Writes as much as a socket of a worker's own reactor takes now; the reactor tells when there is room again.
// Once for every receiver of a broadcast, and called it takes a tenth more of what a delivery does outside the kernel.
#[inline]
pub(crate) fn write_now(socket: &mut mio::net::TcpStream, data: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < data.len() {
        match socket.write(&data[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// What a socket says that never makes its caller wait.
fn polled<T>(mut ask: impl FnMut() -> io::Result<T>) -> Poll<io::Result<T>> {
    loop {
        match ask() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return Poll::Ready(result),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => {
                polled(|| stream.read(buf.initialize_unfilled())).map_ok(|count| buf.advance(count))
            }
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Other(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Direct(stream) => polled(|| stream.write(buf)),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Other(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Direct(stream) => polled(|| stream.write_vectored(bufs)),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Other(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Direct(_) => true,
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Other(io) => io.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(_) => Poll::Ready(Ok(())),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Direct(stream) => Poll::Ready(stream.shutdown(std::net::Shutdown::Write)),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// A TCP stream of which something was read already.
pub(crate) struct Rewound {
    pub(crate) read: Vec<u8>,
    /// How much of that was read again.
    pub(crate) at: usize,
    pub(crate) stream: TcpStream,
}

impl Rewound {
    /// The stream, and what was not read again.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.read[self.at..].to_vec())
    }
}

impl AsyncRead for Rewound {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let again = &this.read[this.at..];
        if again.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let count = again.len().min(buf.remaining());
        buf.put_slice(&again[..count]);
        this.at += count;
        if this.at == this.read.len() {
            (this.read, this.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewound {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
