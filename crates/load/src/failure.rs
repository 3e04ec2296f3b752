//! Why a connection failed, in words for whoever runs the load.

/// What went wrong on one connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No TCP connection.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The handshake took too long.
    #[error("no handshake within {0}")]
    Slow(String),
    /// An HTTP answer that refuses, or comes from something else than Socket.IO.
    #[error("HTTP {status} instead of a Socket.IO handshake{}{detail}", if .detail.is_empty() { "" } else { ": " })]
    Http {
        /// The status.
        status: u16,
        /// The beginning of the body, if there was one.
        detail: String,
    },
    /// The bytes are no HTTP, no WebSocket frames, no packets.
    #[error("not what a Socket.IO server answers: {0}")]
    Protocol(String),
    /// CONNECT_ERROR.
    #[error("the server refuses the namespace: {0}")]
    Refused(String),
    /// A Socket.IO or Engine.IO packet that ends the connection.
    #[error("the server disconnected")]
    Disconnected,
    /// The TCP connection ended.
    #[error("the connection was closed by the server")]
    Closed,
    /// The TCP connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// A message larger than what is taken.
    #[error("a message of more than {0} bytes came")]
    TooLarge(usize),
}

impl Failure {
    /// The beginning of `text`, fit for one line of an error.
    pub(crate) fn excerpt(text: &[u8]) -> String {
        const LONGEST: usize = 80;
        let text = String::from_utf8_lossy(&text[..text.len().min(4 * LONGEST)]);
        let clean = text.trim().chars().map(|it| if it.is_control() { ' ' } else { it });
        clean.take(LONGEST).collect()
    }
}
