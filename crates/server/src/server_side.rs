//! Events from server to server.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use posthaste_adapter::{AckCollector, AdapterError, AnswerSink, RawEvent, ServerReply};
use posthaste_engine::Worker;
use posthaste_engine_proto::session::deadline_after;
use posthaste_socket_proto::{Args, EmitArgs, EncodeError, FromArgs};
use serde::Serialize;

use crate::ack::AcksFuture;
use crate::error::{ExtractError, SendError};
use crate::extract::{Data, Event, State};
use crate::handler::Answer;
use crate::namespace::{Namespace, NamespaceInner};
use crate::sent::Sent;
use crate::server::Server;

/// How long other servers may take to answer.
///
/// Source: Socket.IO 4.8, `requestsTimeout` of its adapters.
pub(crate) const SERVER_TIMEOUT: Duration = Duration::from_secs(5);

/// Names that mean something to a server itself.
///
/// Source: `socket.io` 4.8, `RESERVED_EVENTS` of its namespaces.
const RESERVED: [&str; 3] = ["connect", "connection", "new_namespace"];

type Answering = Pin<Box<dyn Future<Output = Option<Args<'static>>>>>;
pub(crate) type BoxedServerEvent =
    Box<dyn Fn(&mut ServerEventContext) -> Result<Answering, ExtractError> + Send + Sync>;

/// Another server's event on its way to its handler.
#[derive(Debug)]
pub struct ServerEventContext {
    namespace: Namespace,
    name: String,
    event: RawEvent,
}

/// What a handler of servers' events may take.
#[diagnostic::on_unimplemented(
    message = "a handler of servers' events cannot take `{Self}`",
    label = "not an extractor for servers' events",
    note = "it may take `Data<T>` with `T: Deserialize`, `Event`, `Server`, `Namespace`, `State<T>`; there is no socket"
)]
pub trait FromServerEvent: Sized {
    /// Takes it from the event.
    ///
    /// # Errors
    /// [`ExtractError`]: the handler is not called, and the server that asked gets no answer from this one.
    fn from_server_event(cx: &mut ServerEventContext) -> Result<Self, ExtractError>;
}

impl<T: FromArgs> FromServerEvent for Data<T> {
    fn from_server_event(cx: &mut ServerEventContext) -> Result<Self, ExtractError> {
        Ok(Self(T::from_args(&cx.event.args())?))
    }
}

impl FromServerEvent for Event {
    fn from_server_event(cx: &mut ServerEventContext) -> Result<Self, ExtractError> {
        Ok(Self(cx.name.clone()))
    }
}

impl FromServerEvent for Namespace {
    fn from_server_event(cx: &mut ServerEventContext) -> Result<Self, ExtractError> {
        Ok(cx.namespace.clone())
    }
}

impl FromServerEvent for Server {
    fn from_server_event(cx: &mut ServerEventContext) -> Result<Self, ExtractError> {
        Ok(cx.namespace.server())
    }
}

impl<T: Clone + Send + Sync + 'static> FromServerEvent for State<T> {
    fn from_server_event(cx: &mut ServerEventContext) -> Result<Self, ExtractError> {
        cx.namespace.server().state::<T>().map(Self).ok_or(ExtractError::State(type_name::<T>()))
    }
}

/// What a handler of servers' events may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer a server",
    label = "not an answer",
    note = "return `()`, `Result<T, E>` with `T: Serialize` and `E: Display`, or `Answer<T>` with `T: Serialize`"
)]
pub trait IntoServerAnswer {
    /// The answer; `None` when there can be none.
    fn into_answer(self) -> Option<Args<'static>>;
}

impl IntoServerAnswer for () {
    fn into_answer(self) -> Option<Args<'static>> {
        Some(Args::default())
    }
}

impl<T: Serialize> IntoServerAnswer for Answer<T> {
    fn into_answer(self) -> Option<Args<'static>> {
        encode(&self.0)
    }
}

impl<T: Serialize, E: fmt::Display> IntoServerAnswer for Result<T, E> {
    fn into_answer(self) -> Option<Args<'static>> {
        match self {
            Ok(value) => encode(&value),
            Err(error) => encode(&serde_json::json!({ "error": error.to_string() })),
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Option<Args<'static>> {
    match RawEvent::encode("", value) {
        Ok(event) => Some(event.args().into_owned()),
        Err(error) => {
            tracing::error!(%error, "a handler's answer to a server could not be sent");
            None
        }
    }
}

/// An async function that handles other servers' events: it takes up to four extractors ([`FromServerEvent`]) and returns `()`, a
/// `Result` or an [`Answer`], which answers a server that waits as an event handler's does a client.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle servers' events",
    label = "not a handler of servers' events",
    note = "it is an `async fn` or async closure, `Fn`, `Send`, `Sync` and `'static`, whose arguments are extractors (`Data<T>`, `Server`, `Namespace`, …) and whose result is `()`, `Result<impl Serialize, impl Display>` or `Answer`"
)]
pub trait ServerEventHandler<Args>: Send + Sync + 'static {
    /// Extracts what the function takes and calls it.
    ///
    /// # Errors
    /// [`ExtractError`] when something it takes is not there.
    fn call(&self, cx: &mut ServerEventContext) -> Result<Answering, ExtractError>;
}

macro_rules! server_handlers {
    ($($take:ident),*) => {
        #[allow(non_snake_case, unused_variables, reason = "one argument per extractor, none for the last")]
        impl<F, Fut, Out, $($take,)*> ServerEventHandler<($($take,)*)> for F
        where
            F: Fn($($take),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Out> + 'static,
            Out: IntoServerAnswer,
            $($take: FromServerEvent,)*
        {
            fn call(&self, cx: &mut ServerEventContext) -> Result<Answering, ExtractError> {
                $(let $take = $take::from_server_event(cx)?;)*
                let running = self($($take),*);
                Ok(Box::pin(async move { running.await.into_answer() }))
            }
        }
    };
}

server_handlers!();
server_handlers!(T1);
server_handlers!(T1, T2);
server_handlers!(T1, T2, T3);
server_handlers!(T1, T2, T3, T4);

impl Namespace {
    /// Sends an event to this namespace on every other server of the cluster, for their [`Namespace::on_server_event`]. This
    /// server does not hear it, and a server that is alone has nobody to tell, which is no error.
    ///
    /// # Errors (of the future)
    /// [`SendError::Encode`] when the arguments cannot be sent or the name is reserved (`connect`, `connection`,
    /// `new_namespace`), [`SendError::Adapter`] when the others cannot be reached.
    pub fn server_side_emit<A: EmitArgs + ?Sized>(&self, event: &str, args: &A) -> Sent {
        match self.server_event(event, args) {
            Ok(event) => {
                let each = self.each().into_iter();
                let sent = each.map(|namespace| Sent::by(namespace.0.adapter().server_emit(event.clone(), None)));
                sent.fold(Sent::ready(Ok(())), Sent::and)
            }
            Err(error) => Sent::ready(Err(error)),
        }
    }

    /// Sends an event to this namespace on every other server and collects their answers, one from each, for at most 5 s. A
    /// server that is alone gets an empty list at once.
    ///
    /// # Errors (of the future)
    /// As [`Operator::emit_with_ack`](crate::Operator::emit_with_ack), and [`SendError::Encode`] for a reserved name.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn server_side_emit_with_ack<T: FromArgs>(
        &self,
        event: &str,
        args: &(impl EmitArgs + ?Sized),
    ) -> AcksFuture<T> {
        let event = match self.server_event(event, args) {
            Ok(event) => event,
            Err(error) => return AcksFuture::failed(error),
        };
        let collector = Arc::new(AckCollector::new(self.server().0.config.max_ack_bytes));
        for namespace in self.each() {
            let answers: Arc<dyn AnswerSink> = collector.clone();
            // Who could not be reached shows in the answers that come.
            drop(namespace.0.adapter().server_emit(event.clone(), Some(answers)));
        }
        AcksFuture::waiting(collector, deadline_after(Instant::now(), SERVER_TIMEOUT))
    }

    /// Handles an event that another server sent to this namespace ([`Namespace::server_side_emit`]). A later registration for the
    /// same event replaces an earlier one.
    ///
    /// ```
    /// # let io = posthaste::Server::new()?;
    /// use posthaste::{Answer, Data};
    /// io.on_server_event("reload", async |Data(what): Data<String>| println!("reloading {what}"));
    /// io.on_server_event("uptime", async || Answer(17));
    /// # Ok::<(), posthaste::BuildError>(())
    /// ```
    pub fn on_server_event<Args>(&self, event: &str, handler: impl ServerEventHandler<Args>) -> &Self {
        let handler: Arc<BoxedServerEvent> = Arc::new(Box::new(move |cx| handler.call(cx)));
        self.change(|router| router.server_events.insert(event.into(), handler));
        self
    }

    /// How many servers hold this namespace, this one included.
    ///
    /// # Errors (of the future)
    /// [`AdapterError`] when they could not be counted.
    pub fn server_count(&self) -> impl Future<Output = Result<usize, AdapterError>> + Send + 'static + use<> {
        self.0.adapter().node_count()
    }

    fn server_event<A: EmitArgs + ?Sized>(&self, event: &str, args: &A) -> Result<RawEvent, SendError> {
        if let Some(name) = RESERVED.iter().find(|name| **name == event) {
            return Err(EncodeError::ReservedEvent { name }.into());
        }
        Ok(RawEvent::encode(event, args)?)
    }
}

impl Server {
    /// Sends an event to every other server; see [`Namespace::server_side_emit`].
    pub fn server_side_emit<A: EmitArgs + ?Sized>(&self, event: &str, args: &A) -> Sent {
        self.main().server_side_emit(event, args)
    }

    /// Sends an event to every other server and collects their answers; see [`Namespace::server_side_emit_with_ack`].
    pub fn server_side_emit_with_ack<T: FromArgs>(
        &self,
        event: &str,
        args: &(impl EmitArgs + ?Sized),
    ) -> AcksFuture<T> {
        self.main().server_side_emit_with_ack(event, args)
    }

    /// Handles an event that another server sent; see [`Namespace::on_server_event`].
    pub fn on_server_event<Args>(&self, event: &str, handler: impl ServerEventHandler<Args>) -> &Self {
        self.main().on_server_event(event, handler);
        self
    }

    /// How many servers there are, this one included; see [`Namespace::server_count`].
    pub fn server_count(&self) -> impl Future<Output = Result<usize, AdapterError>> + Send + 'static + use<> {
        self.main().server_count()
    }
}

/// Has another server's event handled, on one worker for the whole namespace: in the order in which events came.
pub(crate) fn handle(namespace: &Arc<NamespaceInner>, event: RawEvent, reply: Option<ServerReply>) {
    let Ok(name) = event.name() else { return };
    // Without an answer of this one the asking server does not wait in vain: dropping `reply` says so.
    let Some(handler) = namespace.router().server_events.get(name.as_str()).cloned() else { return };
    let Some(server) = namespace.server.upgrade() else { return };
    let workers = server.workers.handles();
    let worker = &workers[namespace.number() as usize % workers.len()];
    let mut cx = ServerEventContext { namespace: Namespace(namespace.clone()), name, event };
    let job = move |_: &Worker| {
        // A task, for handlers must not run inside of jobs. It ends with its worker.
        tokio::task::spawn_local(async move {
            match handler(&mut cx) {
                Ok(running) => {
                    let answer = running.await;
                    if let (Some(reply), Some(answer)) = (reply, answer) {
                        reply(answer);
                    }
                }
                Err(error) => tracing::warn!(%error, event = cx.name, "a server's event could not be handled"),
            }
        });
    };
    // A server that has ended handles nothing.
    let _ = worker.post(job);
}
