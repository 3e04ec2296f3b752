//! A Socket.IO client, protocol 5, over either transport.

use std::io;
use std::net::SocketAddr;

use crate::engine::{Engine, Packet, Transport};
use crate::wire::Wire;

/// What a server says in Socket.IO: a packet's text, or an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A packet, as `2["chat","hi"]`.
    Text(String),
    /// An attachment of the packet before it.
    Binary(Vec<u8>),
}

/// A connection to a Socket.IO server. Packets are written and compared as they are on the wire.
#[derive(Debug)]
pub struct Client(Engine);

impl Client {
    /// Connects to `/socket.io/` at `addr`, and joins nothing.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(addr: SocketAddr, transport: Transport) -> Self {
        Self(Engine::open(addr, "/socket.io/", transport).await)
    }

    /// Connects over `transport` and joins the main namespace.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn join(addr: SocketAddr, transport: Transport) -> Self {
        let mut client = Self::open(addr, transport).await;
        client.connect("/").await;
        client
    }

    /// Connects over a WebSocket and joins the main namespace: the usual client of a test that is not about transports.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn websocket(addr: SocketAddr) -> Self {
        Self::join(addr, Transport::WebSocket).await
    }

    /// As [`Client::websocket`], with a receive buffer that is soon full; see [`Wire::connect_narrow`].
    ///
    /// # Panics
    /// When it is refused.
    pub async fn narrow(addr: SocketAddr) -> Self {
        let mut client = Self(Engine::open_on(Wire::connect_narrow(addr).await, addr, "/socket.io/").await);
        client.connect("/").await;
        client
    }

    /// Speaks Socket.IO on a session opened otherwise.
    #[must_use]
    pub const fn new(engine: Engine) -> Self {
        Self(engine)
    }

    /// The session below.
    pub const fn engine(&mut self) -> &mut Engine {
        &mut self.0
    }

    /// Joins a namespace. Returns the socket's id.
    ///
    /// # Panics
    /// When the answer is another one.
    pub async fn connect(&mut self, namespace: &str) -> String {
        self.send(&packet('0', namespace, "")).await;
        self.connected(namespace).await
    }

    /// Joins a namespace with an auth object (JSON). Returns the socket's id.
    ///
    /// # Panics
    /// When the answer is another one.
    pub async fn connect_with(&mut self, namespace: &str, auth: &str) -> String {
        self.send(&packet('0', namespace, auth)).await;
        self.connected(namespace).await
    }

    /// Reads the answer to a wish to join `namespace`. Returns the socket's id.
    ///
    /// # Panics
    /// When it is a refusal, or something else.
    pub async fn connected(&mut self, namespace: &str) -> String {
        let answer = self.text().await;
        let id = answer.strip_prefix(&packet('0', namespace, r#"{"sid":""#)).and_then(|rest| rest.split_once('"'));
        // What follows is the secret of its session, where clients are recovered.
        id.map(|(id, _)| id).unwrap_or_else(|| panic!("{namespace} was to be joined, not {answer:?}")).to_owned()
    }

    /// Sends an event of the main namespace: `["name",…]`.
    ///
    /// # Panics
    /// When the server is gone.
    pub async fn emit(&mut self, event: &str) {
        self.send(&format!("2{event}")).await;
    }

    /// Sends the text of a packet.
    ///
    /// # Panics
    /// When the server is gone.
    pub async fn send(&mut self, text: &str) {
        self.try_send(text).await.unwrap_or_else(|error| panic!("sending {text:?}: {error}"));
    }

    /// As [`Client::send`], to a server that may be gone.
    ///
    /// # Errors
    /// When it is.
    pub async fn try_send(&mut self, text: &str) -> io::Result<()> {
        self.0.send(text).await
    }

    /// Sends the texts of several packets: over polling in one POST.
    ///
    /// # Panics
    /// When the server is gone.
    pub async fn send_all(&mut self, texts: &[&str]) {
        let packets: Vec<Packet> = texts.iter().map(|text| Packet::message(text)).collect();
        self.0.send_all(&packets).await.unwrap_or_else(|error| panic!("sending {texts:?}: {error}"));
    }

    /// Sends an attachment.
    ///
    /// # Panics
    /// When the server is gone.
    pub async fn send_binary(&mut self, data: &[u8]) {
        self.0.send_binary(data).await.unwrap_or_else(|error| panic!("sending an attachment: {error}"));
    }

    /// The next message.
    ///
    /// # Errors
    /// When the session is over, or nothing comes.
    pub async fn message(&mut self) -> io::Result<Message> {
        Ok(match self.0.message().await? {
            Packet::Text(text) => Message::Text(text),
            Packet::Binary(data) => Message::Binary(data),
        })
    }

    /// The next message, which must be a packet.
    ///
    /// # Panics
    /// When it is none.
    pub async fn text(&mut self) -> String {
        match self.message().await {
            Ok(Message::Text(text)) => text,
            other => panic!("a packet was to come, not {other:?}"),
        }
    }

    /// Expects exactly this packet next.
    ///
    /// # Panics
    /// When another one comes, or none.
    pub async fn expect(&mut self, packet: &str) {
        match self.message().await {
            Ok(Message::Text(text)) if text == packet => {}
            other => panic!("{} was to come, not {}", shortened(&packet), shortened(&other)),
        }
    }

    /// Expects exactly this attachment next.
    ///
    /// # Panics
    /// When something else comes, or nothing.
    pub async fn expect_binary(&mut self, data: &[u8]) {
        let message = self.message().await;
        assert!(matches!(&message, Ok(Message::Binary(found)) if found == data), "{data:?}, not {message:?}");
    }

    /// Asks the event `event` (`["name",…]`) under an id that nothing else uses, and expects the answer next: everything the
    /// server had said before would have come first. `answer` is an array.
    ///
    /// # Panics
    /// When something else comes, or nothing.
    pub async fn ask(&mut self, event: &str, answer: &str) {
        self.send(&format!("2999{event}")).await;
        self.expect(&format!("3999{answer}")).await;
    }

    /// Ends the connection in good order.
    ///
    /// # Panics
    /// When the server is gone.
    pub async fn leave(self) {
        self.0.leave().await.expect("the connection is there until it is closed");
    }

    /// Ends the connection with a reset; see [`Wire::reset`].
    pub fn reset(self) {
        self.0.reset();
    }

    /// Reads to the end of the connection. Returns the code of a WebSocket's close frame, if it had one.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn closed(&mut self) -> Option<u16> {
        self.0.closed().await.expect("the server closes the connection")
    }
}

/// What a message says, as far as anyone wants to read it.
fn shortened(value: &impl std::fmt::Debug) -> String {
    const ENOUGH: usize = 300;
    let mut text = format!("{value:?}");
    if let Some((end, _)) = text.char_indices().nth(ENOUGH) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The text of a packet for a namespace: the main one is not named.
fn packet(kind: char, namespace: &str, data: &str) -> String {
    if namespace == "/" { format!("{kind}{data}") } else { format!("{kind}{namespace},{data}") }
}
