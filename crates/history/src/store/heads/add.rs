//! Commits become a group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Group, Heads, Record, Source};
use crate::position::Position;
use crate::store::port::{Capabilities, Durability, Message, Put, Receipt, StoreError, StreamName, Timestamp, Write};
use crate::store::window::Remembered;

impl Heads {
    /// Begins a group.
    pub fn begin(&mut self) -> Group {
        self.group += 1;
        Group {
            number: self.group,
            durability: Durability::Memory,
            created: Vec::new(),
            records: Vec::new(),
            keys: Vec::new(),
            retentions: Vec::new(),
            trims: Vec::new(),
            cursors: BTreeMap::new(),
            sessions: Vec::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Takes back a group that nothing was added to.
    pub fn cancel(&mut self, group: &Group) {
        debug_assert!(group.is_empty() && group.number == self.group);
        self.group -= 1;
    }

    /// Adds one commit to a group: all of it, or an error and nothing. Receipts promise what the store reaches for what was asked.
    /// A stream that is not in memory is a new one.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for what cannot be; the errors of `source`.
    pub fn add(
        &mut self,
        group: &mut Group,
        now: Timestamp,
        writes: Vec<Write>,
        source: &impl Source,
    ) -> Result<Vec<Receipt>, StoreError> {
        self.check(&writes)?;
        let cursors = self.cursors_of(group, &writes, source)?;
        for ((name, device), pos) in cursors {
            let id = self.touch(group, &name);
            if pos.is_none() {
                self.hold_floor(group, &name);
            }
            group.cursors.insert((id, device), pos);
        }
        let mut receipts = Vec::new();
        for write in writes {
            match write {
                Write::Put(put) => receipts.push(self.put(group, now, put)),
                Write::Retain { stream, retention } => {
                    let id = self.touch(group, &stream);
                    self.hold_floor(group, &stream);
                    if let Some(hot) = self.streams.get_mut(&stream) {
                        hot.head.retention = Some(retention);
                    }
                    group.retentions.push((id, retention));
                }
                Write::Trim { stream, through } => {
                    let id = self.touch(group, &stream);
                    group.trims.push((id, through));
                }
                Write::Cursor { .. } | Write::ForgetCursor { .. } => {}
                Write::Session { pid, record } => group.sessions.push((pid, record)),
            }
        }
        Ok(receipts)
    }

    /// Has a group say up to where a stream is forgotten: by what is kept from then on, a store that reads the group again could not tell.
    fn hold_floor(&self, group: &mut Group, name: &StreamName) {
        let head = self.streams.get(name).map(|hot| &hot.head).filter(|head| head.floor > 0);
        group.trims.extend(head.map(|head| (head.id, head.floor)));
    }

    fn check(&self, writes: &[Write]) -> Result<(), StoreError> {
        let Capabilities { durability, max_payload, max_name, max_writes, .. } = self.capabilities;
        let refuse = |why: String| Err(StoreError::Refused(why));
        if writes.len() > max_writes {
            return refuse(format!("{} writes at once, of {max_writes}", writes.len()));
        }
        for write in writes {
            let (streams, text): (&[StreamName], usize) = match write {
                Write::Put(put) => {
                    if put.streams.is_empty() {
                        return refuse("a message without a stream".into());
                    }
                    if put.payload.len() > max_payload {
                        return refuse(format!("a payload of {} bytes, of {max_payload}", put.payload.len()));
                    }
                    if put.durability > durability {
                        return refuse(format!("{} is more than this store reaches, {durability}", put.durability));
                    }
                    (&put.streams, put.key.as_ref().map_or(0, bytes::Bytes::len))
                }
                Write::Retain { stream, .. } => (std::slice::from_ref(stream), 0),
                Write::Trim { stream, through } => {
                    if *through > self.head {
                        return refuse(format!("trimming to {through}, while the shard is at {}", self.head));
                    }
                    (std::slice::from_ref(stream), 0)
                }
                Write::Cursor { stream, device, pos } => {
                    if *pos > self.head {
                        return refuse(format!("a cursor at {pos}, while the shard is at {}", self.head));
                    }
                    (std::slice::from_ref(stream), device.len())
                }
                Write::ForgetCursor { stream, device } => (std::slice::from_ref(stream), device.len()),
                Write::Session { .. } => (&[], 0),
            };
            if text > max_name || streams.iter().any(|name| name.len() > max_name) {
                return refuse(format!("a name or key of more than {max_name} bytes"));
            }
        }
        Ok(())
    }

    /// Where cursors will be: what is new only. One that would move back is not in it.
    #[expect(clippy::type_complexity, reason = "a local list")]
    fn cursors_of(
        &self,
        group: &Group,
        writes: &[Write],
        source: &impl Source,
    ) -> Result<BTreeMap<(StreamName, Arc<str>), Option<u64>>, StoreError> {
        let mut cursors = BTreeMap::new();
        for write in writes {
            let (stream, device, pos) = match write {
                Write::Cursor { stream, device, pos } => (stream, device, Some(*pos)),
                Write::ForgetCursor { stream, device } => (stream, device, None),
                _ => continue,
            };
            let place = (stream.clone(), device.clone());
            let id = self.streams.get(stream).map(|hot| hot.head.id);
            let there = match (cursors.get(&place), id) {
                (Some(there), _) => *there,
                (None, None) => None,
                (None, Some(id)) => match group.cursors.get(&(id, device.clone())) {
                    Some(there) => *there,
                    None => source.cursor(id, device)?,
                },
            };
            // `None` is less than every position: a new cursor is always written, one that goes back never.
            if pos.is_none() && there.is_some() || pos > there {
                cursors.insert(place, pos);
            }
        }
        Ok(cursors)
    }

    /// The number of a stream that something happens to.
    fn touch(&mut self, group: &mut Group, name: &StreamName) -> u64 {
        let id = match self.streams.get_mut(name) {
            Some(hot) => {
                hot.is_used = true;
                hot.head.id
            }
            None => {
                // It begins here: what others did before is not its past.
                let head = self.unknown();
                let id = head.id;
                self.next_stream += 1;
                self.totals.streams += 1;
                self.admit(name, head);
                group.created.push((name.clone(), id));
                id
            }
        };
        if !group.touched.contains(name) {
            group.touched.insert(name.clone());
        }
        id
    }

    fn put(&mut self, group: &mut Group, now: Timestamp, put: Put) -> Receipt {
        group.durability = group.durability.max(put.durability);
        let first = self.touch(group, &put.streams[0]);
        let epoch = self.epoch;
        if let Some(key) = &put.key
            && let Some(there) = self.window.find(now, first, key)
        {
            let position = Position { epoch, pos: there.pos };
            return Receipt { position, n: there.n, dup: true, durability: put.durability };
        }
        self.head += 1;
        let (pos, cost) = (self.head, put.cost());
        let mut first_n = None;
        for name in &put.streams {
            let id = self.touch(group, name);
            let head = &mut self.streams.get_mut(name).expect("invariant: a touched stream is there").head;
            if head.head == pos {
                continue; // Named twice.
            }
            if head.n == head.floor_n {
                head.oldest = Some(now);
                self.totals.filled += 1;
            }
            self.totals.messages += 1;
            self.totals.bytes += cost;
            let prev = std::mem::replace(&mut head.head, pos);
            head.n += 1;
            head.bytes += cost;
            first_n.get_or_insert(head.n);
            let (n, payload) = (head.n, put.payload.clone());
            let message = Message { stream: name.clone(), pos, prev, n, at: now, payload };
            group.records.push(Record { stream: id, cost, message });
        }
        let n = first_n.expect("invariant: a message has a stream");
        if let Some(key) = put.key {
            let remembered = Remembered { stream: first, key, at: now, pos, n };
            group.keys.push(remembered.clone());
            self.window.remember(remembered);
        }
        Receipt { position: Position { epoch, pos }, n, dup: false, durability: put.durability }
    }
}
