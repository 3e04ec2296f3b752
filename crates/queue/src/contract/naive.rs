//! Queues that are nothing but the model: what survives is all of it. They prove that the suite asks for nothing impossible, and what it
//! sees of restarts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use posthaste_history::store::{Answer, Durability, Timestamp};

use super::model::{Consumer, Message, Model, Place as At, Told};
use super::{Bed, Clock, Place};
use crate::port::{
    Capabilities, Command, ConsumerId, Delivery, Effect, End, Found, Listener, MessageId, Outcome, Queues, Reason,
    Receipt, Refusal, Rest, Settled, State, Token, Verdict, name_is_good,
};

/// What is wrong with what survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    LosesTheLast,
    ForgetsTokens,
    ForgetsLeases,
    ForgetsOrphans,
    ForgetsCounts,
    ForgetsReasons,
    ForgetsEnds,
    ForgetsKeys,
    ForgetsSwitches,
    ShowsTooEarly,
    WritesHalf,
    TakesBackWhatNobodyWaitsFor,
    ForgetsSchedules,
    FiresAgain,
}

pub(super) struct InModel(pub(super) Option<Loss>);

#[derive(Clone, Default)]
struct Disk {
    model: Model,
    id: MessageId,
    token: Token,
    ended: Vec<Message>,
    /// What each consumer was given last.
    last: Vec<(ConsumerId, Token)>,
}

struct Under {
    loss: Option<Loss>,
    disk: Disk,
}

impl Place for InModel {
    fn fresh(&self) -> Box<dyn Bed> {
        Box::new(Under { loss: self.0, disk: Disk::default() })
    }
}

/// What is asked of [`Naive`] and not done yet.
type Asked = (Timestamp, Command, Arc<Mutex<Option<Result<Outcome, Refusal>>>>);

struct Inside {
    loss: Option<Loss>,
    disk: Disk,
    waiting: Option<Asked>,
    /// What it is before the next thing is done.
    really: Option<Disk>,
    listener: Option<Listener>,
}

struct Naive(Arc<Mutex<Inside>>);

thread_local! {
    /// What the queues of this thread that were used last have on their disk.
    static LAST: std::cell::RefCell<Option<Arc<Mutex<Inside>>>> = const { std::cell::RefCell::new(None) };
}

impl Bed for Under {
    fn open(&mut self, _: &Clock) -> Arc<dyn Queues> {
        let mut disk = self.disk.clone();
        disk.model.consumers.clear();
        match self.loss {
            Some(Loss::ForgetsTokens) => disk.token = 0,
            Some(Loss::LosesTheLast) => drop(disk.model.messages.pop()),
            Some(Loss::ForgetsLeases) => disk.model.messages.retain(|it| it.state(0) != State::Leased),
            Some(Loss::ForgetsCounts) => disk.model.messages.iter_mut().for_each(|it| it.failures = 0),
            Some(Loss::ForgetsReasons) => disk.model.messages.iter_mut().for_each(|it| it.history.clear()),
            Some(Loss::ForgetsEnds) => disk.model.messages.append(&mut disk.ended),
            Some(Loss::ForgetsKeys) => disk.model.forget_keys(),
            Some(Loss::ForgetsSchedules) => disk.model.schedules.clear(),
            Some(Loss::FiresAgain) => {
                let again = |it: &mut super::plans::Planned| it.next -= super::plans::period(&it.schedule.when);
                disk.model.schedules.iter_mut().filter(|it| it.last.is_some()).for_each(again);
            }
            Some(Loss::ForgetsSwitches) => disk.model.queues.iter_mut().for_each(|it| it.is_paused = false),
            _ => {}
        }
        let inside = Inside { loss: self.loss, disk, waiting: None, really: None, listener: None };
        let inside = Arc::new(Mutex::new(inside));
        LAST.set(Some(inside.clone()));
        Arc::new(Naive(inside))
    }

    fn close(&mut self, queues: Arc<dyn Queues>) {
        queues.tick(Timestamp(0));
        self.kill(queues);
    }

    fn kill(&mut self, queues: Arc<dyn Queues>) {
        drop(queues);
        if let Some(inside) = LAST.take() {
            self.disk = lock(&inside).disk.clone();
        }
    }
}

fn lock<T>(inside: &Mutex<T>) -> MutexGuard<'_, T> {
    inside.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inside {
    /// Does what waits, and says what is to be said.
    fn write(&mut self) {
        if let Some(disk) = self.really.take() {
            self.disk = disk;
        }
        let Some((now, command, slot)) = self.waiting.take() else { return };
        self.time(now);
        let answer = self.answer(command);
        *lock(&slot) = Some(answer);
        self.time(now);
    }

    fn time(&mut self, now: Timestamp) {
        let now = now.0.max(self.disk.model.now);
        self.disk.model.time(now);
        self.say();
    }

    fn say(&mut self) {
        let mut effects = Vec::new();
        self.tell(&mut effects);
        while let Some((consumer, id)) = self.next() {
            effects.push(self.grant(consumer, id));
            self.tell(&mut effects);
        }
        if let Some(listener) = &self.listener {
            listener(effects);
        }
    }

    fn tell(&mut self, effects: &mut Vec<Effect>) {
        let model = &mut self.disk.model;
        for mut copy in std::mem::take(&mut model.copies) {
            self.disk.id += 1;
            copy.id = self.disk.id;
            model.messages.push(copy);
        }
        let queue: crate::QueueName = "any".into();
        let told = std::mem::take(&mut model.told).into_iter().filter(|it| it.1).map(|it| it.0);
        effects.extend(told.map(|told| {
            let ended = |id, end| Effect::Ended { queue: queue.clone(), id, end };
            match told {
                Told::Revoked(consumer, id, token, why) => {
                    Effect::Revoked { consumer, queue: queue.clone(), id, token, why }
                }
                Told::Done(id, result) => ended(id, End::Done(result)),
                Told::Dead(id, why) => ended(id, End::Dead(why.unwrap_or_default())),
                Told::Expired(id) => ended(id, End::Expired),
                Told::Removed(id) => ended(id, End::Removed),
                Told::Progress(id, value) => Effect::Progress { queue: queue.clone(), id, value },
                Told::Finished(consumer) => Effect::Finished(consumer),
            }
        }));
    }

    fn next(&self) -> Option<(ConsumerId, MessageId)> {
        let model = &self.disk.model;
        let mut all: Vec<(u32, Token, MessageId, ConsumerId)> = Vec::new();
        for consumer in &model.consumers {
            let Some(queue) = model.queues.iter().find(|it| it.name == consumer.asked.queue) else { continue };
            if !model.gives(queue, false) {
                continue;
            }
            let heads = model.of(&queue.name).filter(|it| model.is_head(it, false) && model.takes(consumer, it));
            let Some(most) = heads.clone().map(|it| it.put.priority).max() else { continue };
            let has = self.disk.last.iter().find(|it| it.0 == consumer.asked.consumer).map_or(0, |it| it.1);
            // By chance, so that all of a priority take turns.
            let turn = |id: MessageId| (id.wrapping_add(self.disk.token).wrapping_mul(0x9E37_79B9) >> 7) as u32 & 0xFF;
            let best = heads.filter(|it| it.put.priority == most);
            all.extend(best.map(|it| (turn(it.id), has, it.id, consumer.asked.consumer)));
        }
        all.sort_unstable_by_key(|it| (it.1, it.0));
        all.first().map(|it| (it.3, it.2))
    }

    fn grant(&mut self, consumer: ConsumerId, id: MessageId) -> Effect {
        self.disk.token += 1;
        let (token, model) = (self.disk.token, &mut self.disk.model);
        self.disk.last.retain(|it| it.0 != consumer);
        self.disk.last.push((consumer, token));
        let now = model.now;
        let message = model.find(id).expect("it is there").clone();
        let config = model.config(&message.put.queue);
        let taker = model.consumers.iter_mut().find(|it| it.asked.consumer == consumer).expect("it is there");
        let length = taker.asked.lease_ms.unwrap_or(config.lease_ms).min(config.max_lease_ms);
        let left = taker.left.as_mut().map(|left| {
            *left -= 1;
            *left
        });
        if left == Some(0) {
            model.consumers.retain(|it| it.asked.consumer != consumer);
            model.told.push((Told::Finished(consumer), true));
        }
        let queue = model.queue(&message.put.queue);
        queue.bucket.take(config.rate, now);
        if let Some(key) = &message.put.key {
            let at = queue.key_buckets.iter().position(|it| it.0 == *key).unwrap_or(queue.key_buckets.len());
            if at == queue.key_buckets.len() {
                queue.key_buckets.push((key.clone(), super::bucket::Bucket::full(config.key_rate)));
            }
            queue.key_buckets[at].1.take(config.key_rate, now);
        }
        let deadline = now + length;
        let there = model.find(id).expect("it is there");
        there.place = At::Leased { token, consumer, since: now, length, deadline };
        (there.rests, there.deliveries) = (false, there.deliveries + 1);
        let put = message.put;
        Effect::Granted(Delivery {
            consumer,
            queue: put.queue,
            id,
            token,
            deadline: Timestamp(deadline),
            lease_ms: length,
            deliveries: message.deliveries + 1,
            failures: message.failures,
            at: Timestamp(message.at),
            priority: put.priority,
            key: put.key,
            payload: put.payload,
            headers: put.headers,
        })
    }

    fn found(&self, message: &Message) -> Found {
        let put = message.put.clone();
        let until = match message.place {
            At::From(_, until) | At::Leased { deadline: until, .. } => Some(Timestamp(until)),
            At::Dead(_) => None,
        };
        let newest = message.history.len().saturating_sub(Reason::MAX_KEPT);
        let history = message.history[newest..].iter().map(|why| (Timestamp(0), why.clone().unwrap_or_default()));
        let (deliveries, failures, losses) = (message.deliveries, message.failures, message.losses);
        Found {
            id: message.id,
            queue: put.queue,
            state: message.state(self.disk.model.now),
            at: Timestamp(message.at),
            until,
            priority: put.priority,
            key: put.key,
            // How often it had another chance is not asked.
            rest: Rest { deliveries, failures, losses, redriven: 0 },
            history: history.collect(),
            payload: put.payload,
            headers: put.headers,
        }
    }

    fn answer(&mut self, command: Command) -> Result<Outcome, Refusal> {
        let Disk { model, id: next, ended, .. } = &mut self.disk;
        let known = |model: &Model, name: &crate::QueueName| {
            let at = model.queues.iter().position(|it| it.name == *name);
            at.ok_or_else(|| Refusal::UnknownQueue(name.clone()))
        };
        let invalid = || Err(Refusal::Invalid("impossible".into()));
        match command {
            Command::Put(puts) => {
                if let Some(put) = puts.iter().find(|put| !name_is_good(&put.queue)) {
                    return Err(Refusal::BadName(put.queue.to_string()));
                }
                let is_long = |key: &Arc<str>| key.len() > crate::Put::MAX_KEY;
                let is_bad = |put: &crate::Put| {
                    put.priority > 31
                        || put.key.as_ref().is_some_and(is_long)
                        || put.dedup.as_ref().is_some_and(|it| is_long(&it.key))
                        || put.durability > Durability::Disk
                };
                if puts.len() > 100 || puts.iter().any(is_bad) {
                    return invalid();
                }
                if puts.iter().any(|put| put.payload.len() > 5_000) {
                    return Err(Refusal::TooLarge { bytes: 0, max: 0 });
                }
                let ids: Vec<MessageId> = (*next + 1..).take(puts.len()).collect();
                let put = model.put(&puts, &ids).map_err(|code| match code {
                    "draining" => Refusal::Draining("".into()),
                    _ => Refusal::Full { queue: "".into(), messages: 0, bytes: 0 },
                })?;
                *next += puts.len() as u64;
                let durability = Durability::Disk;
                Ok(Outcome::Put(put.into_iter().map(|(id, dup)| Receipt { id, dup, durability }).collect()))
            }
            Command::Consume(asked) => {
                if asked.prefetch == 0 || asked.keys.as_ref().is_some_and(|keys| keys.is_empty()) {
                    return invalid();
                }
                model.queue(&asked.queue);
                model.consumers.push(Consumer { left: asked.once, asked, is_held: false });
                Ok(Outcome::Done)
            }
            Command::TouchAll(consumer) => {
                if !model.consumers.iter().any(|it| it.asked.consumer == consumer) {
                    return Err(Refusal::UnknownConsumer);
                }
                model.touch_all(consumer);
                Ok(Outcome::Done)
            }
            Command::Hold(id) | Command::Unhold(id) => {
                let is_held = matches!(command, Command::Hold(_));
                let there = model.consumers.iter_mut().find(|it| it.asked.consumer == id);
                there.into_iter().for_each(|it| it.is_held = is_held);
                Ok(Outcome::Done)
            }
            Command::Stop(consumer, stop) => {
                model.consumers.retain(|it| it.asked.consumer != consumer);
                let has: Vec<MessageId> = model.held_by(consumer).map(|it| it.id).collect();
                if stop == crate::Stop::Return {
                    has.into_iter().for_each(|id| model.lose(id));
                }
                Ok(Outcome::Done)
            }
            Command::Orphans => {
                let consumer = |it: &Message| match it.place {
                    At::Leased { consumer, .. } => Some(consumer),
                    _ => None,
                };
                let mut found: Vec<ConsumerId> = model.messages.iter().filter_map(consumer).collect();
                found.sort_unstable();
                found.dedup();
                if self.loss == Some(Loss::ForgetsOrphans) {
                    found.pop();
                }
                Ok(Outcome::Consumers(found))
            }
            Command::Settle(settles) => {
                let mut settle = |settle: crate::Settle| {
                    let message = model.find(settle.id).cloned();
                    let answer = model.settle(&settle).map_err(|_| Refusal::StaleLease(settle.id));
                    if matches!(settle.verdict, Verdict::Done(_)) && answer.is_ok() {
                        ended.extend(message);
                    }
                    answer.map(|until| until.map_or(Settled::Ended, |until| Settled::Until(Timestamp(until))))
                };
                Ok(Outcome::Settled(settles.into_iter().map(&mut settle).collect()))
            }
            Command::Configure(name, config) => {
                let letter = config.dead_letter.as_ref().is_some_and(|name| !name_is_good(name));
                let backoff = config.backoff == crate::Backoff::List(Vec::new());
                if config.lease_ms == 0 || config.key_concurrency == 0 || letter || backoff {
                    return invalid();
                }
                let queue = model.queue(&name);
                queue.bucket = super::bucket::Bucket::full(config.rate);
                queue.key_buckets.clear();
                queue.config = *config;
                Ok(Outcome::Done)
            }
            Command::Pause(name, on) => {
                let at = known(model, &name)?;
                model.queues[at].is_paused = on;
                Ok(Outcome::Done)
            }
            Command::Drain(name, on) => {
                let at = known(model, &name)?;
                model.queues[at].is_draining = on;
                Ok(Outcome::Done)
            }
            Command::Redrive(name, select) => {
                let count = model.redrive(&name, select.max.unwrap_or(usize::MAX)).map_err(|code| match code {
                    "unknown_queue" => Refusal::UnknownQueue(name),
                    _ => Refusal::Full { queue: name, messages: 0, bytes: 0 },
                })?;
                Ok(Outcome::Count(count))
            }
            Command::Purge(name, select) => {
                known(model, &name)?;
                let now = model.now;
                let is_it = |it: &&Message| select.states.contains(&it.state(now));
                let ids = model.of(&name).filter(is_it).map(|it| it.id).take(select.max.unwrap_or(usize::MAX));
                let ids: Vec<MessageId> = ids.collect();
                ids.iter().for_each(|id| model.remove(*id));
                Ok(Outcome::Count(ids.len() as u64))
            }
            Command::Delete(name) => {
                known(model, &name)?;
                model.delete(&name);
                Ok(Outcome::Done)
            }
            Command::Remove(id) => {
                model.find(id).ok_or(Refusal::UnknownMessage(id))?;
                model.remove(id);
                Ok(Outcome::Done)
            }
            Command::Stats(name) => Ok(Outcome::Depth(model.depth(&model.queues[known(model, &name)?]))),
            Command::Counts(name) => {
                let depth = model.depth(&model.queues[known(model, &name)?]);
                Ok(Outcome::Counts(depth, crate::port::Counted::default()))
            }
            Command::List { after, max } => {
                let mut all: Vec<_> = model.queues.iter().map(|it| (it.name.clone(), model.depth(it))).collect();
                all.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(Outcome::Queues(all.into_iter().filter(|it| it.0 > after).take(max).collect()))
            }
            Command::Config(name) => Ok(Outcome::Config(Box::new(model.queues[known(model, &name)?].config.clone()))),
            Command::Peek { queue, state, after, max } => {
                known(model, &queue)?;
                let model = &self.disk.model;
                let all = model.of(&queue).filter(|it| it.id > after && it.state(model.now) == state);
                let has_more = all.clone().nth(max).is_some();
                let found: Vec<Found> = all.take(max).map(|it| self.found(it)).collect();
                let next = found.last().filter(|_| has_more).map(|it| it.id);
                Ok(Outcome::Page(found, next))
            }
            Command::Get(id) => {
                let result = model.results.iter().find(|it| it.0 == id).map(|it| (it.1.clone(), it.2.clone()));
                match (model.find(id).cloned(), result) {
                    (Some(message), _) => Ok(Outcome::Messages(vec![self.found(&message)])),
                    (None, Some((queue, result))) => Ok(Outcome::Ended(queue, End::Done(result))),
                    (None, None) => Err(Refusal::UnknownMessage(id)),
                }
            }
            Command::Schedule { name, mut schedule, is_paused } => {
                if !name_is_good(&name) {
                    return Err(Refusal::BadName(name.to_string()));
                }
                if schedule.put.payload.len() > crate::Schedule::MAX_PAYLOAD {
                    return Err(Refusal::TooLarge { bytes: 0, max: 0 });
                }
                schedule.check(model.now, 1 << 20)?;
                crate::Times::read(&mut schedule.when, Timestamp(model.now))?;
                if let Some(queue) = model.schedules.iter().find(|it| it.name == name).map(|it| &it.schedule.put.queue)
                    && *queue != schedule.put.queue
                {
                    return Err(Refusal::OtherQueue { queue: queue.clone(), name });
                }
                model.plan(&name, &schedule, is_paused);
                let found = model.schedules.iter().filter(|it| it.name == name).map(super::plans::Planned::shown);
                Ok(Outcome::Schedules(found.collect()))
            }
            Command::Unschedule { name, queue } => {
                let is_it =
                    |it: &super::plans::Planned| queue.as_ref().is_none_or(|queue| it.schedule.put.queue == *queue);
                if !model.schedules.iter().any(|it| it.name == name && is_it(it)) {
                    return Err(Refusal::UnknownSchedule(name));
                }
                model.unplan(&name).map(|()| Outcome::Done).map_err(|_| Refusal::UnknownSchedule(name))
            }
            Command::PauseSchedule { name, is_paused, .. } => {
                let paused = model.pause_plan(&name, is_paused);
                paused.map(|()| Outcome::Done).map_err(|_| Refusal::UnknownSchedule(name))
            }
            Command::RunSchedule { name, .. } => {
                let id = *next + 1;
                model.run_plan(&name, id).map_err(|_| Refusal::UnknownSchedule(name))?;
                *next = id;
                Ok(Outcome::Put(vec![Receipt { id, dup: false, durability: Durability::Disk }]))
            }
            Command::Schedules { queue, after, max } => {
                let is_it = |it: &&super::plans::Planned| {
                    it.name > after && queue.as_ref().is_none_or(|queue| it.schedule.put.queue == *queue)
                };
                let found = model.schedules.iter().filter(is_it).take(max).map(super::plans::Planned::shown);
                Ok(Outcome::Schedules(found.collect()))
            }
            Command::GetSchedule(name) => {
                let found = model.schedules.iter().find(|it| it.name == name).map(super::plans::Planned::shown);
                Ok(Outcome::Schedules(vec![found.ok_or(Refusal::UnknownSchedule(name))?]))
            }
        }
    }
}

impl Queues for Naive {
    fn ask(&self, now: Timestamp, command: Command) -> Answer<Result<Outcome, Refusal>> {
        let slot = Arc::default();
        let inside = &mut *lock(&self.0);
        inside.write();
        match (inside.loss, &command) {
            // It is all seen, and none of it written.
            (Some(Loss::ShowsTooEarly), Command::Put(_)) => {
                let before = inside.disk.clone();
                inside.waiting = Some((now, command, Arc::clone(&slot)));
                inside.write();
                inside.really = Some(std::mem::replace(&mut inside.disk, before));
            }
            // The first of it is written.
            (Some(Loss::WritesHalf), Command::Put(puts)) if puts.len() > 1 => {
                let (before, listener) = (inside.disk.clone(), inside.listener.take());
                inside.waiting = Some((now, Command::Put(puts[..1].to_vec()), Arc::default()));
                inside.write();
                inside.listener = listener;
                inside.really = Some(before);
                inside.waiting = Some((now, command, Arc::clone(&slot)));
            }
            _ => inside.waiting = Some((now, command, Arc::clone(&slot))),
        }
        let (all, loss) = (self.0.clone(), inside.loss);
        let guard = Dropped(self.0.clone(), loss == Some(Loss::TakesBackWhatNobodyWaitsFor));
        Box::pin(async move {
            lock(&all).write();
            drop(guard);
            let answer = lock(&slot).take();
            Ok(answer.expect("it is answered"))
        })
    }

    fn tick(&self, now: Timestamp) -> Option<Timestamp> {
        let inside = &mut *lock(&self.0);
        inside.write();
        inside.time(now);
        inside.disk.model.next().map(Timestamp)
    }

    fn listen(&self, listener: Option<Listener>) {
        lock(&self.0).listener = listener;
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            durability: Durability::Disk,
            survives_restart: true,
            keeps_time: false,
            max_payload: 5_000,
            max_batch: 100,
        }
    }
}

struct Dropped(Arc<Mutex<Inside>>, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        if self.1 {
            lock(&self.0).waiting = None;
        }
    }
}
