//! A store of queues whose disk is full: nothing is taken in, and what is there is worked off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use posthaste::WorkQueues;
use posthaste::queue::{Capabilities, Command, Listener, MemoryQueues, Outcome, Queues, Refusal};
use posthaste::store::{Answer, StoreError, Timestamp};
use serde_json::json;

use crate::scene::{Party, serving};

/// Queues in memory, on a disk that may be full.
struct OnDisk {
    queues: MemoryQueues,
    is_full: Arc<AtomicBool>,
}

impl Queues for OnDisk {
    fn ask(&self, now: Timestamp, command: Command) -> Answer<Result<Outcome, Refusal>> {
        if matches!(command, Command::Put(_)) && self.is_full.load(Ordering::Relaxed) {
            return Box::pin(async { Err(StoreError::Full { free_bytes: 7 }) });
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
    let is_full = Arc::<AtomicBool>::default();
    let queues = OnDisk { queues: MemoryQueues::new(MemoryQueues::limits(), 7), is_full: is_full.clone() };
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
