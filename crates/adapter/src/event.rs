//! An event as one node tells it to another.

use bytes::Bytes;
use posthaste_socket_proto::{Args, ArgsError, ArgsWriter, Chain, DecodeError, EmitArgs, EncodeError, encode_ack};

/// An event's name and arguments as raw JSON, with the binary values that its placeholders stand for: what an adapter writes in
/// the form of its own wire.
///
/// ```
/// use posthaste_adapter::RawEvent;
/// let event = RawEvent::encode("move", &(3, 4))?;
/// assert_eq!(event.to_array(), r#"["move",3,4]"#);
/// assert_eq!(event.name()?, "move");
/// assert_eq!(event.args().raw(), "3,4");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEvent(Args<'static>);

impl RawEvent {
    /// Reads `["name",arg,…]`, as another node sent it, and the attachments its placeholders stand for.
    ///
    /// # Errors
    /// [`DecodeError`] when it is no JSON array, has no name, or names other attachments.
    pub fn decode(array: &str, attachments: Vec<Bytes>) -> Result<Self, DecodeError> {
        let all = Args::decode(array, attachments)?;
        if all.is_empty() {
            return Err(DecodeError::NotAnArray);
        }
        Ok(Self(all.into_owned()))
    }

    /// An event of this node's own. Unlike what is sent to clients it may have any name.
    ///
    /// # Errors
    /// [`EncodeError`] when the arguments cannot be JSON.
    pub fn encode<A: EmitArgs + ?Sized>(name: &str, args: &A) -> Result<Self, EncodeError> {
        let mut packet = Vec::new();
        // An answer is an event without a name, so this writes an array of whatever it is given.
        let attachments = encode_ack(&mut packet, "/", 0, &Chain(name, Borrowed(args)))?;
        let text = String::from_utf8(packet).expect("invariant: JSON is UTF-8");
        let array = &text[text.find('[').expect("invariant: an answer is an array")..];
        let all = Args::decode(array, attachments).expect("invariant: what is written can be read");
        Ok(Self(all.into_owned()))
    }

    /// The event as a JSON array: its name, then its arguments.
    #[must_use]
    pub fn to_array(&self) -> String {
        format!("[{}]", self.0.raw())
    }

    /// The name.
    ///
    /// # Errors
    /// [`ArgsError`] when another server named it with something else than text.
    pub fn name(&self) -> Result<String, ArgsError> {
        self.0.deserialize()
    }

    /// The arguments behind the name.
    #[must_use]
    pub fn args(&self) -> Args<'_> {
        self.0.skip(1)
    }

    /// Name and arguments in one list.
    #[must_use]
    pub const fn all(&self) -> &Args<'static> {
        &self.0
    }

    /// The binary values, in the order that placeholders number them.
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        self.0.attachments()
    }
}

/// Arguments that are somebody else's.
struct Borrowed<'a, A: ?Sized>(&'a A);

impl<A: EmitArgs + ?Sized> EmitArgs for Borrowed<'_, A> {
    fn emit(&self, writer: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        self.0.emit(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written_binary_included() {
        let bytes = Bytes::from_static(&[1, 2]);
        let event = RawEvent::encode("disconnect", &("a", &bytes)).expect("it is JSON");
        assert_eq!(event.to_array(), r#"["disconnect","a",{"_placeholder":true,"num":0}]"#);
        assert_eq!(event.args().deserialize::<(String, Bytes)>().expect("as sent"), ("a".into(), bytes));
        assert_eq!(RawEvent::decode(&event.to_array(), event.attachments().to_vec()).expect("as written"), event);
    }

    #[test]
    fn what_has_no_name_is_no_event() {
        for broken in ["[]", "{}", "[", "", "\"name\""] {
            assert!(RawEvent::decode(broken, Vec::new()).is_err(), "{broken}");
        }
        assert!(RawEvent::decode(r#"["a",{"_placeholder":true,"num":1}]"#, vec![Bytes::new()]).is_err());
        assert!(RawEvent::decode("[5]", Vec::new()).expect("Node takes numbers").name().is_err());
    }
}
