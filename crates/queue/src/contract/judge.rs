//! Whether what queues say was to be said, and what they give was to be given.

use std::mem;
use std::sync::PoisonError;

use super::model::{Message, Place, Told};
use super::plans::SCHEDULED;
use super::run::{Run, name};
use super::{Violation, ensure, violation};
use crate::port::{Delivery, Effect, End, MessageId, State};

impl Run {
    pub(super) fn take_heard(&mut self) -> Vec<Effect> {
        mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Everything that was said, against what had to be said and might be given.
    pub(super) fn hear(&mut self) -> Result<(), Violation> {
        for effect in self.take_heard() {
            let told = match effect {
                Effect::Granted(delivery) => {
                    self.granted(&delivery)?;
                    continue;
                }
                Effect::Revoked { why: crate::Why::Stale, .. } => continue,
                Effect::Revoked { consumer, id, token, why, .. } => Told::Revoked(consumer, id, token, why),
                Effect::Ended { id, end: End::Done(result), .. } => Told::Done(id, result),
                Effect::Ended { id, end: End::Dead(why), .. } => Told::Dead(id, Some(why)),
                Effect::Ended { id, end: End::Expired, .. } => Told::Expired(id),
                Effect::Ended { id, end: End::Removed, .. } => Told::Removed(id),
                Effect::Progress { id, value, .. } => Told::Progress(id, value),
                Effect::Finished(consumer) => Told::Finished(consumer),
            };
            let is_it = |(expected, _): &(Told, bool)| match (expected, &told) {
                (Told::Dead(id, None), Told::Dead(other, _)) => id == other,
                (expected, told) => expected == told,
            };
            let Some(at) = self.model.told.iter().position(is_it) else {
                let rule = match told {
                    Told::Dead(..) => "a message dies once, and when it should",
                    _ => "nothing is said that did not happen",
                };
                return Err(violation(rule, format!("{told:?}")));
            };
            self.model.told.remove(at);
        }
        let unsaid: Vec<Told> = mem::take(&mut self.model.told).into_iter().filter(|it| it.1).map(|it| it.0).collect();
        ensure("whom it concerns hears what happened", unsaid.is_empty(), || format!("unsaid: {unsaid:?}"))
    }

    /// A copy of a dead message, or what a schedule put, has a number now.
    pub(super) fn adopt(&mut self, id: MessageId, is_it: impl Fn(&Message) -> bool) -> Option<&mut Message> {
        let at = self.model.copies.iter().position(is_it)?;
        let copy = self.model.copies.remove(at);
        self.greatest = self.greatest.max(id);
        let place = self.model.messages.partition_point(|message| message.id < id);
        self.model.messages.insert(place, Message { id, ..copy });
        self.model.messages.get_mut(place)
    }

    fn granted(&mut self, given: &Delivery) -> Result<(), Violation> {
        let now = self.model.now;
        let show = |detail: &str| format!("{detail}: {given:?}");
        let token = given.token;
        let is_new = !self.tokens.iter().any(|(other, _)| *other == token);
        ensure("no token is given twice", is_new, || show("again"))?;
        ensure("JavaScript can carry a token", token <= 1 << 53, || show("too great"))?;
        self.tokens.push((token, given.id));
        if self.model.find(given.id).is_none() {
            let headers = &given.headers;
            let is_it = |copy: &Message| {
                copy.put.queue == given.queue && copy.put.payload == given.payload && copy.put.headers == *headers
            };
            if let Some(copy) = self.adopt(given.id, is_it).filter(|copy| copy.put.queue != name(SCHEDULED)) {
                (copy.put.priority, copy.put.key) = (given.priority, given.key.clone());
            }
        }
        let rule = "what is given out is there";
        let Some(message) = self.model.find(given.id).map(|it| it.clone()) else {
            return Err(violation(rule, show("gone")));
        };
        let is_unrevoked = |it: &(Told, bool)| matches!(it.0, Told::Revoked(_, id, ..) if it.1 && id == given.id);
        let is_leased = message.state(now) == State::Leased || self.model.told.iter().any(is_unrevoked);
        ensure("a message has one lease at a time", !is_leased, || show("leased"))?;
        ensure(rule, !matches!(message.place, Place::Dead(_)), || show("dead"))?;
        let is_early = matches!(message.place, Place::From(first, _) if first > now);
        ensure("nothing is given out before its time", !is_early, || show(&format!("{:?} at {now}", message.place)))?;

        let rule = "a consumer is given what it takes";
        let consumer = self.model.consumers.iter().find(|it| it.asked.consumer == given.consumer).cloned();
        let Some(consumer) = consumer else { return Err(violation(rule, show("not there"))) };
        let wanted = {
            let has = self.model.held_by(given.consumer);
            let (count, bytes) = has.fold((0, 0), |(count, bytes), it| (count + 1, bytes + it.put.cost()));
            let is_room = count < consumer.asked.prefetch;
            let is_small = count == 0 || bytes + message.put.cost() <= consumer.asked.bytes;
            ensure("a consumer has no more than it takes", is_room && is_small && consumer.left != Some(0), || {
                show(&format!("{count} messages, {bytes} bytes: {:?}", consumer.asked))
            })?;
            self.model.takes(&consumer, &message)
        };
        ensure(rule, wanted, || show(&format!("{:?}, held: {}", consumer.asked, consumer.is_held)))?;

        let Some(queue) = self.model.queues.iter().find(|it| it.name == message.put.queue) else {
            return Err(violation("what is given out is there", show("no queue")));
        };
        ensure("a queue that is paused gives nothing", !queue.is_paused, || show("paused"))?;
        let gives = self.model.gives(queue, false);
        ensure("a queue gives no more at a time, or in a time, than it may", gives, || {
            show(&format!("{:?}", queue.config))
        })?;
        ensure(
            "messages of a key are in order, and no more of them at a time than may be",
            message.put.key.is_none() || self.model.is_head(&message, false),
            || show("not its turn"),
        )?;
        let rule = "higher priorities come first, and earlier messages of the same";
        ensure(rule, self.model.is_head(&message, false), || show("not its turn"))?;
        let heads = || self.model.of(&message.put.queue).filter(|it| self.model.is_head(it, true));
        let is_better = |it: &Message| it.put.priority > message.put.priority && !it.is_just_lost(now);
        let better = heads().find(|it| is_better(it) && self.model.takes(&consumer, it));
        ensure(rule, better.is_none(), || show(&format!("before {better:?}")))?;
        let (config, name) = (queue.config.clone(), queue.name.clone());

        self.turns(given, &message)?;
        let most = consumer.asked.lease_ms.unwrap_or(config.lease_ms).min(config.max_lease_ms);
        ensure("a lease lasts as long as it may", (given.deadline.0, given.lease_ms) == (now + most, most), || {
            show(&format!("{most} from {now}"))
        })?;
        let put = &message.put;
        let same = (&given.queue, given.at.0, given.priority, &given.key)
            == (&name, message.at, put.priority, &put.key)
            && (&given.payload, &given.headers) == (&put.payload, &put.headers);
        ensure("a message is what was put", same, || show(&format!("{put:?} at {}", message.at)))?;
        let counts = (given.deliveries, given.failures) == (message.deliveries + 1, message.failures);
        ensure("a message is counted", counts, || {
            show(&format!("{} before, {} failures", message.deliveries, message.failures))
        })?;

        let consumer = given.consumer;
        let lease = Place::Leased { token, consumer, since: now, length: most, deadline: given.deadline.0 };
        if let Some(message) = self.model.find(given.id) {
            (message.deliveries, message.place, message.rests) = (message.deliveries + 1, lease, false);
        }
        let queue = self.model.queue(&name);
        queue.bucket.take(config.rate, now);
        if let Some((_, bucket)) = queue.key_buckets.iter_mut().find(|(key, _)| Some(key) == message.put.key.as_ref()) {
            bucket.take(config.key_rate, now);
        }
        let there = self.model.consumers.iter_mut().find(|it| it.asked.consumer == consumer);
        if let Some(left) = there.and_then(|it| it.left.as_mut()) {
            *left -= 1;
            if *left == 0 {
                self.model.consumers.retain(|it| it.asked.consumer != consumer);
                self.model.told.push((Told::Finished(consumer), true));
            }
        }
        Ok(())
    }

    /// Groups of a priority take turns, and so do consumers: nobody is passed over for ever. Loosely; how exactly is the store's choice.
    fn turns(&mut self, given: &Delivery, message: &Message) -> Result<(), Violation> {
        let model = &self.model;
        let Some(consumer) = model.consumers.iter().find(|it| it.asked.consumer == given.consumer) else {
            return Ok(());
        };
        let heads = model.of(&message.put.queue).filter(|it| {
            it.put.priority == message.put.priority && model.is_head(it, true) && model.takes(consumer, it)
        });
        let keys: Vec<_> = heads.map(|it| it.put.key.clone()).filter(|key| *key != message.put.key).collect();
        let others =
            model.consumers.iter().filter(|it| it.asked.consumer != given.consumer && model.takes(it, message));
        let others: Vec<_> = others.map(|it| it.asked.consumer).collect();
        let rule = "groups of a priority, and consumers, take turns";
        let of_level = |it: &(_, u8, _, u64)| it.0 == message.put.queue && it.1 == message.put.priority;
        self.passed.retain(|it| !of_level(it) || keys.contains(&it.2));
        let most = 4 * keys.len() as u64 + 8;
        for key in keys {
            match self.passed.iter_mut().find(|it| of_level(it) && it.2 == key) {
                Some((.., count)) => *count += 1,
                None => self.passed.push((message.put.queue.clone(), message.put.priority, key, 1)),
            }
        }
        let worst = self.passed.iter().filter(|it| of_level(it)).max_by_key(|it| it.3);
        ensure(rule, worst.is_none_or(|it| it.3 <= most), || format!("{worst:?} at {given:?}"))?;
        let of_queue = |id| model.consumers.iter().any(|it| it.asked.queue == given.queue && it.asked.consumer == id);
        self.overlooked.retain(|it| !of_queue(it.0) || others.contains(&it.0));
        let most = 4 * others.len() as u64 + 8;
        for consumer in others {
            match self.overlooked.iter_mut().find(|it| it.0 == consumer) {
                Some((_, count)) => *count += 1,
                None => self.overlooked.push((consumer, 1)),
            }
        }
        let worst = self.overlooked.iter().filter(|it| of_queue(it.0)).max_by_key(|it| it.1);
        ensure(rule, worst.is_none_or(|it| it.1 <= most), || format!("{worst:?} at {given:?}"))
    }

    /// Whatever somebody takes has been given.
    pub(super) fn nothing_is_left(&mut self) -> Result<(), Violation> {
        let model = &self.model;
        for consumer in &model.consumers {
            let Some(queue) = model.queues.iter().find(|it| it.name == consumer.asked.queue) else { continue };
            if !model.gives(queue, true) {
                continue;
            }
            // By what is not its size: who waits for bytes may wait for the first.
            let mut patient = consumer.clone();
            patient.asked.bytes = u64::MAX;
            let heads = model.of(&queue.name).filter(|it| model.is_head(it, true) && model.takes(&patient, it));
            let Some(most) = heads.clone().map(|it| it.put.priority).max() else { continue };
            let all_fit = heads.clone().filter(|it| it.put.priority == most).all(|it| model.takes(consumer, it));
            ensure("what is ready is given to whoever takes it", !all_fit, || {
                format!("{:?} has not {:?}", consumer.asked, heads.clone().next())
            })?;
        }
        Ok(())
    }
}
