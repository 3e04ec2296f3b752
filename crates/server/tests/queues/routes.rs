//! Events that become jobs.

use posthaste::{JobError, Server};
use posthaste_testkit::{Client, serve};
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
    let mut client = Client::open(running.addr, posthaste_testkit::Transport::WebSocket).await;
    let id = client.connect("/").await;
    client.ask(r#"["order:new","tea",2]"#, r#"[{"ordered":["tea",2]}]"#).await;
    assert_eq!(seen.all(), [json!({ "event": "order:new", "args": ["tea", 2], "socket": id, "user": null })]);
    client.ask(r#"["order:new","bad"]"#, r#"[{"error":"the message is dead: no such thing"}]"#).await;
    client.ask(r#"["order:mine"]"#, r#"["by a handler"]"#).await;
    client.ask(r#"["other"]"#, r#"["nobody knows"]"#).await;
    client.emit(r#"["ping"]"#).await;
    posthaste_testkit::eventually("it is a job without an answer", async || {
        running.io.queue("pings").stats().await.is_ok_and(|depth| depth.ready == 1)
    })
    .await;
}

#[tokio::test]
async fn there_is_no_way_without_queues() {
    let io = Server::builder().workers(1).build().unwrap();
    assert!(io.route("x", "y").is_err());
    io.close(std::time::Duration::ZERO);
    let io = plain(open()).build().unwrap();
    assert!(io.route("x", "two words").is_err());
    io.close(std::time::Duration::ZERO);
}
