//! Async functions as handlers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

use crate::ack::Ack;
use crate::error::{ConnectError, EventError, ExtractError};
use crate::extract::{ConnectContext, DisconnectContext, EventContext, FromConnect, FromDisconnect, FromEvent};

pub(crate) type Running = Pin<Box<dyn Future<Output = ()>>>;
pub(crate) type Checking = Pin<Box<dyn Future<Output = Result<(), ConnectError>>>>;
pub(crate) type CheckingEvent = Pin<Box<dyn Future<Output = Result<(), EventError>>>>;

/// Handlers by what they take is forgotten: what the routing tables hold.
pub(crate) type BoxedEvent = Box<dyn Fn(&mut EventContext<'_>) -> Result<Running, ExtractError> + Send + Sync>;
pub(crate) type BoxedEventCheck =
    Box<dyn Fn(&mut EventContext<'_>) -> Result<CheckingEvent, ExtractError> + Send + Sync>;
pub(crate) type BoxedError = BoxedEvent;
pub(crate) type BoxedConnect = Box<dyn Fn(&mut ConnectContext<'_>) -> Result<Running, ExtractError> + Send + Sync>;
pub(crate) type BoxedCheck = Box<dyn Fn(&mut ConnectContext<'_>) -> Result<Checking, ExtractError> + Send + Sync>;
pub(crate) type BoxedDisconnect =
    Box<dyn Fn(&mut DisconnectContext<'_>) -> Result<Running, ExtractError> + Send + Sync>;

/// An async function that handles events: it takes up to eight extractors ([`FromEvent`]) and returns `()`, a `Result` or an
/// [`Answer`].
///
/// Unless it takes [`Ack`], what it returns answers a client that waits: `()` with nothing, `Ok(value)` and `Answer(value)`
/// with the value (a tuple with several), `Err(error)` with `{"error": "<the error's text>"}`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle events",
    label = "not an event handler",
    note = "an event handler is an `async fn` or async closure, `Fn`, `Send`, `Sync` and `'static`, whose arguments, up to eight, are extractors (`Socket`, `Data<T>`, `Ack`, …) and whose result is `()`, `Result<impl Serialize, impl Display>` or `Answer`"
)]
pub trait EventHandler<Args>: Send + Sync + 'static {
    /// Extracts what the function takes and calls it.
    ///
    /// # Errors
    /// [`ExtractError`] when something it takes is not there.
    fn call(&self, cx: &mut EventContext<'_>) -> Result<Running, ExtractError>;
}

/// An async function called when a socket has joined the namespace; it takes up to eight extractors ([`FromConnect`]).
///
/// It returns `()` or a `Result`; an error disconnects the socket.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle connections",
    label = "not a connect handler",
    note = "a connect handler is an `async fn` or async closure, `Fn`, `Send`, `Sync` and `'static`, whose arguments, up to eight, are extractors (`Socket`, `Auth<T>`, `State<T>`, …) and whose result is `()` or `Result<(), impl Display>`"
)]
pub trait ConnectHandler<Args>: Send + Sync + 'static {
    /// Extracts what the function takes and calls it.
    ///
    /// # Errors
    /// [`ExtractError`] when something it takes is not there.
    fn call(&self, cx: &mut ConnectContext<'_>) -> Result<Running, ExtractError>;
}

/// An async function that lets a socket into the namespace or refuses it; it takes up to eight extractors ([`FromConnect`]).
///
/// It returns a `Result` whose error becomes the client's `connect_error`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no middleware",
    label = "not a middleware",
    note = "a middleware is an `async fn` or async closure, `Fn`, `Send`, `Sync` and `'static`, whose arguments, up to eight, are extractors (`Socket`, `Auth<T>`, `State<T>`, …) and whose result is `Result<(), E>` with `E: Into<ConnectError>`"
)]
pub trait Middleware<Args>: Send + Sync + 'static {
    /// Extracts what the function takes and calls it.
    ///
    /// # Errors
    /// [`ExtractError`] when something it takes is not there; the client is refused with its text.
    fn call(&self, cx: &mut ConnectContext<'_>) -> Result<Checking, ExtractError>;
}

/// An async function that lets an event pass to its handler or refuses it; it takes up to eight extractors ([`FromEvent`]).
///
/// It returns a `Result` whose error is anything that can be displayed. One that takes [`Ack`] has the right to answer: nobody
/// else answers then.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no event middleware",
    label = "not an event middleware",
    note = "an event middleware is an `async fn` or async closure, `Fn`, `Send`, `Sync` and `'static`, whose arguments, up to eight, are extractors (`Socket`, `Event`, `Data<T>`, …) and whose result is `Result<(), E>` with `E: Display + Send + Sync + 'static`"
)]
pub trait EventMiddleware<Args>: Send + Sync + 'static {
    /// Extracts what the function takes and calls it.
    ///
    /// # Errors
    /// [`ExtractError`] when something it takes is not there; the event is refused with its text.
    fn call(&self, cx: &mut EventContext<'_>) -> Result<CheckingEvent, ExtractError>;
}

/// An async function called when an event was refused; it takes up to eight extractors ([`FromEvent`], [`EventError`] among
/// them).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle refusals",
    label = "not an error handler",
    note = "an error handler is an `async fn` or async closure, `Fn`, `Send`, `Sync` and `'static`, whose arguments, up to eight, are extractors (`Socket`, `EventError`, `Event`, …) and whose result is `()`"
)]
pub trait ErrorHandler<Args>: Send + Sync + 'static {
    /// Extracts what the function takes and calls it.
    ///
    /// # Errors
    /// [`ExtractError`] when something it takes is not there.
    fn call(&self, cx: &mut EventContext<'_>) -> Result<Running, ExtractError>;
}

/// An async function that sees events on their way to or from a socket; it takes up to eight extractors ([`FromEvent`]).
///
/// One that takes [`Ack`] has the right to answer: nobody else answers then.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot see all events",
    label = "not a catch-all listener",
    note = "a catch-all listener is an `async fn` or async closure, `Fn`, `Send`, `Sync` and `'static`, whose arguments, up to eight, are extractors (`Socket`, `Event`, `Data<Args>`, …) and whose result is `()`"
)]
pub trait CatchAll<Args>: Send + Sync + 'static {
    /// Extracts what the function takes and calls it.
    ///
    /// # Errors
    /// [`ExtractError`] when something it takes is not there.
    fn call(&self, cx: &mut EventContext<'_>) -> Result<Running, ExtractError>;
}

/// An async function called when a socket leaves or has left the namespace; it takes up to eight extractors
/// ([`FromDisconnect`]).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot handle disconnections",
    label = "not a disconnect handler",
    note = "a disconnect handler is an `async fn` or async closure, `Fn`, `Send`, `Sync` and `'static`, whose arguments, up to eight, are extractors (`Socket`, `DisconnectReason`, `State<T>`, …)"
)]
pub trait DisconnectHandler<Args>: Send + Sync + 'static {
    /// Extracts what the function takes and calls it.
    ///
    /// # Errors
    /// [`ExtractError`] when something it takes is not there.
    fn call(&self, cx: &mut DisconnectContext<'_>) -> Result<Running, ExtractError>;
}

/// A value that answers the client, from a handler that cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Answer<T>(pub T);

/// What an event handler may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot answer a client",
    label = "not an answer",
    note = "return `()`, `Result<T, E>` with `T: Serialize` and `E: Display`, or `Answer<T>` with `T: Serialize`"
)]
pub trait IntoAnswer {
    /// Sends it to a client that waits.
    fn answer(self, ack: Option<Ack>);
}

impl IntoAnswer for () {
    fn answer(self, ack: Option<Ack>) {
        send(ack, &());
    }
}

impl<T: Serialize> IntoAnswer for Answer<T> {
    fn answer(self, ack: Option<Ack>) {
        send(ack, &self.0);
    }
}

impl<T: Serialize, E: fmt::Display> IntoAnswer for Result<T, E> {
    fn answer(self, ack: Option<Ack>) {
        match self {
            Ok(value) => send(ack, &value),
            Err(error) => refuse(ack, &error),
        }
    }
}

fn send<T: Serialize>(ack: Option<Ack>, value: &T) {
    // A socket that is gone needs no answer; a value that is no JSON is the handler's mistake.
    if let Some(Err(error @ crate::SendError::Encode(_))) = ack.map(|ack| ack.send(value).now()) {
        tracing::error!(%error, "a handler's answer could not be sent");
    }
}

/// Tells a client that waits what went wrong.
pub(crate) fn refuse(ack: Option<Ack>, error: &dyn fmt::Display) {
    match ack {
        Some(ack) => drop(ack.send(&serde_json::json!({ "error": error.to_string() }))),
        None => tracing::debug!(%error, "a handler failed and nobody waits for its answer"),
    }
}

/// What a connect handler may return.
pub trait IntoConnected {
    /// The error's text, if it failed.
    fn failure(self) -> Option<String>;
}

impl IntoConnected for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: fmt::Display> IntoConnected for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

macro_rules! handlers {
    ($($take:ident),*) => {
        #[allow(non_snake_case, unused_variables, reason = "one argument per extractor, none for the last")]
        impl<F, Fut, Out, $($take,)*> EventHandler<($($take,)*)> for F
        where
            F: Fn($($take),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Out> + 'static,
            Out: IntoAnswer,
            $($take: FromEvent,)*
        {
            fn call(&self, cx: &mut EventContext<'_>) -> Result<Running, ExtractError> {
                $(let $take = $take::from_event(cx)?;)*
                let ack = cx.ack.take().map(|id| Ack::new(cx.socket.clone(), Some(id)));
                let taken = cx.ack_taken;
                let running = self($($take),*);
                Ok(Box::pin(async move {
                    let out = running.await;
                    if !taken {
                        out.answer(ack);
                    }
                }))
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "one argument per extractor, none for the last")]
        impl<F, Fut, Out, $($take,)*> ConnectHandler<($($take,)*)> for F
        where
            F: Fn($($take),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Out> + 'static,
            Out: IntoConnected,
            $($take: FromConnect,)*
        {
            fn call(&self, cx: &mut ConnectContext<'_>) -> Result<Running, ExtractError> {
                $(let $take = $take::from_connect(cx)?;)*
                let socket = cx.socket.clone();
                let running = self($($take),*);
                Ok(Box::pin(async move {
                    if let Some(error) = running.await.failure() {
                        tracing::warn!(%error, socket = %socket.id(), "a connect handler failed: the socket is disconnected");
                        socket.disconnect(false);
                    }
                }))
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "one argument per extractor, none for the last")]
        impl<F, Fut, Error, $($take,)*> Middleware<($($take,)*)> for F
        where
            F: Fn($($take),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<(), Error>> + 'static,
            Error: Into<ConnectError>,
            $($take: FromConnect,)*
        {
            fn call(&self, cx: &mut ConnectContext<'_>) -> Result<Checking, ExtractError> {
                $(let $take = $take::from_connect(cx)?;)*
                let running = self($($take),*);
                Ok(Box::pin(async move { running.await.map_err(Into::into) }))
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "one argument per extractor, none for the last")]
        impl<F, Fut, Error, $($take,)*> EventMiddleware<($($take,)*)> for F
        where
            F: Fn($($take),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = Result<(), Error>> + 'static,
            Error: fmt::Display + Send + Sync + 'static,
            $($take: FromEvent,)*
        {
            fn call(&self, cx: &mut EventContext<'_>) -> Result<CheckingEvent, ExtractError> {
                $(let $take = $take::from_event(cx)?;)*
                let running = self($($take),*);
                Ok(Box::pin(async move { running.await.map_err(EventError::new) }))
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "one argument per extractor, none for the last")]
        impl<F, Fut, $($take,)*> ErrorHandler<($($take,)*)> for F
        where
            F: Fn($($take),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = ()> + 'static,
            $($take: FromEvent,)*
        {
            fn call(&self, cx: &mut EventContext<'_>) -> Result<Running, ExtractError> {
                $(let $take = $take::from_event(cx)?;)*
                Ok(Box::pin(self($($take),*)))
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "one argument per extractor, none for the last")]
        impl<F, Fut, $($take,)*> CatchAll<($($take,)*)> for F
        where
            F: Fn($($take),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = ()> + 'static,
            $($take: FromEvent,)*
        {
            fn call(&self, cx: &mut EventContext<'_>) -> Result<Running, ExtractError> {
                $(let $take = $take::from_event(cx)?;)*
                Ok(Box::pin(self($($take),*)))
            }
        }

        #[allow(non_snake_case, unused_variables, reason = "one argument per extractor, none for the last")]
        impl<F, Fut, $($take,)*> DisconnectHandler<($($take,)*)> for F
        where
            F: Fn($($take),*) -> Fut + Send + Sync + 'static,
            Fut: Future<Output = ()> + 'static,
            $($take: FromDisconnect,)*
        {
            fn call(&self, cx: &mut DisconnectContext<'_>) -> Result<Running, ExtractError> {
                $(let $take = $take::from_disconnect(cx)?;)*
                Ok(Box::pin(self($($take),*)))
            }
        }
    };
}

handlers!();
handlers!(T1);
handlers!(T1, T2);
handlers!(T1, T2, T3);
handlers!(T1, T2, T3, T4);
handlers!(T1, T2, T3, T4, T5);
handlers!(T1, T2, T3, T4, T5, T6);
handlers!(T1, T2, T3, T4, T5, T6, T7);
handlers!(T1, T2, T3, T4, T5, T6, T7, T8);
