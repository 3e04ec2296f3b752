//! Events that have to pass middlewares before their handlers.

use std::sync::Arc;

use posthaste_engine::ConnectionId;
use posthaste_socket_proto::Args;

use super::Local;
use crate::ack::Ack;
use crate::error::EventError;
use crate::extract::EventContext;
use crate::handler;
use crate::namespace::Router;
use crate::socket::Socket;

impl Local {
    /// Asks the event middlewares one after the other, then starts the event's handler, or the one for refusals.
    pub(super) fn checked_event(
        &self,
        id: ConnectionId,
        socket: Socket,
        router: Arc<Router>,
        ack: Option<u64>,
        event: &str,
        args: Args<'_>,
    ) {
        let (event, args, serial) = (event.to_owned(), args.into_owned(), socket.0.serial);
        let running = async move {
            let mut cx =
                EventContext { socket: &socket, event: &event, args: &args, ack, ack_taken: false, error: None };
            for check in &router.event_middlewares {
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
            let Some(handler) = router.handler(&event) else { return };
            let asked = cx.ack;
            match handler(&mut cx) {
                Ok(running) => running.await,
                Err(error) => {
                    tracing::debug!(%error, "an event's handler was not called");
                    handler::refuse(asked.map(|ack| Ack::new(socket.clone(), Some(ack))), &error);
                }
            }
        };
        self.worker.start(id, serial, Box::pin(running));
    }
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
