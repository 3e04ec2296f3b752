//! What is there when queues are opened again.

use std::mem;
use std::sync::Arc;

use posthaste_history::store::{Answer, Durability, StoreError, Timestamp};

use super::model::{Message, Place};
use super::run::Run;
use super::steps::{Draft, QUEUES};
use super::{Violation, ensure, violation};
use crate::port::{
    Capabilities, Command, ConsumerId, Delivery, Effect, Listener, Outcome, Overflow, Put, Queues, Refusal, State,
};

/// Where nobody takes anything: what is put here was written after all before it.
const MARKS: u8 = QUEUES;

impl Run {
    pub(super) fn reopen(&mut self) -> Result<(), Violation> {
        self.again(|run, queues| run.bed.close(queues))
    }

    /// Puts something, and kills the process when that is known to be written (`is_heard`), or at once.
    pub(super) fn kill(&mut self, drafts: &[Draft], is_heard: bool) -> Result<(), Violation> {
        self.quiet()?;
        self.compare()?;
        // What nobody waits for is written with this.
        self.put(&[Draft { queue: MARKS, ..Draft::default() }])?;
        if is_heard {
            self.put(drafts)?;
            self.hear()?;
            return self.again(|run, queues| run.bed.kill(queues));
        }
        self.hear()?;
        let plain = |draft: &Draft| Draft { dedup: None, ..draft.clone() };
        let puts: Vec<Put> = drafts.iter().map(|draft| self.make(&plain(draft))).collect();
        let is_possible = puts.iter().all(|put| self.model.config(&put.queue).overflow == Overflow::Reject);
        let is_possible = is_possible && self.model.clone().put(&puts, &[]).is_ok();
        if is_possible {
            drop(self.queues.ask(self.clock.now(), Command::Put(puts.clone())));
        }
        self.again(|run, queues| run.bed.kill(queues))?;
        if !is_possible || !self.queues.capabilities().survives_restart {
            return Ok(());
        }
        // All of it or nothing; what was seen of it has to be there.
        let mut ids = Vec::new();
        for put in &puts {
            ids.extend(self.search(put)?);
        }
        let rule = "what is given out is stored";
        let seen: Vec<_> = self.early.drain(..).collect();
        let payloads = |put: &Put| seen.iter().any(|it| it.payload == put.payload);
        let is_seen = puts.iter().any(payloads);
        ensure(rule, !is_seen || ids.len() == puts.len(), || format!("{seen:?}, and {ids:?} are there"))?;
        let is_whole = ids.is_empty() || ids.len() == puts.len();
        ensure("a put of several happens or does not", is_whole, || format!("{ids:?} of {puts:?}"))?;
        if ids.is_empty() {
            return Ok(());
        }
        self.greatest = self.greatest.max(ids.iter().copied().max().unwrap_or_default());
        self.model.put(&puts, &ids).map_err(|code| violation(rule, code.into()))?;
        for given in seen {
            self.model.find(given.id).into_iter().for_each(|message| lease(message, &given));
        }
        self.reconcile()
    }

    fn again(&mut self, end: fn(&mut Self, Arc<dyn Queues>)) -> Result<(), Violation> {
        let survives = self.queues.capabilities().survives_restart;
        // Nothing else holds them when they end.
        let queues = mem::replace(&mut self.queues, Arc::new(Nothing));
        end(self, queues);
        for effect in self.take_heard() {
            let Effect::Granted(given) = effect else { continue };
            self.tokens.push((given.token, given.id));
            match self.model.find(given.id) {
                Some(message) => lease(message, &given),
                None => self.early.push(given),
            }
        }
        self.queues = self.bed.open(&self.clock);
        self.listen();
        self.model.consumers.clear();
        self.passed.clear();
        self.overlooked.clear();
        let now = self.model.now;
        for queue in &mut self.model.queues {
            queue.bucket = super::bucket::Bucket::unknown(queue.config.rate, now);
            let unknown = super::bucket::Bucket::unknown(queue.config.key_rate, now);
            queue.key_buckets.iter_mut().for_each(|it| it.1 = unknown);
        }
        if !survives {
            self.model = super::model::Model { now, ..Default::default() };
            (self.greatest, self.tokens, self.early) = (0, Vec::new(), Vec::new());
            return Ok(());
        }
        self.reconcile()
    }

    /// Leases may be over: nobody waited for them. All else is as it was.
    fn reconcile(&mut self) -> Result<(), Violation> {
        let leased: Vec<Message> =
            self.model.messages.iter().filter(|it| it.state(0) == State::Leased).cloned().collect();
        for message in leased {
            let rule = "what had its receipt is there after a restart";
            let Some(found) = self.get(message.id)? else { return Err(violation(rule, format!("{message:?}"))) };
            let now = self.model.now;
            let Some(there) = self.model.find(message.id) else { continue };
            if found.state != State::Leased {
                let counts = found.rest.deliveries;
                let is_counted = counts == there.deliveries || counts + 1 == there.deliveries;
                ensure(rule, is_counted, || format!("{found:?} instead of {message:?}"))?;
                (there.deliveries, there.place) = (counts, Place::From(now, now));
            }
        }
        let mut expected: Vec<ConsumerId> = Vec::new();
        for message in &self.model.messages {
            if let Place::Leased { consumer, .. } = message.place {
                expected.push(consumer);
            }
        }
        expected.sort_unstable();
        expected.dedup();
        let rule = "whoever had leases before a restart is known";
        let outcome = self.done(rule, Command::Orphans)?;
        let Outcome::Consumers(mut found) = outcome else { return Err(violation(rule, format!("{outcome:?}"))) };
        found.sort_unstable();
        ensure(rule, found == expected, || format!("{found:?} instead of {expected:?}"))?;
        self.orphans = expected;
        Ok(())
    }
}

/// A message was given out when nobody looked any more.
fn lease(message: &mut Message, given: &Delivery) {
    let (token, consumer, since, deadline) = (given.token, given.consumer, message.at, given.deadline.0);
    message.place = Place::Leased { token, consumer, since, length: deadline - since, deadline };
    message.deliveries = given.deliveries;
}

/// What is there while queues are opened again.
struct Nothing;

impl Queues for Nothing {
    fn ask(&self, _: Timestamp, _: Command) -> Answer<Result<Outcome, Refusal>> {
        Box::pin(std::future::ready(Err(StoreError::Closed)))
    }

    fn tick(&self, _: Timestamp) -> Option<Timestamp> {
        None
    }

    fn listen(&self, _: Option<Listener>) {}

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability: Durability::Memory,
            survives_restart: false,
            keeps_time: false,
            max_payload: 0,
            max_batch: 0,
        }
    }
}
