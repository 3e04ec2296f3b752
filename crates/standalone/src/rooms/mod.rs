//! Rooms that clients join themselves.
//!
//! In Socket.IO joining is the server's act. A server without an application of its own offers it to clients as acknowledged
//! events, where a [rule](Rules) allows it:
//!
//! | event | answer |
//! | --- | --- |
//! | `room:join (room)` | `{ok: true}`; `members: [{id, info}]`, oneself among them, where presence is told |
//! | `room:leave (room)` | `{ok: true}` |
//! | `room:emit (room, event, ...args)` | `{ok: true, class}`; every member gets the event, the sender too if it is one |
//! | `room:presence (room)` | `{ok: true, members}` |
//!
//! A refusal is `{ok: false, code, message}`. Where presence is told, members hear `room:joined (room, member)` and
//! `room:left (room, member)`. What a member says of itself is the `info` of its connection's auth.

mod answer;
mod names;
mod pattern;
mod presence;
mod rules;
mod verbs;

use posthaste::{Answer, Args, Data, Namespace, Rooms, Socket};

pub(crate) use rules::Rules;

use crate::rooms::verbs::Verbs;

/// Offers rooms to every client of a namespace, under these rules.
pub(crate) fn open(namespace: &Namespace, rules: Rules) {
    let verbs = Verbs::new(namespace, rules);
    let at = verbs.clone();
    namespace.on("room:join", move |socket: Socket, Data(args): Data<Args<'static>>| {
        let reply = at.join(&socket, &args);
        async move { Answer(reply) }
    });
    let at = verbs.clone();
    namespace.on("room:leave", move |socket: Socket, Data(args): Data<Args<'static>>| {
        let reply = at.leave(&socket, &args);
        async move { Answer(reply) }
    });
    let at = verbs.clone();
    namespace.on("room:emit", move |namespace: Namespace, Data(args): Data<Args<'static>>| {
        let reply = at.emit(&namespace, &args);
        async move { Answer(reply) }
    });
    let at = verbs.clone();
    namespace.on("room:presence", move |socket: Socket, Data(args): Data<Args<'static>>| {
        let reply = at.presence(&socket, &args);
        async move { Answer(reply) }
    });
    let at = verbs.clone();
    namespace.on_connect(move |socket: Socket, Rooms(rooms): Rooms| {
        at.came_back(&socket, &rooms);
        async {}
    });
    namespace.on_disconnect(move |socket: Socket| {
        verbs.gone(&socket);
        async {}
    });
}
