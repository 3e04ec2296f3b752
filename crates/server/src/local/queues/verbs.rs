//! What clients ask, as handlers of their namespace.

use std::rc::Rc;
use std::sync::Arc;

use posthaste_adapter::Member;
use posthaste_queue::{QueueName, name_is_good};
use posthaste_socket_proto::{Args, EmitArgs};
use serde::Serialize;

use super::{Desk, admin, consume, pull, put, schedules, settle};
use crate::ack::{Ack, Asked};
use crate::extract::EventContext;
use crate::handler::{BoxedEvent, Running};
use crate::local::{Local, LocalNamespace};
use crate::namespace::Namespace;
use crate::queues::{Office, QueueVerb, Refused, number};
use crate::socket::Socket;

/// How many answers one session may wait for.
const MAX_WAITS: usize = 1_024;
/// Longest number that JavaScript carries.
const MAX_NUMBER: u64 = 1 << 53;

/// What does a verb: what there is to say at once is an error, what takes time is the future's to say.
type Verb = fn(Asking<'_>) -> Result<Running, (Reply, Refused)>;

const VERBS: &[(&str, Verb)] = &[
    ("q:put", put::put),
    ("q:putMany", put::put_many),
    ("q:call", put::call),
    ("q:await", put::wait),
    ("q:consume", consume::consume),
    ("q:stop", consume::stop),
    ("q:pull", pull::pull),
    ("q:settle", settle::settle),
    ("q:touch", settle::touch),
    ("q:progress", settle::progress),
    ("q:peek", admin::peek),
    ("q:stats", admin::stats),
    ("q:watch", admin::watch),
    ("q:unwatch", admin::unwatch),
    ("q:pause", admin::pause),
    ("q:resume", admin::resume),
    ("q:drain", admin::drain),
    ("q:purge", admin::purge),
    ("q:redrive", admin::redrive),
    ("q:schedule", schedules::schedule),
    ("q:unschedule", schedules::unschedule),
    ("q:schedules", schedules::schedules),
];

/// Has a namespace understand the verbs. What else begins with `q:` is refused, unless the application handles it.
pub(crate) fn serve_queues(namespace: &Namespace) {
    namespace.change(|router| {
        for (name, verb) in VERBS {
            let verb = *verb;
            let handler: BoxedEvent = Box::new(move |cx| Ok(begin(cx, verb)));
            router.events.insert((*name).into(), Arc::new(handler));
        }
        let unknown: BoxedEvent = Box::new(|cx| {
            let reply = Reply::take(cx);
            if cx.event.starts_with("q:") {
                let name: String = cx.event.chars().take(64).collect();
                reply.refuse(Refused::new("unknown_verb", format!("there is no {name}")));
            }
            Ok(Box::pin(std::future::ready(())))
        });
        router.fallback = Some(Arc::new(unknown));
    });
}

fn begin(cx: &mut EventContext<'_>, verb: Verb) -> Running {
    let reply = Reply::take(cx);
    let (event, args, socket) = (cx.event, cx.args, cx.socket);
    let Some(local) = crate::local::here(socket) else { return done() };
    let Some(namespace) = local.namespace(socket.0.namespace.number()) else { return done() };
    let asking = Asking { event, args, socket, local, namespace, reply };
    if !asking.desk().holders.borrow().is_empty()
        && let Some(member) = asking.member()
    {
        asking.local.touch_jobs(asking.desk(), asking.number(), member);
    }
    verb(asking).unwrap_or_else(|(reply, refused)| {
        reply.refuse(refused);
        done()
    })
}

/// Nothing more is to be done.
pub(super) fn done() -> Running {
    Box::pin(std::future::ready(()))
}

/// Whoever waits for an answer, if anybody does.
pub(super) struct Reply(Option<Ack>);

impl Reply {
    fn take(cx: &mut EventContext<'_>) -> Self {
        let socket = cx.socket;
        Self(cx.ack.take().map(|ack: Asked| Ack::new(socket.clone(), Some(ack))))
    }

    pub(super) fn send<A: EmitArgs + ?Sized>(self, answer: &A) {
        if let Some(ack) = self.0 {
            // Whoever is gone needs no answer.
            drop(ack.send(answer));
        }
    }

    pub(super) fn refuse(self, refused: Refused) {
        match self.0 {
            Some(ack) => drop(ack.send(&refused)),
            None => tracing::debug!(code = refused.code(), "nobody waits to hear why a queue was not used"),
        }
    }

    pub(super) fn answer<A: EmitArgs>(self, answer: Result<A, Refused>) {
        match answer {
            Ok(answer) => self.send(&answer),
            Err(refused) => self.refuse(refused),
        }
    }

    /// `{"ok": true}`, or why not.
    pub(super) fn confirm<T>(self, answer: Result<T, Refused>) {
        self.answer(answer.map(|_| Good::yes()));
    }
}

/// It is so.
#[derive(Serialize)]
pub(super) struct Good {
    ok: bool,
}

impl Good {
    pub(super) const fn yes() -> Self {
        Self { ok: true }
    }
}

/// One thing that a client asks.
pub(super) struct Asking<'a> {
    pub(super) event: &'a str,
    pub(super) args: &'a Args<'a>,
    pub(super) socket: &'a Socket,
    pub(super) local: Rc<Local>,
    pub(super) namespace: Rc<LocalNamespace>,
    pub(super) reply: Reply,
}

impl Asking<'_> {
    pub(super) fn desk(&self) -> &Desk {
        self.namespace.desk().expect("invariant: only namespaces with a desk have these handlers")
    }

    pub(super) fn office(&self) -> &Arc<Office> {
        &self.desk().office
    }

    pub(super) fn number(&self) -> u32 {
        self.namespace.shared.number()
    }

    /// The place of its socket; `None` when that has left.
    pub(super) fn member(&self) -> Option<Member> {
        self.local.handle(self.socket).map(|handle| handle.member)
    }

    /// As [`Asking::member`], or what to tell nobody.
    pub(super) fn there(&self) -> Result<Member, Refused> {
        self.member().ok_or_else(|| Refused::new("gone", "the socket has left"))
    }

    /// An argument, if it is there and not `null`.
    pub(super) fn arg(&self, place: usize) -> Option<&str> {
        self.args.iter().nth(place).filter(|text| *text != "null")
    }

    /// The first argument as the name of a queue for which the client may do this.
    pub(super) fn queue(&self, verb: QueueVerb) -> Result<QueueName, Refused> {
        let said = self.arg(0).ok_or_else(|| Refused::invalid(format!("{} takes the name of a queue", self.event)))?;
        let name = self.queue_name(said)?;
        self.permitted(verb, &name)?;
        Ok(name)
    }

    fn queue_name(&self, said: &str) -> Result<QueueName, Refused> {
        let bad = || Refused::new("bad_name", "a queue's name has 1 to 200 of A-Z a-z 0-9 . _ - : /");
        // A good name needs no escapes. Some write the slash with one.
        let plain = said.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(bad)?;
        if name_is_good(plain) {
            return Ok(self.desk().name(plain));
        }
        let name = serde_json::from_str::<String>(said).ok().filter(|name| name_is_good(name)).ok_or_else(bad)?;
        Ok(self.desk().name(&name))
    }

    pub(super) fn permitted(&self, verb: QueueVerb, queue: &str) -> Result<(), Refused> {
        match self.office().permits(self.socket, verb, queue) {
            true => Ok(()),
            false => Err(Refused::forbidden(self.event)),
        }
    }

    /// An argument that is a number of ours.
    pub(super) fn number_at(&self, place: usize, name: &str) -> Result<u64, Refused> {
        let text = self.arg(place).ok_or_else(|| Refused::invalid(format!("`{name}` is missing")))?;
        number(name, text, 0..=MAX_NUMBER)
    }

    /// There is nothing behind these arguments but what is not there.
    pub(super) fn no_more_than(&self, count: usize) -> Result<(), Refused> {
        match self.args.iter().nth(count) {
            None => Ok(()),
            Some(_) => Err(Refused::invalid(format!("{} takes {count} arguments at most", self.event))),
        }
    }

    /// Begins to wait for something: a session waits for so much at a time. Returns what ends it.
    pub(super) fn wait(&self) -> Result<Wait, Refused> {
        let member = self.there()?;
        let now = self.local.worker.now();
        let waits = self.desk().hold(member, self.socket, now, |holder| {
            holder.waits += 1;
            holder.waits
        });
        let wait = Wait { namespace: self.namespace.clone(), member, socket: self.socket.clone() };
        match waits <= MAX_WAITS {
            true => Ok(wait),
            false => Err(Refused::new("too_many", "too many answers are waited for")),
        }
    }
}

/// Something that a session waits for, until this is dropped.
pub(super) struct Wait {
    namespace: Rc<LocalNamespace>,
    member: Member,
    socket: Socket,
}

impl Drop for Wait {
    fn drop(&mut self) {
        if let Some(desk) = self.namespace.desk() {
            desk.with(self.member, |holder| {
                // Another socket may have its place by now.
                if holder.socket == self.socket {
                    holder.waits = holder.waits.saturating_sub(1);
                }
            });
        }
    }
}

/// Has the asking's verb answered: what is refused on the way is told.
macro_rules! attempt {
    ($asking:ident, $tried:expr) => {
        match $tried {
            Ok(value) => value,
            Err(refused) => return Err(($asking.reply, refused)),
        }
    };
}
pub(super) use attempt;
