//! Who waits for whose answer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste_adapter::AnswerSink;
use posthaste_engine::{ConnectionId, Frames, Limit};
use posthaste_engine_proto::session::deadline_after;
use posthaste_socket_proto::Args;
use tokio::sync::oneshot;

use super::queues::FIRST_JOB;
use super::{Handle, Local};
use crate::durable::FIRST_ID;
use crate::error::AckError;
use crate::how::How;
use crate::socket::{Phase, Socket};

/// A socket that owes answers: its connection, and its namespace's number.
pub(super) type Asked = (ConnectionId, u32);

/// Whoever waits.
pub(super) enum Waiter {
    One(oneshot::Sender<Result<Args<'static>, AckError>>),
    Many(Arc<dyn AnswerSink>),
}

impl Waiter {
    // A future that was dropped wants to hear nothing.
    fn fail(self, error: AckError) {
        match self {
            Self::One(reply) => drop(reply.send(Err(error))),
            // Whoever collects keeps the time himself, and is to know that it was up.
            Self::Many(_) if matches!(error, AckError::Timeout) => {}
            Self::Many(sink) => sink.lose(1),
        }
    }
}

impl Local {
    /// Notes who waits for a socket's answer, then asks it: an answer always finds who waits.
    pub(crate) fn ask(
        &self,
        socket: &Socket,
        id: u64,
        question: &Frames,
        how: How,
        timeout: Duration,
        reply: oneshot::Sender<Result<Args<'static>, AckError>>,
    ) {
        if socket.phase() == Phase::Gone {
            return Waiter::One(reply).fail(AckError::Disconnected);
        }
        let asked = (socket.0.connection, socket.0.namespace.number());
        if !self.wait_for(asked, id, deadline_after(Instant::now(), timeout), Waiter::One(reply)) {
            return;
        }
        if socket.phase() == Phase::Joining {
            self.note_early(asked);
        }
        if socket.0.namespace.is_watched() {
            self.show_sent(socket, question.bytes());
            // A listener has disconnected it: whoever waits was told.
            if socket.phase() == Phase::Gone {
                return;
            }
        }
        let sent = self.send(socket.0.connection, question.bytes(), how);
        if !sent && !how.volatile {
            let waiter = self.acks.borrow_mut().take(asked, id);
            waiter.into_iter().for_each(|waiter| waiter.fail(AckError::Disconnected));
        }
    }

    /// Notes that a socket was asked something by a broadcast.
    pub(super) fn expect_answer_of(
        &self,
        connection: ConnectionId,
        namespace: u32,
        id: u64,
        deadline: Instant,
        answers: &Arc<dyn AnswerSink>,
    ) {
        self.wait_for((connection, namespace), id, deadline, Waiter::Many(answers.clone()));
    }

    /// Notes who waits. False if nobody may: they were told.
    fn wait_for(&self, asked: Asked, id: u64, deadline: Instant, waiter: Waiter) -> bool {
        let mut acks = self.acks.borrow_mut();
        let earliest = acks.next_deadline().is_none_or(|first| deadline < first);
        if let Err(refused) = acks.insert(asked, id, deadline, waiter) {
            drop(acks);
            self.count_limit(Limit::PendingAcks);
            refused.into_inner().fail(AckError::TooMany);
            return false;
        }
        if earliest {
            self.timer_changed.notify_one();
        }
        true
    }

    /// An answer came. Nobody waits for one that is late or unasked.
    pub(super) fn answered(&self, connection: ConnectionId, handle: Handle, id: u64, args: Args<'_>) {
        if id >= FIRST_JOB && self.answered_job(handle, id, &args) {
            return;
        }
        let waiter = self.acks.borrow_mut().take((connection, handle.namespace), id);
        match waiter {
            Some(Waiter::One(reply)) => drop(reply.send(Ok(args.into_owned()))),
            Some(Waiter::Many(sink)) => sink.answer(self.socket(handle).map(|socket| socket.id()), args.into_owned()),
            None if id >= FIRST_ID => self.answered_question(handle, id, args),
            None => self.answered_inbox(handle, id),
        }
    }

    /// A socket that has not joined is asked something.
    fn note_early(&self, (connection, namespace): Asked) {
        // Its end was told already: the question fails by itself.
        if self.with_client(connection, |_| ()).is_none() {
            return;
        }
        let mut early = self.asked_early.borrow_mut();
        let namespaces = early.entry(connection).or_default();
        if !namespaces.contains(&namespace) {
            namespaces.push(namespace);
        }
    }

    /// A connection is gone while middlewares were asked: they wait for no answer of it any more.
    pub(super) fn lose_early_answers(&self, connection: ConnectionId) {
        let namespaces = self.asked_early.borrow_mut().remove(&connection).unwrap_or_default();
        namespaces.into_iter().for_each(|namespace| self.lose((connection, namespace)));
    }

    /// A socket is gone: nobody waits for it any more.
    pub(super) fn lose_answers(&self, socket: &Socket) {
        let asked = (socket.0.connection, socket.0.namespace.number());
        self.lose(asked);
    }

    fn lose(&self, asked: Asked) {
        let lost = self.acks.borrow_mut().remove_socket(asked);
        lost.into_iter().for_each(|(_, waiter)| waiter.fail(AckError::Disconnected));
    }

    pub(super) fn expire_answers(&self, now: Instant) {
        let late: Vec<Waiter> = self.acks.borrow_mut().expire(now).map(|(_, _, waiter)| waiter).collect();
        late.into_iter().for_each(|waiter| waiter.fail(AckError::Timeout));
    }
}
