//! Sockets that are lost while they have jobs, and those that come back in their place.
//!
//! ```text
//!   lost for good ─────────► Return: free at once
//!   lost, may come back ───► Hold ─► parked ─┬─ back within grace ─► Unhold: it has what it had, its old answers count
//!                                            └─ later ─► Return ─► back after all ─► its consumers are asked for anew,
//!                                                        the same when another process comes back (noted)
//! ```

use std::time::Duration;

use posthaste_adapter::Member;
use posthaste_engine::Revision;
use posthaste_queue::{Command, Consume, ConsumerId, Settle, Stop, Verdict};

use super::{Desk, Holder, Settling, Stage};
use crate::local::{Local, LocalNamespace};
use crate::queues::Route;
use crate::reason::DisconnectReason;
use crate::socket::Socket;

impl Local {
    /// A socket has left that may have jobs.
    pub(in crate::local) fn leave_queues(
        &self,
        namespace: &LocalNamespace,
        member: Member,
        socket: &Socket,
        reason: DisconnectReason,
    ) {
        let Some(desk) = namespace.desk() else { return };
        let number = namespace.shared.number();
        let holder = desk.holders.borrow_mut().remove(&member.0);
        let Some(mut holder) = holder else { return };
        // What it said last counts.
        self.flush_settled(desk, number);
        for id in holder.consumers.keys() {
            desk.owners.borrow_mut().remove(id);
        }
        let comes_back = reason.is_recoverable()
            && reason != DisconnectReason::ServerShuttingDown
            && socket.0.revision == Revision::V4
            && self.absence().is_some()
            && !desk.office.settings.grace.is_zero();
        if !comes_back {
            return holder.stop_all(desk);
        }
        self.put_away(desk, number, &mut holder);
        holder.away += 1;
        let away = holder.away;
        let id = socket.id();
        if let Err(mut holder) = desk.office.park(id, holder) {
            return holder.stop_all(desk);
        }
        let office = desk.office.clone();
        let absence = self.absence().unwrap_or_default();
        let grace = office.settings.grace.min(absence);
        tokio::task::spawn_local(async move {
            let is_same = |holder: &Holder| holder.away == away;
            tokio::time::sleep(grace).await;
            let stopped = office.with_parked(id, |holder| is_same(holder).then(|| holder.stop_consumers()).flatten());
            for consumer in stopped.flatten().unwrap_or_default() {
                drop(office.hub.stop(consumer, Stop::Return));
            }
            tokio::time::sleep(absence.saturating_sub(grace) + Duration::from_secs(1)).await;
            if office.with_parked(id, |holder| is_same(holder)) == Some(true) {
                drop(office.unpark(id));
            }
        });
    }

    /// How long a client may be away; `None` if nobody comes back.
    fn absence(&self) -> Option<Duration> {
        let server = self.server.upgrade()?;
        Some(server.registry.journals()?.settings().max_disconnection)
    }

    /// Gives back what its client does not know of, ends what only a connection waits for, and holds the rest.
    fn put_away(&self, desk: &Desk, number: u32, holder: &mut Holder) {
        let ids: Vec<ConsumerId> = holder.consumers.keys().copied().collect();
        for id in ids {
            let Some(consumer) = holder.consumers.get_mut(&id) else { continue };
            let unknown = match &mut consumer.stage {
                Stage::Opening(waiting) | Stage::Pulling(waiting, _) => Some(std::mem::take(waiting)),
                Stage::Draining(asker) => {
                    // Whoever waits for it has gone.
                    *asker = None;
                    None
                }
                _ => None,
            };
            let Some(unknown) = unknown else {
                drop(desk.office.hub.ask(Command::Hold(id)));
                continue;
            };
            // Nobody has heard that it is: it is not.
            holder.consumers.remove(&id);
            for delivery in unknown {
                holder.let_go(delivery.token);
                let settle = Settle { id: delivery.id, token: delivery.token, verdict: Verdict::Release };
                desk.settling.borrow_mut().push(Settling { settle, from: None });
            }
            self.flush_settled(desk, number);
            drop(desk.office.hub.stop(id, Stop::Return));
        }
    }

    /// A socket is back: it has what it had.
    pub(in crate::local) fn return_to_queues(&self, namespace: &LocalNamespace, member: Member, socket: &Socket) {
        let Some(desk) = namespace.desk() else { return };
        if !socket.recovered() {
            return;
        }
        let holder = desk.office.unpark(socket.id()).or_else(|| self.noted_holder(namespace, desk, member, socket));
        let Some(mut holder) = holder else { return };
        let number = namespace.shared.number();
        holder.socket = socket.clone();
        holder.waits = 0;
        holder.touch_at = self.worker.now();
        holder.look_at = None;
        let hub = &desk.office.hub;
        let route = || Route::Socket { namespace: desk.office.number, worker: self.worker.index() };
        let (mut held, mut anew) = (Vec::new(), Vec::new());
        for (id, mut consumer) in std::mem::take(&mut holder.consumers) {
            let id = if matches!(consumer.stage, Stage::Stopped) {
                let fresh = hub.new_consumer();
                consumer.wish.consumer = fresh;
                consumer.stage = Stage::Open;
                anew.push(Consume { bytes: consumer.share, ..consumer.wish.clone() });
                fresh
            } else {
                if matches!(consumer.stage, Stage::Open) {
                    held.push(id);
                }
                id
            };
            consumer.came_back = true;
            hub.route(id, route());
            desk.owners.borrow_mut().insert(id, member.0);
            holder.consumers.insert(id, consumer);
        }
        if !holder.consumers.is_empty() {
            self.worker.follow_heartbeat(socket.0.connection);
        }
        desk.holders.borrow_mut().insert(member.0, holder);
        self.watch_silence(desk, number, member);
        for id in held {
            drop(self.ask_queues(desk, number, Command::Unhold(id)));
        }
        for wish in anew {
            let Consume { consumer, .. } = wish;
            let answer = self.ask_queues(desk, number, Command::Consume(wish));
            tokio::task::spawn_local(async move {
                if let Ok(Err(refusal)) = answer.await {
                    tracing::warn!(%refusal, consumer, "a consumer that was away for long could not be asked for anew");
                }
            });
        }
    }
}

impl Holder {
    /// It is gone for good: what it has is free.
    fn stop_all(&mut self, desk: &Desk) {
        for (id, _) in self.consumers.drain() {
            drop(desk.office.hub.stop(id, Stop::Return));
        }
    }

    /// It stays away for long: what it has is free. Returns the consumers that are to be stopped.
    fn stop_consumers(&mut self) -> Option<Vec<ConsumerId>> {
        self.end_all();
        let stopped = self.consumers.keys().copied().collect();
        // What was pulled, or was ending anyway, does not begin anew.
        self.consumers.retain(|_, consumer| matches!(consumer.stage, Stage::Open));
        self.consumers.values_mut().for_each(|consumer| consumer.stage = Stage::Stopped);
        Some(stopped)
    }
}
