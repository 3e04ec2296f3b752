//! Close frames: their codes, their reasons, and writing one.

use std::fmt;

use crate::ProtocolError;
use crate::frame::{MAX_CONTROL_PAYLOAD_BYTES, Opcode, server_header};

/// Longest reason that fits into a close frame, in bytes: a control payload less the two of the code.
pub const MAX_CLOSE_REASON_BYTES: usize = MAX_CONTROL_PAYLOAD_BYTES - 2;

/// A status code that may stand in a close frame: 1000–1003, 1007–1014 or 3000–4999.
///
/// "No code" (1005) and "connection lost" (1006) are not codes of a frame: the first is an absent
/// [`CloseFrame`], the second the absence of a close frame.
///
/// Source: RFC 6455 §7.4 and the IANA registry it opens (1012–1014).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server shuts down, or the page is left.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: a kind of data this endpoint does not take.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: data that contradicts its kind, as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: against a policy, where no other code fits.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: a message larger than this endpoint processes.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1011: the server met something it did not expect.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the server restarts; come back.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the server is overloaded; come back later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// The code numbered `code`, or `None` if it [must not be sent](Self::is_allowed_on_wire).
    pub const fn new(code: u16) -> Option<Self> {
        if Self::is_allowed_on_wire(code) { Some(Self(code)) } else { None }
    }

    /// The number of this code.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether a close frame may carry `code`.
    ///
    /// No: 0–999 (unused), 1004 (no meaning yet), 1005, 1006 and 1015 (for local use only), 1016–2999
    /// (unassigned), and 5000 and above (outside of every range).
    pub const fn is_allowed_on_wire(code: u16) -> bool {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a close frame says if it says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Why the sender closes.
    pub code: CloseCode,
    /// A note for developers, at most [`MAX_CLOSE_REASON_BYTES`] long and often empty.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads the unmasked payload of a close frame; an empty one is `None`.
    ///
    /// # Errors
    /// [`ProtocolError::TruncatedCloseCode`], [`ProtocolError::ForbiddenCloseCode`] and
    /// [`ProtocolError::CloseReasonNotUtf8`], looked for in this order.
    pub(crate) fn decode(payload: &'a [u8]) -> Result<Option<Self>, ProtocolError> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            [_] => return Err(ProtocolError::TruncatedCloseCode),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        let code = CloseCode::new(code).ok_or(ProtocolError::ForbiddenCloseCode)?;
        let reason = std::str::from_utf8(reason).map_err(|_| ProtocolError::CloseReasonNotUtf8)?;
        Ok(Some(Self { code, reason }))
    }
}

/// Appends a close frame to `out`: empty for `None`, otherwise with a code and a reason.
///
/// A reason longer than [`MAX_CLOSE_REASON_BYTES`] loses its end, at a character boundary.
///
/// Source: RFC 6455 §5.5.1.
///
/// ```
/// use posthaste_websocket_proto::{CloseCode, append_close};
///
/// let mut outbox = Vec::new();
/// append_close(&mut outbox, Some((CloseCode::GOING_AWAY, "bye")));
/// append_close(&mut outbox, None);
/// assert_eq!(outbox, b"\x88\x05\x03\xe9bye\x88\x00");
/// ```
pub fn append_close(out: &mut Vec<u8>, close: Option<(CloseCode, &str)>) {
    let Some((code, reason)) = close else {
        out.extend_from_slice(&server_header(Opcode::Close, true, 0));
        return;
    };
    let mut len = reason.len().min(MAX_CLOSE_REASON_BYTES);
    while !reason.is_char_boundary(len) {
        len -= 1;
    }
    out.extend_from_slice(&server_header(Opcode::Close, true, 2 + len));
    out.extend_from_slice(&code.get().to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_the_wire_are_those_of_section_7_4() {
        for (codes, allowed) in [
            (0..=999, false),
            (1000..=1003, true),
            (1004..=1006, false),
            (1007..=1014, true),
            (1015..=2999, false),
            (3000..=4999, true),
            (5000..=u16::MAX, false),
        ] {
            for code in codes {
                assert_eq!(CloseCode::is_allowed_on_wire(code), allowed, "{code}");
                assert_eq!(CloseCode::new(code).map(CloseCode::get), allowed.then_some(code));
            }
        }
    }

    #[test]
    fn named_codes_may_be_sent() {
        for code in [
            CloseCode::NORMAL,
            CloseCode::GOING_AWAY,
            CloseCode::PROTOCOL_ERROR,
            CloseCode::UNSUPPORTED_DATA,
            CloseCode::INVALID_PAYLOAD,
            CloseCode::POLICY_VIOLATION,
            CloseCode::MESSAGE_TOO_BIG,
            CloseCode::INTERNAL_ERROR,
            CloseCode::SERVICE_RESTART,
            CloseCode::TRY_AGAIN_LATER,
        ] {
            assert_eq!(CloseCode::new(code.get()), Some(code));
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for close in [None, Some((CloseCode::NORMAL, "")), Some((CloseCode(4999), "schön"))] {
            let mut out = Vec::new();
            append_close(&mut out, close);
            assert_eq!(out[0], 0x88);
            assert_eq!(usize::from(out[1]), out.len() - 2);
            let read = CloseFrame::decode(&out[2..]).unwrap();
            assert_eq!(read.map(|frame| (frame.code, frame.reason)), close);
        }
    }

    #[test]
    fn sec_21_close_reason_is_cut_at_a_character_within_123_bytes() {
        for (reason, kept) in [
            ("x".repeat(122), 122),
            ("x".repeat(123), 123),
            ("x".repeat(124), 123),
            ("é".repeat(200), 122),
            ("€".repeat(200), 123),
            ("🦀".repeat(200), 120),
            (format!("x{}", "🦀".repeat(200)), 121),
            ("x".repeat(1_000_000), 123),
        ] {
            let mut out = Vec::new();
            append_close(&mut out, Some((CloseCode::GOING_AWAY, &reason)));
            let frame = CloseFrame::decode(&out[2..]).unwrap().unwrap();
            assert_eq!(out.len(), 4 + kept);
            assert_eq!(frame.reason, &reason[..kept]);
        }
    }
}
