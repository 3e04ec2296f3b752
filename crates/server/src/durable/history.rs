//! Reading what durable rooms were sent.

use std::future::Future;
use std::sync::Arc;

use posthaste_adapter::{RawEvent, Room};
use posthaste_history::store::{Message, Page, Range, StreamName, Timestamp};
use posthaste_history::{Budget, Offset, Position};

use super::allowance::Reserved;
use super::keeper::stream_of;
use super::{DurableError, Form, Keeper, Whose};
use crate::namespace::Namespace;
use crate::recovery::OffsetText;
use crate::server::Server;
use crate::socket::Socket;

/// Longest text that may be an offset: live events carry two.
const MAX_OFFSET: usize = 2 * Offset::CHARS;

/// What a durable room was sent: [`Namespace::history`].
#[derive(Clone)]
pub struct History {
    keeper: Arc<Keeper>,
    stream: StreamName,
}

/// Where to begin to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryStart<'a> {
    /// With the oldest that is kept.
    Oldest,
    /// Behind what is at this offset.
    After(&'a str),
    /// With the last so many.
    Last(usize),
    /// With the last so many before this offset; the page ends there.
    Before(&'a str, usize),
}

/// A page of a room's events.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HistoryPage {
    /// In order.
    pub events: Vec<StoredEvent>,
    /// Whether that was everything.
    pub complete: bool,
    /// Whether something between the offset that was named and the first event was forgotten.
    pub gap: bool,
    /// The offset to go on from.
    pub next: String,
    /// The position of [`HistoryPage::next`], for [`History::changed`].
    pub pos: u64,
}

/// The right to send a page again: [`History::reserve`]. Dropped unsettled, nothing counts.
#[must_use]
#[derive(Debug)]
pub struct HistoryReservation(Reserved);

impl HistoryReservation {
    /// Counts a page that is sent.
    pub fn settle(self, page: &HistoryPage) {
        let bytes = |stored: &StoredEvent| {
            stored.event.all().raw().len() + stored.event.attachments().iter().map(bytes::Bytes::len).sum::<usize>()
        };
        self.0.settle(page.events.iter().map(bytes).sum());
    }
}

/// An event as it was stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StoredEvent {
    /// Where it is.
    pub offset: String,
    /// Where the one before it in this room is, or was; `None` if it is the first.
    pub prev: Option<String>,
    /// Its number in this room, without holes from 1: again from 1 in one that was [forgotten](super::Durable::forget_after).
    pub n: u64,
    /// When it was committed.
    pub at: Timestamp,
    /// Its name and arguments.
    pub event: RawEvent,
}

impl History {
    /// Events in order, at most so many bytes of them, and at least one if there is one.
    ///
    /// # Errors
    /// [`DurableError::Offset`] for a text that is no offset of this store, as after the store was made anew; [`DurableError::Store`] when
    /// it could not be read.
    pub async fn page(&self, start: HistoryStart<'_>, max: Budget) -> Result<HistoryPage, DurableError> {
        let head = self.keeper.head();
        let known = |text| {
            let pos = self.position(text).filter(|it| it.epoch == head.epoch && it.pos <= head.pos);
            pos.map(|it| it.pos).ok_or(DurableError::Offset)
        };
        let (after, until, named) = match start {
            HistoryStart::Oldest => (0, head.pos, None),
            HistoryStart::After(text) => {
                let pos = known(text)?;
                (pos, head.pos, Some(pos))
            }
            HistoryStart::Last(count) => (self.before_last(count, head.pos).await?, head.pos, None),
            HistoryStart::Before(text, count) => {
                let until = known(text)?.saturating_sub(1);
                (self.before_last(count, until).await?, until, None)
            }
        };
        let range = Range { stream: self.stream.clone(), after, until };
        let page = self.keeper.shard().read(vec![range], max).await?;
        Ok(self.page_of(page, after, until, named))
    }

    /// Waits until a page may be [sent again](crate::ReplayBudget) to the client of a socket: a client that has had too much has to wait, and
    /// what it waits for is not read before. `max` is what [`History::page`] will be asked for.
    ///
    /// # Cancel safety
    /// Safe: what was not waited for was not spent.
    pub async fn reserve(&self, socket: &Socket, max: Budget) -> HistoryReservation {
        HistoryReservation(self.keeper.allowances().reserve(Whose::of(socket), max.max_bytes).await)
    }

    /// Whether a text has the form of an offset, as [`HistoryStart`] takes it: that of a durable event, or what a live one carries. Whether
    /// the store wrote it, and still knows it, [`History::page`] says.
    #[must_use]
    pub fn is_offset(text: &str) -> bool {
        text.len() <= MAX_OFFSET && !text.is_empty() && OffsetText::parts(text).all(Offset::is_form)
    }

    /// Ready when something was committed to the namespace behind `pos`.
    pub fn changed(&self, pos: u64) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut news = self.keeper.news();
        async move {
            // The keeper lives as long as its namespace; whoever waits longer waits for nothing.
            let _ = news.wait_for(|head| *head > pos).await;
        }
    }

    /// The position behind which the last `count` up to `until` are.
    async fn before_last(&self, count: usize, until: u64) -> Result<u64, DurableError> {
        let Some(info) = self.keeper.shard().look_up(&self.stream)? else { return Ok(until) };
        // The store reads forwards, and numbers have no holes: look for the first that is wanted.
        let last = match self.first_behind(until, info.head).await? {
            Some(behind) => behind.n - 1,
            None => info.n,
        };
        let wanted = last.saturating_sub(info.n - info.messages).min(count as u64);
        if wanted == 0 {
            return Ok(until);
        }
        let number = last - wanted + 1;
        let (mut low, mut high) = (info.floor, until.min(info.head));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_behind(middle, info.head).await? {
                Some(found) if found.n == number => return Ok(found.pos - 1),
                Some(found) if found.n < number => low = found.pos,
                // Behind it, or forgotten meanwhile.
                _ => high = middle,
            }
        }
        Ok(low)
    }

    async fn first_behind(&self, after: u64, until: u64) -> Result<Option<Message>, DurableError> {
        let range = Range { stream: self.stream.clone(), after, until };
        let page = self.keeper.shard().read(vec![range], Budget { max_events: 1, max_bytes: 1 }).await?;
        Ok(page.messages.into_iter().next())
    }

    fn page_of(&self, page: Page, after: u64, until: u64, named: Option<u64>) -> HistoryPage {
        let gap = named.is_some_and(|named| page.floors.first().is_some_and(|floor| *floor > named));
        let pos = page.through.min(until).max(after);
        let offset = |pos| self.keeper.offset(pos).to_string();
        let events = page.messages.into_iter().filter_map(|message| {
            let form = Form::decode(message.payload)?;
            Some(StoredEvent {
                offset: offset(message.pos),
                prev: (message.n > 1).then(|| offset(message.prev)),
                n: message.n,
                at: message.at,
                event: form.packet.event(),
            })
        });
        HistoryPage { events: events.collect(), complete: page.complete, gap, next: offset(pos), pos }
    }

    fn position(&self, text: &str) -> Option<Position> {
        (text.len() <= MAX_OFFSET).then_some(())?;
        OffsetText::parts(text).find_map(|part| self.keeper.read_offset(part))
    }
}

/// Where durable rooms are read.
macro_rules! reads {
    ($name:ty, $namespace:expr) => {
        impl $name {
            /// What a durable room was sent.
            ///
            /// ```no_run
            /// # use posthaste::{HistoryStart, Budget};
            /// # async fn example(io: posthaste::Server) -> Result<(), posthaste::DurableError> {
            /// let page = io.history("orders")?.page(HistoryStart::Last(20), Budget::UNLIMITED).await?;
            /// for stored in &page.events {
            ///     println!("{} {:?}", stored.offset, stored.event.name());
            /// }
            /// # Ok(()) }
            /// ```
            ///
            /// # Errors
            /// [`DurableError::NoStore`] without [`Builder::durable`](crate::Builder::durable).
            pub fn history(&self, room: impl Into<Room>) -> Result<History, DurableError> {
                let namespace: Namespace = $namespace(self);
                let keeper = namespace.0.keeper()?.clone();
                Ok(History { keeper, stream: stream_of(&room.into()) })
            }
        }
    };
}

reads!(Namespace, Clone::clone);
reads!(Server, Server::main);

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("stream", &self.stream).finish_non_exhaustive()
    }
}
