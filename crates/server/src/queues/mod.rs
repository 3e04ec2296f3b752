//! Work queues: what is put is stored until it is done, and each message is one worker's at a time.
//!
//! ```text
//!   client ─► q:put ──► local/queues ─► Hub.ask ─► Queues (posthaste-queue)         io.queue("emails").put(..) ─► Hub.ask
//!   client ◄─ job ◄──── local/queues ◄─ mail ◄──── Hub.hear                         worker(.., async |job| ..) ◄─ Hub.hear
//!   client ─► ack ────► local/queues ─► Settle, those of a turn together
//! ```
//!
//! Here is what all workers share: the [hub](hub), what clients may do, what payloads and answers look like, and queues in Rust. What one
//! worker knows of its sockets' consumers and leases is in `local/queues`. The wire is described in `docs/queues.md`.

mod answers;
mod delivery;
mod error;
mod hub;
mod job;
mod office;
mod options;
mod payload;
mod queue;
mod routes;
mod schedules;
mod stats;
mod surface;
mod time;
mod verbs;
mod work;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use posthaste_engine::OutboxLimits;
use posthaste_queue::Queues;

pub(crate) use self::answers::{Outcome as SaidOutcome, verdict};
pub use self::delivery::{ConsumerOptions, Deliveries, Delivery};
pub(crate) use self::error::Refused;
pub use self::error::{Failure, QueueError};
pub(crate) use self::hub::{Hub, News, Route};
pub use self::job::{FromJob, IntoSettled, Job, JobContext, JobError, JobHandler};
pub(crate) use self::office::{Office, Settings};
pub(crate) use self::options::{
    Defaults, LONGEST_LEASE, Options, check_parts, number, read_put, read_schedule, read_value, text,
};
pub(crate) use self::payload::JobArgs;
pub use self::payload::Payload;
pub use self::queue::{Queue, QueuePut};
pub(crate) use self::routes::EventRoute;
pub use self::routes::QueueRoute;
pub use self::schedules::{QueueSchedule, ScheduleView, Schedules};
pub use self::stats::QueueStats;
pub use self::surface::Pull;
pub(crate) use self::time::now;
pub use self::verbs::QueueVerb;
pub use self::work::{QueueWorker, WorkerControl};
use crate::config::Builder;
use crate::error::BuildError;
use crate::local::serve_queues;
use crate::server::Server;
use crate::socket::Socket;

/// Work queues for a server: [`Builder::queues`]. Cloning it shares the queues.
///
/// Clients use them in the namespace `/queues`, once they are [permitted](WorkQueues::permit) to; who may join it is for that namespace's
/// [middlewares](crate::Namespace::middleware) to say. Rust has them with [`Server::queue`](crate::Server::queue), and without a server with
/// [`WorkQueues::queue`].
///
/// ```
/// use posthaste::{Server, Socket, QueueVerb, WorkQueues};
/// # fn run(store: std::sync::Arc<dyn posthaste::queue::Queues>) -> Result<(), posthaste::BuildError> {
/// let queues = WorkQueues::new(store).permit(|socket: &Socket, verb: QueueVerb, queue: &str| match verb {
///     QueueVerb::Put => true,
///     QueueVerb::Consume => queue == "thumbnails" && socket.identity().as_deref() == Some("worker"),
///     _ => false,
/// });
/// let io = Server::builder().queues(queues).build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct WorkQueues {
    pub(crate) hub: Arc<Hub>,
    pub(crate) namespace: Option<String>,
    pub(crate) settings: Settings,
}

impl WorkQueues {
    /// Queues in a store. Each store is given to one of these: whoever listens to it listens alone.
    #[must_use]
    pub fn new(queues: Arc<dyn Queues>) -> Self {
        let settings =
            Settings { permit: None, grace: Duration::from_secs(10), max_consumers: 256, max_prefetch: 10_000 };
        Self { hub: Hub::new(queues), namespace: Some("/queues".into()), settings }
    }

    /// The namespace where clients use them; `/queues` by default.
    #[must_use]
    pub fn namespace(self, name: impl Into<String>) -> Self {
        Self { namespace: Some(name.into()), ..self }
    }

    /// No client uses them.
    #[must_use]
    pub fn without_namespace(self) -> Self {
        Self { namespace: None, ..self }
    }

    /// Asks `permit` what a client may do, each time it wants to: the queue is named by the client, and need not be there. By default nobody
    /// may do anything. It runs on the thread of the socket's worker, so it decides by what it knows.
    #[must_use]
    pub fn permit(mut self, permit: impl Fn(&Socket, QueueVerb, &str) -> bool + Send + Sync + 'static) -> Self {
        self.settings.permit = Some(Arc::new(permit));
        self
    }

    /// Everybody who may join the namespace may do everything.
    #[must_use]
    pub fn open_to_all(self) -> Self {
        self.permit(|_, _, _| true)
    }

    /// How long a worker that lost its connection keeps what it has, where clients are [recovered](Builder::recovery); 10 s by default. Elsewhere,
    /// and of one that leaves on purpose, jobs are free at once.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// How many consumers one socket may have, pulls included; 256 by default.
    #[must_use]
    pub fn max_consumers(mut self, count: usize) -> Self {
        self.settings.max_consumers = count;
        self
    }

    /// How many jobs a consumer may ask for at a time; 10,000 by default.
    #[must_use]
    pub fn max_prefetch(mut self, count: u32) -> Self {
        self.settings.max_prefetch = count;
        self
    }
}

impl WorkQueues {
    /// Opens their namespace in a server that is being made.
    pub(crate) fn open(&self, server: &Server, outbox: OutboxLimits) -> Result<(), BuildError> {
        let Some(name) = &self.namespace else { return Ok(()) };
        let namespace = server.try_namespace(name)?;
        let number = self.hub.admit(&namespace.0);
        // The other half is for what else a client is sent: one that takes its jobs slowly is not to be cut off for them.
        let max_bytes = outbox.bytes as u64 / 2;
        let office = Arc::new(Office::new(self.hub.clone(), self.settings.clone(), number, max_bytes));
        let is_first = namespace.0.office.set(office).is_ok();
        debug_assert!(is_first, "invariant: a server has one store of queues");
        serve_queues(&namespace);
        Ok(())
    }
}

impl fmt::Debug for WorkQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkQueues").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Builder {
    /// Has the server offer work queues, to clients and in Rust ([`Server::queue`](crate::Server::queue)).
    pub fn queues(mut self, queues: WorkQueues) -> Self {
        self.config.queues = Some(queues);
        self
    }
}
