//! Messages by number: numbers are dense, so what is in memory lies in pages of 64, each no larger than what it holds.

use rustc_hash::FxHashMap;

use super::message::Message;
use crate::port::MessageId;

const BITS: u32 = 6;

/// Messages by number.
#[derive(Default)]
pub(super) struct Table {
    pages: FxHashMap<u64, Page>,
    len: usize,
}

/// Slots lie in the order of their numbers. A slot that is free is given back when half of a page is.
#[derive(Default)]
struct Page {
    /// Numbers that have a slot.
    slots: u64,
    /// Numbers whose slot has a message.
    live: u64,
    messages: Vec<Message>,
}

const fn split(id: MessageId) -> (u64, u64) {
    (id >> BITS, 1 << (id & ((1 << BITS) - 1)))
}

impl Page {
    const fn index(&self, bit: u64) -> usize {
        (self.slots & (bit - 1)).count_ones() as usize
    }

    fn compact(&mut self) {
        let mut bits = self.slots;
        let live = self.live;
        self.messages.retain(|_| {
            let bit = bits & bits.wrapping_neg();
            bits &= !bit;
            live & bit != 0
        });
        self.messages.shrink_to_fit();
        self.slots = live;
    }
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn contains(&self, id: MessageId) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn get(&self, id: MessageId) -> Option<&Message> {
        let (page, bit) = split(id);
        let page = self.pages.get(&page)?;
        (page.live & bit != 0).then(|| &page.messages[page.index(bit)])
    }

    pub(super) fn get_mut(&mut self, id: MessageId) -> Option<&mut Message> {
        let (page, bit) = split(id);
        let page = self.pages.get_mut(&page)?;
        if page.live & bit == 0 {
            return None;
        }
        let index = page.index(bit);
        Some(&mut page.messages[index])
    }

    pub(super) fn insert(&mut self, id: MessageId, message: Message) {
        let (page, bit) = split(id);
        let page = self.pages.entry(page).or_default();
        assert!(page.live & bit == 0, "invariant: message {id} comes once");
        let index = page.index(bit);
        if page.slots & bit == 0 {
            page.messages.insert(index, message);
        } else {
            page.messages[index] = message;
        }
        page.slots |= bit;
        page.live |= bit;
        self.len += 1;
    }

    pub(super) fn remove(&mut self, id: MessageId) -> Option<Message> {
        let (number, bit) = split(id);
        let page = self.pages.get_mut(&number)?;
        if page.live & bit == 0 {
            return None;
        }
        let index = page.index(bit);
        let message = std::mem::take(&mut page.messages[index]);
        page.live &= !bit;
        self.len -= 1;
        if page.live == 0 {
            self.pages.remove(&number);
        } else if page.live.count_ones() * 2 < page.slots.count_ones() {
            page.compact();
        }
        Some(message)
    }

    /// All numbers, in no order.
    pub(super) fn ids(&self) -> impl Iterator<Item = MessageId> + '_ {
        self.pages.iter().flat_map(|(number, page)| {
            (0..1 << BITS).filter(|bit| page.live & (1 << bit) != 0).map(move |bit| (number << BITS) | bit)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! { // model: a map
        #[test]
        fn messages_are_found_by_number_whatever_came_and_went(steps in prop::collection::vec((any::<bool>(), 1u64..300), 0..600)) {
            let (mut table, mut model) = (Table::default(), std::collections::BTreeMap::new());
            for (comes, id) in steps {
                if comes && !model.contains_key(&id) {
                    table.insert(id, Message { cost: id as u32, ..Message::default() });
                    model.insert(id, id as u32);
                } else if !comes {
                    prop_assert_eq!(table.remove(id).map(|message| message.cost), model.remove(&id));
                }
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.get(id).map(|message| message.cost), model.get(&id).copied());
            }
            let mut ids: Vec<_> = table.ids().collect();
            ids.sort_unstable();
            prop_assert!(ids.iter().eq(model.keys()));
            prop_assert!(model.keys().all(|id| table.get(*id).is_some_and(|message| u64::from(message.cost) == *id)));
        }
    }
}
