//! The shard of a namespace.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use posthaste_adapter::{Flags, Packet, Room, Rooms, Target};
use posthaste_history::store::{
    Answer, Durability, Message, Put, Receipt, Retention, Shard, Store, StoreError, StreamName, Timestamp, Write, wait,
};
use posthaste_history::{Budget, Epoch, Offset, OffsetKey, Position};
use tokio::sync::watch;

use super::idle::MARKS;
use super::pages::Pages;
use super::questions::Questions;
use super::readers::Readers;
use super::sessions::Untaken;
use super::{Allowances, Durable, Form, Rule};
use crate::local;
use crate::namespace::NamespaceInner;

/// The stream of a room.
const ROOM: &str = "r:";
/// The stream of what everybody is sent.
const EVERYBODY: &str = "a:";
/// The inbox of somebody.
const INBOX: &str = "u:";
/// Where the key of offsets is kept, in the main namespace's shard.
const KEY: &str = "k:offsets";
/// How long a store that is behind is left alone.
pub(crate) const BUSY: Duration = Duration::from_millis(50);
/// Of how many streams it is remembered that they were told how much to keep.
const MAX_TOLD: usize = 100_000;

/// What a namespace keeps in its shard of the store.
pub(crate) struct Keeper {
    shard: Arc<dyn Shard>,
    key: OffsetKey,
    epoch: Epoch,
    settings: Durable,
    max_name: usize,
    rules: RwLock<Arc<Vec<Rule>>>,
    /// Streams that were told how much to keep, and whether that was committed: a store that is full, or behind, has not heard it.
    told: Mutex<HashMap<StreamName, bool>>,
    /// Sessions that the store was too far behind to take.
    untaken: Untaken,
    /// The position of the last event.
    news: watch::Sender<u64>,
    /// Inboxes that are read here.
    readers: Readers,
    /// What is being replayed.
    pages: Pages,
    /// When to look next for what may be forgotten.
    pub(super) forgetting: Mutex<Option<Instant>>,
    /// How much that may be, for each; one for all namespaces.
    allowances: Arc<Allowances>,
    /// What clients have not answered.
    questions: Questions,
}

/// The time of day.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The key of a store's offsets: made when the store is new. Blocks.
pub(crate) fn offset_key(store: &dyn Store, random: [u8; 16]) -> Result<OffsetKey, StoreError> {
    let shard = store.shard("/")?;
    let stream = StreamName::from(KEY);
    let page = wait(shard.read(vec![posthaste_history::store::Range::after(&stream, 0)], Budget::UNLIMITED))?;
    if let Some(message) = page.messages.first() {
        let bytes = <[u8; 16]>::try_from(&*message.payload);
        let bytes = bytes.map_err(|_| StoreError::Damaged("the key of offsets has another length".into()))?;
        return Ok(OffsetKey::from_bytes(bytes));
    }
    let put = Put::new(&stream, Bytes::copy_from_slice(&random), store.capabilities().durability);
    let retain = Write::Retain { stream, retention: Retention::UNLIMITED };
    wait(shard.commit(now(), vec![retain, Write::Put(put)]))?;
    Ok(OffsetKey::from_bytes(random))
}

impl Keeper {
    /// Opens the shard of a namespace. May block.
    pub(crate) fn open(
        settings: &Durable,
        key: OffsetKey,
        allowances: Arc<Allowances>,
        namespace: &str,
    ) -> Result<Self, StoreError> {
        let shard = settings.store.shard(namespace)?;
        let max_name = settings.store.capabilities().max_name;
        let head = shard.head();
        Ok(Self {
            shard,
            key,
            epoch: head.epoch,
            settings: settings.clone(),
            max_name,
            rules: RwLock::default(),
            told: Mutex::default(),
            untaken: Untaken::default(),
            news: watch::Sender::new(head.pos),
            readers: Readers::default(),
            pages: Pages::default(),
            forgetting: Mutex::default(),
            allowances,
            questions: Questions::new(),
        })
    }

    /// Has what is committed from now on sent to the sockets of its namespace.
    pub(crate) fn follow(self: &Arc<Self>, namespace: Weak<NamespaceInner>) {
        let this = Arc::downgrade(self);
        self.shard.follow(Some(Arc::new(move |messages: &[Message]| {
            let (Some(this), Some(namespace)) = (this.upgrade(), namespace.upgrade()) else { return };
            this.publish(&namespace, messages);
        })));
        self.shard.answer_within(Arc::new(posthaste_engine::together));
    }

    fn publish(&self, namespace: &Arc<NamespaceInner>, messages: &[Message]) {
        {
            let mut told = lock(&self.told);
            for message in messages {
                // Committed with it, or before it.
                if let Some(has_heard) = told.get_mut(&message.stream) {
                    *has_heard = true;
                }
            }
        }
        for copies in messages.chunk_by(|one, next| one.pos == next.pos) {
            let pos = copies[0].pos;
            let is_for_all = copies.iter().any(|copy| &*copy.stream == EVERYBODY);
            let rooms: Rooms = copies.iter().filter_map(|copy| room_of(&copy.stream)).collect();
            if is_for_all || !rooms.is_empty() {
                match Form::decode(copies[0].payload.clone()) {
                    Some(Form { except, compress, packet }) => {
                        let rooms = if is_for_all { Rooms::new() } else { rooms };
                        let flags = Flags { compress, ..Flags::default() };
                        local::publish_stored(namespace, pos, Target { rooms, except, flags }, &packet);
                    }
                    None => tracing::error!(pos, "what was committed is no event"),
                }
            }
            if &*copies[0].stream == MARKS {
                local::pass_stored(namespace, pos);
            }
            copies.iter().for_each(|copy| self.ask(namespace, copy));
            self.news.send_replace(pos);
        }
        let inboxes = messages.iter().map(|message| &message.stream).filter(|stream| stream.starts_with(INBOX));
        local::tell_readers(namespace, &self.readers, inboxes);
    }

    /// The last position that readers see.
    pub(crate) fn head(&self) -> Position {
        self.shard.head()
    }

    pub(crate) fn shard(&self) -> &Arc<dyn Shard> {
        &self.shard
    }

    pub(super) const fn untaken(&self) -> &Untaken {
        &self.untaken
    }

    pub(crate) const fn settings(&self) -> &Durable {
        &self.settings
    }

    /// The text of a position in the store.
    pub(crate) fn offset(&self, pos: u64) -> Offset {
        self.key.write(self.position(pos))
    }

    pub(crate) const fn position(&self, pos: u64) -> Position {
        Position { epoch: self.epoch, pos }
    }

    /// The position of a text, if it is one of the store's.
    pub(crate) fn read_offset(&self, text: &str) -> Option<Position> {
        self.key.read(text)
    }

    /// Tells of the position of the last event, now and whenever there is another.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Adds a rule, behind those there are.
    pub(crate) fn add_rule(&self, rule: Rule) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = rules.to_vec();
        all.push(rule);
        *rules = all.into();
        drop(rules);
        // A stream may have to keep something else now.
        self.tell_anew();
    }

    /// Has every stream told how much to keep when something next comes in.
    pub(super) fn tell_anew(&self) {
        lock(&self.told).clear();
    }

    /// Whether a rule says so of one of these rooms.
    pub(crate) fn is_durable(&self, rooms: &[Room]) -> bool {
        let rules = self.rules();
        !rules.is_empty() && rooms.iter().any(|room| rules.iter().any(|rule| rule.pattern.matches(room).is_some()))
    }

    fn rules(&self) -> Arc<Vec<Rule>> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Commits an event; its target's sockets are sent it when that is done.
    pub(crate) fn put(
        &self,
        target: &Target,
        packet: &Packet,
        key: Option<Bytes>,
        wanted: Option<Durability>,
    ) -> Answer<Vec<Receipt>> {
        let Target { rooms, except, flags } = target;
        let form = Form { except: except.clone(), compress: flags.compress, packet: packet.clone() };
        let mut streams: Vec<StreamName> = Vec::with_capacity(rooms.len().max(1));
        let mut writes = Vec::with_capacity(1);
        if rooms.is_empty() {
            streams.push(EVERYBODY.into());
        }
        let rules = self.rules();
        let most = self.settings.durability;
        // In several rooms it is as durable as the strictest of them asks for.
        let mut asked = None;
        for room in rooms {
            let stream = stream_of(room);
            if streams.contains(&stream) {
                continue;
            }
            let rule = rules.iter().find(|rule| rule.pattern.matches(room).is_some());
            let policy = rule.map(|rule| rule.policy);
            asked = asked.max(policy.and_then(|policy| policy.durability).or(Some(most)));
            writes.extend(policy.and_then(|policy| self.retain_as(&stream, policy.retention)));
            streams.push(stream);
        }
        let durability = asked.unwrap_or(most).min(wanted.unwrap_or(most)).min(most);
        writes.push(Write::Put(Put { streams, payload: form.encode(), durability, key }));
        self.shard.commit(now(), writes)
    }

    /// Commits an event to an inbox; whoever reads it here is told when that is done.
    pub(crate) fn put_to_inbox(
        &self,
        identity: &str,
        packet: Packet,
        compress: bool,
        key: Option<Bytes>,
    ) -> Answer<Vec<Receipt>> {
        let stream = inbox_of(identity);
        let payload = Form { except: Rooms::new(), compress, packet }.encode();
        let told = self.settings.inbox.as_ref().and_then(|inbox| self.retain_as(&stream, inbox.retention));
        let mut writes: Vec<Write> = told.into_iter().collect();
        writes.push(Write::Put(Put { streams: vec![stream], payload, durability: self.settings.durability, key }));
        self.shard.commit(now(), writes)
    }

    /// Has a stream keep so much, unless it was told and has heard it.
    pub(super) fn retain_as(&self, stream: &StreamName, retention: Retention) -> Option<Write> {
        let mut told = lock(&self.told);
        if told.get(stream) == Some(&true) {
            return None;
        }
        if told.len() > MAX_TOLD {
            told.clear();
        }
        told.insert(stream.clone(), false);
        Some(Write::Retain { stream: stream.clone(), retention })
    }

    /// What clients were asked and have not answered.
    pub(crate) const fn questions(&self) -> &Questions {
        &self.questions
    }

    /// Who reads which inbox here.
    pub(crate) const fn readers(&self) -> &Readers {
        &self.readers
    }

    /// What is being replayed.
    pub(crate) const fn pages(&self) -> &Pages {
        &self.pages
    }

    /// How much may be sent again to whom.
    pub(crate) const fn allowances(&self) -> &Arc<Allowances> {
        &self.allowances
    }

    /// Has the store know how far devices of an inbox have come, and change it so.
    pub(crate) fn write_cursors(&self, inbox: &StreamName, change: Vec<Write>) -> Answer<Vec<Receipt>> {
        self.readers.write_of(inbox, |mut writes| {
            writes.extend(change);
            self.shard.commit(now(), writes)
        })
    }

    /// A device has everything of an inbox up to `pos`. Returns whether [`Keeper::write_moved`] is to be run.
    pub(crate) fn move_cursor(&self, inbox: &StreamName, device: &Arc<str>, pos: u64) -> bool {
        self.readers.moved(inbox, device, pos)
    }

    /// Has the store know of cursors that have moved, those that move meanwhile together with the next.
    pub(crate) async fn write_moved(&self) {
        loop {
            // What else moves in this turn is written with it.
            tokio::task::yield_now().await;
            let mut written = Vec::new();
            let commit = |writes: Vec<Write>| {
                written.clone_from(&writes);
                self.shard.commit(now(), writes)
            };
            let Some(answer) = self.readers.write(commit) else { return };
            match answer.await {
                Ok(_) => {}
                Err(StoreError::Busy { .. }) => {
                    for write in written {
                        if let Write::Cursor { stream, device, pos } = write {
                            self.readers.moved(&stream, &device, pos);
                        }
                    }
                    tokio::time::sleep(BUSY).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "cursors of inboxes were not stored: what was confirmed may be sent again");
                }
            }
        }
    }

    /// When a session expires that is there now.
    pub(crate) fn expires(&self) -> Timestamp {
        let away = u64::try_from(self.settings.max_away.as_millis()).unwrap_or(u64::MAX);
        Timestamp(now().0.saturating_add(away))
    }

    /// Whether a room may be a stream. Others are rooms like any, but nothing of them is kept.
    pub(crate) fn takes(&self, stream: &StreamName) -> bool {
        stream.len() <= self.max_name
    }
}

/// The stream of a room.
pub(crate) fn stream_of(room: &Room) -> StreamName {
    [ROOM, room].concat().into()
}

/// The inbox of an identity.
pub(crate) fn inbox_of(identity: &str) -> StreamName {
    [INBOX, identity].concat().into()
}

/// The room whose stream this is.
pub(crate) fn room_of(stream: &str) -> Option<Room> {
    stream.strip_prefix(ROOM).map(Room::from)
}

/// The stream of what everybody is sent.
pub(crate) fn everybody() -> StreamName {
    EVERYBODY.into()
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
