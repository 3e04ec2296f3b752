//! Queues and their model, step by step.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use posthaste_history::store::{Durability, Timestamp, wait};

use super::model::{Consumer, Model, Place as At};
use super::steps::{Draft, Foreign, Mistake, Say, Step, Taker};
use super::{Bed, Clock, Place, Violation, ensure, violation};
use crate::port::{
    Command, Config, Consume, ConsumerId, Dedup, Delivery, Effect, MessageId, Outcome, Overflow, Put, QueueName,
    Queues, Refusal, Select, Settle, Settled, State, Stop, Token, Verdict,
};

pub(super) fn steps(place: &dyn Place, steps: &[Step]) -> Result<(), Violation> {
    let mut run = Run::new(place.fresh())?;
    for (number, step) in steps.iter().enumerate() {
        run.whole_step(step).map_err(|it| {
            let step: String = format!("{step:?}").chars().take(400).collect();
            Violation { detail: format!("{}; step {number}: {step}", it.detail), ..it }
        })?;
    }
    Ok(())
}

pub(super) struct Run {
    pub(super) bed: Box<dyn Bed>,
    pub(super) clock: Clock,
    pub(super) queues: Arc<dyn Queues>,
    pub(super) model: Model,
    pub(super) heard: Arc<Mutex<Vec<Effect>>>,
    /// All there ever were, with the message.
    pub(super) tokens: Vec<(Token, MessageId)>,
    /// Those that this run calls 0, 1, …
    pub(super) consumers: Vec<ConsumerId>,
    next_consumer: ConsumerId,
    /// Those that had leases before a restart, and were not heard of since.
    pub(super) orphans: Vec<ConsumerId>,
    /// Given out just before a restart.
    pub(super) early: Vec<Delivery>,
    puts: u64,
    /// The greatest number a message has had.
    pub(super) greatest: MessageId,
    /// How often others were given out while these could have been: by queue, priority and key.
    pub(super) passed: Vec<(QueueName, u8, Option<Arc<str>>, u64)>,
    /// The same for consumers.
    pub(super) overlooked: Vec<(ConsumerId, u64)>,
}

pub(super) fn name(queue: u8) -> QueueName {
    format!("contract:{queue}").into()
}

pub(super) fn key(key: u8) -> Arc<str> {
    format!("key {key}").into()
}

pub(super) fn code<T>(answer: &Result<T, Refusal>) -> &'static str {
    answer.as_ref().map_or_else(Refusal::code, |_| "done")
}

impl Run {
    fn new(mut bed: Box<dyn Bed>) -> Result<Self, Violation> {
        let clock = Clock::new(1_700_000_000_000);
        let queues = bed.open(&clock);
        let model = Model { now: clock.now().0, ..Model::default() };
        let (passed, overlooked, consumers) = (Vec::new(), Vec::new(), (1..=super::steps::CONSUMERS.into()).collect());
        let mut run = Self {
            bed,
            clock,
            queues,
            model,
            heard: Arc::default(),
            tokens: Vec::new(),
            consumers,
            next_consumer: 100,
            orphans: Vec::new(),
            early: Vec::new(),
            puts: 0,
            greatest: 0,
            passed,
            overlooked,
        };
        run.listen();
        for queue in 0..super::steps::QUEUES {
            run.configure(&name(queue), super::steps::config())?;
        }
        run.quiet()?;
        Ok(run)
    }

    pub(super) fn listen(&self) {
        let heard = self.heard.clone();
        self.queues.listen(Some(Arc::new(move |effects: Vec<Effect>| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).extend(effects);
        })));
    }

    fn whole_step(&mut self, step: &Step) -> Result<(), Violation> {
        self.step(step)?;
        self.quiet()?;
        self.compare()
    }

    pub(super) fn ask(&mut self, command: Command) -> Result<Result<Outcome, Refusal>, Violation> {
        self.model.time(self.clock.now().0);
        let shown = format!("{command:?}");
        wait(self.queues.ask(self.clock.now(), command))
            .map_err(|error| violation("queues that are well answer", format!("{error}: {shown}")))
    }

    /// Something that has to be done.
    pub(super) fn done(&mut self, rule: &'static str, command: Command) -> Result<Outcome, Violation> {
        self.ask(command)?.map_err(|refusal| violation(rule, format!("refused: {refusal}")))
    }

    /// Waits until nothing more happens at this time, and hears of it.
    pub(super) fn quiet(&mut self) -> Result<(), Violation> {
        let mut announced = self.queues.tick(self.clock.now());
        // A long list is worked off piece by piece.
        for _ in 0..1_000 {
            if announced.is_none_or(|at| at > self.clock.now()) {
                break;
            }
            announced = self.queues.tick(self.clock.now());
        }
        for _ in 0..2 {
            let _ = self.ask(Command::List { after: "".into(), max: 1 })?;
        }
        self.hear()?;
        self.nothing_is_left()?;
        if let (Some(announced), Some(next)) = (announced, self.model.next()) {
            let rule = "what time brings is announced";
            ensure(rule, announced.0 <= next, || {
                format!("in {} ms instead of {}", announced.0 - self.model.now, next - self.model.now)
            })?;
        }
        Ok(())
    }

    fn wait(&mut self, time: u64) -> Result<(), Violation> {
        let end = self.clock.now().0 + time;
        while let Some(next) = self.model.next().filter(|next| *next <= end) {
            // Not before: the millisecond before it is looked at as well.
            for at in [next - 1, next] {
                if at > self.clock.now().0 {
                    self.clock.set(at);
                    self.quiet()?;
                    self.compare()?;
                }
            }
        }
        self.clock.set(end);
        Ok(())
    }

    pub(super) fn make(&mut self, draft: &Draft) -> Put {
        self.puts += 1;
        let mut payload = self.puts.to_be_bytes().to_vec();
        payload.resize(draft.size.max(8), b'x');
        let now = self.clock.now().0;
        let can = self.queues.capabilities().durability;
        let durability = if self.puts.is_multiple_of(3) { Durability::Os } else { Durability::Disk }.min(can);
        Put {
            due: draft.delay.map(|delay| Timestamp(now + delay)),
            priority: draft.priority,
            key: draft.key.map(key),
            dedup: draft.dedup.map(|(which, mode, window_ms)| Dedup { key: key(which), mode, window_ms }),
            expires: draft.ttl.map(|ttl| Timestamp(now + ttl)),
            attempts: draft.attempts,
            backoff: draft.backoff.clone().map(Box::new),
            keep_result_ms: draft.keep,
            headers: Bytes::copy_from_slice(&self.puts.to_le_bytes()[..2]),
            ..Put::new(&name(draft.queue), payload.into(), durability)
        }
    }

    pub(super) fn put(&mut self, drafts: &[Draft]) -> Result<(), Violation> {
        let puts: Vec<Put> = drafts.iter().map(|draft| self.make(draft)).collect();
        let answer = self.ask(Command::Put(puts.clone()))?;
        let ids: Vec<MessageId> = match &answer {
            Ok(Outcome::Put(receipts)) => receipts.iter().map(|receipt| receipt.id).collect(),
            _ => Vec::new(),
        };
        let expected = self.model.put(&puts, &ids);
        let (receipts, expected) = match (answer, expected) {
            (Ok(Outcome::Put(receipts)), Ok(expected)) => (receipts, expected),
            (Ok(outcome), Ok(_)) => return Err(violation("a put has receipts", format!("{outcome:?}"))),
            (answer, expected) => {
                let rule = match expected {
                    Err("queue_full") => "a queue has no more than it may",
                    Err(_) => "a queue that is drained takes nothing in",
                    Ok(_) => "what keeps to the rules is put",
                };
                let (found, expected) = (code(&answer), expected.err().unwrap_or("done"));
                return ensure(rule, found == expected, || format!("{found} instead of {expected}"));
            }
        };
        ensure("a put has a receipt for each message", receipts.len() == puts.len(), || format!("{receipts:?}"))?;
        for ((receipt, (id, dup)), put) in receipts.iter().zip(expected).zip(&puts) {
            let same = (receipt.id, receipt.dup) == (id, dup);
            ensure("a key that stands for a message stores no other", same, || {
                format!("{receipt:?} instead of {id}, dup {dup}: {:?}", put.dedup)
            })?;
            let can = self.queues.capabilities().durability;
            let reached = receipt.durability >= put.durability && receipt.durability <= can;
            ensure("a receipt promises what was asked for and can be reached", reached, || format!("{receipt:?}"))?;
            if !dup {
                let is_new = receipt.id > self.greatest;
                ensure("later messages have greater numbers", is_new, || {
                    format!("{} after {}", receipt.id, self.greatest)
                })?;
                self.greatest = receipt.id;
            }
        }
        Ok(())
    }

    fn put_unheard(&mut self, drafts: &[Draft]) -> Result<(), Violation> {
        // Where the oldest goes one of these may be gone again: not for today.
        if drafts.iter().any(|draft| self.model.config(&name(draft.queue)).overflow != Overflow::Reject) {
            return self.put(drafts);
        }
        let puts: Vec<Put> = drafts.iter().map(|draft| self.make(draft)).collect();
        drop(self.queues.ask(self.clock.now(), Command::Put(puts.clone())));
        if self.model.clone().put(&puts, &[]).is_err() {
            return Ok(());
        }
        let mut ids = Vec::new();
        for put in &puts {
            ids.extend(self.search(put)?);
        }
        let rule = "dropping a future takes nothing back";
        ensure(rule, ids.len() == puts.len(), || format!("{ids:?} of {puts:?}"))?;
        self.greatest = self.greatest.max(ids.iter().copied().max().unwrap_or_default());
        self.model.put(&puts, &ids).map(drop).map_err(|code| violation(rule, code.into()))
    }

    /// The number of a message that was put, by what is in it.
    pub(super) fn search(&mut self, put: &Put) -> Result<Option<MessageId>, Violation> {
        for state in [State::Ready, State::Delayed, State::Leased, State::Dead] {
            let found = self.peek(&put.queue, state, usize::MAX)?;
            if let Some(found) = found.iter().find(|found| found.payload == put.payload) {
                return Ok(Some(found.id));
            }
        }
        Ok(None)
    }

    fn configure(&mut self, queue: &QueueName, config: Config) -> Result<(), Violation> {
        let rule = "what can be allowed is allowed";
        let outcome = self.done(rule, Command::Configure(queue.clone(), Box::new(config.clone())))?;
        ensure(rule, outcome == Outcome::Done, || format!("{outcome:?}"))?;
        let now = self.model.now;
        let queue = self.model.queue(queue);
        if queue.config.rate != config.rate {
            queue.bucket = super::bucket::Bucket::unknown(config.rate, now);
        }
        if queue.config.key_rate != config.key_rate {
            let unknown = super::bucket::Bucket::unknown(config.key_rate, now);
            queue.key_buckets = (0..8).map(|number| (key(number), unknown)).collect();
        }
        queue.config = config;
        Ok(())
    }

    fn consume(&mut self, slot: u8, taker: &Taker) -> Result<(), Violation> {
        let slot = usize::from(slot);
        let old = self.consumers[slot];
        let is_there = self.model.consumers.iter().any(|it| it.asked.consumer == old);
        if is_there {
            self.stop(old, Stop::Keep)?;
        }
        // One that was there before a restart goes on.
        if !self.orphans.contains(&old) {
            self.next_consumer += 1;
            self.consumers[slot] = self.next_consumer;
        }
        let asked = Consume {
            consumer: self.consumers[slot],
            queue: name(taker.queue),
            prefetch: taker.prefetch,
            bytes: taker.bytes,
            lease_ms: taker.lease,
            keys: taker.keys.as_ref().map(|keys| keys.iter().map(|number| key(*number)).collect()),
            once: taker.once,
        };
        self.orphans.retain(|it| *it != asked.consumer);
        let outcome = self.done("whoever asks may take", Command::Consume(asked.clone()))?;
        ensure("whoever asks may take", outcome == Outcome::Done, || format!("{outcome:?}"))?;
        self.model.queue(&asked.queue);
        self.model.consumers.push(Consumer { left: asked.once, asked, is_held: false });
        Ok(())
    }

    fn stop(&mut self, consumer: ConsumerId, stop: Stop) -> Result<(), Violation> {
        let rule = "whoever stops has stopped";
        let outcome = self.done(rule, Command::Stop(consumer, stop))?;
        ensure(rule, outcome == Outcome::Done, || format!("{outcome:?}"))?;
        let was_there = self.model.consumers.iter().any(|it| it.asked.consumer == consumer);
        self.model.consumers.retain(|it| it.asked.consumer != consumer);
        let has: Vec<MessageId> = self.model.held_by(consumer).map(|it| it.id).collect();
        if stop == Stop::Return {
            // What one left behind that is not there may be given back or not, but all of it.
            let keeps = match has.first() {
                Some(first) if !was_there => {
                    let times = self.model.find(*first).map(|it| it.deliveries);
                    self.get(*first)?.is_some_and(|it| it.state == State::Leased && Some(it.rest.deliveries) == times)
                }
                _ => false,
            };
            if !keeps {
                has.into_iter().for_each(|id| self.model.lose(id));
            }
        }
        Ok(())
    }

    fn touch_all(&mut self, slot: u8) -> Result<(), Violation> {
        let consumer = self.consumers[usize::from(slot)];
        let answer = self.ask(Command::TouchAll(consumer))?;
        let is_there = self.model.consumers.iter().any(|it| it.asked.consumer == consumer);
        let rule = "whoever is alive says so, and nobody else does";
        let has = self.model.held_by(consumer).next().is_some();
        ensure(rule, answer.is_ok() == is_there || has, || format!("{answer:?}"))?;
        if answer.is_ok() {
            self.model.touch_all(consumer);
        }
        Ok(())
    }

    /// The leases there are, by message.
    fn leases(&self) -> Vec<(MessageId, Token)> {
        let lease = |it: &super::model::Message| match it.place {
            At::Leased { token, .. } => Some((it.id, token)),
            _ => None,
        };
        self.model.messages.iter().filter_map(lease).collect()
    }

    fn verdict(&mut self, say: &Say) -> Verdict {
        self.puts += 1;
        let word: Arc<str> = format!("word {}", self.puts).into();
        match say {
            Say::Done(with) => Verdict::Done(with.then(|| Bytes::from(word.to_string()))),
            Say::Retry(after_ms) => Verdict::Retry { after_ms: *after_ms, why: word },
            Say::Release => Verdict::Release,
            Say::Dead => Verdict::Dead { why: word },
            Say::Touch(ms) => Verdict::Touch(*ms),
            Say::Progress => Verdict::Progress(Bytes::from(word.to_string())),
        }
    }

    fn settle(&mut self, settles: Vec<Settle>) -> Result<(), Violation> {
        let rule = "each settlement is answered";
        let outcome = self.done(rule, Command::Settle(settles.clone()))?;
        let Outcome::Settled(answers) = outcome else { return Err(violation(rule, format!("{outcome:?}"))) };
        ensure(rule, answers.len() == settles.len(), || format!("{answers:?}"))?;
        for (settle, answer) in settles.into_iter().zip(answers) {
            let expected = self.model.settle(&settle);
            let rule = match (&expected, &settle.verdict) {
                (Err(_), _) => "whoever settles with another token is refused",
                (Ok(_), Verdict::Touch(_) | Verdict::Progress(_)) => "a lease lasts as long as it may",
                _ => "a lease is settled by who has it",
            };
            let same = match (&expected, &answer) {
                (Ok(None), Ok(Settled::Ended)) => true,
                (Ok(Some(until)), Ok(Settled::Until(found))) => *until == found.0,
                (Err(_), Err(Refusal::StaleLease(id) | Refusal::UnknownMessage(id))) => *id == settle.id,
                _ => false,
            };
            ensure(rule, same, || format!("{answer:?} instead of {expected:?} for {settle:?}"))?;
        }
        Ok(())
    }

    fn purge(&mut self, queue: &QueueName, states: Vec<State>, max: Option<usize>) -> Result<(), Violation> {
        self.model.time(self.clock.now().0);
        let now = self.model.now;
        let select = Select { states: states.clone(), id: None, max };
        let is_it = |it: &&super::model::Message| states.contains(&it.state(now));
        let candidates: Vec<MessageId> = self.model.of(queue).filter(is_it).map(|it| it.id).collect();
        let expected = candidates.len().min(max.unwrap_or(usize::MAX));
        let answer = self.ask(Command::Purge(queue.clone(), select))?;
        let is_known = self.model.queues.iter().any(|it| it.name == *queue);
        let rule = "what is asked of a queue that is not there is refused";
        ensure(rule, is_known == answer.is_ok(), || format!("{answer:?}"))?;
        let Ok(outcome) = answer else { return Ok(()) };
        let rule = "what is purged is removed";
        ensure(rule, outcome == Outcome::Count(expected as u64), || format!("{outcome:?} instead of {expected}"))?;
        // Which of too many is not said.
        let mut done = 0;
        for id in candidates {
            if self.get(id)?.is_none() {
                self.model.remove(id);
                done += 1;
            }
        }
        ensure(rule, done == expected, || format!("{done} instead of {expected}"))
    }

    fn redrive(&mut self, queue: &QueueName, max: Option<usize>) -> Result<(), Violation> {
        let select = Select { states: vec![State::Dead], id: None, max };
        let answer = self.ask(Command::Redrive(queue.clone(), select))?;
        let expected = self.model.redrive(queue, max.unwrap_or(usize::MAX));
        let same = match (&answer, expected) {
            (Ok(Outcome::Count(count)), Ok(expected)) => *count == expected,
            (answer, Err(expected)) => code(answer) == expected,
            _ => false,
        };
        ensure("the dead are given another chance, if there is room", same, || {
            format!("{answer:?} instead of {expected:?}")
        })
    }

    fn mistake(&mut self, drafts: &[Draft], mistake: Mistake) -> Result<(), Violation> {
        let capabilities = self.queues.capabilities();
        let puts: Vec<Put> = drafts.iter().map(|draft| self.make(draft)).collect();
        let good = puts[0].clone();
        let long: Arc<str> = "k".repeat(Put::MAX_KEY + 1).into();
        let asked = Consume {
            consumer: 77,
            queue: good.queue.clone(),
            prefetch: 1,
            bytes: 1,
            lease_ms: None,
            keys: None,
            once: None,
        };
        let with = |put: Put| Some(Command::Put(puts.iter().cloned().chain([put]).collect()));
        let dedup = Dedup { key: long.clone(), mode: crate::DedupMode::Reject, window_ms: None };
        let (command, expected) = match mistake {
            Mistake::BadName => (with(Put { queue: "two words".into(), ..good }), "bad_name"),
            Mistake::LongPayload if capabilities.max_payload > 64 << 20 => (None, ""),
            Mistake::LongPayload => {
                let payload = Bytes::from(vec![0; capabilities.max_payload + 1]);
                (with(Put { payload, ..good }), "too_large")
            }
            Mistake::HighPriority => (with(Put { priority: Put::MAX_PRIORITY + 1, ..good }), "invalid"),
            Mistake::LongKey => (with(Put { key: Some(long), ..good }), "invalid"),
            Mistake::LongDedupKey => (with(Put { dedup: Some(dedup), ..good }), "invalid"),
            Mistake::TooDurable if capabilities.durability == Durability::Quorum => (None, ""),
            Mistake::TooDurable => (with(Put { durability: Durability::Quorum, ..good }), "invalid"),
            Mistake::TooMany if capabilities.max_batch > 100_000 => (None, ""),
            Mistake::TooMany => (Some(Command::Put(vec![good; capabilities.max_batch + 1])), "invalid"),
            Mistake::TakesNone => (Some(Command::Consume(Consume { prefetch: 0, ..asked })), "invalid"),
            Mistake::TakesNoKeys => (Some(Command::Consume(Consume { keys: Some(Vec::new()), ..asked })), "invalid"),
            Mistake::StopsNobody => return self.stop(4_711, Stop::Return),
            Mistake::TouchesNothing => (Some(Command::TouchAll(4_711)), "unknown_consumer"),
            Mistake::RemovesNothing => (Some(Command::Remove(1 << 52)), "unknown_message"),
        };
        let Some(command) = command else { return Ok(()) };
        let answer = self.ask(command)?;
        let found = code(&answer);
        // Where nothing could be put anyway, that may be said first.
        let also = self.model.clone().put(&puts, &[]).err();
        ensure("a mistake is refused", found == expected || Some(found) == also, || {
            format!("{answer:?} instead of {expected}")
        })
    }

    fn step(&mut self, step: &Step) -> Result<(), Violation> {
        match step {
            Step::Put(drafts) => self.put(drafts),
            Step::PutUnheard(drafts) => self.put_unheard(drafts),
            Step::PutWithMistake(drafts, mistake) => self.mistake(drafts, *mistake),
            Step::Consume(slot, taker) => self.consume(*slot, taker),
            Step::Stop(slot, stop) => self.stop(self.consumers[usize::from(*slot)], *stop),
            Step::Hold(slot, is_held) => {
                let id = self.consumers[usize::from(*slot)];
                let answer = self.ask(if *is_held { Command::Hold(id) } else { Command::Unhold(id) })?;
                let consumer = self.model.consumers.iter_mut().find(|it| it.asked.consumer == id);
                ensure("whoever is there may be held", consumer.is_none() || answer.is_ok(), || format!("{answer:?}"))?;
                consumer.into_iter().for_each(|it| it.is_held = *is_held);
                Ok(())
            }
            Step::TouchAll(slot) => self.touch_all(*slot),
            Step::Settle(settles) => {
                let leases = self.leases();
                let mut all = Vec::new();
                for (which, say) in settles.iter().filter(|_| !leases.is_empty()) {
                    let (id, token) = leases[usize::from(*which) % leases.len()];
                    all.push(Settle { id, token, verdict: self.verdict(say) });
                }
                if all.is_empty() { Ok(()) } else { self.settle(all) }
            }
            Step::SettleLate(which, say) => {
                let leases = self.leases();
                let Some((id, token)) = leases.get(usize::from(*which) % leases.len().max(1)).copied() else {
                    return Ok(());
                };
                let lease = self.model.find(id).map(|it| it.place);
                if let Some(At::Leased { deadline, .. }) = lease {
                    self.clock.set(deadline);
                    self.model.time(deadline);
                    let verdict = self.verdict(say);
                    self.settle(vec![Settle { id, token, verdict }])?;
                }
                Ok(())
            }
            Step::SettleForeign(which, foreign, say) => {
                let leases = self.leases();
                let Some((id, token)) = leases.get(usize::from(*which) % leases.len().max(1)).copied() else {
                    return Ok(());
                };
                let mut others = self.tokens.iter().filter(|(other, _)| *other != token);
                let token = match foreign {
                    Foreign::Old => others.rfind(|(_, message)| *message == id).map_or(token + 1, |it| it.0),
                    Foreign::Other => others.rfind(|(_, message)| *message != id).map_or(0, |it| it.0),
                    Foreign::Next => self.tokens.iter().map(|it| it.0).max().unwrap_or_default() + 1,
                };
                let verdict = self.verdict(say);
                self.settle(vec![Settle { id, token, verdict }])
            }
            Step::Wait(time) => self.wait(*time),
            Step::Jump(time) => {
                self.clock.set(self.clock.now().0 + time);
                Ok(())
            }
            Step::Configure(queue, config) => self.configure(&name(*queue), (**config).clone()),
            Step::ConfigureWithMistake(queue, which) => {
                let good = super::steps::config();
                let bad = match which % 4 {
                    0 => Config { lease_ms: 0, ..good },
                    1 => Config { backoff: crate::Backoff::List(Vec::new()), ..good },
                    2 => Config { key_concurrency: 0, ..good },
                    _ => Config { dead_letter: Some("two words".into()), ..good },
                };
                let answer = self.ask(Command::Configure(name(*queue), Box::new(bad)))?;
                ensure("a mistake is refused", answer.is_err(), || format!("{answer:?}"))
            }
            Step::Pause(queue, is_paused) => {
                let rule = "whoever may pauses a queue";
                self.switch(*queue, Command::Pause(name(*queue), *is_paused), rule, |queue| {
                    queue.is_paused = *is_paused
                })
            }
            Step::Drain(queue, is_draining) => {
                let command = Command::Drain(name(*queue), *is_draining);
                self.switch(*queue, command, "whoever may drains a queue", |queue| queue.is_draining = *is_draining)
            }
            Step::Purge(queue, states, max) => self.purge(&name(*queue), states.clone(), *max),
            Step::Redrive(queue, max) => self.redrive(&name(*queue), *max),
            Step::Schedule(which, plan) => self.schedule(*which, plan),
            Step::Unschedule(which) => self.unschedule(*which),
            Step::PauseSchedule(which, is_paused) => self.pause_schedule(*which, *is_paused),
            Step::RunSchedule(which) => self.run_schedule(*which),
            Step::ScheduleWithMistake(which, mistake) => self.schedule_with_mistake(*which, *mistake),
            Step::Delete(queue) => self.delete(&name(*queue)),
            Step::Remove(which) => {
                let ids: Vec<MessageId> = self.model.messages.iter().map(|it| it.id).collect();
                let Some(id) = ids.get(usize::from(*which) % ids.len().max(1)).copied() else { return Ok(()) };
                let outcome = self.done("what is removed is gone", Command::Remove(id))?;
                ensure("what is removed is gone", outcome == Outcome::Done, || format!("{outcome:?}"))?;
                self.model.remove(id);
                Ok(())
            }
            Step::Peek(queue, state, max) => self.pages(&name(*queue), *state, *max),
            Step::Reopen => self.reopen(),
            Step::Kill(drafts, is_heard) => self.kill(drafts, *is_heard),
            Step::Expect(queue, expected) => {
                self.quiet()?;
                let name = name(*queue);
                let now = self.model.now;
                let states = [State::Ready, State::Leased, State::Delayed, State::Dead];
                let count = |state| self.model.of(&name).filter(|it| it.state(now) == state).count() as u64;
                let found = states.map(count);
                ensure("a script ends as it should", found == *expected, || {
                    format!("{found:?} instead of {expected:?}")
                })
            }
        }
    }

    fn switch(
        &mut self,
        queue: u8,
        command: Command,
        rule: &'static str,
        set: impl FnOnce(&mut super::model::Queue),
    ) -> Result<(), Violation> {
        let answer = self.ask(command)?;
        let there = self.model.queues.iter_mut().find(|it| it.name == name(queue));
        ensure(rule, answer.is_ok() || there.is_none(), || format!("{answer:?}"))?;
        if answer.is_ok() {
            set(self.model.queue(&name(queue)));
        }
        Ok(())
    }

    fn delete(&mut self, queue: &QueueName) -> Result<(), Violation> {
        let answer = self.ask(Command::Delete(queue.clone()))?;
        let is_there = self.model.queues.iter().any(|it| it.name == *queue);
        let rule = "a queue that is deleted is gone";
        ensure(rule, answer.is_ok() || !is_there, || format!("{answer:?}"))?;
        let of_it = |it: &&(_, QueueName, _, _)| it.1 == *queue;
        let results: Vec<MessageId> = self.model.results.iter().filter(of_it).map(|it| it.0).collect();
        self.model.delete(queue);
        for id in results {
            let answer = self.ask(Command::Get(id))?;
            ensure(rule, code(&answer) == "unknown_message", || format!("a result is left: {answer:?}"))?;
        }
        Ok(())
    }
}
