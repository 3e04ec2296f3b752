//! What clients were asked and have not answered, where the question outlives its connection.
//!
//! ```text
//!   emit_with_ack ─► begin (is there room?) ─► Shard.commit ─► Follower ─► committed ─► every worker: who has its socket asks it
//!   answer ─► whoever waits; and the store forgets the question, with all before it ─► Trim
//!                            or notes that it was answered, while one before it was not ─► Cursor, named by its position
//!   lost ─► back ─► what the stream still has and was not answered, behind the answer to the CONNECT
//! ```
//!
//! The questions to a session are a stream of its own. A session that nobody asks anything takes nothing here, and one that is away only
//! as long as somebody waits for its answers: the store knows the rest.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use posthaste_adapter::SocketId;
use posthaste_engine::ConnectionId;
use posthaste_history::store::{Message, Put, StreamName};
use posthaste_history::{Budget, Position};
use posthaste_socket_proto::Args;
use tokio::sync::oneshot;

use super::{DurableError, Form};
use crate::error::AckError;
use crate::recovery::random;

/// The stream of what a session was asked.
const QUESTIONS: &str = "q:";
/// Ids of durable questions begin here, and there are as many; those of others are below. Clients read ids as signed 32-bit numbers.
pub(crate) const FIRST_ID: u64 = 1 << 30;

/// Whoever waits for an answer.
pub(crate) type Waiter = oneshot::Sender<Result<Args<'static>, AckError>>;

/// The open questions of a namespace, by the sockets that were asked.
pub(crate) struct Questions(Mutex<State>);

struct State {
    sessions: HashMap<SocketId, Asked>,
    /// Random at first: another process that has the same store begins elsewhere.
    next: u64,
}

/// What one session was asked.
#[derive(Default)]
struct Asked {
    /// On its way to the store.
    begun: Vec<Question>,
    /// Committed, by position: from the first that was not answered on.
    open: VecDeque<(u64, Question)>,
    /// Where it is connected. If nowhere, this is for those who wait.
    live: Option<ConnectionId>,
    /// Whether the store has nothing more. It may, of one that was away when this began.
    is_whole: bool,
}

/// One question.
struct Question {
    /// It is told by this from others until it has a position.
    ticket: u64,
    /// What it takes in the store.
    cost: u64,
    is_answered: bool,
    waiter: Option<Waiter>,
}

/// An answer that counts.
pub(crate) struct Settled {
    /// Whoever waited for it.
    pub(crate) waiter: Option<Waiter>,
    pub(crate) passed: Passed,
}

/// What the store has to know of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Everything up to `through` was answered; of `marked` it knows by themselves.
    All { through: u64, marked: Vec<u64> },
    /// One before it is still open.
    Alone(u64),
}

impl Questions {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { sessions: HashMap::new(), next: u64::from_be_bytes(random()) }))
    }

    /// Somebody is to be asked, at this cost. Returns what the question is known by until it is [committed](Self::committed), or that
    /// too much is open.
    pub(crate) fn begin(
        &self,
        socket: SocketId,
        cost: u64,
        max: Budget,
        waiter: Waiter,
        live: Option<ConnectionId>,
    ) -> Result<u64, DurableError> {
        let mut state = self.lock();
        let ticket = state.next;
        let asked = state.sessions.entry(socket).or_default();
        // Also what was answered behind something open: the store has it as long as that.
        let (events, bytes) = asked.each().fold((0, 0), |(events, bytes), it| (events + 1, bytes + it.cost));
        if events >= max.max_events || bytes + cost > max.max_bytes as u64 {
            state.tidy(socket);
            return Err(DurableError::Unanswered { events, bytes });
        }
        asked.live = asked.live.or(live);
        // Who is connected has been asked all there was.
        asked.is_whole |= live.is_some();
        asked.begun.push(Question { ticket, cost, is_answered: false, waiter: Some(waiter) });
        state.next = ticket.wrapping_add(1);
        Ok(ticket)
    }

    /// It was not committed.
    pub(crate) fn fail(&self, socket: SocketId, ticket: u64, why: impl FnOnce() -> AckError) {
        let mut state = self.lock();
        let Some(asked) = state.sessions.get_mut(&socket) else { return };
        let Some(place) = asked.begun.iter().position(|it| it.ticket == ticket) else { return };
        let question = asked.begun.swap_remove(place);
        state.tidy(socket);
        drop(state);
        tell(question.waiter, Err(why()));
    }

    /// It was committed at `pos`: behind all others. Returns whether it is to be asked.
    pub(crate) fn committed(&self, socket: SocketId, ticket: u64, pos: u64) -> bool {
        let mut state = self.lock();
        let Some(asked) = state.sessions.get_mut(&socket) else { return false };
        let Some(place) = asked.begun.iter().position(|it| it.ticket == ticket) else { return false };
        let question = asked.begun.remove(place);
        asked.open.push_back((pos, question));
        true
    }

    /// Whether a question is still open, of a socket that is about to be asked it.
    pub(crate) fn is_open(&self, socket: SocketId, on: ConnectionId, pos: u64) -> bool {
        let mut state = self.lock();
        let Some(asked) = state.sessions.get_mut(&socket) else { return false };
        asked.live = Some(on);
        asked.open.binary_search_by_key(&pos, |(pos, _)| *pos).is_ok_and(|place| !asked.open[place].1.is_answered)
    }

    /// An answer has come: `is_its` says to which position.
    pub(crate) fn answer(&self, socket: SocketId, is_its: impl Fn(u64) -> bool) -> Option<Settled> {
        let mut state = self.lock();
        let asked = state.sessions.get_mut(&socket)?;
        let (pos, question) = asked.open.iter_mut().find(|(pos, question)| is_its(*pos) && !question.is_answered)?;
        question.is_answered = true;
        let (pos, waiter) = (*pos, question.waiter.take());
        let mut passed = Passed::Alone(pos);
        while let Some((there, _)) = asked.open.front().filter(|(_, question)| question.is_answered) {
            let (there, is_marked) = (*there, *there != pos);
            match &mut passed {
                Passed::All { through, marked } => {
                    *through = there;
                    marked.extend(is_marked.then_some(there));
                }
                // The first one that goes is the one that was answered now: else it had gone before.
                Passed::Alone(_) => passed = Passed::All { through: there, marked: Vec::new() },
            }
            asked.open.pop_front();
        }
        state.tidy(socket);
        Some(Settled { waiter, passed })
    }

    /// Nobody waits for an answer any more.
    pub(crate) fn give_up(&self, socket: SocketId, ticket: u64) {
        let mut state = self.lock();
        let Some(asked) = state.sessions.get_mut(&socket) else { return };
        if let Some(question) = asked.each().find(|it| it.ticket == ticket) {
            question.waiter = None;
        }
        state.tidy(socket);
    }

    /// A socket has lost its connection, and may come back, or is back.
    pub(crate) fn left(&self, socket: SocketId, on: ConnectionId) {
        let mut state = self.lock();
        if let Some(asked) = state.sessions.get_mut(&socket) {
            asked.live.take_if(|live| *live == on);
        }
        state.tidy(socket);
    }

    /// A session is over: whoever waits is told. Returns what the store has to know: that all of it is passed.
    pub(crate) fn end(&self, socket: SocketId) -> Option<Passed> {
        let mut asked = self.lock().sessions.remove(&socket)?;
        asked.each().for_each(|question| tell(question.waiter.take(), Err(AckError::Disconnected)));
        let (through, _) = *asked.open.back()?;
        let marked = asked.open.iter().filter(|(_, question)| question.is_answered).map(|(pos, _)| *pos).collect();
        Some(Passed::All { through, marked })
    }

    /// A session is back: whether something is open that it has to be asked again.
    pub(crate) fn opened(&self, socket: SocketId, on: ConnectionId) -> bool {
        let mut state = self.lock();
        let Some(asked) = state.sessions.get_mut(&socket) else { return false };
        asked.live = Some(on);
        !asked.open.is_empty()
    }

    /// Whether all that is open of a session is known.
    pub(crate) fn knows(&self, socket: SocketId) -> bool {
        self.lock().sessions.get(&socket).is_some_and(|asked| asked.is_whole)
    }

    /// What the store has of a session that is coming back: positions and costs, in order, and whether they were answered.
    pub(crate) fn load(&self, socket: SocketId, all: impl IntoIterator<Item = (u64, u64, bool)>) {
        let mut state = self.lock();
        let State { sessions, next } = &mut *state;
        let asked = sessions.entry(socket).or_default();
        asked.is_whole = true;
        // Something was asked meanwhile: that is committed behind these, and may be among them.
        for (pos, cost, is_answered) in all {
            if let Err(place) = asked.open.binary_search_by_key(&pos, |(pos, _)| *pos) {
                let ticket = *next;
                *next = ticket.wrapping_add(1);
                asked.open.insert(place, (pos, Question { ticket, cost, is_answered, waiter: None }));
            }
        }
        while asked.open.front().is_some_and(|(_, question)| question.is_answered) {
            asked.open.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets a session of which nothing has to be known any more.
    fn tidy(&mut self, socket: SocketId) {
        let Some(asked) = self.sessions.get_mut(&socket) else { return };
        let is_needed = asked.live.is_some() || asked.each().any(|question| question.waiter.is_some());
        if !is_needed || asked.begun.is_empty() && asked.open.is_empty() {
            self.sessions.remove(&socket);
        }
    }
}

impl Asked {
    fn each(&mut self) -> impl Iterator<Item = &mut Question> {
        self.begun.iter_mut().chain(self.open.iter_mut().map(|(_, question)| question))
    }
}

/// Tells whoever waits. A future that was dropped wants to hear nothing.
pub(crate) fn tell(waiter: Option<Waiter>, answer: Result<Args<'static>, AckError>) {
    if let Some(waiter) = waiter {
        drop(waiter.send(answer));
    }
}

/// The id that a question is asked under: the same over every connection, also to another process, so that a late answer counts. No other
/// question of the session has it, unless 2^30 positions lie between them.
pub(crate) fn id_of(position: Position) -> u64 {
    // Positions of another store begin anew: what is late of one is nothing here.
    FIRST_ID + position.pos.wrapping_add(u64::from(position.epoch.0)) % FIRST_ID
}

/// The stream of what a session was asked.
pub(crate) fn questions_of(socket: SocketId) -> StreamName {
    [QUESTIONS, socket.to_text().as_str()].concat().into()
}

/// A question as the store has it: its ticket (8 bytes, big-endian), then its [`Form`].
pub(crate) fn encode(ticket: u64, form: &Form) -> Bytes {
    let form = form.encode();
    let mut to = BytesMut::with_capacity(8 + form.len());
    to.put_u64(ticket);
    to.put_slice(&form);
    to.freeze()
}

/// Reads the stored form; `None` if it is none.
pub(crate) fn decode(mut from: Bytes) -> Option<(u64, Form)> {
    let ticket = from.try_get_u64().ok()?;
    Some((ticket, Form::decode(from)?))
}

/// Whose question was committed, if it is one.
pub(crate) fn asked_in(message: &Message) -> Option<SocketId> {
    SocketId::parse(message.stream.strip_prefix(QUESTIONS)?)
}

/// What a question takes of what may be open.
pub(crate) fn cost_of(payload: usize) -> u64 {
    payload as u64 + Put::OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Budget = Budget { max_bytes: 1_000, max_events: 3 };

    fn somebody() -> SocketId {
        SocketId::from_bytes([7; 15])
    }

    fn connection() -> ConnectionId {
        ConnectionId { worker: 0, slot: 1, generation: 2 }
    }

    /// A socket that was asked at these positions.
    fn asked(positions: &[u64]) -> (Questions, Vec<oneshot::Receiver<Result<Args<'static>, AckError>>>) {
        let questions = Questions::new();
        let mut answers = Vec::new();
        for pos in positions {
            let (waiter, answer) = oneshot::channel();
            let ticket = questions.begin(somebody(), 100, MAX, waiter, Some(connection())).unwrap();
            assert!(questions.committed(somebody(), ticket, *pos));
            answers.push(answer);
        }
        (questions, answers)
    }

    fn passed(questions: &Questions, pos: u64) -> Option<Passed> {
        questions.answer(somebody(), |it| it == pos).map(|settled| settled.passed)
    }

    #[test]
    fn answers_pass_what_is_answered_and_mark_what_is_behind_something_open() {
        let (questions, _answers) = asked(&[10, 20, 30]);
        assert_eq!(passed(&questions, 20), Some(Passed::Alone(20)));
        assert_eq!(passed(&questions, 20), None, "it came before");
        assert_eq!(passed(&questions, 15), None, "nobody asked");
        assert!(questions.is_open(somebody(), connection(), 10) && !questions.is_open(somebody(), connection(), 20));
        assert_eq!(passed(&questions, 10), Some(Passed::All { through: 20, marked: vec![20] }));
        assert_eq!(passed(&questions, 30), Some(Passed::All { through: 30, marked: Vec::new() }));
        assert!(!questions.knows(somebody()), "nothing is left");
    }

    #[test]
    fn no_more_is_open_than_may_be() {
        let (questions, _answers) = asked(&[1, 2]);
        let ask = |cost| questions.begin(somebody(), cost, MAX, oneshot::channel().0, Some(connection()));
        assert!(matches!(ask(801), Err(DurableError::Unanswered { events: 2, bytes: 200 })));
        let ticket = ask(800).unwrap();
        assert!(matches!(ask(0), Err(DurableError::Unanswered { events: 3, bytes: 1_000 })));
        questions.fail(somebody(), ticket, || AckError::Timeout);
        ask(800).unwrap();
        assert_eq!(passed(&questions, 2), Some(Passed::Alone(2)));
        assert!(ask(0).is_err(), "the store has it still");
        assert_eq!(passed(&questions, 1), Some(Passed::All { through: 2, marked: vec![2] }));
        ask(200).unwrap();
        ask(0).unwrap();
    }

    #[test]
    fn whoever_is_away_is_remembered_for_those_who_wait() {
        let (questions, mut answers) = asked(&[1, 2]);
        let before = ConnectionId { generation: 0, ..connection() };
        questions.left(somebody(), before);
        let is_live = || questions.lock().sessions[&somebody()].live.is_some();
        assert!(is_live(), "it is back");
        questions.left(somebody(), connection());
        assert!(!is_live());
        drop(answers.pop());
        let first = { questions.lock().sessions[&somebody()].open[0].1.ticket };
        questions.give_up(somebody(), first + 1);
        assert!(questions.knows(somebody()));
        questions.give_up(somebody(), first);
        assert!(!questions.knows(somebody()));
        questions.load(somebody(), [(1, 100, false), (2, 100, true)]);
        assert!(questions.opened(somebody(), connection()));
        assert!(questions.is_open(somebody(), connection(), 1) && !questions.is_open(somebody(), connection(), 2));
    }

    #[test]
    fn whoever_waits_for_a_session_that_is_over_is_told() {
        let (questions, answers) = asked(&[1, 2]);
        assert_eq!(questions.end(somebody()), Some(Passed::All { through: 2, marked: Vec::new() }));
        for mut answer in answers {
            assert!(matches!(answer.try_recv(), Ok(Err(AckError::Disconnected))));
        }
        assert_eq!(questions.end(somebody()), None);
    }

    #[test]
    fn ids_are_positive_for_clients_with_32_bits_and_no_ids_of_other_questions() {
        use posthaste_history::Epoch;
        for epoch in [0, 1, u32::MAX] {
            for pos in [0, 1, FIRST_ID - 1, FIRST_ID, u64::MAX] {
                let id = id_of(Position { epoch: Epoch(epoch), pos });
                assert!((FIRST_ID..1 << 31).contains(&id));
            }
        }
    }
}
