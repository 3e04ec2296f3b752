//! What can be seen of queues, against their model.

use bytes::Bytes;
use posthaste_history::store::Timestamp;

use super::model::{Message, Place};
use super::plans::SCHEDULED;
use super::run::{Run, code, name};
use super::{Violation, ensure, violation};
use crate::port::{Command, End, Found, MessageId, Outcome, QueueName, Refusal, State};

const DUE: &str = "what is due is put, once";
const STATES: [State; 4] = [State::Ready, State::Delayed, State::Leased, State::Dead];

impl Run {
    /// A queue's messages of one state, in pages of at most `max`.
    pub(super) fn peek(&mut self, queue: &QueueName, state: State, max: usize) -> Result<Vec<Found>, Violation> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let (found, next) = match self.ask(Command::Peek { queue: queue.clone(), state, after, max })? {
                Ok(Outcome::Page(found, next)) => (found, next),
                Err(Refusal::UnknownQueue(_)) => return Ok(Vec::new()),
                other => return Err(violation("messages can be looked at", format!("{other:?}"))),
            };
            let rule = "messages are looked at page by page";
            let last = found.last().map_or(after, |it| it.id);
            ensure(rule, found.len() <= max, || format!("{} instead of {max}", found.len()))?;
            all.extend(found);
            let Some(next) = next else { return Ok(all) };
            // One page after the other gets nearer to the end.
            ensure(rule, next > after && next >= last, || format!("on behind {next}, from {after}, with {last}"))?;
            after = next;
        }
    }

    /// One message, if it has not ended.
    pub(super) fn get(&mut self, id: MessageId) -> Result<Option<Found>, Violation> {
        match self.ask(Command::Get(id))? {
            Ok(Outcome::Messages(mut found)) if found.len() == 1 => Ok(found.pop()),
            Ok(Outcome::Ended(..)) | Err(Refusal::UnknownMessage(_)) => Ok(None),
            other => Err(violation("messages can be looked at", format!("{other:?}"))),
        }
    }

    /// All that can be seen.
    pub(super) fn compare(&mut self) -> Result<(), Violation> {
        for queue in 0..=SCHEDULED {
            let name = name(queue);
            for state in STATES {
                let found = self.peek(&name, state, usize::MAX)?;
                self.same(&name, state, &found)?;
            }
            let is_due = |it: &Message| it.put.queue == name && queue == SCHEDULED;
            ensure(DUE, !self.model.copies.iter().any(is_due), || format!("missing: {:?}", self.model.copies))?;
            let answer = self.ask(Command::Stats(name.clone()))?;
            let answered = self.ask(Command::Config(name.clone()))?;
            let Some(there) = self.model.queues.iter().find(|it| it.name == name) else {
                let rule = "what is asked of a queue that is not there is refused";
                let both = (code(&answer), code(&answered));
                ensure(rule, both == ("unknown_queue", "unknown_queue"), || format!("{both:?}"))?;
                continue;
            };
            let expected = Ok(Outcome::Depth(self.model.depth(there)));
            ensure("a queue is counted right", answer == expected, || format!("{answer:?} instead of {expected:?}"))?;
            let expected = Ok(Outcome::Config(Box::new(there.config.clone())));
            ensure("a queue says what it allows", answered == expected, || {
                format!("{answered:?} instead of {expected:?}")
            })?;
        }
        ensure("a dead message is put where it was to be put", self.model.copies.is_empty(), || {
            format!("missing: {:?}", self.model.copies)
        })?;
        self.list()?;
        self.compare_schedules()?;
        for (id, queue, result, _) in self.model.results.clone() {
            let answer = self.ask(Command::Get(id))?;
            let expected = Ok(Outcome::Ended(queue.clone(), End::Done(result.clone())));
            // Whether there was none, or an empty one, need not be known afterwards.
            let empty = Ok(Outcome::Ended(queue, End::Done(Some(Bytes::new()))));
            let same = answer == expected || result.is_none() && answer == empty;
            ensure("a result is kept", same, || format!("{answer:?} instead of {expected:?}"))?;
        }
        let answer = self.ask(Command::Get(1 << 51))?;
        ensure("a message that is not there is not found", code(&answer) == "unknown_message", || format!("{answer:?}"))
    }

    fn list(&mut self) -> Result<(), Violation> {
        let rule = "queues are listed by name";
        let mut expected: Vec<_> = self.model.queues.iter().map(|it| (it.name.clone(), self.model.depth(it))).collect();
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let (mut found, mut after): (Vec<_>, QueueName) = (Vec::new(), "".into());
        loop {
            let outcome = self.done(rule, Command::List { after, max: 2 })?;
            let Outcome::Queues(page) = outcome else { return Err(violation(rule, format!("{outcome:?}"))) };
            ensure(rule, page.len() <= 2, || format!("{page:?}"))?;
            let Some((last, _)) = page.last() else { break };
            after = last.clone();
            found.extend(page);
            ensure(rule, found.len() <= expected.len(), || format!("{found:?}"))?;
        }
        ensure(rule, found == expected, || format!("{found:?} instead of {expected:?}"))
    }

    /// A queue's messages of one state, in small pages.
    pub(super) fn pages(&mut self, queue: &QueueName, state: State, max: usize) -> Result<(), Violation> {
        let rule = "messages are looked at page by page";
        let expected: Vec<MessageId> = self.peek(queue, state, usize::MAX)?.iter().map(|it| it.id).collect();
        let found: Vec<MessageId> = self.peek(queue, state, max)?.iter().map(|it| it.id).collect();
        ensure(rule, found == expected, || format!("{found:?} instead of {expected:?}"))
    }

    fn same(&mut self, queue: &QueueName, state: State, found: &[Found]) -> Result<(), Violation> {
        for one in found {
            if self.model.find(one.id).is_none() {
                let is_it = |copy: &Message| {
                    copy.put.queue == *queue && copy.put.payload == one.payload && copy.put.headers == one.headers
                };
                if let Some(copy) = self.adopt(one.id, is_it).filter(|copy| copy.put.queue != name(SCHEDULED)) {
                    (copy.put.priority, copy.put.key) = (one.priority, one.key.clone());
                }
            }
        }
        let now = self.model.now;
        let is_it = |it: &&Message| it.state(now) == state;
        let expected: Vec<MessageId> = self.model.of(queue).filter(is_it).map(|it| it.id).collect();
        let ids: Vec<MessageId> = found.iter().map(|it| it.id).collect();
        if ids != expected {
            let lost = expected.iter().find(|id| !ids.contains(id));
            let rule = match lost {
                None if *queue == name(SCHEDULED) => DUE,
                Some(_) => "a message is there, and where it should be, until it ends",
                None => "a message that has ended is gone",
            };
            let show = |id: &&MessageId| self.model.messages.iter().find(|it| it.id == **id);
            return Err(violation(
                rule,
                format!("{state:?}: {ids:?} instead of {expected:?}: {:?}", lost.as_ref().map(show)),
            ));
        }
        found.iter().try_for_each(|one| self.looks(one))
    }

    /// One message as it is seen.
    pub(super) fn looks(&mut self, one: &Found) -> Result<(), Violation> {
        let now = self.model.now;
        let Some(message) = self.model.find(one.id) else { return Ok(()) };
        let show = || format!("{one:?} instead of {message:?} at {now}");
        let put = &message.put;
        let same = (&one.queue, one.at.0, one.priority, &one.key) == (&put.queue, message.at, put.priority, &put.key)
            && (&one.payload, &one.headers) == (&put.payload, &put.headers);
        ensure("a message is what was put", same && one.state == message.state(now), show)?;
        let counts = (one.rest.deliveries, one.rest.failures, one.rest.losses);
        let expected = (message.deliveries, message.failures, message.losses);
        ensure("a message is counted", counts == expected, show)?;
        let newest = message.history.len().saturating_sub(crate::Reason::MAX_KEPT);
        let expected = &message.history[newest..];
        let mut pairs = one.history.iter().zip(expected);
        let is_told = one.history.len() == expected.len()
            && pairs.all(|((_, found), expected)| expected.as_ref().is_none_or(|expected| expected == found));
        ensure("a message says why it failed", is_told, show)?;
        let until = match message.place {
            Place::From(first, last) if last > now => one.until.is_some_and(|until| (first..=last).contains(&until.0)),
            Place::Leased { deadline, .. } => one.until == Some(Timestamp(deadline)),
            _ => true,
        };
        ensure("a message says until when it is where it is", until, show)?;
        // Chance has spoken.
        if let (Place::From(_, last), Some(until)) = (message.place, one.until)
            && last > now
        {
            message.place = Place::From(until.0, until.0);
        }
        Ok(())
    }
}
