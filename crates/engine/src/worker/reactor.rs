//! The worker's own reactor: sockets without a task each.
//!
//! An epoll of its own lies inside tokio's: when a socket in it has news, tokio wakes the turn task, which takes all news at once.
//! A connection costs an entry in the kernel's table and nothing here. Only bare TCP comes here, accepted by the engine's own
//! listeners; every other stream has the task that [`driver`](super::driver) gives it.

use std::io;
use std::rc::Rc;
use std::task::{Context, Waker};

use mio::{Events, Interest, Poll, Registry, Token};

use super::Local;
use super::ahead::ReadAhead;
use super::direct::Listening;
use super::driver::Drove;

/// News taken at once; more wait for the next turn.
const EVENTS: usize = 1024;
/// Connections accepted from one socket in one turn.
const ACCEPTS: usize = 64;
/// Tokens from here on are listening sockets', counted from the top; those below are places.
const LISTENING: usize = usize::MAX - 0xffff;
/// How long accepting rests when the process has no file descriptor left.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// An epoll inside tokio's.
#[cfg(target_os = "linux")]
mod nested {
    use std::io;

    use mio::Poll;
    use tokio::io::unix::AsyncFd;

    pub(super) struct Nested(AsyncFd<Poll>);

    impl Nested {
        pub(super) fn new(poll: Poll) -> io::Result<Self> {
            // Its successor is unsafe: a type could change its descriptor under it. mio's has one, from its making to its end.
            #[expect(deprecated, reason = "the same in safe code; the descriptor of a `Poll` never changes")]
            AsyncFd::with_interest(poll, tokio::io::Interest::READABLE).map(Self)
        }

        pub(super) async fn ready(&mut self) {
            match self.0.readable().await {
                // Cleared before the news are taken: what comes after that is told again.
                Ok(mut ready) => ready.clear_ready(),
                // The runtime is ending, and so is whoever waits.
                Err(_) => std::future::pending().await,
            }
        }

        pub(super) fn poll(&mut self) -> &mut Poll {
            self.0.get_mut()
        }
    }
}

/// Elsewhere nobody has tried it: no socket comes here, and nothing is ever ready.
#[cfg(not(target_os = "linux"))]
mod nested {
    use std::io;

    use mio::Poll;

    pub(super) struct Nested(Poll);

    impl Nested {
        pub(super) fn new(poll: Poll) -> io::Result<Self> {
            Ok(Self(poll))
        }

        pub(super) async fn ready(&mut self) {
            std::future::pending().await
        }

        pub(super) fn poll(&mut self) -> &mut Poll {
            &mut self.0
        }
    }
}

pub(crate) struct Reactor {
    poll: nested::Nested,
    events: Events,
    ahead: ReadAhead,
}

impl Reactor {
    /// Whether listeners may give their sockets to it.
    pub(crate) const AVAILABLE: bool = cfg!(target_os = "linux");

    /// Made on the worker's runtime; the registry is for whoever brings sockets.
    pub(super) fn new() -> io::Result<(Self, Registry)> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let poll = nested::Nested::new(poll)?;
        Ok((Self { poll, events: Events::with_capacity(EVENTS), ahead: ReadAhead::default() }, registry))
    }

    /// Waits for news.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn ready(&mut self) {
        self.poll.ready().await;
    }

    /// Takes the news there are. Returns whether there may be more.
    pub(super) fn turn(&mut self, local: &Rc<Local>) -> bool {
        if let Err(error) = self.poll.poll().poll(&mut self.events, Some(std::time::Duration::ZERO)) {
            // Interrupted: asked again at once.
            tracing::debug!(%error, "the reactor could not be asked");
            return true;
        }
        let mut taken = 0;
        for event in &self.events {
            taken += 1;
            let Token(token) = event.token();
            match u32::try_from(token) {
                Ok(slot) if token < LISTENING => {
                    let closed = event.is_read_closed() || event.is_error();
                    if event.is_readable() && !closed && self.ahead.read(local, slot) {
                        continue;
                    }
                    self.ahead.serve(local);
                    local.socket_news(slot, event.is_readable() || closed, event.is_writable(), closed);
                }
                _ => {
                    self.ahead.serve(local);
                    local.accept(usize::MAX - token);
                }
            }
        }
        self.ahead.serve(local);
        taken == EVENTS
    }
}

impl Local {
    /// Has this worker's reactor look after a socket, as that of the tenant at `slot`.
    pub(super) fn register(&self, stream: &mut mio::net::TcpStream, slot: u32) -> io::Result<()> {
        self.registry.register(stream, Token(slot as usize), Interest::READABLE | Interest::WRITABLE)
    }

    /// Its tenant has moved to another place. What has come is told again.
    pub(super) fn reregister(&self, stream: &mut mio::net::TcpStream, slot: u32) {
        let moved = self.registry.reregister(stream, Token(slot as usize), Interest::READABLE | Interest::WRITABLE);
        if let Err(error) = moved {
            // Never seen: the socket is registered. Its session ends by its heartbeat.
            tracing::error!(%error, "a socket could not be moved");
        }
    }

    /// Takes a socket out of the reactor's hands, for whoever registers it elsewhere.
    pub(super) fn release(&self, mut stream: mio::net::TcpStream) -> std::net::TcpStream {
        if let Err(error) = self.registry.deregister(&mut stream) {
            tracing::debug!(%error, "a socket was not registered");
        }
        stream.into()
    }

    /// Accepts from a socket from now on.
    pub(crate) fn listen(&self, listening: Listening) -> io::Result<()> {
        let mut all = self.listening.borrow_mut();
        let place = all.iter().map(|one| one.place + 1).max().unwrap_or(0);
        let listening = Rc::new(Listening { place, ..listening });
        let token = Token(usize::MAX - place);
        if let Some(socket) = &mut *listening.socket.borrow_mut() {
            self.registry.register(socket, token, Interest::READABLE)?;
        }
        all.push(listening);
        Ok(())
    }

    /// Accepts no more from the socket of that number; its idle HTTP connections end, those with a request once it is answered.
    pub(crate) fn stop_listening(&self, number: u64) {
        self.listening.borrow_mut().retain(|listening| {
            if listening.number == number {
                drop(listening.socket.take());
            }
            listening.number != number
        });
        self.end_idle_http();
    }

    fn accept(self: &Rc<Self>, place: usize) {
        let listening = self.listening.borrow().iter().find(|listening| listening.place == place).cloned();
        let Some(listening) = listening else { return };
        for _ in 0..ACCEPTS {
            let accepted = match &*listening.socket.borrow() {
                Some(socket) => socket.accept(),
                None => return,
            };
            match accepted {
                Ok((stream, remote)) => self.adopt(&listening, stream, remote, &[]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    // Out of file descriptors, or a connection that was reset while it waited.
                    tracing::warn!(%error, "a connection could not be accepted");
                    let this = self.clone();
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        this.accept(place);
                        this.want_turn();
                    });
                    return;
                }
            }
        }
        // More may wait, and the reactor told of them.
        let this = self.clone();
        tokio::task::spawn_local(async move {
            this.accept(place);
            this.want_turn();
        });
    }

    /// A socket has news: bytes or its end, or room for more.
    fn socket_news(self: &Rc<Self>, slot: u32, readable: bool, writable: bool, closed: bool) {
        let Some((id, is_http)) = ({ self.core.borrow().tenant(slot) }) else { return };
        if is_http {
            self.http_news(id, readable, writable, closed);
        } else {
            let mut cx = Context::from_waker(Waker::noop());
            if readable {
                if matches!(self.read(id, &mut cx, closed), Drove::Again) {
                    self.core.borrow_mut().unread.push(slot);
                }
            } else if writable {
                self.writable(id);
            }
        }
        self.settle();
    }

    /// Goes on reading where more was left than one turn reads.
    pub(super) fn read_on(self: &Rc<Self>) {
        let mut unread = std::mem::take(&mut self.core.borrow_mut().unread);
        for slot in unread.drain(..) {
            // Whether the peer has closed is found by reading.
            self.socket_news(slot, true, false, true);
        }
        let mut core = self.core.borrow_mut();
        if core.unread.is_empty() {
            // Its capacity serves again.
            core.unread = unread;
        }
    }
}
