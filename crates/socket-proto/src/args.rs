//! The arguments of an event or acknowledgement, kept as the JSON text they arrived in.
//!
//! Most packets are passed on rather than read, so nothing is parsed until somebody asks for a type:
//!
//! ```text
//! 2["chat","hi",{"n":1}]  ──►  event chat, Args { "hi",{"n":1} }  ──┬─ deserialize ──► ("hi", N { n: 1 })
//!                                                                  └─ emitted again ──► the same bytes
//! ```

mod binary;
mod typed;

use std::{borrow::Cow, iter};

use bytes::Bytes;
use serde::de::{Deserialize, DeserializeOwned};

pub use self::typed::ArgsError;
use crate::{decode::DecodeError, json, placeholder};

/// Arguments as raw JSON with the binary values that belong to them.
///
/// The text is what stood between the brackets, behind the event's name: `"hi",{"n":1}`. With attachments it holds
/// placeholder objects where they belong, one for each. Emitting `Args` again writes the same text.
///
/// ```
/// use posthaste_socket_proto::Args;
/// let args = Args::decode(r#"["general", {"text":"hi"}]"#, Vec::new())?;
/// let (room, message): (String, std::collections::HashMap<String, String>) = args.deserialize()?;
/// assert_eq!((room.as_str(), message["text"].as_str()), ("general", "hi"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args<'a> {
    text: Cow<'a, str>,
    attachments: Vec<Bytes>,
}

impl<'a> Args<'a> {
    /// Reads a JSON array of arguments and the attachments that its placeholders stand for.
    ///
    /// Without attachments, objects that look like placeholders are plain data.
    ///
    /// # Errors
    /// [`DecodeError::NotAnArray`], [`DecodeError::Json`] and [`DecodeError::Placeholder`].
    pub fn decode(array: &'a str, attachments: Vec<Bytes>) -> Result<Self, DecodeError> {
        if !array.trim_ascii_start().starts_with('[') {
            return Err(DecodeError::NotAnArray);
        }
        let elements = json::check_array(array)?.elements;
        if !attachments.is_empty() {
            placeholder::check(elements, attachments.len())?;
        }
        Ok(Self { text: Cow::Borrowed(elements), attachments })
    }

    /// Arguments from the text of a list known to be valid; its attachments, if any, follow with [`Args::attach`].
    pub(crate) fn from_valid(text: &'a str) -> Self {
        Self { text: Cow::Borrowed(text), attachments: Vec::new() }
    }

    /// Arguments that are owned: the text of a list known to be valid, and attachments that its placeholders were checked against.
    pub(crate) const fn from_parts(text: String, attachments: Vec<Bytes>) -> Self {
        Self { text: Cow::Owned(text), attachments }
    }

    /// Gives checked placeholders their attachments.
    pub(crate) fn attach(&mut self, attachments: Vec<Bytes>) {
        self.attachments = attachments;
    }

    /// The arguments as comma-separated JSON values, exactly as they arrived.
    pub fn raw(&self) -> &str {
        &self.text
    }

    /// Whether there are no arguments.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The binary values, in the order that placeholders number them.
    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// The JSON text of each argument.
    ///
    /// ```
    /// # use posthaste_socket_proto::Args;
    /// let args = Args::decode(r#"[1, [2,3], "4,5"]"#, Vec::new())?;
    /// assert_eq!(args.iter().collect::<Vec<_>>(), ["1", "[2,3]", "\"4,5\""]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut rest = self.raw();
        iter::from_fn(move || {
            let (first, behind) = json::split_first(rest)?;
            rest = behind;
            Some(first)
        })
    }

    /// The arguments behind the first `count`, with only the attachments they use.
    ///
    /// ```
    /// # use posthaste_socket_proto::Args;
    /// let args = Args::decode(r#"["to-room","chat","hi"]"#, Vec::new())?;
    /// assert_eq!(args.skip(1).raw(), r#""chat","hi""#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip(&self, count: usize) -> Args<'_> {
        let rest = json::skip_elements(self.raw(), count);
        if self.attachments.is_empty() {
            return Args::from_valid(rest);
        }
        let (text, attachments) = self.renumbered(rest, 0);
        Args { text: Cow::Owned(text), attachments }
    }

    /// The first `count` arguments, with only the attachments they use.
    ///
    /// ```
    /// # use posthaste_socket_proto::Args;
    /// let args = Args::decode(r#"["a", {"b":1}, "last"]"#, Vec::new())?;
    /// assert_eq!(args.take(2).raw(), r#""a", {"b":1}"#);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take(self, count: usize) -> Args<'a> {
        let text = self.raw();
        // Each is a part of the text: where the last of them ends there is what is taken.
        let end = self
            .iter()
            .take(count)
            .last()
            .map_or(0, |last| last.as_ptr() as usize + last.len() - text.as_ptr() as usize);
        if self.attachments.is_empty() {
            return match self.text {
                Cow::Borrowed(text) => Args::from_valid(&text[..end]),
                Cow::Owned(mut text) => {
                    text.truncate(end);
                    Args::from_parts(text, Vec::new())
                }
            };
        }
        let (text, attachments) = self.renumbered(&text[..end], 0);
        Args { text: Cow::Owned(text), attachments }
    }

    /// A part of the text, one value or several, with only the attachments it uses. `part` is a slice of [`Args::raw`] that begins and ends
    /// where values do.
    ///
    /// ```
    /// # use posthaste_socket_proto::Args;
    /// let args = Args::decode(r#"[{"a":{"_placeholder":true,"num":0}}]"#, vec!["x".into()])?;
    /// let inner = args.part(&args.raw()[5..args.raw().len() - 1]);
    /// assert_eq!(inner.deserialize::<bytes::Bytes>()?, "x");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn part<'b>(&self, part: &'b str) -> Args<'b> {
        if self.attachments.is_empty() {
            return Args::from_valid(part);
        }
        let (text, attachments) = self.renumbered(part, 0);
        Args { text: Cow::Owned(text), attachments }
    }

    /// `part` of the text with its placeholders numbered from `start`, and the attachments for them.
    fn renumbered(&self, part: &str, start: usize) -> (String, Vec<Bytes>) {
        let placeholders = placeholder::find(part).expect("invariant: arguments with attachments were checked");
        let (text, former) = placeholder::renumber(part, &placeholders, start);
        (text, former.into_iter().map(|index| self.attachments[index].clone()).collect())
    }

    /// The text and attachments to write into a packet that already has `start` attachments.
    #[must_use]
    pub fn numbered_from(&self, start: usize) -> (Cow<'_, str>, Vec<Bytes>) {
        if start == 0 || self.attachments.is_empty() {
            return (Cow::Borrowed(self.raw()), self.attachments.clone());
        }
        let (text, attachments) = self.renumbered(self.raw(), start);
        (Cow::Owned(text), attachments)
    }

    /// Copies the text, so that the arguments no longer depend on the packet they came in.
    pub fn into_owned(self) -> Args<'static> {
        Args { text: Cow::Owned(self.text.into_owned()), attachments: self.attachments }
    }

    /// Reads the arguments as `T`.
    ///
    /// - A tuple, tuple struct or array takes one argument per element. Further arguments are ignored; a missing one
    ///   is `None` for an `Option` (and the default under `#[serde(default)]`).
    /// - `()` and unit structs accept any arguments.
    /// - Anything else is the first argument; `Option` accepts its absence. One argument that *is* an array of fixed
    ///   length is asked for as `([T; N],)`.
    ///
    /// [`Bytes`], and whatever else asks serde for bytes, receives the attachment of the placeholder in its place, at
    /// any depth. A `Value` or `RawValue` sees the placeholder object itself. Types that serde reads through a buffer
    /// (untagged and internally tagged enums, flattened fields) are offered attachments first; where something else
    /// in `T` refuses those, placeholder objects.
    ///
    /// Unpaired surrogates in strings become U+FFFD; doubles are exact.
    ///
    /// # Errors
    /// [`ArgsError`] names the argument that is missing or does not fit. Values nested deeper than 128 levels do not
    /// fit any type that keeps them, other than `RawValue`.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, ArgsError> {
        typed::read(self.raw(), &self.attachments).or_else(|error| match json::replace_lone_surrogates(self.raw()) {
            Some(text) => typed::read(&text, &self.attachments),
            None => Err(error),
        })
    }

    /// Like [`Args::deserialize`], for a `T` that may borrow from the text and the attachments.
    ///
    /// # Errors
    /// Also where text cannot be borrowed as it is: a `&str` that holds escapes, or unpaired surrogates anywhere.
    ///
    /// ```
    /// # use posthaste_socket_proto::Args;
    /// let args = Args::decode(r#"["hi",1]"#, Vec::new())?;
    /// assert_eq!(args.deserialize_borrowed::<(&str, u8)>()?, ("hi", 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn deserialize_borrowed<'de, T: Deserialize<'de>>(&'de self) -> Result<T, ArgsError> {
        typed::read(self.raw(), &self.attachments)
    }
}
/// What arguments can be read as: every type that [`Args::deserialize`] reads, and [`Args`] themselves, unread.
#[diagnostic::on_unimplemented(
    message = "arguments cannot be read as `{Self}`",
    note = "it must be `serde::Deserialize` without borrowing (`String` rather than `&str`), or `Args`"
)]
pub trait FromArgs: Sized {
    /// Reads the arguments.
    ///
    /// # Errors
    /// [`ArgsError`] when they are not of this type.
    fn from_args(args: &Args<'_>) -> Result<Self, ArgsError>;
}

impl<T: DeserializeOwned> FromArgs for T {
    fn from_args(args: &Args<'_>) -> Result<Self, ArgsError> {
        args.deserialize()
    }
}

impl FromArgs for Args<'static> {
    fn from_args(args: &Args<'_>) -> Result<Self, ArgsError> {
        Ok(args.clone().into_owned())
    }
}
