//! The socket that a parked session was: its handlers may still be at work, and speak to whoever comes back in its place.

use std::sync::Weak;

use crate::socket::{Phase, Socket, SocketInner};

/// Keeps a socket away as long as its client may come back. When that is over it is gone.
pub(crate) struct Away(Weak<SocketInner>);

impl Away {
    pub(crate) fn new(socket: &Socket) -> Self {
        socket.set_away();
        Self(std::sync::Arc::downgrade(&socket.0))
    }

    /// Its client is back: what it is sent is sent to the socket that has taken its place.
    pub(crate) fn replaced(&mut self) {
        self.0 = Weak::new();
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        if let Some(socket) = self.0.upgrade() {
            Socket(socket).set_phase(Phase::Gone);
        }
    }
}
