//! Rooms that clients join themselves.
//!
//! In Socket.IO joining is the server's act. A server without an application of its own offers it to clients as acknowledged
//! events, where a [rule](Rules) allows it:
//!
//! | event | answer |
//! | --- | --- |
//! | `room:join (room, {after?, history?})` | `{ok: true}`; `members: [{id, info}]`, oneself among them, where presence is told; of a durable room its `offset`, and what was asked for as `history`, `complete`, `gap` |
//! | `room:leave (room)` | `{ok: true}` |
//! | `room:emit (room, event, ...args)` | `{ok: true, class}`, in a durable room with its `offset`; every member gets the event, the sender too if it is one |
//! | `room:history (room, {after?, before?, limit?})` | `{ok: true, events: [{offset, n, at, event, args}], complete, gap, next}` |
//! | `room:presence (room)` | `{ok: true, members}` |
//!
//! A refusal is `{ok: false, code, message}`. Where presence is told, members hear `room:joined (room, member)` and
//! `room:left (room, member)`. What a member says of itself is the `info` of its connection's auth.
//!
//! An emit whose last argument is `{"$key": text}` is kept once, however often it is sent, also if the server was killed in between; `dup`
//! says that it was there.
//!
//! What is committed while a client joins may be in its `history` and be heard live as well: the offset of an event that is heard
//! live begins with the one that it has in a history.

mod answer;
mod event;
mod names;
mod presence;
mod reading;
mod rules;
mod verbs;

use std::sync::Arc;

use posthaste::store::Shard;
use posthaste::{Args, Data, DurableError, IdempotencyKey, Namespace, Rooms, Socket};

use crate::rooms::answer::Reply;
pub(crate) use crate::rooms::answer::{Code, Refusal};
pub(crate) use crate::rooms::event::{Binary, Event, Page, Value};
pub(crate) use crate::rooms::reading::{USUAL_LIMIT, limit, offset, page, read, refusal};
pub(crate) use crate::rooms::rules::{Access, Rules};
pub(crate) use crate::rooms::verbs::{Verbs, readable};

/// Offers rooms to every client of a namespace, under these rules.
pub(crate) fn open(namespace: &Namespace, rules: Rules, shard: Arc<dyn Shard>) -> Result<Verbs, DurableError> {
    let verbs = Verbs::new(namespace, rules, shard)?;
    let all = verbs.clone();
    namespace.on("room:join", move |socket: Socket, Data(args): Data<Args<'static>>| {
        let verbs = all.clone();
        async move { Reply(verbs.join(&socket, &args).await) }
    });
    let all = verbs.clone();
    namespace.on("room:leave", move |socket: Socket, Data(args): Data<Args<'static>>| {
        let verbs = all.clone();
        async move { Reply(verbs.leave(&socket, &args).await) }
    });
    let all = verbs.clone();
    let emit = move |namespace: Namespace, IdempotencyKey(key): IdempotencyKey, Data(args): Data<Args<'static>>| {
        let verbs = all.clone();
        async move { Reply(verbs.emit(&namespace, key.as_deref(), &args).await) }
    };
    namespace.on("room:emit", emit);
    let all = verbs.clone();
    namespace.on("room:history", move |socket: Socket, Data(args): Data<Args<'static>>| {
        let verbs = all.clone();
        async move { Reply(verbs.history(&socket, &args).await) }
    });
    let all = verbs.clone();
    namespace.on("room:presence", move |socket: Socket, Data(args): Data<Args<'static>>| {
        let reply = all.presence(&socket, &args);
        async move { Reply(reply) }
    });
    let all = verbs.clone();
    namespace.on_connect(move |socket: Socket, Rooms(rooms): Rooms| {
        all.came_back(&socket, &rooms);
        async {}
    });
    let all = verbs.clone();
    namespace.on_disconnect(move |socket: Socket| {
        all.gone(&socket);
        async {}
    });
    Ok(verbs)
}
