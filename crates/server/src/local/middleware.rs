//! Events that listeners see and middlewares check before their handlers.

use std::sync::Arc;

use super::Local;
use super::dispatch::guarded;
use crate::ack::Ack;
use crate::error::EventError;
use crate::extract::EventContext;
use crate::handler::{self, BoxedEvent, BoxedEventCheck};
use crate::listeners::Listeners;
use crate::namespace::Router;

impl Local {
    /// Shows an event to the catch-all listeners, then has it checked if need be, then handled. `own` is what the socket has for
    /// itself; its handlers go before the namespace's.
    pub(super) fn observed_event(&self, mut cx: EventContext<'_>, router: &Arc<Router>, own: Option<Listeners>) {
        let socket = cx.socket;
        let any = own.as_ref().map(Listeners::any).unwrap_or_default();
        for listener in router.any.iter().chain(any.iter()) {
            match guarded(|| listener(&mut cx)) {
                Some(Ok(running)) => self.worker.start(socket.0.connection, socket.0.serial, running),
                Some(Err(error)) => tracing::debug!(%error, "a catch-all listener was not called"),
                None => return self.disconnect(socket, false),
            }
            if !socket.is_connected() {
                return;
            }
        }
        let checks = own.as_ref().map(Listeners::checks).unwrap_or_default();
        if !router.event_middlewares.is_empty() || !checks.is_empty() {
            return self.checked_event(cx, router.clone(), own, checks);
        }
        if let Some(handler) = handler_of(router, own.as_ref(), cx.event) {
            self.handle_event(&mut cx, &handler);
        }
    }

    /// Asks the event middlewares one after the other, then starts the event's handler, or the one for refusals.
    fn checked_event(
        &self,
        cx: EventContext<'_>,
        router: Arc<Router>,
        own: Option<Listeners>,
        own_checks: Vec<Arc<BoxedEventCheck>>,
    ) {
        let (socket, (asked, name)) = (cx.socket.clone(), (cx.socket, cx.event));
        let (event, args, ack, ack_taken) = (cx.event.to_owned(), cx.args.clone().into_owned(), cx.ack, cx.ack_taken);
        let (id, serial) = (socket.0.connection, socket.0.serial);
        let running = async move {
            let mut cx = EventContext { socket: &socket, event: &event, args: &args, ack, ack_taken, error: None };
            for check in router.event_middlewares.iter().chain(&own_checks) {
                let verdict = match check(&mut cx) {
                    Ok(checking) => checking.await,
                    Err(error) => Err(EventError::new(error)),
                };
                if let Err(error) = verdict {
                    cx.error = Some(&error);
                    return refused(cx, &router, &error).await;
                }
            }
            if !socket.is_connected() {
                return;
            }
            let Some(handler) = handler_of(&router, own.as_ref(), &event) else { return };
            let asked = cx.ack.clone();
            match handler(&mut cx) {
                Ok(running) => running.await,
                Err(error) => {
                    tracing::debug!(%error, "an event's handler was not called");
                    handler::refuse(asked.map(|ack| Ack::new(socket.clone(), Some(ack))), &error);
                }
            }
        };
        self.worker.start(id, serial, Box::pin(running));
        self.blame(asked, name);
    }
}

/// What handles an event: what is for this socket alone goes first.
fn handler_of(router: &Router, own: Option<&Listeners>, event: &str) -> Option<Arc<BoxedEvent>> {
    own.and_then(|own| own.take(event)).or_else(|| router.handler(event).cloned())
}

/// Tells the application and a client that waits of a refusal.
async fn refused(mut cx: EventContext<'_>, router: &Router, error: &EventError) {
    let running = router.error.as_ref().map(|handler| handler(&mut cx));
    // Unless a middleware or the handler took the right to answer.
    if let Some(ack) = cx.ack.take() {
        handler::refuse(Some(Ack::new(cx.socket.clone(), Some(ack))), error);
    }
    match running {
        Some(Ok(running)) => running.await,
        Some(Err(error)) => tracing::warn!(%error, "an error handler could not be called"),
        None => tracing::debug!(%error, event = cx.event, "an event was refused"),
    }
}
