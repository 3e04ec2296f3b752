//! Coming and going.

use std::cmp::Reverse;
use std::rc::Weak as RcWeak;
use std::sync::Arc;
use std::time::Instant;

use posthaste_engine::{CloseReason, ConnectionId, Revision};
use posthaste_history::{Gap, PidText};
use posthaste_socket_proto::{encode_connect, encode_connect_error, encode_disconnect, encode_legacy_connect};

use super::comeback::Comeback;
use super::resolve::INVALID;
use super::{Early, Handle, Local};
use crate::encode::with_plain_packet;
use crate::error::ConnectError;
use crate::extract::{ConnectContext, DisconnectContext};
use crate::handler::BoxedCheck;
use crate::how::How;
use crate::namespace::Namespace;
use crate::reason::DisconnectReason;
use crate::recovery::Journal;
use crate::socket::{Identity, Phase, Socket};

/// What a client is told when the application's code panicked.
pub(super) const INTERNAL: &str = "Internal server error";

impl Local {
    /// A client asks to join a namespace: as who it was, or as somebody new.
    pub(super) fn check(&self, id: ConnectionId, namespace: &Namespace, auth: Option<&str>) {
        // Gone while its namespace was being looked for: nothing is taken from anybody for it.
        if self.with_client(id, |_| ()).is_none() {
            return;
        }
        let parser = self.parser(id);
        if let Some(only) = namespace.0.router().parser.filter(|only| !only.takes(parser)) {
            return self.refuse(id, &namespace.0.name, &only.refusal());
        }
        if self.is_legacy(id) || !self.come_back(id, namespace, auth) {
            self.begin(id, namespace, auth);
        }
    }

    /// Asks the middlewares of a namespace whether a client may join it, and lets it in as a new socket or refuses it.
    pub(super) fn begin(&self, id: ConnectionId, namespace: &Namespace, auth: Option<&str>) {
        self.begin_with(id, namespace, auth, Vec::new());
    }

    /// As [`Local::begin`], for a client that is to hear what it missed for good.
    pub(super) fn begin_with(&self, id: ConnectionId, namespace: &Namespace, auth: Option<&str>, gaps: Vec<Gap>) {
        let Some(request) = self.with_client(id, |client| client.request.clone()) else { return };
        let serial = self.next_serial();
        let revision = self.revision_of(&request);
        let own = if revision == Revision::V3 { self.legacy_id(id) } else { None };
        let public_id = own.unwrap_or_else(|| self.new_id());
        let socket = Socket::new(public_id, id, serial, namespace.0.clone(), request, revision, auth.map(Box::from));
        if !gaps.is_empty() {
            self.early.borrow_mut().entry(serial).or_default().gaps = gaps;
        }
        let middlewares = self.middlewares(namespace);
        if middlewares.is_empty() {
            return self.accept(&socket, Comeback::New);
        }
        let Some(this) = self.this.upgrade() else { return };
        let asked = socket.clone();
        let checks = async move {
            if this.ask_middlewares(&middlewares, &socket).await {
                this.accept(&socket, Comeback::New);
            }
        };
        self.worker.start(id, serial, Box::pin(checks));
        self.blame(&asked, "middleware");
    }

    pub(super) fn middlewares(&self, namespace: &Namespace) -> Vec<Arc<BoxedCheck>> {
        match self.namespace(namespace.0.number()) {
            Some(local) => local.router().middlewares.clone(),
            // Nobody here is in it: nothing is made for a client that may be refused.
            None => namespace.0.router().middlewares.clone(),
        }
    }

    /// Asks middlewares whether a socket may join. If not, its client is refused.
    pub(super) async fn ask_middlewares(&self, middlewares: &[Arc<BoxedCheck>], socket: &Socket) -> bool {
        // Refused is better than let in unchecked.
        let panicked = || Err(ConnectError::new(INTERNAL));
        match super::dispatch::caught(check(middlewares, socket)).await.unwrap_or_else(panicked) {
            Ok(()) => true,
            Err(refusal) => {
                self.turn_away(socket);
                self.refuse(socket.0.connection, &socket.0.namespace.name, &refusal);
                false
            }
        }
    }

    /// A socket does not join after all.
    pub(super) fn turn_away(&self, socket: &Socket) {
        socket.silence();
        socket.set_phase(Phase::Gone);
        self.lose_answers(socket);
        self.early.borrow_mut().remove(&socket.0.serial);
    }

    pub(super) fn refuse(&self, id: ConnectionId, name: &str, refusal: &ConnectError) {
        // Gone while it was being checked.
        if self.with_client(id, |client| client.connection.refuse(name)) == Some(true) {
            self.send_connect_error(id, name, refusal);
        }
    }

    pub(super) fn send_connect_error(&self, id: ConnectionId, name: &str, refusal: &ConnectError) {
        // Of a namespace that does not exist all clients are told in the same words.
        if self.is_legacy(id) && refusal.message() != INVALID {
            return self.send_legacy_refusal(id, name, refusal);
        }
        with_plain_packet(
            |out| encode_connect_error(out, name, refusal.message(), refusal.data()),
            |frames| self.send(id, frames, How::USUAL),
        );
    }

    /// Lets a socket into its namespace.
    pub(super) fn accept(&self, socket: &Socket, comeback: Comeback) {
        let id = socket.0.connection;
        // Made only now: it may have been given up while the middlewares were asked.
        let namespace = self.enter(&socket.namespace());
        let Early { rooms, identity, gaps } = self.early.borrow_mut().remove(&socket.0.serial).unwrap_or_default();
        let member = namespace.membership.borrow_mut().insert(socket.id(), id.slot);
        let handle = Handle { namespace: namespace.shared.number(), member };
        let accepted = self
            .with_client(id, |client| client.connection.accept(&namespace.shared.name, handle).is_ok())
            .unwrap_or(false);
        if !accepted {
            // The connection ended while it was being checked.
            namespace.membership.borrow_mut().remove(member);
            self.turn_away(socket);
            self.leave_if_empty(&namespace);
            return;
        }
        if let Some(identity) = &identity {
            socket.insert(Identity(identity.clone()));
        }
        let pid = namespace.track(member, socket, comeback, &rooms, || self.new_pid());
        // Before a handler may look at mail: what it owes from before comes before what it is asked then.
        let owes = self.owes_answers(&namespace, member, socket);
        {
            let mut sockets = namespace.sockets.borrow_mut();
            let place = member.0 as usize;
            if sockets.len() <= place {
                sockets.resize_with(place + 1, || None);
            }
            sockets[place] = Some(socket.clone());
        }
        socket.set_phase(Phase::Connected);
        self.worker.vouch(id);
        let keeps = |journal: &Arc<Journal>| journal.kept().is_some();
        // Who is told no offsets, and so can tell none, is asked by pings how far it has come.
        if namespace.shared.journal.as_ref().is_some_and(|it| keeps(it) || !socket.0.takes_offsets) {
            self.worker.follow_heartbeat(id);
        }
        let text = socket.id().to_text();
        with_plain_packet(
            |out| match socket.0.revision {
                Revision::V4 => {
                    encode_connect(out, &namespace.shared.name, text.as_str(), pid.as_ref().map(PidText::as_str))
                }
                Revision::V3 => encode_legacy_connect(out, &namespace.shared.name),
            },
            |frames| self.send(id, frames, How::USUAL),
        );
        if let Some(pid) = &pid {
            self.tell_session(socket, pid);
        }
        if !gaps.is_empty() {
            self.tell_gaps(socket, &gaps);
        }
        namespace.tell_entered(member, socket.id());
        self.return_to_queues(&namespace, member, socket);
        let router = namespace.router();
        for handler in &router.connect {
            let started = super::dispatch::guarded(|| handler(&mut ConnectContext { socket }));
            match started {
                Some(Ok(running)) => {
                    self.worker.start(id, socket.0.serial, running);
                    self.blame(socket, "connect");
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "a connect handler could not be called: the socket is disconnected");
                    return self.disconnect(socket, false);
                }
                None => return self.disconnect(socket, false),
            }
        }
        // A handler may have had enough of it.
        if owes && socket.phase() == Phase::Connected {
            self.ask_again(&namespace, member, socket);
        }
        if let Some(identity) = identity
            && socket.phase() == Phase::Connected
        {
            self.open_inbox(&namespace, member, socket, &identity);
        }
    }

    /// The server takes a socket out of its namespace.
    pub(crate) fn disconnect(&self, socket: &Socket, close: bool) {
        let id = socket.0.connection;
        if self.handle(socket).is_none() {
            return;
        }
        let names: Vec<Arc<str>> = if close {
            self.with_client(id, |client| client.connection.iter().map(|(name, _)| Arc::from(name)).collect())
                .unwrap_or_default()
        } else {
            vec![socket.0.namespace.name.clone()]
        };
        for name in names {
            let Some(handle) = self.with_client(id, |client| client.connection.leave(&name)).flatten() else {
                continue;
            };
            with_plain_packet(|out| encode_disconnect(out, &name), |frames| self.send(id, frames, How::USUAL));
            self.left(handle, DisconnectReason::ServerNamespaceDisconnect);
        }
        if close {
            self.worker.close(id, CloseReason::ForcedClose);
        }
    }

    /// A socket has left its namespace: it leaves its rooms, nobody waits for its answers, and its handlers hear of it.
    pub(super) fn left(&self, handle: Handle, reason: DisconnectReason) {
        let Some(namespace) = self.namespace(handle.namespace) else { return };
        self.disconnecting(&namespace, handle, reason);
        let socket = namespace.sockets.borrow_mut().get_mut(handle.member.0 as usize).and_then(Option::take);
        let Some(socket) = socket else { return };
        socket.silence();
        let rooms = namespace.membership.borrow_mut().remove(handle.member);
        match &namespace.tracking {
            None => socket.set_phase(Phase::Gone),
            Some(tracking) => {
                let keeper = tracking.journal().kept();
                if let Some(keeper) = keeper {
                    tracking.inboxes.close(handle.member, keeper, self.worker.index());
                    tracking.questions.close(handle.member);
                }
                tracking.left(handle.member, &socket, reason);
                if let Some(keeper) = keeper {
                    let may_return = reason.is_recoverable() && socket.0.revision == Revision::V4;
                    self.left_questions(keeper, &socket, may_return);
                }
            }
        }
        self.leave_queues(&namespace, handle.member, &socket, reason);
        self.lose_answers(&socket);
        namespace.tell_gone(socket.id(), rooms);
        self.leave_if_empty(&namespace);
        let router = namespace.router();
        for handler in &router.disconnect {
            match super::dispatch::guarded(|| handler(&mut DisconnectContext { socket: &socket, reason, rooms: &[] })) {
                Some(Ok(running)) => {
                    self.worker.start(socket.0.connection, socket.0.serial, running);
                    self.blame(&socket, "disconnect");
                }
                Some(Err(error)) => tracing::warn!(%error, "a disconnect handler could not be called"),
                None => {}
            }
        }
    }

    /// Has a connection looked at when `deadline` has come.
    pub(super) fn watch(&self, id: ConnectionId, deadline: Instant) {
        let news = self.with_client(id, |client| {
            let sooner = client.watched.is_none_or(|watched| deadline < watched);
            if sooner {
                client.watched = Some(deadline);
            }
            sooner
        });
        if news != Some(true) {
            return;
        }
        let mut deadlines = self.deadlines.borrow_mut();
        // Those that have done meanwhile what they had to make room: when clients join at once, the list stays short.
        while deadlines.peek().is_some_and(|Reverse((at, first))| self.is_over(*first, *at)) {
            deadlines.pop();
        }
        let earliest = deadlines.peek().is_none_or(|Reverse((first, _))| deadline < *first);
        deadlines.push(Reverse((deadline, id)));
        if earliest {
            self.timer_changed.notify_one();
        }
    }

    /// Whether nothing is waited for that an entry of the list was made for. If so, the client has no entry any more.
    fn is_over(&self, id: ConnectionId, at: Instant) -> bool {
        let waits = self.with_client(id, |client| {
            let is_its = client.watched == Some(at);
            let waits = is_its && client.connection.deadline().is_some();
            if is_its && !waits {
                client.watched = None;
            }
            waits
        });
        waits != Some(true)
    }

    /// Ends what took too long, for as long as the server lives.
    pub(super) async fn keep_time(this: RcWeak<Self>) {
        let Some(changed) = this.upgrade().map(|local| local.timer_changed.clone()) else { return };
        loop {
            let next = {
                let Some(local) = this.upgrade() else { return };
                let first = local.deadlines.borrow().peek().map(|Reverse((deadline, _))| *deadline);
                let ack = local.acks.borrow().next_deadline();
                first.into_iter().chain(ack).min()
            };
            match next {
                None => changed.notified().await,
                Some(next) => {
                    let slept = tokio::time::timeout_at(next.into(), changed.notified()).await.is_err();
                    let Some(local) = this.upgrade() else { return };
                    if slept {
                        local.expire(Instant::now());
                    }
                }
            }
        }
    }

    fn expire(&self, now: Instant) {
        self.expire_answers(now);
        loop {
            let (at, id) = {
                let mut deadlines = self.deadlines.borrow_mut();
                match deadlines.peek() {
                    Some(Reverse((deadline, id))) if *deadline <= now => {
                        let due = (*deadline, *id);
                        deadlines.pop();
                        due
                    }
                    _ => return,
                }
            };
            let state = self.with_client(id, |client| {
                client.watched.take_if(|watched| *watched == at);
                (client.connection.expired(now), client.connection.deadline())
            });
            match state {
                Some((Some(violation), _)) => {
                    tracing::debug!(%violation, connection = ?id, "connection closed");
                    self.count_violation(&violation);
                    self.worker.close(id, CloseReason::ForcedClose);
                }
                Some((None, Some(later))) => self.watch(id, later),
                Some((None, None)) | None => {}
            }
        }
    }
}

/// Asks the middlewares one after the other.
async fn check(middlewares: &[Arc<BoxedCheck>], socket: &Socket) -> Result<(), ConnectError> {
    for middleware in middlewares {
        middleware(&mut ConnectContext { socket }).map_err(|error| ConnectError::new(error.to_string()))?.await?;
    }
    Ok(())
}
