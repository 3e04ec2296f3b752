//! From received bytes to events, one frame at a time.

use std::borrow::Cow;
use std::{mem, str};

use crate::assembly::Assembly;
use crate::deflate::{self, Inflater, PerMessageDeflate};
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

/// Reads the frames of one client; or of one server, with [`decode_unmasked`](Self::decode_unmasked).
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
    /// Messages may be compressed. Boxed: this is what a connection pays that agreed on it, and others do not.
    Deflate(Box<PerMessageDeflate>),
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
            Self::Deflate(state) => write!(f, "{state:?}"),
            Self::Finished => f.write_str("Finished"),
        }
    }
}

impl Decoder {
    /// A decoder for a connection that has just been upgraded.
    pub const fn new() -> Self {
        Self { state: State::Idle }
    }

    /// A decoder for a connection that agreed on compressed messages.
    #[must_use]
    pub fn with_deflate(state: PerMessageDeflate) -> Self {
        Self { state: State::Deflate(Box::new(state)) }
    }

    /// What a connection that agreed on compressed messages keeps; `None` for a plain one, and after its end.
    #[inline]
    pub fn deflate_mut(&mut self) -> Option<&mut PerMessageDeflate> {
        match &mut self.state {
            State::Deflate(state) => Some(state),
            State::Idle | State::Collecting(_) | State::Finished => None,
        }
    }

    /// Whether messages may be compressed.
    #[inline]
    pub const fn may_deflate(&self) -> bool {
        matches!(self.state, State::Deflate(_))
    }

    /// Whether a close or an error came, so that no further input matters.
    pub const fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// Heap bytes held for an unfinished fragmented message, unused capacity included; otherwise 0.
    pub fn buffered_bytes(&self) -> usize {
        match &self.state {
            State::Collecting(assembly) => assembly.heap_bytes(),
            State::Deflate(state) => state.buffered_bytes(),
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
        match self.state {
            State::Finished => return Ok(Decoded::Finished),
            State::Deflate(_) => return self.decode_with(input, limits, &mut None),
            State::Idle | State::Collecting(_) => {}
        }
        let decoded = self.masked_frame(input, limits);
        self.finish_at_the_end(decoded)
    }

    /// As [`decode`](Self::decode), for many connections that [may compress](Self::with_deflate): a message that needs no context
    /// is inflated by `spare`, which is made when it is missing and given back when the message is whole.
    ///
    /// # Errors
    /// As [`decode`](Self::decode). What is inflated counts: a compressed message is refused as soon as it has become too large.
    ///
    /// Source: RFC 7692 §6.2, §7.2.2.
    pub fn decode_with<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &Limits,
        spare: &mut Option<Box<Inflater>>,
    ) -> Result<Decoded<'a>, ProtocolError> {
        let State::Deflate(state) = &mut self.state else { return self.decode(input, limits) };
        let decoded = deflated_masked_frame(state, input, limits, spare);
        self.finish_at_the_end(decoded)
    }

    /// As [`decode`](Self::decode), for the other direction: reads the frame of a server at the start of `input`, which
    /// is left as it is.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), and [`ProtocolError::Masked`] in the place of [`ProtocolError::Unmasked`].
    ///
    /// Source: RFC 6455 §5.1.
    ///
    /// ```
    /// use posthaste_websocket_proto::{Decoded, Decoder, Event, Limits};
    ///
    /// let decoded = Decoder::new().decode_unmasked(b"\x81\x05Hello\x81", &Limits::default())?;
    /// assert_eq!(decoded, Decoded::Frame { consumed: 7, event: Event::Text("Hello".into()) });
    /// # Ok::<(), posthaste_websocket_proto::ProtocolError>(())
    /// ```
    pub fn decode_unmasked<'a>(&mut self, input: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        let decoded = match &mut self.state {
            State::Finished => return Ok(Decoded::Finished),
            State::Deflate(state) => deflated_unmasked_frame(state, input, limits),
            State::Idle | State::Collecting(_) => self.unmasked_frame(input, limits),
        };
        self.finish_at_the_end(decoded)
    }

    #[inline]
    fn finish_at_the_end<'a>(
        &mut self,
        decoded: Result<Decoded<'a>, ProtocolError>,
    ) -> Result<Decoded<'a>, ProtocolError> {
        if matches!(decoded, Err(_) | Ok(Decoded::Frame { event: Event::Close(_), .. })) {
            self.state = State::Finished;
        }
        decoded
    }

    fn masked_frame<'a>(&mut self, input: &'a mut [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        let Some(header) = FrameHeader::parse(input)? else {
            return Ok(Decoded::Incomplete { missing: missing_of_header(input, SHORTEST_MASKED) });
        };
        let key = header.masked.ok_or(ProtocolError::Unmasked)?;
        self.admit(&header, limits)?;
        let consumed = match whole(&header, input.len()) {
            Ok(len) => len,
            Err(missing) => return Ok(Decoded::Incomplete { missing }),
        };
        let payload = &mut input[header.header_len..consumed];
        unmask(payload, key);
        Ok(Decoded::Frame { consumed, event: self.event(&header, payload, limits)? })
    }

    fn unmasked_frame<'a>(&mut self, input: &'a [u8], limits: &Limits) -> Result<Decoded<'a>, ProtocolError> {
        let Some(header) = FrameHeader::parse(input)? else {
            return Ok(Decoded::Incomplete { missing: missing_of_header(input, SHORTEST_UNMASKED) });
        };
        if header.masked.is_some() {
            return Err(ProtocolError::Masked);
        }
        self.admit(&header, limits)?;
        let consumed = match whole(&header, input.len()) {
            Ok(len) => len,
            Err(missing) => return Ok(Decoded::Incomplete { missing }),
        };
        let payload = &input[header.header_len..consumed];
        Ok(Decoded::Frame { consumed, event: self.event(&header, payload, limits)? })
    }

    /// What an admitted frame with this (readable) payload brings.
    #[inline]
    fn event<'a>(
        &mut self,
        header: &FrameHeader,
        payload: &'a [u8],
        limits: &Limits,
    ) -> Result<Event<'a>, ProtocolError> {
        Ok(match header.opcode {
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong(payload),
            Opcode::Close => Event::Close(CloseFrame::decode(payload)?),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => self.data(header, payload, limits)?,
        })
    }

    /// Whether a frame with this header may come now, judged before its payload is there.
    #[inline]
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

fn deflated_masked_frame<'a>(
    state: &mut PerMessageDeflate,
    input: &'a mut [u8],
    limits: &Limits,
    spare: &mut Option<Box<Inflater>>,
) -> Result<Decoded<'a>, ProtocolError> {
    let Some((header, is_compressed)) = deflate::parse(input)? else {
        return Ok(Decoded::Incomplete { missing: missing_of_header(input, SHORTEST_MASKED) });
    };
    let key = header.masked.ok_or(ProtocolError::Unmasked)?;
    state.admit(&header, is_compressed, limits)?;
    let consumed = match whole(&header, input.len()) {
        Ok(len) => len,
        Err(missing) => return Ok(Decoded::Incomplete { missing }),
    };
    let payload = &mut input[header.header_len..consumed];
    unmask(payload, key);
    Ok(Decoded::Frame { consumed, event: state.event(&header, is_compressed, payload, limits, spare)? })
}

fn deflated_unmasked_frame<'a>(
    state: &mut PerMessageDeflate,
    input: &'a [u8],
    limits: &Limits,
) -> Result<Decoded<'a>, ProtocolError> {
    let Some((header, is_compressed)) = deflate::parse(input)? else {
        return Ok(Decoded::Incomplete { missing: missing_of_header(input, SHORTEST_UNMASKED) });
    };
    if header.masked.is_some() {
        return Err(ProtocolError::Masked);
    }
    state.admit(&header, is_compressed, limits)?;
    let consumed = match whole(&header, input.len()) {
        Ok(len) => len,
        Err(missing) => return Ok(Decoded::Incomplete { missing }),
    };
    let payload = &input[header.header_len..consumed];
    Ok(Decoded::Frame { consumed, event: state.event(&header, is_compressed, payload, limits, &mut None)? })
}

/// A message that came in a single frame, left where it lies.
pub(crate) fn whole_message(is_text: bool, payload: &[u8]) -> Result<Event<'_>, ProtocolError> {
    if !is_text {
        return Ok(Event::Binary(Cow::Borrowed(payload)));
    }
    let text = str::from_utf8(payload).map_err(|_| ProtocolError::TextNotUtf8)?;
    Ok(Event::Text(Cow::Borrowed(text)))
}

/// Bytes of the shortest header of a client's frame.
const SHORTEST_MASKED: usize = 6;
/// Bytes of the shortest header of a server's frame.
const SHORTEST_UNMASKED: usize = 2;

/// Bytes of the whole frame, or how many of them are missing of `have`.
fn whole(header: &FrameHeader, have: usize) -> Result<usize, usize> {
    match usize::try_from(header.frame_len()) {
        Ok(len) if len <= have => Ok(len),
        Ok(len) => Err(len - have),
        Err(_) => Err(usize::MAX - have),
    }
}

/// How many bytes a header that begins like `input` is short of, where none is shorter than `shortest`. One with
/// the wrong mask will be refused whatever its length.
fn missing_of_header(input: &[u8], shortest: usize) -> usize {
    let len = input.get(1).map_or(shortest, |&second| header_len(second));
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
    fn servers_frames_are_read_as_ours_are_written() {
        use crate::append_frame;
        let long = "ä".repeat(40_000);
        let mut stream = b"\x01\x03one\x89\x02pp\x80\x03two".to_vec();
        append_frame(&mut stream, Opcode::Text, long.as_bytes());
        append_frame(&mut stream, Opcode::Binary, &[0; 300]);
        append_frame(&mut stream, Opcode::Close, &[]);
        let mut decoder = Decoder::new();
        let mut at = 0;
        // Offered byte by byte: what is incomplete consumes nothing.
        let mut read = Vec::new();
        for end in 0..=stream.len() {
            while let Ok(Decoded::Frame { consumed, event }) =
                decoder.decode_unmasked(&stream[at..end], &Limits::default())
            {
                at += consumed;
                read.push(match event {
                    Event::Text(text) => format!("text {}", text.len()),
                    Event::Binary(data) => format!("binary {}", data.len()),
                    Event::Ping(data) => format!("ping {}", data.len()),
                    Event::Close(frame) => format!("close {frame:?}"),
                    other => format!("{other:?}"),
                });
            }
        }
        assert_eq!(read, ["Fragment", "ping 2", "text 6", "text 80000", "binary 300", "close None"]);
        assert_eq!(decoder.decode_unmasked(b"\x81\0", &Limits::default()), Ok(Decoded::Finished));
    }

    #[test]
    fn a_servers_frame_is_unmasked_and_within_limits() {
        for (bytes, error) in [
            (&b"\x81\x80\0\0\0\0"[..], ProtocolError::Masked),
            (b"\x81\x7e\x03\xe9", ProtocolError::MessageTooLarge),
            (b"\x81\x01\xff", ProtocolError::TextNotUtf8),
        ] {
            let limits = Limits { max_message_bytes: 1000, ..Limits::default() };
            let mut decoder = Decoder::new();
            assert_eq!(decoder.decode_unmasked(bytes, &limits), Err(error), "{bytes:x?}");
            assert!(decoder.is_finished());
        }
        let decoded = Decoder::new().decode_unmasked(b"\x82", &Limits::default());
        assert_eq!(decoded, Ok(Decoded::Incomplete { missing: 1 }));
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
