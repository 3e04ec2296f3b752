//! What workers say of messages they have.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_history::store::{StoreError, Timestamp};
use rustc_hash::FxHashMap;

use super::apply::cut;
use super::{Group, Machine, Source};
use crate::port::{
    Backoff, Cause, Change, Effect, End, MessageId, Outcome, Reason, Refusal, Settle, Settled, StoredPut, Verdict,
};

impl Machine {
    pub(super) fn settle(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        settles: Vec<Settle>,
        source: &impl Source,
    ) -> Result<Result<Outcome, Refusal>, StoreError> {
        let max = self.limits.capabilities.max_batch;
        if settles.len() > max {
            return Ok(Err(Refusal::Invalid(format!("{} settlements at once: {max} at most", settles.len()))));
        }
        let dying = settles.iter().filter(|settle| match settle.verdict {
            Verdict::Dead { .. } => true,
            Verdict::Retry { .. } => self.dies_of_failure(settle.id),
            _ => false,
        });
        let forwards = self.forwards_of(dying.map(|settle| settle.id), source)?;
        let settled = settles.into_iter().map(|settle| self.settle_one(group, now, settle, &forwards)).collect();
        Ok(Ok(Outcome::Settled(settled)))
    }

    fn settle_one(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        settle: Settle,
        forwards: &FxHashMap<MessageId, StoredPut>,
    ) -> Result<Settled, Refusal> {
        let Settle { id, token, verdict } = settle;
        if self.lease(id).is_none_or(|lease| lease.token != token) {
            self.count_of(id, |it| it.stale += 1);
            return Err(Refusal::StaleLease(id));
        }
        let message = self.messages.get(id).expect("invariant: a lease has its message");
        let durability = message.durability();
        if !matches!(verdict, Verdict::Touch(_) | Verdict::Progress(_)) {
            group.durability = group.durability.max(durability);
        }
        match verdict {
            Verdict::Done(result) => {
                self.fits_result(result.as_ref())?;
                let keep = self.keep_ms(id);
                let kept = (keep > 0).then(|| (result.clone().unwrap_or_default(), Timestamp(now.0 + keep)));
                self.finish(group, id, End::Done(result), kept);
            }
            Verdict::Retry { after_ms, why } => {
                if let Some(ms) = after_ms.filter(|ms| *ms > Backoff::MAX_MS) {
                    return Err(Refusal::Invalid(format!("a rest of {ms} ms: at most {}", Backoff::MAX_MS)));
                }
                self.fail(group, now, id, &cut(&why), after_ms, forwards);
            }
            Verdict::Release => {
                self.change(group, Change::Returned { id, at: now, due: now, cause: Cause::Released });
            }
            Verdict::Dead { why } => self.die(group, now, id, &cut(&why), false, forwards.get(&id)),
            Verdict::Touch(ms) => return Ok(self.touch(group, now, id, ms)),
            Verdict::Progress(value) => {
                self.fits_result(Some(&value))?;
                let queue = self.queue(message.queue).name.clone();
                group.effects.push(Effect::Progress { queue, id, value });
                return Ok(self.touch(group, now, id, None));
            }
        }
        Ok(Settled::Ended)
    }

    fn fits_result(&self, result: Option<&Bytes>) -> Result<(), Refusal> {
        let (bytes, max) = (result.map_or(0, Bytes::len), self.limits.capabilities.max_payload);
        if bytes > max { Err(Refusal::TooLarge { bytes, max }) } else { Ok(()) }
    }

    fn touch(&mut self, group: &mut Group, now: Timestamp, id: MessageId, ms: Option<u64>) -> Settled {
        let deadline = self.deadline(now, id, ms);
        if self.lease(id).is_some_and(|lease| lease.deadline != deadline) {
            self.change(group, Change::Touched { id, deadline });
        }
        Settled::Until(deadline)
    }

    /// When the lease of a message ends that is touched now.
    pub(super) fn deadline(&self, now: Timestamp, id: MessageId, ms: Option<u64>) -> Timestamp {
        let lease = self.lease(id).expect("invariant: a touched message is leased");
        let queue = self.messages.get(id).map(|message| message.queue);
        let most = queue.map_or(0, |queue| self.queue(queue).config.max_lease_ms);
        let end = now.0.saturating_add(ms.unwrap_or(lease.length_ms)).min(lease.since.0.saturating_add(most));
        Timestamp(end)
    }

    /// A message failed once more: it rests, or it is dead.
    pub(super) fn fail(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        id: MessageId,
        why: &Arc<str>,
        after_ms: Option<u64>,
        forwards: &FxHashMap<MessageId, StoredPut>,
    ) {
        let message = self.messages.get(id).expect("invariant: a message that fails is there");
        let config = &self.queue(message.queue).config;
        let failures = message.failures().saturating_add(1);
        if self.dies_of_failure(id) {
            self.die(group, now, id, why, true, forwards.get(&id));
            return;
        }
        let extra = message.extra.as_deref();
        let backoff = extra.and_then(|extra| extra.backoff.as_deref()).unwrap_or(&config.backoff);
        let rest = after_ms.unwrap_or_else(|| backoff.rest_ms(failures, chance(self.seed, id, failures)));
        let due = Timestamp(now.0.saturating_add(rest));
        let reason = Reason { number: failures, text: why.clone() };
        self.change(group, Change::Returned { id, at: now, due, cause: Cause::Failed(reason) });
    }

    /// A message came back without a word. That is a failure when it has happened too often.
    pub(super) fn lose(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        id: MessageId,
        why: &str,
        forwards: &FxHashMap<MessageId, StoredPut>,
    ) {
        let message = self.messages.get(id).expect("invariant: a message that is lost is there");
        let losses = message.losses().saturating_add(1);
        if self.fails_of_loss(id) {
            let why = format!("{why}, {losses} times").into();
            self.fail(group, now, id, &why, None, forwards);
        } else {
            self.change(group, Change::Returned { id, at: now, due: now, cause: Cause::Lost });
        }
    }
}

/// 64 bits by chance, the same for the same failure of the same message (splitmix64).
fn chance(seed: u64, id: MessageId, failures: u32) -> u64 {
    let mut z = seed ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(failures).wrapping_mul(0xD1B5_4A32_D192_ED03);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
