//! Servers of the library in the test's own process.

use std::net::SocketAddr;
use std::time::Duration;

use posthaste::{Builder, Listener, Server};

/// A server that listens, until it is dropped.
#[derive(Debug)]
pub struct Running {
    /// The server.
    pub io: Server,
    /// Where it listens.
    pub addr: SocketAddr,
    /// What listens; dropping it, or [`Listener::close`], stops accepting.
    pub listener: Listener,
}

/// Starts a server on a free port, once `setup` has registered its handlers.
///
/// # Panics
/// When it cannot be built, or cannot listen.
pub fn serve(builder: Builder, setup: impl FnOnce(&Server)) -> Running {
    let io = builder.build().expect("settings that can be");
    setup(&io);
    let listener = io.listen(([127, 0, 0, 1], 0).into()).expect("a free port");
    Running { io, addr: listener.local_addr(), listener }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its threads end by themselves: a test that is over waits for nothing.
        self.io.close(Duration::ZERO);
    }
}
