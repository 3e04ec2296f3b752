//! Settling by number and token: what was pulled, and what came before a connection was lost.

use posthaste_adapter::Member;
use posthaste_history::store::Timestamp;
use posthaste_queue::{Command, MessageId, Outcome, Refusal, Settle, Settled, Token, Verdict};
use posthaste_socket_proto::Args;
use rustc_hash::FxHashSet;
use serde::Serialize;
use serde_json::value::RawValue;

use super::Holder;
use super::consume::SHORTEST_LEASE;
use super::verbs::{Asking, Reply, attempt};
use crate::handler::Running;
use crate::local::{Local, LocalNamespace};
use crate::queues::{LONGEST_LEASE, Options, Refused, SaidOutcome, check_parts, number, read_value};
use crate::socket::Socket;

const MAX_TOKEN: u64 = 1 << 53;

fn stale(id: MessageId) -> Refused {
    posthaste_queue::Refusal::StaleLease(id).into()
}

pub(super) fn settle(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let said = attempt!(asking, read(&asking));
    // Each for itself: whoever does not have a message changes nothing.
    let mut results: Vec<Result<(), Refused>> = Vec::with_capacity(said.len());
    let (mut settles, mut places) = (Vec::new(), Vec::new());
    let member = asking.member();
    let mut seen = FxHashSet::default();
    for settle in said {
        let has = member.and_then(|member| {
            asking.desk().with(member, |holder| holder.leases.get(&settle.token).is_some_and(|it| it.id == settle.id))
        });
        if has == Some(true) && seen.insert(settle.token) {
            places.push((results.len(), settle.token));
            settles.push(settle);
            results.push(Ok(()));
        } else {
            results.push(Err(stale(settle.id)));
        }
    }
    let (desk, number) = (asking.desk(), asking.number());
    let answer = (!settles.is_empty()).then(|| asking.local.ask_queues(desk, number, Command::Settle(settles)));
    let socket = asking.socket.clone();
    let Asking { local, namespace, reply, .. } = asking;
    Ok(Box::pin(async move {
        #[derive(Serialize)]
        struct All {
            ok: bool,
            results: Vec<serde_json::Value>,
        }
        if let Some(answer) = answer {
            let settled = match answer.await {
                Ok(Ok(Outcome::Settled(settled))) => settled,
                Ok(Ok(_)) => Vec::new(),
                Ok(Err(refusal)) => return reply.refuse(refusal.into()),
                Err(error) => return reply.refuse(error.into()),
            };
            for ((place, token), settled) in places.into_iter().zip(settled) {
                // It has what was not settled, and may say so once more, or something else.
                if matches!(settled, Ok(_) | Err(Refusal::StaleLease(_) | Refusal::UnknownMessage(_))) {
                    local.let_go(&namespace, member, &socket, token);
                }
                results[place] = settled.map(|_| ()).map_err(Refused::from);
            }
        }
        let results = results.into_iter().map(|result| match result {
            Ok(()) => serde_json::json!({ "ok": true }),
            Err(refused) => serde_json::to_value(&refused).unwrap_or_default(),
        });
        reply.send(&All { ok: true, results: results.collect() });
    }))
}

impl Local {
    /// A message is not its session's any more, wherever that is by now.
    fn let_go(&self, namespace: &LocalNamespace, member: Option<Member>, socket: &Socket, token: Token) {
        let Some(desk) = namespace.desk() else { return };
        let has_it = |holder: &mut Holder| holder.let_go(token);
        let gone = member.and_then(|member| desk.with(member, has_it)).flatten();
        let gone = gone.or_else(|| desk.office.with_parked(socket.id(), has_it).flatten());
        if let Some((_, Some(idle))) = gone {
            self.consumer_is_idle(desk, namespace.shared.number(), idle);
        }
    }
}

fn read(asking: &Asking<'_>) -> Result<Vec<Settle>, Refused> {
    asking.no_more_than(1)?;
    let wrong = || Refused::invalid("q:settle takes an array of {id, token, outcome}");
    let list = asking.arg(0).filter(|list| list.starts_with('[')).ok_or_else(wrong)?;
    let items: Vec<&RawValue> = serde_json::from_str(list).map_err(|_| wrong())?;
    let max = asking.office().hub.capabilities().max_batch;
    if items.is_empty() || items.len() > max {
        return Err(Refused::invalid(format!("q:settle takes 1 to {max} settlements")));
    }
    let mut parts = 0;
    let settles: Result<Vec<_>, _> = items
        .into_iter()
        .map(|item| {
            let mut members = Options::read(Some(item.get()))?;
            let id = members.number("id", 0..=MAX_TOKEN)?.ok_or_else(wrong)?;
            let token = members.number("token", 0..=MAX_TOKEN)?.ok_or_else(wrong)?;
            let outcome = members.take("outcome").ok_or_else(wrong)?;
            members.end()?;
            let (verdict, count) = read_outcome(asking.args, outcome.get())?;
            parts += count;
            Ok(Settle { id, token, verdict })
        })
        .collect();
    check_parts(asking.args, parts)?;
    settles
}

/// `"done"`, or `{"do": "done", "result": …}`: as in the answer to a job.
fn read_outcome(args: &Args<'_>, text: &str) -> Result<(Verdict, usize), Refused> {
    if text.starts_with('"') {
        let named = format!(r#"{{"do":{text}}}"#);
        let mut options = Options::read(Some(&named))?;
        let outcome = SaidOutcome::take(&mut options, "do")?;
        return Ok((outcome.verdict(options)?, 0));
    }
    let mut options = Options::read(Some(text))?;
    let outcome = SaidOutcome::take(&mut options, "do")?;
    if outcome == SaidOutcome::Done {
        let result = options.take("result");
        options.end()?;
        let Some(result) = result else { return Ok((Verdict::Done(None), 0)) };
        let (result, parts) = read_value(args, result.get())?;
        return Ok((Verdict::Done(Some(result)), parts));
    }
    Ok((outcome.verdict(options)?, 0))
}

pub(super) fn touch(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let (id, token) = attempt!(asking, held(&asking, 3));
    let after = asking.arg(2).map(|text| number("lease", text, SHORTEST_LEASE..=LONGEST_LEASE));
    let after = attempt!(asking, after.transpose());
    Ok(go_on(asking, id, token, Verdict::Touch(after)))
}

pub(super) fn progress(asking: Asking<'_>) -> Result<Running, (Reply, Refused)> {
    let (id, token) = attempt!(asking, held(&asking, 3));
    let value = asking.args.iter().nth(2).ok_or_else(|| Refused::invalid("q:progress takes a value"));
    let value = value.and_then(|value| {
        let (value, parts) = read_value(asking.args, value)?;
        check_parts(asking.args, parts)?;
        Ok(value)
    });
    let value = attempt!(asking, value);
    Ok(go_on(asking, id, token, Verdict::Progress(value)))
}

/// A message that the client has, by its number and token.
fn held(asking: &Asking<'_>, most: usize) -> Result<(MessageId, Token), Refused> {
    asking.no_more_than(most)?;
    let (id, token) = (asking.number_at(0, "id")?, asking.number_at(1, "token")?);
    let has = asking.member().and_then(|member| {
        asking
            .desk()
            .with(member, |holder| holder.leases.get(&token).is_some_and(|lease| lease.id == id && !lease.is_over))
    });
    if has == Some(true) { Ok((id, token)) } else { Err(stale(id)) }
}

fn go_on(asking: Asking<'_>, id: MessageId, token: Token, verdict: Verdict) -> Running {
    let settle = Settle { id, token, verdict };
    let answer = asking.local.ask_queues(asking.desk(), asking.number(), Command::Settle(vec![settle]));
    let reply = asking.reply;
    Box::pin(async move {
        #[derive(Serialize)]
        struct Until {
            ok: bool,
            deadline: u64,
        }
        let until = match answer.await {
            Ok(Ok(Outcome::Settled(settled))) => match settled.into_iter().next() {
                Some(Ok(Settled::Until(Timestamp(deadline)))) => Ok(Until { ok: true, deadline }),
                Some(Err(refusal)) => Err(refusal.into()),
                _ => Err(stale(id)),
            },
            Ok(Ok(_)) => Err(stale(id)),
            Ok(Err(refusal)) => Err(refusal.into()),
            Err(error) => Err(error.into()),
        };
        reply.answer(until);
    })
}
