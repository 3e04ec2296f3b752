//! Events of clients that become jobs, whose results answer them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use posthaste_adapter::SocketId;
use posthaste_queue::{Command, Dedup, DedupMode, MessageId, Outcome, Put, QueueName, Receipt, Refusal, name_is_good};
use posthaste_socket_proto::Args;
use rustc_hash::FxHashMap;
use serde::Serialize;

use super::error::{QueueError, Refused};
use super::hub::Hub;
use super::payload::Payload;
use super::queue::milliseconds;
use crate::ack::{Ack, Asked};
use crate::durable::now;
use crate::extract::EventContext;
use crate::handler::{BoxedEvent, Running};
use crate::namespace::Namespace;
use crate::server::Server;
use crate::socket::Socket;

/// How long an emitter's answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a result is kept beyond that.
const LONGER: Duration = Duration::from_secs(60);
/// How many answers one socket may wait for.
const MAX_WAITS: u32 = 1_024;

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

/// Decides who may emit which event.
type Permit = Arc<dyn Fn(&Socket, &str) -> bool + Send + Sync>;

/// Events of clients that become messages of a queue: [`Namespace::add_route`].
///
/// ```
/// # use posthaste::QueueRoute;
/// # use std::time::Duration;
/// // socket.emit("order:new", { customer: "ann", tea: 2 }, (result) => …)
/// let orders = QueueRoute::new("order:*", "orders")
///     .key("/0/customer")
///     .timeout(Duration::from_secs(10))
///     .permit(|socket, _event| socket.identity().is_some());
/// ```
#[derive(Clone)]
#[must_use = "nothing is routed until a namespace is given it"]
pub struct QueueRoute {
    event: String,
    queue: String,
    timeout: Duration,
    priority: u8,
    key: Option<String>,
    ttl: Option<Duration>,
    attempts: Option<u32>,
    permit: Option<Permit>,
}

impl QueueRoute {
    /// Events of this name, or with a star at the end all that begin so, become messages of this queue.
    pub fn new(event: impl Into<String>, queue: impl Into<String>) -> Self {
        let (event, queue) = (event.into(), queue.into());
        Self { event, queue, timeout: PATIENCE, priority: 0, key: None, ttl: None, attempts: None, permit: None }
    }

    /// A client that waits for an answer is told so late that there is none yet; 60 s by default. The message stays.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The priority of the messages, 0 to [`Put::MAX_PRIORITY`]; 0 by default.
    pub fn priority(self, priority: u8) -> Self {
        Self { priority, ..self }
    }

    /// Where in the arguments the key of a message is, as a JSON pointer: `"/0/customer"` is what the first argument says under `customer`. An
    /// event that has no text and no number there is refused.
    pub fn key(self, pointer: impl Into<String>) -> Self {
        Self { key: Some(pointer.into()), ..self }
    }

    /// Nobody needs a message after this time.
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// A message may fail so often, less one; as the queue says by default.
    pub fn attempts(self, attempts: u32) -> Self {
        Self { attempts: Some(attempts), ..self }
    }

    /// Asks `permit` who may emit which event; by default everybody who is in the namespace may. It runs on the thread of the socket's worker.
    pub fn permit(self, permit: impl Fn(&Socket, &str) -> bool + Send + Sync + 'static) -> Self {
        Self { permit: Some(Arc::new(permit)), ..self }
    }

    /// What is wrong with it, if anything is.
    ///
    /// # Errors
    /// [`Refusal::BadName`] for what is no name of a queue, [`Refusal::Invalid`] says what else.
    pub fn check(&self) -> Result<(), Refusal> {
        let invalid = |why: &str| Err(Refusal::Invalid(why.to_owned()));
        if !name_is_good(&self.queue) {
            return Err(Refusal::BadName(self.queue.clone()));
        }
        if self.event.is_empty() || self.event.strip_suffix('*').unwrap_or(&self.event).contains('*') {
            return invalid("an event is a name, or the beginning of one with a `*` behind it");
        }
        if self.timeout.is_zero() || self.timeout > Self::MAX_TIMEOUT {
            return invalid("a `timeout` is longer than nothing, and not longer than a day");
        }
        if self.priority > Put::MAX_PRIORITY {
            return invalid("a `priority` is 0 to 31");
        }
        if self.attempts == Some(0) || self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return invalid("`attempts` and `ttl` are not 0");
        }
        match self.key.as_deref().map(argument) {
            Some(None) => {
                invalid("a `key` is a JSON pointer that begins with the place of an argument: \"/0/customer\"")
            }
            _ => Ok(()),
        }
    }

    /// The longest [timeout](Self::timeout).
    pub const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3_600);
}

impl fmt::Debug for QueueRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueueRoute").field("event", &self.event).field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Namespace {
    /// Has an event of clients become a message of a queue: `"order:new"`, or with a star at the end all that begin so, `"order:*"`. What
    /// handles an event by its whole name goes before a star, and routes before [`fallback`](Namespace::fallback). A client that waits for an
    /// answer gets the result of the message, or `{"error": …, "code": …}` when there is none within a minute; the codes are those of queues.
    /// [`add_route`](Namespace::add_route) says more.
    ///
    /// The message is `{event, args, socket, user}`: the event's name and arguments, the id of the socket, and who it
    /// [is](crate::Socket::identify), or `null`. An event with a key (`{"$key": …}`, see [`Builder::idempotency`](crate::Builder::idempotency))
    /// becomes one message however often it comes, as long as the queue knows the key.
    ///
    /// # Errors
    /// [`QueueError::NoQueues`] without [`Builder::queues`](crate::Builder::queues), [`Refusal::BadName`] for what is no name of a queue.
    pub fn route(&self, event: &str, queue: &str) -> Result<&Self, QueueError> {
        self.add_route(QueueRoute::new(event, queue))
    }

    /// As [`Namespace::route`], with more to say about it.
    ///
    /// # Errors
    /// As there, and [what is wrong with the route](QueueRoute::check).
    pub fn add_route(&self, route: QueueRoute) -> Result<&Self, QueueError> {
        let server = self.0.server.upgrade().ok_or(QueueError::NoQueues)?;
        let hub = server.config.queues.as_ref().ok_or(QueueError::NoQueues)?.hub.clone();
        route.check()?;
        let event = route.event.clone();
        let way = Arc::new(Way { hub, queue: QueueName::from(&*route.queue), route, waiting: Mutex::default() });
        let handler: Arc<BoxedEvent> = Arc::new(Box::new(move |cx| Ok(way.take(cx))));
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

    /// As [`Namespace::add_route`], of the main namespace.
    ///
    /// # Errors
    /// As there.
    pub fn add_route(&self, route: QueueRoute) -> Result<&Self, QueueError> {
        self.main().add_route(route)?;
        Ok(self)
    }
}

/// A route that is taken.
struct Way {
    hub: Arc<Hub>,
    queue: QueueName,
    route: QueueRoute,
    /// How many answers each socket waits for.
    waiting: Mutex<FxHashMap<SocketId, u32>>,
}

/// What an emitter is told whose event was not done.
#[derive(Serialize)]
struct Undone<'a> {
    error: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// The message, if it is still worked on.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
}

impl Way {
    fn take(self: &Arc<Self>, cx: &mut EventContext<'_>) -> Running {
        let asked = cx.ack.take();
        let put = self.message(cx, asked.as_ref());
        let ack = asked.map(|asked| Ack::new(cx.socket.clone(), Some(asked)));
        let done = || Box::pin(std::future::ready(()));
        let (put, wait) = match (put, &ack) {
            (Ok(put), None) => (put, None),
            (Ok(put), Some(_)) => match self.wait(cx.socket.id()) {
                Some(wait) => (put, Some(wait)),
                None => {
                    refuse(ack, Refused::new("too_many", "too many answers are waited for").after(1_000), None);
                    return done();
                }
            },
            (Err(refused), _) => {
                refuse(ack, refused, None);
                return done();
            }
        };
        let answer = self.hub.ask(Command::Put(vec![put]));
        let this = self.clone();
        let stored = async move {
            match answer.await?? {
                Outcome::Put(receipts) if receipts.len() == 1 => Ok(receipts[0]),
                _ => Err(QueueError::payload("the store gave no receipt")),
            }
        };
        let Some(ack) = ack else {
            return Box::pin(async move {
                if let Err(error) = stored.await {
                    tracing::warn!(%error, "an event did not become a job, and nobody waits for its answer");
                }
            });
        };
        // No handler of the connection's: its client may be the worker that is waited for, and must be read meanwhile.
        tokio::task::spawn_local(async move {
            let result = match stored.await {
                // It was put for somebody who waits, unless it was there before.
                Ok(Receipt { id, dup, .. }) => this.hub.result_of(id, !dup, this.route.timeout).await,
                Err(error) => Err(error),
            };
            drop(wait);
            match result.map(|result| result.args()) {
                Ok(Some(result)) => drop(ack.send(&result)),
                Ok(None) => refuse(Some(ack), Refused::new("unavailable", "the result cannot be shown"), None),
                Err(error) => {
                    let id = if let QueueError::Pending(id) = error { Some(id) } else { None };
                    refuse(Some(ack), error.into(), id);
                }
            }
        });
        done()
    }

    /// The message that an event is.
    fn message(&self, cx: &EventContext<'_>, asked: Option<&Asked>) -> Result<Put, Refused> {
        let QueueRoute { timeout, priority, key, ttl, attempts, permit, .. } = &self.route;
        if !permit.as_ref().is_none_or(|permit| permit(cx.socket, cx.event)) {
            return Err(Refused::forbidden(cx.event));
        }
        if cx.args.attachments().len() > Payload::MAX_PARTS {
            return Err(Refused::invalid("a message has at most 255 binary parts"));
        }
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let user = cx.socket.identity().map_or_else(|| "null".to_owned(), |user| text(&user));
        let (event, socket) = (text(cx.event), text(&cx.socket.id().to_string()));
        let whole = format!(r#"{{"event":{event},"args":[{}],"socket":{socket},"user":{user}}}"#, cx.args.raw());
        let payload = Payload::from_text(&whole, cx.args.attachments());
        let mut put = Put::new(&self.queue, payload.into_stored(), self.hub.capabilities().durability);
        put.priority = *priority;
        put.attempts = *attempts;
        put.expires = ttl.map(|ttl| posthaste_history::store::Timestamp(now().0.saturating_add(milliseconds(ttl))));
        put.key = key.as_deref().map(|pointer| key_at(cx.args, pointer)).transpose()?;
        if let Some(asked) = asked {
            put.keep_result_ms = Some(milliseconds(timeout.saturating_add(LONGER)));
            if let Some(key) = asked.key() {
                let key = format!("{}\n{key}", cx.socket.0.namespace.name);
                if key.len() > Put::MAX_KEY {
                    return Err(Refused::invalid("the key, with who asks, is too long"));
                }
                put.dedup = Some(Dedup { key: key.into(), mode: DedupMode::Reject, window_ms: None });
            }
        }
        Ok(put)
    }

    /// Begins to wait for an answer, unless its socket waits for too many.
    fn wait(self: &Arc<Self>, socket: SocketId) -> Option<Wait> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(socket).or_default();
        (*count < MAX_WAITS).then_some(())?;
        *count += 1;
        Some(Wait { way: self.clone(), socket })
    }
}

/// An answer that is waited for, until this is dropped.
struct Wait {
    way: Arc<Way>,
    socket: SocketId,
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waiting = self.way.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.socket) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.socket);
            }
        }
    }
}

/// Tells an emitter that waits why its event was not done. What may be otherwise in a moment is not remembered under the event's key.
fn refuse(ack: Option<Ack>, refused: Refused, id: Option<MessageId>) {
    let Some(ack) = ack else {
        return tracing::debug!(
            code = refused.code(),
            "an event did not become a job, and nobody waits for its answer"
        );
    };
    let retry_after = refused.retry_after();
    let undone = Undone { error: refused.text(), code: refused.code(), retry_after, id };
    match retry_after.is_some() || id.is_some() {
        true => drop(ack.send_for_now(&undone)),
        false => drop(ack.send(&undone)),
    }
}

/// The argument that a pointer begins with, and the rest of the pointer; `None` for what is none.
fn argument(pointer: &str) -> Option<(usize, &str)> {
    let rest = pointer.strip_prefix('/')?;
    let (place, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let is_number = place == "0" || !place.starts_with('0') && place.bytes().all(|byte| byte.is_ascii_digit());
    Some((place.parse().ok().filter(|_| is_number)?, rest))
}

/// The text or number that a pointer leads to.
fn key_at(args: &Args<'_>, pointer: &str) -> Result<Arc<str>, Refused> {
    let found = argument(pointer).and_then(|(place, rest)| {
        let value: serde_json::Value = serde_json::from_str(args.iter().nth(place)?).ok()?;
        match value.pointer(rest)? {
            serde_json::Value::String(key) if key.len() <= Put::MAX_KEY => Some(key.as_str().into()),
            serde_json::Value::Number(key) => Some(key.to_string().into()),
            _ => None,
        }
    });
    let wrong =
        || format!("the key of the job is to be at {pointer} in the arguments: a number, or up to 256 bytes of text");
    found.ok_or_else(|| Refused::invalid(wrong()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_where_the_pointer_leads() {
        let args = Args::decode(r#"["a",{"b":{"c/d":7,"e":[null,"x"]},"f":{}}]"#, Vec::new()).unwrap();
        for (pointer, key) in [("/0", "a"), ("/1/b/c~1d", "7"), ("/1/b/e/1", "x")] {
            assert_eq!(&*key_at(&args, pointer).unwrap(), key, "{pointer}");
        }
        for pointer in ["/2", "/1", "/1/f", "/1/b/e/0", "/1/g", "/0/x"] {
            assert_eq!(key_at(&args, pointer).unwrap_err().code(), "invalid", "{pointer}");
        }
    }

    #[test]
    fn a_route_that_cannot_be_is_refused() {
        let route = || QueueRoute::new("order:*", "orders");
        assert_eq!(route().key("/0/customer").timeout(Duration::from_millis(1)).check(), Ok(()));
        assert_eq!(QueueRoute::new("*", "all").check(), Ok(()));
        for bad in [
            QueueRoute::new("", "orders"),
            QueueRoute::new("or*er", "orders"),
            QueueRoute::new("a", "two words"),
            route().timeout(Duration::ZERO),
            route().timeout(Duration::from_secs(90_000)),
            route().priority(32),
            route().attempts(0),
            route().ttl(Duration::ZERO),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        for pointer in ["", "0", "/", "/x", "/00", "/-1", "/1x/y"] {
            assert!(route().key(pointer).check().is_err(), "{pointer}");
        }
    }
}
