//! What a client can do wrong, and what it hears about it.

use crate::CloseCode;

/// A violation of the protocol or of a [limit](crate::Limits) by the client; the connection has to end.
///
/// The answer on the wire is a close frame with [`close_code`](Self::close_code) and
/// [`reason`](Self::reason). `Display` gives the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.reason())]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved header bit is set although no extension was negotiated (§5.2).
    ReservedBits,
    /// The opcode is one of 3–7 and 11–15 (§5.2).
    UnknownOpcode,
    /// A frame from a client carries no mask (§5.1).
    Unmasked,
    /// A frame from a server carries a mask (§5.1).
    Masked,
    /// A ping, pong or close frame is not final (§5.5).
    FragmentedControl,
    /// A ping, pong or close frame announces more than 125 bytes (§5.5).
    LongControl,
    /// The payload length is written in more bytes than it needs (§5.2).
    LengthNotMinimal,
    /// The 64-bit payload length has its highest bit set (§5.2).
    LengthOutOfRange,
    /// A continuation frame without a message to continue (§5.4).
    UnexpectedContinuation,
    /// A text or binary frame while a fragmented message is unfinished (§5.4).
    UnfinishedMessage,
    /// The message exceeds [`Limits::max_message_bytes`](crate::Limits::max_message_bytes).
    MessageTooLarge,
    /// The message exceeds [`Limits::max_fragments`](crate::Limits::max_fragments).
    TooManyFragments,
    /// A text message is not UTF-8, or ends within a code point (§8.1).
    TextNotUtf8,
    /// A compressed message is no DEFLATE (RFC 7692 §7.2.2).
    InvalidDeflate,
    /// A close frame has a payload of one byte, too short for its code (§5.5.1).
    TruncatedCloseCode,
    /// A close frame carries a code that must not be sent (§7.4).
    ForbiddenCloseCode,
    /// The reason in a close frame is not UTF-8 (§5.5.1).
    CloseReasonNotUtf8,
}

impl ProtocolError {
    /// The code to close the connection with: 1002, 1007 or 1009.
    pub const fn close_code(self) -> CloseCode {
        self.verdict().0
    }

    /// A short text for the close frame; the same for every occurrence and at most 123 bytes.
    pub const fn reason(self) -> &'static str {
        self.verdict().1
    }

    /// All the client will see.
    const fn verdict(self) -> (CloseCode, &'static str) {
        use CloseCode as Code;
        match self {
            Self::ReservedBits => (Code::PROTOCOL_ERROR, "reserved bits are set"),
            Self::UnknownOpcode => (Code::PROTOCOL_ERROR, "unknown opcode"),
            Self::Unmasked => (Code::PROTOCOL_ERROR, "client frames must be masked"),
            Self::Masked => (Code::PROTOCOL_ERROR, "server frames must not be masked"),
            Self::FragmentedControl => (Code::PROTOCOL_ERROR, "control frame is fragmented"),
            Self::LongControl => (Code::PROTOCOL_ERROR, "control frame exceeds 125 bytes"),
            Self::LengthNotMinimal => (Code::PROTOCOL_ERROR, "payload length is not minimal"),
            Self::LengthOutOfRange => (Code::PROTOCOL_ERROR, "payload length exceeds 63 bits"),
            Self::UnexpectedContinuation => (Code::PROTOCOL_ERROR, "nothing to continue"),
            Self::UnfinishedMessage => (Code::PROTOCOL_ERROR, "previous message is unfinished"),
            Self::MessageTooLarge => (Code::MESSAGE_TOO_BIG, "message is too big"),
            // Not 1008: no policy of content is broken, the message is larger than what is
            // processed, counted in frames; the cure (fewer, larger frames) is on the same page.
            Self::TooManyFragments => (Code::MESSAGE_TOO_BIG, "message has too many fragments"),
            Self::TextNotUtf8 => (Code::INVALID_PAYLOAD, "text is not UTF-8"),
            Self::InvalidDeflate => (Code::INVALID_PAYLOAD, "compressed data is invalid"),
            Self::TruncatedCloseCode => (Code::PROTOCOL_ERROR, "close code is truncated"),
            Self::ForbiddenCloseCode => (Code::PROTOCOL_ERROR, "close code must not be sent"),
            Self::CloseReasonNotUtf8 => (Code::INVALID_PAYLOAD, "close reason is not UTF-8"),
        }
    }
}
