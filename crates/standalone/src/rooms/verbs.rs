//! What clients ask of rooms, and what becomes of it.

use std::sync::Arc;

use posthaste::{Args, Namespace, Room, Socket, SocketId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::rooms::answer::{Code, Done, Emitted, Joined, Member, Present, Refusal, Reply};
use crate::rooms::names::{check_event, check_room};
use crate::rooms::presence::Presence;
use crate::rooms::rules::{Rule, Rules};

/// The most rooms one socket may be in.
const MAX_ROOMS: usize = 256;
/// The longest `info`, in bytes of JSON.
const MAX_INFO_BYTES: usize = 1024;

/// The rooms of a namespace.
#[derive(Clone)]
pub(crate) struct Verbs {
    rules: Arc<Rules>,
    presence: Presence,
}

/// What a client says of itself when it connects.
#[derive(Debug, Default, Deserialize)]
struct Introduction {
    info: Option<Box<RawValue>>,
}

/// How a room is joined.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct JoinOptions {}

impl Verbs {
    pub(crate) fn new(_namespace: &Namespace, rules: Rules) -> Self {
        Self { rules: rules.into(), presence: Presence::default() }
    }

    pub(crate) fn join(&self, socket: &Socket, args: &Args<'_>) -> Reply<Joined> {
        Reply(self.try_join(socket, args))
    }

    fn try_join(&self, socket: &Socket, args: &Args<'_>) -> Result<Joined, Refusal> {
        let (room, options): (String, Option<JoinOptions>) = read(args, "room:join takes a room and how to join it")?;
        let JoinOptions {} = options.unwrap_or_default();
        let rule = self.rule(&room)?;
        if !rule.join.is_allowed() {
            return Err(Refusal::new(Code::Forbidden, "no rule lets clients join this room"));
        }
        let member = member(socket)?;
        let mut state = self.presence.lock();
        if !state.is_member(socket.id(), &room) {
            if state.rooms_of(socket.id()) >= MAX_ROOMS {
                return Err(Refusal::new(Code::TooMany, format!("a client may be in {MAX_ROOMS} rooms")));
            }
            state.join(socket.id(), &room, member.clone());
            drop(state);
            if rule.presence {
                tell(&socket.namespace(), &room, "room:joined", &member);
            }
            socket.join(&*room);
            state = self.presence.lock();
        }
        Ok(Joined { members: rule.presence.then(|| state.members(&room)) })
    }

    pub(crate) fn leave(&self, socket: &Socket, args: &Args<'_>) -> Reply<Done> {
        Reply(read(args, "room:leave takes a room").map(|room: String| {
            self.has_left(socket, &room);
            Done {}
        }))
    }

    fn has_left(&self, socket: &Socket, room: &str) {
        let left = self.presence.lock().leave(socket.id(), room);
        if let Some(member) = left {
            socket.leave(room);
            self.tell_of_leaving(socket, room, &member);
        }
    }

    pub(crate) fn emit(&self, namespace: &Namespace, args: &Args<'_>) -> Reply<Emitted> {
        Reply(self.try_emit(namespace, args))
    }

    fn try_emit(&self, namespace: &Namespace, args: &Args<'_>) -> Result<Emitted, Refusal> {
        let (room, event): (String, String) = read(args, "room:emit takes a room, an event and its arguments")?;
        let rule = self.rule(&room)?;
        if !rule.emit.is_allowed() {
            return Err(Refusal::new(Code::Forbidden, "no rule lets clients emit to this room"));
        }
        check_event(&event)?;
        match namespace.to(room).emit(&event, &args.skip(2)).now() {
            Ok(()) => Ok(Emitted { offset: None, class: "memory".into() }),
            Err(error) => {
                tracing::debug!(%error, "room:emit");
                Err(Refusal::new(Code::Invalid, "the event cannot be sent"))
            }
        }
    }

    pub(crate) fn presence(&self, socket: &Socket, args: &Args<'_>) -> Reply<Present> {
        Reply(self.try_presence(socket, args))
    }

    fn try_presence(&self, socket: &Socket, args: &Args<'_>) -> Result<Present, Refusal> {
        let room: String = read(args, "room:presence takes a room")?;
        if !self.rule(&room)?.presence {
            return Err(Refusal::new(Code::Forbidden, "no rule tells clients who is in this room"));
        }
        let state = self.presence.lock();
        if state.is_member(socket.id(), &room) {
            Ok(Present { members: state.members(&room) })
        } else {
            Err(Refusal::new(Code::NotMember, "only members may ask who is in a room"))
        }
    }

    /// A client is there: one that was [recovered](Socket::recovered) is in its rooms again, where the rules still allow it.
    pub(crate) fn came_back(&self, socket: &Socket, rooms: &[Room]) {
        if !socket.recovered() {
            return;
        }
        let member = member(socket).unwrap_or_else(|_| Member { id: socket.id().to_string(), info: None });
        for room in rooms.iter().filter(|room| SocketId::parse(room).is_none()) {
            let rule = self.rules.of(room).filter(|rule| rule.join.is_allowed());
            let Some(rule) = rule else {
                socket.leave(&**room);
                continue;
            };
            let is_new = self.presence.lock().join(socket.id(), room, member.clone());
            if is_new && rule.presence {
                tell(&socket.namespace(), room, "room:joined", &member);
            }
        }
    }

    /// A client is gone.
    pub(crate) fn gone(&self, socket: &Socket) {
        let left = self.presence.lock().leave_all(socket.id());
        for (room, member) in &left {
            self.tell_of_leaving(socket, room, member);
        }
    }

    fn tell_of_leaving(&self, socket: &Socket, room: &str, member: &Member) {
        if self.rules.of(room).is_some_and(|rule| rule.presence) {
            tell(&socket.namespace(), room, "room:left", member);
        }
    }

    /// The rule for a room that a client names.
    fn rule(&self, room: &str) -> Result<&Rule, Refusal> {
        check_room(room)?;
        self.rules.of(room).ok_or_else(|| Refusal::new(Code::Forbidden, "no rule opens this room to clients"))
    }
}

fn read<T: DeserializeOwned>(args: &Args<'_>, usage: &str) -> Result<T, Refusal> {
    args.deserialize().map_err(|error| Refusal::new(Code::Invalid, format!("{usage}: {error}")))
}

fn member(socket: &Socket) -> Result<Member, Refusal> {
    let Introduction { info } = serde_json::from_str(socket.handshake().auth())
        .map_err(|_| Refusal::new(Code::Invalid, "the connection's auth is no object"))?;
    if info.as_ref().is_some_and(|info| info.get().len() > MAX_INFO_BYTES) {
        let message = format!("the info of the connection's auth has more than {MAX_INFO_BYTES} bytes");
        return Err(Refusal::new(Code::Invalid, message));
    }
    Ok(Member { id: socket.id().to_string(), info: info.map(Arc::from) })
}

fn tell(namespace: &Namespace, room: &str, event: &str, member: &Member) {
    if let Err(error) = namespace.to(room).emit(event, &(room, member)).now() {
        tracing::warn!(%error, event, "the members of a room could not be told");
    }
}
