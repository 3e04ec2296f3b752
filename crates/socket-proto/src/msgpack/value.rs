//! Values of MessagePack become JSON text, binary ones attachments.

use bytes::Bytes;
use serde::Serialize;
use smallvec::SmallVec;

use super::token::{Token, Tokens};
use super::{MAX_MSGPACK_DEPTH, MsgpackError, date};
use crate::decode::{DecodeError, DecodeLimits};

/// JSON text on its way, with the attachments that its placeholders stand for.
pub(super) struct Json<'a> {
    message: &'a Bytes,
    limits: &'a DecodeLimits,
    text: Vec<u8>,
    attachments: Vec<Bytes>,
    attachment_bytes: usize,
}

/// A list or an object that is not complete.
struct Level {
    /// Elements, or members, that are still to come, that which is being written included.
    left: u32,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    List,
    Object {
        /// Where the member that is being written begins, its comma included.
        member_at: usize,
        /// Whether another one is before it.
        behind_one: bool,
    },
}

impl<'a> Json<'a> {
    pub(super) const fn new(message: &'a Bytes, limits: &'a DecodeLimits) -> Self {
        Self { message, limits, text: Vec::new(), attachments: Vec::new(), attachment_bytes: 0 }
    }

    /// How much was written.
    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn comma(&mut self) {
        self.text.push(b',');
    }

    pub(super) fn finish(self) -> (String, Vec<Bytes>) {
        let text = String::from_utf8(self.text).expect("invariant: what is written is text");
        (text, self.attachments)
    }

    /// Writes the value whose head was taken. It is `depth` levels inside others.
    pub(super) fn value(&mut self, head: Token<'_>, tokens: &mut Tokens<'_>, depth: usize) -> Result<(), DecodeError> {
        let mut open: SmallVec<[Level; 8]> = SmallVec::new();
        let mut token = head;
        loop {
            if matches!(token, Token::Array(_) | Token::Map(_)) && depth + open.len() >= MAX_MSGPACK_DEPTH {
                return Err(MsgpackError::TooDeep.into());
            }
            let mut taken_back = false;
            let level = match token {
                Token::Array(len) if len > 0 => Some((b'[', Level { left: len, place: Place::List })),
                Token::Map(len) if len > 0 => {
                    let place = Place::Object { member_at: self.text.len() + 1, behind_one: false };
                    Some((b'{', Level { left: len, place }))
                }
                Token::Undefined => {
                    match open.last() {
                        // What has no value is no member: it is taken back, key and all.
                        Some(Level { place: Place::Object { member_at, .. }, .. }) => {
                            self.text.truncate(*member_at);
                            taken_back = true;
                        }
                        _ => self.text.extend_from_slice(b"null"),
                    }
                    None
                }
                plain => {
                    self.plain(&plain)?;
                    None
                }
            };
            if let Some((bracket, level)) = level {
                self.text.push(bracket);
                open.push(level);
            } else if !self.ended(&mut open, taken_back) {
                return Ok(());
            }
            // The next value of the innermost level begins.
            if let Some(Level { place: Place::Object { behind_one, .. }, .. }) = open.last() {
                self.key(*behind_one, tokens)?;
            }
            token = tokens.next()?;
        }
    }

    /// A value has ended, and may be the last in its level, and that in its own. Returns whether another one follows.
    fn ended(&mut self, open: &mut SmallVec<[Level; 8]>, mut taken_back: bool) -> bool {
        while let Some(level) = open.last_mut() {
            level.left -= 1;
            let closing = match &mut level.place {
                Place::List => b']',
                Place::Object { member_at, behind_one } => {
                    *behind_one |= !taken_back;
                    *member_at = self.text.len();
                    b'}'
                }
            };
            if level.left > 0 {
                if closing == b']' {
                    self.text.push(b',');
                }
                return true;
            }
            self.text.push(closing);
            open.pop();
            taken_back = false;
        }
        false
    }

    /// Writes a key and its colon, as text.
    fn key(&mut self, behind_one: bool, tokens: &mut Tokens<'_>) -> Result<(), DecodeError> {
        if behind_one {
            self.text.push(b',');
        }
        match tokens.next()? {
            Token::Text(text) => self.string(text),
            key @ (Token::Nil | Token::Bool(_) | Token::Unsigned(_) | Token::Negative(_)) => {
                self.text.push(b'"');
                self.plain(&key)?;
                self.text.push(b'"');
            }
            _ => return Err(MsgpackError::Key.into()),
        }
        self.text.push(b':');
        Ok(())
    }

    /// Writes a value with nothing inside.
    fn plain(&mut self, token: &Token<'_>) -> Result<(), DecodeError> {
        match token {
            Token::Nil => self.text.extend_from_slice(b"null"),
            Token::Bool(true) => self.text.extend_from_slice(b"true"),
            Token::Bool(false) => self.text.extend_from_slice(b"false"),
            Token::Unsigned(number) => self.text.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
            Token::Negative(number) => self.text.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes()),
            // Not a number, and endless ones, are `null` to serde_json as well.
            Token::Double(number) => self.json(number),
            Token::Text(text) => self.string(text),
            Token::Date(milliseconds) => date::write(&mut self.text, *milliseconds),
            Token::Binary(at) => self.attachment(at.clone())?,
            Token::Extension(kind, at) => {
                // What the official parser makes of an extension that it does not know.
                self.text.push(b'[');
                self.json(kind);
                self.text.push(b',');
                self.attachment(at.clone())?;
                self.text.push(b']');
            }
            // Those that have elements are not written as a whole.
            Token::Array(_) => self.text.extend_from_slice(b"[]"),
            Token::Map(_) => self.text.extend_from_slice(b"{}"),
            Token::Undefined => self.text.extend_from_slice(b"null"),
        }
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        match str::from_utf8(text) {
            Ok(text) => self.json(text),
            // As JavaScript reads it.
            Err(_) => self.json(&*String::from_utf8_lossy(text)),
        }
    }

    fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        let written = value.serialize(&mut serde_json::Serializer::new(&mut self.text));
        written.expect("invariant: writing plain values to memory cannot fail");
    }

    fn attachment(&mut self, at: std::ops::Range<usize>) -> Result<(), DecodeError> {
        let DecodeLimits { max_attachments, max_attachment_bytes } = *self.limits;
        if self.attachments.len() >= max_attachments {
            return Err(DecodeError::TooManyAttachments { max: max_attachments });
        }
        self.attachment_bytes += at.len();
        if self.attachment_bytes > max_attachment_bytes {
            return Err(DecodeError::AttachmentsTooLarge { max: max_attachment_bytes });
        }
        self.text.extend_from_slice(b"{\"_placeholder\":true,\"num\":");
        self.text.extend_from_slice(itoa::Buffer::new().format(self.attachments.len()).as_bytes());
        self.text.push(b'}');
        // A small part must not keep a large message in memory.
        let is_most = at.len() >= self.message.len() / 2;
        let data = if is_most { self.message.slice(at) } else { Bytes::copy_from_slice(&self.message[at]) };
        self.attachments.push(data);
        Ok(())
    }
}
