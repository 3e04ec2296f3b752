//! Messages that are to be ready later: seen whatever others wait, whether they are in memory or not.

mod site;

use posthaste_history::store::Timestamp;
use posthaste_queue::*;
use site::*;

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600_000;

/// A site that holds few of them in memory.
fn site() -> Site {
    Site::with(Limits { near: 4, ..MemoryQueues::limits() })
}

fn put_later(site: &Site, queue: &str, count: usize, after: u64) {
    for first in (0..count).step_by(10_000) {
        let put = Put { due: Some(Timestamp(site.now + after)), ..message(queue, "") };
        let puts = vec![put; (count - first).min(10_000)];
        assert!(matches!(site.ask(Command::Put(puts)), Ok(Outcome::Put(_))));
    }
}

fn page(site: &Site, queue: &str, after: MessageId, max: usize) -> (Vec<MessageId>, Option<MessageId>) {
    match site.ask(Command::Peek { queue: name(queue), state: State::Delayed, after, max }) {
        Ok(Outcome::Page(found, next)) => (found.iter().map(|it| it.id).collect(), next),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_queue_shows_what_is_for_later_behind_any_number_of_others() {
    let site = site();
    put_later(&site, "busy", 110_000, HOUR);
    put_later(&site, "small", 3, 2 * HOUR);
    assert_eq!(site.counts("small"), [0, 0, 3, 0]);
    assert_eq!(page(&site, "small", 0, 100), (vec![110_001, 110_002, 110_003], None));
    assert_eq!(page(&site, "small", 0, 2), (vec![110_001, 110_002], Some(110_002)));
    assert_eq!(page(&site, "small", 110_002, 2), (vec![110_003], None));
    assert_eq!(page(&site, "busy", 0, 2), (vec![1, 2], Some(2)));
    assert_eq!(page(&site, "busy", 109_998, 10), (vec![109_999, 110_000], None));
}

#[test]
fn a_look_goes_through_no_more_than_so_many_and_says_where_to_go_on() {
    let mut site = site();
    put_later(&site, "q", 20_000, SECOND);
    put_later(&site, "q", 50, HOUR);
    site.pass(SECOND);
    assert_eq!(site.counts("q"), [20_000, 0, 50, 0]);
    let (found, next) = page(&site, "q", 0, 100);
    let next = next.expect("there is more");
    assert!(found.is_empty() && (1_000..20_000).contains(&next), "{found:?} up to {next}");
    let (found, next) = page(&site, "q", next, 100);
    assert_eq!((found, next), ((20_001..=20_050).collect(), None));
}

#[test]
fn pages_have_what_is_in_memory_and_what_is_not_by_number() {
    let site = site();
    // The later a message was put, the sooner it is ready: those with the greatest numbers are in memory.
    for after in (1..=40).rev() {
        put_later(&site, "q", 1, after * HOUR);
        put_later(&site, "other", 1, after * HOUR);
    }
    for max in [1, 3, 40, 100] {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let (found, next) = page(&site, "q", after, max);
            assert!(found.len() <= max);
            all.extend(found);
            let Some(next) = next else { break };
            assert!(next > after);
            after = next;
        }
        assert!(all.iter().copied().eq((1..=79).step_by(2)), "pages of {max}: {all:?}");
    }
}
