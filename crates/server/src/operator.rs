//! Who an event goes to, and how: the operators, written once.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste_adapter::{
    AckCollector, AnswerSink, Broadcast, Flags, IntoRooms, Operation, Packet, Room, Rooms, Target,
};
use posthaste_engine_proto::session::deadline_after;
use posthaste_socket_proto::{EmitArgs, FromArgs, encode_event};

use crate::ack::{AckFuture, AcksFuture};
use crate::durable::{DurableOperator, DurableSocketOperator};
use crate::encode::{packet_frames, with_packet};
use crate::error::{AckError, FetchError, SendError};
use crate::how::How;
use crate::local::{self, Local};
use crate::namespace::Namespace;
use crate::remote::RemoteSocket;
use crate::sent::Sent;
use crate::server::Server;
use crate::server_side::SERVER_TIMEOUT;
use crate::socket::Socket;

/// Where an event goes, put together step by step. Without rooms it goes to the whole namespace.
///
/// ```no_run
/// # async fn example(io: posthaste::Server) -> Result<(), posthaste::SendError> {
/// io.to(["kitchen", "bar"]).except("muted").emit("order", &(7, "soup")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use = "an operator does nothing until something is emitted"]
pub struct Operator {
    namespace: Namespace,
    target: Target,
    /// Whether it is not kept whatever its rooms are.
    is_passing: bool,
}

impl Operator {
    pub(crate) fn new(namespace: Namespace) -> Self {
        Self { namespace, target: Target::default(), is_passing: false }
    }

    /// To the sockets in these rooms, besides those named before. Each socket once, however many of them it is in.
    pub fn to(mut self, rooms: impl IntoRooms) -> Self {
        rooms.append_to(&mut self.target.rooms);
        self
    }

    /// The same as [`Operator::to`] (Socket.IO's `in`, which is a keyword here).
    pub fn within(self, rooms: impl IntoRooms) -> Self {
        self.to(rooms)
    }

    /// Not to the sockets in these rooms.
    pub fn except(mut self, rooms: impl IntoRooms) -> Self {
        rooms.append_to(&mut self.target.except);
        self
    }

    /// Only to the sockets of this node.
    pub const fn local(mut self) -> Self {
        self.target.flags.local = true;
        self
    }

    /// Not to sockets that cannot take it at once: for what is worthless when late.
    pub const fn volatile(mut self) -> Self {
        self.target.flags.volatile = true;
        self
    }

    /// Whether it may be compressed on its way, where a transport does that; true unless said otherwise. What is compressed already
    /// (pictures) only costs time, and a secret beside what others wrote should not be: its length would tell of it.
    pub const fn compress(mut self, compress: bool) -> Self {
        self.target.flags.compress = compress;
        self
    }

    /// How long the answers to [`Operator::emit_with_ack`] may take, and other servers to answer [`Operator::fetch_sockets`].
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.target.flags.timeout = Some(timeout);
        self
    }

    /// Kept in the store, then sent: what follows says more about that.
    ///
    /// Needs [`Builder::durable`](crate::Builder::durable). It reaches the sockets of this node.
    pub fn durable(self) -> DurableOperator {
        let Self { namespace, target, .. } = self;
        DurableOperator { namespace, target, key: None, durability: None }
    }

    /// Not kept, also where a room it goes to is [durable](crate::Server::durable_rooms): who types, who is there. Who is away hears of
    /// it only if it comes back in time to this process.
    pub const fn passing(mut self) -> Self {
        self.is_passing = true;
        self
    }

    /// Sends an event. A tuple is several arguments, `()` none, anything else one; bytes travel as binary.
    ///
    /// It never waits for a slow socket. Two calls are delivered everywhere in the order they were made.
    pub fn emit<A: EmitArgs + ?Sized>(self, event: &str, args: &A) -> Sent {
        if self.namespace.is_parent() {
            // What cannot be sent is an error also when nobody is there.
            let encoded = with_packet(|out| encode_event(out, "/", None, event, args), |_| ());
            return match encoded {
                Ok(()) => self.each(|operator| operator.emit(event, args)),
                Err(error) => Sent::ready(Err(error.into())),
            };
        }
        let Self { namespace, target, is_passing } = self;
        let frames = packet_frames(|out| encode_event(out, namespace.name(), None, event, args));
        match frames {
            Ok(frames) => {
                let packet = Packet::from_frames(frames);
                if !is_passing && !target.flags.volatile && namespace.0.is_durable(&target.rooms) {
                    let stored = DurableOperator { namespace, target, key: None, durability: None }.put(&packet);
                    return Sent::pending(async { Ok(stored.await.map(drop)?) });
                }
                let sent = Sent::by(namespace.0.adapter().broadcast(Broadcast { target, packet, answers: None }));
                namespace.0.held_back(sent)
            }
            Err(error) => Sent::ready(Err(error.into())),
        }
    }

    /// Sends an event and collects the answers: one per socket, until all have come or the time is up.
    ///
    /// # Errors (of the future)
    /// [`AckError::Send`](crate::AckError::Send) when it could not be sent, [`AckError::Type`](crate::AckError::Type) when an
    /// answer is not a `T`. Answers that stay away are no error: see [`Acks::complete`](crate::Acks).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn emit_with_ack<T: FromArgs>(self, event: &str, args: &(impl EmitArgs + ?Sized)) -> AcksFuture<T> {
        let collector = Arc::new(AckCollector::new(self.namespace.server().0.config.max_ack_bytes));
        match self.ask(event, args, &collector) {
            Ok(deadline) => AcksFuture::waiting(collector, deadline),
            Err(error) => AcksFuture::failed(error),
        }
    }

    /// Asks the one socket whose room this is for.
    pub(crate) fn ask_one<T: FromArgs>(self, event: &str, args: &(impl EmitArgs + ?Sized)) -> AckFuture<T> {
        // One answer, which is as large as a message may be.
        let collector = Arc::new(AckCollector::single(usize::MAX));
        match self.ask(event, args, &collector) {
            Ok(deadline) => AckFuture::anywhere(collector, deadline),
            Err(error) => AckFuture::failed(AckError::Send(error)),
        }
    }

    /// Sends a question; its answers go to `collector` until the time that is returned.
    fn ask(
        self,
        event: &str,
        args: &(impl EmitArgs + ?Sized),
        collector: &Arc<AckCollector>,
    ) -> Result<Instant, SendError> {
        let Self { namespace, mut target, .. } = self;
        let timeout = target.flags.timeout.unwrap_or(namespace.server().0.config.ack_timeout);
        target.flags.timeout = Some(timeout);
        for namespace in namespace.each() {
            let id = namespace.0.next_ack_id();
            let frames = packet_frames(|out| encode_event(out, namespace.name(), Some(id), event, args))?;
            let answers: Arc<dyn AnswerSink> = collector.clone();
            let packet = Packet::from_frames(frames);
            let broadcast = Broadcast { target: target.clone(), packet, answers: Some((id, answers)) };
            // A publication that other nodes have yet to take shows in the answers that come.
            drop(namespace.0.adapter().broadcast(broadcast));
        }
        Ok(deadline_after(Instant::now(), timeout))
    }
}

impl Operator {
    /// Has `act` done for each namespace that a parent stands for.
    fn each(&self, act: impl Fn(Self) -> Sent) -> Sent {
        let children = self.namespace.each().into_iter();
        let each =
            children.map(|namespace| act(Self { namespace, target: self.target.clone(), is_passing: self.is_passing }));
        each.fold(Sent::ready(Ok(())), Sent::and)
    }
}

/// What can be done to many sockets at once.
impl Operator {
    /// Has the sockets join rooms. In order with what is emitted before and after.
    pub fn sockets_join(self, rooms: impl IntoRooms) -> Sent {
        let mut list = Rooms::new();
        rooms.append_to(&mut list);
        self.apply(Operation::Join(list))
    }

    /// Has the sockets leave rooms.
    pub fn sockets_leave(self, rooms: impl IntoRooms) -> Sent {
        let mut list = Rooms::new();
        rooms.append_to(&mut list);
        self.apply(Operation::Leave(list))
    }

    /// Takes the sockets out of the namespace; with `close` out of all, and their connections are closed.
    pub fn disconnect_sockets(self, close: bool) -> Sent {
        self.apply(Operation::Disconnect { close })
    }

    /// The sockets of all servers, as they are now. Other servers have 5 s to tell theirs, or as long as
    /// [`Operator::timeout`] says.
    ///
    /// ```no_run
    /// # async fn example(io: posthaste::Server) -> Result<(), Box<dyn std::error::Error>> {
    /// for socket in io.to("lobby").fetch_sockets().await? {
    ///     println!("{} is in {:?}", socket.id(), socket.rooms());
    ///     socket.emit("hello", &()).await?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors (of the future)
    /// [`FetchError::Timeout`] when a server took too long: nothing is returned then, for nobody could say what is missing.
    /// [`FetchError::Adapter`] when the others could not be asked.
    ///
    /// # Panics
    /// (The future) outside of a tokio runtime.
    pub fn fetch_sockets(self) -> impl Future<Output = Result<Vec<RemoteSocket>, FetchError>> + Send + 'static + use<> {
        let Self { namespace, target, .. } = self;
        let patience = target.flags.timeout.unwrap_or(SERVER_TIMEOUT);
        // All are asked before the first is waited for.
        let asked =
            namespace.each().into_iter().map(|namespace| (namespace.0.adapter().fetch(target.clone()), namespace));
        let asked: Vec<_> = asked.collect();
        async move {
            let deadline = tokio::time::Instant::from_std(deadline_after(Instant::now(), patience));
            let mut all = Vec::new();
            for (fetched, namespace) in asked {
                let fetched = tokio::time::timeout_at(deadline, fetched).await.map_err(|_| FetchError::Timeout)??;
                all.extend(fetched.into_iter().map(|snapshot| RemoteSocket::new(namespace.clone(), snapshot)));
            }
            Ok(all)
        }
    }

    /// The sockets of this server, themselves.
    pub fn sockets(self) -> impl Future<Output = Vec<Socket>> + Send + 'static + use<> {
        let each = self.namespace.each().into_iter();
        let asked: Vec<_> = each.map(|namespace| local::gather(&namespace.0, &self.target, Local::meant)).collect();
        async move {
            let mut all = Vec::new();
            for sockets in asked {
                all.extend(sockets.await);
            }
            all
        }
    }

    fn apply(self, operation: Operation) -> Sent {
        if self.namespace.is_parent() {
            return self.each(|operator| operator.apply(operation.clone()));
        }
        let sent = Sent::by(self.namespace.0.adapter().apply(self.target, operation));
        self.namespace.0.held_back(sent)
    }
}

/// How an event goes to one socket, put together step by step.
#[derive(Clone, Debug)]
#[must_use = "an operator does nothing until something is emitted"]
pub struct SocketOperator {
    socket: Socket,
    flags: Flags,
}

impl SocketOperator {
    fn new(socket: &Socket) -> Self {
        Self { socket: socket.clone(), flags: Flags::default() }
    }

    /// Not if the socket cannot take it at once.
    pub const fn volatile(mut self) -> Self {
        self.flags.volatile = true;
        self
    }

    /// Whether it may be compressed on its way; see [`Operator::compress`].
    pub const fn compress(mut self, compress: bool) -> Self {
        self.flags.compress = compress;
        self
    }

    /// To everyone in the namespace but the socket itself, on this node only.
    pub fn local(self) -> Operator {
        self.broadcast().local()
    }

    /// How long the answer to [`SocketOperator::emit_with_ack`] may take.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.flags.timeout = Some(timeout);
        self
    }

    /// To the socket alone, kept in the store before it is sent, and until it is answered if that is asked for.
    ///
    /// Needs [`Builder::durable`](crate::Builder::durable).
    pub fn durable(self) -> DurableSocketOperator {
        let Self { socket, flags } = self;
        DurableSocketOperator { socket, flags }
    }

    /// To everyone in these rooms but the socket itself.
    pub fn to(self, rooms: impl IntoRooms) -> Operator {
        self.broadcast().to(rooms)
    }

    /// The same as [`SocketOperator::to`].
    pub fn within(self, rooms: impl IntoRooms) -> Operator {
        self.to(rooms)
    }

    /// To everyone in the namespace but the socket itself and the sockets in these rooms.
    pub fn except(self, rooms: impl IntoRooms) -> Operator {
        self.broadcast().except(rooms)
    }

    /// To everyone in the namespace but the socket itself.
    pub fn broadcast(self) -> Operator {
        let mut operator = Operator::new(self.socket.namespace()).except(Room::from(self.socket.id()));
        operator.target.flags = self.flags;
        operator
    }

    /// Sends an event to the socket.
    pub fn emit<A: EmitArgs + ?Sized>(self, event: &str, args: &A) -> Sent {
        self.socket.send_event(How::from(&self.flags), event, args)
    }

    /// Sends an event to the socket and waits for its answer; see [`Socket::emit_with_ack`].
    pub fn emit_with_ack<T: FromArgs>(self, event: &str, args: &(impl EmitArgs + ?Sized)) -> AckFuture<T> {
        self.socket.ask(event, args, self.flags.timeout, How::from(&self.flags))
    }
}

/// The operators where a chain begins.
macro_rules! begins_chain {
    ($name:ty, $begin:expr, $start:ty, $durable:ty) => {
        impl $name {
            /// To the sockets in these rooms; see [`Operator::to`].
            pub fn to(&self, rooms: impl IntoRooms) -> Operator {
                $begin(self).to(rooms)
            }

            /// The same as `to` (Socket.IO's `in`).
            pub fn within(&self, rooms: impl IntoRooms) -> Operator {
                $begin(self).to(rooms)
            }

            /// Not to the sockets in these rooms; see [`Operator::except`].
            pub fn except(&self, rooms: impl IntoRooms) -> Operator {
                $begin(self).except(rooms)
            }

            /// Kept in the store, then sent; see [`Operator::durable`].
            pub fn durable(&self) -> $durable {
                $begin(self).durable()
            }

            /// Not to a socket that cannot take it at once.
            pub fn volatile(&self) -> $start {
                $begin(self).volatile()
            }

            /// Whether it may be compressed on its way; see [`Operator::compress`].
            pub fn compress(&self, compress: bool) -> $start {
                $begin(self).compress(compress)
            }

            /// Only to sockets of this node; from a socket, not to itself.
            pub fn local(&self) -> Operator {
                $begin(self).local()
            }

            /// How long answers may take.
            pub fn timeout(&self, timeout: Duration) -> $start {
                $begin(self).timeout(timeout)
            }
        }
    };
}

/// The operators of what stands for all its sockets.
macro_rules! broadcasts {
    ($name:ty, $begin:expr) => {
        begins_chain!($name, $begin, Operator, DurableOperator);

        impl $name {
            /// Sends an event to all sockets; see [`Operator::emit`].
            pub fn emit<A: EmitArgs + ?Sized>(&self, event: &str, args: &A) -> Sent {
                $begin(self).emit(event, args)
            }

            /// Has all sockets join rooms; see [`Operator::sockets_join`].
            pub fn sockets_join(&self, rooms: impl IntoRooms) -> Sent {
                $begin(self).sockets_join(rooms)
            }

            /// Has all sockets leave rooms; see [`Operator::sockets_leave`].
            pub fn sockets_leave(&self, rooms: impl IntoRooms) -> Sent {
                $begin(self).sockets_leave(rooms)
            }

            /// Disconnects all sockets; see [`Operator::disconnect_sockets`].
            pub fn disconnect_sockets(&self, close: bool) -> Sent {
                $begin(self).disconnect_sockets(close)
            }

            /// The sockets of all servers; see [`Operator::fetch_sockets`].
            pub fn fetch_sockets(
                &self,
            ) -> impl Future<Output = Result<Vec<RemoteSocket>, FetchError>> + Send + 'static + use<> {
                $begin(self).fetch_sockets()
            }

            /// The sockets of this server, themselves.
            pub fn sockets(&self) -> impl Future<Output = Vec<Socket>> + Send + 'static + use<> {
                $begin(self).sockets()
            }

            /// Sends an event to all sockets and collects the answers; see [`Operator::emit_with_ack`].
            pub fn emit_with_ack<T: FromArgs>(&self, event: &str, args: &(impl EmitArgs + ?Sized)) -> AcksFuture<T> {
                $begin(self).emit_with_ack(event, args)
            }
        }
    };
}

broadcasts!(Namespace, |namespace: &Namespace| Operator::new(namespace.clone()));
broadcasts!(Server, |server: &Server| Operator::new(server.main()));
begins_chain!(Socket, SocketOperator::new, SocketOperator, DurableSocketOperator);

impl Socket {
    /// To everyone in the namespace but the socket itself.
    pub fn broadcast(&self) -> Operator {
        SocketOperator::new(self).broadcast()
    }
}
