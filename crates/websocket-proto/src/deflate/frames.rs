//! Frames of a connection that may compress its messages.

use super::{Inflater, PerMessageDeflate};
use crate::assembly::Assembly;
use crate::decoder::whole_message;
use crate::frame::COMPRESSED;
use crate::{CloseFrame, Event, FrameHeader, Limits, Opcode, ProtocolError};

/// Where a connection is in its peer's messages.
#[derive(Default)]
pub(crate) enum Progress {
    /// The next data frame begins a message.
    #[default]
    Idle,
    /// The next data frame continues this one.
    Plain(Box<Assembly>),
    /// The same for a compressed one.
    Inflating(Box<Inflating>),
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Idle => f.write_str("Idle"),
            // The payload belongs to the user and into no log.
            Self::Plain(message) => {
                write!(f, "Collecting({} bytes in {} fragments)", message.len(), message.fragments())
            }
            Self::Inflating(under_way) => write!(f, "Inflating({} bytes)", under_way.message.len()),
        }
    }
}

/// A compressed message of which only some fragments have come.
pub(crate) struct Inflating {
    message: Assembly,
    inflater: Box<Inflater>,
    /// Compressed bytes so far.
    received: usize,
    fragments: usize,
}

/// The most compressed bytes of a message: what cannot be compressed takes a little more than it has.
const fn most_compressed(max_message_bytes: usize) -> usize {
    max_message_bytes.saturating_add(max_message_bytes / 1024).saturating_add(64)
}

/// Reads a header that may say its message is compressed. Returns it, and whether it does; `None` while it is incomplete.
///
/// # Errors
/// As [`FrameHeader::parse`]; a control frame or a later fragment that says so has a reserved bit set (§6.1, §6.2).
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, bool)>, ProtocolError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first & COMPRESSED == 0 {
        return Ok(FrameHeader::parse(bytes)?.map(|header| (header, false)));
    }
    // The longest header has 14 bytes; the input is left as it is while the frame is incomplete.
    let mut plain = [0; 14];
    let len = bytes.len().min(plain.len());
    plain[..len].copy_from_slice(&bytes[..len]);
    plain[0] &= !COMPRESSED;
    let begins = matches!(first & 0x0f, begins if begins == Opcode::Text as u8 || begins == Opcode::Binary as u8);
    if !begins {
        return Err(ProtocolError::ReservedBits);
    }
    Ok(FrameHeader::parse(&plain[..len])?.map(|header| (header, true)))
}

impl PerMessageDeflate {
    /// Heap bytes held for an unfinished message, this value (which lives in a box) and context left out.
    pub(crate) fn buffered_bytes(&self) -> usize {
        match &self.progress {
            Progress::Idle => 0,
            Progress::Plain(message) => message.heap_bytes(),
            Progress::Inflating(under_way) => size_of::<Inflating>() + under_way.message.heap_bytes(),
        }
    }

    /// Whether a frame with this header may come now, judged before its payload is there.
    pub(crate) fn admit(
        &self,
        header: &FrameHeader,
        is_compressed: bool,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        let max = limits.max_message_bytes;
        let (bytes, fragments, most) = match (&self.progress, header.opcode) {
            (Progress::Idle, Opcode::Continuation) => return Err(ProtocolError::UnexpectedContinuation),
            (Progress::Idle, _) => (0, 0, if is_compressed { most_compressed(max) } else { max }),
            (Progress::Plain(message), Opcode::Continuation) => (message.len(), message.fragments(), max),
            (Progress::Inflating(message), Opcode::Continuation) => {
                (message.received, message.fragments, most_compressed(max))
            }
            (Progress::Plain(_) | Progress::Inflating(_), _) => return Err(ProtocolError::UnfinishedMessage),
        };
        if fragments >= limits.max_fragments {
            return Err(ProtocolError::TooManyFragments);
        }
        if header.payload_len > most.saturating_sub(bytes) as u64 {
            return Err(ProtocolError::MessageTooLarge);
        }
        Ok(())
    }

    /// What an admitted frame with this (readable) payload brings. `spare` is a decompressor that is lent to a message that needs no
    /// context, and given back when that is whole.
    pub(crate) fn event<'a>(
        &mut self,
        header: &FrameHeader,
        is_compressed: bool,
        payload: &'a [u8],
        limits: &Limits,
        spare: &mut Option<Box<Inflater>>,
    ) -> Result<Event<'a>, ProtocolError> {
        let is_text = header.opcode == Opcode::Text;
        let max = limits.max_message_bytes;
        let mut under_way = match (header.opcode, std::mem::take(&mut self.progress)) {
            (Opcode::Ping | Opcode::Pong | Opcode::Close, progress) => {
                self.progress = progress;
                return Ok(match header.opcode {
                    Opcode::Ping => Event::Ping(payload),
                    Opcode::Pong => Event::Pong(payload),
                    _ => Event::Close(CloseFrame::decode(payload)?),
                });
            }
            (_, Progress::Idle) if is_compressed => Box::new(Inflating {
                message: Assembly::new(is_text),
                // Its own, where it has one: it is back when the message is whole.
                inflater: self.inflater.take().or_else(|| spare.take()).unwrap_or_default(),
                received: 0,
                fragments: 0,
            }),
            (_, Progress::Inflating(under_way)) => under_way,
            (_, Progress::Idle) if header.fin => return whole_message(is_text, payload),
            (_, progress) => {
                let mut message = match progress {
                    Progress::Plain(message) => message,
                    _ => Box::new(Assembly::new(is_text)),
                };
                message.push(payload, max)?;
                if header.fin {
                    return message.finish();
                }
                self.progress = Progress::Plain(message);
                return Ok(Event::Fragment);
            }
        };
        under_way.received += payload.len();
        under_way.fragments += 1;
        under_way.inflater.inflate(payload, &mut under_way.message, max)?;
        if !header.fin {
            self.progress = Progress::Inflating(under_way);
            return Ok(Event::Fragment);
        }
        let Inflating { mut message, mut inflater, .. } = *under_way;
        inflater.end(&mut message, max)?;
        if self.peer_keeps_context() {
            self.inflater = Some(inflater);
        } else {
            inflater.reset();
            *spare = Some(inflater);
        }
        message.finish()
    }
}
