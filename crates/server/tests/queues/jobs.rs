//! From put to done.

use std::time::Duration;

use posthaste::queue::Refusal;
use posthaste::{OutboxLimits, QueueError};
use posthaste_testkit::serve;
use serde_json::{Value, json};

use crate::scene::{Party, open, plain, serving};

#[tokio::test]
async fn what_is_put_is_somebodys_job_until_it_is_done() {
    let running = serving(open());
    let mut worker = Party::join(running.addr).await;
    let consumer = worker.ok(json!(["q:consume", "emails", { "prefetch": 2 }])).await;
    assert!(consumer["consumer"].as_u64().unwrap() < 1 << 53);
    let mut sender = Party::join(running.addr).await;
    let options = json!({ "key": "ann", "headers": { "trace": [1] } });
    let receipt = sender.ok(json!(["q:put", "emails", { "to": "ann" }, options])).await;
    assert_eq!(
        receipt,
        json!({ "ok": true, "id": receipt["id"], "pos": receipt["id"], "dup": false, "class": "memory" })
    );
    let job = worker.job().await;
    assert_eq!(job.payload, json!({ "to": "ann" }));
    let (token, deadline) = (&job.meta["token"], &job.meta["deadline"]);
    let meta = json!({
        "id": receipt["id"], "queue": "emails", "token": token, "deliveries": 1, "failures": 0, "deadline": deadline,
        "key": "ann", "headers": { "trace": [1] },
    });
    assert_eq!(job.meta, meta);
    assert_eq!(sender.stats("emails").await["leased"], 1);
    worker.done(&job, json!([])).await;
    sender.until("emails", "leased", 0).await;
    let stats = sender.stats("emails").await;
    assert_eq!((&stats["ready"], &stats["dead"], &stats["consumers"]), (&json!(0), &json!(0), &json!(1)));
}

#[tokio::test]
async fn a_put_without_an_ack_is_put_as_well() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    party.client.send(r#"2/queues,["q:put","emails",5]"#).await;
    party.until("emails", "ready", 1).await;
}

#[tokio::test]
async fn the_answer_to_a_job_says_what_becomes_of_it() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:consume", "work", {}])).await;
    // Gone, and nothing came back.
    for answer in
        [json!([]), json!([null]), json!([{ "result": 1 }]), json!([1, 2]), json!([{ "$q": { "do": "done" } }])]
    {
        party.ok(json!(["q:put", "work", 1])).await;
        let job = party.job().await;
        party.done(&job, answer).await;
        party.until("work", "leased", 0).await;
        let stats = party.stats("work").await;
        assert_eq!((&stats["ready"], &stats["delayed"], &stats["dead"]), (&json!(0), &json!(0), &json!(0)));
    }
    party.ok(json!(["q:put", "work", 1])).await;
    let job = party.job().await;
    party.done(&job, json!([{ "$q": { "do": "release" } }])).await;
    let again = party.job().await;
    assert_eq!((&again.meta["deliveries"], &again.meta["failures"]), (&json!(2), &json!(0)));
    assert_ne!(again.meta["token"], job.meta["token"]);
    party.done(&again, json!([{ "$q": { "do": "retry", "in": 0, "why": "not now" } }])).await;
    let again = party.job().await;
    assert_eq!((&again.meta["deliveries"], &again.meta["failures"]), (&json!(3), &json!(1)));
    // Its backoff is a second, more or less.
    party.done(&again, json!([{ "$q": { "do": "retri" } }])).await;
    party.until("work", "delayed", 1).await;
    let found = party.ok(json!(["q:peek", "work", { "state": "delayed" }])).await;
    let reason = found["messages"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("unreadable answer"), "{reason}");
    let again = party.job().await;
    party.done(&again, json!([{ "$q": { "do": "dead", "why": "hopeless" } }])).await;
    party.until("work", "dead", 1).await;
    let found = party.ok(json!(["q:peek", "work", { "state": "dead" }])).await;
    assert_eq!(found["messages"][0]["reason"], "hopeless");
    assert_eq!(found["messages"][0]["payload"], 1);
    assert_eq!(party.ok(json!(["q:redrive", "work"])).await["count"], 1);
    let again = party.job().await;
    assert_eq!((&again.meta["failures"], &again.meta["id"]), (&json!(0), &job.meta["id"]));
}

#[tokio::test]
async fn nobody_has_more_jobs_than_asked_for() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    for number in 0..10 {
        party.ok(json!(["q:put", "work", number])).await;
    }
    party.ok(json!(["q:consume", "work", { "prefetch": 3 }])).await;
    let mut jobs = vec![party.job().await, party.job().await, party.job().await];
    party.quiet().await;
    let mut seen: Vec<Value> = jobs.iter().map(|job| job.payload.clone()).collect();
    for _ in 3..10 {
        let job = jobs.remove(0);
        party.done(&job, json!([])).await;
        let next = party.job().await;
        seen.push(next.payload.clone());
        jobs.push(next);
        assert_eq!(party.stats("work").await["leased"], 3);
    }
    assert_eq!(seen, (0..10).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_call_gets_the_result_of_its_job() {
    let running = serving(open());
    let mut caller = Party::join(running.addr).await;
    let mut worker = Party::join(running.addr).await;
    let call = caller.begin(json!(["q:call", "sum", [1, 2]])).await;
    worker.ok(json!(["q:consume", "sum"])).await;
    let job = worker.job().await;
    worker.done(&job, json!([3])).await;
    assert_eq!(caller.answer(call).await, json!({ "ok": true, "id": job.meta["id"], "result": 3 }));
    // Not in time; then it is asked for again.
    let pending = caller.ok(json!(["q:call", "sum", [3, 4], { "timeout": 1 }])).await;
    assert_eq!(pending, json!({ "ok": true, "id": pending["id"], "pending": true }));
    let job = worker.job().await;
    let wait = caller.begin(json!(["q:await", pending["id"]])).await;
    worker.done(&job, json!([{ "$q": { "do": "done", "result": { "$q": 7 } } }])).await;
    assert_eq!(caller.answer(wait).await["result"], json!({ "$q": 7 }));
    // It ended before it was asked for.
    assert_eq!(caller.ok(json!(["q:await", pending["id"]])).await["result"], json!({ "$q": 7 }));
    let call = caller.begin(json!(["q:call", "sum", []])).await;
    let job = worker.job().await;
    worker.done(&job, json!([{ "$q": { "do": "dead", "why": "no numbers" } }])).await;
    let answer = caller.answer(call).await;
    assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!("dead")), "{answer}");
    assert!(answer["message"].as_str().unwrap().contains("no numbers"), "{answer}");
}

#[tokio::test]
async fn who_calls_itself_is_read_meanwhile() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:consume", "echo", { "prefetch": 500 }])).await;
    // More than may be unfinished as handlers.
    let mut calls = Vec::new();
    for number in 0..300 {
        calls.push(party.begin(json!(["q:call", "echo", number])).await);
    }
    for _ in 0..300 {
        let job = party.job().await;
        party.done(&job, json!([job.payload])).await;
    }
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(party.answer(call).await["result"], number);
    }
}

#[tokio::test]
async fn what_is_put_together_is_put_at_once() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    let puts = json!([{ "payload": 1 }, { "payload": null, "opts": { "priority": 3 } }, { "payload": [2] }]);
    let receipts = party.ok(json!(["q:putMany", "work", puts])).await;
    assert_eq!(receipts["receipts"].as_array().unwrap().len(), 3);
    assert_eq!(receipts["receipts"][1]["ok"], true);
    party.ok(json!(["q:consume", "work", { "prefetch": 10 }])).await;
    let payloads = [party.job().await.payload, party.job().await.payload, party.job().await.payload];
    assert_eq!(payloads, [json!(null), json!(1), json!([2])]);
    // One of them cannot be.
    let puts = json!([{ "payload": 1 }, { "payload": 1, "opts": { "priority": 32 } }]);
    assert_eq!(party.refused(json!(["q:putMany", "work", puts])).await, "invalid");
    assert_eq!(party.stats("work").await["leased"], 3);
    // Nor can all of them, and none is put.
    let config = posthaste::queue::Config { max_messages: 2, ..posthaste::queue::Config::default() };
    running.io.queue("small").configure(config).await.unwrap();
    let three = json!([{ "payload": 1 }, { "payload": 2 }, { "payload": 3 }]);
    assert_eq!(party.refused(json!(["q:putMany", "small", three])).await, "queue_full");
    assert_eq!(party.stats("small").await["ready"], 0);
    party.ok(json!(["q:putMany", "small", [{ "payload": 1 }, { "payload": 2 }]])).await;
    let pulled = party.ok(json!(["q:pull", "small", { "max": 10 }])).await;
    let pulled = pulled["messages"].as_array().unwrap();
    assert_eq!(pulled.len(), 2);
    let done =
        |it: &serde_json::Value| json!({ "id": it["meta"]["id"], "token": it["meta"]["token"], "outcome": "done" });
    let settled = party.ok(json!(["q:settle", pulled.iter().map(done).collect::<Vec<_>>()])).await;
    assert_eq!(settled["results"], json!([{ "ok": true }, { "ok": true }]));
    let counted = party.stats("small").await["counted"].clone();
    assert_eq!((&counted["put"], &counted["given"], &counted["done"]), (&json!(2), &json!(2), &json!(2)), "{counted}");
}

#[tokio::test]
async fn delays_and_keys_are_kept_to() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:put", "work", "later", { "delay": 300 }])).await;
    assert_eq!(party.stats("work").await["delayed"], 1);
    for (number, key) in [(1, "a"), (2, "a"), (3, "b")] {
        party.ok(json!(["q:put", "work", number, { "key": key }])).await;
    }
    party.ok(json!(["q:consume", "work", { "prefetch": 10 }])).await;
    let (one, three) = (party.job().await, party.job().await);
    assert_eq!((&one.payload, &three.payload), (&json!(1), &json!(3)));
    let later = party.job().await;
    assert_eq!(later.payload, "later");
    party.done(&one, json!([])).await;
    assert_eq!(party.job().await.payload, 2);
    let receipt = party.ok(json!(["q:put", "work", 4, { "dedup": "once", "delay": 60000 }])).await;
    let again = party.ok(json!(["q:put", "work", 4, { "dedup": "once" }])).await;
    assert_eq!((&again["id"], &again["dup"]), (&receipt["id"], &json!(true)));
}

#[tokio::test]
async fn a_consumer_that_stops_has_nothing_any_more() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    let consumer = party.ok(json!(["q:consume", "work"])).await["consumer"].clone();
    party.ok(json!(["q:put", "work", 1])).await;
    let job = party.job().await;
    party.ok(json!(["q:stop", consumer])).await;
    let stats = party.stats("work").await;
    assert_eq!((&stats["ready"], &stats["consumers"]), (&json!(1), &json!(0)));
    // Too late.
    party.done(&job, json!([])).await;
    let which = json!({ "queue": "work", "token": job.meta["token"] });
    party.expect(json!(["q:revoked", job.meta["id"], "stale", which])).await;
    assert_eq!(party.stats("work").await["ready"], 1);
    assert_eq!(party.refused(json!(["q:stop", consumer])).await, "unknown_consumer");
}

#[tokio::test]
async fn a_consumer_that_drains_finishes_what_it_has() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    let consumer = party.ok(json!(["q:consume", "work", { "prefetch": 2 }])).await["consumer"].clone();
    for number in 0..4 {
        party.ok(json!(["q:put", "work", number])).await;
    }
    let jobs = [party.job().await, party.job().await];
    let stopped = party.begin(json!(["q:stop", consumer, { "drain": true }])).await;
    for job in &jobs {
        assert_eq!(party.stats("work").await["consumers"], 1);
        party.done(job, json!([])).await;
    }
    assert_eq!(party.answer(stopped).await, json!({ "ok": true }));
    let stats = party.stats("work").await;
    assert_eq!((&stats["ready"], &stats["leased"], &stats["consumers"]), (&json!(2), &json!(0), &json!(0)));
    party.quiet().await;
}

#[tokio::test]
async fn whoever_awaits_a_message_that_keeps_no_result_hears_that_it_is_gone() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:consume", "work"])).await;
    let id = party.ok(json!(["q:put", "work", 1])).await["id"].clone();
    let job = party.job().await;
    let pending = party.ok(json!(["q:await", id, { "timeout": 1 }])).await;
    assert_eq!(pending, json!({ "ok": true, "id": id, "pending": true }));
    let waited = party.begin(json!(["q:await", id, { "timeout": 3_600_000 }])).await;
    party.quiet().await;
    let in_rust = running.io.queue("work");
    let number = id.as_u64().unwrap();
    let result = tokio::spawn(async move { in_rust.result::<u32>(number, Duration::from_secs(3_600)).await });
    party.done(&job, json!(["nobody keeps this"])).await;
    let answer = party.answer(waited).await;
    assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!("unknown_message")), "{answer}");
    let result = posthaste_testkit::within("it is gone", result).await.unwrap();
    assert!(matches!(result, Err(QueueError::Refused(Refusal::UnknownMessage(gone))) if gone == number), "{result:?}");
    // How others end is said, whatever they keep.
    let id = party.ok(json!(["q:put", "work", 2])).await["id"].clone();
    let job = party.job().await;
    let waited = party.begin(json!(["q:await", id])).await;
    party.quiet().await;
    party.done(&job, json!([{ "$q": { "do": "dead", "why": "hopeless" } }])).await;
    assert_eq!(party.answer(waited).await["code"], "dead");
}

#[tokio::test]
async fn nobody_is_sent_more_at_a_time_than_fits_through_a_slow_connection() {
    let outbox = OutboxLimits { bytes: 1 << 20, packets: 65_536 };
    let running = serve(plain(open()).outbox(outbox), |_| {});
    let work = running.io.queue("work");
    for _ in 0..20 {
        work.put(&"x".repeat(100_000)).await.unwrap();
    }
    let mut party = Party::join(running.addr).await;
    let wish = json!({ "prefetch": 100, "bytes": 32 << 20 });
    party.ok(json!(["q:consume", "work", wish])).await;
    // Half of the outbox is for jobs, and half of that for the first consumer.
    assert_eq!(party.stats("work").await["leased"], 2);
    // The next ones share what is left.
    for (nth, leased) in [1, 1, 1].into_iter().enumerate() {
        let queue = format!("other-{nth}");
        for _ in 0..3 {
            running.io.queue(queue.as_str()).put(&"x".repeat(100_000)).await.unwrap();
        }
        party.ok(json!(["q:consume", queue, wish])).await;
        assert_eq!(party.stats(&queue).await["leased"], leased, "{nth}");
    }
    // What is larger than all of that is given alone.
    running.io.queue("large").put(&"x".repeat(700_000)).await.unwrap();
    party.ok(json!(["q:consume", "large", wish])).await;
    assert_eq!(party.stats("large").await["leased"], 1);
    for _ in 0..20 + 9 + 1 {
        let job = party.job().await;
        party.done(&job, json!([])).await;
    }
    party.until("work", "leased", 0).await;
    assert_eq!(party.stats("work").await["ready"], 0);
}
