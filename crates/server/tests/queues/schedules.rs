//! What is put again and again: by clients, and in Rust.

use posthaste::queue::{Missed, When};
use posthaste::{Job, JobError, QueueError, QueueVerb, Socket};
use posthaste_testkit::{Record, within};
use serde_json::json;

use crate::scene::{Party, open, serving};

#[tokio::test]
async fn a_worker_is_given_what_a_schedule_puts() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:consume", "ticks", { "prefetch": 1 }])).await;
    let options = json!({ "cron": "* * * * * *", "headers": { "a": 1 }, "priority": 3 });
    let there = party.ok(json!(["q:schedule", "ticks", "each-second", { "n": 1 }, options])).await;
    assert_eq!((&there["name"], &there["zone"], &there["count"]), (&json!("each-second"), &json!("UTC"), &json!(0)));
    let first = party.job().await;
    assert_eq!((&first.payload, &first.meta["headers"]["a"]), (&json!({ "n": 1 }), &json!(1)));
    let of = &first.meta["headers"]["schedule"];
    assert_eq!((&of["name"], &of["time"]), (&json!("each-second"), &there["next"]));
    party.done(&first, json!([])).await;
    let second = party.job().await;
    let times = [&first, &second].map(|job| job.meta["headers"]["schedule"]["time"].as_u64().unwrap());
    // One that was missed because this machine is slow is none too few.
    assert!(times[1] > times[0] && (times[1] - times[0]).is_multiple_of(1_000), "{times:?}");
}

#[tokio::test]
async fn schedules_are_those_of_a_queue() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    let hourly = || json!({ "cron": "@hourly", "zone": "asia/kolkata" });
    for name in ["a", "b", "c"] {
        party.ok(json!(["q:schedule", "work", name, null, hourly()])).await;
    }
    party.ok(json!(["q:schedule", "other", "d", null, { "every": 60000, "paused": true }])).await;
    let all = party.ok(json!(["q:schedules", "work", { "n": 2 }])).await;
    let all = all["schedules"].as_array().unwrap();
    assert_eq!((all.len(), &all[1]["name"], &all[1]["zone"]), (2, &json!("b"), &json!("Asia/Kolkata")));
    let rest = party.ok(json!(["q:schedules", "work", { "after": "b" }])).await;
    assert_eq!(rest["schedules"].as_array().unwrap().len(), 1);
    let other = party.ok(json!(["q:schedules", "other"])).await;
    let other = &other["schedules"][0];
    assert_eq!((&other["paused"], &other["next"], &other["every"]), (&json!(true), &json!(null), &json!(60000)));
    assert_eq!(party.refused(json!(["q:unschedule", "other", "a"])).await, "unknown_schedule");
    assert_eq!(party.refused(json!(["q:schedule", "other", "a", null, hourly()])).await, "other_queue");
    party.ok(json!(["q:unschedule", "work", "a"])).await;
    assert_eq!(party.refused(json!(["q:unschedule", "work", "a"])).await, "unknown_schedule");
}

#[tokio::test]
async fn what_cannot_be_scheduled_is_refused_with_a_code() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    for (arguments, code) in [
        (json!([]), "invalid"),
        (json!(["work"]), "invalid"),
        (json!(["work", "s"]), "invalid"),
        (json!(["work", "two words", 1, { "every": 1000 }]), "bad_name"),
        (json!(["work", "s", 1]), "invalid"),
        (json!(["work", "s", 1, { "every": 1000, "delay": 5 }]), "invalid"),
        (json!(["work", "s", 1, { "every": 1000 }, 2]), "invalid"),
        (json!(["work", "s", 1, { "cron": "often" }]), "bad_schedule"),
        (json!(["work", "s", 1, { "cron": "@daily", "zone": "Europe/Atlantis" }]), "bad_schedule"),
        (json!(["work", "s", 1, { "cron": "0 0 30 2 *" }]), "never_fires"),
        (json!(["work", "s", "x".repeat(70_000), { "every": 1000 }]), "too_large"),
    ] {
        let mut event = vec![json!("q:schedule")];
        event.extend(arguments.as_array().unwrap().iter().cloned());
        assert_eq!(party.refused(event.into()).await, code, "{arguments}");
    }
    assert_eq!(party.ok(json!(["q:schedules", "work"])).await["schedules"], json!([]));
}

#[tokio::test]
async fn scheduling_needs_a_permission_of_its_own() {
    let queues = open().permit(|_: &Socket, verb: QueueVerb, queue: &str| {
        verb == QueueVerb::Put || verb == QueueVerb::Schedule && queue == "mine"
    });
    let running = serving(queues);
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:schedule", "mine", "s", 1, { "every": 60000 }])).await;
    for event in [
        json!(["q:schedule", "yours", "t", 1, { "every": 60000 }]),
        json!(["q:unschedule", "yours", "s"]),
        json!(["q:schedules", "yours"]),
    ] {
        assert_eq!(party.refused(event.clone()).await, "forbidden", "{event}");
    }
}

#[tokio::test]
async fn a_put_is_scheduled_in_rust() {
    let running = serving(open());
    let reports = running.io.queue("reports");
    let seen = Record::new();
    let control = {
        let seen = seen.clone();
        let work = move |job: Job<String>| {
            let seen = seen.clone();
            async move {
                let headers = job.headers::<serde_json::Value>()?.unwrap_or_default();
                seen.push((job.data.clone(), headers["schedule"]["name"].as_str().unwrap_or_default().to_owned()));
                Ok::<_, JobError>(())
            }
        };
        reports.worker(1, work).start()
    };
    let plan =
        |text: &'static str| reports.put(text).scheduled("nightly", When::cron("30 2 * * *").in_zone("Europe/Berlin"));
    let there = plan("all").missed(Missed::Skip).await.unwrap();
    assert_eq!(plan("all").missed(Missed::Skip).await.unwrap(), there, "told again, it is the same");
    let schedules = running.io.schedules();
    schedules.run("nightly").await.unwrap();
    within("the job", seen.wait_for(1)).await;
    assert_eq!(seen.all(), [("all".to_owned(), "nightly".to_owned())]);
    schedules.pause("nightly", true).await.unwrap();
    assert!(plan("some").await.unwrap().is_paused, "it stays so");
    assert!(!plan("some").paused(false).await.unwrap().is_paused);
    let all = schedules.all().await.unwrap();
    assert_eq!((all.len(), &*all[0].0, all[0].1.schedule.missed), (1, "nightly", Missed::Once));
    schedules.remove("nightly").await.unwrap();
    let gone = schedules.get("nightly").await;
    assert!(matches!(&gone, Err(QueueError::Refused(refusal)) if refusal.code() == "unknown_schedule"), "{gone:?}");
    let delayed = reports.put("x").delay(std::time::Duration::from_secs(1)).scheduled("s", When::Every { ms: 1_000 });
    assert!(delayed.await.is_err(), "what is scheduled has no time of its own");
    control.stop().await.unwrap();
}
