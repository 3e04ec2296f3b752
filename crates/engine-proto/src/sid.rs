//! Session ids.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The id of an Engine.IO session: a secret, 15 bytes, written as 20 characters of base64url.
///
/// Whoever knows it can post in the session's name, so it is never shown to other clients and differs from the public id of a
/// socket. Its randomness is the caller's: this crate has none.
///
/// ```
/// use posthaste_engine_proto::Sid;
/// let sid = Sid::from_bytes([0xab; 15]);
/// assert_eq!(sid.to_string(), "q6urq6urq6urq6urq6ur");
/// assert_eq!(Sid::parse("q6urq6urq6urq6urq6ur"), Some(sid));
/// assert_eq!(Sid::parse("too short"), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sid([u8; Self::BYTES]);

impl Sid {
    /// Length in bytes.
    pub const BYTES: usize = 15;
    /// Length as text, in characters.
    pub const CHARS: usize = 20;

    /// The id made of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Reads an id from its text form; `None` if `text` cannot be one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::BYTES];
        (text.len() == Self::CHARS && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(Self::BYTES))
            .then_some(Self(bytes))
    }

    /// The text form, on the stack.
    #[must_use]
    pub fn to_text(self) -> SidText {
        let mut text = [0; Self::CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        debug_assert_eq!(written, Ok(Self::CHARS), "invariant: 15 bytes are 20 characters");
        SidText(text)
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_text().as_str())
    }
}

// The id is a secret: logs show enough to tell sessions apart, not enough to use one.
impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sid({}…)", &self.to_text().as_str()[..6])
    }
}

/// The text of a [`Sid`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SidText([u8; Sid::CHARS]);

impl SidText {
    /// The 20 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("invariant: base64 is ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_sid_survives_its_text(bytes: [u8; 15]) {
            let sid = Sid::from_bytes(bytes);
            prop_assert_eq!(Sid::parse(&sid.to_string()), Some(sid));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,40}") {
            let _ = Sid::parse(&text);
        }
    }

    #[test]
    fn debug_does_not_give_the_secret_away() {
        let shown = format!("{:?}", Sid::from_bytes([7; 15]));
        assert!(!shown.contains(Sid::from_bytes([7; 15]).to_text().as_str()), "{shown}");
    }
}
