//! Numbers of a running server.

/// How much a server holds at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Open Engine.IO connections of the server.
    pub connections: usize,
    /// Sockets, all namespaces together.
    pub sockets: usize,
    /// Rooms, all namespaces together; the sockets' own rooms count.
    pub rooms: usize,
    /// Answers that are awaited from clients.
    pub pending_acks: usize,
    /// Handlers that have not finished, on the workers the server shares.
    pub handlers: usize,
    /// Clients that lost their connection and may come back ([`Recovery`](crate::Recovery)), all namespaces together.
    pub recoverable: usize,
}

impl std::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.sockets += other.sockets;
        self.rooms += other.rooms;
        self.pending_acks += other.pending_acks;
        self.handlers += other.handlers;
        self.recoverable += other.recoverable;
    }
}
