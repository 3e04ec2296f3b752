//! Events that clients repeat: handled once, answered each time.
//!
//! ```text
//!   event, …, {"$key": K} + ack id ─► OnceWindow.begin(who, K) ─┬─ new ─► handler ─► Ack.send ─► everybody who asked
//!                                                               ├─ being done ─► waits
//!                                                               └─ done ─► the same answer
//! ```

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use posthaste_adapter::RawEvent;
use posthaste_history::{Begin, Once, OnceLimits};
use posthaste_socket_proto::{Args, EmitArgs};
use serde::Deserialize;

use crate::ack::Asked;
use crate::error::ExtractError;
use crate::extract::{EventContext, FromEvent};
use crate::local::Local;
use crate::sent::Sent;
use crate::socket::Socket;

/// What is remembered of events with keys: [`Builder::idempotency`](crate::Builder::idempotency). Each namespace has a window of its own.
///
/// A key is its client's, if a middleware says who that is ([`Socket::identify`]); the same key of two people is two keys. Clients that
/// nobody identified share theirs: a key has to be random then.
///
/// It is in the memory of this process. What a handler does in a store it can make harmless to repeat with the same key
/// ([`DurableOperator::key`](crate::DurableOperator::key)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// How long an answer is remembered; 5 minutes by default.
    pub window: Duration,
    /// How many keys are known; 100,000 by default. Past it the oldest answer goes; while that many are being handled, more are refused.
    pub max_keys: usize,
    /// Bytes of keys and answers; 16 MiB by default. Past it the oldest go.
    pub max_bytes: usize,
}

impl Default for Idempotency {
    fn default() -> Self {
        Self { window: Duration::from_secs(300), max_keys: 100_000, max_bytes: 16 << 20 }
    }
}

/// The longest key, in bytes. What is longer is refused.
const MAX_KEY: usize = 128;
/// What a key takes besides its bytes. An estimate.
const OVERHEAD: usize = 128;

/// Who asks, and under which key.
type Key = Arc<str>;
/// A socket, and the id under which it waits for the answer.
type Waiting = (Socket, u64);
/// An answer as it was given.
type Answer = Arc<RawEvent>;

/// What is remembered of one namespace.
pub(crate) struct OnceWindow(Mutex<Once<Key, Waiting, Answer>>);

impl OnceWindow {
    pub(crate) fn new(limits: Idempotency) -> Self {
        let Idempotency { window, max_keys, max_bytes } = limits;
        Self(Mutex::new(Once::new(OnceLimits { window, max_keys, max_bytes })))
    }

    fn lock(&self) -> MutexGuard<'_, Once<Key, Waiting, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The duty to answer under a key. Dropping it without an answer has the next one who asks handled anew.
pub(crate) struct Ticket {
    window: Arc<OnceWindow>,
    key: Key,
    /// It was answered for now: the key may be somebody else's by now.
    is_over: AtomicBool,
}

impl Ticket {
    /// Answers everybody who asked, and whoever will.
    pub(crate) fn answer<A: EmitArgs + ?Sized>(&self, socket: &Socket, id: u64, answer: &A) -> Sent {
        let kept = match RawEvent::encode("answer", answer) {
            Ok(kept) => Arc::new(kept),
            // It says why.
            Err(_) => return socket.answer(id, answer),
        };
        let bytes = kept.args().raw().len() + kept.attachments().iter().map(bytes::Bytes::len).sum::<usize>();
        let waiting =
            self.window.lock().answer(&self.key, kept.clone(), bytes + self.key.len() + OVERHEAD, Instant::now());
        tell(waiting, &kept.args())
    }

    /// Answers everybody who asked so far; whoever asks again is handled anew.
    pub(crate) fn answer_for_now<A: EmitArgs + ?Sized>(&self, answer: &A) -> Sent {
        self.is_over.store(true, Ordering::Release);
        let waiting = self.window.lock().give_up(&self.key);
        tell(waiting, answer)
    }

    pub(crate) const fn key(&self) -> &Key {
        &self.key
    }
}

/// Refuses before a handler is asked. What its answers look like is not known here: it is a failed handler's and a verb's refusal in one.
fn refuse(socket: &Socket, id: u64, code: &str, message: &str) {
    drop(socket.answer(id, &serde_json::json!({ "ok": false, "code": code, "message": message, "error": message })));
}

/// Answers all of these.
fn tell<A: EmitArgs + ?Sized>(waiting: Vec<Waiting>, answer: &A) -> Sent {
    let sent = waiting.into_iter().map(|(socket, id)| socket.answer(id, answer));
    // Whoever is gone asks again.
    let reached = sent.filter_map(|sent| sent.now().ok()).count();
    Sent::ready(if reached > 0 { Ok(()) } else { Err(crate::error::SendError::Disconnected) })
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if *self.is_over.get_mut() {
            return;
        }
        let waiting = self.window.lock().give_up(&self.key);
        // Sockets are let go when nothing is locked.
        drop(waiting);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

/// The key under which an event is handled, made of who sent it and what he called it; `None` for an event without. What a handler puts into a
/// [store](crate::DurableOperator::key) under it is there once, also when the process ended before the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(pub Option<Arc<str>>);

impl FromEvent for IdempotencyKey {
    fn from_event(cx: &mut EventContext<'_>) -> Result<Self, ExtractError> {
        Ok(Self(match &cx.ack {
            Some(Asked::Keyed(_, ticket)) => Some(ticket.key().clone()),
            Some(Asked::Id(_)) | None => None,
        }))
    }
}

/// The key that comes as the last argument, if there is one, and how many arguments are before it.
fn key_of(args: &Args<'_>) -> Option<(String, usize)> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Keyed {
        #[serde(rename = "$key")]
        key: String,
    }
    // Most events have none.
    (args.raw().ends_with('}') && args.raw().contains("$key")).then_some(())?;
    let (count, last) = args.iter().enumerate().last()?;
    last.contains("$key").then_some(())?;
    Some((serde_json::from_str::<Keyed>(last).ok()?.key, count))
}

impl Local {
    /// Whom an event's answer goes to, and its arguments; `None` if it is not to be handled (again): its client has been answered, or will be.
    pub(crate) fn ask_once<'a>(
        &self,
        socket: &Socket,
        ack: Option<u64>,
        args: Args<'a>,
    ) -> Option<(Option<Asked>, Args<'a>)> {
        let Some(id) = ack else { return Some((None, args)) };
        let Some(window) = &socket.0.namespace.once else { return Some((Some(Asked::Id(id)), args)) };
        let Some((key, count)) = key_of(&args) else { return Some((Some(Asked::Id(id)), args)) };
        if key.len() > MAX_KEY {
            refuse(socket, id, "invalid", "the key is too long");
            return None;
        }
        let who = socket.identity().unwrap_or_default();
        let key = Key::from(format!("{}\n{who}\n{key}", who.len()));
        let begun = window.lock().begin(&key, (socket.clone(), id), Instant::now());
        match begun {
            Begin::Run => {
                let ticket = Arc::new(Ticket { window: window.clone(), key, is_over: AtomicBool::new(false) });
                Some((Some(Asked::Keyed(id, ticket)), args.take(count)))
            }
            Begin::Waits => None,
            Begin::Answer(answer) => {
                drop(socket.answer(id, &answer.args()));
                None
            }
            Begin::Full => {
                refuse(socket, id, "busy", "too many keys: try again");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_object_with_nothing_else_at_the_end() {
        let key = |array: &str| key_of(&Args::decode(array, Vec::new()).unwrap());
        assert_eq!(key(r#"[1,{"$key":"a"}]"#), Some(("a".into(), 1)));
        assert_eq!(key(r#"[{ "$key" : "\u0061" }]"#), Some(("a".into(), 0)));
        for array in
            ["[]", "[1]", r#"[{"$key":1}]"#, r#"[{"$key":"a","b":1}]"#, r#"[{"$key":"a"},1]"#, r#"[{"a":"$key"}]"#]
        {
            assert_eq!(key(array), None, "{array}");
        }
    }
}
