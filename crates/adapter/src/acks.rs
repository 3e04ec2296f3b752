//! The answers to one question that went to many.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use posthaste_socket_proto::Args;

use crate::room::SocketId;

/// Where the answers to a question go: to whoever asked, or into a message to the node that did.
///
/// Nodes say how many they asked, those who were asked answer or are lost; in any order, but for [`AnswerSink::expect`].
pub trait AnswerSink: Send + Sync {
    /// That many more nodes will say how many they asked. Called before the call that asks has returned, and for a node before
    /// it says so.
    fn expect(&self, nodes: usize);

    /// A node asked that many; it says so once.
    fn asked(&self, count: usize);

    /// Somebody answered. `from` is absent when the answer came from a server, or from a socket of a server that does not tell.
    fn answer(&self, from: Option<SocketId>, args: Args<'static>);

    /// That many of those who were asked will not answer any more.
    fn lose(&self, count: usize);
}

impl fmt::Debug for dyn AnswerSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerSink")
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The socket it is from, where that is known.
    pub from: Option<SocketId>,
    /// What it says.
    pub args: Args<'static>,
}

impl Reply {
    /// What it costs to keep it, in bytes.
    fn cost(&self) -> usize {
        size_of::<Self>() + self.args.raw().len() + self.args.attachments().iter().map(Bytes::len).sum::<usize>()
    }
}

/// Collects answers: complete when every node has said how many it asked, and all of those have answered or are gone.
///
/// The size of answers is their senders' choice, so what is kept of them has a bound: an answer past it is refused, and counts as
/// one that did not come. What was taken out is kept no more.
#[derive(Debug)]
pub struct AckCollector {
    /// Ends with the first answer.
    single: bool,
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// Cost of what is kept, in bytes.
    bytes: usize,
    replies: VecDeque<Reply>,
    waiting: Option<Waker>,
    /// Nobody will take anything out any more.
    closed: bool,
}

/// How a question stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes that have not said yet how many they asked.
    pub nodes: usize,
    /// How many were asked.
    pub asked: usize,
    /// How many answered, those refused left out.
    pub answered: usize,
    /// How many will not answer any more.
    pub lost: usize,
    /// How many answers were refused, because too much was kept already.
    pub refused: usize,
}

impl Counts {
    /// Whether everyone who was asked has answered.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.nodes == 0 && self.answered >= self.asked
    }

    /// Whether nothing more can come.
    const fn is_done(&self) -> bool {
        self.nodes == 0 && self.answered + self.lost + self.refused >= self.asked
    }
}

impl AckCollector {
    /// Collects the answers of all who are asked; keeps at most `max_bytes` of them at a time.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self { single: false, max_bytes, state: Mutex::default() }
    }

    /// Is done with the first answer, or when none can come.
    #[must_use]
    pub fn single(max_bytes: usize) -> Self {
        Self { single: true, ..Self::new(max_bytes) }
    }

    /// Ready when nothing more can come. Remembers the last waker.
    pub fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if self.is_done(&state) {
            return Poll::Ready(());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes out the next answer; `None` when nothing more can come. Remembers the last waker.
    pub fn poll_reply(&self, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        let mut state = self.lock();
        if let Some(reply) = state.replies.pop_front() {
            state.bytes -= reply.cost();
            return Poll::Ready(Some(reply));
        }
        if self.is_done(&state) {
            return Poll::Ready(None);
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes out what has come in, in the order of arrival.
    pub fn take(&self) -> Vec<Reply> {
        let mut state = self.lock();
        state.bytes = 0;
        std::mem::take(&mut state.replies).into()
    }

    /// How it stands.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Nobody waits any more: what is kept is dropped, and so is what comes.
    pub fn close(&self) {
        let (replies, waiting) = {
            let mut state = self.lock();
            state.closed = true;
            state.bytes = 0;
            (std::mem::take(&mut state.replies), state.waiting.take())
        };
        drop((replies, waiting));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_done(&self, state: &State) -> bool {
        state.counts.is_done() || self.single && state.counts.answered > 0
    }

    /// `change` says whether whoever waits may have something to do.
    fn update(&self, change: impl FnOnce(&mut State) -> bool) {
        let woken = {
            let mut state = self.lock();
            let news = change(&mut state);
            if news || self.is_done(&state) { state.waiting.take() } else { None }
        };
        if let Some(waker) = woken {
            waker.wake();
        }
    }
}

impl AnswerSink for AckCollector {
    fn expect(&self, nodes: usize) {
        self.update(|state| {
            state.counts.nodes += nodes;
            false
        });
    }

    fn asked(&self, count: usize) {
        self.update(|state| {
            state.counts.nodes = state.counts.nodes.saturating_sub(1);
            state.counts.asked += count;
            false
        });
    }

    fn answer(&self, from: Option<SocketId>, args: Args<'static>) {
        let reply = Reply { from, args };
        self.update(|state| {
            let cost = reply.cost();
            if state.closed || state.bytes.saturating_add(cost) > self.max_bytes {
                state.counts.refused += 1;
                return false;
            }
            state.counts.answered += 1;
            state.bytes += cost;
            state.replies.push_back(reply);
            true
        });
    }

    fn lose(&self, count: usize) {
        self.update(|state| {
            state.counts.lost += count;
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLENTY: usize = 1 << 20;

    fn args(text: &str) -> Args<'static> {
        Args::decode(text, Vec::new()).expect("a JSON array").into_owned()
    }

    fn is_done(collector: &AckCollector) -> bool {
        collector.poll_done(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn next(collector: &AckCollector) -> Poll<Option<String>> {
        let reply = collector.poll_reply(&mut Context::from_waker(Waker::noop()));
        reply.map(|reply| reply.map(|reply| reply.args.raw().to_owned()))
    }

    #[test]
    fn it_is_complete_when_all_nodes_reported_and_all_sockets_answered() {
        let collector = AckCollector::new(PLENTY);
        collector.expect(2);
        collector.asked(1);
        collector.answer(None, args("[1]"));
        assert!(!is_done(&collector), "the other node may have asked more");
        collector.asked(1);
        assert!(!is_done(&collector));
        collector.answer(None, args("[2]"));
        assert!(is_done(&collector));
        assert!(collector.counts().is_complete());
        assert_eq!(collector.take().iter().map(|reply| reply.args.raw()).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_socket_that_leaves_is_not_waited_for_and_not_counted_as_an_answer() {
        let collector = AckCollector::new(PLENTY);
        collector.expect(1);
        collector.asked(2);
        collector.answer(None, args("[1]"));
        collector.lose(1);
        assert!(is_done(&collector));
        assert!(!collector.counts().is_complete());
    }

    #[test]
    fn answers_can_be_taken_as_they_come_and_end_when_no_more_can() {
        let collector = AckCollector::new(PLENTY);
        collector.expect(1);
        // A fast socket answers before its node has counted.
        collector.answer(None, args("[1]"));
        assert_eq!(next(&collector), Poll::Ready(Some("1".to_owned())));
        assert_eq!(next(&collector), Poll::Pending);
        collector.asked(2);
        collector.answer(None, args("[2]"));
        assert_eq!(next(&collector), Poll::Ready(Some("2".to_owned())));
        assert_eq!(next(&collector), Poll::Ready(None));
        assert!(collector.counts().is_complete());
    }

    #[test]
    fn answers_past_the_bound_are_refused_and_what_was_taken_makes_room() {
        let answer = args(&format!("[\"{}\"]", "x".repeat(1000)));
        let cost = Reply { from: None, args: answer.clone() }.cost();
        assert!(cost > 1000);
        let collector = AckCollector::new(2 * cost);
        collector.expect(1);
        collector.asked(4);
        for _ in 0..3 {
            collector.answer(None, answer.clone());
        }
        assert!(matches!(next(&collector), Poll::Ready(Some(_))));
        collector.answer(None, answer);
        assert!(is_done(&collector));
        assert_eq!(collector.take().len(), 2);
        assert_eq!(collector.counts(), Counts { asked: 4, answered: 3, refused: 1, ..Counts::default() });
        assert!(!collector.counts().is_complete());
    }

    #[test]
    fn the_first_answer_is_enough_for_a_single_one() {
        let collector = AckCollector::single(PLENTY);
        collector.expect(3);
        collector.asked(0);
        assert!(!is_done(&collector));
        collector.answer(None, args("[1]"));
        assert!(is_done(&collector));
        let nobody = AckCollector::single(PLENTY);
        nobody.expect(1);
        nobody.asked(0);
        assert!(is_done(&nobody));
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let collector = AckCollector::new(PLENTY);
        collector.expect(1);
        collector.asked(2);
        collector.answer(None, args("[1]"));
        collector.close();
        collector.answer(None, args("[2]"));
        assert!(collector.take().is_empty());
    }
}
