//! In which order a message is shown: to readers, to the follower, and to whoever waits for its receipt.

use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_history::Budget;
use posthaste_history::store::{Durability, Message, Put, Range, Store, StreamName, Timestamp, Write, wait};

#[test]
fn readers_find_a_message_before_the_follower_hears_it_and_its_receipt_comes_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = EmbeddedStore::open(Config::new(folder.path().join("data"))).expect("it opens");
    let shard = store.shard("/").expect("a shard");
    let room: StreamName = "room".into();
    let (heard, hears) = mpsc::channel::<u64>();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    shard.follow(Some(Arc::new(move |messages: &[Message]| {
        heard.send(messages[0].pos).expect("the test listens");
        // A follower must not block; this one does, so that nothing else can happen meanwhile.
        released.lock().expect("a lock").recv().expect("it is released");
    })));
    for durability in [Durability::Disk, Durability::Os] {
        let put = Put::new(&room, Bytes::from_static(b"hello"), durability);
        let mut receipt = pin!(shard.commit(Timestamp(1), vec![Write::Put(put)]));
        let pos = hears.recv().expect("it is heard");

        assert_eq!(shard.head().pos, pos, "{durability}: it is visible when the follower hears of it");
        assert_eq!(shard.stream(&room).map(|info| info.head), Some(pos));
        let page = wait(shard.read(vec![Range::after(&room, pos - 1)], Budget::UNLIMITED)).expect("it reads");
        assert_eq!(page.messages.len(), 1, "{durability}");
        let early = receipt.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(early, Poll::Pending), "{durability}: {early:?} before the follower has heard");

        release.send(()).expect("it waits");
        let receipts = wait(receipt).expect("a receipt");
        assert_eq!(receipts[0].position.pos, pos);
    }
}
