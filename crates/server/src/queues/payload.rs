//! What a message carries, as a queue has it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use posthaste_socket_proto::{Args, EmitArgs, EncodeError, encode_ack};
use serde::de::DeserializeOwned;

use super::error::QueueError;

/// A value with binary parts: what a job carries, and what its worker gives back.
///
/// ```text
///   JSON text                                                              nothing binary
///   0 │ number: 1 byte │ each: length (4 bytes), bytes │ JSON text          with placeholders for what is binary
/// ```
///
/// Lengths are big-endian. Text cannot begin with a zero, so that the usual payload is what it looks like for whoever reads the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload(Bytes);

/// Begins one with binary parts.
const BINARY: u8 = 0;

impl Payload {
    /// The most binary parts.
    pub(crate) const MAX_PARTS: usize = u8::MAX as usize;

    /// A value as a payload; bytes in it are binary parts. A tuple is an array.
    ///
    /// # Errors
    /// [`QueueError`] when it cannot be JSON, or has more than 255 binary parts.
    pub fn new<T: serde::Serialize + ?Sized>(value: &T) -> Result<Self, QueueError> {
        let mut text = Vec::new();
        // A tuple of one: what is in it is one argument, whatever it is.
        let attachments = encode_ack(&mut text, "/", 0, &(value,)).map_err(QueueError::payload)?;
        if attachments.len() > Self::MAX_PARTS {
            return Err(QueueError::payload("more than 255 binary parts"));
        }
        let start = text.iter().position(|byte| *byte == b'[').map_or(0, |at| at + 1);
        let value = text.get(start..text.len().saturating_sub(1)).unwrap_or_default();
        let value = std::str::from_utf8(value).map_err(QueueError::payload)?;
        Ok(Self::from_text(value, &attachments))
    }

    /// JSON text that is one value, without binary parts.
    ///
    /// # Errors
    /// [`QueueError`] when it is not.
    pub fn json(text: &str) -> Result<Self, QueueError> {
        serde_json::from_str::<&serde_json::value::RawValue>(text).map_err(QueueError::payload)?;
        Ok(Self::from_text(text.trim(), &[]))
    }

    /// One binary part.
    #[must_use]
    pub fn binary(data: Bytes) -> Self {
        Self::from_text(r#"{"_placeholder":true,"num":0}"#, &[data])
    }

    /// Arguments that were checked: one as it is, none as `null`, several as an array. `None` for more binary parts than there may be.
    pub(crate) fn of_args(args: &Args<'_>) -> Option<Self> {
        let attachments = args.attachments();
        (attachments.len() <= Self::MAX_PARTS).then_some(())?;
        let mut values = args.iter();
        let text = match (values.next(), values.next()) {
            (None, _) => return Some(Self::from_text("null", &[])),
            (Some(only), None) => return Some(Self::from_text(only, attachments)),
            (Some(_), Some(_)) => format!("[{}]", args.raw()),
        };
        Some(Self::from_text(&text, attachments))
    }

    pub(crate) fn from_text(text: &str, attachments: &[Bytes]) -> Self {
        if attachments.is_empty() {
            return Self(Bytes::copy_from_slice(text.as_bytes()));
        }
        let bytes: usize = attachments.iter().map(|part| part.len() + 4).sum();
        let mut to = BytesMut::with_capacity(2 + bytes + text.len());
        to.put_u8(BINARY);
        to.put_u8(attachments.len() as u8);
        for part in attachments {
            to.put_u32(part.len() as u32);
            to.put_slice(part);
        }
        to.put_slice(text.as_bytes());
        Self(to.freeze())
    }

    /// What a queue has.
    #[must_use]
    pub const fn from_stored(stored: Bytes) -> Self {
        Self(stored)
    }

    /// As a queue is to have it.
    #[must_use]
    pub fn into_stored(self) -> Bytes {
        self.0
    }

    /// The JSON text, with placeholders for binary parts, and these; `None` for what is no payload.
    #[must_use]
    pub fn parts(&self) -> Option<(&str, Vec<Bytes>)> {
        if self.0.first() != Some(&BINARY) {
            let text = std::str::from_utf8(&self.0).ok()?;
            return Some((if text.is_empty() { "null" } else { text }, Vec::new()));
        }
        let mut rest = self.0.clone();
        rest.advance(1);
        let count = rest.try_get_u8().ok()?;
        let mut parts = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            let length = rest.try_get_u32().ok()? as usize;
            (length <= rest.len()).then_some(())?;
            parts.push(rest.split_to(length));
        }
        let text = self.0.get(self.0.len() - rest.len()..)?;
        Some((std::str::from_utf8(text).ok()?, parts))
    }

    /// The value as arguments, in a packet of its own.
    pub(crate) fn args(&self) -> Option<Args<'static>> {
        let (text, parts) = self.parts()?;
        Some(Args::decode(&format!("[{text}]"), parts).ok()?.into_owned())
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`QueueError`] when it is no `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, QueueError> {
        let args = self.args().ok_or_else(|| QueueError::payload("what is stored is no payload"))?;
        let (value,) = args.deserialize::<(T,)>().map_err(QueueError::payload)?;
        Ok(value)
    }
}

/// What a worker's socket is sent: a payload and what there is to know about it. Both are text already and are not looked at.
pub(crate) struct JobArgs<'a> {
    pub(crate) text: &'a str,
    pub(crate) parts: &'a [Bytes],
    pub(crate) meta: &'a str,
}

impl EmitArgs for JobArgs<'_> {
    fn emit(&self, writer: &mut posthaste_socket_proto::ArgsWriter<'_>) -> Result<(), EncodeError> {
        writer.text(self.text, self.parts);
        writer.text(self.meta, &[]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_survives_being_stored() {
        #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        struct Image {
            name: String,
            data: Bytes,
            small: Bytes,
        }
        let image = Image { name: "é".into(), data: Bytes::from_static(b"\0\x01\xff"), small: Bytes::new() };
        let stored = Payload::new(&image).unwrap().into_stored();
        assert_eq!(Payload::from_stored(stored).read::<Image>().unwrap(), image);
        let plain = Payload::new(&(1, "two")).unwrap();
        assert_eq!(&plain.clone().into_stored()[..], br#"[1,"two"]"#);
        assert_eq!(plain.read::<(u8, String)>().unwrap(), (1, "two".into()));
        assert_eq!(Payload::new(&()).unwrap().parts().unwrap().0, "null");
        assert_eq!(Payload::binary(Bytes::from_static(b"x")).read::<Bytes>().unwrap(), "x");
    }

    #[test]
    fn arguments_are_one_value() {
        for (array, text) in [("[]", "null"), ("[ 1 ]", "1"), ("[1, [2]]", "[1, [2]]")] {
            let payload = Payload::of_args(&Args::decode(array, Vec::new()).unwrap()).unwrap();
            assert_eq!(payload.parts().unwrap().0, text, "{array}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let whole = Payload::binary(Bytes::from_static(b"four")).into_stored();
        for end in 1..10 {
            assert_eq!(Payload::from_stored(whole.slice(..end)).parts(), None, "{end}");
        }
        assert_eq!(Payload::from_stored(Bytes::from_static(b"\xff")).parts(), None);
        assert!(Payload::json("1 2").is_err());
        assert_eq!(Payload::json(" [1] ").unwrap().parts().unwrap().0, "[1]");
    }
}
