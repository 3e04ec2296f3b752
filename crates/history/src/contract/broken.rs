//! A store that is broken on purpose.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::{Bed, Place};
use crate::pid::Pid;
use crate::position::Position;
use crate::recovery::Budget;
use crate::store::{
    Answer, Capabilities, Cursors, Durability, Follower, MemoryStore, Message, Page, Range, Receipt, Retention,
    SessionRecord, Shard, Stats, Store, StoreError, StreamInfo, StreamName, Timestamp, WindowLimits, Write, wait,
};

/// What is wrong with a [`Broken`] store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each says what it does")]
pub enum Fault {
    CommitsHalf,
    StoresKeysTwice,
    GivesNumbersWithHoles,
    PromisesTooMuch,
    LosesTheLastOfAPage,
    SwapsTwoOfAPage,
    ReadsFromTheBeginning,
    IgnoresTheBudget,
    EndsAfterOnePage,
    HidesFloors,
    RaisesFloors,
    ForgetsPrev,
    KeepsTooMuch,
    IgnoresTrims,
    NeverForgetsOldOnes,
    MovesCursorsBack,
    LosesCursors,
    NeverExpiresSessions,
    KeepsForgottenSessions,
    KeepsFirstSessions,
    TellsTwice,
    TellsInReverse,
    TellsNobody,
    StaysOpen,
    CountsWrong,
    DropsNothing,
    DropsTooMuch,
    ForgetsThatItDropped,
}

/// Where [`MemoryStore`]s are made, perhaps with a fault.
#[derive(Clone, Copy, Debug, Default)]
pub struct InMemory(pub Option<Fault>);

struct Memory {
    fault: Option<Fault>,
    opened: u32,
}

impl Place for InMemory {
    fn fresh(&self) -> Box<dyn Bed> {
        Box::new(Memory { fault: self.0, opened: 0 })
    }
}

impl Bed for Memory {
    fn open(&mut self, retention: Retention, window: WindowLimits) -> Arc<dyn Store> {
        self.opened += 1;
        let store = Arc::new(MemoryStore::new(self.opened, retention, window));
        match self.fault {
            Some(fault) => Arc::new(Broken::new(store, fault)),
            None => store,
        }
    }

    fn kill(&mut self, store: Arc<dyn Store>) {
        drop(store);
    }
}

/// A good store behind a [`Fault`].
pub struct Broken {
    store: Arc<dyn Store>,
    fault: Fault,
}

impl Broken {
    /// Breaks a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, fault: Fault) -> Self {
        Self { store, fault }
    }
}

impl Store for Broken {
    fn shard(&self, name: &str) -> Result<Arc<dyn Shard>, StoreError> {
        let (shard, fault) = (self.store.shard(name)?, self.fault);
        Ok(Arc::new(BrokenShard { shard, fault, turn: AtomicU64::new(0), seen: Mutex::default() }))
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    fn close(&self) -> Result<(), StoreError> {
        if self.fault == Fault::StaysOpen { Ok(()) } else { self.store.close() }
    }
}

struct BrokenShard {
    shard: Arc<dyn Shard>,
    fault: Fault,
    turn: AtomicU64,
    seen: Mutex<Vec<Pid>>,
}

fn ready<T: Send + 'static>(value: Result<T, StoreError>) -> Answer<T> {
    Box::pin(std::future::ready(value))
}

impl BrokenShard {
    fn spoil(&self, mut writes: Vec<Write>) -> Vec<Write> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        writes.retain_mut(|write| match (self.fault, write) {
            (Fault::StoresKeysTwice, Write::Put(put)) => {
                put.key = put.key.as_ref().map(|_| Bytes::from(turn.to_be_bytes().to_vec()));
                true
            }
            (Fault::KeepsTooMuch, Write::Retain { retention, .. }) => {
                *retention = Retention { max_messages: retention.max_messages.saturating_add(1), ..*retention };
                true
            }
            (Fault::IgnoresTrims, Write::Trim { through, .. }) => {
                *through = 0;
                true
            }
            (Fault::LosesCursors, Write::Cursor { pos, .. }) => {
                *pos = 0;
                true
            }
            (Fault::KeepsForgottenSessions, Write::Session { record: None, .. }) => false,
            (Fault::KeepsFirstSessions, Write::Session { pid, record: Some(_) }) => {
                let is_new = !seen.contains(pid);
                seen.push(*pid);
                is_new
            }
            _ => true,
        });
        if self.fault == Fault::MovesCursorsBack {
            let forgets = writes.iter().filter_map(|write| match write {
                Write::Cursor { stream, device, .. } => {
                    Some(Write::ForgetCursor { stream: stream.clone(), device: device.clone() })
                }
                _ => None,
            });
            writes = forgets.chain(writes.iter().cloned()).collect();
        }
        writes
    }
}

impl Shard for BrokenShard {
    fn commit(&self, now: Timestamp, writes: Vec<Write>) -> Answer<Vec<Receipt>> {
        let half = writes.first().cloned();
        let answer = wait(self.shard.commit(now, self.spoil(writes)));
        if self.fault == Fault::CommitsHalf && matches!(answer, Err(StoreError::Refused(_))) {
            let _ = wait(self.shard.commit(now, half.into_iter().collect()));
        }
        let spoil = |mut receipt: Receipt| {
            match self.fault {
                Fault::GivesNumbersWithHoles => receipt.n *= 2,
                Fault::PromisesTooMuch => receipt.durability = Durability::Quorum,
                _ => {}
            }
            receipt
        };
        ready(answer.map(|receipts| receipts.into_iter().map(spoil).collect()))
    }

    fn read(&self, mut ranges: Vec<Range>, mut max: Budget) -> Answer<Page> {
        match self.fault {
            Fault::ReadsFromTheBeginning => ranges.iter_mut().for_each(|range| range.after = 0),
            Fault::IgnoresTheBudget => max = Budget::UNLIMITED,
            _ => {}
        }
        let asked = ranges.clone();
        let page = wait(self.shard.read(ranges, max));
        ready(page.map(|mut page| {
            match self.fault {
                Fault::LosesTheLastOfAPage => drop(page.messages.pop()),
                Fault::SwapsTwoOfAPage if page.messages.len() > 1 => page.messages.swap(0, 1),
                Fault::EndsAfterOnePage => (page.complete, page.through) = (true, page.head.pos),
                Fault::HidesFloors => page.floors.fill(0),
                Fault::ForgetsThatItDropped if page.messages.is_empty() => {
                    let unknown = |range: &Range| self.shard.stream(&range.stream).is_none_or(|it| it.n == 0);
                    let floors = page.floors.iter_mut().zip(&asked);
                    floors.filter(|(_, range)| unknown(range)).for_each(|(floor, _)| *floor = 0);
                }
                Fault::RaisesFloors => page.floors.iter_mut().for_each(|floor| *floor += 1),
                Fault::ForgetsPrev => page.messages.iter_mut().for_each(|message| message.prev = 0),
                _ => {}
            }
            page
        }))
    }

    fn session(&self, now: Timestamp, pid: Pid) -> Answer<Option<SessionRecord>> {
        let now = if self.fault == Fault::NeverExpiresSessions { Timestamp(0) } else { now };
        self.shard.session(now, pid)
    }

    fn cursors(&self, stream: &StreamName) -> Answer<Cursors> {
        self.shard.cursors(stream)
    }

    fn retain(&self, now: Timestamp) -> Answer<u64> {
        if self.fault == Fault::NeverForgetsOldOnes { ready(Ok(0)) } else { self.shard.retain(now) }
    }

    fn drop_idle(&self, through: u64) -> Answer<u64> {
        let through = if self.fault == Fault::DropsTooMuch { u64::MAX } else { through };
        if self.fault == Fault::DropsNothing { ready(Ok(0)) } else { self.shard.drop_idle(through) }
    }

    fn head(&self) -> Position {
        self.shard.head()
    }

    fn look_up(&self, stream: &StreamName) -> Result<Option<StreamInfo>, StoreError> {
        self.shard.look_up(stream)
    }

    fn stats(&self) -> Stats {
        let stats = self.shard.stats();
        if self.fault == Fault::CountsWrong { Stats { messages: stats.messages + 1, ..stats } } else { stats }
    }

    fn follow(&self, follower: Option<Follower>) {
        let fault = self.fault;
        let spoiled = follower.map(|follower| -> Follower {
            Arc::new(move |messages: &[Message]| match fault {
                Fault::TellsTwice => (0..2).for_each(|_| follower(messages)),
                Fault::TellsInReverse => follower(&messages.iter().rev().cloned().collect::<Vec<_>>()),
                Fault::TellsNobody => {}
                _ => follower(messages),
            })
        });
        self.shard.follow(spoiled);
    }
}
