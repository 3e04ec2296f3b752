//! What a worker holds for each connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use posthaste_engine_proto::{Outbox, PostBody, Session, Sid, Wire};
use posthaste_websocket_proto::{CloseCode, Decoder};
use tokio::sync::oneshot;

use super::{AppIndex, ConnectionId, GetAnswer, PostAnswer};
use crate::gate::Ticket;
use crate::stream::Stream;

/// One Engine.IO connection.
pub(super) struct Connection {
    pub(super) app: AppIndex,
    /// Whether it is not read from: too many of its handlers are unfinished.
    pub(super) paused: bool,
    /// Whether the application vouches for it: it may send large messages.
    pub(super) vouched: bool,
    /// Whether the application wants to hear of pings and pongs.
    pub(super) followed: bool,
    /// How packets are written for the client.
    pub(super) wire: Wire,
    pub(super) handlers: u32,
    pub(super) sid: Sid,
    pub(super) session: Session,
    /// What the transport has not taken yet.
    pub(super) outbox: Outbox,
    /// Absent while it is polling.
    pub(super) stream: Option<StreamState>,
    /// Absent once it is not polling.
    pub(super) polls: Option<Box<Polls>>,
    /// The tick of its valid entry in the wheel.
    pub(super) wheel_tick: Option<u64>,
    /// Where connections are limited: held for as long as this one is there.
    pub(super) _ticket: Option<Box<Ticket>>,
}

/// The stream of a WebSocket, with what is needed to go on reading it.
pub(super) struct StreamState {
    pub(super) io: Stream,
    pub(super) decoder: Decoder,
    /// The unfinished end of what was read; without allocation when there is none.
    pub(super) tail: Vec<u8>,
    /// Whether the stream has taken bytes that it has not passed on yet.
    pub(super) holds_back: bool,
    /// Wakes the task that drives the stream.
    pub(super) waker: Option<Waker>,
    /// Where that task finds the stream, if there is one; an upgrade moves it.
    pub(super) at: Option<Rc<Cell<ConnectionId>>>,
}

/// Who waits for the answer to a request.
pub(crate) enum Reply<T> {
    /// A task, which hears of it when this is dropped instead.
    Task(oneshot::Sender<T>),
    /// A connection of this worker's own reactor.
    Direct(Direct),
}

/// Who reads a POST, to be told when its session ends under it.
pub(crate) enum Cut {
    /// A task, which hears of it when this is dropped.
    Task(#[expect(dead_code, reason = "dropping it is what it is for")] oneshot::Sender<()>),
    /// A connection of this worker's own reactor.
    Direct(ConnectionId, Answers),
}

/// An HTTP connection of this worker's own reactor that waits for an answer, and where answers are queued. It gets one.
pub(crate) struct Direct {
    at: ConnectionId,
    answers: Option<Answers>,
}

/// Answers on their way to the HTTP connections of this worker.
pub(crate) type Answers = Rc<RefCell<VecDeque<(ConnectionId, Answer)>>>;

/// The answer to a request.
pub(crate) enum Answer {
    Get(GetAnswer),
    Post(PostAnswer),
    /// Its session is gone, and nobody answered.
    None,
    /// The session ended before the request was whole.
    Cut,
}

impl Direct {
    pub(super) const fn new(at: ConnectionId, answers: Answers) -> Self {
        Self { at, answers: Some(answers) }
    }

    fn answer(mut self, answer: Answer) {
        if let Some(answers) = self.answers.take() {
            answers.borrow_mut().push_back((self.at, answer));
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        if let Some(answers) = self.answers.take() {
            answers.borrow_mut().push_back((self.at, Answer::None));
        }
    }
}

impl<T: Into<Answer>> Reply<T> {
    /// Answers. Whoever asked may be gone: that the request was dropped is told by other ways.
    pub(crate) fn send(self, answer: T) {
        match self {
            Self::Task(task) => drop(task.send(answer)),
            Self::Direct(direct) => direct.answer(answer.into()),
        }
    }

    /// Whether nobody reads the answer.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Task(task) => task.is_closed(),
            // The worker itself ends what such a request belongs to.
            Self::Direct(_) => false,
        }
    }
}

impl Cut {
    /// Tells that the session has ended.
    pub(super) fn cut(self) {
        if let Self::Direct(at, answers) = self {
            answers.borrow_mut().push_back((at, Answer::Cut));
        }
    }
}

impl From<GetAnswer> for Answer {
    fn from(answer: GetAnswer) -> Self {
        Self::Get(answer)
    }
}

impl From<PostAnswer> for Answer {
    fn from(answer: PostAnswer) -> Self {
        Self::Post(answer)
    }
}

/// The open requests of a polling session.
#[derive(Default)]
pub(super) struct Polls {
    pub(super) get: Option<Reply<GetAnswer>>,
    /// Counts GETs, so that a late sign of an aborted one does not end the next.
    pub(super) get_number: u64,
    pub(super) post: Option<Post>,
    pub(super) post_number: u64,
    /// Dropped with the session, so that a POST still being read ends too.
    pub(super) posting: Option<Cut>,
    /// The place of the WebSocket that probes for an upgrade.
    pub(super) probe: Option<ConnectionId>,
}

/// A POST whose packets are being handed to the application.
pub(super) struct Post {
    pub(super) body: PostBody,
    /// How much of the body was read.
    pub(super) offset: usize,
    pub(super) packets: usize,
    pub(super) reply: Reply<PostAnswer>,
}

/// A WebSocket that asks to take a polling session over.
pub(super) struct Probe {
    pub(super) session: ConnectionId,
    pub(super) stream: StreamState,
}

/// How a WebSocket's end is announced to its peer.
#[derive(Clone, Debug)]
pub(super) enum Farewell {
    /// A close frame without a status, as the official server sends.
    Quiet,
    /// A close frame with the code of a violation; without a text, as the official server sends.
    Code(CloseCode),
    /// The answer to the peer's close frame, with its own code.
    Echo(Option<CloseCode>),
    /// The stream is broken or was ended by the peer without a close frame: nothing can be said.
    Gone,
}
