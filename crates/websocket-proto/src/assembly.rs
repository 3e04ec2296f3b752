//! A message of which only some fragments have come.

use std::borrow::Cow;

use crate::utf8::Utf8Collector;
use crate::{Event, ProtocolError};

/// The fragments so far, joined: what many small ones cost is their bytes, not their number.
pub(crate) struct Assembly {
    body: Body,
    fragments: usize,
}

enum Body {
    Text(Utf8Collector),
    Binary(Vec<u8>),
}

impl Assembly {
    /// A message without fragments yet.
    pub(crate) fn new(is_text: bool) -> Self {
        let body = match is_text {
            true => Body::Text(Utf8Collector::default()),
            false => Body::Binary(Vec::new()),
        };
        Self { body, fragments: 0 }
    }

    /// Fragments joined so far.
    pub(crate) fn fragments(&self) -> usize {
        self.fragments
    }

    /// Payload bytes joined so far.
    pub(crate) fn len(&self) -> usize {
        match &self.body {
            Body::Text(text) => text.len(),
            Body::Binary(bytes) => bytes.len(),
        }
    }

    /// Heap bytes held, this value (which lives in a box) included.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.capacity()
    }

    fn capacity(&self) -> usize {
        match &self.body {
            Body::Text(text) => text.capacity(),
            Body::Binary(bytes) => bytes.capacity(),
        }
    }

    /// Joins the next fragment; the caller has checked that the message stays within `max_message_bytes`.
    ///
    /// # Errors
    /// [`ProtocolError::TextNotUtf8`] at the first fragment that spoils a text.
    pub(crate) fn push(&mut self, fragment: &[u8], max_message_bytes: usize) -> Result<(), ProtocolError> {
        let needed = self.len() + fragment.len();
        if needed > self.capacity() {
            // Doubling keeps the copying linear; stopping at the limit keeps the buffer, together with the
            // smaller one it replaces, below twice the limit.
            let target = self.capacity().saturating_mul(2).min(max_message_bytes).max(needed);
            match &mut self.body {
                Body::Text(text) => text.grow_to(target),
                Body::Binary(bytes) => bytes.reserve_exact(target - bytes.len()),
            }
        }
        self.fragments += 1;
        match &mut self.body {
            Body::Text(text) => text.push(fragment)?,
            Body::Binary(bytes) => bytes.extend_from_slice(fragment),
        }
        Ok(())
    }

    /// The whole message.
    ///
    /// # Errors
    /// [`ProtocolError::TextNotUtf8`] for a text that ends within a code point.
    pub(crate) fn finish(self) -> Result<Event<'static>, ProtocolError> {
        Ok(match self.body {
            Body::Text(text) => Event::Text(Cow::Owned(text.finish()?)),
            Body::Binary(bytes) => Event::Binary(Cow::Owned(bytes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_never_outgrows_the_limit() {
        for limit in 1..=200 {
            // Shifted against each other, so that buffers grow between and within code points.
            for text in ["x".repeat(limit), "é".repeat(limit), format!("x{}", "🦀".repeat(limit))] {
                for is_text in [true, false] {
                    let mut assembly = Assembly::new(is_text);
                    for fragment in text.as_bytes()[..limit].chunks(1) {
                        assembly.push(fragment, limit).unwrap();
                        assert!(assembly.capacity() <= limit, "{text} at {}", assembly.len());
                    }
                    assert_eq!(assembly.len(), limit);
                    assert_eq!(assembly.fragments(), limit);
                }
            }
        }
    }
}
