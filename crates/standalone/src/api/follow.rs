//! Server-sent events of a stream: what is kept of it, then what comes.
//!
//! The id of an event is its offset, so that whoever comes back with `Last-Event-ID` goes on behind it. An id without an event says
//! where a stream is of which nothing was sent yet. An event of the type `gap` says that something that should be here is forgotten;
//! all others have no type of their own, and are `{offset, n, at, event, args}`.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::response::sse::{Event as SseEvent, KeepAlive, KeepAliveStream, Sse};
use futures_core::Stream;
use posthaste::{History, HistoryPage};
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::api::Api;
use crate::api::problem::Problem;
use crate::api::streams::Start;
use crate::rooms::{self, Binary, Event, USUAL_LIMIT};

/// How often something is said to who hears nothing, so that proxies and the server notice who is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The events of a stream, for ever.
pub(super) fn events(api: &Api, name: &str, start: Start) -> Result<Sse<KeepAliveStream<Events>>, Problem> {
    let permit = api.followers.clone().try_acquire_owned().map_err(|_| Problem::TOO_MANY)?;
    let history = api.namespace.history(name).map_err(|error| rooms::refusal(&error))?;
    let follower = Follower {
        history,
        start,
        pos: None,
        waiting: VecDeque::new(),
        closing: api.closing.subscribe(),
        _permit: permit,
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE).text("still here");
    Ok(Sse::new(Events(Box::pin(follower.next()))).keep_alive(keep_alive))
}

/// A follower's events. Each is read when the one before it was taken: a slow client waits for itself alone.
pub(super) struct Events(Pin<Box<dyn Future<Output = Next> + Send>>);

/// An event, and who goes on behind it.
type Next = Option<(SseEvent, Follower)>;

impl Stream for Events {
    type Item = Result<SseEvent, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = ready!(self.0.as_mut().poll(cx));
        let Some((event, follower)) = next else {
            self.0 = Box::pin(async { None });
            return Poll::Ready(None);
        };
        self.0 = Box::pin(follower.next());
        Poll::Ready(Some(Ok(event)))
    }
}

/// Where somebody is in a stream.
struct Follower {
    history: History,
    start: Start,
    /// The position in the store that was read up to, when everything was.
    pos: Option<u64>,
    waiting: VecDeque<SseEvent>,
    closing: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next event. `None` when the server closes or the store fails: the client comes back and says where it was.
    async fn next(mut self) -> Next {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some((event, self));
            }
            if let Some(pos) = self.pos {
                let changed = self.history.changed(pos);
                let is_closing = async { self.closing.wait_for(|closing| *closing).await.is_ok() };
                tokio::select! {
                    () = changed => {}
                    _ = is_closing => return None,
                }
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Option<()> {
        let is_first = self.pos.is_none() && !matches!(self.start, Start::After(_));
        let page = rooms::read(&self.history, self.start.as_history(), USUAL_LIMIT).await;
        let page = page.inspect_err(|error| tracing::warn!(%error, "a stream that is followed")).ok()?;
        let HistoryPage { events, complete, gap, next, pos, .. } = page;
        if gap {
            self.waiting.push_back(SseEvent::default().event("gap").data(r#"{"gap":true}"#));
        }
        if events.is_empty() && (is_first || gap) {
            self.waiting.push_back(SseEvent::default().id(&*next));
        }
        for stored in events {
            let event = Event::new(stored, Binary::Text);
            let id = event.offset.clone();
            let sent = SseEvent::default().id(id).json_data(event);
            self.waiting.push_back(sent.expect("invariant: an event is JSON"));
        }
        self.start = Start::After(next);
        self.pos = complete.then_some(pos);
        Some(())
    }
}
