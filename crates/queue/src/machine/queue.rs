//! One queue: what it allows, what it has, and the order in which that is given out.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use posthaste_history::store::Timestamp;
use rustc_hash::FxHashMap;

use super::bucket::Bucket;
use super::known::Known;
use super::line::Line;
use crate::port::{Config, ConsumerId, Counted, MessageId, Overflow, QueueName};

/// One queue. What few have, or only those at work, is in boxes: many are idle.
pub(super) struct Queue {
    pub name: QueueName,
    pub config: Arc<Config>,
    /// Whether it was told what it allows.
    pub is_configured: bool,
    pub is_paused: bool,
    pub is_draining: bool,
    /// It is listed as one with something to give.
    pub is_listed: bool,
    pub counts: Counts,
    /// Ready messages by priority, the highest first; only levels that have some.
    pub levels: Vec<Level>,
    /// Keys of messages in memory.
    pub keys: FxHashMap<Arc<str>, u32>,
    /// Who takes messages.
    pub consumers: u32,
    /// Those of them that can have one more, as their turns come.
    pub takers: VecDeque<ConsumerId>,
    pub rare: Option<Box<Rare>>,
    /// What happened since the start, if anything did.
    pub counted: Option<Box<Counted>>,
}

/// How much a queue has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub ready: u64,
    pub leased: u64,
    pub leased_bytes: u64,
    /// Those in memory and those far away.
    pub delayed: u64,
    pub dead: u64,
    /// Of all but the dead.
    pub bytes: u64,
    /// Messages to be ready later that are not in memory.
    pub far: u64,
    pub far_bytes: u64,
}

/// What few queues have.
#[derive(Default)]
pub(super) struct Rare {
    /// By when they died.
    pub dead: BTreeSet<(Timestamp, MessageId)>,
    pub known: Known,
    pub bucket: Option<Bucket>,
    /// Until then it has given as much as it may.
    pub rests_until: Timestamp,
    /// All that are neither leased nor dead, if the oldest may have to go.
    pub ages: Option<BTreeSet<MessageId>>,
}

/// Ready messages of one priority.
#[derive(Debug)]
pub(super) struct Level {
    pub priority: u8,
    /// Whose turn it is: messages with a key and those without alternate.
    pub is_keys_turn: bool,
    /// Those without a key.
    pub plain: Line,
    /// Keys with something to give, as their turns come. An entry may be out of date: the key says.
    pub turns: VecDeque<u32>,
}

impl Queue {
    pub(super) fn new(name: QueueName, config: Arc<Config>) -> Self {
        Self {
            name,
            config,
            is_configured: false,
            is_paused: false,
            is_draining: false,
            is_listed: false,
            counts: Counts::default(),
            levels: Vec::new(),
            keys: FxHashMap::default(),
            consumers: 0,
            takers: VecDeque::new(),
            rare: None,
            counted: None,
        }
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Whether the oldest message may have to go for a new one: then all stay in memory.
    pub(super) fn drops(&self) -> bool {
        self.config.overflow != Overflow::Reject
    }

    pub(super) fn level_mut(&mut self, priority: u8) -> &mut Level {
        let found = self.levels.iter().position(|level| level.priority <= priority);
        let at = found.unwrap_or(self.levels.len());
        if self.levels.get(at).is_none_or(|level| level.priority != priority) {
            let level = Level { priority, is_keys_turn: false, plain: Line::default(), turns: VecDeque::new() };
            self.levels.insert(at, level);
        }
        &mut self.levels[at]
    }

    /// A message without a key is ready no longer.
    pub(super) fn remove_plain(&mut self, priority: u8, id: MessageId) {
        let at = self.levels.iter().position(|level| level.priority == priority);
        let at = at.expect("invariant: a ready message has its level");
        self.levels[at].plain.remove(id);
        self.tidy(at);
    }

    /// Drops a level that has nothing.
    pub(super) fn tidy(&mut self, at: usize) {
        if self.levels[at].plain.is_empty() && self.levels[at].turns.is_empty() {
            self.levels.remove(at);
            if self.levels.is_empty() {
                self.levels = Vec::new();
            }
        }
    }
}

impl Counts {
    pub(super) fn messages(&self) -> u64 {
        self.ready + self.leased + self.delayed
    }
}
