//! What many have missed is read once.
//!
//! ```text
//!   a session comes back ─► what it is owed, by stream ─► Pages ─► whoever asks first reads the store, the others wait for that
//! ```
//!
//! When a server starts, everybody who was there comes back at once, and those of a room have missed the same. Pages are there as long
//! as somebody is replayed to, up to a bound in bytes: then the oldest has to go, and is read again for whoever needs it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use posthaste_adapter::Rooms;
use posthaste_history::store::{Message, Range, Shard, StoreError, StreamName};
use posthaste_history::{Budget, gaps};
use tokio::sync::OnceCell;

use super::Form;

/// A page as it is read, and a part as it is sent: then the worker's other connections have a turn.
pub(crate) const PAGE: Budget = Budget { max_bytes: 64 * 1024, max_events: 512 };
/// Bytes of frames in a part: events as they are sent are longer than as they are stored.
pub(crate) const PART_BYTES: usize = 2 * PAGE.max_bytes;
/// What pages take in memory at most.
const MOST_BYTES: usize = 32 << 20;
/// What an event takes besides its frames, and a page besides its events. Estimates.
const OVERHEAD: usize = 128;
/// Pages begin at multiples of this, or where another ends: who heard a little more than others begins where they do.
const ALIGNMENT: u64 = 64;
/// Who missed something in more streams than this has them read for him alone, all at once.
const MOST_STREAMS: usize = 16;

/// An event as everybody is sent it who missed it.
#[derive(Debug)]
pub(crate) struct Missed {
    pub(crate) pos: u64,
    /// Whoever was in one of these rooms then does not get it.
    pub(crate) except: Rooms,
    pub(crate) compress: bool,
    /// With its offset.
    pub(crate) frames: Bytes,
}

/// A part of one or more streams.
#[derive(Debug, Default)]
struct Page {
    /// All there is up to here.
    through: u64,
    /// Up to here something was forgotten when it was read.
    floor: u64,
    events: Vec<Missed>,
}

/// What comes next of what somebody missed.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pages: Vec<Arc<Page>>,
    /// Page and place of each event, by position.
    order: Vec<(usize, usize)>,
    /// It is all of it up to here.
    pub(crate) through: u64,
}

impl Part {
    pub(crate) fn events(&self) -> impl ExactSizeIterator<Item = &Missed> {
        self.order.iter().map(|(page, place)| &self.pages[*page].events[*place])
    }

    /// Bytes of frames.
    pub(crate) fn bytes(&self) -> usize {
        self.events().map(|event| event.frames.len()).sum()
    }
}

/// Why there is no part.
#[derive(Debug)]
pub(crate) enum NoPart {
    /// Something that was asked for is forgotten.
    Forgotten,
    /// The store says why.
    Unread(StoreError),
}

/// The place of a page that is there, or is being read.
type Slot = Arc<OnceCell<Arc<Page>>>;

/// The pages of a namespace's streams that are being replayed.
#[derive(Debug)]
pub(crate) struct Pages {
    state: Mutex<State>,
    most_bytes: usize,
}

impl Default for Pages {
    fn default() -> Self {
        Self { state: Mutex::default(), most_bytes: MOST_BYTES }
    }
}

#[derive(Debug, Default)]
struct State {
    /// How many are replayed to.
    replays: usize,
    /// By stream, and where they begin.
    slots: HashMap<StreamName, BTreeMap<u64, Slot>>,
    /// Those that were read, in that order, and what they take.
    read: VecDeque<(StreamName, u64, usize)>,
    bytes: usize,
}

/// Somebody is replayed to, until this is dropped.
pub(crate) struct Replaying<'a>(&'a Pages);

impl Drop for Replaying<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.replays -= 1;
        let unused = if state.replays == 0 { std::mem::take(&mut *state) } else { return };
        drop(state);
        drop(unused);
    }
}

impl Pages {
    /// Has pages kept that are read from now on.
    pub(crate) fn begin(&self) -> Replaying<'_> {
        self.lock().replays += 1;
        Replaying(self)
    }

    /// Those of the ranges that have something. Nothing is read of the many that have nothing new.
    pub(crate) fn news(shard: &dyn Shard, ranges: Vec<Range>) -> Result<Vec<Range>, NoPart> {
        let mut news = Vec::new();
        for range in ranges {
            let info = shard.look_up(&range.stream).map_err(NoPart::Unread)?;
            if info.is_some_and(|info| info.head > range.after) {
                news.push(range);
            }
        }
        Ok(news)
    }

    /// What comes first of these ranges, each of which [has something](Pages::news), no more than a worker should do at once; `until` is
    /// where they end. `offset` writes what is behind an event's arguments.
    pub(crate) async fn part<T: AsRef<str>>(
        &self,
        shard: &dyn Shard,
        news: Vec<Range>,
        until: u64,
        offset: impl Fn(u64) -> T,
    ) -> Result<Part, NoPart> {
        let mut part = Part { through: until, ..Part::default() };
        if news.len() > MOST_STREAMS {
            let (page, floors) = read(shard, news.clone(), &offset).await.map_err(NoPart::Unread)?;
            if !gaps(&news, &floors).is_empty() {
                return Err(NoPart::Forgotten);
            }
            part.through = page.through.min(until);
            part.order = (0..page.events.len()).map(|place| (0, place)).collect();
            part.pages.push(Arc::new(page));
        } else {
            for range in &news {
                let page = self.page(shard, range, &offset).await.map_err(NoPart::Unread)?;
                if page.floor > range.after {
                    return Err(NoPart::Forgotten);
                }
                if page.through < range.until {
                    part.through = part.through.min(page.through);
                }
                part.pages.push(page);
            }
            for (index, (page, range)) in part.pages.iter().zip(&news).enumerate() {
                let first = page.events.partition_point(|event| event.pos <= range.after);
                let end = page.events.partition_point(|event| event.pos <= range.until.min(part.through));
                part.order.extend((first..end.max(first)).map(|place| (index, place)));
            }
            if part.pages.len() > 1 {
                let Part { pages, order, .. } = &mut part;
                let pos = |(page, place): &(usize, usize)| pages[*page].events[*place].pos;
                order.sort_unstable_by_key(pos);
                // What went to several rooms comes once.
                order.dedup_by_key(|it| pos(it));
            }
        }
        part.cut();
        Ok(part)
    }

    /// A page that has what comes right behind where a range begins.
    async fn page<T: AsRef<str>>(
        &self,
        shard: &dyn Shard,
        range: &Range,
        offset: &impl Fn(u64) -> T,
    ) -> Result<Arc<Page>, StoreError> {
        let Range { stream, after, .. } = range;
        // Pages before it may have to be gone through, no more than begin between two multiples.
        for _ in 0..=ALIGNMENT {
            let (begin, slot) = self.slot(stream, *after);
            let mut is_first = false;
            let reading = async {
                is_first = true;
                let (page, floors) = read(shard, vec![Range::after(stream, begin)], offset).await?;
                Ok(Arc::new(Page { floor: floors.first().copied().unwrap_or(0), ..page }))
            };
            let page = slot.get_or_try_init(|| reading).await?.clone();
            if is_first {
                self.keep(stream, begin, &page);
            }
            if page.through > *after {
                return Ok(page);
            }
        }
        let (page, floors) = read(shard, vec![Range::after(stream, *after)], offset).await?;
        Ok(Arc::new(Page { floor: floors.first().copied().unwrap_or(0), ..page }))
    }

    /// Where a page begins that may have what comes behind `after`, and its place, which is to be filled if it is not.
    fn slot(&self, stream: &StreamName, after: u64) -> (u64, Slot) {
        let mut state = self.lock();
        let slots = state.slots.entry(stream.clone()).or_default();
        let mut begin = after - after % ALIGNMENT;
        if let Some((near, slot)) = slots.range(..=after).next_back() {
            match slot.get() {
                Some(page) if page.through > after => return (*near, slot.clone()),
                Some(page) => begin = begin.max(page.through),
                // It is being read. Of those that begin long before, nobody knows whether they end behind it.
                None if *near >= begin => return (*near, slot.clone()),
                None => {}
            }
        }
        (begin, slots.entry(begin).or_default().clone())
    }

    /// A page was read: others may have to go.
    fn keep(&self, stream: &StreamName, begin: u64, page: &Page) {
        let mut gone = Vec::new();
        let mut state = self.lock();
        let state = &mut *state;
        if page.through <= begin {
            // There was nothing yet: whoever comes next looks again.
            gone.extend(state.remove(stream, begin));
            return;
        }
        let bytes = OVERHEAD + page.events.iter().map(|event| event.frames.len() + OVERHEAD).sum::<usize>();
        state.bytes += bytes;
        state.read.push_back((stream.clone(), begin, bytes));
        while state.bytes > self.most_bytes
            && let Some((stream, begin, bytes)) = state.read.pop_front()
        {
            state.bytes -= bytes;
            gone.extend(state.remove(&stream, begin));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remove(&mut self, stream: &StreamName, begin: u64) -> Option<Slot> {
        let slots = self.slots.get_mut(stream)?;
        let removed = slots.remove(&begin);
        if slots.is_empty() {
            self.slots.remove(stream);
        }
        removed
    }
}

impl Part {
    /// Leaves what is too much at once for later.
    fn cut(&mut self) {
        let mut bytes = 0;
        let is_much = |(count, event): (usize, &Missed)| {
            bytes += event.frames.len();
            count > 0 && (count >= PAGE.max_events || bytes > PART_BYTES)
        };
        let Some(end) = self.events().enumerate().position(is_much) else { return };
        self.order.truncate(end);
        self.through = self.events().last().map_or(self.through, |event| event.pos);
    }
}

/// Reads a page of the store, and the floors of its streams.
async fn read<T: AsRef<str>>(
    shard: &dyn Shard,
    ranges: Vec<Range>,
    offset: &impl Fn(u64) -> T,
) -> Result<(Page, Vec<u64>), StoreError> {
    let page = shard.read(ranges, PAGE).await?;
    let missed = |Message { pos, payload, .. }| {
        let Form { except, compress, packet } = Form::decode(payload)?;
        let packet = packet.with_last_argument(offset(pos).as_ref());
        Some(Missed { pos, except, compress, frames: packet.frames().clone() })
    };
    let through = page.through;
    Ok((Page { through, floor: 0, events: page.messages.into_iter().filter_map(missed).collect() }, page.floors))
}

#[cfg(test)]
mod tests {
    use posthaste_adapter::{Packet, RawEvent};
    use posthaste_history::store::{
        Durability, MemoryStore, Put, Retention, Store, Timestamp, WindowLimits, Write, wait,
    };
    use proptest::prelude::*;

    use super::*;

    fn shard(retention: Retention) -> Arc<dyn Shard> {
        MemoryStore::new(7, retention, WindowLimits::default()).shard("/").unwrap()
    }

    fn stream(number: usize) -> StreamName {
        format!("r:{number}").into()
    }

    fn put(shard: &dyn Shard, streams: impl IntoIterator<Item = usize>, bytes: usize) {
        let packet = Packet::encode("/", None, &RawEvent::encode("event", &("x".repeat(bytes),)).unwrap()).unwrap();
        let payload = Form { except: Rooms::new(), compress: true, packet }.encode();
        let streams = streams.into_iter().map(stream).collect();
        let put = Put { streams, payload, durability: Durability::Memory, key: None };
        wait(shard.commit(Timestamp(1), vec![Write::Put(put)])).unwrap();
    }

    fn part(pages: &Pages, shard: &dyn Shard, ranges: &[Range], until: u64) -> Result<Part, NoPart> {
        let left = ranges.iter().filter(|range| range.after < range.until).cloned().collect::<Vec<_>>();
        wait(pages.part(shard, Pages::news(shard, left)?, until, |pos| pos.to_string()))
    }

    /// Everything of these ranges, part by part.
    fn replay(pages: &Pages, shard: &dyn Shard, ranges: &[Range], until: u64) -> Vec<u64> {
        let (mut ranges, mut seen, mut through) = (ranges.to_vec(), Vec::new(), 0);
        while through < until {
            let part = part(pages, shard, &ranges, until).unwrap();
            assert!(part.through > through && part.events().len() <= PAGE.max_events);
            seen.extend(part.events().map(|event| event.pos));
            through = part.through;
            ranges = ranges.into_iter().map(|range| range.rest(through)).collect();
        }
        seen
    }

    fn kept(pages: &Pages) -> (usize, usize) {
        let state = pages.lock();
        (state.slots.values().map(BTreeMap::len).sum(), state.bytes)
    }

    fn any_range(streams: usize) -> impl Strategy<Value = Range> {
        (0..streams, 0..300_u64, 0..300_u64).prop_map(|(number, from, until)| Range {
            stream: stream(number),
            after: from.min(until),
            until: from.max(until) + 1,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whoever asks for whatever, while there is ever more: it is what the store has.
        #[test]
        fn parts_put_together_are_what_the_store_has(
            events in prop::collection::vec((prop::collection::vec(0..4_usize, 1..3), 0..3_000_usize), 1..250),
            asked in prop::collection::vec(prop::collection::vec(any_range(4), 0..6), 1..12),
            most_bytes in prop::sample::select(vec![0, 20_000, MOST_BYTES]),
        ) {
            let shard = shard(Retention::UNLIMITED);
            let pages = Pages { most_bytes, ..Pages::default() };
            let replaying = pages.begin();
            let share = events.len().div_ceil(asked.len());
            let mut events = events.chunks(share);
            for ranges in asked {
                for (streams, bytes) in events.next().into_iter().flatten() {
                    put(&*shard, streams.iter().copied(), *bytes);
                }
                let head = shard.head().pos;
                let ranges: Vec<Range> =
                    ranges.into_iter().map(|range| Range { until: range.until.min(head), ..range }).collect();
                let page = wait(shard.read(ranges.clone(), Budget::UNLIMITED)).unwrap();
                let expected: Vec<u64> = page.messages.iter().map(|message| message.pos).collect();
                prop_assert_eq!(replay(&pages, &*shard, &ranges, head), expected);
                prop_assert!(kept(&pages).1 <= most_bytes);
            }
            drop(replaying);
            prop_assert_eq!(kept(&pages), (0, 0), "nothing is left when nobody is replayed to");
        }
    }

    #[test]
    fn who_missed_something_in_many_streams_has_them_read_together() {
        let shard = shard(Retention::UNLIMITED);
        for number in 0..2_000 {
            put(&*shard, [number % 40, number % 7], 100);
        }
        let pages = Pages::default();
        let _replaying = pages.begin();
        let ranges: Vec<Range> =
            (0..40).map(|number| Range { until: 2_000, ..Range::after(&stream(number), 3) }).collect();
        assert_eq!(replay(&pages, &*shard, &ranges, 2_000), (4..=2_000).collect::<Vec<_>>());
        assert!(kept(&pages).0 < 40, "only what is left at the end is shared");
    }

    #[test]
    fn what_is_forgotten_is_not_passed_over() {
        let few = Retention { max_messages: 10, ..Retention::UNLIMITED };
        let shard = shard(few);
        let pages = Pages::default();
        let _replaying = pages.begin();
        for _ in 0..12 {
            put(&*shard, [1], 10);
        }
        let range = |after| [Range { stream: stream(1), after, until: 12 }];
        assert!(matches!(part(&pages, &*shard, &range(1), 12), Err(NoPart::Forgotten)));
        assert_eq!(replay(&pages, &*shard, &range(2), 12), (3..=12).collect::<Vec<_>>());
    }
}
