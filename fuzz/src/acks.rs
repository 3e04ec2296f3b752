//! Awaited answers.

use std::time::{Duration, Instant};

use posthaste_socket_proto::{AckRefused, AckTable};

use crate::input::Input;

const MAX_PENDING: usize = 5;

/// Law: the table does what a plain list of deadline, socket, id and waiter would do, only faster.
pub(crate) fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let start = Instant::now();
    let at = |millis: u64| start + Duration::from_millis(millis);
    let mut acks = AckTable::new(MAX_PENDING);
    let mut model: Vec<(u64, u8, u64, usize)> = Vec::new();
    for waiter in 0..500 {
        if input.is_empty() {
            break;
        }
        let (operation, socket, id) = (input.below(4), input.byte() % 4, u64::from(input.byte() % 8));
        let key = (socket, id);
        match operation {
            0 => {
                let deadline = u64::from(input.byte() % 50);
                let expected = if model.iter().any(|entry| (entry.1, entry.2) == key) {
                    Err(AckRefused::Duplicate(waiter))
                } else if model.iter().filter(|entry| entry.1 == socket).count() == MAX_PENDING {
                    Err(AckRefused::Full(waiter))
                } else {
                    model.push((deadline, socket, id, waiter));
                    Ok(())
                };
                assert_eq!(acks.insert(socket, id, at(deadline), waiter), expected);
            }
            1 => {
                let found = model.iter().position(|entry| (entry.1, entry.2) == key);
                assert_eq!(acks.take(socket, id), found.map(|found| model.remove(found).3));
            }
            2 => {
                let mut expected: Vec<_> =
                    model.extract_if(.., |entry| entry.1 == socket).map(|entry| (entry.2, entry.3)).collect();
                expected.sort_unstable();
                assert_eq!(acks.remove_socket(socket), expected);
            }
            _ => {
                let now = u64::from(input.byte() % 50);
                let at_most = input.below(9);
                model.sort_unstable();
                let due = model.iter().take_while(|entry| entry.0 <= now).count().min(at_most);
                let expected: Vec<_> = model.drain(..due).map(|entry| (entry.1, entry.2, entry.3)).collect();
                assert_eq!(acks.expire(at(now)).take(at_most).collect::<Vec<_>>(), expected);
            }
        }
        assert_eq!((acks.len(), acks.is_empty()), (model.len(), model.is_empty()));
        assert_eq!(acks.next_deadline(), model.iter().map(|entry| at(entry.0)).min());
    }
}
