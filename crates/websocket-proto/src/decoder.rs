//! From received bytes to events, one frame at a time.

use std::borrow::Cow;
use std::{mem, str};

use crate::assembly::Assembly;
use crate::frame::header_len;
use crate::{CloseFrame, FrameHeader, Opcode, ProtocolError, unmask};

/// What one message may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes, its fragments taken together; default 1,000,000, as in Engine.IO.
    pub max_message_bytes: usize,
    /// Most frames one message may come in, at least 1; default 4,096. Memory is bounded without it; this
    /// bounds the work an endless message of empty or tiny frames can ask for.
    pub max_fragments: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message_bytes: 1_000_000, max_fragments: 4096 }
    }
}

/// What a look at the input gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// The frame at the start of the input is not all there; nothing was consumed or changed.
    Incomplete {
        /// How many more bytes are needed at least. Up to [`Limits::max_message_bytes`] and a header, and
        /// only the client's word: read this much if convenient, allocate by what has come.
        missing: usize,
    },
    /// A frame was read.
    Frame {
        /// Bytes of input it took; the next call starts behind them.
        consumed: usize,
        /// What it brought.
        event: Event<'a>,
    },
    /// A close or an error came before; the input is of no interest.
    Finished,
}

/// What a frame brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message; borrowed if it came in one frame.
    Text(Cow<'a, str>),
    /// A whole binary message; borrowed if it came in one frame.
    Binary(Cow<'a, [u8]>),
    /// A ping, at most 125 bytes; to be answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong, at most 125 bytes.
    Pong(&'a [u8]),
    /// The client closes, with or without saying why; nothing follows.
    Close(Option<CloseFrame<'a>>),
    /// A fragment that does not end its message, kept in the decoder.
    Fragment,
}

/// Reads the frames of one client.
///
/// Between messages it is 16 bytes without heap memory. During a fragmented message it holds the joined
/// payload, in a buffer that never exceeds [`Limits::max_message_bytes`] however many fragments it came in.
///
/// A [close](Event::Close) and an [error](ProtocolError) both finish a decoder: what it held is freed, and each
/// further call returns [`Decoded::Finished`].
///
/// The number of control frames is not limited here, as they are handed out one by one and cost
/// no memory; a caller that answers pings bounds its own outbox.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
}

#[derive(Default)]
enum State {
    /// The next data frame begins a message.
    #[default]
    Idle,
    /// The next data frame continues this one. Boxed: thousands of idle connections should not pay for it.
    Collecting(Box<Assembly>),
    Finished,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Idle => f.write_str("Idle"),
            // The payload belongs to the user and into no log.
            Self::Collecting(assembly) => {
                write!(f, "Collecting({} bytes in {} fragments)", assembly.len(), assembly.fragments())
            }
            Self::Finished => f.write_str("Finished"),
        }
    }
}

impl Decoder {
    /// A decoder for a connection that has just been upgraded.
    pub const fn new() -> Self {
        Self { state: State::Idle }
    }

    /// Whether a close or an error came, so that no further input matters.
    pub const fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// Heap bytes held for an unfinished fragmented message, unused capacity included; otherwise 0.
    pub fn buffered_bytes(&self) -> usize {
        match &self.state {
            State::Collecting(assembly) => assembly.heap_bytes(),
            State::Idle | State::Finished => 0,
        }
    }

    /// Reads the frame at the start of `input`.
    ///
    /// The payload is unmasked where it lies, and the event borrows from there. While the frame is incomplete only
    /// its header is read: calls on a growing tail are cheap, and in total linear. A message that comes in one frame
    /// is neither copied nor allocated for.
    ///
    /// `input` has to start where the last frame ended. The same `limits` are expected for the whole connection.
    ///
    /// # Errors
    /// The client broke the protocol or a limit; see [`ProtocolError`]. A message too large is refused at the
    /// header that says so. Text is judged frame by frame: a fragment that spoils it is refused when it is whole,
    /// without waiting for the end of the message.
    ///
    /// Source: RFC 6455 §5 and §8.1.
    pub fn decode<'a>(&mut self, input: &'a mut [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        if self.is_finished() {
            return Ok(Decoded::Finished);
        }
        let decoded = self.frame(input, limits);
        if matches!(decoded, Err(_) | Ok(Decoded::Frame { event: Event::Close(_), .. })) {
            self.state = State::Finished;
        }
        decoded
    }

    fn frame<'a>(&mut self, input: &'a mut [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        let Some(header) = FrameHeader::parse(input)? else {
            return Ok(Decoded::Incomplete { missing: missing_of_header(input) });
        };
        let key = header.masked.ok_or(ProtocolError::Unmasked)?;
        self.admit(&header, limits)?;
        let consumed = match usize::try_from(header.frame_len()) {
            Ok(len) if len <= input.len() => len,
            Ok(len) => return Ok(Decoded::Incomplete { missing: len - input.len() }),
            Err(_) => return Ok(Decoded::Incomplete { missing: usize::MAX - input.len() }),
        };

        let payload = &mut input[header.header_len..consumed];
        unmask(payload, key);
        let payload: &'a [u8] = payload;
        let event = match header.opcode {
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong(payload),
            Opcode::Close => Event::Close(CloseFrame::decode(payload)?),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => self.data(&header, payload, limits)?,
        };
        Ok(Decoded::Frame { consumed, event })
    }

    /// Whether a frame with this header may come now, judged before its payload is there.
    fn admit(&self, header: &FrameHeader, limits: &Limits) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let (bytes, fragments) = match (&self.state, header.opcode) {
            (State::Collecting(assembly), Opcode::Continuation) => (assembly.len(), assembly.fragments()),
            (State::Collecting(_), _) => return Err(ProtocolError::UnfinishedMessage),
            (_, Opcode::Continuation) => return Err(ProtocolError::UnexpectedContinuation),
            _ => (0, 0),
        };
        if fragments >= limits.max_fragments {
            return Err(ProtocolError::TooManyFragments);
        }
        if header.payload_len > limits.max_message_bytes.saturating_sub(bytes) as u64 {
            return Err(ProtocolError::MessageTooLarge);
        }
        Ok(())
    }

    /// Takes the unmasked payload of an admitted data frame.
    fn data<'a>(
        &mut self,
        header: &FrameHeader,
        payload: &'a [u8],
        limits: &Limits,
    ) -> Result<Event<'a>, ProtocolError> {
        let is_text = header.opcode == Opcode::Text;
        let mut assembly = match mem::take(&mut self.state) {
            State::Collecting(assembly) => assembly,
            _ if header.fin => return whole_message(is_text, payload),
            _ => Box::new(Assembly::new(is_text)),
        };
        assembly.push(payload, limits.max_message_bytes)?;
        if header.fin {
            return assembly.finish();
        }
        self.state = State::Collecting(assembly);
        Ok(Event::Fragment)
    }
}

/// A message that came in a single frame, left where it lies.
fn whole_message(is_text: bool, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    if !is_text {
        return Ok(Event::Binary(Cow::Borrowed(payload)));
    }
    let text = str::from_utf8(payload).map_err(|_| ProtocolError::TextNotUtf8)?;
    Ok(Event::Text(Cow::Borrowed(text)))
}

/// How many bytes a header that begins like `input` is short of.
fn missing_of_header(input: &[u8]) -> usize {
    // A masked header has at least six bytes; an unmasked one will be refused whatever its length.
    let len = input.get(1).map_or(6, |&second| header_len(second));
    len - input.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoder_stays_small() {
        assert!(size_of::<Decoder>() <= 16, "{}", size_of::<Decoder>());
        assert!(size_of::<Result<Decoded<'_>, ProtocolError>>() <= 40);
        assert_eq!(size_of::<ProtocolError>(), 1);
    }

    #[test]
    fn debug_output_keeps_the_payload_to_itself() {
        let mut decoder = Decoder::new();
        let mut input = *b"\x01\x86\0\0\0\0secret";
        assert!(decoder.decode(&mut input, &Limits::default()).is_ok());
        assert_eq!(format!("{decoder:?}"), "Decoder { state: Collecting(6 bytes in 1 fragments) }");
    }

    #[test]
    fn missing_bytes_are_the_fewest_that_could_help() {
        // Header of a masked binary frame of 300 bytes, then 2 bytes of it.
        let mut bytes = vec![0x82, 0xfe, 0x01, 0x2c, 1, 2, 3, 4, 5, 6];
        for (have, missing) in [(0, 6), (1, 5), (2, 6), (3, 5), (7, 1), (8, 300), (10, 298)] {
            let decoded = Decoder::new().decode(&mut bytes[..have], &Limits::default());
            assert_eq!(decoded, Ok(Decoded::Incomplete { missing }), "{have}");
        }
    }
}
