//! Events of clients that become jobs, whose results answer them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use posthaste_queue::{Command, Outcome, Put, QueueName, Refusal, name_is_good};

use super::error::QueueError;
use super::hub::Hub;
use super::payload::Payload;
use super::queue::milliseconds;
use crate::ack::Ack;
use crate::extract::EventContext;
use crate::handler::{self, BoxedEvent, Running};
use crate::namespace::Namespace;
use crate::server::Server;

/// How long an emitter's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a result is kept beyond that.
const LONGER: Duration = Duration::from_secs(60);

/// Events by the beginning of their names, and what handles them.
#[derive(Clone)]
pub(crate) struct EventRoute {
    beginning: Arc<str>,
    pub(crate) handler: Arc<BoxedEvent>,
}

impl EventRoute {
    pub(crate) fn is_for(&self, event: &str) -> bool {
        event.starts_with(&*self.beginning)
    }
}

impl fmt::Debug for EventRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventRoute").field(&self.beginning).finish()
    }
}

impl Namespace {
    /// Has an event of clients become a message of a queue: `"order:new"`, or with a star at the end all that begin so, `"order:*"`. What
    /// handles an event by its whole name goes before a star, and routes before [`fallback`](Namespace::fallback). A client that waits for an
    /// answer gets the result of the message, or `{"error": …}` when there is none within a minute.
    ///
    /// The message is `{event, args, socket, user}`: the event's name and arguments, the id of the socket, and who it
    /// [is](crate::Socket::identify), or `null`.
    ///
    /// # Errors
    /// [`QueueError::NoQueues`] without [`Builder::queues`](crate::Builder::queues), [`Refusal::BadName`] for what is no name of a queue.
    pub fn route(&self, event: &str, queue: &str) -> Result<&Self, QueueError> {
        let server = self.0.server.upgrade().ok_or(QueueError::NoQueues)?;
        let hub = server.config.queues.as_ref().ok_or(QueueError::NoQueues)?.hub.clone();
        if !name_is_good(queue) {
            return Err(Refusal::BadName(queue.into()).into());
        }
        let queue = QueueName::from(queue);
        let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| Ok(routed(&hub, &queue, cx))));
        let replaced = self.change(|router| match event.strip_suffix('*') {
            None => router.events.insert(event.into(), handler),
            Some(beginning) => {
                let former = router.routes.iter().position(|route| *route.beginning == *beginning);
                let former = former.map(|at| router.routes.remove(at).handler);
                router.routes.push(EventRoute { beginning: beginning.into(), handler });
                // The longest says most.
                router.routes.sort_by_key(|route| std::cmp::Reverse(route.beginning.len()));
                former
            }
        });
        drop(replaced);
        Ok(self)
    }
}

impl Server {
    /// As [`Namespace::route`], of the main namespace.
    ///
    /// ```no_run
    /// # fn example(io: posthaste::Server) -> Result<(), posthaste::QueueError> {
    /// io.route("order:*", "orders")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub fn route(&self, event: &str, queue: &str) -> Result<&Self, QueueError> {
        self.main().route(event, queue)?;
        Ok(self)
    }
}

fn routed(hub: &Arc<Hub>, queue: &QueueName, cx: &mut EventContext<'_>) -> Running {
    let ack = cx.ack.take().map(|ack| Ack::new(cx.socket.clone(), Some(ack)));
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let user = cx.socket.identity().map_or_else(|| "null".to_owned(), |user| text(&user));
    let (event, socket) = (text(cx.event), text(&cx.socket.id().to_string()));
    let whole = format!(r#"{{"event":{event},"args":[{}],"socket":{socket},"user":{user}}}"#, cx.args.raw());
    let payload = Payload::from_text(&whole, cx.args.attachments());
    let mut put = Put::new(queue, payload.into_stored(), hub.capabilities().durability);
    if ack.is_some() {
        put.keep_result_ms = Some(milliseconds(PATIENCE + LONGER));
    }
    let (hub, answer) = (hub.clone(), hub.ask(Command::Put(vec![put])));
    Box::pin(async move {
        let stored = async {
            match answer.await?? {
                Outcome::Put(receipts) if receipts.len() == 1 => Ok(receipts[0].id),
                _ => Err(QueueError::payload("the store gave no receipt")),
            }
        };
        let stored = stored.await;
        let Some(ack) = ack else {
            if let Err(error) = stored {
                tracing::warn!(%error, "an event did not become a job, and nobody waits for its answer");
            }
            return;
        };
        let result = match stored {
            Ok(id) => hub.result_of(id, PATIENCE).await,
            Err(error) => Err(error),
        };
        match result.map(|result| result.args()) {
            Ok(Some(result)) => drop(ack.send(&result)),
            Ok(None) => handler::refuse(Some(ack), &"the result cannot be shown"),
            Err(error) => handler::refuse(Some(ack), &error),
        }
    })
}
