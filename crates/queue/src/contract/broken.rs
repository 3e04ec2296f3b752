//! Queues that are broken on purpose.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_history::store::{Answer, Timestamp, wait};

use super::{Bed, Clock, Place};
use crate::port::{
    Capabilities, Command, Config, ConsumerId, Depth, Effect, End, Found, Listener, MessageId, Missed, Outcome, Put,
    QueueName, Queues, Refusal, Schedule, ScheduleName, Settle, Settled, State, Token, Verdict,
};
use crate::{Limits, MemoryQueues};

/// What is wrong with [`Broken`] queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each says what it does")]
pub enum Fault {
    LosesPuts,
    StoresHalf,
    LeasesTwice,
    ReusesTokens,
    GivesLongTokens,
    AcceptsOldTokens,
    AnswersOldTokens,
    IgnoresKeys,
    GivesTwoOfAKey,
    GivesYoungOnesFirst,
    ForgetsPriorities,
    PrefersAKey,
    PrefersConsumers,
    TakesOneTooMany,
    TakesTooManyBytes,
    IgnoresDedup,
    ForgetsKeysEarly,
    GivesEarly,
    NeverExpires,
    DiesTwice,
    BuriesTwice,
    CountsWrong,
    HidesOne,
    LooksFromTheBeginning,
    SpoilsPayloads,
    IgnoresPauses,
    IgnoresDrains,
    IgnoresHolds,
    HoldsForEver,
    GivesTooMany,
    GivesTooManyBytes,
    IgnoresConcurrency,
    IgnoresRates,
    IgnoresKeyRates,
    LeasesTooLong,
    TouchesForEver,
    CountsReleases,
    NeverRests,
    ForgetsResults,
    PurgesTooMuch,
    RemovesInSilence,
    TellsProgressTwice,
    Oversleeps,
    FiresTwice,
    NeverCatchesUp,
    ForgetsScheduledPriorities,
    IgnoresSchedulePauses,
    NeverUnschedules,
}

/// Where [`MemoryQueues`] are made, perhaps with a fault, with so many delayed messages near.
#[derive(Clone, Copy, Debug, Default)]
pub struct InMemory(pub Option<Fault>, pub usize);

impl Place for InMemory {
    fn fresh(&self) -> Box<dyn Bed> {
        Box::new(*self)
    }
}

impl Bed for InMemory {
    fn open(&mut self, _: &Clock) -> Arc<dyn Queues> {
        let queues = Arc::new(MemoryQueues::new(Limits { near: self.1, ..MemoryQueues::limits() }, 7));
        match self.0 {
            Some(fault) => Arc::new(Broken::new(queues, fault)),
            None => queues,
        }
    }

    fn kill(&mut self, queues: Arc<dyn Queues>) {
        drop(queues);
    }
}

/// Good queues behind a [`Fault`].
pub struct Broken {
    queues: Arc<dyn Queues>,
    fault: Fault,
    seen: Arc<Mutex<Seen>>,
}

/// Begins the name of a schedule that nobody asked for.
const TWIN: &str = "twin:";

/// What a fault has to know so that it shows in one place only.
#[derive(Default)]
struct Seen {
    /// What was asked for, by message; the greater number is that of the message behind it, if that is another one.
    puts: HashMap<MessageId, (Put, MessageId)>,
    configs: HashMap<QueueName, Config>,
    leases: HashMap<MessageId, Token>,
    deliveries: HashMap<MessageId, u32>,
    switched: HashSet<QueueName>,
    takers: HashMap<QueueName, Vec<ConsumerId>>,
    dead: Vec<MessageId>,
    schedules: HashMap<ScheduleName, Arc<Schedule>>,
    /// What the last of them was before.
    before: Option<Arc<Schedule>>,
    turn: u64,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    /// The number that is known outside.
    fn shown(&self, id: MessageId) -> MessageId {
        self.puts.iter().find(|(_, (_, behind))| *behind == id).map_or(id, |(shown, _)| *shown)
    }

    fn behind(&self, id: MessageId) -> MessageId {
        self.puts.get(&id).map_or(id, |(_, behind)| *behind)
    }
}

impl Broken {
    /// Breaks queues.
    #[must_use]
    pub fn new(queues: Arc<dyn Queues>, fault: Fault) -> Self {
        Self { queues, fault, seen: Arc::default() }
    }

    fn quietly(&self, now: Timestamp, command: Command) -> Option<Outcome> {
        wait(self.queues.ask(now, command)).ok()?.ok()
    }

    fn spoil_put(&self, put: &mut Put) {
        match self.fault {
            Fault::IgnoresKeys => put.key = None,
            Fault::GivesYoungOnesFirst => put.priority = (lock(&self.seen).puts.len() % 31) as u8,
            Fault::PrefersAKey if put.key.as_deref() == Some("key 1") => put.priority = (put.priority + 1).min(31),
            Fault::IgnoresDedup => put.dedup = None,
            Fault::ForgetsKeysEarly => {
                let window = |dedup: &mut crate::Dedup| dedup.window_ms = Some(dedup.window_ms.unwrap_or(600) / 2);
                put.dedup.iter_mut().for_each(window);
            }
            Fault::GivesEarly => put.due = put.due.map(|due| Timestamp(due.0 - 50)),
            Fault::NeverExpires => put.expires = None,
            Fault::ForgetsResults => put.keep_result_ms = None,
            _ => {}
        }
    }

    fn spoil_config(&self, config: &mut Config) {
        match self.fault {
            Fault::GivesTwoOfAKey => config.key_concurrency += 1,
            Fault::TakesOneTooMany => config.max_messages += 1,
            Fault::TakesTooManyBytes => config.max_bytes += 200,
            Fault::NeverExpires => config.ttl_ms = None,
            Fault::IgnoresConcurrency => config.concurrency = None,
            Fault::IgnoresRates => config.rate = None,
            Fault::IgnoresKeyRates => config.key_rate = None,
            Fault::LeasesTooLong => config.lease_ms *= 2,
            Fault::TouchesForEver => config.max_lease_ms *= 100,
            Fault::ForgetsResults => config.keep_results_ms = 0,
            _ => {}
        }
    }

    fn spoil_settle(&self, settle: &mut Settle) {
        let seen = lock(&self.seen);
        let current = seen.leases.get(&settle.id).copied();
        match self.fault {
            Fault::ReusesTokens if current.is_some_and(|it| it % 3 + 1 == settle.token) => {
                settle.token = current.unwrap_or(0)
            }
            Fault::GivesLongTokens => settle.token &= (1 << 53) - 1,
            Fault::AcceptsOldTokens => settle.token = current.unwrap_or(settle.token),
            Fault::CountsReleases if settle.verdict == Verdict::Release => {
                settle.verdict = Verdict::Retry { after_ms: Some(0), why: "released".into() };
            }
            Fault::NeverRests => {
                if let Verdict::Retry { after_ms, .. } = &mut settle.verdict {
                    *after_ms = Some(0);
                }
            }
            _ => {}
        }
        settle.id = seen.behind(settle.id);
    }

    fn spoil_schedule(&self, now: Timestamp, name: &ScheduleName, schedule: &mut Schedule, is_paused: Option<bool>) {
        match self.fault {
            Fault::FiresTwice => {
                let (name, schedule) = (format!("{TWIN}{name}").into(), Box::new(schedule.clone()));
                self.quietly(now, Command::Schedule { name, schedule, is_paused });
            }
            Fault::NeverCatchesUp => schedule.missed = Missed::Once,
            Fault::ForgetsScheduledPriorities => schedule.put.priority = 0,
            _ => {}
        }
    }

    /// What is asked for instead; `None` for nothing.
    fn spoil(&self, now: Timestamp, command: &mut Command) -> Option<()> {
        match command {
            Command::Put(puts) => puts.iter_mut().for_each(|put| self.spoil_put(put)),
            Command::Schedule { name, schedule, is_paused } => {
                let mut seen = lock(&self.seen);
                seen.before = seen.schedules.insert(name.clone(), Arc::new((**schedule).clone()));
                drop(seen);
                self.spoil_schedule(now, name, schedule, *is_paused);
            }
            Command::Configure(queue, config) => {
                lock(&self.seen).configs.insert(queue.clone(), (**config).clone());
                self.spoil_config(config);
            }
            Command::Settle(settles) => settles.iter_mut().for_each(|settle| self.spoil_settle(settle)),
            Command::Get(id) | Command::Remove(id) => *id = lock(&self.seen).behind(*id),
            Command::Consume(consume) => match self.fault {
                Fault::IgnoresKeys => consume.keys = None,
                Fault::GivesTooMany => consume.prefetch += 1,
                Fault::GivesTooManyBytes => consume.bytes = u64::MAX,
                _ => {}
            },
            Command::Pause(queue, on) if self.fault == Fault::IgnoresPauses => return self.switch(queue, *on),
            Command::Drain(queue, on) if self.fault == Fault::IgnoresDrains => return self.switch(queue, *on),
            Command::Hold(_) if self.fault == Fault::IgnoresHolds => return None,
            Command::Unhold(_) if self.fault == Fault::HoldsForEver => return None,
            Command::PauseSchedule { .. } if self.fault == Fault::IgnoresSchedulePauses => return None,
            Command::Unschedule { queue: None, .. } if self.fault == Fault::NeverUnschedules => return None,
            Command::Peek { after, .. } if self.fault == Fault::LooksFromTheBeginning => *after = 0,
            Command::Purge(_, select) if self.fault == Fault::PurgesTooMuch => {
                select.states = vec![State::Delayed, State::Ready, State::Leased, State::Dead];
            }
            _ => {}
        }
        Some(())
    }

    /// As if it had been.
    fn switched(&self, queue: &QueueName, depth: Depth) -> Depth {
        let is_it = lock(&self.seen).switched.contains(queue);
        let is_paused = depth.is_paused || is_it && self.fault == Fault::IgnoresPauses;
        let is_draining = depth.is_draining || is_it && self.fault == Fault::IgnoresDrains;
        Depth { is_paused, is_draining, ..depth }
    }

    fn switch(&self, queue: &QueueName, on: bool) -> Option<()> {
        let switched = &mut lock(&self.seen).switched;
        let _ = if on { switched.insert(queue.clone()) } else { switched.remove(queue) };
        None
    }

    /// A message that comes back is put again, without its priority, instead.
    fn put_again(&self, now: Timestamp, settles: &mut Vec<Settle>) -> usize {
        let mut again = Vec::new();
        settles.retain(|settle| {
            let seen = lock(&self.seen);
            let is_it =
                seen.puts.get(&settle.id).is_some_and(|it| it.0.priority > 0) && settle.verdict == Verdict::Release;
            again.extend(is_it.then(|| (settle.clone(), seen.puts.get(&settle.id).map(|it| it.0.clone()))));
            !is_it
        });
        for (mut settle, put) in again.clone() {
            let shown = settle.id;
            settle.id = lock(&self.seen).behind(shown);
            settle.verdict = Verdict::Done(None);
            self.quietly(now, Command::Settle(vec![settle]));
            let Some(put) = put.map(|put| Put { priority: 0, ..put }) else { continue };
            // It is known before it is given out.
            let next = lock(&self.seen).puts.values().map(|it| it.1).max().unwrap_or_default() + 1;
            lock(&self.seen).puts.entry(shown).and_modify(|it| it.1 = next);
            self.quietly(now, Command::Put(vec![put]));
        }
        again.len()
    }

    fn show(&self, now: Timestamp, outcome: &mut Outcome) {
        let mut seen = lock(&self.seen);
        match outcome {
            Outcome::Schedules(found) => {
                found.retain(|(name, _)| !name.starts_with(TWIN));
                for (name, one) in found {
                    if let Some(told) = seen.schedules.get(name) {
                        one.schedule = told.clone();
                    }
                }
            }
            Outcome::Depth(depth) if self.fault == Fault::CountsWrong => depth.ready += 1,
            Outcome::Messages(found) | Outcome::Page(found, _) => {
                found.iter_mut().for_each(|one| self.show_found(&mut seen, now, one));
                found.sort_by_key(|one| one.id);
                if self.fault == Fault::HidesOne {
                    found.pop();
                }
            }
            Outcome::Settled(answers) if self.fault == Fault::AnswersOldTokens => {
                for answer in answers.iter_mut().filter(|it| matches!(it, Err(Refusal::StaleLease(_)))) {
                    *answer = Ok(Settled::Ended);
                }
            }
            _ => {}
        }
    }

    fn show_found(&self, seen: &mut Seen, _: Timestamp, one: &mut Found) {
        one.id = seen.shown(one.id);
        if seen.behind(one.id) != one.id {
            one.rest.deliveries = seen.deliveries.get(&one.id).copied().unwrap_or_default();
        }
        let Some((put, _)) = seen.puts.get(&one.id) else { return };
        (one.priority, one.key) = (put.priority, put.key.clone());
        if self.fault == Fault::GivesEarly && put.due.is_some() && one.rest.deliveries == 0 {
            one.until = put.due;
        }
    }
}

/// What is said instead.
fn retell(fault: Fault, seen: &mut Seen, effect: Effect) -> Vec<Effect> {
    match effect {
        Effect::Granted(mut given) => {
            seen.leases.insert(given.id, given.token);
            given.id = seen.shown(given.id);
            let times = seen.deliveries.get(&given.id).copied().unwrap_or_default() + 1;
            seen.deliveries.insert(given.id, times);
            if let Some((put, _)) = seen.puts.get(&given.id) {
                (given.priority, given.key) = (put.priority, put.key.clone());
            }
            match fault {
                Fault::ReusesTokens => given.token = given.token % 3 + 1,
                Fault::GivesLongTokens => given.token |= 1 << 60,
                Fault::SpoilsPayloads => given.payload = b"spoilt".as_slice().into(),
                Fault::ForgetsPriorities if seen.behind(given.id) != given.id => given.deliveries = times,
                Fault::LeasesTwice => {
                    let again = crate::Delivery { token: given.token + (1 << 40), ..given.clone() };
                    return vec![Effect::Granted(given), Effect::Granted(again)];
                }
                _ => {}
            }
            vec![Effect::Granted(given)]
        }
        Effect::Revoked { why: crate::Why::Removed, .. } if fault == Fault::RemovesInSilence => Vec::new(),
        Effect::Ended { id, end: End::Dead(_), .. } if matches!(fault, Fault::DiesTwice | Fault::BuriesTwice) => {
            seen.dead.push(id);
            let times = if fault == Fault::DiesTwice { 2 } else { 1 };
            vec![effect; times]
        }
        Effect::Progress { .. } if fault == Fault::TellsProgressTwice => vec![effect; 2],
        effect => vec![effect],
    }
}

impl Queues for Broken {
    fn ask(&self, now: Timestamp, mut command: Command) -> Answer<Result<Outcome, Refusal>> {
        let asked = command.clone();
        let mut again = 0;
        if let (Command::Settle(settles), Fault::ForgetsPriorities) = (&mut command, self.fault) {
            again = self.put_again(now, settles);
        }
        if let Command::Put(puts) = &asked {
            // What is given out at once is known by then.
            let seen = &mut *lock(&self.seen);
            let next = seen.turn + 1;
            for (put, id) in puts.iter().zip(next..) {
                seen.puts.entry(id).or_insert((put.clone(), id));
            }
        }
        let answer = match self.spoil(now, &mut command) {
            Some(()) => wait(self.queues.ask(now, command)),
            None => Ok(Ok(Outcome::Done)),
        };
        let answer = answer.map(|answer| {
            answer.map(|mut outcome| {
                self.show(now, &mut outcome);
                outcome
            })
        });
        self.afterwards(now, &asked, answer.as_ref().ok().and_then(|it| it.as_ref().ok()), again);
        let answer = answer.map(|answer| {
            answer.map(|outcome| match (outcome, &asked) {
                (Outcome::Settled(mut answers), _) => {
                    answers.extend(vec![Ok(Settled::Ended); again]);
                    Outcome::Settled(answers)
                }
                (Outcome::Depth(depth), Command::Stats(queue)) => Outcome::Depth(self.switched(queue, depth)),
                (Outcome::Queues(mut queues), _) => {
                    queues.iter_mut().for_each(|(queue, depth)| *depth = self.switched(queue, *depth));
                    Outcome::Queues(queues)
                }
                (Outcome::Config(_), Command::Config(queue)) => {
                    let config = lock(&self.seen).configs.get(queue).cloned().unwrap_or_default();
                    Outcome::Config(Box::new(config))
                }
                (outcome, _) => outcome,
            })
        });
        Box::pin(std::future::ready(answer))
    }

    fn tick(&self, now: Timestamp) -> Option<Timestamp> {
        let next = self.queues.tick(now);
        self.bury(now);
        next.map(|at| if self.fault == Fault::Oversleeps { Timestamp(at.0 + 1_000) } else { at })
    }

    fn listen(&self, listener: Option<Listener>) {
        let (seen, fault) = (self.seen.clone(), self.fault);
        let spoilt = listener.map(|listener| -> Listener {
            Arc::new(move |effects: Vec<Effect>| {
                let effects = effects.into_iter().flat_map(|effect| retell(fault, &mut lock(&seen), effect)).collect();
                listener(effects);
            })
        });
        self.queues.listen(spoilt);
    }

    fn capabilities(&self) -> Capabilities {
        self.queues.capabilities()
    }
}

impl Broken {
    fn afterwards(&self, now: Timestamp, asked: &Command, outcome: Option<&Outcome>, _: usize) {
        match (asked, outcome) {
            (Command::Put(puts), Some(Outcome::Put(receipts))) => {
                let mut seen = lock(&self.seen);
                for (put, receipt) in puts.iter().zip(receipts).filter(|(_, receipt)| !receipt.dup) {
                    seen.puts.insert(receipt.id, (put.clone(), receipt.id));
                    seen.turn = seen.turn.max(receipt.id);
                }
                drop(seen);
                if self.fault == Fault::LosesPuts {
                    receipts.iter().for_each(|it| drop(self.quietly(now, Command::Remove(it.id))));
                }
            }
            (Command::Schedule { name, .. }, None) => {
                let mut seen = lock(&self.seen);
                match seen.before.take() {
                    Some(before) => seen.schedules.insert(name.clone(), before),
                    None => seen.schedules.remove(name),
                };
            }
            (Command::Put(puts), _) if self.fault == Fault::StoresHalf => {
                self.quietly(now, Command::Put(puts[..1].to_vec()));
            }
            (Command::Consume(consume), Some(_)) if self.fault == Fault::PrefersConsumers => {
                let mut seen = lock(&self.seen);
                let takers = seen.takers.entry(consume.queue.clone()).or_default();
                takers.push(consume.consumer);
                let is_third = takers.len() > 2 && consume.prefetch > 8;
                drop(seen);
                if is_third {
                    self.quietly(now, Command::Hold(consume.consumer));
                }
            }
            _ => {}
        }
        self.bury(now);
    }

    /// Copies of the dead are put where they were put before.
    fn bury(&self, now: Timestamp) {
        let dead = mem::take(&mut lock(&self.seen).dead);
        if self.fault == Fault::BuriesTwice {
            for id in dead {
                let seen = lock(&self.seen);
                let Some((put, _)) = seen.puts.get(&id).cloned() else { continue };
                let to = seen.configs.get(&put.queue).and_then(|config| config.dead_letter.clone());
                drop(seen);
                let Some(queue) = to else { continue };
                self.quietly(now, Command::Put(vec![Put::new(&queue, put.payload, put.durability)]));
            }
        }
    }
}
