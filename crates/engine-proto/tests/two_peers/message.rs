//! Numbered messages whose content follows from their number, so that a receiver can tell a wrong one.

use posthaste_websocket_proto::{Opcode, append_frame};

use crate::network::Rng;
use crate::story::Traffic;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Down,
    Up,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
}

impl Message {
    /// Message number `number` of a run: text or binary, mostly small.
    pub(crate) fn new(seed: u64, way: Way, number: u64, traffic: &Traffic) -> Self {
        let mut rng = Rng::new(seed ^ number.wrapping_mul(0x9e37_79b9) ^ if way == Way::Up { 1 << 63 } else { 0 });
        let is_large = rng.next().is_multiple_of(traffic.large_one_in);
        let len =
            usize::try_from(if is_large { rng.between(1_000, 6_000) } else { rng.between(0, 200) }).expect("small");
        let text = format!("{number}:{}", if number.is_multiple_of(2) { "x" } else { "é" }.repeat(len));
        if rng.chance(25) { Self::Binary(text.into_bytes()) } else { Self::Text(text) }
    }

    /// Appends it as the WebSocket frame that a server sends.
    pub(crate) fn append(&self, frames: &mut Vec<u8>) {
        match self {
            Self::Text(text) => append_frame(frames, Opcode::Text, format!("4{text}").as_bytes()),
            Self::Binary(data) => append_frame(frames, Opcode::Binary, data),
        }
    }
}

/// The end of one way: checks that messages come in order, each once, none left out, none changed.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    seed: u64,
    way: Way,
    traffic: Traffic,
    received: u64,
}

impl Inbox {
    pub(crate) const fn new(seed: u64, way: Way, traffic: Traffic) -> Self {
        Self { seed, way, traffic, received: 0 }
    }

    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    pub(crate) fn take(&mut self, message: &Message) -> Result<(), String> {
        let expected = Message::new(self.seed, self.way, self.received, &self.traffic);
        if *message != expected {
            let shown = |message: &Message| format!("{message:?}").chars().take(40).collect::<String>();
            return Err(format!("{:?}: expected {}…, got {}…", self.way, shown(&expected), shown(message)));
        }
        self.received += 1;
        Ok(())
    }
}
