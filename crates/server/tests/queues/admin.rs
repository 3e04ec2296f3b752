//! Looking after queues, and hearing what happens.

use posthaste::{QueueVerb, Socket};
use serde_json::json;

use crate::scene::{Party, open, serving};

#[tokio::test]
async fn a_queue_is_paused_drained_and_purged() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    assert_eq!(party.refused(json!(["q:pause", "work"])).await, "unknown_queue");
    party.ok(json!(["q:consume", "work"])).await;
    party.ok(json!(["q:pause", "work"])).await;
    party.ok(json!(["q:put", "work", 1])).await;
    party.quiet().await;
    assert_eq!(party.stats("work").await["paused"], true);
    party.ok(json!(["q:resume", "work"])).await;
    party.job().await;
    party.ok(json!(["q:drain", "work"])).await;
    assert_eq!(party.refused(json!(["q:put", "work", 2])).await, "draining");
    party.ok(json!(["q:drain", "work", false])).await;
    for number in 3..6 {
        party.ok(json!(["q:put", "work", number])).await;
    }
    let stats = party.stats("work").await;
    assert!(stats["oldest"].as_u64().is_some() && stats["bytes"].as_u64() > Some(3 * 128), "{stats}");
    assert_eq!(party.ok(json!(["q:purge", "work", { "state": "ready", "max": 1 }])).await["count"], 1);
    assert_eq!(party.ok(json!(["q:purge", "work", { "state": ["ready", "delayed"] }])).await["count"], 2);
    assert_eq!(party.ok(json!(["q:purge", "work", { "state": "leased" }])).await["count"], 1);
    let revoked = party.event().await;
    assert_eq!((&revoked[1][0], &revoked[1][2]), (&json!("q:revoked"), &json!("removed")));
}

#[tokio::test]
async fn a_look_goes_on_where_it_ended() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(party.ok(json!(["q:put", "work", number])).await["id"].clone());
    }
    let page = party.ok(json!(["q:peek", "work", { "n": 3 }])).await;
    assert_eq!(page["next"], ids[2]);
    let page = page["messages"].as_array().unwrap();
    assert_eq!((page.len(), &page[2]["id"], &page[2]["state"]), (3, &ids[2], &json!("ready")));
    let page = party.ok(json!(["q:peek", "work", { "n": 3, "after": ids[2] }])).await;
    assert_eq!((page["messages"].as_array().unwrap().len(), page.get("next")), (2, None));
    assert_eq!(party.stats("work").await["ready"], 5);
}

#[tokio::test]
async fn those_who_watch_hear_what_becomes_of_messages() {
    let running = serving(open());
    let (mut party, mut watcher) = (Party::join(running.addr).await, Party::join(running.addr).await);
    watcher.ok(json!(["q:watch", "work"])).await;
    party.ok(json!(["q:consume", "work"])).await;
    party.ok(json!(["q:put", "work", 1, { "keep_result": 1000 }])).await;
    let job = party.job().await;
    let (id, token) = (&job.meta["id"], &job.meta["token"]);
    party.ok(json!(["q:progress", id, token, 0.5])).await;
    watcher.expect(json!(["q:event", "work", "progress", id, 0.5])).await;
    party.done(&job, json!(["fine"])).await;
    watcher.expect(json!(["q:event", "work", "done", id, "fine"])).await;
    party.ok(json!(["q:put", "work", 2])).await;
    let job = party.job().await;
    party.done(&job, json!([{ "$q": { "do": "dead", "why": "no" } }])).await;
    watcher.expect(json!(["q:event", "work", "dead", job.meta["id"], "no"])).await;
    watcher.ok(json!(["q:unwatch", "work"])).await;
    party.ok(json!(["q:redrive", "work"])).await;
    let job = party.job().await;
    party.done(&job, json!([{ "$q": { "do": "dead" } }])).await;
    party.until("work", "dead", 1).await;
    watcher.quiet().await;
}

#[tokio::test]
async fn clients_do_what_they_are_permitted_to() {
    let permit = |_: &Socket, verb: QueueVerb, queue: &str| verb == QueueVerb::Put && queue == "mine";
    let running = serving(open().permit(permit));
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:put", "mine", 1])).await;
    for event in [
        json!(["q:put", "yours", 1]),
        json!(["q:putMany", "yours", [{ "payload": 1 }]]),
        json!(["q:call", "mine", 1]),
        json!(["q:consume", "mine"]),
        json!(["q:pull", "mine"]),
        json!(["q:peek", "mine"]),
        json!(["q:stats", "mine"]),
        json!(["q:watch", "mine"]),
        json!(["q:pause", "mine"]),
        json!(["q:resume", "mine"]),
        json!(["q:drain", "mine"]),
        json!(["q:purge", "mine", { "state": "ready" }]),
        json!(["q:redrive", "mine"]),
    ] {
        assert_eq!(party.refused(event).await, "forbidden");
    }
    // As if it were not there.
    assert_eq!(party.refused(json!(["q:await", 1])).await, "unknown_message");
    // Nobody was asked.
    let store = std::sync::Arc::new(posthaste::queue::MemoryQueues::new(posthaste::queue::MemoryQueues::limits(), 1));
    let running = serving(posthaste::WorkQueues::new(store));
    let mut party = Party::join(running.addr).await;
    assert_eq!(party.refused(json!(["q:put", "mine", 1])).await, "forbidden");
}

/// What may be done with a queue is in its name.
fn by_name(_: &Socket, verb: QueueVerb, queue: &str) -> bool {
    queue.contains(match verb {
        QueueVerb::Put => "put",
        QueueVerb::Call => "call",
        QueueVerb::Await => "await",
        QueueVerb::Consume => "work",
        _ => return false,
    })
}

#[tokio::test]
async fn who_may_call_gets_the_result_and_whose_else_it_is_the_queue_says() {
    let running = serving(open().permit(by_name));
    let (mut caller, mut other) = (Party::join(running.addr).await, Party::join(running.addr).await);
    let mut worker = Party::join(running.addr).await;
    for queue in ["put:work", "call:work", "call:await:work", "put:await:work"] {
        worker.ok(json!(["q:consume", queue])).await;
        let may = |what: &str| queue.contains(what);
        // A call is one permission, and needs no other: not to put, not to wait for what others put.
        if may("call") {
            assert_eq!(caller.refused(json!(["q:put", queue, 1])).await, "forbidden");
            let call = caller.begin(json!(["q:call", queue, "own"])).await;
            let job = worker.job().await;
            worker.done(&job, json!(["result"])).await;
            let answer = caller.answer(call).await;
            assert_eq!(answer["result"], "result", "{queue}: {answer}");
        } else {
            assert_eq!(caller.refused(json!(["q:call", queue, 1])).await, "forbidden", "{queue}");
        }
        let id = if may("call") {
            caller.ok(json!(["q:call", queue, "late", { "timeout": 1 }])).await["id"].clone()
        } else {
            caller.ok(json!(["q:put", queue, "late", { "keep_result": 3_600_000 }])).await["id"].clone()
        };
        // While it is worked on, and when it has ended.
        let job = worker.job().await;
        for has_ended in [false, true] {
            if has_ended {
                worker.done(&job, json!(["late"])).await;
                // It is there when the next thing that the worker asks is answered.
                worker.quiet().await;
            }
            let ask = |timeout| json!(["q:await", id, { "timeout": timeout }]);
            let expected = if has_ended { json!("late") } else { json!(null) };
            if may("call") || may("await") {
                let answer = caller.ok(ask(if has_ended { 30_000 } else { 1 })).await;
                assert_eq!((&answer["result"], answer["pending"] == true), (&expected, !has_ended), "{queue}");
            } else {
                assert_eq!(caller.refused(ask(1)).await, "unknown_message", "{queue}");
            }
            if may("await") {
                let answer = other.ok(ask(if has_ended { 30_000 } else { 1 })).await;
                assert_eq!((&answer["result"], answer["pending"] == true), (&expected, !has_ended), "{queue}");
            } else {
                assert_eq!(other.refused(ask(1)).await, "unknown_message", "{queue}");
            }
        }
    }
    assert_eq!(caller.refused(json!(["q:await", 1_u64 << 40])).await, "unknown_message");
}
