//! What clients ask of rooms, and what becomes of it.

use std::sync::Arc;

use posthaste::store::{Durability, Shard};
use posthaste::{Args, DurableError, HistoryStart, Namespace, Room, Socket, SocketId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::rooms::answer::{Code, Done, Emitted, Joined, Member, Present, Refusal};
use crate::rooms::event::Page;
use crate::rooms::names::{check_event, check_room};
use crate::rooms::presence::Presence;
use crate::rooms::reading;
use crate::rooms::rules::{Rule, Rules};

/// The most rooms one socket may be in.
const MAX_ROOMS: usize = 256;
/// The longest `info`, in bytes of JSON.
const MAX_INFO_BYTES: usize = 1024;
/// The most rooms that something is kept of: clients name them.
const MAX_FILLED: u64 = 100_000;
/// The most that something was kept of: of those that are empty now the store keeps where they ended, on the disk, until it forgets them.
const MAX_STREAMS: u64 = 10_000_000;

/// The rooms of a namespace.
#[derive(Clone)]
pub(crate) struct Verbs {
    rules: Arc<Rules>,
    shard: Arc<dyn Shard>,
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
struct JoinOptions {
    /// Asks for what came behind this offset.
    after: Option<String>,
    /// How many events are asked for, of those the last without `after` and the first with it.
    history: Option<usize>,
}

/// Which part of a room's history is asked for: the last events, or those behind or before an offset.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HistoryOptions {
    after: Option<String>,
    before: Option<String>,
    limit: Option<usize>,
}

impl Verbs {
    /// Under these rules, whose durable rooms are declared to the namespace; `shard` is what it keeps them in.
    pub(crate) fn new(namespace: &Namespace, rules: Rules, shard: Arc<dyn Shard>) -> Result<Self, DurableError> {
        for rule in rules.iter() {
            if let Some(policy) = rule.durable {
                namespace.durable_rooms(rule.pattern.as_str(), policy)?;
            }
        }
        Ok(Self { rules: rules.into(), shard, presence: Presence::default() })
    }

    pub(crate) async fn join(&self, socket: &Socket, args: &Args<'_>) -> Result<Joined, Refusal> {
        let (room, options): (String, Option<JoinOptions>) = read(args, "room:join takes a room and how to join it")?;
        let JoinOptions { after, history } = options.unwrap_or_default();
        let rule = self.rule(&room)?;
        if !rule.join.is_allowed() {
            return Err(Refusal::new(Code::Forbidden, "no rule lets clients join this room"));
        }
        let wanted = match (&after, history) {
            (None, None) => None,
            (after, count) => {
                readable(rule)?;
                let after = after.as_deref().map(reading::offset).transpose()?;
                Some((after, reading::limit(count)?))
            }
        };
        self.enter(socket, &room, rule)?;
        let mut joined = Joined::default();
        if rule.durable.is_some() {
            if let Err(error) = socket.journalled().await {
                self.has_left(socket, &room);
                return Err(reading::refusal(&error));
            }
            let (start, limit) = match wanted {
                None => (HistoryStart::Last(0), 1),
                Some((None, limit)) => (HistoryStart::Last(limit), limit),
                Some((Some(after), limit)) => (HistoryStart::After(after), limit),
            };
            let Page { events, complete, gap, next } = reading::page_for(socket, &room, start, limit).await?;
            joined.offset = Some(next);
            if wanted.is_some() {
                (joined.history, joined.complete, joined.gap) = (Some(events), Some(complete), Some(gap));
            }
        }
        joined.members = rule.presence.then(|| self.presence.lock().members(&room));
        Ok(joined)
    }

    /// Makes a client a member, if it is none.
    fn enter(&self, socket: &Socket, room: &str, rule: &Rule) -> Result<(), Refusal> {
        let member = member(socket)?;
        {
            let mut state = self.presence.lock();
            if state.is_member(socket.id(), room) {
                return Ok(());
            }
            if state.rooms_of(socket.id()) >= MAX_ROOMS {
                return Err(Refusal::new(Code::TooMany, format!("a client may be in {MAX_ROOMS} rooms")));
            }
            state.join(socket.id(), room, member.clone());
        }
        if rule.presence {
            tell(socket, room, "room:joined", &member);
        }
        socket.join(room);
        Ok(())
    }

    pub(crate) async fn leave(&self, socket: &Socket, args: &Args<'_>) -> Result<Done, Refusal> {
        let room: String = read(args, "room:leave takes a room")?;
        if self.has_left(socket, &room) && self.rules.of(&room).is_some_and(|rule| rule.durable.is_some()) {
            socket.journalled().await.map_err(|error| reading::refusal(&error))?;
        }
        Ok(Done {})
    }

    /// Whether it was a member.
    fn has_left(&self, socket: &Socket, room: &str) -> bool {
        let left = self.presence.lock().leave(socket.id(), room);
        let Some(member) = left else { return false };
        socket.leave(room);
        self.tell_of_leaving(socket, room, &member);
        true
    }

    /// `key` makes repeating it harmless.
    pub(crate) async fn emit(
        &self,
        namespace: &Namespace,
        key: Option<&str>,
        args: &Args<'_>,
    ) -> Result<Emitted, Refusal> {
        let (room, event): (String, String) = read(args, "room:emit takes a room, an event and its arguments")?;
        let rule = self.rule(&room)?;
        if !rule.emit.is_allowed() {
            return Err(Refusal::new(Code::Forbidden, "no rule lets clients emit to this room"));
        }
        check_event(&event)?;
        let (to, args) = (namespace.to(&*room), args.skip(2));
        let sent = if rule.volatile.contains(&event) {
            to.volatile().emit(&event, &args)
        } else if rule.durable.is_none() {
            to.passing().emit(&event, &args)
        } else {
            self.check_streams(namespace, &room).await?;
            let mut to = to.durable();
            if let Some(key) = key {
                to = to.key(key.as_bytes().to_vec());
            }
            let stored = to.emit(&event, &args).await.map_err(|error| reading::refusal(&error))?;
            let (offset, class) = (Some(stored.offset().to_owned()), stored.durability.to_string());
            return Ok(Emitted { offset, class, dup: stored.dup });
        };
        match sent.await {
            Ok(()) => Ok(Emitted { offset: None, class: Durability::Memory.to_string(), dup: false }),
            Err(error) => {
                tracing::debug!(%error, "room:emit");
                Err(Refusal::new(Code::Invalid, "the event cannot be sent"))
            }
        }
    }

    /// Whether something may be kept of a room: of each that something is kept of already.
    async fn check_streams(&self, namespace: &Namespace, room: &str) -> Result<(), Refusal> {
        let stats = self.shard.stats();
        if stats.filled < MAX_FILLED && stats.streams < MAX_STREAMS {
            return Ok(());
        }
        let page = reading::page(namespace, room, HistoryStart::Oldest, 1).await?;
        if page.events.is_empty() {
            return Err(Refusal::new(Code::TooMany, format!("something is kept of {} rooms already", stats.filled)));
        }
        Ok(())
    }

    pub(crate) async fn history(&self, socket: &Socket, args: &Args<'_>) -> Result<Page, Refusal> {
        let (room, options): (String, Option<HistoryOptions>) =
            read(args, "room:history takes a room and which part of its history")?;
        let HistoryOptions { after, before, limit } = options.unwrap_or_default();
        readable(self.rule(&room)?)?;
        let limit = reading::limit(limit)?;
        let start = match (&after, &before) {
            (None, None) => HistoryStart::Last(limit),
            (Some(after), None) => HistoryStart::After(reading::offset(after)?),
            (None, Some(before)) => HistoryStart::Before(reading::offset(before)?, limit),
            (Some(_), Some(_)) => return Err(Refusal::new(Code::Invalid, "either after or before")),
        };
        reading::page_for(socket, &room, start, limit).await
    }

    pub(crate) fn presence(&self, socket: &Socket, args: &Args<'_>) -> Result<Present, Refusal> {
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
                tell(socket, room, "room:joined", &member);
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
            tell(socket, room, "room:left", member);
        }
    }

    /// The rule for a room that a client names.
    pub(crate) fn rule(&self, room: &str) -> Result<&Rule, Refusal> {
        check_room(room)?;
        self.rules.of(room).ok_or_else(|| Refusal::new(Code::Forbidden, "no rule opens this room to clients"))
    }
}

fn read<T: DeserializeOwned>(args: &Args<'_>, usage: &str) -> Result<T, Refusal> {
    args.deserialize().map_err(|error| Refusal::new(Code::Invalid, format!("{usage}: {error}")))
}

/// Whether clients may read what a room was sent.
pub(crate) fn readable(rule: &Rule) -> Result<(), Refusal> {
    if rule.durable.is_none() {
        return Err(Refusal::new(Code::NotDurable, "nothing is kept of this room"));
    }
    if !rule.history.is_allowed() {
        return Err(Refusal::new(Code::Forbidden, "no rule lets clients read what this room was sent"));
    }
    Ok(())
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

/// Tells the others in a room about a socket.
fn tell(socket: &Socket, room: &str, event: &str, member: &Member) {
    let others = socket.namespace().to(room).except(Room::from(socket.id())).passing();
    if let Err(error) = others.emit(event, &(room, member)).now() {
        tracing::warn!(%error, event, "the members of a room could not be told");
    }
}
