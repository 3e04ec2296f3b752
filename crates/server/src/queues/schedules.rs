//! Schedules in Rust: what is put again and again.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use posthaste_queue::{
    Command, DedupMode, Missed, Outcome, QueueName, Receipt, Schedule, ScheduleName, Scheduled, When,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::WorkQueues;
use super::error::QueueError;
use super::hub::Hub;
use super::queue::{QueuePut, milliseconds};
use crate::server::Server;

impl QueuePut {
    /// Has this put again and again, under a name that no other schedule has. Scheduled the same once more, it goes on as it was: so it may be
    /// said whenever a program starts. It is kept, and each of its times is seen to once, over restarts of the process.
    ///
    /// Workers find the time that a message is for in its headers: `{"schedule": {"name", "time"}}`, in milliseconds since 1970.
    ///
    /// ```no_run
    /// # use posthaste::{Server, queue::{Missed, When}};
    /// # async fn example(io: Server) -> Result<(), posthaste::QueueError> {
    /// let nightly = When::cron("30 2 * * *").in_zone("Europe/Berlin");
    /// let there = io.queue("reports").put(&"all of them").attempts(3).scheduled("nightly", nightly).await?;
    /// println!("next: {:?}", there.next);
    /// # Ok(()) }
    /// ```
    pub fn scheduled(self, name: &str, when: When) -> QueueSchedule {
        QueueSchedule { name: name.into(), put: self, when, missed: Missed::default(), is_paused: None }
    }
}

/// A message to be scheduled: awaiting it schedules it.
#[must_use = "nothing is scheduled until this is awaited"]
#[derive(Clone, Debug)]
pub struct QueueSchedule {
    name: ScheduleName,
    put: QueuePut,
    when: When,
    missed: Missed,
    is_paused: Option<bool>,
}

impl QueueSchedule {
    /// What becomes of times that passed while nobody could put anything; [`Missed::Once`] by default.
    pub fn missed(self, missed: Missed) -> Self {
        Self { missed, ..self }
    }

    /// Whether it is paused; by default a new one is not, and one that is there stays as it is.
    pub fn paused(self, is_paused: bool) -> Self {
        Self { is_paused: Some(is_paused), ..self }
    }

    fn command(self) -> Result<(Arc<Hub>, Command), QueueError> {
        let Self { name, put: QueuePut { queue, put, ttl }, when, missed, is_paused } = self;
        let mut put = put?;
        put.expires = None;
        let schedule = Box::new(Schedule { when, missed, put, ttl_ms: ttl.map(milliseconds) });
        Ok((queue.hub()?.clone(), Command::Schedule { name, schedule, is_paused }))
    }
}

impl IntoFuture for QueueSchedule {
    type Output = Result<Scheduled, QueueError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        let asked = self.command().map(|(hub, command)| hub.ask(command));
        Box::pin(async move { only(asked?.await??) })
    }
}

fn only(outcome: Outcome) -> Result<Scheduled, QueueError> {
    match outcome {
        Outcome::Schedules(mut all) if all.len() == 1 => Ok(all.remove(0).1),
        _ => Err(QueueError::payload("the store gave another answer")),
    }
}

/// What is put again and again: [`Server::schedules`]. Cloning it is a reference count.
#[derive(Clone)]
pub struct Schedules(Option<Arc<Hub>>);

impl Server {
    /// The server's schedules. Without [`Builder::queues`](crate::Builder::queues) everything that is done with them fails.
    #[must_use]
    pub fn schedules(&self) -> Schedules {
        Schedules(self.0.config.queues.as_ref().map(|queues| queues.hub.clone()))
    }
}

impl WorkQueues {
    /// Their schedules.
    #[must_use]
    pub fn schedules(&self) -> Schedules {
        Schedules(Some(self.hub.clone()))
    }
}

impl Schedules {
    async fn call(&self, command: Command) -> Result<Outcome, QueueError> {
        self.0.as_ref().ok_or(QueueError::NoQueues)?.call(command).await
    }

    /// All there are, by name.
    ///
    /// # Errors
    /// [`QueueError`]
    pub async fn all(&self) -> Result<Vec<(ScheduleName, Scheduled)>, QueueError> {
        let mut all: Vec<(ScheduleName, Scheduled)> = Vec::new();
        loop {
            let after = all.last().map_or_else(|| "".into(), |(name, _)| name.clone());
            match self.call(Command::Schedules { queue: None, after, max: 1_000 }).await? {
                Outcome::Schedules(page) if !page.is_empty() => all.extend(page),
                _ => return Ok(all),
            }
        }
    }

    /// One of them.
    ///
    /// # Errors
    /// [`posthaste_queue::Refusal::UnknownSchedule`] when there is none.
    pub async fn get(&self, name: &str) -> Result<Scheduled, QueueError> {
        only(self.call(Command::GetSchedule(name.into())).await?)
    }

    /// Removes one. What it has put stays.
    ///
    /// # Errors
    /// As [`Schedules::get`].
    pub async fn remove(&self, name: &str) -> Result<(), QueueError> {
        self.call(Command::Unschedule { name: name.into(), queue: None }).await.map(drop)
    }

    /// Puts nothing for now, or again from now on: times that pass meanwhile are no missed ones.
    ///
    /// # Errors
    /// As [`Schedules::get`].
    pub async fn pause(&self, name: &str, is_paused: bool) -> Result<(), QueueError> {
        self.call(Command::PauseSchedule { name: name.into(), queue: None, is_paused }).await.map(drop)
    }

    /// Puts what one puts, now and besides.
    ///
    /// # Errors
    /// As [`Schedules::get`], and whatever a queue refuses.
    pub async fn run(&self, name: &str) -> Result<Receipt, QueueError> {
        match self.call(Command::RunSchedule { name: name.into(), queue: None }).await? {
            Outcome::Put(receipts) if receipts.len() == 1 => Ok(receipts[0]),
            _ => Err(QueueError::payload("the store gave no receipt")),
        }
    }
}

impl fmt::Debug for Schedules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schedules").finish_non_exhaustive()
    }
}

/// A schedule as clients are shown it, but for its payload. `docs/queues.md` has the form.
#[derive(Clone, Debug, Serialize)]
pub struct ScheduleView {
    name: ScheduleName,
    queue: QueueName,
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<u64>,
    missed: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_missed: Option<u32>,
    paused: bool,
    /// `null` while it is paused.
    next: Option<u64>,
    last: Option<Last>,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    priority: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dedup_mode: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Box<RawValue>>,
}

/// When it put something last.
#[derive(Clone, Debug, Serialize)]
struct Last {
    time: u64,
    at: u64,
    id: u64,
}

impl ScheduleView {
    /// Shows one.
    #[must_use]
    pub fn new(name: &ScheduleName, scheduled: &Scheduled) -> Self {
        let Scheduled { schedule, is_paused, next, last, count, problem } = scheduled;
        let put = &schedule.put;
        let (cron, zone, every) = match &schedule.when {
            When::Cron { expression, zone } => (Some(expression.clone()), Some(zone.clone()), None),
            When::Every { ms } => (None, None, Some(*ms)),
        };
        let (missed, max_missed) = match schedule.missed {
            Missed::Skip => ("skip", None),
            Missed::Once => ("once", None),
            Missed::All { max } => ("all", Some(max)),
        };
        let mode = |mode| match mode {
            DedupMode::Reject => "reject",
            DedupMode::UntilDone => "until_done",
            DedupMode::Replace => "replace",
        };
        Self {
            name: name.clone(),
            queue: put.queue.clone(),
            cron,
            zone,
            every,
            missed,
            max_missed,
            paused: *is_paused,
            next: (!is_paused).then_some(next.0),
            last: last.map(|last| Last { time: last.time.0, at: last.at.0, id: last.id }),
            count: *count,
            problem: *problem,
            priority: put.priority,
            key: put.key.clone(),
            dedup: put.dedup.as_ref().map(|dedup| dedup.key.clone()),
            dedup_mode: put.dedup.as_ref().map(|dedup| mode(dedup.mode)),
            ttl: schedule.ttl_ms,
            attempts: put.attempts,
            headers: serde_json::from_slice(&put.headers).ok(),
        }
    }
}
