//! What handlers hear of a connection besides its coming and its end.

use posthaste_engine::ConnectionId;

use super::dispatch::guarded;
use super::{Handle, Local, LocalNamespace};
use crate::extract::{ConnectContext, DisconnectContext};
use crate::reason::DisconnectReason;

impl Local {
    /// A socket leaves its namespace: its handlers hear of it while it is in its rooms. Calls the application.
    pub(super) fn disconnecting(&self, namespace: &LocalNamespace, handle: Handle, reason: DisconnectReason) {
        let router = namespace.router();
        if router.disconnecting.is_empty() {
            return;
        }
        let Some(socket) = self.socket(handle) else { return };
        let rooms = namespace.membership.borrow().rooms_of(handle.member);
        for handler in &router.disconnecting {
            match guarded(|| handler(&mut DisconnectContext { socket: &socket, reason, rooms: &rooms })) {
                Some(Ok(running)) => self.worker.start(socket.0.connection, socket.0.serial, running),
                Some(Err(error)) => tracing::warn!(%error, "a disconnecting handler could not be called"),
                None => {}
            }
        }
    }

    /// A connection goes on over a WebSocket: the handlers of all its sockets hear of it. Calls the application.
    pub(super) fn tell_upgraded(&self, id: ConnectionId) {
        let handles = self.with_client(id, |client| client.connection.iter().map(|(_, handle)| *handle).collect());
        let handles: Vec<Handle> = handles.unwrap_or_default();
        for handle in handles {
            let Some(namespace) = self.namespace(handle.namespace) else { continue };
            let Some(socket) = self.socket(handle) else { continue };
            for handler in &namespace.router().upgrade {
                match guarded(|| handler(&mut ConnectContext { socket: &socket })) {
                    Some(Ok(running)) => self.worker.start(id, socket.0.serial, running),
                    Some(Err(error)) => tracing::warn!(%error, "an upgrade handler could not be called"),
                    None => self.disconnect(&socket, false),
                }
            }
        }
    }
}
