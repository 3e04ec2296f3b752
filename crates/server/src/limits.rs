//! Limits on what clients may ask for: the settings, and what they refused so far.

use posthaste_engine::{LimitMode, MemoryWatermark, Rate, Refused};

use crate::config::Builder;
use crate::error::JoinError;
use crate::server::Server;
use crate::socket::Socket;
use posthaste_adapter::{IntoRooms, Rooms};

/// What a client gets that sends more in a short time than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Excess {
    /// What is too much is not handled. An event whose sender waits for an answer is answered `{"error": "too many events"}`, a
    /// wish to join a namespace is refused with "Too many joins".
    #[default]
    Refuse,
    /// Its connection is closed with the reason [`TooFast`](crate::DisconnectReason::TooFast).
    Disconnect,
}

/// Limits. Where Socket.IO has no limit there is none by default, unless it says otherwise.
///
/// ```
/// use posthaste::{Excess, MemoryWatermark, Rate, Server};
///
/// let io = Server::builder()
///     .max_payload_unjoined(64 * 1024)
///     .max_rooms(256)
///     .event_rate(Rate::per_second(100)) // and 200 at once
///     .join_rate(Rate::per_second(50).burst(60))
///     .excess(Excess::Disconnect)
///     .max_connections(50_000)
///     .max_connections_per_ip(100)
///     .connection_rate(Rate::per_second(500))
///     .memory_watermark(MemoryWatermark::default())
///     .build()?;
/// assert_eq!(io.refused().total(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl Builder {
    /// The largest polling body or WebSocket message, in bytes, of a client that has joined no namespace yet; by default as for
    /// everybody ([`Builder::max_payload`]). Credentials must fit. A larger one is answered 413 or closes the WebSocket (1009).
    pub fn max_payload_unjoined(mut self, bytes: usize) -> Self {
        self.engine.max_payload_unjoined = Some(bytes);
        self
    }

    /// The most packets taken from one polling body; 65,536 by default. More end the connection (`parse error`).
    pub fn max_payload_packets(mut self, count: usize) -> Self {
        self.engine.max_payload_packets = count;
        self
    }

    /// The most fragments of one WebSocket message; 16,384 by default. More close it (1009).
    pub fn max_fragments(mut self, count: usize) -> Self {
        self.engine.max_fragments = count;
        self
    }

    /// How long a client may take from a binary event to its last attachment; 30 s by default. One that takes longer is
    /// disconnected.
    pub fn attachments_timeout(mut self, timeout: std::time::Duration) -> Self {
        self.config.limits.attachments_timeout = timeout;
        self
    }

    /// The most rooms one socket may be in, that of its own id left out; 16,384 by default. A join that would pass the bound
    /// joins none of its rooms: [`Socket::try_join`] returns an error, [`Socket::join`] leaves a warning in the log.
    pub fn max_rooms(mut self, count: usize) -> Self {
        self.config.max_rooms = count;
        self
    }

    /// How many events one client may send, in all its namespaces together; unlimited by default. See [`Builder::excess`] for
    /// what happens to more.
    pub fn event_rate(mut self, rate: Rate) -> Self {
        self.config.event_rate = Some(rate);
        self
    }

    /// How many namespaces one client may ask to join, and rooms its handlers may have it join, together; unlimited by default.
    /// Rooms that many sockets are put into at once ([`Operator::sockets_join`](crate::Operator::sockets_join)) do not count.
    /// More rooms in one call than the burst are never joined.
    pub fn join_rate(mut self, rate: Rate) -> Self {
        self.config.join_rate = Some(rate);
        self
    }

    /// What a client gets that passes [`Builder::event_rate`] or [`Builder::join_rate`]; [`Excess::Refuse`] by default.
    pub fn excess(mut self, excess: Excess) -> Self {
        self.config.excess = excess;
        self
    }

    /// The most connections at a time; unlimited by default. Whoever comes then is answered 503 with a `Retry-After` of 1 to 10
    /// seconds, on an upgrade too.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.engine.admission.connections = Some(count);
        self
    }

    /// The most connections of one IPv4 address or one IPv6 network (64 bits) at a time; unlimited by default. Refused as by
    /// [`Builder::max_connections`]. Inside another HTTP server the address is only known if requests carry a
    /// [`RemoteAddr`](crate::RemoteAddr); behind a proxy, a layer must put the client's there.
    pub fn max_connections_per_ip(mut self, count: usize) -> Self {
        self.engine.admission.per_ip = Some(count);
        self
    }

    /// How many new connections are taken; unlimited by default. Refused as by [`Builder::max_connections`].
    pub fn connection_rate(mut self, rate: Rate) -> Self {
        self.engine.admission.rate = Some(rate);
        self
    }

    /// What happens when the process runs short of memory; nothing by default. Past the first mark no new connections are taken
    /// (503, as by [`Builder::max_connections`]), past the second the clients that read slowest are disconnected as `slow`.
    /// Looked at once a second, on Linux only.
    pub fn memory_watermark(mut self, watermark: MemoryWatermark) -> Self {
        self.engine.memory = Some(watermark);
        self
    }

    /// Whether rates, rooms, connections and the memory watermark are enforced, or only counted; enforced by default. Bounds of
    /// what a client may make the server hold (messages, attachments, namespaces, answers, outboxes, the time to join) always
    /// are.
    pub fn limit_mode(mut self, mode: LimitMode) -> Self {
        self.engine.limit_mode = mode;
        self
    }
}

impl Server {
    /// How often clients ran into each limit since the server was made; where limits are only observed, would have.
    ///
    /// ```
    /// let io = posthaste::Server::new()?;
    /// for (limit, times) in io.refused().iter() {
    ///     println!("{limit}: {times}"); // "connections: 0", …
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.engine().refused()
    }
}

impl Socket {
    /// As [`Socket::join`], and tells whether it could: for rooms that clients choose. Joins all of the rooms or none. At once
    /// when called in a handler of this socket.
    ///
    /// # Errors
    /// [`JoinError`] when the socket is in as many rooms as it may, joins too fast, or is gone.
    pub async fn try_join(&self, rooms: impl IntoRooms) -> Result<(), JoinError> {
        let mut list = Rooms::new();
        rooms.append_to(&mut list);
        let socket = self.clone();
        let joined = self.on_worker(move |local| local.join_limited(&socket, &list)).await;
        joined.unwrap_or(Err(JoinError::Disconnected))
    }
}
