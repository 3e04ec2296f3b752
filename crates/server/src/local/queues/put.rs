//! Putting messages, and waiting for what becomes of them.

use std::time::Duration;

use bytes::Bytes;
use posthaste_adapter::Member;
use posthaste_history::store::Answer;
use posthaste_queue::{Command, MessageId, Outcome, Put, Receipt, Refusal};
use posthaste_socket_proto::{Args, ArgsWriter, EmitArgs, EncodeError};
use serde::Serialize;
use serde_json::value::RawValue;

use super::verbs::{Asking, Reply, Wait, attempt, done};
use crate::handler::Running;
use crate::queues::now;
use crate::queues::{
    Defaults, LONGEST_LEASE, Options, Payload, QueueError, QueueVerb, Refused, check_parts, read_put, read_value,
};

/// How long a call waits for its result if it does not say, in milliseconds.
const PATIENCE: u64 = 30_000;
/// How long a result is kept beyond that, in milliseconds, for whoever was not there in time.
const KEPT_LONGER: u64 = 300_000;

/// What a client is told of a message that was put: `{"ok": true, "id", "pos", "dup", "class"}`. Written by hand: this is said of every
/// message.
fn write_receipt(to: &mut String, receipt: &Receipt) {
    use posthaste_history::store::Durability::{Disk, Memory, Os, Quorum};
    let mut digits = itoa::Buffer::new();
    let id = digits.format(receipt.id);
    let dup = if receipt.dup { "true" } else { "false" };
    let class = match receipt.durability {
        Memory => "memory",
        Os => "os",
        Disk => "disk",
        Quorum => "quorum",
    };
    for part in [r#"{"ok":true,"id":"#, id, r#","pos":"#, id, r#","dup":"#, dup, r#","class":""#, class, r#""}"#] {
        to.push_str(part);
    }
}

/// One argument that is JSON text already.
struct Text(String);

impl EmitArgs for Text {
    fn emit(&self, writer: &mut ArgsWriter<'_>) -> Result<(), EncodeError> {
        writer.text(&self.0, &[]);
        Ok(())
    }
}

impl Asking<'_> {
    fn defaults(&self, is_call: bool) -> Defaults {
        Defaults { now: now(), durability: self.office().hub.capabilities().durability, is_call }
    }

    /// What `(queue, payload, options)` say.
    fn message(&self, verb: QueueVerb) -> Result<(Put, Option<u64>), Refused> {
        let queue = self.queue(verb)?;
        let mut rest = self.args.iter().skip(1);
        let payload = rest.next().ok_or_else(|| Refused::invalid("the payload is missing"))?;
        let options = rest.next();
        if rest.next().is_some() {
            return Err(Refused::invalid(format!("{} takes a queue, a payload and options", self.event)));
        }
        let (payload, parts) = read_value(self.args, payload)?;
        check_parts(self.args, parts)?;
        read_put(&queue, payload, options, self.defaults(verb == QueueVerb::Call))
    }

    fn store(&self, puts: Vec<Put>) -> Answer<Result<Outcome, Refusal>> {
        self.local.ask_queues(self.desk(), self.number(), Command::Put(puts))
    }
}

pub(super) fn put(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let (put, _) = attempt!(asking, asking.message(QueueVerb::Put));
    let answer = asking.store(vec![put]);
    let reply = asking.reply;
    Ok(Box::pin(async move { reply.answer(receipts(answer.await).and_then(first)) }))
}

pub(super) fn put_many(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let puts = attempt!(asking, messages(&asking));
    let answer = asking.store(puts);
    let reply = asking.reply;
    Ok(Box::pin(async move { reply.answer(receipts(answer.await).map(all)) }))
}

fn messages(asking: &Asking<'_>) -> Result<Vec<Put>, Refused> {
    let queue = asking.queue(QueueVerb::Put)?;
    asking.no_more_than(2)?;
    let wrong = || Refused::invalid("q:putMany takes a queue and an array of {payload, opts}");
    let list = asking.arg(1).filter(|list| list.starts_with('[')).ok_or_else(wrong)?;
    let items: Vec<&RawValue> = serde_json::from_str(list).map_err(|_| wrong())?;
    let max = asking.office().hub.capabilities().max_batch;
    if items.is_empty() || items.len() > max {
        return Err(Refused::invalid(format!("q:putMany takes 1 to {max} messages")));
    }
    let defaults = asking.defaults(false);
    let mut parts = 0;
    let mut puts = Vec::with_capacity(items.len());
    for item in items {
        let mut members = Options::read(Some(item.get()))?;
        let payload = members.take_any("payload").ok_or_else(|| Refused::invalid("`payload` is missing"))?;
        let options = members.take("opts").map(RawValue::get);
        members.end()?;
        let (payload, count) = read_value(asking.args, payload.get())?;
        parts += count;
        puts.push(read_put(&queue, payload, options, defaults)?.0);
    }
    check_parts(asking.args, parts)?;
    Ok(puts)
}

fn receipts(
    answered: Result<Result<Outcome, Refusal>, posthaste_history::store::StoreError>,
) -> Result<Vec<Receipt>, Refused> {
    match answered?? {
        Outcome::Put(receipts) => Ok(receipts),
        _ => Err(Refused::new("unavailable", "the store gave another answer")),
    }
}

fn first(receipts: Vec<Receipt>) -> Result<Text, Refused> {
    let receipt = receipts.first().ok_or_else(|| Refused::new("unavailable", "the store gave no receipt"))?;
    let mut text = String::with_capacity(112);
    write_receipt(&mut text, receipt);
    Ok(Text(text))
}

/// `{"ok": true, "receipts": […]}`.
fn all(receipts: Vec<Receipt>) -> Text {
    let mut text = String::with_capacity(32 + 80 * receipts.len());
    text.push_str(r#"{"ok":true,"receipts":["#);
    for (at, receipt) in receipts.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_receipt(&mut text, receipt);
    }
    text.push_str("]}");
    Text(text)
}

pub(super) fn call(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let (mut put, timeout) = attempt!(asking, asking.message(QueueVerb::Call));
    let wait = attempt!(asking, asking.wait());
    let patience = timeout.unwrap_or(PATIENCE);
    let keeps = *put.keep_result_ms.get_or_insert(patience + KEPT_LONGER) > 0;
    let answer = asking.store(vec![put]);
    let (hub, namespace) = (asking.office().hub.clone(), asking.namespace.clone());
    let member = attempt!(asking, asking.there());
    let reply = asking.reply;
    // No handler of the connection's: what it waits for may be done by the same client, which must be read meanwhile.
    tokio::task::spawn_local(async move {
        let receipt = match receipts(answer.await) {
            Ok(receipts) => receipts.first().copied(),
            Err(refused) => return reply.refuse(refused),
        };
        let Some(Receipt { id, dup, .. }) = receipt else { return };
        if let Some(desk) = namespace.desk() {
            desk.with(member, |holder| holder.note_call(id));
        }
        let result = hub.result_of(id, keeps && !dup, Duration::from_millis(patience)).await;
        tell_result(id, result, reply, wait);
    });
    Ok(done())
}

pub(super) fn wait(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let Awaited { id, patience, is_own } = attempt!(asking, awaited(&asking));
    let wait = attempt!(asking, asking.wait());
    let (office, socket, reply) = (asking.office().clone(), asking.socket.clone(), asking.reply);
    tokio::task::spawn_local(async move {
        // Whose message that is, its queue's rule says. Where it is not allowed it is as if it were not there.
        if !is_own {
            match office.hub.queue_of(id).await {
                Ok(queue) if office.permits(&socket, QueueVerb::Await, &queue) => {}
                Ok(_) => return reply.refuse(Refusal::UnknownMessage(id).into()),
                Err(error) => return reply.refuse(error.into()),
            }
        }
        let result = office.hub.result_of(id, false, Duration::from_millis(patience)).await;
        tell_result(id, result, reply, wait);
    });
    Ok(done())
}

/// A message whose result is asked for.
struct Awaited {
    id: MessageId,
    patience: u64,
    /// The session called it itself.
    is_own: bool,
}

fn awaited(asking: &Asking<'_>) -> Result<Awaited, Refused> {
    asking.no_more_than(2)?;
    let id = asking.number_at(0, "id")?;
    let mut options = Options::read(asking.arg(1))?;
    let patience = options.number("timeout", 0..=LONGEST_LEASE)?.unwrap_or(PATIENCE);
    options.end()?;
    let is_own = |member: Member| asking.desk().with(member, |holder| holder.calls.contains(&id));
    let is_own = asking.member().and_then(is_own) == Some(true);
    Ok(Awaited { id, patience, is_own })
}

/// Tells the result of a message, or that there is none yet.
fn tell_result(id: MessageId, result: Result<Payload, QueueError>, reply: Reply, wait: Wait) {
    #[derive(Serialize)]
    struct Pending {
        ok: bool,
        id: MessageId,
        pending: bool,
    }
    drop(wait);
    match result {
        Ok(result) => match with_result(id, &result) {
            Some(answer) => reply.send(&answer),
            None => reply.refuse(Refused::new("unavailable", "the result cannot be shown")),
        },
        Err(QueueError::Pending(id)) => reply.send(&Pending { ok: true, id, pending: true }),
        Err(error) => reply.refuse(error.into()),
    }
}

/// `{"ok": true, "id": …, "result": …}`.
fn with_result(id: MessageId, result: &Payload) -> Option<Args<'static>> {
    let (text, parts) = result.parts()?;
    let parts: Vec<Bytes> = parts;
    Some(Args::decode(&format!(r#"[{{"ok":true,"id":{id},"result":{text}}}]"#), parts).ok()?.into_owned())
}
