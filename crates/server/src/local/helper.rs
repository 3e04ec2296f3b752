//! What clients with a helper are told, and may ask: `docs/recovery-protocol.md`.
//!
//! ```text
//!   CONNECT {"sio": 1} ─► sio:session {pid, recovered}     for the next page, which knows nothing of this one
//!   sio:pos (offset)   ─► Trail.confirm                    the client has noted that it heard everything up to there
//!   sio:fill (room, …) ─► Shard.read ─► events with prev   what it may have been sent of a room, once more
//! ```
//!
//! Only in namespaces with a store. Names that begin with `sio:` are the server's there: no handler sees them.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_adapter::{Packet, RawEvent, Room};
use posthaste_history::store::{Message, Page, Range, StreamName};
use posthaste_history::{Budget, PidText};
use posthaste_socket_proto::Args;
use serde_json::json;

use super::{Handle, Local};
use crate::durable::{Form, Keeper, Whose, everybody, stream_of};
use crate::how::How;
use crate::recovery::field;
use crate::socket::Socket;

/// How names begin that are the server's.
pub(super) const RESERVED: &str = "sio:";
const SESSION: &str = "sio:session";
const POSITION: &str = "sio:pos";
const FILL: &str = "sio:fill";

/// The most of a room's events in one answer, as they are stored.
const MOST: Budget = Budget { max_bytes: 64 * 1024, max_events: 100 };

/// What is asked for of a room.
struct Wanted {
    /// `None` for what everybody is sent.
    room: Option<Room>,
    range: Range,
}

/// Why nothing is given: a word that programs can rely on, and one for people.
type Refusal = (&'static str, &'static str);

impl Local {
    /// Tells a client that asks for it which session it has.
    pub(super) fn tell_session(&self, socket: &Socket, pid: &PidText) {
        let keeps = socket.0.namespace.journal.as_ref().is_some_and(|journal| journal.kept().is_some());
        if !keeps || !has_helper(socket.handshake().auth()) {
            return;
        }
        let session = json!({ "pid": pid.as_str(), "recovered": socket.recovered() });
        let Ok(event) = RawEvent::encode(SESSION, &(session,)) else { return };
        if let Ok(packet) = Packet::encode(&socket.0.namespace.name, None, &event) {
            self.send_unlogged(socket, &packet, How::USUAL);
        }
    }

    /// An event whose name is the server's.
    pub(super) fn helper_event(&self, handle: Handle, socket: Socket, ack: Option<u64>, event: &str, args: &Args<'_>) {
        match event {
            POSITION => self.heard_up_to(handle, &socket, args),
            FILL => {
                // Nobody waits for it.
                let Some(ack) = ack else { return };
                self.fill(socket, ack, args);
            }
            _ => tracing::debug!(socket = %socket.id(), event, "an event was dropped: its name is reserved"),
        }
    }

    fn heard_up_to(&self, handle: Handle, socket: &Socket, args: &Args<'_>) {
        let Ok(offset) = args.deserialize::<String>() else { return };
        let Some(namespace) = self.namespace(handle.namespace) else { return };
        if let Some(tracking) = &namespace.tracking
            && !tracking.confirm(handle.member, &offset)
        {
            tracing::debug!(socket = %socket.id(), "a client says it heard what it was not sent, or has no offset");
        }
    }

    fn fill(&self, socket: Socket, ack: u64, args: &Args<'_>) {
        let planned = self.wanted(&socket, args);
        let (keeper, wanted) = match planned {
            Ok(planned) => planned,
            Err(refusal) => return refuse(&socket, ack, refusal),
        };
        let Some(this) = self.this.upgrade() else { return };
        let (id, serial) = (socket.0.connection, socket.0.serial);
        let filling = async move {
            let whose = Whose::of(&socket);
            let Some(reserved) = this.may_read(id, &keeper, whose, MOST.max_bytes).await else { return };
            let page = match keeper.shard().read(vec![wanted.range.clone()], MOST).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "a room could not be read from the store");
                    return refuse(&socket, ack, ("unavailable", "the server's store does not answer"));
                }
            };
            reserved.settle(page.messages.iter().map(|message| message.payload.len()).sum());
            let Some((answer, attachments)) = this.filled(&socket, &keeper, &wanted, page) else {
                return refuse(&socket, ack, NOT_MEMBER);
            };
            match Args::decode(&answer, attachments) {
                Ok(args) => drop(socket.answer(ack, &args)),
                Err(error) => {
                    tracing::error!(%error, "stored events could not be put into an answer");
                    refuse(&socket, ack, ("unavailable", "the events cannot be shown"));
                }
            }
        };
        self.worker.start(id, serial, Box::pin(filling));
    }

    /// What a client asks for, no more than it was sent.
    fn wanted(&self, socket: &Socket, args: &Args<'_>) -> Result<(Arc<Keeper>, Wanted), Refusal> {
        let read = args.deserialize::<(Option<String>, Option<String>, Option<String>)>();
        let (room, after, through) =
            read.map_err(|_| ("invalid", "sio:fill takes a room, and the offsets after which and up to which"))?;
        let room = room.map(Room::from);
        let (keeper, since, sent) = self.there_since(socket, room.as_ref()).ok_or(NOT_MEMBER)?;
        let head = keeper.head();
        let position = |text: Option<String>| match text {
            None => Ok(None),
            Some(text) => match keeper.read_offset(text.get(..posthaste_history::Offset::CHARS).unwrap_or_default()) {
                Some(it) if it.epoch == head.epoch && it.pos <= head.pos => Ok(Some(it.pos)),
                _ => Err(("offset", "that is no offset of this store")),
            },
        };
        let after = position(after)?.unwrap_or(since).max(since);
        let until = position(through)?.unwrap_or(sent).min(sent).max(after);
        let stream = stream_or_everybody(room.as_ref());
        if !keeper.takes(&stream) {
            return Err(("not_durable", "nothing is kept of this room"));
        }
        Ok((keeper, Wanted { room, range: Range { stream, after, until } }))
    }

    /// Since when a socket has been in a room, and up to where it has been sent what is stored; `None` if it is not there.
    fn there_since(&self, socket: &Socket, room: Option<&Room>) -> Option<(Arc<Keeper>, u64, u64)> {
        let handle = self.handle(socket)?;
        let namespace = self.namespace(handle.namespace)?;
        let tracking = namespace.tracking.as_ref()?;
        let keeper = tracking.journal().kept()?.clone();
        let since = tracking.with_stored(handle.member, |stored| match room {
            Some(room) if *room == Room::from(stored.id) => Some(stored.trail.start().pos),
            room => {
                let stream = stream_or_everybody(room);
                let mut stays = stored.trail.stays().iter();
                stays.find(|stay| stay.room == stream && stay.until.is_none()).map(|stay| stay.from)
            }
        })??;
        Some((keeper, since, tracking.applied().stored))
    }

    /// The answer with these events, and its attachments; `None` if the socket is not in the room any more. An event with attachments
    /// stands alone: then its placeholders count from 0, and what only looks like one is beside none.
    fn filled(&self, socket: &Socket, keeper: &Keeper, wanted: &Wanted, page: Page) -> Option<(String, Vec<Bytes>)> {
        let Wanted { room, range: Range { after, until, .. } } = wanted;
        self.there_since(socket, room.as_ref())?;
        let handle = self.handle(socket)?;
        let namespace = self.namespace(handle.namespace)?;
        let tracking = namespace.tracking.as_ref()?;
        let gap = page.floors.first().is_some_and(|floor| floor.min(until) > after);
        let mut complete = page.complete;
        let mut next = if complete { *until } else { page.through.max(*after) };
        let (mut text, mut attachments) = (String::from(r#"[{"ok":true,"events":["#), Vec::new());
        let mut told = None;
        for Message { pos, prev, n, at, payload, .. } in page.messages {
            let is_for_it = |form: &Form| {
                tracking.with_stored(handle.member, |stored| stored.is_excepted(&form.except, pos)) == Some(false)
            };
            let event = Form::decode(payload).filter(is_for_it).map(|form| form.packet.event());
            let attached = event.as_ref().map_or(&[][..], RawEvent::attachments);
            if let Some(told) = told {
                if !attached.is_empty() || !attachments.is_empty() {
                    (complete, next) = (false, told);
                    break;
                }
                text.push(',');
            }
            told = Some(pos);
            let prev = (n > 1).then(|| keeper.offset(prev).to_string());
            let place = json!({ "offset": keeper.offset(pos).as_str(), "prev": prev, "n": n, "at": at.0 }).to_string();
            text.push_str(&place);
            // What was not for it has a place alone: a hole without would look like loss.
            if let Some(event) = &event {
                let name = json!(event.name().unwrap_or_default());
                text.pop();
                text.push_str(&format!(r#","event":{name},"args":[{}]}}"#, event.args().raw()));
                attachments.extend_from_slice(attached);
            }
        }
        text.push_str(&format!(r#"],"complete":{complete},"gap":{gap},"next":"{}"}}]"#, keeper.offset(next)));
        Some((text, attachments))
    }
}

const NOT_MEMBER: Refusal = ("not_member", "only who is in a room may ask for what it was sent");

fn refuse(socket: &Socket, ack: u64, (code, message): Refusal) {
    drop(socket.answer(ack, &json!({ "ok": false, "code": code, "message": message })));
}

fn stream_or_everybody(room: Option<&Room>) -> StreamName {
    room.map_or_else(everybody, stream_of)
}

/// Whether a client's auth says that it has a helper.
fn has_helper(auth: &str) -> bool {
    field(auth, "sio").is_some_and(|sio| sio.get() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_says_so_in_the_auth() {
        for auth in [r#"{"sio":1}"#, r#"{"token":"x","sio":1,"pid":"p"}"#] {
            assert!(has_helper(auth), "{auth}");
        }
        for auth in
            ["{}", r#"{"sio":2}"#, r#"{"sio":"1"}"#, r#"{"sio":null}"#, r#"{"a":{"sio":1}}"#, r#"["sio",1]"#, "\"sio\""]
        {
            assert!(!has_helper(auth), "{auth}");
        }
    }
}
