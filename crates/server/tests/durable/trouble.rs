//! A store that is full, or behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use posthaste::store::{
    Answer, Cursors, MemoryStore, Page, Range, Receipt, Retention, Shard, StoreError, StreamName, Timestamp, Write,
};
use posthaste::{AckError, Budget, Data, DurableError, Inbox, SendError, Socket};
use posthaste_history::Pid;
use posthaste_testkit::eventually;
use serde_json::json;

use crate::between::{Between, Through};
use crate::device::Device;
use crate::peer::Peer;
use crate::questions::{answer, last, question};
use crate::scene::Remains;

/// What is the matter with a store.
#[derive(Default)]
struct Trouble {
    /// No room for messages.
    is_full: AtomicBool,
    /// How many of the next calls find it behind.
    busy: AtomicU64,
    /// How many did.
    refused: AtomicU64,
}

impl Trouble {
    fn is_busy(&self) -> bool {
        let is = self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        self.refused.fetch_add(u64::from(is), Ordering::Relaxed);
        is
    }

    /// The store is behind for so many calls.
    fn delay(&self, calls: u64) {
        self.busy.store(calls, Ordering::Relaxed);
    }

    async fn is_over(&self) {
        eventually("it has caught up", async || self.busy.load(Ordering::Relaxed) == 0).await;
    }
}

impl Trouble {
    fn unless_busy<T: Send + 'static>(&self, answer: impl FnOnce() -> Answer<T>) -> Answer<T> {
        if self.is_busy() {
            return Box::pin(async { Err(StoreError::Busy { waiting_bytes: 1 }) });
        }
        answer()
    }
}

impl Between for Trouble {
    fn commit(&self, shard: &dyn Shard, now: Timestamp, writes: Vec<Write>) -> Answer<Vec<Receipt>> {
        let puts = writes.iter().any(|write| matches!(write, Write::Put(_)));
        if puts && self.is_full.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::Full { free_bytes: 7 }) });
        }
        self.unless_busy(|| shard.commit(now, writes))
    }

    fn read(&self, shard: &dyn Shard, ranges: Vec<Range>, max: Budget) -> Answer<Page> {
        self.unless_busy(|| shard.read(ranges, max))
    }

    fn cursors(&self, shard: &dyn Shard, stream: &StreamName) -> Answer<Cursors> {
        self.unless_busy(|| shard.cursors(stream))
    }
}

fn troubled() -> (Remains, Arc<Trouble>) {
    let trouble = Arc::new(Trouble::default());
    let store = MemoryStore::new(7, Retention::ROOM, posthaste_history::store::WindowLimits::default());
    (Remains::of(Arc::new(Through(Arc::new(store), trouble.clone()))), trouble)
}

#[tokio::test]
async fn a_full_store_takes_nothing_for_an_inbox_but_lets_devices_come_and_confirm() {
    let (remains, trouble) = troubled();
    let running = remains.serve_inboxes(Inbox::default());
    let io = &running.io;
    io.user("ada").emit("event", &0).await.unwrap();
    trouble.is_full.store(true, Ordering::Relaxed);
    let refused = io.user("ada").emit("event", &"lost").await;
    assert!(matches!(refused, Err(DurableError::Store(StoreError::Full { free_bytes: 7 }))), "{refused:?}");
    let mut phone = Device::connect(running.addr, "ada", "phone").await;
    let ids = phone.expect([json!(["event", 0])]).await;
    phone.answer(ids).await;
    eventually("it is confirmed", async || remains.kept("ada") == 0).await;
    trouble.is_full.store(false, Ordering::Relaxed);
    io.user("ada").emit("event", &1).await.unwrap();
    phone.expect([json!(["event", 1])]).await;
    assert_eq!(phone.sync().await, []);
}

#[tokio::test]
async fn an_inbox_waits_for_a_store_that_is_behind() {
    let (remains, trouble) = troubled();
    let running = remains.serve_inboxes(Inbox::default());
    let io = &running.io;
    trouble.delay(1);
    let refused = io.user("ada").emit("event", &"lost").await;
    assert!(matches!(refused, Err(DurableError::Store(StoreError::Busy { .. }))), "{refused:?}");
    for number in 0..3 {
        io.user("ada").emit("event", &number).await.unwrap();
    }
    // Where the device is, what its inbox has, where it is then: each is asked for again.
    trouble.delay(5);
    let mut phone = Device::connect(running.addr, "ada", "phone").await;
    let ids = phone.expect((0..3).map(|number| json!(["event", number]))).await;
    trouble.is_over().await;
    trouble.delay(3);
    phone.answer(ids).await;
    eventually("it is confirmed", async || remains.kept("ada") == 0).await;
    trouble.is_over().await;
    assert!(trouble.refused.load(Ordering::Relaxed) >= 9);
    drop(phone);
    let mut again = Device::connect(running.addr, "ada", "phone").await;
    assert_eq!(again.sync().await, []);
}

#[tokio::test]
async fn questions_are_refused_by_a_full_store_and_answers_are_not() {
    let (remains, trouble) = troubled();
    let (running, sockets) = remains.serve();
    let mut peer = Peer::join(running.addr).await;
    let socket = last(&sockets);
    let mut asked = socket.durable().emit_with_ack::<String>("question", &1);
    asked.stored().await.unwrap();
    trouble.is_full.store(true, Ordering::Relaxed);
    let refused = socket.durable().emit_with_ack::<()>("question", &2).await;
    let Err(AckError::Send(SendError::Durable(DurableError::Store(StoreError::Full { .. })))) = refused else {
        panic!("{refused:?}");
    };
    let (id, event) = question(&mut peer).await;
    assert_eq!(event, json!(["question", 1]));
    answer(&mut peer, id, r#""yes""#).await;
    assert_eq!(asked.await.unwrap(), "yes");
    peer.sync().await;
    assert_eq!(remains.open(&peer.id), 0);
}

#[tokio::test]
async fn what_was_answered_is_written_when_the_store_has_caught_up() {
    let (remains, trouble) = troubled();
    let (running, sockets) = remains.serve();
    let mut peer = Peer::join(running.addr).await;
    let asked = last(&sockets).durable().emit_with_ack::<String>("question", &1);
    let (id, _) = question(&mut peer).await;
    trouble.delay(3);
    answer(&mut peer, id, r#""yes""#).await;
    assert_eq!(asked.await.unwrap(), "yes", "whoever asked does not wait for that");
    eventually("the store knows", async || remains.open(&peer.id) == 0).await;
    assert_eq!(trouble.refused.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_room_that_a_store_was_too_far_behind_to_note_is_noted_when_it_has_caught_up() {
    let (remains, trouble) = troubled();
    let (running, _) = remains.serve_with(
        Retention::ROOM,
        |durable| durable,
        |io| {
            io.on("stroll", async |socket: Socket, Data((from, to)): Data<(String, String)>| {
                socket.join(to);
                socket.leave(from);
            });
        },
    );
    let mut peer = Peer::join(running.addr).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    trouble.delay(4);
    peer.client.ask(r#"["stroll","room","room:a"]"#, "[]").await;
    peer.client.ask(r#"["stroll","room:a","room:b"]"#, "[]").await;
    trouble.is_over().await;
    let pid = Pid::parse(&peer.memory.pid).unwrap();
    let rooms = async || remains.rooms(pid).await;
    eventually("the store knows", async || rooms().await.iter().any(|room| &**room == "r:room:b")).await;
    assert!(trouble.refused.load(Ordering::Relaxed) >= 4);

    // Killed: it comes back, and is where it was.
    let (next, sockets) = remains.serve();
    next.io.to("room:b").emit("missed", &()).await.unwrap();
    next.io.to("room").emit("not for it", &()).await.unwrap();
    let back = peer.memory.back(next.addr).await;
    assert!(back.recovered);
    assert_eq!(back.missed, [json!(["missed"])]);
    assert_eq!(last(&sockets).rooms().await.len(), 2);
}
