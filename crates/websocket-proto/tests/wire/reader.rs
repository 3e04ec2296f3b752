//! A connection's reading half: keeps the unfinished tail and collects what the decoder says.

use posthaste_websocket_proto::{Decoded, Decoder, Event, Limits, ProtocolError};

/// An [`Event`] that owns its bytes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Received {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
    Fragment,
}

impl From<Event<'_>> for Received {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Text(text) => Self::Text(text.into_owned()),
            Event::Binary(bytes) => Self::Binary(bytes.into_owned()),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(close) => Self::Close(close.map(|close| (close.code.get(), close.reason.to_owned()))),
            Event::Fragment => Self::Fragment,
        }
    }
}

#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) decoder: Decoder,
    pub(crate) limits: Limits,
    pub(crate) events: Vec<Received>,
    pub(crate) error: Option<ProtocolError>,
    /// Received and not consumed.
    pub(crate) tail: Vec<u8>,
}

impl Reader {
    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// A reader that has read `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut reader = Self::default();
        reader.read(bytes);
        reader
    }

    /// Takes `bytes` from the network and decodes what is whole.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
        let mut start = 0;
        loop {
            match self.decoder.decode(&mut self.tail[start..], &self.limits) {
                Ok(Decoded::Frame { consumed, event }) => {
                    self.events.push(event.into());
                    start += consumed;
                }
                Ok(Decoded::Incomplete { missing }) => {
                    assert!(missing > 0, "a complete frame was not read");
                    break;
                }
                Ok(Decoded::Finished) => break,
                Err(error) => {
                    assert_eq!(self.error, None, "an error was reported twice");
                    self.error = Some(error);
                }
            }
        }
        self.tail.drain(..start);
    }

    /// The events without the fragments that had nothing to deliver.
    pub(crate) fn delivered(&self) -> Vec<Received> {
        self.events.iter().filter(|event| **event != Received::Fragment).cloned().collect()
    }
}
