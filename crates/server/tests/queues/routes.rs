//! Events that become jobs.

use std::time::Duration;

use posthaste::{Idempotency, JobError, QueueRoute, Server};
use posthaste_testkit::{Client, Transport, eventually, serve, within};
use serde_json::{Value, json};

use crate::scene::{open, plain};

#[tokio::test]
async fn the_result_of_a_job_answers_the_event() {
    let running = serve(plain(open()), |io| {
        io.on("order:mine", async || posthaste::Answer("by a handler"));
        io.route("order:*", "orders").unwrap().route("ping", "pings").unwrap();
        io.fallback(async || posthaste::Answer("nobody knows"));
    });
    let seen = posthaste_testkit::Record::new();
    {
        let seen = seen.clone();
        let work = move |job: posthaste::Job<Value>| {
            seen.push(job.data.clone());
            async move {
                match job.data["args"][0].as_str() {
                    Some("bad") => Err(JobError::dead("no such thing")),
                    _ => Ok::<_, JobError>(json!({ "ordered": job.data["args"] })),
                }
            }
        };
        running.io.queue("orders").worker(2, work).start();
    }
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    let id = client.connect("/").await;
    client.ask(r#"["order:new","tea",2]"#, r#"[{"ordered":["tea",2]}]"#).await;
    assert_eq!(seen.all(), [json!({ "event": "order:new", "args": ["tea", 2], "socket": id, "user": null })]);
    client.ask(r#"["order:new","bad"]"#, r#"[{"error":"the message is dead: no such thing","code":"dead"}]"#).await;
    client.ask(r#"["order:mine"]"#, r#"["by a handler"]"#).await;
    client.ask(r#"["other"]"#, r#"["nobody knows"]"#).await;
    client.emit(r#"["ping"]"#).await;
    eventually("it is a job without an answer", async || {
        running.io.queue("pings").stats().await.is_ok_and(|depth| depth.ready == 1)
    })
    .await;
}

#[tokio::test]
async fn there_is_no_way_without_queues() {
    let io = Server::builder().workers(1).build().unwrap();
    assert!(io.route("x", "y").is_err());
    io.close(Duration::ZERO);
    let io = plain(open()).build().unwrap();
    assert!(io.route("x", "two words").is_err());
    io.close(Duration::ZERO);
}

/// The answer to an event of the main namespace, as a value.
async fn answer(client: &mut Client, id: u64, event: &str) -> Value {
    client.send(&format!("2{id}{event}")).await;
    let prefix = format!("3{id}[");
    let text = within("an answer", client.text()).await;
    let text = text.strip_prefix(&prefix).unwrap_or_else(|| panic!("{prefix} was to come, not {text}"));
    serde_json::from_str(text.strip_suffix(']').unwrap()).unwrap()
}

#[tokio::test]
async fn a_route_says_who_may_emit_and_what_the_message_is_like() {
    let running = serve(plain(open()), |io| {
        let route = QueueRoute::new("order:*", "orders").key("/0/customer").priority(7).attempts(1);
        io.add_route(route.permit(|_, event| event != "order:secret").timeout(Duration::from_millis(1))).unwrap();
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.connect("/").await;
    let refused = answer(&mut client, 1, r#"["order:secret",{"customer":"ann"}]"#).await;
    assert_eq!(refused["code"], "forbidden", "{refused}");
    let keyless = answer(&mut client, 2, r#"["order:new",{"custumer":"ann"}]"#).await;
    assert_eq!(keyless["code"], "invalid", "{keyless}");
    assert!(keyless["error"].as_str().unwrap().contains("/0/customer"), "{keyless}");
    let orders = running.io.queue("orders");
    assert!(orders.stats().await.is_err(), "nothing was put");
    // Nobody does it in time, but it is there.
    let late = answer(&mut client, 3, r#"["order:new",{"customer":"ann"}]"#).await;
    assert_eq!(late["code"], "pending", "{late}");
    let there = orders.peek(posthaste::queue::State::Ready, 0, 10).await.unwrap();
    assert_eq!(late["id"], there[0].id);
    assert_eq!((there.len(), there[0].key.as_deref(), there[0].priority), (1, Some("ann"), 7));
    // With one attempt the first failure is the last.
    orders.worker(1, async |_: posthaste::Job<Value>| Err::<(), _>(JobError::retry("no"))).start();
    eventually("it is dead", async || orders.stats().await.is_ok_and(|depth| depth.dead == 1)).await;
}

#[tokio::test]
async fn one_client_may_wait_for_what_it_works_off_itself() {
    let running = serve(plain(open()).max_handlers(4), |io| {
        io.route("order:*", "orders").unwrap();
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.connect("/").await;
    client.connect("/queues").await;
    for id in 1..=20 {
        client.send(&format!(r#"2{id}["order:new",{id}]"#)).await;
    }
    client.send(r#"2/queues,1["q:consume","orders"]"#).await;
    let consumer = within("the consumer", client.text()).await;
    assert!(consumer.starts_with("3/queues,1["), "the answer comes before the first job: {consumer}");
    let mut answered = 0;
    while answered < 20 {
        let text = within("a job or an answer", client.text()).await;
        if let Some(job) = text.strip_prefix("2/queues,") {
            client.send(&format!(r#"3/queues,{}["done"]"#, job.split_once('[').unwrap().0)).await;
        } else {
            assert!(text.starts_with('3') && text.ends_with(r#"["done"]"#), "{text}");
            answered += 1;
        }
    }
}

#[tokio::test]
async fn an_event_that_is_repeated_under_a_key_is_one_message() {
    let running = serve(plain(open()).idempotency(Idempotency::default()), |io| {
        io.add_route(QueueRoute::new("order", "orders").timeout(Duration::from_millis(50))).unwrap();
    });
    let mut client = Client::open(running.addr, Transport::WebSocket).await;
    client.connect("/").await;
    let event = r#"["order","tea",{"$key":"a"}]"#;
    let first = answer(&mut client, 1, event).await;
    assert_eq!(first["code"], "pending", "{first}");
    let again = answer(&mut client, 2, event).await;
    assert_eq!(again, first, "the same message, still worked on");
    let orders = running.io.queue("orders");
    assert_eq!(orders.stats().await.unwrap().ready, 1);
    orders.worker(1, async |job: posthaste::Job<Value>| Ok::<_, JobError>(job.data["args"].clone())).start();
    eventually("it is done", async || orders.stats().await.is_ok_and(|depth| depth.ready + depth.leased == 0)).await;
    assert_eq!(answer(&mut client, 3, event).await, json!(["tea"]), "what was not there in time is there now");
}
