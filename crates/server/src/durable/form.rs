//! An event as the store has it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use posthaste_adapter::{Packet, Room, Rooms};

/// An event and what else has to be known to send it: its rooms are the streams it is in.
///
/// ```text
///   version: 1 byte │ flags: 1 byte │ number of exceptions: 4 bytes │ each: length (4 bytes), room │ frames
/// ```
///
/// Numbers are big-endian; the frames are those of a [`Packet`], without an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Whoever was in one of these rooms then does not get it.
    pub(crate) except: Rooms,
    pub(crate) compress: bool,
    pub(crate) packet: Packet,
}

const VERSION: u8 = 1;
const COMPRESS: u8 = 1;

impl Form {
    pub(crate) fn encode(&self) -> Bytes {
        let names = self.except.iter().map(|room| room.len() + 4).sum::<usize>();
        let mut to = BytesMut::with_capacity(6 + names + self.packet.frames().len());
        to.put_u8(VERSION);
        to.put_u8(if self.compress { COMPRESS } else { 0 });
        to.put_u32(self.except.len() as u32);
        for room in &self.except {
            to.put_u32(room.len() as u32);
            to.put_slice(room.as_bytes());
        }
        to.put_slice(self.packet.frames());
        to.freeze()
    }

    /// `None` for what is no form of this version.
    pub(crate) fn decode(mut from: Bytes) -> Option<Self> {
        (from.try_get_u8().ok()? == VERSION).then_some(())?;
        let flags = from.try_get_u8().ok()?;
        let count = from.try_get_u32().ok()?;
        let mut except = Rooms::new();
        for _ in 0..count {
            let length = from.try_get_u32().ok()? as usize;
            (length <= from.len()).then_some(())?;
            let name = from.split_to(length);
            except.push(Room::from(std::str::from_utf8(&name).ok()?));
        }
        // A frame of text comes first, always.
        (from.first() == Some(&0x81)).then_some(())?;
        Some(Self { except, compress: flags & COMPRESS != 0, packet: Packet::from_frames(from) })
    }
}

#[cfg(test)]
mod tests {
    use posthaste_adapter::RawEvent;

    use super::*;

    fn packet() -> Packet {
        Packet::encode("/", None, &RawEvent::encode("event", &(1, "two")).unwrap()).unwrap()
    }

    #[test]
    fn a_form_survives_being_stored() {
        for except in [Rooms::new(), [Room::from("a"), Room::from("é")].into_iter().collect()] {
            for compress in [true, false] {
                let form = Form { except: except.clone(), compress, packet: packet() };
                assert_eq!(Form::decode(form.encode()), Some(form));
            }
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let form = Form { except: [Room::from("room")].into_iter().collect(), compress: true, packet: packet() };
        let whole = form.encode();
        for end in 0..whole.len() - form.packet.frames().len() + 1 {
            assert_eq!(Form::decode(whole.slice(..end.min(14))), None, "{end}");
        }
        let mut other = whole.to_vec();
        other[0] = 2;
        assert_eq!(Form::decode(other.into()), None);
    }
}
