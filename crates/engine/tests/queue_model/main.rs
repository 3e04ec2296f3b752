//! The queue between threads, on a model checker: every interleaving of a few threads, and every value that a load may see.
//!
//! The file under test is compiled here on loom's primitives instead of the standard library's.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]

#[path = "../../src/worker/queue.rs"]
mod queue;
mod sync;

use std::sync::Mutex;

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use queue::{HIGH, Queue};

fn model(check: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    // More than this many switches in one run have found nothing that fewer did not, and take minutes.
    model.preemption_bound = Some(2);
    model.check(check);
}

/// Takes until `count` have come, waiting for a word each time there is nothing.
fn take(queue: &Queue<(u8, u8)>, count: usize) -> Vec<(u8, u8)> {
    let (mut all, mut batch) = (Vec::new(), Vec::new());
    while all.len() < count {
        if queue.has_some() {
            queue.take(&mut batch);
            all.append(&mut batch);
        } else {
            block_on(queue.notify.notified());
        }
    }
    all
}

/// As the mailbox does it.
fn put<T>(queue: &Queue<T>, entry: T, bytes: usize) -> Result<bool, T> {
    let entered = queue.put(entry, bytes)?;
    if entered.is_first {
        queue.notify.notify_one();
    }
    Ok(entered.is_behind)
}

#[test]
fn what_is_put_in_is_taken_once_and_in_its_order_and_nobody_sleeps_over_it() {
    model(|| {
        let queue = Arc::new(Queue::new());
        let putting: Vec<_> = (0..2)
            .map(|thread| {
                let queue = queue.clone();
                thread::spawn(move || {
                    for number in 0..2 {
                        assert_eq!(put(&queue, (thread, number), 0), Ok(false));
                    }
                })
            })
            .collect();
        // Hangs, and the model fails, if a word is missing.
        let all = take(&queue, 4);
        for thread in 0..2 {
            let numbers: Vec<_> = all.iter().filter(|(from, _)| *from == thread).map(|(_, number)| *number).collect();
            assert_eq!(numbers, [0, 1], "of {all:?}");
        }
        putting.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!queue.has_some() || take(&queue, 0).is_empty());
    });
}

/// One puts several in and notifies once, after them; another one's word is not missing for that.
#[test]
fn a_notification_that_is_put_off_is_one_for_all() {
    model(|| {
        let queue = Arc::new(Queue::new());
        let late = {
            let queue = queue.clone();
            thread::spawn(move || {
                let is_first = (0..2).map(|number| queue.put((0, number), 0).unwrap().is_first);
                // Another one may have taken, or put, in between: then both, or none, found it empty.
                if is_first.fold(false, |any, is_first| any | is_first) {
                    queue.notify.notify_one();
                }
            })
        };
        let other = {
            let queue = queue.clone();
            thread::spawn(move || assert_eq!(put(&queue, (1, 0), 0), Ok(false)))
        };
        assert_eq!(take(&queue, 3).len(), 3);
        late.join().unwrap();
        other.join().unwrap();
    });
}

/// A puts something in and tells B; B, who takes for itself, finds it: a broadcast does not overtake the one that provoked it.
#[test]
fn what_somebody_knows_to_have_been_put_in_is_found() {
    model(|| {
        let (queue, said) = (Arc::new(Queue::new()), Arc::new(AtomicBool::new(false)));
        let putting = {
            let (queue, said) = (queue.clone(), said.clone());
            thread::spawn(move || {
                put(&queue, (0, 0), 0).unwrap();
                said.store(true, Ordering::Release);
            })
        };
        let other = {
            let queue = queue.clone();
            thread::spawn(move || assert_eq!(put(&queue, (1, 0), 0), Ok(false)))
        };
        let (mut all, mut batch) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let heard = said.load(Ordering::Acquire);
            if queue.has_some() {
                queue.take(&mut batch);
                all.append(&mut batch);
            }
            assert!(!heard || all.contains(&(0, 0)), "it was put in before it was said");
        }
        putting.join().unwrap();
        other.join().unwrap();
    });
}

/// Whoever waits until the worker has caught up hears of it, whenever it begins to wait.
#[test]
fn whoever_waits_for_what_is_too_much_is_told_when_it_was_taken() {
    model(|| {
        let queue = Arc::new(Queue::new());
        let putting = {
            let queue = queue.clone();
            thread::spawn(move || {
                if put(&queue, (0, 0), HIGH + 1).unwrap() {
                    block_on(queue.caught_up());
                }
            })
        };
        assert_eq!(take(&queue, 1), [(0, 0)]);
        putting.join().unwrap();
        assert!(!queue.is_behind());
    });
}

/// What is put in while the queue is closed is either given back or dropped with the rest: nobody keeps it.
#[test]
fn what_comes_at_the_end_is_given_back_or_dropped_and_whoever_waits_is_let_go() {
    model(|| {
        let queue = Arc::new(Queue::new());
        let alive = std::sync::Arc::new(Mutex::new(()));
        let putting = {
            let (queue, entry) = (queue.clone(), alive.clone());
            thread::spawn(move || match put(&queue, entry, HIGH + 1) {
                Ok(true) => block_on(queue.caught_up()),
                Ok(false) => unreachable!("it is too much"),
                Err(back) => drop(back),
            })
        };
        queue.close();
        putting.join().unwrap();
        assert!(queue.is_closed() && !queue.is_behind());
        assert_eq!(std::sync::Arc::strong_count(&alive), 1, "nothing is kept");
    });
}
