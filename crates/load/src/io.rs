//! Sockets: one thread, one poll, every connection of the run.
//!
//! One buffer receives for all, and what a connection says while it is read leaves in one write afterwards. A
//! connection owns memory only while something is incomplete. So the cost of a message is about that of its system call.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::client::{Client, Dialect, Lane, News, Outgoing, Session, Transport};
use crate::failure::Failure;
use crate::scenario::{Scenario, Wire};

const RECEIVE_BYTES: usize = 256 << 10;
const EVENTS: usize = 1024;
/// What a connection may have left unsent before it counts as broken: the server reads nothing any more.
const MOST_UNSENT_BYTES: usize = 64 << 20;
/// Connections from one local address. A system gives an address some 28,000 ports, and finding a free one takes long
/// once half of them are taken.
const PER_LOCAL_ADDRESS: usize = 12_000;

pub(crate) struct Io {
    poll: Poll,
    events: Events,
    slots: Vec<Slot>,
    addr: SocketAddr,
    transport: Transport,
    dialect: Dialect,
    start: Instant,
    now: u64,
    random: u64,
    buffer: Vec<u8>,
    /// The connection whose output waits in `corked` until its input is read.
    cork: Option<usize>,
    corked: Outgoing,
    direct: Outgoing,
    /// Handshakes, oldest first; those that ended are skipped.
    shaking_since: VecDeque<(usize, u32, u64)>,
    shaking: usize,
    connect_timeout: Duration,
    failures: Vec<(usize, Failure)>,
    /// Heartbeats answered.
    pub(crate) pings: u64,
}

/// One client, and its TCP connections.
#[derive(Default)]
struct Slot {
    client: Option<Client>,
    lanes: [Strand; 2],
    /// Grows with every start, so that an old handshake's timeout does not hit a new one.
    epoch: u32,
    ready: bool,
    since: u64,
}

/// One TCP connection.
#[derive(Default)]
struct Strand {
    stream: Option<TcpStream>,
    /// Connected, as far as a write has shown.
    up: bool,
    /// Bytes that are not a whole message yet.
    received: Vec<u8>,
    unsent: Vec<u8>,
}

impl Io {
    /// Room for `most` connections to `addr`.
    ///
    /// # Errors
    /// What the system says when it gives no poll.
    pub(crate) fn new(
        addr: SocketAddr,
        transport: Transport,
        dialect: Dialect,
        most: usize,
        connect_timeout: Duration,
        seed: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            slots: (0..most).map(|_| Slot::default()).collect(),
            addr,
            transport,
            dialect,
            start: Instant::now(),
            now: 0,
            random: seed | 1,
            buffer: vec![0; RECEIVE_BYTES],
            cork: None,
            corked: Outgoing::default(),
            direct: Outgoing::default(),
            shaking_since: VecDeque::new(),
            shaking: 0,
            connect_timeout,
            failures: Vec::new(),
            pings: 0,
        })
    }

    /// Looks at the clock.
    pub(crate) fn refresh(&mut self) -> u64 {
        self.now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.now
    }

    /// Reads nothing of a connection any more. It stays open, and is not missed when the server ends it.
    pub(crate) fn stop_reading(&mut self, id: usize) {
        for stream in self.slots[id].lanes.iter_mut().filter_map(|strand| strand.stream.as_mut()) {
            // Less of the load waits in the system, and so sooner in the server. A system may refuse; then later.
            let _ = SockRef::from(&*stream).set_recv_buffer_size(4096);
            // One that is not there any more is not read either.
            let _ = self.poll.registry().deregister(stream);
        }
    }

    /// Waits at most `wait` for news and tells `scenario` of them.
    ///
    /// # Errors
    /// What the system says when the poll fails.
    pub(crate) fn turn<S: Scenario>(&mut self, scenario: &mut S, wait: Duration) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            Err(error) => return Err(error),
        }
        self.refresh();
        for event in &events {
            let (id, lane) = (event.token().0 / 2, if event.token().0 % 2 == 0 { Lane::Main } else { Lane::Post });
            if event.is_writable() {
                self.flush(id, lane);
            }
            if event.is_readable() || event.is_error() || event.is_read_closed() {
                let ending = event.is_read_closed() || event.is_error();
                self.read(scenario, id, lane, ending);
            }
        }
        self.events = events;
        self.expire();
        for (id, failure) in std::mem::take(&mut self.failures) {
            scenario.lost(self, id, &failure);
        }
        Ok(())
    }

    /// Ends handshakes that take too long.
    fn expire(&mut self) {
        let timeout = u64::try_from(self.connect_timeout.as_nanos()).unwrap_or(u64::MAX);
        while let Some(&(id, epoch, since)) = self.shaking_since.front() {
            let slot = &self.slots[id];
            let over = slot.client.is_none() || slot.ready || slot.epoch != epoch;
            if !over && self.now.saturating_sub(since) < timeout {
                return;
            }
            self.shaking_since.pop_front();
            if !over {
                self.fail(id, Failure::Slow(format!("{:?}", self.connect_timeout)));
            }
        }
    }

    fn read<S: Scenario>(&mut self, scenario: &mut S, id: usize, lane: Lane, ending: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let epoch = self.slots[id].epoch;
        // Edge-triggered: until a read comes back short, which says that the socket is empty.
        while self.slots[id].epoch == epoch {
            let Some(stream) = &mut self.slots[id].lanes[lane as usize].stream else { break };
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.ended(id, lane, Failure::Closed);
                    break;
                }
                Ok(count) => {
                    self.refresh();
                    self.received(scenario, id, lane, epoch, &buffer[..count]);
                    if count < buffer.len() && !ending {
                        break;
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => break,
                    _ => {
                        let failure = match self.slots[id].lanes[lane as usize].up {
                            true => Failure::Broken(error.to_string()),
                            false => Failure::Connect(error.to_string()),
                        };
                        self.ended(id, lane, failure);
                        break;
                    }
                },
            }
        }
        self.buffer = buffer;
    }

    /// The TCP connection of `lane` ended, of itself.
    fn ended(&mut self, id: usize, lane: Lane, failure: Failure) {
        let slot = &mut self.slots[id];
        if slot.client.as_ref().is_some_and(|client| client.needs(lane)) || !slot.lanes[lane as usize].unsent.is_empty()
        {
            self.fail(id, failure);
        } else {
            slot.lanes[lane as usize] = Strand::default();
        }
    }

    /// Hands bytes to the client and its news to the scenario, then sends what both answered.
    fn received<S: Scenario>(&mut self, scenario: &mut S, id: usize, lane: Lane, epoch: u32, bytes: &[u8]) {
        let kept = std::mem::take(&mut self.slots[id].lanes[lane as usize].received);
        self.cork = Some(id);
        let outcome = if kept.is_empty() {
            self.digest(scenario, id, lane, epoch, bytes).map(|used| bytes[used..].to_vec())
        } else {
            let mut joined = kept;
            joined.extend_from_slice(bytes);
            self.digest(scenario, id, lane, epoch, &joined).map(|used| {
                joined.drain(..used);
                if joined.is_empty() { Vec::new() } else { joined }
            })
        };
        self.cork = None;
        let mut out = std::mem::take(&mut self.corked);
        if self.slots[id].epoch == epoch && self.slots[id].client.is_some() {
            match outcome {
                Ok(rest) => {
                    self.slots[id].lanes[lane as usize].received = rest;
                    self.write(id, &out);
                }
                Err(failure) => self.fail(id, failure),
            }
        }
        out.main.clear();
        out.post.clear();
        self.corked = out;
    }

    fn digest<S: Scenario>(
        &mut self,
        scenario: &mut S,
        id: usize,
        lane: Lane,
        epoch: u32,
        bytes: &[u8],
    ) -> Result<usize, Failure> {
        let mut used = 0;
        while self.slots[id].epoch == epoch {
            let mask = self.mask();
            let Some(client) = &mut self.slots[id].client else { break };
            let Some(step) = client.next(lane, &bytes[used..], &self.dialect, mask, &mut self.corked)? else { break };
            used += step.consumed;
            match step.news {
                News::None => {}
                News::Ping => self.pings += 1,
                News::Packet(text) => scenario.packet(self, id, &text),
                News::Ready(reply) => {
                    self.slots[id].ready = true;
                    self.shaking -= 1;
                    let since = self.slots[id].since;
                    scenario.welcomed(id, &reply);
                    scenario.ready(self, id, since);
                }
            }
        }
        Ok(used)
    }

    /// A mask for the next frame.
    fn mask(&mut self) -> [u8; 4] {
        (self.random() as u32).to_le_bytes()
    }

    fn write(&mut self, id: usize, out: &Outgoing) {
        for (lane, bytes) in [(Lane::Main, &out.main), (Lane::Post, &out.post)] {
            if !bytes.is_empty() {
                self.put(id, lane, bytes);
            }
        }
    }

    fn put(&mut self, id: usize, lane: Lane, bytes: &[u8]) {
        let strand = &mut self.slots[id].lanes[lane as usize];
        if strand.stream.is_none() {
            // A POST is the first, or its connection was closed between two.
            strand.unsent.extend_from_slice(bytes);
            self.connect(id, lane);
            return;
        }
        if !strand.up || !strand.unsent.is_empty() {
            strand.unsent.extend_from_slice(bytes);
            if strand.unsent.len() > MOST_UNSENT_BYTES {
                self.fail(id, Failure::Broken("the server does not read".into()));
            }
            return;
        }
        match send(strand, bytes) {
            Ok(sent) => strand.unsent.extend_from_slice(&bytes[sent..]),
            Err(error) => self.ended(id, lane, Failure::Broken(error.to_string())),
        }
    }

    fn flush(&mut self, id: usize, lane: Lane) {
        let strand = &mut self.slots[id].lanes[lane as usize];
        if strand.stream.is_none() || strand.unsent.is_empty() {
            return;
        }
        let unsent = std::mem::take(&mut strand.unsent);
        match send(strand, &unsent) {
            Ok(0) => strand.unsent = unsent,
            Ok(sent) => {
                strand.up = true;
                if sent < unsent.len() {
                    strand.unsent = unsent[sent..].to_vec();
                }
            }
            Err(error) => {
                let failure = match strand.up {
                    true => Failure::Broken(error.to_string()),
                    false => Failure::Connect(error.to_string()),
                };
                self.fail(id, failure);
            }
        }
    }

    fn connect(&mut self, id: usize, lane: Lane) {
        let token = Token(id * 2 + lane as usize);
        let connected = connect(self.addr, id / PER_LOCAL_ADDRESS).and_then(|mut stream| {
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => {
                let strand = &mut self.slots[id].lanes[lane as usize];
                strand.stream = Some(stream);
                strand.up = false;
            }
            Err(error) => self.fail(id, Failure::Connect(error.to_string())),
        }
    }

    fn start(&mut self, id: usize, since: u64, join: Option<Box<[u8]>>) {
        self.close(id);
        let started = self.refresh();
        let mut out = Outgoing::default();
        let client = Client::start(self.transport, &self.dialect, join, &mut out);
        let slot = &mut self.slots[id];
        slot.client = Some(client);
        slot.epoch += 1;
        slot.since = since.min(started);
        self.shaking += 1;
        self.shaking_since.push_back((id, slot.epoch, started));
        self.write(id, &out);
    }

    fn fail(&mut self, id: usize, failure: Failure) {
        if self.slots[id].client.is_some() {
            self.close(id);
            self.failures.push((id, failure));
        }
    }

    /// Ends a connection with a reset: that is what a lost network looks like, and no port is left waiting.
    fn close(&mut self, id: usize) {
        let slot = &mut self.slots[id];
        if slot.client.take().is_none() {
            return;
        }
        if !std::mem::take(&mut slot.ready) {
            self.shaking -= 1;
        }
        slot.epoch += 1;
        for strand in &mut slot.lanes {
            if let Some(stream) = strand.stream.take() {
                // Without it the connection is closed politely, which is no harm.
                let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            *strand = Strand::default();
        }
    }
}

impl Wire for Io {
    fn now(&self) -> u64 {
        self.now
    }

    fn shaking(&self) -> usize {
        self.shaking
    }

    fn is_ready(&self, id: usize) -> bool {
        self.slots[id].ready
    }

    fn random(&mut self) -> u64 {
        // xorshift: for masks and choices, not for secrets.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn send(&mut self, id: usize, packet: &[u8]) {
        let mask = self.mask();
        let Some(client) = &mut self.slots[id].client else { return };
        if self.cork == Some(id) {
            client.send(packet, &self.dialect, mask, &mut self.corked);
            return;
        }
        let mut out = std::mem::take(&mut self.direct);
        client.send(packet, &self.dialect, mask, &mut out);
        if !out.is_empty() {
            self.write(id, &out);
        }
        out.main.clear();
        out.post.clear();
        self.direct = out;
    }

    fn open(&mut self, id: usize, since: u64) {
        self.start(id, since, None);
    }

    fn open_again(&mut self, id: usize, since: u64, session: &Session) {
        let join = self.dialect.rejoin(session);
        self.start(id, since, Some(join));
    }

    fn cut(&mut self, id: usize) {
        self.close(id);
    }
}

/// What the kernel takes of `bytes`; 0 where it takes nothing now.
fn send(strand: &mut Strand, bytes: &[u8]) -> io::Result<usize> {
    let Some(stream) = &mut strand.stream else { return Ok(0) };
    loop {
        match stream.write(bytes) {
            Ok(sent) => return Ok(sent),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => {}
                // Not connected yet, on systems that say so.
                ErrorKind::WouldBlock | ErrorKind::NotConnected => return Ok(0),
                _ => return Err(error),
            },
        }
    }
}

/// Begins to connect, from the `nth` of the local addresses where there are several.
fn connect(addr: SocketAddr, nth: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // On Linux every 127.x.y.z is this machine.
    if cfg!(target_os = "linux") && nth > 0 && matches!(addr, SocketAddr::V4(addr) if addr.ip().is_loopback()) {
        let last = u8::try_from(nth % 250).unwrap_or(0) + 1;
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0)).into())?;
    }
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error) if in_progress(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

#[cfg(unix)]
fn in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) || error.kind() == ErrorKind::WouldBlock
}

#[cfg(not(unix))]
fn in_progress(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}
