//! A TCP connection with a memory for what was read ahead.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::patience::PATIENCE;

/// One TCP connection to a server.
///
/// Reading never takes longer than [`PATIENCE`](crate::PATIENCE): past that it fails with [`io::ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// Read, but not taken.
    ahead: Vec<u8>,
}

impl Wire {
    /// Connects to `addr`.
    ///
    /// # Panics
    /// When nobody accepts there.
    pub async fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).await.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"))
    }

    /// As [`Wire::connect`], for tests of who accepts.
    ///
    /// # Errors
    /// What the system says.
    pub async fn try_connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(addr)).await??;
        // A client that gathers its small writes would test the kernel's patience.
        stream.set_nodelay(true)?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// Connects with the smallest receive buffer the system gives: a client that stops reading fills it soon.
    ///
    /// # Panics
    /// When nobody accepts there.
    pub async fn connect_narrow(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a receive buffer of any size");
        let stream = socket.connect(addr).await.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, ahead: Vec::new() }
    }

    /// Where the connection comes from.
    ///
    /// # Panics
    /// When the connection is gone.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("an open socket has an address")
    }

    /// Sends `bytes`.
    ///
    /// # Errors
    /// When the peer is gone, or does not read for [`PATIENCE`](crate::PATIENCE).
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await?
    }

    /// Sends as much of `bytes` as the system takes within `time`. Returns how many went.
    ///
    /// # Errors
    /// When the peer is gone.
    pub async fn write_for(&mut self, bytes: &[u8], time: Duration) -> io::Result<usize> {
        let mut sent = 0;
        let all = async {
            while sent < bytes.len() {
                sent += self.stream.write(&bytes[sent..]).await?;
            }
            io::Result::Ok(())
        };
        match tokio::time::timeout(time, all).await {
            Ok(written) => written.map(|()| sent),
            Err(_) => Ok(sent),
        }
    }

    /// Reads once. Returns how many bytes came; 0 when the peer has closed.
    ///
    /// # Errors
    /// When the connection broke, or nothing came.
    pub async fn read(&mut self) -> io::Result<usize> {
        tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.ahead)).await?
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// As [`Wire::read`]; [`io::ErrorKind::UnexpectedEof`] when the peer closed before.
    pub async fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < count {
            self.more().await?;
        }
        Ok(self.ahead.drain(..count).collect())
    }

    /// The bytes up to the next `end`, which is taken but not returned.
    ///
    /// # Errors
    /// As [`Wire::take`].
    pub async fn take_until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(found) = self.ahead[searched..].windows(end.len()).position(|window| window == end) {
                let mut taken: Vec<u8> = self.ahead.drain(..searched + found + end.len()).collect();
                taken.truncate(searched + found);
                return Ok(taken);
            }
            searched = self.ahead.len().saturating_sub(end.len() - 1);
            self.more().await?;
        }
    }

    /// Everything up to the end of the stream. A reset counts as the end.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when the peer does not close.
    pub async fn take_rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.read().await {
                Ok(0) => return Ok(std::mem::take(&mut self.ahead)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
                Err(_) => return Ok(std::mem::take(&mut self.ahead)),
            }
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        match self.read().await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Says that nothing more will be sent; reading goes on.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Closes with a reset: the peer gets no end of stream but an error, and what is under way is lost.
    pub fn reset(self) {
        // Without it dropping closes in good order, which tests less but breaks nothing.
        let _ = self.stream.set_zero_linger();
    }
}
