//! How much one client may ask for, and what it gets when that is too much.

use std::time::Instant;

use posthaste_adapter::Rooms;
use posthaste_engine::{CloseReason, ConnectionId, Limit};
use posthaste_engine_proto::TokenBucket;
use posthaste_socket_proto::{DecodeError, Violation};

use super::{Handle, Local};
use crate::ack::{Ack, Asked};
use crate::error::JoinError;
use crate::handler;
use crate::limits::Excess;
use crate::server::Inner;
use crate::socket::{Phase, Socket};

/// What a client has asked for lately. Absent where nothing limits that, and until it first asks.
#[derive(Debug)]
pub(super) struct Rates {
    events: TokenBucket,
    joins: TokenBucket,
}

impl Rates {
    fn new(now: Instant) -> Box<Self> {
        Box::new(Self { events: TokenBucket::full(now), joins: TokenBucket::full(now) })
    }
}

impl Local {
    /// Whether the client may send an event now. If not, it was told what there is to tell.
    pub(super) fn admits_event(&self, server: &Inner, id: ConnectionId, handle: Handle, ack: Option<u64>) -> bool {
        let Some(rate) = server.config.event_rate else { return true };
        let now = self.worker.now();
        let taken = self
            .with_client(id, |client| client.rates.get_or_insert_with(|| Rates::new(now)).events.take(now, 1, rate));
        if taken.is_none_or(|taken| taken.is_ok()) || !server.engine().forbids(Limit::Events) {
            return true;
        }
        match server.config.excess {
            Excess::Refuse => {
                if let (Some(ack), Some(socket)) = (ack, self.socket(handle)) {
                    handler::refuse(Some(Ack::new(socket, Some(Asked::Id(ack)))), &"too many events");
                }
            }
            Excess::Disconnect => self.worker.close(id, CloseReason::TooFast),
        }
        false
    }

    /// Whether the client may ask to join a namespace now. If not, it is closed if that is what excess costs.
    pub(super) fn admits_namespace(&self, server: &Inner, id: ConnectionId) -> bool {
        let admitted = self.admits_joins(server, id, 1);
        if !admitted && server.config.excess == Excess::Disconnect {
            self.worker.close(id, CloseReason::TooFast);
        }
        admitted
    }

    fn admits_joins(&self, server: &Inner, id: ConnectionId, count: usize) -> bool {
        let Some(rate) = server.config.join_rate else { return true };
        let now = self.worker.now();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let taken = self
            .with_client(id, |client| client.rates.get_or_insert_with(|| Rates::new(now)).joins.take(now, count, rate));
        taken.is_none_or(|taken| taken.is_ok()) || !server.engine().forbids(Limit::Joins)
    }

    /// Puts a socket into rooms on a handler's wish: all of them, or none.
    pub(crate) fn join_limited(&self, socket: &Socket, rooms: &Rooms) -> Result<(), JoinError> {
        if socket.phase() == Phase::Gone {
            return Err(JoinError::Disconnected);
        }
        let Some(server) = self.server.upgrade() else { return Err(JoinError::Disconnected) };
        if !self.admits_joins(&server, socket.0.connection, rooms.len()) {
            if server.config.excess == Excess::Disconnect {
                self.worker.close(socket.0.connection, CloseReason::TooFast);
            }
            return Err(JoinError::TooFast);
        }
        self.join(socket, rooms)
    }

    /// As [`Local::join_limited`], for whoever is not told: a refusal is in the log, the first, second, fourth, eighth and so on.
    pub(crate) fn join_or_warn(&self, socket: &Socket, rooms: &Rooms) {
        let Err(error @ (JoinError::TooManyRooms { .. } | JoinError::TooFast)) = self.join_limited(socket, rooms)
        else {
            return;
        };
        let Some(server) = self.server.upgrade() else { return };
        let refused = server.engine().refused();
        let times = refused.by(Limit::Rooms) + refused.by(Limit::Joins);
        if times.is_power_of_two() {
            tracing::warn!(socket = %socket.id(), times, %error, "a socket was not put into rooms");
        }
    }

    /// Whether a socket that holds `held` rooms may join `asked` more, `new` of which it is not in yet.
    pub(super) fn admits_rooms(&self, held: usize, asked: usize, new: impl FnOnce() -> usize) -> Result<(), JoinError> {
        let max = self.max_rooms;
        // Looking at each room is for those who are near the bound.
        if held + asked <= max || held + new() <= max {
            return Ok(());
        }
        match self.server.upgrade() {
            Some(server) if server.engine().forbids(Limit::Rooms) => Err(JoinError::TooManyRooms { max }),
            Some(_) => Ok(()),
            None => Err(JoinError::Disconnected),
        }
    }

    /// Counts what a client was closed for, if it is a limit.
    pub(super) fn count_violation(&self, violation: &Violation) {
        let limit = match violation {
            Violation::Decode(DecodeError::TooManyAttachments { .. } | DecodeError::AttachmentsTooLarge { .. })
            | Violation::AttachmentsTimeout => Limit::Attachments,
            Violation::ConnectTimeout => Limit::ConnectTimeout,
            _ => return,
        };
        self.count_limit(limit);
    }

    /// Counts that a limit was met which is enforced in any mode.
    pub(super) fn count_limit(&self, limit: Limit) {
        if let Some(server) = self.server.upgrade() {
            let _ = server.engine().forbids(limit);
        }
    }
}
