//! A client's namespaces.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use posthaste_socket_proto::{
    Connection, ConnectionLimits, DecodeError, DecodeLimits, Decoder, Inbound, Packet, Violation,
};

/// Steps with 0xff between them: a message, or after 0xfe what somebody else does (see [`World::step`]).
pub(crate) const STORIES: &[&[u8]] = &[
    b"0\xff\xfea/\xff2[\"x\",1]\xff3 7[1]\xff1",
    b"0/chat,{\"a\":1}\xff\xfea/chat\xff51-/chat,[\"x\",{\"_placeholder\":true,\"num\":0}]\xff\xfebabc\xff1/chat,",
    b"0/a\xff\xfea/a\xff\xfel/a\xff2/a,[\"late\"]\xff0/a\xff\xfer/a\xff0/a",
    b"0/a\xff0/b\xff0/c\xff0/d\xff\xfea/b\xff\xfea/c\xff\xfel/b\xff0/e\xff\xfed",
    b"0\xff\xfet~~\xff\xfea/\xff51-[\"x\",{\"_placeholder\":true,\"num\":0}]\xff\xfet~~~",
    b"0/long-long-long-long-name,\xff0\xff0",
    b"0\xff\xfea/\xff4{}\xff2",
];

pub(crate) const WORDS: &[&[u8]] = &[
    b"\xff",
    b"0",
    b"0/a",
    b"0/b",
    b"1/a",
    b"2/a,[\"x\"]",
    b"\xff\xfea/a",
    b"\xff\xfer/a",
    b"\xff\xfel/a",
    b"\xff\xfeb",
    b"\xff\xfed",
    b"\xff\xfet~",
    b"51-/a,[\"x\",{\"_placeholder\":true,\"num\":0}]",
    b"3/a,1[]",
];

const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);

/// Laws: every message has the meaning that the story so far gives it; sockets come out that went in, each once.
pub(crate) fn check(data: &[u8]) {
    let start = Instant::now();
    let mut world = World {
        connection: Connection::new(start + CONNECT_TIMEOUT),
        limits: ConnectionLimits {
            decode: DecodeLimits { max_attachments: 3, max_attachment_bytes: 40 },
            max_namespaces: 3,
            max_namespace_bytes: 16,
            attachments_timeout: Duration::from_millis(200),
        },
        decoder: Decoder::default(),
        asked: Vec::new(),
        left: VecDeque::new(),
        now: start,
        connect_deadline: Some(start + CONNECT_TIMEOUT),
        overdue_at: None,
        sockets: 0,
    };
    for step in data.split(|&byte| byte == 0xff) {
        if world.step(step).is_err() {
            break;
        }
        world.agrees();
    }
    world.drained();
}

struct World {
    connection: Connection<u32>,
    limits: ConnectionLimits,
    /// Reads the same packets a second time; what they are worth is decided here.
    decoder: Decoder,
    /// Namespaces asked for, in this order; with a socket once joined.
    asked: Vec<(String, Option<u32>)>,
    /// Namespaces that the server left, the first to be left in front.
    left: VecDeque<String>,
    now: Instant,
    connect_deadline: Option<Instant>,
    overdue_at: Option<Instant>,
    sockets: u32,
}

/// The connection is over.
struct Over;

/// What a message should come to, without its values.
#[derive(Debug, PartialEq)]
enum Meaning {
    Nothing,
    Connect(String),
    Refused(&'static str),
    Event(u32),
    Ack(u32),
    Disconnect(u32),
    Violation(&'static str),
}

impl World {
    fn step(&mut self, step: &[u8]) -> Result<(), Over> {
        let [0xfe, kind, operand @ ..] = step else {
            let text = std::str::from_utf8(step).map_err(|_| Over)?;
            return self.text(text);
        };
        let name = String::from_utf8_lossy(operand).into_owned();
        match kind {
            b'a' => self.accept(&name),
            b'r' => {
                let found = self.asked.iter().position(|(asked, socket)| *asked == name && socket.is_none());
                assert_eq!(self.connection.refuse(&name), found.is_some());
                found.map(|found| self.asked.remove(found));
            }
            b'l' => {
                let found = self.asked.iter().position(|(asked, socket)| *asked == name && socket.is_some());
                let socket = found.and_then(|found| self.asked.remove(found).1);
                assert_eq!(self.connection.leave(&name), socket);
                if socket.is_some() {
                    self.left.push_back(name);
                }
            }
            b't' => {
                self.now += Duration::from_millis(name.len() as u64 * 50);
                let late = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= self.now);
                let violation = self.connection.expired(self.now);
                match violation {
                    Some(Violation::ConnectTimeout) => assert!(late(self.connect_deadline)),
                    Some(Violation::AttachmentsTimeout) => assert!(late(self.overdue_at)),
                    Some(other) => panic!("{other:?} has nothing to do with time"),
                    None => assert!(!late(self.connect_deadline) && !late(self.overdue_at)),
                }
                return if violation.is_some() { Err(Over) } else { Ok(()) };
            }
            b'd' => return Err(Over),
            _ => return self.binary(operand),
        }
        Ok(())
    }

    fn accept(&mut self, name: &str) {
        self.sockets += 1;
        let accepted = self.connection.accept(&Arc::from(name), self.sockets);
        match self.asked.iter_mut().find(|(asked, socket)| asked == name && socket.is_none()) {
            Some((_, socket)) => {
                assert_eq!(accepted, Ok(()));
                *socket = Some(self.sockets);
                self.connect_deadline = None;
            }
            None => assert_eq!(accepted, Err(self.sockets)),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Over> {
        let expected = match self.decoder.text(text, &self.limits.decode) {
            Ok(Some(packet)) => self.meaning(&packet.into_owned()),
            Ok(None) => {
                let namespace = self.decoder.pending_namespace().unwrap_or_default();
                if self.socket(namespace).is_some() || self.left.iter().any(|left| left == namespace) {
                    self.overdue_at = Some(self.now + self.limits.attachments_timeout);
                    Meaning::Nothing
                } else {
                    Meaning::Violation("not joined")
                }
            }
            Err(_) => Meaning::Violation("decode"),
        };
        let inbound = self.connection.receive_text(text, self.now, &self.limits);
        compare(inbound, expected)
    }

    fn binary(&mut self, data: &[u8]) -> Result<(), Over> {
        let data = Bytes::copy_from_slice(data);
        let expected = match self.decoder.binary(data.clone(), &self.limits.decode) {
            Ok(None) => Meaning::Nothing,
            Ok(Some(packet)) => {
                self.overdue_at = None;
                self.meaning(&packet)
            }
            Err(_) => Meaning::Violation("decode"),
        };
        let inbound = self.connection.receive_binary(data, &self.limits);
        compare(inbound, expected)
    }

    fn socket(&self, namespace: &str) -> Option<u32> {
        self.asked.iter().find(|(asked, _)| asked == namespace).and_then(|(_, socket)| *socket)
    }

    fn meaning(&mut self, packet: &Packet<'_>) -> Meaning {
        let name = packet.namespace().to_owned();
        let left = self.left.iter().position(|left| *left == name);
        let member = match (self.socket(&name), left) {
            (Some(socket), _) => Some(Some(socket)),
            (None, Some(_)) => Some(None),
            (None, None) => None,
        };
        match (packet, member) {
            (Packet::Connect { .. }, _) => {
                if self.asked.iter().any(|(asked, _)| *asked == name) {
                    return Meaning::Violation("already connected");
                }
                left.map(|left| self.left.remove(left));
                if name.len() > self.limits.max_namespace_bytes {
                    return Meaning::Refused("Invalid namespace");
                }
                if self.asked.len() + self.left.len() == self.limits.max_namespaces && self.left.pop_front().is_none() {
                    return Meaning::Refused("Too many namespaces");
                }
                self.asked.push((name.clone(), None));
                Meaning::Connect(name)
            }
            (Packet::ConnectError { .. }, _) => Meaning::Violation("connect error"),
            (_, None) => Meaning::Violation("not joined"),
            (Packet::Disconnect { .. }, Some(socket)) => {
                self.asked.retain(|(asked, _)| *asked != name);
                self.left.retain(|left| *left != name);
                socket.map_or(Meaning::Nothing, Meaning::Disconnect)
            }
            (Packet::Event { .. }, Some(Some(socket))) => Meaning::Event(socket),
            (Packet::Ack { .. }, Some(Some(socket))) => Meaning::Ack(socket),
            (_, Some(_)) => Meaning::Nothing,
        }
    }

    fn agrees(&self) {
        let joined: Vec<_> =
            self.asked.iter().filter_map(|(name, socket)| socket.map(|socket| (name.as_str(), socket))).collect();
        let seen: Vec<_> = self.connection.iter().map(|(name, socket)| (name, *socket)).collect();
        assert_eq!(seen, joined, "in the order in which they were asked for");
        assert_eq!(self.connection.is_empty(), joined.is_empty());
        for (name, socket) in joined {
            assert_eq!(self.connection.get(name), Some(&socket));
        }
        assert!(self.asked.len() + self.left.len() <= self.limits.max_namespaces, "memory is bounded");
        assert_eq!(self.connection.deadline(), [self.connect_deadline, self.overdue_at].into_iter().flatten().min());
    }

    /// Law: at the end every joined socket comes out, once, and nothing is awaited any more.
    fn drained(mut self) {
        let joined: Vec<_> = self.asked.iter().filter_map(|(_, socket)| *socket).collect();
        assert_eq!(self.connection.drain().collect::<Vec<_>>(), joined);
        assert_eq!((self.connection.drain().count(), self.connection.deadline()), (0, None));
        let data = self.connection.receive_binary(Bytes::new(), &self.limits);
        assert!(matches!(data, Err(Violation::Decode(DecodeError::UnexpectedBinary))), "{data:?}");
    }
}

fn compare(inbound: Result<Option<Inbound<'_, u32>>, Violation>, expected: Meaning) -> Result<(), Over> {
    let meaning = match inbound {
        Ok(None) => Meaning::Nothing,
        Ok(Some(Inbound::Connect { namespace, .. })) => Meaning::Connect(namespace.into_owned()),
        Ok(Some(Inbound::ConnectRefused { message, .. })) => Meaning::Refused(message),
        Ok(Some(Inbound::Event { socket, .. })) => Meaning::Event(socket),
        Ok(Some(Inbound::Ack { socket, .. })) => Meaning::Ack(socket),
        Ok(Some(Inbound::Disconnect { socket })) => Meaning::Disconnect(socket),
        Err(Violation::Decode(_)) => Meaning::Violation("decode"),
        Err(Violation::AlreadyConnected) => Meaning::Violation("already connected"),
        Err(Violation::NotJoined) => Meaning::Violation("not joined"),
        Err(Violation::ConnectError) => Meaning::Violation("connect error"),
        Err(other) => panic!("{other:?} has to do with time"),
    };
    let over = matches!(expected, Meaning::Violation(_));
    assert_eq!(meaning, expected);
    if over { Err(Over) } else { Ok(()) }
}
