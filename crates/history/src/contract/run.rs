//! A store and its model, step by step.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::model::Model;
use super::steps::{DEVICES, Mistake, Offered, STREAMS, Step};
use super::{Bed, Place, Violation};
use crate::pid::Pid;
use crate::position::{Epoch, Position};
use crate::recovery::{Budget, NotRecovered, gaps, recover};
use crate::store::{
    Durability, Message, Put, Range, Receipt, Retention, SessionRecord, Shard, Store, StoreError, StreamInfo,
    StreamName, Timestamp, WindowLimits, Write, wait,
};
use crate::trail::Trail;

pub(super) const RETENTION: Retention =
    Retention { max_age_ms: 1_000, max_messages: 40, max_bytes: 20_000, until_passed: false };
pub(super) const WINDOW: WindowLimits = WindowLimits { max_age_ms: 300, max_keys: 6 };

pub(super) fn steps(place: &dyn Place, steps: &[Step]) -> Result<(), Violation> {
    let mut run = Run::new(place.fresh())?;
    for step in steps {
        run.step(step)?;
        run.compare()?;
    }
    run.end()
}

struct Run {
    bed: Box<dyn Bed>,
    store: Arc<dyn Store>,
    shard: Arc<dyn Shard>,
    model: Model,
    now: Timestamp,
    heard: Arc<Mutex<Vec<Message>>>,
    expected: Vec<Message>,
    writes: u64,
}

fn violation(rule: &'static str, detail: String) -> Violation {
    Violation { rule, detail }
}

fn ensure(rule: &'static str, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(violation(rule, detail())) }
}

fn name(stream: u8) -> StreamName {
    format!("stream {stream}").into()
}

fn device(device: u8) -> Arc<str> {
    format!("device {device}").into()
}

fn pid(session: u8) -> Pid {
    Pid::from_bytes([session; 16])
}

type Opened = (Arc<dyn Store>, Arc<dyn Shard>);

fn open(bed: &mut dyn Bed) -> Result<Opened, Violation> {
    let store = bed.open(RETENTION, WINDOW);
    let shard = store.shard("/contract").map_err(|error| violation("a shard can be opened", error.to_string()))?;
    Ok((store, shard))
}

impl Run {
    fn new(mut bed: Box<dyn Bed>) -> Result<Self, Violation> {
        let (store, shard) = open(&mut *bed)?;
        let model = Model::new(shard.head().epoch, RETENTION, WINDOW);
        let now = Timestamp(1_700_000_000_000);
        let (heard, expected) = (Arc::default(), Vec::new());
        let run = Self { bed, store, shard, model, now, heard, expected, writes: 0 };
        ensure("a new shard is empty", run.shard.head().pos == 0, || format!("{:?}", run.shard.head()))?;
        run.listen();
        Ok(run)
    }

    fn listen(&self) {
        let heard = self.heard.clone();
        self.shard.follow(Some(Arc::new(move |messages: &[Message]| {
            heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(messages);
        })));
    }

    fn back(&self, by: u64) -> u64 {
        self.model.head.saturating_sub(by)
    }

    fn commit(&mut self, writes: Vec<Write>) -> Result<Vec<Receipt>, Violation> {
        let asked = writes.clone();
        let receipts = wait(self.shard.commit(self.now, writes))
            .map_err(|error| violation("what keeps to the rules is committed", error.to_string()))?;
        let puts: Vec<&Put> =
            asked.iter().filter_map(|write| if let Write::Put(put) = write { Some(put) } else { None }).collect();
        let (expected, new) = self.model.commit(self.now, &asked);
        self.expected.extend(new);
        let rule = "each message gets one receipt, with its position and a number without holes";
        ensure(rule, receipts.len() == expected.len(), || format!("{} of {}", receipts.len(), expected.len()))?;
        for ((receipt, expected), put) in receipts.iter().zip(&expected).zip(puts) {
            let rule = if expected.dup { "a key that is remembered stores nothing again" } else { rule };
            let same = (receipt.position.pos, receipt.n, receipt.dup) == (expected.pos, expected.n, expected.dup);
            ensure(rule, same, || format!("{receipt:?} instead of {expected:?}"))?;
            ensure("positions are of the shard's epoch", receipt.position.epoch == self.model.epoch, || {
                format!("{receipt:?}")
            })?;
            let reached =
                receipt.durability >= put.durability && receipt.durability <= self.store.capabilities().durability;
            ensure("a receipt promises what was asked for and can be reached", reached, || format!("{receipt:?}"))?;
        }
        Ok(receipts)
    }

    fn put(&mut self, streams: &[u8], size: usize, key: Option<u8>, durability: Durability) -> Put {
        self.writes += 1;
        let mut payload = self.writes.to_be_bytes().to_vec();
        payload.resize(size.max(8), b'x');
        let durability = durability.min(self.store.capabilities().durability);
        let key = key.map(|key| Bytes::from(vec![key]));
        Put { streams: streams.iter().map(|stream| name(*stream)).collect(), payload: payload.into(), durability, key }
    }

    fn step(&mut self, step: &Step) -> Result<(), Violation> {
        match step {
            Step::Put(puts, durability) => {
                let puts: Vec<Write> = puts
                    .iter()
                    .map(|(streams, size, key)| Write::Put(self.put(streams, *size, *key, *durability)))
                    .collect();
                self.commit(puts).map(drop)
            }
            Step::PutWithMistake(streams, mistake) => self.mistake(streams, *mistake),
            Step::Trim(stream, by) => {
                let through = self.back(*by);
                self.commit(vec![Write::Trim { stream: name(*stream), through }]).map(drop)
            }
            Step::Retain(stream, retention) => {
                self.commit(vec![Write::Retain { stream: name(*stream), retention: *retention }]).map(drop)
            }
            Step::Cursor(stream, by, pos) => {
                let pos = self.back(*pos);
                self.commit(vec![Write::Cursor { stream: name(*stream), device: device(*by), pos }]).map(drop)
            }
            Step::ForgetCursor(stream, by) => {
                self.commit(vec![Write::ForgetCursor { stream: name(*stream), device: device(*by) }]).map(drop)
            }
            Step::Session(session, lives) => {
                let record = Box::new(self.record(*session, *lives));
                self.commit(vec![Write::Session { pid: pid(*session), record: Some(record) }]).map(drop)
            }
            Step::ForgetSession(session) => {
                self.commit(vec![Write::Session { pid: pid(*session), record: None }]).map(drop)
            }
            Step::Wait(time) => {
                self.now.0 += time;
                Ok(())
            }
            Step::RetainAll => {
                let expected = self.model.retain(self.now);
                let rule = "what is too old is forgotten, and nothing else";
                let forgotten =
                    wait(self.shard.retain(self.now)).map_err(|error| violation(rule, error.to_string()))?;
                ensure(rule, forgotten == expected, || format!("{forgotten} instead of {expected}"))
            }
            Step::DropIdle(by) => {
                let through = self.back(*by);
                let expected = self.model.drop_idle(through);
                let rule = "streams of which nothing is kept are forgotten, and no others";
                let dropped =
                    wait(self.shard.drop_idle(through)).map_err(|error| violation(rule, error.to_string()))?;
                ensure(rule, dropped == expected, || format!("{dropped} instead of {expected}"))?;
                let there = self.shard.stats().streams;
                ensure(rule, there == self.model.streams.len() as u64, || format!("{there} are there"))
            }
            Step::Read(ranges, max_events, max_bytes) => {
                let ranges = ranges.iter().map(|(stream, by)| Range::after(&name(*stream), self.back(*by))).collect();
                self.read(ranges, Budget { max_bytes: *max_bytes, max_events: *max_events })
            }
            Step::Recover(session, offered) => self.recover(*session, *offered),
            Step::Reopen => {
                self.hear()?;
                let rule = "a store is closed once it says so";
                self.store.close().map_err(|error| violation(rule, error.to_string()))?;
                let put = Write::Put(self.put(&[0], 8, None, Durability::Memory));
                let refused = matches!(wait(self.shard.commit(self.now, vec![put])), Err(StoreError::Closed));
                ensure(rule, refused, || "it takes messages".into())?;
                self.reopen(false)
            }
            Step::Kill => {
                self.hear()?;
                self.reopen(true)
            }
        }
    }

    fn record(&self, session: u8, lives: u64) -> SessionRecord {
        let mut trail = Trail::new(Position { epoch: self.model.epoch, pos: self.back(9) });
        for stream in 0..STREAMS {
            trail.join(name(stream), self.back(u64::from(stream)));
        }
        trail.leave(&name(2), self.model.head);
        let expires = Timestamp(self.now.0 + lives);
        SessionRecord {
            identity: "somebody".into(),
            own: name(session),
            trail,
            expires,
            data: Bytes::from_static(b"{}"),
        }
    }

    fn mistake(&mut self, streams: &[u8], mistake: Mistake) -> Result<(), Violation> {
        let capabilities = self.store.capabilities();
        let good = self.put(streams, 8, None, Durability::Memory);
        let mut bad = good.clone();
        let bad = match mistake {
            Mistake::NoStream => {
                bad.streams.clear();
                Write::Put(bad)
            }
            Mistake::LongPayload => Write::Put(Put { payload: vec![0; capabilities.max_payload + 1].into(), ..bad }),
            Mistake::LongName => Write::Put(Put { streams: vec!["x".repeat(capabilities.max_name + 1).into()], ..bad }),
            Mistake::CursorAhead => {
                Write::Cursor { stream: name(streams[0]), device: device(0), pos: self.model.head + 9 }
            }
            Mistake::TooDurable if capabilities.durability == Durability::Quorum => return Ok(()),
            Mistake::TooDurable => Write::Put(Put { durability: Durability::Quorum, ..bad }),
        };
        let answer = wait(self.shard.commit(self.now, vec![Write::Put(good), bad]));
        let rule = "a commit happens or does not";
        ensure(rule, matches!(answer, Err(StoreError::Refused(_))), || format!("{answer:?}"))?;
        let head = self.shard.head().pos;
        ensure(rule, head == self.model.head, || format!("at {head} instead of {}", self.model.head))
    }

    fn hear(&mut self) -> Result<(), Violation> {
        let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        let expected = std::mem::take(&mut self.expected);
        let rule = "a follower hears every message once, in order, before its receipt";
        ensure(rule, heard == expected, || format!("{} messages instead of {}", heard.len(), expected.len()))
    }

    fn reopen(&mut self, is_killed: bool) -> Result<(), Violation> {
        let survives = self.store.capabilities().survives_restart;
        self.shard.follow(None);
        let former = self.shard.head().epoch;
        // Both hold what is under them open.
        let (store, shard) = (self.store.clone(), self.shard.clone());
        let blank: Arc<dyn Store> = Arc::new(crate::store::MemoryStore::new(0, RETENTION, WINDOW));
        self.shard = blank.shard("").map_err(|error| violation("a shard can be opened", error.to_string()))?;
        self.store = blank;
        drop(shard);
        if is_killed {
            self.bed.kill(store);
        } else {
            drop(store);
        }
        (self.store, self.shard) = open(&mut *self.bed)?;
        let epoch = self.shard.head().epoch;
        let rule = "what had its receipt is there after a restart, or the epoch is another one";
        ensure(rule, (epoch == former) == survives, || format!("{former:?}, then {epoch:?}"))?;
        if !survives {
            self.model = Model::new(epoch, RETENTION, WINDOW);
        }
        self.listen();
        Ok(())
    }

    fn expected_page(&self, ranges: &[Range]) -> Vec<Message> {
        let mut all: Vec<Message> = Vec::new();
        for range in ranges {
            let kept = self.model.streams.get(&range.stream).map_or(&[][..], |stream| stream.kept());
            all.extend(kept.iter().filter(|it| range.after < it.pos && it.pos <= range.until).cloned());
        }
        all.sort_by_key(|message| message.pos);
        all.dedup_by_key(|message| message.pos);
        all
    }

    /// Reads to the end, as pages of this size.
    fn read(&self, mut ranges: Vec<Range>, max: Budget) -> Result<(), Violation> {
        let expected = self.expected_page(&ranges);
        let floors: Vec<u64> = ranges.iter().map(|range| self.model.info(&range.stream).floor).collect();
        let mut seen: Vec<Message> = Vec::new();
        let rule = "a range is read whole, by position, once";
        for _ in 0..=expected.len() {
            let page =
                wait(self.shard.read(ranges.clone(), max)).map_err(|error| violation(rule, error.to_string()))?;
            let bytes: usize = page.messages.iter().map(|message| message.payload.len()).sum();
            let fits = page.messages.len() <= max.max_events && (bytes <= max.max_bytes || page.messages.len() == 1);
            ensure("a page keeps to its budget", fits, || format!("{} messages, {bytes} bytes", page.messages.len()))?;
            ensure("what is forgotten is known, exactly", page.floors == floors, || {
                format!("{:?} instead of {floors:?}", page.floors)
            })?;
            let head = Position { epoch: self.model.epoch, pos: self.model.head };
            ensure("a page tells where the shard is", page.head == head, || {
                format!("{:?} instead of {head:?}", page.head)
            })?;
            seen.extend(page.messages);
            if page.complete {
                let same = |a: &Message, b: &Message| {
                    (a.pos, &a.payload, a.at) == (b.pos, &b.payload, b.at) && (a.stream != b.stream || a == b)
                };
                let is_so = seen.len() == expected.len() && seen.iter().zip(&expected).all(|(a, b)| same(a, b));
                let list = |all: &[Message]| {
                    format!("{:?}", all.iter().map(|it| (&*it.stream, it.pos, it.prev, it.n)).collect::<Vec<_>>())
                };
                ensure(rule, is_so, || format!("{} instead of {}", list(&seen), list(&expected)))?;
                return ensure(rule, page.through == head.pos, || format!("complete up to {}", page.through));
            }
            ranges = ranges.into_iter().map(|range| range.rest(page.through)).collect();
        }
        Err(violation(rule, "it does not end".into()))
    }

    fn session(&self, session: u8) -> Option<&SessionRecord> {
        let found = self.model.sessions.iter().find(|(other, _)| *other == pid(session));
        found.map(|(_, record)| record).filter(|record| record.expires > self.now)
    }

    /// What a client gets that comes back: everything since what it shows, or the gaps.
    fn recover(&self, session: u8, offered: Offered) -> Result<(), Violation> {
        let rule = "a session is replayed what it missed, once and in order, or its gaps are named";
        let head = self.shard.head();
        let offered = match offered {
            Offered::Nothing => None,
            Offered::Before(by) => Some(Position { pos: self.back(by), ..head }),
            Offered::Ahead => Some(Position { pos: head.pos + 1, ..head }),
            Offered::OtherEpoch => Some(Position { epoch: Epoch(head.epoch.0 ^ 1), ..head }),
        };
        let found =
            wait(self.shard.session(self.now, pid(session))).map_err(|error| violation(rule, error.to_string()))?;
        ensure("a session is what was stored last, until it expires", found.as_ref() == self.session(session), || {
            format!("{found:?}")
        })?;
        let Some(record) = found else { return Ok(()) };
        let after = match recover(head, &record, offered) {
            Ok(after) => after,
            Err(NotRecovered::Ahead) if offered.is_some_and(|it| it.pos > head.pos) => return Ok(()),
            Err(error) => return Err(violation(rule, error.to_string())),
        };
        let ranges = record.owed(after, head.pos);
        let page = wait(self.shard.read(ranges.clone(), Budget::UNLIMITED))
            .map_err(|error| violation(rule, error.to_string()))?;
        let gaps = gaps(&ranges, &page.floors);
        // Everything that ever was, whether or not it is kept.
        let mut missing: Vec<u64> = Vec::new();
        for range in &ranges {
            let all = self.model.info(&range.stream).floor;
            if all > range.after {
                missing.push(all);
            }
        }
        ensure(rule, gaps.is_empty() == missing.is_empty(), || format!("gaps {gaps:?}, missing {missing:?}"))?;
        let positions: Vec<u64> = page.messages.iter().map(|message| message.pos).collect();
        let expected: Vec<u64> = self.expected_page(&ranges).iter().map(|message| message.pos).collect();
        ensure(rule, positions == expected, || format!("{positions:?} instead of {expected:?}"))
    }

    /// All of the store against all of the model.
    fn compare(&mut self) -> Result<(), Violation> {
        self.hear()?;
        let head = self.shard.head();
        let rule = "what had its receipt is there";
        ensure(rule, head.pos == self.model.head, || format!("at {} instead of {}", head.pos, self.model.head))?;
        ensure(rule, head.epoch == self.model.epoch, || "another epoch".into())?;
        for stream in 0..STREAMS {
            let name = name(stream);
            let rule = "a cursor is where it was furthest";
            let cursors = wait(self.shard.cursors(&name)).map_err(|error| violation(rule, error.to_string()))?;
            for number in 0..DEVICES {
                let device = device(number);
                let found = cursors.iter().find(|(other, _)| *other == device).map(|(_, pos)| *pos);
                let expected = self.model.cursors.get(&(name.clone(), device)).copied();
                ensure(rule, found == expected, || format!("{found:?} instead of {expected:?}"))?;
            }
            let (info, expected) = (self.shard.stream(&name).unwrap_or_default(), self.model.info(&name));
            let rule = if info.n == expected.n && info.head == expected.head {
                "retention keeps what it should, and no more"
            } else {
                "a stream's numbers are those of its messages"
            };
            ensure(rule, info == expected, || format!("{name}: {info:?} instead of {expected:?}"))?;
            self.read(vec![Range::after(&name, 0)], Budget::UNLIMITED)?;
        }
        let all = (0..STREAMS).map(|stream| Range::after(&name(stream), 0)).collect();
        self.read(all, Budget { max_bytes: 2_000, max_events: 16 })?;
        for session in 0..3 {
            self.recover(session, Offered::Nothing)?;
        }
        let (stats, streams) = (self.shard.stats(), self.model.streams.values());
        let add = |(filled, messages, bytes), it: StreamInfo| {
            (filled + u64::from(it.messages > 0), messages + it.messages, bytes + it.bytes)
        };
        let expected = streams.map(|stream| stream.info()).fold((0, 0, 0), add);
        let found = (stats.filled, stats.messages, stats.bytes);
        ensure("statistics are those of the content", found == expected, || {
            format!("{found:?} instead of {expected:?}")
        })
    }

    fn end(self) -> Result<(), Violation> {
        self.store.close().map_err(|error| violation("a store is closed once it says so", error.to_string()))
    }
}
