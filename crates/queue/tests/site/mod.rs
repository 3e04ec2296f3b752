//! A site with queues in memory, a clock that is set, and everything that was heard.
#![allow(dead_code, reason = "each test uses what it needs")]
#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

pub(crate) mod nothing;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use posthaste_history::store::{Durability, Timestamp, wait};
use posthaste_queue::*;

pub(crate) struct Site {
    pub(crate) queues: MemoryQueues,
    pub(crate) now: u64,
    heard: Arc<Mutex<Vec<Effect>>>,
}

pub(crate) fn name(name: &str) -> QueueName {
    name.into()
}

pub(crate) fn message(queue: &str, payload: &str) -> Put {
    Put::new(&name(queue), Bytes::copy_from_slice(payload.as_bytes()), Durability::Memory)
}

pub(crate) fn keyed(queue: &str, key: &str, payload: &str) -> Put {
    Put { key: Some(key.into()), ..message(queue, payload) }
}

pub(crate) fn consumer(consumer: ConsumerId, queue: &str, prefetch: u32) -> Consume {
    Consume { consumer, queue: name(queue), prefetch, bytes: u64::MAX, lease_ms: None, keys: None, once: None }
}

pub(crate) fn all(states: &[State]) -> Select {
    Select { states: states.to_vec(), id: None, max: None }
}

impl Default for Site {
    fn default() -> Self {
        Self::with(MemoryQueues::limits())
    }
}

impl Site {
    pub(crate) fn with(limits: Limits) -> Self {
        let queues = MemoryQueues::new(limits, 1);
        let heard: Arc<Mutex<Vec<Effect>>> = Arc::default();
        let ear = heard.clone();
        queues.listen(Some(Arc::new(move |effects| ear.lock().unwrap().extend(effects))));
        Self { queues, now: 1_000_000, heard }
    }

    pub(crate) fn ask(&self, command: Command) -> Result<Outcome, Refusal> {
        wait(self.queues.ask(Timestamp(self.now), command)).unwrap()
    }

    pub(crate) fn done(&self, command: Command) {
        assert_eq!(self.ask(command), Ok(Outcome::Done));
    }

    pub(crate) fn put(&self, put: Put) -> MessageId {
        self.receipt(put).unwrap().id
    }

    pub(crate) fn receipt(&self, put: Put) -> Result<Receipt, Refusal> {
        match self.ask(Command::Put(vec![put]))? {
            Outcome::Put(receipts) => Ok(receipts[0]),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn configure(&self, queue: &str, config: Config) {
        self.done(Command::Configure(name(queue), Box::new(config)));
    }

    pub(crate) fn settle(&self, delivery: &Delivery, verdict: Verdict) -> Result<Settled, Refusal> {
        let settle = Settle { id: delivery.id, token: delivery.token, verdict };
        match self.ask(Command::Settle(vec![settle])).unwrap() {
            Outcome::Settled(mut settled) => settled.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn finish(&self, delivery: &Delivery) {
        assert_eq!(self.settle(delivery, Verdict::Done(None)), Ok(Settled::Ended));
    }

    pub(crate) fn retry(&self, delivery: &Delivery, after_ms: Option<u64>) {
        assert_eq!(self.settle(delivery, Verdict::Retry { after_ms, why: "why".into() }), Ok(Settled::Ended));
    }

    /// What was heard since it was last asked.
    pub(crate) fn heard(&self) -> Vec<Effect> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }

    /// What was given out since it was last asked; forgets the rest.
    pub(crate) fn given(&self) -> Vec<Delivery> {
        let granted = |effect| if let Effect::Granted(delivery) = effect { Some(delivery) } else { None };
        self.heard().into_iter().filter_map(granted).collect()
    }

    pub(crate) fn given_ids(&self) -> Vec<MessageId> {
        self.given().iter().map(|delivery| delivery.id).collect()
    }

    pub(crate) fn one(&self) -> Delivery {
        let mut given = self.given();
        assert_eq!(given.len(), 1, "{given:?}");
        given.remove(0)
    }

    /// Time goes on, and everything it brings is done.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now += ms;
        while self.queues.tick(Timestamp(self.now)).is_some_and(|at| at.0 <= self.now) {}
    }

    pub(crate) fn depth(&self, queue: &str) -> Depth {
        match self.ask(Command::Stats(name(queue))).unwrap() {
            Outcome::Depth(depth) => depth,
            other => panic!("{other:?}"),
        }
    }

    /// Ready, leased, delayed, dead.
    pub(crate) fn counts(&self, queue: &str) -> [u64; 4] {
        let depth = self.depth(queue);
        [depth.ready, depth.leased, depth.delayed, depth.dead]
    }

    pub(crate) fn peek(&self, queue: &str, state: State) -> Vec<Found> {
        match self.ask(Command::Peek { queue: name(queue), state, after: 0, max: 100 }).unwrap() {
            Outcome::Page(found, _) => found,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn found(&self, id: MessageId) -> Found {
        match self.ask(Command::Get(id)).unwrap() {
            Outcome::Messages(mut found) => found.remove(0),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn count(&self, command: Command) -> u64 {
        match self.ask(command).unwrap() {
            Outcome::Count(count) => count,
            other => panic!("{other:?}"),
        }
    }
}
