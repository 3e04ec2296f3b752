//! What is sent, shown to those who want to see it.
//!
//! Nothing here runs unless its namespace is watched ([`NamespaceInner::is_watched`](crate::namespace::NamespaceInner)). Events are
//! read from the packets that are sent, as they may come from another node as well.

use bytes::Bytes;
use posthaste_adapter::{Packet, RawEvent, Target};
use posthaste_engine::Frames;
use posthaste_socket_proto::EncodeError;

use super::dispatch::guarded;
use super::{Local, LocalNamespace};
use crate::encode::packet_frames;
use crate::error::SendError;
use crate::extract::EventContext;
use crate::how::How;
use crate::sent::Sent;
use crate::socket::{Phase, Socket};

/// How deep listeners are called inside one another, each shown what the one around it sends: stacks end, and processes with them.
const DEEPEST: usize = 16;

impl Local {
    /// Shows a broadcast for each socket of this worker that it is for. Calls the application.
    pub(super) fn show_broadcast(&self, namespace: &LocalNamespace, target: &Target, packet: &Packet) {
        let everyone = !namespace.router().outgoing.is_empty();
        let mut sockets = self.meant(namespace.shared.number(), target);
        sockets.retain(|socket| everyone || socket.listeners().is_some());
        if !sockets.is_empty() {
            let event = packet.event();
            sockets.iter().for_each(|socket| self.show(socket, &event));
        }
    }

    /// Shows an event that one socket is sent, as frames. Calls the application.
    pub(super) fn show_sent(&self, socket: &Socket, frames: &[u8]) {
        self.show(socket, &Packet::from_frames(Bytes::copy_from_slice(frames)).event());
    }

    fn show(&self, socket: &Socket, event: &RawEvent) {
        let depth = self.showing.get();
        if depth == DEEPEST {
            return tracing::error!(socket = %socket.id(), "a listener sends an event for each that it sends");
        }
        let router = socket.0.namespace.router();
        let own = socket.listeners().map(|own| own.outgoing()).unwrap_or_default();
        let Ok(name) = event.name() else { return };
        let args = event.args();
        for listener in router.outgoing.iter().chain(own.iter()) {
            let mut cx = EventContext { socket, event: &name, args: &args, ack: None, ack_taken: false, error: None };
            self.showing.set(depth + 1);
            let shown = guarded(|| listener(&mut cx));
            self.showing.set(depth);
            match shown {
                Some(Ok(running)) => self.worker.start(socket.0.connection, socket.0.serial, running),
                Some(Err(error)) => tracing::debug!(%error, "a catch-all listener was not called"),
                None => return self.disconnect(socket, false),
            }
        }
    }
}

impl Socket {
    /// Sends an event of a namespace that is watched: as [`Socket::send_packet`], on the socket's worker and shown there.
    pub(crate) fn send_watched(
        &self,
        how: How,
        write: impl FnOnce(&mut Vec<u8>, &str) -> Result<Vec<Bytes>, EncodeError>,
    ) -> Sent {
        if self.phase() == Phase::Gone {
            return Sent::ready(Err(SendError::Disconnected));
        }
        let frames = match packet_frames(|out| write(out, &self.0.namespace.name)) {
            Ok(frames) => Frames::new(frames),
            Err(error) => return Sent::ready(Err(error.into())),
        };
        let send = move |local: &Local, socket: &Self, frames: &Frames| {
            if socket.phase() != Phase::Gone {
                local.show_sent(socket, frames.bytes());
            }
            // Not when a listener has disconnected it.
            let sent = socket.phase() != Phase::Gone && local.send(socket.0.connection, frames.bytes(), how);
            if sent || how.volatile { Ok(()) } else { Err(SendError::Disconnected) }
        };
        match super::here(self) {
            Some(local) => {
                local.worker.apply_mail();
                Sent::ready(send(&local, self, &frames))
            }
            None => {
                let socket = self.clone();
                self.post_bytes(frames.bytes().len(), move |_| {
                    if let Some(local) = super::here(&socket) {
                        let _ = send(&local, &socket, &frames);
                    }
                })
            }
        }
    }
}
