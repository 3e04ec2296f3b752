//! Text that arrives in pieces which may end within a code point.

use std::str;

use crate::ProtocolError;

/// Text received so far: what is whole, and the begun code point after it.
#[derive(Default)]
pub(crate) struct Utf8Collector {
    text: String,
    /// The begun code point is `split[..split_len]`: up to three bytes between two pieces.
    split: [u8; 4],
    split_len: u8,
}

impl Utf8Collector {
    /// Bytes received so far.
    pub(crate) fn len(&self) -> usize {
        self.text.len() + usize::from(self.split_len)
    }

    /// Bytes of heap memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.text.capacity()
    }

    /// Makes room for `len` bytes in all and no more.
    pub(crate) fn grow_to(&mut self, len: usize) {
        self.text.reserve_exact(len.saturating_sub(self.text.len()));
    }

    /// Appends the next piece, each byte of which is judged now.
    ///
    /// # Errors
    /// [`ProtocolError::TextNotUtf8`] as soon as no continuation could make the text valid.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), ProtocolError> {
        let piece = self.complete_split(piece)?;
        let whole_len = match str::from_utf8(piece) {
            Ok(text) => {
                self.text.push_str(text);
                return Ok(());
            }
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => return Err(ProtocolError::TextNotUtf8),
        };
        // Only a piece that ends within a code point is read twice: safe code cannot keep the first verdict.
        let (whole, split) = piece.split_at(whole_len);
        self.text.push_str(str::from_utf8(whole).map_err(|_| ProtocolError::TextNotUtf8)?);
        self.split[..split.len()].copy_from_slice(split);
        self.split_len = split.len() as u8;
        Ok(())
    }

    /// Feeds the begun code point, if there is one, and gives back the rest of `piece`.
    fn complete_split<'p>(&mut self, mut piece: &'p [u8]) -> Result<&'p [u8], ProtocolError> {
        while self.split_len > 0 {
            let [next, rest @ ..] = piece else { break };
            piece = rest;
            let len = usize::from(self.split_len) + 1;
            self.split[len - 1] = *next;
            match str::from_utf8(&self.split[..len]) {
                Ok(code_point) => {
                    self.text.push_str(code_point);
                    self.split_len = 0;
                }
                Err(error) if error.error_len().is_none() => self.split_len += 1,
                Err(_) => return Err(ProtocolError::TextNotUtf8),
            }
        }
        Ok(piece)
    }

    /// The whole text.
    ///
    /// # Errors
    /// [`ProtocolError::TextNotUtf8`] if it ends within a code point.
    pub(crate) fn finish(self) -> Result<String, ProtocolError> {
        if self.split_len == 0 { Ok(self.text) } else { Err(ProtocolError::TextNotUtf8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of pieces taken before the refusal, or the text.
    fn collect(pieces: &[&[u8]]) -> Result<String, usize> {
        let mut collector = Utf8Collector::default();
        let mut received = 0;
        for (i, piece) in pieces.iter().enumerate() {
            collector.push(piece).map_err(|_| i)?;
            received += piece.len();
            assert_eq!(collector.len(), received);
        }
        collector.finish().map_err(|_| pieces.len())
    }

    #[test]
    fn text_cut_at_any_two_bytes_comes_out_whole() {
        let text = "aé€🦀\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}z";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let bytes = text.as_bytes();
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(collect(&pieces).as_deref(), Ok(text), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn wrong_byte_is_noticed_in_its_own_piece() {
        for (pieces, refused_at) in [
            // Bytes that never occur, and continuations of nothing.
            (&[&b"\xc0"[..], b""][..], 0),
            (&[b"\xf5", b""], 0),
            (&[b"ok\x80", b""], 0),
            (&[b"ok", b"\xff", b""], 1),
            // Beginnings that the second byte spoils: overlong forms, surrogates, beyond U+10FFFF.
            (&[b"\xe0", b"\x9f", b""], 1),
            (&[b"\xed", b"\xa0", b""], 1),
            (&[b"\xed\xa0", b""], 0),
            (&[b"\xf0", b"\x8f", b""], 1),
            (&[b"\xf4", b"\x90", b""], 1),
            // A code point interrupted.
            (&[b"\xe2\x82", b"a", b""], 1),
            (&[b"\xf0\x9f", b"\xa6", b"\xc3", b""], 2),
            // An end in the middle.
            (&[b"\xe2", b"\x82", b""], 3),
            (&[b"ok\xf0\x9f\xa6"], 1),
        ] {
            assert_eq!(collect(pieces), Err(refused_at), "{pieces:x?}");
        }
    }
}
