//! One Socket.IO client as a state machine: bytes in, bytes and news out, without sockets or clocks.
//!
//! ```text
//!   bytes of a lane ─► websocket │ polling ─► packets ─► dialogue ─► News (ready, an event or an answer)
//!   Outgoing (bytes for each lane) ◄───────────────────────┘  heartbeats, the join, polls
//! ```
//!
//! A WebSocket has one lane. Long-polling has two, as browsers have: one for GET, one for POST.

mod dialogue;
mod http;
mod polling;
mod websocket;

use std::borrow::Cow;

use crate::failure::Failure;
pub(crate) use dialogue::{Dialect, Session};
use dialogue::{Dialogue, Heard};
use polling::Polling;
use websocket::WebSocket;

/// Which TCP connection of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The WebSocket, or the GETs.
    Main = 0,
    /// The POSTs.
    Post = 1,
}

/// What to write, lane by lane.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) main: Vec<u8>,
    pub(crate) post: Vec<u8>,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.main.is_empty() && self.post.is_empty()
    }
}

/// Something the bytes meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News<'a> {
    /// Nothing for the scenario.
    None,
    /// The namespace is joined; with what the server says to that.
    Ready(Cow<'a, str>),
    /// The text of an event or an answer, from the Socket.IO type digit on.
    Packet(Cow<'a, str>),
    /// A ping was answered.
    Ping,
}

/// What [`Client::next`] took of its input, and what that meant.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    pub(crate) consumed: usize,
    pub(crate) news: News<'a>,
}

/// Which transport clients use, all along: none upgrades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One WebSocket.
    WebSocket,
    /// HTTP long-polling on two kept-alive connections.
    Polling,
}

impl Transport {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Polling => "polling",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Client {
    dialogue: Dialogue,
    link: Link,
}

#[derive(Debug)]
enum Link {
    WebSocket(WebSocket),
    Polling(Box<Polling>),
}

impl Client {
    /// A client whose first request is put into `out`, and which joins with `join` if it has that, else as everybody.
    pub(crate) fn start(transport: Transport, dialect: &Dialect, join: Option<Box<[u8]>>, out: &mut Outgoing) -> Self {
        let link = match transport {
            Transport::WebSocket => Link::WebSocket(WebSocket::start(dialect, out)),
            Transport::Polling => Link::Polling(Box::new(Polling::start(dialect, out))),
        };
        Self { dialogue: Dialogue::joining(join), link }
    }

    /// Reads the next thing from `input`, what came on `lane` and was not consumed before; `None` until more comes.
    ///
    /// # Errors
    /// [`Failure`]; the client is of no use afterwards.
    pub(crate) fn next<'a>(
        &mut self,
        lane: Lane,
        input: &'a [u8],
        dialect: &Dialect,
        mask: [u8; 4],
        out: &mut Outgoing,
    ) -> Result<Option<Step<'a>>, Failure> {
        match &mut self.link {
            Link::WebSocket(link) => {
                let Some(read) = link.next(input, dialect, mask, out)? else { return Ok(None) };
                let news = match read.text {
                    None => News::None,
                    Some(text) => {
                        let heard = self.dialogue.hear(text, dialect)?;
                        heard.answer(dialect, |packet| link.send(packet, mask, out));
                        heard.news()
                    }
                };
                Ok(Some(Step { consumed: read.consumed, news }))
            }
            Link::Polling(link) => match lane {
                Lane::Post => Ok(link.posted(input, dialect, out)?.map(|consumed| Step { consumed, news: News::None })),
                Lane::Main => {
                    let Some((consumed, packet)) = link.polled(input, dialect, out)? else { return Ok(None) };
                    let Some(packet) = packet else { return Ok(Some(Step { consumed, news: News::None })) };
                    let heard = self.dialogue.hear(Cow::Owned(packet), dialect)?;
                    if let Heard::Open { sid, .. } = &heard {
                        link.opened(sid);
                    }
                    heard.answer(dialect, |packet| link.send(packet, dialect, out));
                    Ok(Some(Step { consumed, news: heard.news() }))
                }
            },
        }
    }

    /// Sends one text packet of Engine.IO.
    pub(crate) fn send(&mut self, packet: &[u8], dialect: &Dialect, mask: [u8; 4], out: &mut Outgoing) {
        match &mut self.link {
            Link::WebSocket(link) => link.send(packet, mask, out),
            Link::Polling(link) => link.send(packet, dialect, out),
        }
    }

    /// Whether the end of `lane` is an end of the client: a server may close a kept-alive connection between requests.
    pub(crate) fn needs(&self, lane: Lane) -> bool {
        match &self.link {
            Link::WebSocket(_) => true,
            Link::Polling(link) => link.awaits(lane),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_websocket_proto::{Decoded, Decoder, Event, Limits, Opcode, append_frame};

    const OPEN: &str = r#"0{"sid":"s1","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

    fn dialect(namespace: &str) -> Dialect {
        Dialect::new("host:1", "/socket.io/", namespace, None, &[], [7; 16]).unwrap()
    }

    /// All that `client` makes of `bytes`, offered in pieces of `piece`: news as text.
    fn feed(
        client: &mut Client,
        lane: Lane,
        bytes: &[u8],
        piece: usize,
        dialect: &Dialect,
        out: &mut Outgoing,
    ) -> Vec<String> {
        let mut news = Vec::new();
        let mut at = 0;
        let mut end = 0;
        while end < bytes.len() {
            end = (end + piece).min(bytes.len());
            loop {
                match client.next(lane, &bytes[at..end], dialect, [1, 2, 3, 4], out) {
                    Ok(None) => break,
                    Ok(Some(step)) => {
                        at += step.consumed;
                        match step.news {
                            News::None => {}
                            News::Packet(text) => news.push(text.into_owned()),
                            other => news.push(format!("{other:?}")),
                        }
                    }
                    Err(failure) => {
                        news.push(failure.to_string());
                        return news;
                    }
                }
            }
        }
        news
    }

    /// The texts of masked frames behind the HTTP request.
    fn sent(mut out: Vec<u8>) -> Vec<String> {
        let mut texts = Vec::new();
        let mut at = 0;
        let mut decoder = Decoder::new();
        while let Ok(Decoded::Frame { consumed, event }) = decoder.decode(&mut out[at..], &Limits::default()) {
            at += consumed;
            texts.push(match event {
                Event::Text(text) => text.into_owned(),
                other => format!("{other:?}"),
            });
        }
        texts
    }

    #[test]
    fn a_websocket_is_upgraded_joined_and_kept_alive_however_its_bytes_come() {
        let dialect = dialect("/");
        let mut stream =
            format!("HTTP/1.1 101 Switching\r\nsec-websocket-accept: {}\r\n\r\n", dialect.accept()).into_bytes();
        for text in [OPEN, r#"40{"sid":"s2"}"#, "2", r#"42["hello",1]"#, r#"431["x"]"#, "6"] {
            append_frame(&mut stream, Opcode::Text, text.as_bytes());
        }
        append_frame(&mut stream, Opcode::Ping, b"pp");
        for piece in [1, 2, 3, 7, 50, 10_000] {
            let mut out = Outgoing::default();
            let mut client = Client::start(Transport::WebSocket, &dialect, None, &mut out);
            let request = String::from_utf8(std::mem::take(&mut out.main)).unwrap();
            assert!(
                request.starts_with("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: host:1\r\n"),
                "{request}"
            );
            let news = feed(&mut client, Lane::Main, &stream, piece, &dialect, &mut out);
            assert_eq!(news, [r#"Ready("{\"sid\":\"s2\"}")"#, "Ping", r#"2["hello",1]"#, r#"31["x"]"#], "{piece}");
            assert_eq!(sent(out.main), ["40", "3", "Pong([112, 112])"], "{piece}");
        }
    }

    #[test]
    fn who_was_there_before_shows_it_beside_what_everybody_says() {
        let auth = serde_json::value::RawValue::from_string(r#"{"token":1}"#.into()).unwrap();
        let dialect = Dialect::new("host:1", "/socket.io/", "/chat", Some(&auth), &[], [7; 16]).unwrap();
        let mut stream =
            format!("HTTP/1.1 101 Switching\r\nsec-websocket-accept: {}\r\n\r\n", dialect.accept()).into_bytes();
        append_frame(&mut stream, Opcode::Text, OPEN.as_bytes());
        // What was missed comes before the answer.
        append_frame(&mut stream, Opcode::Text, br#"42/chat,["missed","~o8"]"#);
        append_frame(&mut stream, Opcode::Text, br#"40/chat,{"sid":"s2","pid":"p"}"#);
        let session = Session { pid: "p".into(), offset: "~o7".into() };
        let mut out = Outgoing::default();
        let mut client = Client::start(Transport::WebSocket, &dialect, Some(dialect.rejoin(&session)), &mut out);
        out.main.clear();
        let news = feed(&mut client, Lane::Main, &stream, 9, &dialect, &mut out);
        assert_eq!(news, [r#"2/chat,["missed","~o8"]"#, r#"Ready("{\"sid\":\"s2\",\"pid\":\"p\"}")"#]);
        let [join] = &sent(out.main)[..] else { panic!("one packet") };
        let auth: serde_json::Value = serde_json::from_str(join.strip_prefix("40/chat,").unwrap()).unwrap();
        assert_eq!(auth, serde_json::json!({ "token": 1, "pid": "p", "offset": "~o7" }));
    }

    #[test]
    fn what_is_no_socket_io_server_is_named() {
        let dialect = dialect("/chat");
        let upgraded = format!("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: {}\r\n\r\n", dialect.accept());
        let frame = |text: &str| {
            let mut bytes = upgraded.clone().into_bytes();
            append_frame(&mut bytes, Opcode::Text, OPEN.as_bytes());
            append_frame(&mut bytes, Opcode::Text, text.as_bytes());
            bytes
        };
        for (bytes, expected) in [
            (
                b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope".to_vec(),
                "HTTP 404 instead of a Socket.IO handshake: nope",
            ),
            (b"220 mail ready\r\n".to_vec(), "not what a Socket.IO server answers: no HTTP"),
            (
                b"HTTP/1.1 101 X\r\nsec-websocket-accept: no\r\n\r\n".to_vec(),
                "not what a Socket.IO server answers: the WebSocket key was not answered rightly",
            ),
            (frame("44/chat,{\"message\":\"no entry\"}"), "the server refuses the namespace: no entry"),
            (frame("41/chat,"), "the server disconnected"),
            (frame("1"), "the server disconnected"),
            (frame("x"), "not what a Socket.IO server answers: a packet that begins with \"x\""),
        ] {
            let mut out = Outgoing::default();
            let mut client = Client::start(Transport::WebSocket, &dialect, None, &mut out);
            let news = feed(&mut client, Lane::Main, &bytes, 10_000, &dialect, &mut out);
            assert_eq!(news, [expected]);
        }
    }

    #[test]
    fn polls_follow_each_other_and_posts_wait_for_their_turn() {
        let dialect = dialect("/chat");
        let answer =
            |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        let mut out = Outgoing::default();
        let mut client = Client::start(Transport::Polling, &dialect, None, &mut out);
        let take = |bytes: &mut Vec<u8>| String::from_utf8(std::mem::take(bytes)).unwrap();
        assert!(take(&mut out.main).starts_with("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n"));
        assert!(client.needs(Lane::Main) && !client.needs(Lane::Post));

        let step =
            |client: &mut Client, lane, bytes: &[u8], out: &mut Outgoing| feed(client, lane, bytes, 5, &dialect, out);
        assert_eq!(step(&mut client, Lane::Main, &answer(OPEN), &mut out), [""; 0]);
        let post = take(&mut out.post);
        assert!(post.starts_with("POST /socket.io/?EIO=4&transport=polling&sid=s1 HTTP/1.1\r\n"), "{post}");
        assert!(post.ends_with("\r\n\r\n40/chat,"), "{post}");
        assert!(take(&mut out.main).starts_with("GET /socket.io/?EIO=4&transport=polling&sid=s1 HTTP/1.1\r\n"));

        // Two packets while a POST is open go together, when it has been answered.
        let news = step(&mut client, Lane::Main, &answer("40/chat,{\"sid\":\"x\"}\u{1e}2"), &mut out);
        assert_eq!(news, [r#"Ready("{\"sid\":\"x\"}")"#, "Ping"]);
        client.send(b"42/chat,[1]", &dialect, [0; 4], &mut out);
        assert_eq!(take(&mut out.post), "");
        assert_eq!(step(&mut client, Lane::Post, &answer("ok"), &mut out), [""; 0]);
        assert!(take(&mut out.post).ends_with("\r\n\r\n3\u{1e}42/chat,[1]"));
        assert!(client.needs(Lane::Post));

        take(&mut out.main);
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n42/\r\n9\r\nchat,[7]2\r\n0\r\n\r\n";
        assert_eq!(step(&mut client, Lane::Main, chunked, &mut out), ["2/chat,[7]2"]);
        let refused = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(step(&mut client, Lane::Main, refused, &mut out), ["HTTP 400 instead of a Socket.IO handshake: {}"]);
    }
}
