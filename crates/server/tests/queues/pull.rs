//! Pulls, and settling by number and token.

use serde_json::json;

use crate::scene::{Party, open, serving};

#[tokio::test]
async fn a_pull_brings_what_there_is() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    assert_eq!(party.ok(json!(["q:pull", "work", { "max": 5 }])).await["messages"], json!([]));
    for number in 0..3 {
        party.ok(json!(["q:put", "work", { "number": number }])).await;
    }
    let pulled = party.ok(json!(["q:pull", "work", { "max": 2, "lease": 60000 }])).await;
    let messages = pulled["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1]["payload"], json!({ "number": 1 }));
    assert_eq!(messages[1]["meta"]["deliveries"], 1);
    let stats = party.stats("work").await;
    assert_eq!((&stats["leased"], &stats["ready"]), (&json!(2), &json!(1)));
    let of = |place: usize| (&messages[place]["meta"]["id"], &messages[place]["meta"]["token"]);
    let ((one, its), (two, twos)) = (of(0), of(1));
    let until = party.ok(json!(["q:touch", one, its, 120_000])).await["deadline"].as_u64().unwrap();
    assert!(until > messages[0]["meta"]["deadline"].as_u64().unwrap());
    party.ok(json!(["q:progress", one, its, { "half": true }])).await;
    let settled = party
        .ok(json!(["q:settle", [
            { "id": one, "token": its, "outcome": "done" },
            { "id": two, "token": its, "outcome": "done" },
            { "id": two, "token": twos, "outcome": { "do": "dead", "why": "no" } },
            { "id": two, "token": twos, "outcome": "done" },
        ]]))
        .await;
    let results = settled["results"].as_array().unwrap();
    let codes: Vec<_> = results.iter().map(|result| result["code"].as_str().unwrap_or("ok")).collect();
    assert_eq!(codes, ["ok", "stale_lease", "ok", "stale_lease"]);
    let stats = party.stats("work").await;
    assert_eq!((&stats["leased"], &stats["dead"], &stats["consumers"]), (&json!(0), &json!(1), &json!(0)));
    assert_eq!(party.refused(json!(["q:touch", one, its])).await, "stale_lease");
}

#[tokio::test]
async fn a_pull_waits_for_the_first() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    let mut sender = Party::join(running.addr).await;
    let pull = party.begin(json!(["q:pull", "work", { "max": 9, "wait": 3_600_000 }])).await;
    sender.until("work", "consumers", 1).await;
    sender.ok(json!(["q:put", "work", "x"])).await;
    let pulled = party.answer(pull).await;
    assert_eq!(pulled["messages"][0]["payload"], "x");
    // Whoever leaves has nothing.
    party.client.send("1/queues,").await;
    sender.until("work", "ready", 1).await;
}

#[tokio::test]
async fn another_ones_job_is_not_settled() {
    let running = serving(open());
    let (mut owner, mut other) = (Party::join(running.addr).await, Party::join(running.addr).await);
    owner.ok(json!(["q:consume", "work"])).await;
    owner.ok(json!(["q:put", "work", 1])).await;
    let job = owner.job().await;
    let (id, token) = (&job.meta["id"], &job.meta["token"]);
    let settle = json!(["q:settle", [{ "id": id, "token": token, "outcome": "done" }]]);
    assert_eq!(other.ok(settle.clone()).await["results"][0]["code"], "stale_lease");
    assert_eq!(other.refused(json!(["q:touch", id, token])).await, "stale_lease");
    assert_eq!(other.refused(json!(["q:progress", id, token, 1])).await, "stale_lease");
    assert_eq!(other.stats("work").await["leased"], 1);
    // Its own it may also settle so.
    assert_eq!(owner.ok(settle).await["results"][0]["ok"], true);
    owner.done(&job, json!([])).await;
    owner.quiet().await;
    assert_eq!(owner.stats("work").await["leased"], 0);
}
