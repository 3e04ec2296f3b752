//! A client's WebSocket: the upgrade, then frames.

use std::borrow::Cow;

use posthaste_websocket_proto::{Decoded, Decoder, Event, Opcode, ProtocolError, append_masked_frame};

use super::{Dialect, Outgoing, http};
use crate::failure::Failure;

#[derive(Debug)]
pub(super) struct WebSocket {
    upgraded: bool,
    decoder: Decoder,
}

/// What was read: how many bytes, and the text that came with them.
pub(super) struct Read<'a> {
    pub(super) consumed: usize,
    pub(super) text: Option<Cow<'a, str>>,
}

impl WebSocket {
    pub(super) fn start(dialect: &Dialect, out: &mut Outgoing) -> Self {
        let request = format!(
            "GET {}websocket HTTP/1.1\r\n{}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: {}\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n",
            dialect.path, dialect.headers, dialect.key
        );
        out.main.extend_from_slice(request.as_bytes());
        Self { upgraded: false, decoder: Decoder::new() }
    }

    /// Reads what `input` begins with; `None` until it is whole.
    pub(super) fn next<'a>(
        &mut self,
        input: &'a [u8],
        dialect: &Dialect,
        mask: [u8; 4],
        out: &mut Outgoing,
    ) -> Result<Option<Read<'a>>, Failure> {
        if !self.upgraded {
            return self.upgrade(input, dialect);
        }
        let largest = dialect.limits.max_message_bytes;
        let decoded = self.decoder.decode_unmasked(input, &dialect.limits).map_err(|error| match error {
            ProtocolError::MessageTooLarge => Failure::TooLarge(largest),
            error => Failure::Protocol(error.to_string()),
        })?;
        let Decoded::Frame { consumed, event } = decoded else { return Ok(None) };
        let text = match event {
            Event::Text(text) => Some(text),
            Event::Ping(payload) => {
                append_masked_frame(&mut out.main, Opcode::Pong, payload, mask);
                None
            }
            Event::Close(_) => return Err(Failure::Closed),
            // Attachments: nothing that is sent here has any, so whatever they belong to is judged by its text.
            Event::Binary(_) | Event::Pong(_) | Event::Fragment => None,
        };
        Ok(Some(Read { consumed, text }))
    }

    fn upgrade<'a>(&mut self, input: &[u8], dialect: &Dialect) -> Result<Option<Read<'a>>, Failure> {
        let Some(head) = http::head(input)? else { return Ok(None) };
        if head.status != 101 {
            // The body is here mostly, and where it is not the status must do.
            return Err(Failure::Http { status: head.status, detail: Failure::excerpt(&input[head.bytes..]) });
        }
        if head.accept.as_deref() != Some(dialect.accept()) {
            return Err(Failure::Protocol("the WebSocket key was not answered rightly".into()));
        }
        self.upgraded = true;
        Ok(Some(Read { consumed: head.bytes, text: None }))
    }

    pub(super) fn send(&self, packet: &[u8], mask: [u8; 4], out: &mut Outgoing) {
        append_masked_frame(&mut out.main, Opcode::Text, packet, mask);
    }
}
