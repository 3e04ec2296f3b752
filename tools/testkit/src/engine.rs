//! An Engine.IO client, revision 4, over polling or a WebSocket.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::base64::{decode_base64, encode_base64};
use crate::http::{Http, Request, Response};
use crate::websocket::{Frame, WebSocket, upgrade_request};
use crate::wire::Wire;

/// A way to carry packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// GETs that wait and POSTs that bring, on a connection each.
    Polling,
    /// A frame per packet.
    WebSocket,
}

impl Transport {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Polling, Self::WebSocket];

    /// Its name in a query.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// The digit of its type, then its text.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

impl Packet {
    /// A text message.
    #[must_use]
    pub fn message(text: &str) -> Self {
        Self::Text(format!("4{text}"))
    }

    fn append_to(&self, payload: &mut String) {
        match self {
            Self::Text(text) => payload.push_str(text),
            Self::Binary(data) => {
                payload.push('b');
                payload.push_str(&encode_base64(data));
            }
        }
    }
}

/// The packets of a polling body.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn split_payload(body: &str) -> Vec<Packet> {
    let packet = |text: &str| match text.strip_prefix('b') {
        Some(data) => Packet::Binary(decode_base64(data).expect("a binary packet holds base64")),
        None => Packet::Text(text.to_owned()),
    };
    body.split('\x1e').map(packet).collect()
}

/// One session, as its client: it polls when it wants to read, and answers pings while it reads messages.
#[derive(Debug)]
pub struct Engine {
    addr: SocketAddr,
    path: String,
    /// The text of the open packet, without its digit.
    handshake: String,
    sid: String,
    link: Link,
    /// Received, not yet read.
    received: VecDeque<Packet>,
}

#[derive(Debug)]
enum Link {
    Polling(Polling),
    WebSocket(WebSocket),
}

#[derive(Debug)]
struct Polling {
    gets: Idle,
    posts: Idle,
    /// Whether a GET waits for its answer.
    is_parked: bool,
}

/// A connection that may lie idle between two requests.
#[derive(Debug)]
struct Idle {
    http: Http,
    /// When the last request began. The server counts from its answer, of which a client that is held up hears late.
    used: Instant,
}

/// Longest pause between two requests on one connection. A server closes those on which none begins, and a client that is
/// held up by a busy machine would find out only when its request is lost.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Idle {
    fn new(http: Http) -> Self {
        Self { http, used: Instant::now() }
    }

    /// The connection for the next request; another one after a long pause.
    async fn next(&mut self, addr: SocketAddr) -> &mut Http {
        if self.used.elapsed() > LONGEST_PAUSE {
            self.http = Http::connect(addr).await;
        }
        self.used = Instant::now();
        &mut self.http
    }
}

impl Engine {
    /// Opens a session at `path` (`/socket.io/`).
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(addr: SocketAddr, path: &str, transport: Transport) -> Self {
        Self::open_with(addr, path, transport, "", &[]).await
    }

    /// As [`Engine::open`], with more in the query (`&a=b`) and more header lines.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open_with(
        addr: SocketAddr,
        path: &str,
        transport: Transport,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let target = format!("{path}?EIO=4&transport={}{query}", transport.name());
        let with_headers =
            |request: Request| headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        match transport {
            Transport::Polling => {
                let mut gets = Http::connect(addr).await;
                let opened = gets.send(&with_headers(Request::get(&target))).await.expect("a handshake is answered");
                assert_eq!(opened.status, 200, "{opened:?}");
                let link = Link::Polling(Polling {
                    gets: Idle::new(gets),
                    posts: Idle::new(Http::connect(addr).await),
                    is_parked: false,
                });
                Self::opened(addr, path, opened.text(), link)
            }
            Transport::WebSocket => {
                let mut socket =
                    WebSocket::on(Wire::connect(addr).await, &with_headers(upgrade_request(&target))).await;
                let opened = socket.text().await;
                Self::opened(addr, path, &opened, Link::WebSocket(socket))
            }
        }
    }

    /// Opens a session on `wire` over a WebSocket.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open_on(wire: Wire, addr: SocketAddr, path: &str) -> Self {
        let target = format!("{path}?EIO=4&transport=websocket");
        let mut socket = WebSocket::on(wire, &upgrade_request(&target)).await;
        let opened = socket.text().await;
        Self::opened(addr, path, &opened, Link::WebSocket(socket))
    }

    fn opened(addr: SocketAddr, path: &str, packet: &str, link: Link) -> Self {
        let handshake = packet.strip_prefix('0').unwrap_or_else(|| panic!("an open packet, not {packet:?}"));
        let sid = handshake.split_once(r#""sid":""#).and_then(|(_, rest)| rest.split_once('"'));
        let (sid, _) = sid.unwrap_or_else(|| panic!("a session id in {handshake:?}"));
        let sid = sid.to_owned();
        Self { addr, path: path.to_owned(), handshake: handshake.to_owned(), sid, link, received: VecDeque::new() }
    }

    /// The JSON of the open packet.
    #[must_use]
    pub fn handshake(&self) -> &str {
        &self.handshake
    }

    /// The secret id of the session.
    #[must_use]
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// Path and query of the session's polling requests.
    #[must_use]
    pub fn polling_target(&self) -> String {
        format!("{}?EIO=4&transport=polling&sid={}", self.path, self.sid)
    }

    /// Path and query of a WebSocket that wants to take the session over.
    #[must_use]
    pub fn probe_target(&self) -> String {
        format!("{}?EIO=4&transport=websocket&sid={}", self.path, self.sid)
    }

    /// The WebSocket the session is on.
    ///
    /// # Panics
    /// When it is polling.
    pub fn websocket(&mut self) -> &mut WebSocket {
        match &mut self.link {
            Link::WebSocket(socket) => socket,
            Link::Polling(_) => panic!("the session is polling"),
        }
    }

    /// Sends packets: over polling in one POST.
    ///
    /// # Errors
    /// When the session, or the server, is gone.
    pub async fn send_all(&mut self, packets: &[Packet]) -> io::Result<()> {
        if let Link::WebSocket(socket) = &mut self.link {
            for packet in packets {
                socket.send(&frame(packet)).await?;
            }
            return Ok(());
        }
        let answer = self.post(packets).await?;
        if answer.status == 200 { Ok(()) } else { Err(io::Error::other(format!("{answer:?}"))) }
    }

    /// Posts packets, whatever the answer.
    ///
    /// # Errors
    /// When the connection ends before the answer does.
    ///
    /// # Panics
    /// When the session is on a WebSocket.
    pub async fn post(&mut self, packets: &[Packet]) -> io::Result<Response> {
        let mut payload = String::new();
        for packet in packets {
            if !payload.is_empty() {
                payload.push('\x1e');
            }
            packet.append_to(&mut payload);
        }
        let request = Request::post(&self.polling_target(), payload);
        match &mut self.link {
            Link::Polling(polling) => polling.posts.next(self.addr).await.send(&request).await,
            Link::WebSocket(_) => panic!("the session is on a WebSocket"),
        }
    }

    /// Sends a text message.
    ///
    /// # Errors
    /// As [`Engine::send_all`].
    pub async fn send(&mut self, text: &str) -> io::Result<()> {
        self.send_all(&[Packet::message(text)]).await
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// As [`Engine::send_all`].
    pub async fn send_binary(&mut self, data: &[u8]) -> io::Result<()> {
        self.send_all(&[Packet::Binary(data.to_vec())]).await
    }

    /// Sends a GET if the session is polling and none waits; the answer is read by whoever wants a packet.
    ///
    /// # Errors
    /// When the server is gone.
    pub async fn begin_poll(&mut self) -> io::Result<()> {
        let request = Request::get(&self.polling_target());
        if let Link::Polling(polling) = &mut self.link
            && !std::mem::replace(&mut polling.is_parked, true)
        {
            polling.gets.next(self.addr).await.wire().write(&request.encode()).await?;
        }
        Ok(())
    }

    /// As [`Engine::begin_poll`], and returns when the GET waits at the server of one worker: pongs that nobody asked for are posted
    /// behind it and answered. One is no proof: a server that is about to read of its connection anyway finds it there before it is told
    /// of the GET. That it comes so to each of several, a round trip apart, is not to be expected.
    ///
    /// # Errors
    /// As [`Engine::send_all`].
    pub async fn park(&mut self) -> io::Result<()> {
        self.begin_poll().await?;
        match self.link {
            Link::Polling(_) => {
                for _ in 0..3 {
                    self.send_all(&[Packet::Text("3".to_owned())]).await?;
                }
                Ok(())
            }
            Link::WebSocket(_) => Ok(()),
        }
    }

    /// The next packet, whatever it is.
    ///
    /// # Errors
    /// When the session, or the server, is gone; when nothing comes.
    pub async fn packet(&mut self) -> io::Result<Packet> {
        loop {
            if let Some(packet) = self.received.pop_front() {
                return Ok(packet);
            }
            self.begin_poll().await?;
            self.receive().await?;
        }
    }

    /// Reads the answer to the waiting GET, or a frame.
    async fn receive(&mut self) -> io::Result<()> {
        match &mut self.link {
            Link::Polling(polling) => {
                let answer = polling.gets.http.response().await?;
                polling.is_parked = false;
                if answer.status != 200 {
                    return Err(io::Error::other(format!("{answer:?}")));
                }
                self.received.extend(split_payload(answer.text()));
            }
            Link::WebSocket(socket) => match socket.frame().await? {
                Frame { opcode: 1, payload, .. } => {
                    self.received.push_back(Packet::Text(String::from_utf8(payload).map_err(io::Error::other)?));
                }
                Frame { opcode: 2, payload, .. } => self.received.push_back(Packet::Binary(payload)),
                other => return Err(io::Error::other(format!("{other:?}"))),
            },
        }
        Ok(())
    }

    /// The next message: text without its digit, or binary. Pings on the way are answered, noops passed over.
    ///
    /// # Errors
    /// As [`Engine::packet`]; also when the server closes the session.
    pub async fn message(&mut self) -> io::Result<Packet> {
        loop {
            match self.packet().await? {
                Packet::Text(mut text) => match text.as_str() {
                    "2" => self.send_all(&[Packet::Text("3".to_owned())]).await?,
                    "6" => {}
                    "1" => return Err(io::Error::other("the server closed the session")),
                    _ if text.starts_with('4') => return Ok(Packet::Text(text.split_off(1))),
                    _ => return Err(io::Error::other(format!("unexpected packet {text:?}"))),
                },
                binary @ Packet::Binary(_) => return Ok(binary),
            }
        }
    }

    /// Reads to the end of the session. Returns the code of a WebSocket's close frame, if it had one.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`] when it does not end.
    pub async fn closed(&mut self) -> io::Result<Option<u16>> {
        if let Link::WebSocket(socket) = &mut self.link {
            return Ok(socket.closed().await?.and_then(|frame| frame.close_code()));
        }
        loop {
            match self.packet().await {
                Ok(packet) if packet == Packet::Text("1".to_owned()) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(error),
                Err(_) => return Ok(None),
            }
        }
    }

    /// Ends the session in good order: over polling with a close packet, on a WebSocket with a close frame.
    ///
    /// # Errors
    /// When the session, or the server, is gone.
    pub async fn leave(mut self) -> io::Result<()> {
        if let Link::WebSocket(socket) = &mut self.link {
            return socket.send(&Frame::close(1000)).await;
        }
        self.send_all(&[Packet::Text("1".to_owned())]).await
    }

    /// Ends all connections of the session with a reset; see [`Wire::reset`].
    pub fn reset(self) {
        match self.link {
            Link::WebSocket(socket) => socket.reset(),
            Link::Polling(polling) => {
                [polling.gets, polling.posts].into_iter().for_each(|idle| idle.http.into_wire().reset())
            }
        }
    }

    /// Goes from polling to a WebSocket as the official client does: probe, let the open poll come back, switch.
    ///
    /// # Errors
    /// When the server is gone, or refuses.
    pub async fn upgrade(&mut self) -> io::Result<()> {
        let mut socket = WebSocket::connect(self.addr, &self.probe_target()).await;
        socket.send_text("2probe").await?;
        assert_eq!(socket.text().await, "3probe");
        while matches!(&self.link, Link::Polling(polling) if polling.is_parked) {
            self.receive().await?;
        }
        socket.send_text("5").await?;
        self.link = Link::WebSocket(socket);
        Ok(())
    }
}

/// A packet as a WebSocket carries it.
fn frame(packet: &Packet) -> Frame {
    match packet {
        Packet::Text(text) => Frame::text(text),
        Packet::Binary(data) => Frame::new(2, data.clone()),
    }
}
