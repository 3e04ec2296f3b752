//! Pulls: a few jobs at a time, for clients that ask rather than listen.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use posthaste_queue::{Command, Consume, Delivery, Settle, Stop, Verdict};
use posthaste_socket_proto::Args;
use tokio::sync::Notify;

use super::consume::SHORTEST_LEASE;
use super::jobs::write_meta;
use super::verbs::{Asking, Reply, attempt, done};
use super::{Settling, Stage};
use crate::handler::Running;
use crate::local::{Local, LocalNamespace};
use crate::queues::{LONGEST_LEASE, Options, Payload, QueueVerb, Refused};

/// The most that is pulled at once.
const MAX: u64 = 1_000;
/// The most bytes of one answer.
const BYTES: u64 = 1 << 20;
/// Longest wait, in milliseconds.
const LONGEST_WAIT: u64 = 3_600_000;
/// Clients take no more binary parts in one packet.
pub(super) const MAX_PARTS: usize = 10;

pub(super) fn pull(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let (wish, wait) = attempt!(asking, read(&asking));
    let member = attempt!(asking, asking.there());
    let news = Arc::new(Notify::new());
    let stage = Stage::Pulling(Vec::new(), news.clone());
    let wish = attempt!(asking, asking.begin_consumer(member, wish, stage, true));
    let id = wish.consumer;
    let answer = asking.local.ask_queues(asking.desk(), asking.number(), Command::Consume(wish));
    let Asking { local, namespace, reply, .. } = asking;
    // No handler of the connection's: it is read meanwhile.
    tokio::task::spawn_local(async move {
        let Some(desk) = namespace.desk() else { return };
        let number = namespace.shared.number();
        let opened = match answer.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refusal)) => Err(Refused::from(refusal)),
            Err(error) => Err(Refused::from(error)),
        };
        if let Err(refused) = opened {
            local.end_consumer(desk, number, id, Stop::Return);
            return reply.refuse(refused);
        }
        // What there was at once is in the mail by now.
        local.worker.apply_mail();
        let is_empty = || desk.with_consumer(id, |it| matches!(&it.stage, Stage::Pulling(all, _) if all.is_empty()));
        if is_empty() == Some(true) && !wait.is_zero() {
            let _ = tokio::time::timeout(wait, news.notified()).await;
        }
        let held = local.ask_queues(desk, number, Command::Hold(id));
        drop(held.await);
        local.worker.apply_mail();
        let pulled = desk.with_consumer(id, |it| match std::mem::replace(&mut it.stage, Stage::Pulled) {
            Stage::Pulling(all, _) => all,
            _ => Vec::new(),
        });
        // Lost meanwhile.
        let Some(pulled) = pulled else { return };
        local.hand_over(&namespace, pulled, reply);
        local.consumer_is_idle_if_empty(&namespace, id);
    });
    Ok(done())
}

fn read(asking: &Asking<'_>) -> Result<(Consume, Duration), Refused> {
    let queue = asking.queue(QueueVerb::Consume)?;
    asking.no_more_than(2)?;
    let mut options = Options::read(asking.arg(1))?;
    let prefetch = options.number("max", 1..=MAX)?.unwrap_or(1) as u32;
    let wait = options.number("wait", 0..=LONGEST_WAIT)?.unwrap_or(0);
    let lease_ms = options.number("lease", SHORTEST_LEASE..=LONGEST_LEASE)?;
    options.end()?;
    let wish = Consume { consumer: 0, queue, prefetch, bytes: BYTES, lease_ms, keys: None, once: None };
    Ok((wish, Duration::from_millis(wait)))
}

impl Local {
    /// Answers with what was pulled. What does not fit into one packet is given back.
    fn hand_over(&self, namespace: &LocalNamespace, pulled: Vec<Delivery>, reply: Reply) {
        let Some(desk) = namespace.desk() else { return };
        let (mut text, mut parts) = (String::from(r#"[{"ok":true,"messages":["#), Vec::<Bytes>::new());
        let mut is_first = true;
        for delivery in pulled {
            let owner = desk.owners.borrow().get(&delivery.consumer).copied();
            let member = owner.map(posthaste_adapter::Member);
            let has_it =
                |holder: &mut super::Holder| holder.leases.get(&delivery.token).is_some_and(|lease| !lease.is_over);
            if member.and_then(|member| desk.with(member, has_it)) != Some(true) {
                continue;
            }
            let mut meta = String::new();
            write_meta(&mut meta, &delivery);
            let args = Payload::from_stored(delivery.payload.clone()).args();
            let fits = args
                .as_ref()
                .is_some_and(|args| parts.is_empty() || parts.len() + args.attachments().len() <= MAX_PARTS);
            let Some(args) = args.filter(|_| fits) else {
                if let Some(member) = member {
                    desk.with(member, |holder| holder.let_go(delivery.token));
                }
                let settle = Settle { id: delivery.id, token: delivery.token, verdict: Verdict::Release };
                self.settle_soon(desk, namespace.shared.number(), Settling { settle, from: None });
                continue;
            };
            let (payload, more) = args.numbered_from(parts.len());
            if !std::mem::take(&mut is_first) {
                text.push(',');
            }
            text.push_str(&format!(r#"{{"payload":{payload},"meta":{meta}}}"#));
            parts.extend(more);
        }
        text.push_str("]}]");
        match Args::decode(&text, parts) {
            Ok(args) => reply.send(&args),
            Err(error) => {
                tracing::error!(%error, "what was pulled could not be put into an answer");
                reply.refuse(Refused::new("unavailable", "the messages cannot be shown"));
            }
        }
    }

    fn consumer_is_idle_if_empty(&self, namespace: &LocalNamespace, id: posthaste_queue::ConsumerId) {
        let Some(desk) = namespace.desk() else { return };
        if desk.with_consumer(id, |consumer| consumer.held == 0) == Some(true) {
            self.consumer_is_idle(desk, namespace.shared.number(), id);
        }
    }
}
