//! The answers to one broadcast.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use posthaste_socket_proto::Args;

/// Counts the answers to a broadcast: parties say how many sockets they addressed, sockets answer.
///
/// It is complete when every party has reported and every addressed socket has answered or is gone.
#[derive(Debug, Default)]
pub struct AckCollector {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Parties that have not said yet how many sockets they addressed.
    parties: usize,
    /// Sockets that were addressed.
    addressed: usize,
    /// Sockets that will not answer any more.
    lost: usize,
    answers: Vec<Args<'static>>,
    waiting: Option<Waker>,
}

/// What has come in.
#[derive(Clone, Debug)]
pub struct Answers {
    /// One entry for each socket that answered, in the order of arrival.
    pub answers: Vec<Args<'static>>,
    /// How many sockets were asked.
    pub addressed: usize,
    /// Whether every party has said how many it asked.
    pub all_reported: bool,
}

impl Answers {
    /// Whether everyone who was asked has answered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.all_reported && self.answers.len() == self.addressed
    }
}

impl AckCollector {
    /// Expects a report from that many more parties.
    pub fn expect(&self, parties: usize) {
        self.update(|state| state.parties += parties);
    }

    /// A party addressed that many sockets.
    pub fn addressed(&self, sockets: usize) {
        self.update(|state| {
            state.parties = state.parties.saturating_sub(1);
            state.addressed += sockets;
        });
    }

    /// A socket answered.
    pub fn answer(&self, args: Args<'static>) {
        self.update(|state| state.answers.push(args));
    }

    /// A socket that was addressed went away.
    pub fn lose(&self) {
        self.update(|state| state.lost += 1);
    }

    /// Ready when nothing more can come. Remembers the last waker.
    pub fn poll_done(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_done() {
            return Poll::Ready(());
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What has come in so far; it is taken out.
    pub fn take(&self) -> Answers {
        let mut state = self.lock();
        Answers {
            answers: std::mem::take(&mut state.answers),
            addressed: state.addressed,
            all_reported: state.parties == 0,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        let woken = {
            let mut state = self.lock();
            change(&mut state);
            if state.is_done() { state.waiting.take() } else { None }
        };
        if let Some(waker) = woken {
            waker.wake();
        }
    }
}

impl State {
    fn is_done(&self) -> bool {
        self.parties == 0 && self.answers.len() + self.lost >= self.addressed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &'static str) -> Args<'static> {
        Args::decode(text, Vec::new()).expect("a JSON array")
    }

    fn is_done(collector: &AckCollector) -> bool {
        collector.poll_done(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn it_is_complete_when_all_parties_reported_and_all_sockets_answered() {
        let collector = AckCollector::default();
        collector.expect(2);
        collector.addressed(1);
        collector.answer(args("[1]"));
        assert!(!is_done(&collector), "the other party may have addressed more");
        collector.addressed(1);
        assert!(!is_done(&collector));
        collector.answer(args("[2]"));
        assert!(is_done(&collector));
        let answers = collector.take();
        assert!(answers.is_complete());
        assert_eq!(answers.answers.iter().map(Args::raw).collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn a_socket_that_leaves_is_not_waited_for_and_not_counted_as_an_answer() {
        let collector = AckCollector::default();
        collector.expect(1);
        collector.addressed(2);
        collector.answer(args("[1]"));
        collector.lose();
        assert!(is_done(&collector));
        assert!(!collector.take().is_complete());
    }
}
