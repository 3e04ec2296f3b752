//! What other surfaces than `/queues` are built on: an API over HTTP, a scheduler, tools.

use std::sync::Arc;
use std::time::Duration;

use posthaste_history::store::Answer;
use posthaste_queue::{
    Capabilities, Command, Consume, ConsumerId, Delivery, Effect, End, MessageId, Outcome, Put, QueueName, Refusal,
    Schedule, Settle, Stop, Verdict,
};
use tokio::sync::mpsc;

use super::error::QueueError;
use super::hub::{Hub, Route};
use super::options::{Defaults, read_put, read_schedule};
use super::payload::Payload;
use super::{Refused, WorkQueues};
use crate::queues::now;

/// Messages to be taken once: [`WorkQueues::pull`].
#[derive(Clone, Debug)]
pub struct Pull {
    /// From this queue.
    pub queue: QueueName,
    /// So many, 1 to 100,000.
    pub max: u32,
    /// So many bytes; one message is given whatever its size.
    pub bytes: u64,
    /// A lease lasts so long, in milliseconds; `None` as long as the queue says.
    pub lease_ms: Option<u64>,
    /// Only messages with one of these keys, if given.
    pub keys: Option<Vec<Arc<str>>>,
}

impl WorkQueues {
    /// What the store can do.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        self.hub.capabilities()
    }

    /// Asks the store for anything it offers. It is asked at once, whether the answer is waited for or not. Consumers are not for here: what
    /// they are given would reach nobody.
    pub fn ask(&self, command: Command) -> Answer<Result<Outcome, Refusal>> {
        self.hub.ask(command)
    }

    /// Takes what there is, or waits for the first message as long as `patience`: none is an empty list. What was taken is leased until it is
    /// settled or its lease ends, whatever becomes of a connection or of this process.
    ///
    /// # Cancel safety
    /// Dropped before it is there, nothing is taken: what was given meanwhile goes back and does not count as failed.
    ///
    /// # Errors
    /// [`QueueError::Refused`] for a name, a number or a time that cannot be; [`QueueError::Store`].
    pub async fn pull(&self, pull: Pull, patience: Duration) -> Result<Vec<Delivery>, QueueError> {
        let (tell, told) = mpsc::unbounded_channel();
        let consumer = self.hub.new_pull();
        self.hub.route(consumer, Route::Here(tell));
        let mut puller =
            Puller { hub: self.hub.clone(), consumer, told: Some(told), taken: Vec::new(), is_over: false };
        let Pull { queue, max, bytes, lease_ms, keys } = pull;
        let consume = Consume { consumer, queue, prefetch: max, bytes, lease_ms, keys, once: Some(max) };
        if let Err(error) = self.hub.call(Command::Consume(consume)).await {
            puller.told = None;
            self.hub.forget(consumer);
            return Err(error);
        }
        // The first, or nothing; then whatever came until it was stopped.
        let _ = tokio::time::timeout(patience, puller.hear()).await;
        if !std::mem::replace(&mut puller.is_over, true) {
            self.hub.call(Command::Stop(consumer, Stop::Keep)).await?;
        }
        Ok(puller.take())
    }

    /// How a message ended, when it does; at the latest after `patience`.
    ///
    /// # Errors
    /// [`QueueError::Pending`] when it did not end in time, [`QueueError::Refused`] when nothing is known of it (any more: results are kept as long
    /// as the message or its queue says; one that is done and keeps none is unknown from then on), [`QueueError::Store`].
    pub async fn end_of(&self, id: MessageId, patience: Duration) -> Result<End, QueueError> {
        self.hub.end_of(id, false, patience).await
    }

    /// A message as clients of `/queues` describe it: `options` is the object that `q:put` takes, as JSON text. Options that are not known are
    /// errors. Without a `class` the receipt promises the best that the store can.
    ///
    /// # Errors
    /// [`QueueError::Payload`] says what is wrong with the options.
    pub fn read_put(&self, queue: &QueueName, payload: Payload, options: Option<&str>) -> Result<Put, QueueError> {
        let defaults = Defaults { now: now(), durability: self.hub.capabilities().durability, is_call: false };
        let read = read_put(queue, payload.into_stored(), options, defaults);
        read.map(|(put, _)| put).map_err(|refused: Refused| QueueError::Payload(refused.text().to_owned()))
    }
}

impl WorkQueues {
    /// A schedule as clients of `/queues` describe it: `options` is the object that `q:schedule` takes, as JSON text. Returns besides whether it
    /// is to be paused, if that is said.
    ///
    /// # Errors
    /// [`QueueError::Payload`] says what is wrong with the options; whether there is a time for it, the store says.
    pub fn read_schedule(
        &self,
        queue: &QueueName,
        payload: Payload,
        options: &str,
    ) -> Result<(Schedule, Option<bool>), QueueError> {
        let durability = self.hub.capabilities().durability;
        let read = read_schedule(queue, payload.into_stored(), Some(options), durability);
        read.map_err(|refused: Refused| QueueError::Payload(refused.text().to_owned()))
    }
}

/// Somebody who takes messages once. What it has goes back with it.
struct Puller {
    hub: Arc<Hub>,
    consumer: ConsumerId,
    told: Option<mpsc::UnboundedReceiver<Effect>>,
    taken: Vec<Delivery>,
    /// It is no consumer any more.
    is_over: bool,
}

impl Puller {
    /// Waits until it has something.
    async fn hear(&mut self) {
        let Some(told) = &mut self.told else { return };
        while self.taken.is_empty() && !self.is_over {
            let Some(effect) = told.recv().await else { return };
            Self::note(&mut self.taken, &mut self.is_over, effect);
        }
        while let Ok(effect) = told.try_recv() {
            Self::note(&mut self.taken, &mut self.is_over, effect);
        }
    }

    fn note(taken: &mut Vec<Delivery>, is_over: &mut bool, effect: Effect) {
        match effect {
            Effect::Granted(delivery) => taken.push(delivery),
            Effect::Revoked { id, token, .. } => taken.retain(|it| (it.id, it.token) != (id, token)),
            Effect::Finished(_) => *is_over = true,
            _ => {}
        }
    }

    /// What it was given, when it is no consumer any more: nothing comes behind that.
    fn take(mut self) -> Vec<Delivery> {
        self.hub.forget(self.consumer);
        if let Some(mut told) = self.told.take() {
            while let Ok(effect) = told.try_recv() {
                Self::note(&mut self.taken, &mut self.is_over, effect);
            }
        }
        std::mem::take(&mut self.taken)
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        let Some(mut told) = self.told.take() else { return };
        // It may have had its number meanwhile, and be no consumer any more: then what it has is not given back by stopping it.
        let stopped = self.hub.ask(Command::Stop(self.consumer, Stop::Return));
        let (hub, consumer, mut taken, mut is_over) =
            (self.hub.clone(), self.consumer, std::mem::take(&mut self.taken), self.is_over);
        let give_back = async move {
            let _ = stopped.await;
            hub.forget(consumer);
            while let Ok(effect) = told.try_recv() {
                Self::note(&mut taken, &mut is_over, effect);
            }
            if is_over && !taken.is_empty() {
                let release = |it: Delivery| Settle { id: it.id, token: it.token, verdict: Verdict::Release };
                drop(hub.ask(Command::Settle(taken.into_iter().map(release).collect())));
            }
        };
        // Without a runtime nobody is left to wait: leases run out.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(give_back);
        }
    }
}
