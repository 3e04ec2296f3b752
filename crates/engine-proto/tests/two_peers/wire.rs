//! What travels between the two.

/// Names an HTTP request, by the order in which the client made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// Names a WebSocket, likewise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamId(pub(crate) usize);

/// An HTTP request.
#[derive(Clone, Debug)]
pub(crate) enum Method {
    Handshake,
    Get,
    Post(Vec<u8>),
}

/// What a WebSocket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Handshake,
    Probe,
}

/// A frame from the client.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Close,
}

/// An answer to a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Body(Vec<u8>),
    Ok,
    Refused,
}
