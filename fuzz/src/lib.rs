//! What must hold of every decoder and state machine, whatever comes: each law is a function of arbitrary bytes.
//!
//! ```text
//!   libFuzzer (cargo xtask fuzz)  ─┐
//!   tests/laws.rs (cargo test)    ─┼─► Target::run(bytes) ─► the crates of the ground floor
//!   posthaste-fuzz replay FILE    ─┘        panics when a law is broken
//! ```
//!
//! "It does not panic" is the least of the laws. Most targets hold what they test against a model written down here a second
//! time, plainly and slowly, or against another way of doing the same (in pieces and whole; written and read back).
//!
//! A new decoder gets a function in a module of its own and a line in [`TARGETS`]; everything else follows from that line.

mod acks;
mod args;
mod base64;
mod connection;
mod deflate;
mod history;
mod input;
mod json;
mod msgpack;
mod mutate;
mod outbox;
mod packets;
mod payload;
mod payload_v3;
mod query;
mod session;
mod tree;
mod upgrade;
mod websocket;

pub use mutate::Mutator;

/// Something to be fed with arbitrary bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is tested.
    pub about: &'static str,
    /// Checks the laws on one input.
    ///
    /// # Panics
    /// When a law is broken.
    pub run: fn(&[u8]),
    /// Inputs to start from, in the target's own form.
    pub seeds: &'static [&'static [u8]],
    /// Pieces that inputs are made of: a fuzzer's dictionary.
    pub words: &'static [&'static [u8]],
}

/// All of them, from the ground up.
pub const TARGETS: &[Target] = &[
    Target {
        name: "websocket-decoder",
        about: "frames of a client, whole and in pieces, against a model of RFC 6455",
        run: websocket::decoder,
        seeds: websocket::STREAMS,
        words: websocket::HEADERS,
    },
    Target {
        name: "websocket-frames",
        about: "frames written and read back, masked, fragmented, cut anywhere",
        run: websocket::round_trip,
        seeds: &[b"\x00\x05hello\x01\x02\x03", b"\x09\xff\x10\x80abc\xe2\x82\xac"],
        words: &[],
    },
    Target {
        name: "websocket-upgrade",
        about: "headers of the opening handshake, against a model",
        run: upgrade::check,
        seeds: upgrade::REQUESTS,
        words: &[b"websocket", b"upgrade", b"13", b"dGhlIHNhbXBsZSBub25jZQ==", b",", b"\xff", b"\xfe"],
    },
    Target {
        name: "websocket-deflate",
        about: "compressed messages, whole and in pieces; compressed by ourselves and read back",
        run: deflate::messages,
        seeds: deflate::MESSAGES,
        words: deflate::BLOCKS,
    },
    Target {
        name: "websocket-offers",
        about: "offers of permessage-deflate, against a model",
        run: deflate::offers,
        seeds: deflate::OFFERS,
        words: deflate::WORDS,
    },
    Target {
        name: "engine-payload",
        about: "packets and polling bodies, against a model; rewritten and read back",
        run: payload::check,
        seeds: payload::BODIES,
        words: &[b"\x1e", b"\x1eb", b"4", b"b", b"==", b"=", b"2probe", b"bAQID"],
    },
    Target {
        name: "engine-payload-v3",
        about: "polling bodies of revision 3, scripts and forms, against a model; written and read back",
        run: payload_v3::check,
        seeds: payload_v3::BODIES,
        words: &[
            b":",
            b"1:2",
            b"b4",
            b"\xff",
            b"\x01\x01\xff\x04",
            b"\xf0\x9f\x98\x80",
            b"d=",
            b"%5Cn",
            b"\\n",
            b"AQID",
        ],
    },
    Target {
        name: "engine-query",
        about: "query strings and ids, against a model",
        run: query::check,
        seeds: query::QUERIES,
        words: &[
            b"EIO=4",
            b"&",
            b"transport=polling",
            b"transport=websocket",
            b"sid=",
            b"b64=1",
            b"j=",
            b"%34",
            b"%ff",
            b"+",
        ],
    },
    Target {
        name: "engine-session",
        about: "a session's state machine under any history, with a clock",
        run: session::check,
        seeds: session::HISTORIES,
        words: &[],
    },
    Target {
        name: "engine-outbox",
        about: "what waits for a transport, against a plain list",
        run: outbox::check,
        seeds: &[b"\x05\x05\x00\x01abc\x04\x01\x20\x02\x04", b"\xff\xff\x00\xff\x00\xff\x03\x00\xf0\x00\x05"],
        words: &[],
    },
    Target {
        name: "socket-packet",
        about: "packets with their attachments, against a model; rewritten and read back",
        run: packets::check,
        seeds: packets::MESSAGES,
        words: packets::WORDS,
    },
    Target {
        name: "socket-json",
        about: "arguments as JSON text: accepted, cut, read into types as serde_json does",
        run: json::check,
        seeds: json::ARRAYS,
        words: packets::WORDS,
    },
    Target {
        name: "socket-args",
        about: "values with binary anywhere, written and read back",
        run: args::check,
        seeds: &[b"\x01\x05\x03abc\x06\x02\x01\x02\x07\x02", b"\x02\x06\x01\x01\x08\x03\x01\x06\x00\x02\x04"],
        words: &[],
    },
    Target {
        name: "socket-msgpack",
        about: "packets in MessagePack, against a model; rewritten and read back; JSON there and back",
        run: msgpack::check,
        seeds: msgpack::MESSAGES,
        words: msgpack::WORDS,
    },
    Target {
        name: "socket-connection",
        about: "a client's namespaces: any messages and any decisions of the application, against a model",
        run: connection::check,
        seeds: connection::STORIES,
        words: connection::WORDS,
    },
    Target {
        name: "socket-acks",
        about: "awaited answers, against a plain list",
        run: acks::check,
        seeds: &[b"\x00\x01\x02\x09\x00\x01\x02\x09\x01\x01\x02\x03\x30\x02", b"\x00\x00\x00\x05\x02\x00\x03\xff\x09"],
        words: &[],
    },
    Target {
        name: "history-texts",
        about: "what a client that comes back shows: its secret and where it was",
        run: history::texts,
        seeds: history::TEXTS,
        words: &[b"~", b"A", b"_", b"-", b"=", b"\xff"],
    },
    Target {
        name: "history-sessions",
        about: "who may come back: parked, claimed, expired in any order, against a plain list",
        run: history::sessions,
        seeds: &[
            b"\x05\x05\x00\x01\x00\x00\x02\x01\x05\x09\x05\x01\x00\x00\x04\x01\x05\x09\x07\x01\x00\x00\x13",
            b"\x05\x05\x00\x01\x00\x00\x05\x01\x00\x00\x02\x01\x05\x09\x06\x01\x00\x00\x00\x01\x00\x00",
            b"\x01\x05\x00\x01\x00\x00\x00\x02\x00\x00\x02\x01\x05\x09\x02\x02\x05\x09\x03\x02\x00\x00",
        ],
        words: &[],
    },
    Target {
        name: "history-store",
        about: "a store of streams, sessions and cursors after any history, against a model that is lists",
        run: history::store,
        seeds: &[
            b"\x00\x03\x00\x00\x05\x01\x01\x09\x03\x0f\x02\x01\x00\x00\x03\x09\x00\x01\x02\x07\x00\x02\x10\x02\x00\x09\x01\x09\x02\x09",
            b"\x08\x00\x03\x40\x10\x00\x00\x02\x01\x00\x05\x01\x00\x07\x03\x0c\x01\x40\x0e\x20\x0f\x11\x01\x03\x02\x13\x00",
        ],
        words: &[],
    },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
