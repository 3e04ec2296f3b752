//! Where a client is, and the text it carries for it.

use std::fmt;

use posthaste_history::{Offset, Position};

/// How far something has come: in the log of this process, and in the store if there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// In the log.
    pub(crate) pos: u64,
    /// In the store: what it committed up to here comes before `pos` of the log.
    pub(crate) stored: u64,
}

impl Place {
    /// The farther of two, on both scales.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { pos: self.pos.max(other.pos), stored: self.stored.max(other.stored) }
    }
}

/// The text of a [`Place`], which events carry behind their arguments: the store's [`Offset`] if there is a store, then the log's.
///
/// The store's half is still good when the process that wrote it has ended; the log's is finer as long as it has not.
#[derive(Clone, Copy)]
pub(crate) struct OffsetText {
    text: [u8; 2 * Offset::CHARS],
    start: usize,
}

impl OffsetText {
    pub(crate) fn new(stored: Option<Offset>, passing: Offset) -> Self {
        let mut text = [0; 2 * Offset::CHARS];
        text[Offset::CHARS..].copy_from_slice(passing.as_bytes());
        let start = match stored {
            None => Offset::CHARS,
            Some(stored) => {
                text[..Offset::CHARS].copy_from_slice(stored.as_bytes());
                0
            }
        };
        Self { text, start }
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text[self.start..]).expect("invariant: offsets are ASCII")
    }

    /// The parts of a text that may be one, each of which stands alone as well. Behind the two there may be the offset of an inbox.
    pub(crate) fn parts(text: &str) -> impl Iterator<Item = &str> {
        let mut rest = text;
        std::iter::from_fn(move || {
            let (part, more) = rest.split_at_checked(Offset::CHARS).unwrap_or((rest, ""));
            rest = more;
            (!part.is_empty()).then_some(part)
        })
        .take(3)
    }
}

impl AsRef<str> for OffsetText {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for OffsetText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client says it heard last, as far as it can be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) passing: Option<Position>,
    pub(crate) stored: Option<Position>,
}

#[cfg(test)]
mod tests {
    use posthaste_history::{Epoch, OffsetKey};

    use super::*;

    #[test]
    fn a_text_is_one_offset_or_two_and_is_found_in_parts() {
        let key = OffsetKey::from_bytes([7; 16]);
        let offset = |pos| key.write(Position { epoch: Epoch(1), pos });
        assert_eq!(OffsetText::new(None, offset(1)).as_str(), offset(1).as_str());
        let both = OffsetText::new(Some(offset(2)), offset(1));
        assert_eq!(both.as_str(), format!("{}{}", offset(2), offset(1)));
        let parts: Vec<&str> = OffsetText::parts(both.as_str()).collect();
        assert_eq!(parts, [offset(2).as_str(), offset(1).as_str()]);
        assert_eq!(OffsetText::parts(offset(1).as_str()).count(), 1);
        assert_eq!(OffsetText::parts("").count(), 0);
        // Not between two characters.
        assert_eq!(OffsetText::parts("aaaaaaaaaaaaaaaaaaaaaaé").count(), 1);
    }
}
