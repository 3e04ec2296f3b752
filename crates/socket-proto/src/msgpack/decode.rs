//! Reads one packet.

use std::borrow::Cow;

use bytes::Bytes;

use super::MsgpackError;
use super::token::{Token, Tokens};
use super::value::Json;
use crate::args::Args;
use crate::decode::{DecodeError, DecodeLimits, event_name};
use crate::packet::{MAIN_NAMESPACE, Packet};
use crate::placeholder;

/// Reads a binary message that is one packet in MessagePack: a map with `type`, `nsp`, `data` and `id`, whose other keys are skipped.
///
/// The packet is the same that JSON would give; binary values become its attachments.
///
/// # Errors
/// [`DecodeError::Msgpack`] for what is no packet, and where a packet is at fault the same as in JSON: names of events, lists,
/// attachments, ids.
///
/// ```
/// use bytes::Bytes;
/// use posthaste_socket_proto::{DecodeLimits, Packet, decode_msgpack};
///
/// let message = Bytes::from_static(b"\x83\xa4type\x02\xa4data\x92\xa2hi\xc4\x01\xff\xa3nsp\xa1/");
/// let Packet::Event { event, args, .. } = decode_msgpack(&message, &DecodeLimits::default())? else { panic!("an event") };
/// assert_eq!((&*event, args.deserialize::<Bytes>()?), ("hi", Bytes::from_static(&[0xff])));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn decode_msgpack(message: &Bytes, limits: &DecodeLimits) -> Result<Packet<'static>, DecodeError> {
    let mut tokens = Tokens::new(message);
    let Token::Map(entries) = tokens.next()? else { return Err(MsgpackError::NotAPacket.into()) };
    let (mut kind, mut namespace, mut id, mut data) = (None, None, None, None);
    for _ in 0..entries {
        let Token::Text(key) = tokens.next()? else { return Err(MsgpackError::Key.into()) };
        let value = tokens.next()?;
        let was_there = match key {
            b"type" => kind.replace(read_type(&value)?).is_some(),
            b"nsp" => namespace.replace(read_namespace(&value)?).is_some(),
            b"id" => id.replace(read_id(&value)?).is_some(),
            b"data" => data.replace(Data::read(value, &mut tokens, message, limits)?).is_some(),
            _ => {
                tokens.skip_inside(&value)?;
                false
            }
        };
        if was_there {
            return Err(MsgpackError::NotAPacket.into());
        }
    }
    if tokens.left() > 0 {
        return Err(MsgpackError::Trailing { bytes: tokens.left() }.into());
    }
    let namespace = namespace.ok_or(MsgpackError::Namespace)?;
    let id = id.flatten();
    let data = data.unwrap_or(Data::Absent);
    match kind.ok_or(MsgpackError::Type)? {
        // An id on these is without meaning, as in JSON.
        0 => Ok(Packet::Connect { namespace, auth: data.object()? }),
        1 => match data {
            Data::Absent => Ok(Packet::Disconnect { namespace }),
            _ => Err(DecodeError::DisconnectPayload),
        },
        2 => {
            let (list, first_end) = data.list()?;
            let (event, args) = list.cut(first_end)?;
            Ok(Packet::Event { namespace, id, event, args })
        }
        3 => {
            let id = id.ok_or(DecodeError::MissingAckId)?;
            let (list, _) = data.list()?;
            Ok(Packet::Ack { namespace, id, args: list.checked()? })
        }
        _ => Ok(Packet::ConnectError { namespace, data: data.object_or_text()? }),
    }
}

fn read_type(value: &Token<'_>) -> Result<u64, MsgpackError> {
    whole(value).filter(|kind| *kind <= 4).ok_or(MsgpackError::Type)
}

fn read_namespace(value: &Token<'_>) -> Result<Cow<'static, str>, MsgpackError> {
    let Token::Text(name) = value else { return Err(MsgpackError::Namespace) };
    match str::from_utf8(name) {
        Ok(MAIN_NAMESPACE) => Ok(Cow::Borrowed(MAIN_NAMESPACE)),
        // In JSON a name without a slash cannot be told from what follows, and a comma ends it.
        Ok(name) if name.starts_with('/') && !name.contains(',') => Ok(Cow::Owned(name.to_owned())),
        _ => Err(MsgpackError::Namespace),
    }
}

fn read_id(value: &Token<'_>) -> Result<Option<u64>, DecodeError> {
    match value {
        Token::Undefined | Token::Nil => Ok(None),
        value => whole(value).map(Some).ok_or(DecodeError::AckId),
    }
}

/// A whole number that is not negative; a double may be one, too.
fn whole(value: &Token<'_>) -> Option<u64> {
    match *value {
        Token::Unsigned(number) => Some(number),
        // 2^53: up to there doubles are exact.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is whole and in range")]
        Token::Double(number) if number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number) => {
            Some(number as u64)
        }
        _ => None,
    }
}

/// What a packet carries.
enum Data {
    /// Nothing: no such key, `undefined`, or nil.
    Absent,
    /// A list, without its brackets, and where its first element ends.
    List(Written, usize),
    Object(Written),
    Text(Written),
    Other,
}

/// JSON text whose placeholders are not checked yet.
struct Written {
    text: String,
    attachments: Vec<Bytes>,
}

impl Data {
    /// Reads the value whose head was taken.
    fn read(
        head: Token<'_>,
        tokens: &mut Tokens<'_>,
        message: &Bytes,
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        let mut json = Json::new(message, limits);
        let mut first_end = 0;
        match head {
            Token::Undefined | Token::Nil => return Ok(Self::Absent),
            Token::Array(len) => {
                for index in 0..len {
                    if index > 0 {
                        json.comma();
                    }
                    let value = tokens.next()?;
                    json.value(value, tokens, 1)?;
                    if index == 0 {
                        first_end = json.len();
                    }
                }
                return Ok(Self::List(Written::new(json), first_end));
            }
            Token::Map(_) => {
                json.value(head, tokens, 0)?;
                return Ok(Self::Object(Written::new(json)));
            }
            Token::Text(_) => {
                json.value(head, tokens, 0)?;
                return Ok(Self::Text(Written::new(json)));
            }
            _ => {}
        }
        Ok(Self::Other)
    }

    fn list(self) -> Result<(Written, usize), DecodeError> {
        match self {
            Self::List(list, first_end) => Ok((list, first_end)),
            _ => Err(DecodeError::NotAnArray),
        }
    }

    fn object(self) -> Result<Option<Cow<'static, str>>, DecodeError> {
        match self {
            Self::Absent => Ok(None),
            Self::Object(Written { text, attachments }) if attachments.is_empty() => Ok(Some(Cow::Owned(text))),
            Self::Object(_) => Err(MsgpackError::BinaryCredentials.into()),
            _ => Err(DecodeError::NotAnObject),
        }
    }

    fn object_or_text(self) -> Result<Option<Cow<'static, str>>, DecodeError> {
        match self {
            Self::Text(Written { text, .. }) => Ok(Some(Cow::Owned(text))),
            other => other.object(),
        }
    }
}

impl Written {
    fn new(json: Json<'_>) -> Self {
        let (text, attachments) = json.finish();
        Self { text, attachments }
    }

    /// The name that a list begins with, up to `first_end`, and what is behind it.
    fn cut(mut self, first_end: usize) -> Result<(Cow<'static, str>, Args<'static>), DecodeError> {
        let event = Cow::Owned(event_name(&self.text[..first_end])?.into_owned());
        // The comma too, if there is one.
        self.text.drain(..(first_end + 1).min(self.text.len()));
        Ok((event, self.checked()?))
    }

    /// As arguments. Objects that look like placeholders and came with binary values are refused, as in JSON: further on nobody could
    /// tell them apart.
    fn checked(self) -> Result<Args<'static>, DecodeError> {
        if !self.attachments.is_empty() {
            placeholder::check(&self.text, self.attachments.len())?;
        }
        Ok(Args::from_parts(self.text, self.attachments))
    }
}
