//! What a client's messages mean, and the handlers they start.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::task::Poll;
use std::time::Instant;

use posthaste_engine::{CloseReason, ConnectionId, Limit};
use posthaste_socket_proto::{Args, Connection, ConnectionLimits, Inbound, Violation};

use super::helper::RESERVED;
use super::{Handle, Local};
use crate::ack::Ack;
use crate::error::ConnectError;
use crate::extract::EventContext;
use crate::handler::{self, BoxedEvent};
use crate::reason::DisconnectReason;

impl Local {
    /// A message of a client: `receive` has the client's connection judge it.
    pub(super) fn message<'a>(
        &self,
        id: ConnectionId,
        receive: impl FnOnce(
            &mut Connection<Handle>,
            Instant,
            &ConnectionLimits,
        ) -> Result<Option<Inbound<'a, Handle>>, Violation>,
    ) {
        let Some(server) = self.server.upgrade() else { return };
        let limits = &server.config.limits;
        let now = self.worker.now();
        let received = self.with_client(id, |client| {
            let received = receive(&mut client.connection, now, limits);
            let awaits = matches!(received, Ok(None)).then(|| client.connection.deadline()).flatten();
            (received, awaits)
        });
        let Some((received, awaits)) = received else { return };
        if let Some(deadline) = awaits {
            // Attachments were announced.
            self.watch(id, deadline);
        }
        match received {
            Ok(None) => {}
            Ok(Some(Inbound::Event { socket, id: ack, event, args, .. })) => {
                if self.admits_event(&server, id, socket, ack) {
                    self.event(socket, ack, &event, args);
                }
            }
            Ok(Some(Inbound::Ack { socket, id: ack, args })) => self.answered(id, socket, ack, args),
            Ok(Some(Inbound::Connect { namespace, auth })) => {
                if self.admits_namespace(&server, id) {
                    self.connect(id, &namespace, auth.as_deref());
                } else {
                    self.refuse(id, &namespace, &ConnectError::new("Too many joins"));
                }
            }
            Ok(Some(Inbound::ConnectRefused { namespace, message })) => {
                self.count_limit(Limit::Namespaces);
                self.send_connect_error(id, &namespace, &ConnectError::new(message));
            }
            Ok(Some(Inbound::Disconnect { socket })) => self.left(socket, DisconnectReason::ClientNamespaceDisconnect),
            Err(violation) => {
                tracing::debug!(%violation, connection = ?id, "connection closed");
                self.count_violation(&violation);
                self.worker.close(id, CloseReason::ForcedClose);
            }
        }
    }

    fn event(&self, handle: Handle, ack: Option<u64>, event: &str, args: Args<'_>) {
        let Some(namespace) = self.namespace(handle.namespace) else { return };
        let Some(socket) = self.socket(handle) else { return };
        if let Some(tracking) = &namespace.tracking
            && event.starts_with(RESERVED)
            && tracking.journal().kept().is_some()
        {
            return self.helper_event(handle, socket, ack, event, &args);
        }
        let router = namespace.router();
        let (ack, args) = match self.ask_once(&socket, ack, args) {
            Some(asked) => asked,
            // It is being done, or was.
            None => return,
        };
        let mut cx = EventContext { socket: &socket, event, args: &args, ack, ack_taken: false, error: None };
        let own = socket.listeners();
        if own.is_some() || router.looks_at_events() {
            return self.observed_event(cx, &router, own);
        }
        if let Some(handler) = router.handler(event) {
            self.handle_event(&mut cx, handler);
        }
    }

    /// Starts what handles an event.
    pub(super) fn handle_event(&self, cx: &mut EventContext<'_>, handler: &BoxedEvent) {
        let (socket, ack) = (cx.socket, cx.ack.clone());
        match guarded(|| handler(cx)) {
            Some(Ok(running)) => self.worker.start(socket.0.connection, socket.0.serial, running),
            Some(Err(error)) => {
                tracing::debug!(%error, "an event's handler was not called");
                handler::refuse(ack.map(|ack| Ack::new(socket.clone(), Some(ack))), &error);
            }
            None => self.disconnect(socket, false),
        }
        self.blame(socket, cx.event);
    }
}

/// Calls what an application wrote. A panic in it is `None`, and in the log by the panic hook.
pub(crate) fn guarded<R>(call: impl FnOnce() -> R) -> Option<R> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).ok()
}

/// Awaits what an application wrote, as [`guarded`] calls it.
pub(super) async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| match guarded(|| future.as_mut().poll(cx)) {
        Some(polled) => polled.map(Some),
        None => Poll::Ready(None),
    })
    .await
}
