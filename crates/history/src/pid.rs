//! The secret that names a session to recover.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The private id of a session: whoever shows it takes the session over. 16 random bytes, written as 22 characters.
///
/// It is neither the public id of a socket nor the id of its connection, and no other client ever sees it. Its randomness is the
/// caller's: this crate has none.
///
/// ```
/// use posthaste_history::Pid;
/// let pid = Pid::from_bytes([0xab; 16]);
/// assert_eq!(pid.to_text().as_str(), "q6urq6urq6urq6urq6urqw");
/// assert_eq!(Pid::parse("q6urq6urq6urq6urq6urqw"), Some(pid));
/// assert_eq!(Pid::parse("somebody else's"), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pid([u8; Self::BYTES]);

impl Pid {
    /// Length in bytes.
    pub const BYTES: usize = 16;
    /// Length as text, in characters.
    pub const CHARS: usize = 22;

    /// The id made of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads an id from its text; `None` if `text` cannot be one of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::BYTES];
        (text.len() == Self::CHARS && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(Self::BYTES))
            .then_some(Self(bytes))
    }

    /// The text, on the stack.
    #[must_use]
    pub fn to_text(self) -> PidText {
        let mut text = [0; Self::CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        debug_assert_eq!(written, Ok(Self::CHARS), "invariant: 16 bytes are 22 characters");
        PidText(text)
    }
}

// A secret: logs show enough to tell sessions apart, not enough to take one.
impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pid({}…)", &self.to_text().as_str()[..6])
    }
}

/// The text of a [`Pid`].
#[derive(Clone, Copy)]
pub struct PidText([u8; Pid::CHARS]);

impl PidText {
    /// The 22 characters.
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
        fn every_pid_survives_its_text(bytes: [u8; 16]) {
            let pid = Pid::from_bytes(bytes);
            prop_assert_eq!(Pid::parse(pid.to_text().as_str()), Some(pid));
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,40}") {
            let _ = Pid::parse(&text);
        }
    }

    #[test]
    fn debug_does_not_give_the_secret_away() {
        let pid = Pid::from_bytes([7; 16]);
        assert!(!format!("{pid:?}").contains(pid.to_text().as_str()));
    }
}
