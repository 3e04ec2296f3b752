//! A store of queues whose disk is full: nothing is taken in, and what is there is worked off. And one that is behind: it settles later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use posthaste::WorkQueues;
use posthaste::queue::{Capabilities, Command, Listener, MemoryQueues, Outcome, Queues, Refusal};
use posthaste::store::{Answer, StoreError, Timestamp};
use serde_json::json;

use crate::scene::{Party, serving};

/// Queues in memory, on a disk that may be full, or behind.
struct OnDisk {
    queues: MemoryQueues,
    is_full: Arc<AtomicBool>,
    /// How often it is too busy to settle.
    busy: Arc<AtomicUsize>,
}

impl OnDisk {
    fn new() -> Self {
        let queues = MemoryQueues::new(MemoryQueues::limits(), 7);
        Self { queues, is_full: Arc::default(), busy: Arc::default() }
    }
}

impl Queues for OnDisk {
    fn ask(&self, now: Timestamp, command: Command) -> Answer<Result<Outcome, Refusal>> {
        if matches!(command, Command::Put(_)) && self.is_full.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::Full { free_bytes: 7 }) });
        }
        let less = |busy: usize| busy.checked_sub(1);
        if matches!(command, Command::Settle(_))
            && self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
        {
            return Box::pin(async { Err(StoreError::Busy { waiting_bytes: 7 }) });
        }
        self.queues.ask(now, command)
    }

    fn tick(&self, now: Timestamp) -> Option<Timestamp> {
        self.queues.tick(now)
    }

    fn listen(&self, listener: Option<Listener>) {
        self.queues.listen(listener);
    }

    fn capabilities(&self) -> Capabilities {
        self.queues.capabilities()
    }
}

#[tokio::test]
async fn a_full_disk_refuses_messages_with_a_time_to_try_again_and_settles_what_is_there() {
    let queues = OnDisk::new();
    let is_full = queues.is_full.clone();
    let running = serving(WorkQueues::new(Arc::new(queues)).open_to_all());
    let mut party = Party::join(running.addr).await;
    for number in 0..4 {
        party.ok(json!(["q:put", "work", number])).await;
    }
    party.ok(json!(["q:consume", "work", { "prefetch": 3 }])).await;
    let jobs = [party.job().await, party.job().await, party.job().await];
    is_full.store(true, Ordering::Relaxed);
    for event in [
        json!(["q:put", "work", 5]),
        json!(["q:putMany", "work", [{ "payload": 5 }, { "payload": 6 }]]),
        json!(["q:call", "work", 5]),
    ] {
        let answer = party.ask(event.clone()).await;
        assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!("storage_full")), "{event}: {answer}");
        assert!(answer["retry_after"].as_u64().is_some_and(|ms| ms > 0), "{event}: {answer}");
    }
    // By an ack, by a settlement, and what failed rests.
    party.done(&jobs[0], json!([])).await;
    assert_eq!(party.job().await.payload, json!(3), "there is room for the next");
    let settle = |job: usize, outcome| json!({ "id": jobs[job].meta["id"], "token": jobs[job].meta["token"], "outcome": outcome });
    let retry = json!({ "do": "retry", "in": 60_000, "why": "not now" });
    let answer = party.ok(json!(["q:settle", [settle(1, json!("done")), settle(2, retry)]])).await;
    assert_eq!(answer["results"], json!([{ "ok": true }, { "ok": true }]));
    let stats = party.stats("work").await;
    assert_eq!((&stats["ready"], &stats["leased"], &stats["delayed"]), (&json!(0), &json!(1), &json!(1)), "{stats}");
    is_full.store(false, Ordering::Relaxed);
    party.ok(json!(["q:put", "work", 5])).await;
}

#[tokio::test]
async fn what_was_not_settled_for_a_store_that_is_behind_is_settled_when_it_is_said_again() {
    let queues = OnDisk::new();
    let busy = queues.busy.clone();
    let running = serving(WorkQueues::new(Arc::new(queues)).open_to_all());
    let mut party = Party::join(running.addr).await;
    for number in 0..2 {
        party.ok(json!(["q:put", "work", number])).await;
    }
    let pulled = party.ok(json!(["q:pull", "work"])).await["messages"][0]["meta"].clone();
    let consumer = party.ok(json!(["q:consume", "work"])).await["consumer"].clone();
    let job = party.job().await;
    let drained = party.begin(json!(["q:stop", consumer, { "drain": true }])).await;
    let settle = |meta: &serde_json::Value| json!({ "id": meta["id"], "token": meta["token"], "outcome": "done" });
    let settle = json!(["q:settle", [settle(&pulled), settle(&job.meta)]]);
    busy.store(2, Ordering::Relaxed);
    for _ in 0..2 {
        let answer = party.ask(settle.clone()).await;
        assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!("busy")), "{answer}");
        assert!(answer["retry_after"].as_u64().is_some_and(|ms| ms > 0), "{answer}");
    }
    let stats = party.stats("work").await;
    assert_eq!((&stats["leased"], &stats["consumers"]), (&json!(2), &json!(2)), "{stats}");
    let answer = party.ok(settle.clone()).await;
    assert_eq!(answer["results"], json!([{ "ok": true }, { "ok": true }]));
    party.answer(drained).await;
    let stats = party.stats("work").await;
    assert_eq!((&stats["ready"], &stats["leased"], &stats["consumers"]), (&json!(0), &json!(0), &json!(0)), "{stats}");
    assert_eq!((&stats["counted"]["done"], &stats["counted"]["lost"]), (&json!(2), &json!(0)), "{stats}");
    assert_eq!(party.ok(settle).await["results"][0]["code"], "stale_lease");
}

#[tokio::test]
async fn acks_are_settled_when_a_store_that_is_behind_has_time() {
    let queues = OnDisk::new();
    let busy = queues.busy.clone();
    let running = serving(WorkQueues::new(Arc::new(queues)).open_to_all());
    let queue = running.io.queue("work");
    for number in 0..2 {
        queue.put(&number).await.unwrap();
    }
    let mut deliveries = queue.consumer().start().await.unwrap();
    let delivery = deliveries.next().await.unwrap();
    busy.store(3, Ordering::Relaxed);
    delivery.ack().await.unwrap();
    let next = deliveries.next().await.unwrap();
    next.ack().await.unwrap();
    drop(deliveries);
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:consume", "work"])).await;
    party.ok(json!(["q:put", "work", 2])).await;
    let job = party.job().await;
    busy.store(3, Ordering::Relaxed);
    party.done(&job, json!([])).await;
    party.until("work", "leased", 0).await;
    assert_eq!(party.stats("work").await["counted"]["done"], 3);
}
