//! Places in a log, and the string that clients remember them by.

use std::fmt;
use std::hash::Hasher;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use siphasher::sip::SipHasher24;

/// Which log a position belongs to: 32 random bits, new with every log. Positions of different epochs mean nothing to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u32);

/// A place in a log. The first event is at 1; 0 is before everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The log.
    pub epoch: Epoch,
    /// The number of the event in it.
    pub pos: u64,
}

/// The text of a position, as clients carry it: always 23 printable ASCII characters that JSON does not escape.
///
/// ```text
///   ~ base64url( epoch: 4 bytes ‖ pos: 8 bytes ‖ check: 4 bytes )
/// ```
///
/// A Socket.IO client takes the last argument of *any* event for its offset if that is a string. Marker, length and the keyed check
/// tell ours from what an application said, and keep clients from making positions up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Offset([u8; Self::CHARS]);

impl Offset {
    /// Length of every offset, in characters.
    pub const CHARS: usize = 23;
    const MARKER: u8 = b'~';

    /// Whether a text has the form of an offset, whoever wrote it.
    #[must_use]
    pub fn is_form(text: &str) -> bool {
        text.len() == Self::CHARS
            && text.as_bytes()[0] == Self::MARKER
            && text.bytes().skip(1).all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("invariant: marker and base64 are ASCII")
    }

    /// The text as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::CHARS] {
        &self.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offset({self})")
    }
}

/// The secret behind the check in every [`Offset`]; the caller gives 16 random bytes.
#[derive(Clone)]
pub struct OffsetKey(SipHasher24);

impl OffsetKey {
    /// The key made of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(SipHasher24::new_with_key(&bytes))
    }

    /// The text of a position.
    #[must_use]
    pub fn write(&self, position: Position) -> Offset {
        let bytes = self.bytes(position);
        let mut text = [Offset::MARKER; Offset::CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text[1..]);
        debug_assert_eq!(written, Ok(Offset::CHARS - 1), "invariant: 16 bytes are 22 characters");
        Offset(text)
    }

    /// The position a text names; `None` if this key did not write it.
    #[must_use]
    pub fn read(&self, text: &str) -> Option<Position> {
        let coded = text.strip_prefix(char::from(Offset::MARKER)).filter(|_| text.len() == Offset::CHARS)?;
        let mut bytes = [0; 16];
        (URL_SAFE_NO_PAD.decode_slice(coded, &mut bytes) == Ok(16)).then_some(())?;
        let [e0, e1, e2, e3, p0, p1, p2, p3, p4, p5, p6, p7, ..] = bytes;
        let epoch = Epoch(u32::from_be_bytes([e0, e1, e2, e3]));
        let position = Position { epoch, pos: u64::from_be_bytes([p0, p1, p2, p3, p4, p5, p6, p7]) };
        (self.bytes(position) == bytes).then_some(position)
    }

    fn bytes(&self, position: Position) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&position.epoch.0.to_be_bytes());
        bytes[4..12].copy_from_slice(&position.pos.to_be_bytes());
        let mut hasher = self.0;
        hasher.write(&bytes[..12]);
        bytes[12..].copy_from_slice(&hasher.finish().to_be_bytes()[..4]);
        bytes
    }
}

impl fmt::Debug for OffsetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OffsetKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> OffsetKey {
        OffsetKey::from_bytes([5; 16])
    }

    proptest! {
        #[test]
        fn every_position_survives_its_text(epoch: u32, pos: u64) {
            let position = Position { epoch: Epoch(epoch), pos };
            let text = key().write(position);
            prop_assert_eq!(key().read(text.as_str()), Some(position));
            prop_assert!(Offset::is_form(text.as_str()));
            prop_assert!(text.as_str().bytes().all(|byte| byte.is_ascii_graphic() && !br#""\"#.contains(&byte)));
        }

        #[test]
        fn what_an_application_says_is_no_offset(text in ".{0,40}") {
            prop_assert_eq!(key().read(&text), None);
        }

        #[test]
        fn a_changed_character_is_noticed(pos: u64, at in 0..Offset::CHARS, with in "[A-Za-z0-9_~-]") {
            let mut text = key().write(Position { epoch: Epoch(1), pos }).to_string();
            prop_assume!(text[at..=at] != with);
            text.replace_range(at..=at, &with);
            prop_assert_eq!(key().read(&text), None);
        }
    }

    #[test]
    fn another_key_does_not_read_it() {
        let text = key().write(Position { epoch: Epoch(1), pos: 2 });
        assert_eq!(OffsetKey::from_bytes([6; 16]).read(text.as_str()), None);
    }

    #[test]
    fn the_text_is_as_long_as_it_says() {
        for pos in [0, 1, u64::MAX] {
            let text = key().write(Position { epoch: Epoch(u32::MAX), pos });
            assert_eq!(text.as_str().len(), Offset::CHARS);
            assert!(text.as_str().starts_with('~'));
        }
    }
}
