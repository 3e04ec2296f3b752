//! Compressed messages: permessage-deflate.
//!
//! ```text
//!   Sec-WebSocket-Extensions ──► DeflateTerms::accept ──► the terms agreed, and the header that answers
//!                                         │
//!   received ──► Decoder (with PerMessageDeflate) ──► Inflater ──► text or bytes, bounded while they grow
//!   to send  ──► append_deflated ◄── Deflater
//! ```
//!
//! What a connection keeps is in a box that its [`Decoder`](crate::Decoder) holds, and that plain connections do not have. Where the
//! terms allow no context between messages, neither side keeps anything: the caller lends an [`Inflater`] and a [`Deflater`] that serve
//! any number of connections, and a message compressed once is the same bytes for all of them.
//!
//! Source: RFC 7692.

mod deflater;
mod frames;
mod inflater;
mod negotiation;

pub use deflater::{Deflater, append_deflated};
use frames::Progress;
pub(crate) use frames::parse;
pub use inflater::Inflater;
pub use negotiation::{DeflateAnswer, DeflateTerms};

/// The state of one connection that agreed on permessage-deflate.
///
/// It is some forty bytes while nothing is under way and the terms keep no context. With context, the side that keeps it has an
/// [`Inflater`] or a [`Deflater`] of its own from the first compressed message on.
#[derive(Debug)]
pub struct PerMessageDeflate {
    terms: DeflateTerms,
    /// Whether what arrives is a client's: the terms name the sides.
    reads_client: bool,
    progress: Progress,
    /// Present once a compressed message came, where the peer keeps its context.
    inflater: Option<Box<Inflater>>,
    /// Present once a message was compressed, where this side keeps its context.
    deflater: Option<Box<Deflater>>,
}

impl PerMessageDeflate {
    /// The state of a server.
    #[must_use]
    pub fn server(terms: DeflateTerms) -> Self {
        Self { terms, reads_client: true, progress: Progress::Idle, inflater: None, deflater: None }
    }

    /// The state of a client.
    #[must_use]
    pub fn client(terms: DeflateTerms) -> Self {
        Self { reads_client: false, ..Self::server(terms) }
    }

    /// What was agreed.
    #[must_use]
    pub const fn terms(&self) -> &DeflateTerms {
        &self.terms
    }

    /// This connection's own compressor, where the terms let it keep what it compressed before; `None` where one serves all. Made
    /// when it is asked for first, with zlib's `level` of 1 to 9.
    pub fn own_deflater(&mut self, level: u8) -> Option<&mut Deflater> {
        let (keeps, bits) = match self.reads_client {
            true => (!self.terms.server_no_context_takeover, self.terms.server_max_window_bits),
            false => (!self.terms.client_no_context_takeover, self.terms.client_max_window_bits),
        };
        keeps.then(|| &mut **self.deflater.get_or_insert_with(|| Box::new(Deflater::keeping(level, bits))))
    }

    /// Whether the peer's messages refer to those before them.
    const fn peer_keeps_context(&self) -> bool {
        match self.reads_client {
            true => !self.terms.client_no_context_takeover,
            false => !self.terms.server_no_context_takeover,
        }
    }
}
