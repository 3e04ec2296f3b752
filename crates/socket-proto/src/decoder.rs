//! Puts binary packets back together: one text message, then its attachments.

use std::time::Instant;

use bytes::Bytes;

use crate::{
    decode::{self, DecodeError, DecodeLimits, Decoded},
    packet::Packet,
};

/// Turns the messages of one connection into packets.
///
/// At most one packet is incomplete at a time, and only then anything is kept; dropping the decoder frees it. After an
/// error nothing is kept either, and the connection should close.
///
/// ```
/// use bytes::Bytes;
/// use posthaste_socket_proto::{DecodeLimits, Decoder, Packet};
///
/// let (mut decoder, limits) = (Decoder::default(), DecodeLimits::default());
/// assert_eq!(decoder.text(r#"51-["hi",{"_placeholder":true,"num":0}]"#, &limits)?, None);
/// let Some(Packet::Event { event, args, .. }) = decoder.binary(Bytes::from_static(&[1, 2, 3]), &limits)? else {
///     panic!("one attachment was awaited");
/// };
/// assert_eq!(event, "hi");
/// assert_eq!(args.deserialize::<Bytes>()?, [1, 2, 3][..]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    // Boxed: nearly always absent, and there is one decoder per connection.
    pending: Option<Box<Pending>>,
}

#[derive(Debug)]
struct Pending {
    packet: Packet<'static>,
    /// Attachments still to come; at least one.
    awaited: usize,
    /// Bytes that those may still have.
    bytes_left: usize,
    attachments: Vec<Bytes>,
    overdue_at: Option<Instant>,
}

impl Decoder {
    /// Takes a text message. `None` when it is a packet whose attachments are still to come.
    ///
    /// # Errors
    /// Any [`DecodeError`] except [`DecodeError::UnexpectedBinary`] and [`DecodeError::AttachmentsTooLarge`].
    pub fn text<'a>(&mut self, text: &'a str, limits: &DecodeLimits) -> Result<Option<Packet<'a>>, DecodeError> {
        if self.pending.take().is_some() {
            return Err(DecodeError::UnexpectedText);
        }
        match decode::decode_text(text, limits)? {
            Decoded::Complete(packet) => Ok(Some(packet)),
            Decoded::Awaiting { packet, attachments } => {
                self.pending = Some(Box::new(Pending {
                    packet: packet.into_owned(),
                    awaited: attachments,
                    bytes_left: limits.max_attachment_bytes,
                    attachments: Vec::new(),
                    overdue_at: None,
                }));
                Ok(None)
            }
        }
    }

    /// Takes a binary message. `None` while further attachments are awaited.
    ///
    /// The attachment is kept as it is: a small slice of a large buffer keeps the buffer alive.
    ///
    /// # Errors
    /// [`DecodeError::UnexpectedBinary`] and [`DecodeError::AttachmentsTooLarge`].
    pub fn binary(&mut self, data: Bytes, limits: &DecodeLimits) -> Result<Option<Packet<'static>>, DecodeError> {
        let mut pending = self.pending.take().ok_or(DecodeError::UnexpectedBinary)?;
        pending.bytes_left = pending
            .bytes_left
            .checked_sub(data.len())
            .ok_or(DecodeError::AttachmentsTooLarge { max: limits.max_attachment_bytes })?;
        pending.attachments.push(data);
        pending.awaited -= 1;
        if pending.awaited > 0 {
            self.pending = Some(pending);
            return Ok(None);
        }
        let Pending { mut packet, attachments, .. } = *pending;
        if let Packet::Event { args, .. } | Packet::Ack { args, .. } = &mut packet {
            args.attach(attachments);
        }
        Ok(Some(packet))
    }

    /// The namespace of the packet whose attachments are awaited.
    pub fn pending_namespace(&self) -> Option<&str> {
        self.pending.as_ref().map(|pending| pending.packet.namespace())
    }

    /// Notes when the packet whose attachments are awaited has taken too long, if ever.
    pub(crate) fn set_overdue_at(&mut self, overdue_at: Option<Instant>) {
        if let Some(pending) = &mut self.pending {
            pending.overdue_at = overdue_at;
        }
    }

    /// When the attachments that are awaited should have arrived.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        self.pending.as_ref()?.overdue_at
    }

    /// Forgets the packet whose attachments are awaited.
    pub(crate) fn clear(&mut self) {
        self.pending = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_decoder_is_one_pointer() {
        assert_eq!(size_of::<Decoder>(), size_of::<usize>());
        assert!(size_of::<Packet<'_>>() <= 128);
    }

    #[test]
    fn sec_12_memory_follows_attachments_received_not_declared() {
        let limits = DecodeLimits { max_attachments: usize::MAX, max_attachment_bytes: 10 };
        let mut decoder = Decoder::default();
        let error = decoder.text(r#"5999999999-["e",{"_placeholder":true,"num":0}]"#, &limits).unwrap_err();
        assert!(matches!(error, DecodeError::Placeholder(_)), "{error:?}");

        let text = r#"52-["e",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;
        assert_eq!(decoder.text(text, &limits).unwrap(), None);
        assert_eq!(decoder.pending.as_ref().unwrap().attachments.capacity(), 0);
        assert_eq!(decoder.binary(Bytes::from_static(b"123456"), &limits).unwrap(), None);
        let error = decoder.binary(Bytes::from_static(b"12345"), &limits).unwrap_err();
        assert!(matches!(error, DecodeError::AttachmentsTooLarge { max: 10 }));
        assert!(decoder.pending.is_none(), "an error leaves nothing behind");
    }

    #[test]
    fn sec_13_a_packet_that_declares_no_attachments_leaves_nothing_behind() {
        let (mut decoder, limits) = (Decoder::default(), DecodeLimits::default());
        for text in [r#"50-["e"]"#, r#"60-1["e"]"#] {
            for _ in 0..10_000 {
                assert!(matches!(decoder.text(text, &limits), Err(DecodeError::AttachmentCount)));
                assert!(decoder.pending.is_none());
            }
        }
        // At most one reconstruction: the second header ends the first.
        let header = r#"51-["e",{"_placeholder":true,"num":0}]"#;
        assert_eq!(decoder.text(header, &limits).unwrap(), None);
        assert!(matches!(decoder.text(header, &limits), Err(DecodeError::UnexpectedText)));
        assert!(decoder.pending.is_none());
    }
}
