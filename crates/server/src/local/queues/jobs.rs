//! Grants on their way to sockets, and what sockets answer.

use std::sync::Arc;

use posthaste_adapter::{Member, Rooms};
use posthaste_history::store::{StoreError, at_once};
use posthaste_queue::{
    Command, Delivery, Effect, MessageId, Outcome, QueueName, Refusal, Settle, Stop, Token, Verdict, Why, name_is_good,
};
use posthaste_socket_proto::{Args, encode_event};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Desk, Settling, Stage};
use crate::encode::with_packet;
use crate::how::How;
use crate::local::{Handle, Local};
use crate::namespace::{Namespace, NamespaceInner};
use crate::queues::{JobArgs, News, Payload, verdict};
use crate::socket::Socket;

/// A settlement that is on its way, and who is told if the lease was over.
type Told = (MessageId, Token, Option<(u32, QueueName)>);

/// What a worker's client is told of a job beside its payload, as JSON text.
///
/// `{"id", "queue", "token", "deliveries", "failures", "deadline"}`, and `"key"` and `"headers"` if it has them. The deadline is when the
/// lease ends, in milliseconds since 1970. Written by hand: this is said of every job.
pub(super) fn write_meta(to: &mut String, delivery: &Delivery) {
    let Delivery { id, queue, token, deliveries, failures, deadline, key, headers, .. } = delivery;
    let mut digits = itoa::Buffer::new();
    let mut number = |to: &mut String, name: &str, number: u64| {
        to.push_str(name);
        to.push_str(digits.format(number));
    };
    number(to, r#"{"id":"#, *id);
    to.push_str(r#","queue":"#);
    write_text(to, queue);
    number(to, r#","token":"#, *token);
    number(to, r#","deliveries":"#, (*deliveries).into());
    number(to, r#","failures":"#, (*failures).into());
    number(to, r#","deadline":"#, deadline.0);
    if let Some(key) = key {
        to.push_str(r#","key":"#);
        write_text(to, key);
    }
    // What is stored came from a client as an object, or from Rust as what serializes.
    if !headers.is_empty()
        && let Ok(headers) = serde_json::from_slice::<&RawValue>(headers)
    {
        to.push_str(r#","headers":"#);
        to.push_str(headers.get());
    }
    to.push('}');
}

/// Text as JSON: as it is, if it may be the name of a queue.
fn write_text(to: &mut String, text: &str) {
    if name_is_good(text) {
        to.push('"');
        to.push_str(text);
        to.push('"');
    } else {
        to.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// Has a worker hear of what concerns its sockets. Called by the thread that commits.
pub(crate) fn post_effects(namespace: &Arc<NamespaceInner>, worker: u16, effects: Vec<Effect>) {
    let Some(server) = namespace.server.upgrade() else { return };
    let Some(handle) = server.workers.handles().get(usize::from(worker)) else { return };
    let size = |effect: &Effect| if let Effect::Granted(delivery) = effect { delivery.payload.len() } else { 0 };
    let bytes = effects.iter().map(size).sum();
    let held = namespace.clone();
    // A worker that has ended has no sockets: their consumers were stopped when they were lost.
    let _ = handle.post_bytes(bytes, move |_| {
        if let Some(local) = crate::local::of(&held.server) {
            local.hear_effects(held.number(), effects);
        }
    });
}

/// Has those hear that watch queues. Called by the thread that commits.
pub(crate) fn post_news(namespace: &Arc<NamespaceInner>, news: &Arc<Vec<News>>) {
    let Some(server) = namespace.server.upgrade() else { return };
    let Some(handle) = server.workers.handles().first() else { return };
    let (held, news) = (namespace.clone(), news.clone());
    let _ = handle.post(move |_| {
        let namespace = Namespace(held);
        for News { queue, kind, id, value } in &*news {
            let rest = value.as_ref().and_then(Payload::args).unwrap_or_default();
            let event = posthaste_socket_proto::Chain((&**queue, *kind, *id), rest);
            drop(namespace.to(watchers(queue)).emit("q:event", &event));
        }
    });
}

/// The room of those who watch a queue.
pub(super) fn watchers(queue: &str) -> String {
    format!("q:{queue}")
}

impl Local {
    /// What concerns this worker's sockets.
    fn hear_effects(&self, number: u32, effects: Vec<Effect>) {
        let Some(namespace) = self.namespace(number) else { return };
        let Some(desk) = namespace.desk() else { return };
        for effect in effects {
            match effect {
                Effect::Granted(delivery) => self.granted(desk, number, delivery),
                Effect::Revoked { consumer, queue, id, token, why } => {
                    let member = desk.owners.borrow().get(&consumer).copied();
                    let Some(member) = member.map(Member) else { continue };
                    let ended = desk.with(member, |holder| Some((holder.socket.clone(), holder.end(token)?.1)));
                    // Of one that was settled meanwhile its client is told nothing.
                    let Some(Some((socket, idle))) = ended else { continue };
                    tell_revoked(&socket, id, token, &queue, why);
                    if let Some(idle) = idle {
                        self.consumer_is_idle(desk, number, idle);
                    }
                }
                // Its queue was removed.
                Effect::Finished(consumer) => {
                    let member = desk.owners.borrow().get(&consumer).copied().map(Member);
                    drop(self.end_consumer(desk, number, consumer, Stop::Return));
                    drop(namespace.note_consumers(desk, member));
                }
                _ => {}
            }
        }
    }

    fn granted(&self, desk: &Desk, number: u32, delivery: Delivery) {
        let member = desk.owners.borrow().get(&delivery.consumer).copied();
        let Some(member) = member.map(Member) else {
            // Its socket is lost, and it was not sent: nobody else is to wait for that one's grace.
            return desk.office.hub.give_back(delivery.id, delivery.token);
        };
        let opened = desk.with(member, |holder| {
            let consumer = holder.consumers.get_mut(&delivery.consumer)?;
            consumer.held += 1;
            match &mut consumer.stage {
                Stage::Opening(all) => all.push(delivery.clone()),
                Stage::Pulling(all, news) => {
                    all.push(delivery.clone());
                    news.notify_one();
                }
                _ => {
                    let ack = holder.next_ack();
                    holder.lease(&delivery, Some(ack), self.worker.now());
                    return Some(Some((ack, holder.socket.clone())));
                }
            }
            holder.lease(&delivery, None, self.worker.now());
            Some(None)
        });
        match opened {
            Some(Some(Some((ack, socket)))) => self.send_job(desk, &socket, ack, &delivery),
            Some(Some(None)) => {}
            Some(None) | None => return desk.office.hub.give_back(delivery.id, delivery.token),
        }
        self.watch_silence(desk, number, member);
    }

    /// Sends what a consumer was given before its client knew of it.
    pub(super) fn send_waiting(&self, desk: &Desk, member: Member, waiting: Vec<Delivery>) {
        for delivery in waiting {
            let asked = desk.with(member, |holder| {
                if !holder.leases.contains_key(&delivery.token) {
                    return None;
                }
                let ack = holder.next_ack();
                holder.lease(&delivery, Some(ack), self.worker.now());
                Some((ack, holder.socket.clone()))
            });
            if let Some(Some((ack, socket))) = asked {
                self.send_job(desk, &socket, ack, &delivery);
            }
        }
    }

    fn send_job(&self, desk: &Desk, socket: &Socket, ack: u32, delivery: &Delivery) {
        let payload = Payload::from_stored(delivery.payload.clone());
        let Some((text, parts)) = payload.parts() else {
            tracing::error!(queue = %delivery.queue, id = delivery.id, "a message was put that is no payload");
            let why = "what was put is no payload".into();
            let settle = Settle { id: delivery.id, token: delivery.token, verdict: Verdict::Dead { why } };
            desk.settling.borrow_mut().push(Settling { settle, from: None });
            return;
        };
        let mut meta = String::with_capacity(160);
        write_meta(&mut meta, delivery);
        let job = JobArgs { text, parts: &parts, meta: &meta };
        let namespace = &socket.0.namespace;
        let sent = with_packet(
            |out| encode_event(out, &namespace.name, Some(u64::from(ack)), "job", &job),
            |frames| {
                // A connection that is gone is heard of soon, and its leases are free then.
                self.send(socket.0.connection, frames, How::USUAL);
                if namespace.is_watched() {
                    self.show_sent(socket, frames);
                }
            },
        );
        if let Err(error) = sent {
            tracing::error!(%error, queue = %delivery.queue, id = delivery.id, "a job could not be written");
            let settle = Settle {
                id: delivery.id,
                token: delivery.token,
                verdict: Verdict::Dead { why: error.to_string().into() },
            };
            desk.settling.borrow_mut().push(Settling { settle, from: None });
        }
    }

    /// An answer came under the id of a job. False if it is none of a job's.
    pub(in crate::local) fn answered_job(&self, handle: Handle, id: u64, args: &Args<'_>) -> bool {
        let Some(namespace) = self.namespace(handle.namespace) else { return false };
        let Some(desk) = namespace.desk() else { return false };
        let Ok(ack) = u32::try_from(id) else { return false };
        let found = desk.with(handle.member, |holder| {
            let token = *holder.asked.get(&ack)?;
            let (lease, idle) = holder.let_go(token)?;
            Some((token, lease, idle))
        });
        let Some(Some((token, lease, idle))) = found else { return false };
        // One whose lease is over is refused, and its worker is told then.
        let settle = Settle { id: lease.id, token, verdict: verdict(args) };
        self.settle_soon(desk, handle.namespace, Settling { settle, from: Some((handle.member.0, lease.queue)) });
        if let Some(idle) = idle {
            self.consumer_is_idle(desk, handle.namespace, idle);
        }
        self.touch_jobs(desk, handle.namespace, handle.member);
        true
    }

    /// Settles in this turn, with others.
    pub(super) fn settle_soon(&self, desk: &Desk, number: u32, settling: Settling) {
        let waiting = {
            let mut all = desk.settling.borrow_mut();
            all.push(settling);
            all.len()
        };
        if waiting >= desk.office.hub.capabilities().max_batch.clamp(1, 64) {
            return self.flush_settled(desk, number);
        }
        if waiting > 1 {
            return;
        }
        let server = self.server.clone();
        let _ = self.worker.handle().post(move |_| {
            if let Some(local) = crate::local::of(&server)
                && let Some(namespace) = local.namespace(number)
                && let Some(desk) = namespace.desk()
            {
                local.flush_settled(desk, number);
            }
        });
    }

    /// Asks for what is to be settled.
    pub(super) fn flush_settled(&self, desk: &Desk, number: u32) {
        if desk.settling.borrow().is_empty() {
            return;
        }
        let all = desk.settling.take();
        let (mut settles, mut from) = (Vec::with_capacity(all.len()), Vec::with_capacity(all.len()));
        for Settling { settle, from: who } in all {
            from.push((settle.id, settle.token, who));
            settles.push(settle);
        }
        let hub = desk.office.hub.clone();
        let mut answer = hub.ask(Command::Settle(settles.clone()));
        let waited = at_once(&mut answer);
        if let Some(Ok(Ok(outcome))) = waited {
            return self.settled(number, outcome, from);
        }
        let Some(this) = self.this.upgrade() else { return };
        tokio::task::spawn_local(async move {
            let answered = match waited {
                Some(answered) => answered,
                None => answer.await,
            };
            let queue = from.iter().find_map(|(.., who)| who.as_ref().map(|(_, queue)| queue.as_ref()));
            match hub.settle_after(&settles, answered).await {
                Ok(Ok(outcome)) => this.settled(number, outcome, from),
                Ok(Err(refusal)) => tracing::error!(%refusal, queue, "jobs were not settled: their leases run out"),
                Err(error @ (StoreError::Busy { .. } | StoreError::Full { .. })) => {
                    let count = settles.len();
                    tracing::warn!(%error, queue, count, "jobs were not settled, the store is behind: their leases run out");
                }
                Err(error) => tracing::error!(%error, queue, "jobs were not settled: their leases run out"),
            }
        });
    }

    fn settled(&self, number: u32, outcome: Outcome, from: Vec<Told>) {
        let Outcome::Settled(results) = outcome else { return };
        if results.iter().all(Result::is_ok) {
            return;
        }
        let Some(namespace) = self.namespace(number) else { return };
        let Some(desk) = namespace.desk() else { return };
        for (result, (id, token, who)) in results.into_iter().zip(from) {
            let (Err(refusal), Some((member, queue))) = (result, who) else { continue };
            tracing::debug!(%refusal, id, "an answer to a job counted for nothing");
            if !matches!(refusal, Refusal::StaleLease(_) | Refusal::UnknownMessage(_)) {
                // What the answer has the queue does not take: it must not wait for the end of its lease.
                let verdict = Verdict::Retry { after_ms: None, why: refusal.to_string().into() };
                let settle = Settle { id, token, verdict };
                self.settle_soon(desk, number, Settling { settle, from: None });
            } else if let Some(socket) = desk.with(Member(member), |holder| holder.socket.clone()) {
                tell_revoked(&socket, id, token, &queue, Why::Stale);
            }
        }
    }

    /// Has a socket hear what becomes of the messages of a queue, or not any more.
    pub(super) fn watch_queue(&self, socket: &Socket, queue: &str, watch: bool) {
        let rooms: Rooms = std::iter::once(watchers(queue).into()).collect();
        match watch {
            true => self.join_or_warn(socket, &rooms),
            false => self.leave(socket, &rooms),
        }
    }
}

/// Tells a client that a job is not its own any more.
fn tell_revoked(socket: &Socket, id: MessageId, token: Token, queue: &str, why: Why) {
    let reason = match why {
        Why::Expired => "expired",
        Why::Removed => "removed",
        Why::Stale => "stale",
    };
    #[derive(Serialize)]
    struct Which<'a> {
        queue: &'a str,
        token: Token,
    }
    drop(socket.emit("q:revoked", &(id, reason, Which { queue, token })));
}
