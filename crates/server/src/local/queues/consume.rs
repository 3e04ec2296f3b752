//! Consumers: sockets that are sent jobs as they come.

use std::rc::Rc;

use posthaste_adapter::Member;
use posthaste_queue::{Command, Consume, ConsumerId, QueueName, Stop};
use serde::Serialize;
use serde_json::value::RawValue;

use super::verbs::{Asking, Reply, attempt, done};
use super::{Consumer, Desk, Stage};
use crate::handler::Running;
use crate::local::{Local, LocalNamespace};
use crate::queues::{LONGEST_LEASE, Options, QueueVerb, Refused, Route, text};

/// The bytes that a consumer has at a time if it does not say.
const BYTES: u64 = 1 << 20;
/// The most bytes it may ask for. It has as many as its [share](super::Holder::share).
const MAX_BYTES: u64 = 64 << 20;
/// The shortest lease, in milliseconds.
pub(super) const SHORTEST_LEASE: u64 = 100;
/// The most keys of one consumer.
const MAX_KEYS: usize = 64;

/// How a client wants jobs.
struct Wish {
    queue: QueueName,
    prefetch: u32,
    bytes: u64,
    lease_ms: Option<u64>,
    keys: Option<Vec<std::sync::Arc<str>>>,
    is_touched: bool,
}

pub(super) fn consume(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let wish = attempt!(asking, read(&asking));
    let member = attempt!(asking, asking.there());
    let Wish { queue, prefetch, bytes, lease_ms, keys, is_touched } = wish;
    let wish = Consume { consumer: 0, queue, prefetch, bytes, lease_ms, keys, once: None };
    if let Some(consumer) = asking.taken_up(member, &wish, is_touched) {
        asking.reply.send(&Opened { ok: true, consumer });
        return Ok(done());
    }
    let wish = attempt!(asking, asking.begin_consumer(member, wish, Stage::Opening(Vec::new()), is_touched));
    let id = wish.consumer;
    let answer = asking.local.ask_queues(asking.desk(), asking.number(), Command::Consume(wish));
    let Asking { local, namespace, reply, .. } = asking;
    Ok(Box::pin(async move {
        let opened = match answer.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => Err(Refused::from(refusal)),
            Err(error) => Err(Refused::from(error)),
        };
        // Where the session outlives the process, this is a part of it when the client hears of it.
        if let Some(desk) = namespace.desk().filter(|_| opened.is_ok()) {
            namespace.note_consumers(desk, Some(member)).settled().await;
        }
        opened_consumer(&local, &namespace, member, id, reply, opened);
    }))
}

#[derive(Serialize)]
struct Opened {
    ok: bool,
    consumer: ConsumerId,
}

/// A consumer may be, or may not.
fn opened_consumer(
    local: &Rc<Local>,
    namespace: &LocalNamespace,
    member: Member,
    id: ConsumerId,
    reply: Reply,
    opened: Result<(), Refused>,
) {
    let Some(desk) = namespace.desk() else { return };
    if let Err(refused) = opened {
        local.end_consumer(desk, namespace.shared.number(), id, Stop::Return);
        return reply.refuse(refused);
    }
    // Lost meanwhile.
    if desk.with_consumer(id, |_| ()).is_none() {
        return;
    }
    // What it was given is in the mail, which is taken with the answer, and waits until that is sent.
    reply.send(&Opened { ok: true, consumer: id });
    let waiting = desk.with_consumer(id, |consumer| match std::mem::replace(&mut consumer.stage, Stage::Open) {
        Stage::Opening(waiting) => waiting,
        other => {
            consumer.stage = other;
            Vec::new()
        }
    });
    local.send_waiting(desk, member, waiting.unwrap_or_default());
}

fn read(asking: &Asking<'_>) -> Result<Wish, Refused> {
    let queue = asking.queue(QueueVerb::Consume)?;
    asking.no_more_than(2)?;
    let max_prefetch = u64::from(asking.office().settings.max_prefetch);
    let mut options = Options::read(asking.arg(1))?;
    let prefetch = options.number("prefetch", 1..=max_prefetch)?.unwrap_or(1) as u32;
    let bytes = options.number("bytes", 1..=MAX_BYTES)?.unwrap_or(BYTES);
    let lease_ms = options.number("lease", SHORTEST_LEASE..=LONGEST_LEASE)?;
    let keys = options.take("keys").map(|keys| read_keys(keys.get())).transpose()?;
    let is_touched = options.word("mode", &[("auto", true), ("manual", false)])?.unwrap_or(true);
    options.end()?;
    Ok(Wish { queue, prefetch, bytes, lease_ms, keys, is_touched })
}

fn read_keys(list: &str) -> Result<Vec<std::sync::Arc<str>>, Refused> {
    let keys = serde_json::from_str::<Vec<&RawValue>>(list).ok();
    let keys = keys.filter(|keys| (1..=MAX_KEYS).contains(&keys.len()));
    let keys = keys.ok_or_else(|| Refused::invalid(format!("`keys` are 1 to {MAX_KEYS} texts")))?;
    keys.into_iter().map(|key| text("keys", key.get(), posthaste_queue::Put::MAX_KEY)).collect()
}

impl Asking<'_> {
    /// A consumer that came back with the session, asked for again: whoever consumes whenever it is connected has it once.
    fn taken_up(&self, member: Member, wish: &Consume, is_touched: bool) -> Option<ConsumerId> {
        let found = self.desk().with(member, |holder| {
            let is_it = |consumer: &&mut Consumer| {
                let same = Consume { consumer: consumer.wish.consumer, ..wish.clone() } == consumer.wish;
                consumer.came_back && same && consumer.is_touched == is_touched && matches!(consumer.stage, Stage::Open)
            };
            let consumer = holder.consumers.values_mut().find(is_it)?;
            consumer.came_back = false;
            Some(consumer.name)
        });
        found.flatten()
    }

    /// Notes a new consumer of this socket before it is asked for. Returns its wish with its number.
    pub(super) fn begin_consumer(
        &self,
        member: Member,
        wish: Consume,
        stage: Stage,
        is_touched: bool,
    ) -> Result<Consume, Refused> {
        let (desk, office) = (self.desk(), self.office());
        let max = office.settings.max_consumers;
        let id = office.hub.new_consumer();
        let (asked, wish) = (wish.bytes, Consume { consumer: id, ..wish });
        let admitted = desk.hold(member, self.socket, self.local.worker.now(), |holder| {
            let is_first = holder.consumers.is_empty();
            if holder.consumers.len() >= max {
                return None;
            }
            // What is pulled is asked for each time, and is little.
            let is_pull = matches!(stage, Stage::Pulling(..));
            let share = if is_pull { 0 } else { holder.share(wish.bytes, office.max_bytes) };
            let wish = wish.clone();
            holder
                .consumers
                .insert(id, Consumer { name: id, wish, share, stage, held: 0, is_touched, came_back: false });
            Some((is_first, if is_pull { asked } else { share }))
        });
        let Some((is_first, bytes)) = admitted else {
            return Err(Refused::new("too_many", format!("a socket has {max} consumers at most")));
        };
        if is_first {
            // A worker that is busy with a long job says nothing else.
            self.local.worker.follow_heartbeat(self.socket.0.connection);
        }
        desk.owners.borrow_mut().insert(id, member.0);
        office.hub.route(id, Route::Socket { namespace: office.number, worker: self.local.worker.index() });
        Ok(Consume { bytes, ..wish })
    }
}

pub(super) fn stop(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let (id, drains) = attempt!(asking, stopped(&asking));
    let Asking { local, namespace, reply, .. } = asking;
    let Some(desk) = namespace.desk() else { return Ok(done()) };
    let number = namespace.shared.number();
    let member = desk.owners.borrow().get(&id).copied().map(Member);
    if !drains {
        let answer = local.end_consumer(desk, number, id, Stop::Return);
        let noting = namespace.note_consumers(desk, member);
        return Ok(Box::pin(async move {
            noting.settled().await;
            match answer {
                Some(answer) => reply.confirm(answer.await.map_err(Refused::from)),
                None => reply.confirm(Ok(())),
            }
        }));
    }
    desk.with_consumer(id, |consumer| consumer.stage = Stage::Draining(None));
    let noting = namespace.note_consumers(desk, member);
    let held = desk.with_consumer(id, |consumer| {
        consumer.stage = Stage::Draining(Some((reply, noting)));
        consumer.held
    });
    let held_back = local.ask_queues(desk, number, Command::Hold(id));
    if held == Some(0) {
        local.consumer_is_idle(desk, number, id);
    }
    drop(held_back);
    Ok(done())
}

/// The consumer that is meant, and whether it may finish what it has.
fn stopped(asking: &Asking<'_>) -> Result<(ConsumerId, bool), Refused> {
    asking.no_more_than(2)?;
    let name = asking.number_at(0, "consumer")?;
    let mut options = Options::read(asking.arg(1))?;
    let drains = options.flag("drain")?;
    options.end()?;
    let unknown = || Refused::new("unknown_consumer", "there is no such consumer");
    let member = asking.member().ok_or_else(unknown)?;
    let found = asking.desk().with(member, |holder| {
        // One that drains already is stopped at once if that is wanted now.
        let is_meant = |consumer: &Consumer| match consumer.stage {
            Stage::Open => true,
            Stage::Draining(_) => !drains,
            _ => false,
        };
        let mut all = holder.consumers.iter();
        all.find(|(_, consumer)| consumer.name == name && is_meant(consumer)).map(|(id, _)| *id)
    });
    found.flatten().map(|id| (id, drains)).ok_or_else(unknown)
}

impl Local {
    /// A consumer is no more; what it has is free, or stays its client's.
    pub(super) fn end_consumer(
        &self,
        desk: &Desk,
        number: u32,
        id: ConsumerId,
        stop: Stop,
    ) -> Option<posthaste_history::store::Answer<Result<posthaste_queue::Outcome, posthaste_queue::Refusal>>> {
        let member = desk.owners.borrow().get(&id).copied()?;
        if stop == Stop::Return {
            desk.with(Member(member), |holder| {
                let held: Vec<_> = holder.leases.iter().filter(|(_, lease)| lease.consumer == id).collect();
                let held: Vec<_> = held.into_iter().map(|(token, _)| *token).collect();
                held.into_iter().for_each(|token| _ = holder.end(token));
            });
        }
        let ended = desk.forget(id);
        self.flush_settled(desk, number);
        let answer = desk.office.hub.stop(id, stop);
        if let Some(Consumer { stage: Stage::Draining(Some((reply, noting))), .. }) = ended {
            tokio::task::spawn_local(async move {
                noting.settled().await;
                reply.confirm(Ok(()));
            });
        }
        Some(answer)
    }

    /// A consumer has nothing any more: if that was waited for, it ends.
    pub(super) fn consumer_is_idle(&self, desk: &Desk, number: u32, id: ConsumerId) {
        let ends = desk.with_consumer(id, |consumer| matches!(consumer.stage, Stage::Draining(_) | Stage::Pulled));
        if ends == Some(true) {
            drop(self.end_consumer(desk, number, id, Stop::Return));
        }
    }
}
