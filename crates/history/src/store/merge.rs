//! Many ranges as one list.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use crate::position::Position;
use crate::recovery::Budget;
use crate::store::port::{Message, Page};

/// Merges what several streams have by position, each position once, until the budget is spent; at least one message if there is
/// one. Of each part, one message more is read than is taken.
///
/// Each part has messages in order, none after `head`. `floors` are those of the parts.
///
/// # Errors
/// The first one of a part.
pub fn merge<E>(
    parts: impl IntoIterator<Item = impl Iterator<Item = Result<Message, E>>>,
    floors: Vec<u64>,
    head: Position,
    max: Budget,
) -> Result<Page, E> {
    let mut parts: Vec<Peekable<_>> = parts.into_iter().map(Iterator::peekable).collect();
    let mut next: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let announce = |parts: &mut Vec<Peekable<_>>, next: &mut BinaryHeap<_>, index: usize| {
        match parts[index].peek() {
            Some(Ok(message)) => next.push(Reverse((Message::pos(message), index))),
            // Where it would have been is not known: it is met first.
            Some(Err(_)) => next.push(Reverse((0, index))),
            None => {}
        }
    };
    for index in 0..parts.len() {
        announce(&mut parts, &mut next, index);
    }
    let mut page = Page { messages: Vec::new(), through: head.pos, complete: true, head, floors };
    let mut bytes = 0_usize;
    while let Some(Reverse((pos, index))) = next.pop() {
        let last = page.messages.last().map_or(0, |message: &Message| message.pos);
        if let Some(Ok(message)) = parts[index].peek()
            && pos > last
        {
            let is_much = page.messages.len() >= max.max_events || bytes + message.payload.len() > max.max_bytes;
            if is_much && !page.messages.is_empty() {
                page.complete = false;
                page.through = last;
                break;
            }
        }
        let Some(message) = parts[index].next().transpose()? else { continue };
        if message.pos > last {
            bytes += message.payload.len();
            page.messages.push(message);
        }
        announce(&mut parts, &mut next, index);
    }
    Ok(page)
}

impl Message {
    fn pos(&self) -> u64 {
        self.pos
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::position::Epoch;
    use crate::store::port::Timestamp;

    fn message(stream: usize, pos: u64) -> Message {
        let payload = Bytes::from(vec![0; (pos % 7) as usize]);
        Message { stream: format!("{stream}").into(), pos, prev: 0, n: 0, at: Timestamp(0), payload }
    }

    proptest! {
        #[test]
        fn pages_put_together_are_everything_once_and_in_order(
            streams in prop::collection::vec(prop::collection::btree_set(1..60_u64, 0..30), 0..6),
            max_events in 1..9_usize,
            max_bytes in 0..40_usize,
        ) {
            let expected: BTreeMap<u64, ()> = streams.iter().flatten().map(|pos| (*pos, ())).collect();
            let head = Position { epoch: Epoch(1), pos: 60 };
            let mut after = 0;
            let mut seen = Vec::new();
            loop {
                let parts = streams.iter().enumerate().map(|(stream, all)| {
                    all.iter().filter(move |pos| **pos > after).map(move |pos| Ok::<_, Infallible>(message(stream, *pos)))
                });
                let page = merge(parts, Vec::new(), head, Budget { max_bytes, max_events }).unwrap_or_else(|e| match e {});
                prop_assert!(page.messages.len() <= max_events);
                let bytes: usize = page.messages.iter().map(|message| message.payload.len()).sum();
                prop_assert!(bytes <= max_bytes || page.messages.len() == 1);
                seen.extend(page.messages.iter().map(|message| message.pos));
                prop_assert!(page.complete || page.through > after, "it goes on");
                after = page.through;
                if page.complete {
                    break;
                }
            }
            prop_assert_eq!(after, head.pos);
            prop_assert_eq!(seen, expected.into_keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_cannot_be_read_ends_the_page() {
        let parts = [vec![Ok(message(0, 1)), Ok(message(0, 4))], vec![Ok(message(1, 2)), Err("damaged")]];
        let head = Position { epoch: Epoch(1), pos: 9 };
        assert_eq!(merge(parts.map(Vec::into_iter), Vec::new(), head, Budget::UNLIMITED), Err("damaged"));
    }
}
