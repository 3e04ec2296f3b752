//! Work queues over HTTP, as curl sees them.

#![cfg(unix)]

mod running;

use std::net::SocketAddr;

use posthaste_testkit::{Client, Http, Request, Response, within};
use running::Running;
use serde_json::{Value, json};
use tempfile::TempDir;

fn start() -> (TempDir, Running) {
    let data = tempfile::tempdir().expect("a folder");
    let server = Running::start("dev --json", data.path());
    (data, server)
}

async fn send(addr: SocketAddr, request: &Request) -> Response {
    within("an answer", Http::once(addr, request)).await.expect("an answer")
}

async fn ask(addr: SocketAddr, method: &str, target: &str, body: &str) -> Response {
    let target = format!("/api/v1/{target}");
    send(addr, &if body.is_empty() { Request::new(method, &target) } else { Request::with_body(method, &target, body) })
        .await
}

async fn post(addr: SocketAddr, target: &str, body: &str) -> Response {
    ask(addr, "POST", target, body).await
}

async fn get(addr: SocketAddr, target: &str) -> Response {
    ask(addr, "GET", target, "").await
}

fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("JSON: {response:?}"))
}

/// The answer, which has to be this one.
fn good(response: &Response, status: u16) -> Value {
    assert_eq!(response.status, status, "{}", String::from_utf8_lossy(&response.body));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    if status == 204 { Value::Null } else { json(response) }
}

fn problem(response: &Response, status: u16, code: &str) -> Value {
    let text = String::from_utf8_lossy(&response.body).into_owned();
    assert_eq!(response.status, status, "{text}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{text}");
    let problem = json(response);
    assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{text}");
    assert!(problem["detail"].as_str().is_some_and(|it| !it.is_empty()), "{text}");
    problem
}

async fn put(addr: SocketAddr, queue: &str, body: &str) -> u64 {
    good(&post(addr, &format!("queues/{queue}/messages"), body).await, 201)["id"].as_u64().expect("an id")
}

async fn lease(addr: SocketAddr, queue: &str, query: &str) -> Vec<Value> {
    let response = post(addr, &format!("queues/{queue}/lease?{query}"), "").await;
    match response.status {
        204 => Vec::new(),
        _ => good(&response, 200)["messages"].as_array().expect("messages").clone(),
    }
}

fn said(job: &Value, outcome: &str) -> Value {
    json!({ "id": job["id"], "token": job["token"], "outcome": outcome })
}

async fn settle(addr: SocketAddr, all: Value) -> Value {
    good(&post(addr, "leases/settle", &all.to_string()).await, 200)["results"].clone()
}

async fn stats(addr: SocketAddr, queue: &str) -> Value {
    good(&get(addr, &format!("queues/{queue}/stats")).await, 200)
}

/// The queue `q` may not be there yet.
async fn wait_for_consumers(addr: SocketAddr, expected: u64) {
    while json(&get(addr, "queues/q/stats").await)["consumers"] != json!(expected) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_message_is_put_leased_and_done_once() {
    let (_data, server) = start();
    let response = post(server.addr, "queues/mail/messages", r#"{"payload":{"to":"ada","n":1.50}}"#).await;
    let receipt = good(&response, 201);
    let id = receipt["id"].as_u64().expect("an id");
    assert_eq!(receipt, json!({ "id": id, "pos": id, "dup": false, "class": "disk" }));
    assert_eq!(response.header("location"), Some(&*format!("/api/v1/messages/{id}")));
    let found = good(&get(server.addr, &format!("messages/{id}")).await, 200);
    assert_eq!((&found["state"], &found["queue"], &found["deliveries"]), (&json!("ready"), &json!("mail"), &json!(0)));

    let response = post(server.addr, "queues/mail/lease", "").await;
    assert!(response.text().contains(r#""payload":{"to":"ada","n":1.50}"#), "as it was written: {}", response.text());
    let job = good(&response, 200)["messages"][0].clone();
    assert_eq!((&job["id"], &job["deliveries"], &job["failures"]), (&json!(id), &json!(1), &json!(0)));
    assert!(job["deadline"].as_u64() > job["at"].as_u64() && job["token"].is_u64());
    assert_eq!(lease(server.addr, "mail", "max=5").await, Vec::<Value>::new(), "it is leased");
    assert_eq!(stats(server.addr, "mail").await["leased"], json!(1));

    assert_eq!(settle(server.addr, json!([said(&job, "done")])).await, json!([{ "id": id, "ok": true }]));
    problem(&get(server.addr, &format!("messages/{id}")).await, 404, "unknown_message");
    let again = post(server.addr, "leases/settle", &json!([said(&job, "done")]).to_string()).await;
    let again = problem(&again, 409, "stale_lease");
    assert_eq!((&again["results"][0]["id"], &again["results"][0]["ok"]), (&json!(id), &json!(false)));
}

#[tokio::test]
async fn many_are_put_at_once_or_none() {
    let (_data, server) = start();
    let all = r#"[{"payload":1,"priority":3},{"payload":2,"opts":{"priority":9}},{"payload":{"$binary":"AAH/"}}]"#;
    let receipts = good(&post(server.addr, "queues/q/messages", all).await, 201);
    assert_eq!(receipts["receipts"].as_array().map(Vec::len), Some(3));
    let lines = Request::post("/api/v1/queues/q/messages", "{\"payload\":4}\n\n{\"payload\":5}\r\n");
    good(&send(server.addr, &lines.header("Content-Type", "application/x-ndjson; charset=utf-8")).await, 201);
    let bytes = Request::post("/api/v1/queues/q/messages", b"\0\x01".to_vec());
    good(&send(server.addr, &bytes.header("Content-Type", "application/octet-stream")).await, 201);
    let payloads = |jobs: Vec<Value>| jobs.into_iter().map(|job| job["payload"].clone()).collect::<Vec<_>>();
    let expected = [json!(2), json!(1), json!({ "$binary": "AAH/" }), json!(4), json!(5), json!({ "$binary": "AAE=" })];
    assert_eq!(payloads(lease(server.addr, "q", "max=10").await), expected);

    let wrong = r#"[{"payload":1},{"payload":2,"priority":32}]"#;
    let refused = problem(&post(server.addr, "queues/q/messages", wrong).await, 400, "invalid");
    assert!(refused["detail"].as_str().is_some_and(|it| it.starts_with("message 1: ")), "{refused}");
    assert_eq!(stats(server.addr, "q").await["ready"], json!(0));
}

#[tokio::test]
async fn headers_are_options_and_a_key_makes_repeating_harmless() {
    let (_data, server) = start();
    let keyed = |body: &str| Request::post("/api/v1/queues/q/messages", body).header("Idempotency-Key", "order-7");
    let first = good(&send(server.addr, &keyed(r#"{"payload":1}"#)).await, 201);
    let again = good(&send(server.addr, &keyed(r#"{"payload":1}"#)).await, 200);
    assert_eq!((&again["id"], &again["dup"]), (&first["id"], &json!(true)));
    let batch = || keyed(r#"[{"payload":1},{"payload":2}]"#);
    let receipts = good(&send(server.addr, &batch()).await, 201);
    let once_more = good(&send(server.addr, &batch()).await, 200);
    assert_eq!(receipts["receipts"][1]["id"], once_more["receipts"][1]["id"]);
    assert_eq!(stats(server.addr, "q").await["ready"], json!(3));

    let request = Request::post("/api/v1/queues/later/messages", r#"{"payload":1}"#);
    let request = request.header("Delay", "3600000").header("Priority", "7").header("Ordering-Key", "k");
    let id = good(&send(server.addr, &request).await, 201)["id"].clone();
    let found = good(&get(server.addr, &format!("messages/{id}")).await, 200);
    assert_eq!((&found["state"], &found["priority"], &found["key"]), (&json!("delayed"), &json!(7), &json!("k")));
    assert!(found["until"].as_u64() > found["at"].as_u64());
    // How urgent a browser says that the answer is has nothing to do with it.
    let browser = Request::post("/api/v1/queues/other/messages", r#"{"payload":1}"#).header("Priority", "u=4, i");
    good(&send(server.addr, &browser).await, 201);

    for (name, value, body) in [
        ("Delay", "soon", r#"{"payload":1}"#),
        ("Delay", "-1", r#"{"payload":1}"#),
        ("Priority", "32", r#"{"payload":1}"#),
        ("Priority", "3", r#"{"payload":1,"priority":3}"#),
    ] {
        let request = Request::post("/api/v1/queues/q/messages", body).header(name, value);
        problem(&send(server.addr, &request).await, 400, "invalid");
    }
}

#[tokio::test]
async fn whoever_waits_gets_the_first_that_comes_and_whoever_goes_away_takes_nothing() {
    let (_data, server) = start();
    // Goes away while it waits.
    let mut gone = Http::connect(server.addr).await;
    let target = "/api/v1/queues/q/lease?max=5&wait=60000";
    gone.wire().write(&Request::post(target, "").encode()).await.expect("it is sent");
    let consumers = |expected| wait_for_consumers(server.addr, expected);
    within("it waits", consumers(1)).await;
    drop(gone);
    within("it is gone", consumers(0)).await;
    put(server.addr, "q", r#"{"payload":"first"}"#).await;
    let jobs = lease(server.addr, "q", "").await;
    assert_eq!((&jobs[0]["payload"], &jobs[0]["deliveries"]), (&json!("first"), &json!(1)), "nobody had it before");

    let mut waits = Http::connect(server.addr).await;
    waits.wire().write(&Request::post(target, "").encode()).await.expect("it is sent");
    within("it waits", consumers(1)).await;
    put(server.addr, "q", r#"{"payload":"second"}"#).await;
    let response = within("the message", waits.response()).await.expect("an answer");
    assert_eq!(good(&response, 200)["messages"][0]["payload"], json!("second"));
    assert_eq!(stats(server.addr, "q").await["consumers"], json!(0));
    let empty = post(server.addr, "queues/q/lease?wait=1", "").await;
    assert_eq!((empty.status, &empty.body[..]), (204, &b""[..]));
}

#[tokio::test]
async fn whoever_waits_is_let_go_when_the_server_stops() {
    let (_data, server) = start();
    let mut waits = Http::connect(server.addr).await;
    let request = Request::post("/api/v1/queues/q/lease?wait=60000", "");
    waits.wire().write(&request.encode()).await.expect("it is sent");
    within("it waits", wait_for_consumers(server.addr, 1)).await;
    server.signal("-TERM");
    assert_eq!(within("the end", waits.response()).await.expect("in good order").status, 204);
    assert_eq!(server.end(), (Some(0), String::new()));
}

#[tokio::test]
async fn a_worker_says_what_became_of_what_it_has() {
    let (_data, server) = start();
    let addr = server.addr;
    for n in 0..6 {
        put(addr, "q", &format!(r#"{{"payload":{n},"keep_result":600000}}"#)).await;
    }
    let jobs = lease(addr, "q", "max=6&ttl=20000").await;
    let with = |job: &Value, outcome: &str, name: &str, value: Value| {
        let mut said = said(job, outcome);
        said[name] = value;
        said
    };
    let results = settle(
        addr,
        json!([
            with(&jobs[0], "done", "result", json!({ "size": 5, "data": { "$binary": "AAE=" } })),
            with(&jobs[1], "retry", "in", json!(3_600_000)),
            said(&jobs[2], "release"),
            with(&jobs[3], "dead", "why", json!("no such address")),
            with(&jobs[4], "touch", "in", json!(900_000)),
            with(&jobs[5], "progress", "result", json!(0.5)),
            { "id": jobs[0]["id"], "token": 1, "outcome": "done" },
        ]),
    )
    .await;
    let oks: Vec<bool> = results.as_array().expect("results").iter().map(|it| it["ok"] == json!(true)).collect();
    assert_eq!(oks, [true, true, true, true, true, true, false], "{results}");
    assert!(matches!(results[6]["code"].as_str(), Some("stale_lease" | "unknown_message")), "{results}");
    assert!(results[4]["deadline"].as_u64() > jobs[4]["deadline"].as_u64(), "{results}");
    assert!(results[5]["deadline"].is_u64(), "{results}");

    let id = |at: usize| jobs[at]["id"].as_u64().expect("an id");
    let ended = good(&get(addr, &format!("messages/{}/result", id(0))).await, 200);
    assert_eq!(ended, json!({ "id": id(0), "state": "done", "result": { "data": { "$binary": "AAE=" }, "size": 5 } }));
    let state = async |at: usize| good(&get(addr, &format!("messages/{}", id(at))).await, 200)["state"].clone();
    assert_eq!((state(1).await, state(2).await, state(3).await), (json!("delayed"), json!("ready"), json!("dead")));
    let dead = good(&get(addr, &format!("messages/{}/result?wait=60000", id(3))).await, 200);
    assert_eq!((&dead["state"], &dead["reason"]), (&json!("dead"), &json!("no such address")), "at once");
    let pending = good(&get(addr, &format!("messages/{}/result?wait=1", id(4))).await, 202);
    assert_eq!(pending, json!({ "id": id(4), "state": "pending" }));

    // Whoever waits has the result when it is there.
    let target = format!("messages/{}/result?wait=60000", id(4));
    let (ended, _) =
        tokio::join!(get(addr, &target), settle(addr, json!([with(&jobs[4], "done", "result", json!("done!"))])));
    assert_eq!(good(&ended, 200)["result"], json!("done!"));
    // Or that there will be none.
    put(addr, "forgets", r#"{"payload":1}"#).await;
    let job = lease(addr, "forgets", "").await[0].clone();
    let target = format!("messages/{}/result?wait=60000", job["id"]);
    let (ended, _) =
        tokio::join!(get(addr, &target), settle(addr, json!([with(&job, "done", "result", json!("done!"))])));
    problem(&ended, 404, "unknown_message");

    for (wrong, why) in [
        (json!([with(&jobs[5], "release", "why", json!("x"))]), "settlement 0: `why` says nothing"),
        (json!([said(&jobs[5], "don")]), "did you mean `done`?"),
        (json!([with(&jobs[5], "done", "reslt", json!(1))]), "did you mean `result`?"),
        (json!([said(&jobs[5], "progress")]), "`result` is missing"),
        (json!([with(&jobs[5], "retry", "in", json!(-1))]), "-1"),
        (json!([]), "1 to"),
        (json!({}), "an array"),
    ] {
        let refused = problem(&post(addr, "leases/settle", &wrong.to_string()).await, 400, "invalid");
        assert!(refused["detail"].as_str().is_some_and(|it| it.contains(why)), "{refused}");
    }
    assert_eq!(state(5).await, json!("leased"), "nothing was changed");
}

#[tokio::test]
async fn queues_are_listed_looked_at_and_configured() {
    let (_data, server) = start();
    let addr = server.addr;
    for queue in ["c", "a%2Fx", "b"] {
        put(addr, queue, r#"{"payload":1,"headers":{"trace":"t"}}"#).await;
    }
    let page = good(&get(addr, "queues?limit=2").await, 200);
    assert_eq!((&page["queues"][0]["name"], &page["queues"][1]["name"]), (&json!("a/x"), &json!("b")));
    assert_eq!((&page["queues"][0]["ready"], &page["next"]), (&json!(1), &json!("b")));
    let page = good(&get(addr, "queues?limit=2&after=b").await, 200);
    assert_eq!((page["queues"].as_array().map(Vec::len), &page["next"]), (Some(1), &Value::Null));

    let config = good(&ask(addr, "PUT", "queues/c", r#"{"attempts":2,"backoff":"none","max_messages":3}"#).await, 200);
    assert_eq!((&config["config"]["attempts"], &config["config"]["lease_ms"]), (&json!(2), &json!(30_000)));
    let shown = good(&get(addr, "queues/c").await, 200);
    assert_eq!((&shown["config"], &shown["stats"]["ready"]), (&config["config"], &json!(1)));
    for (config, why) in [
        (r#"{"atempts":2}"#, "did you mean `attempts`?"),
        (r#"{"overflow":"drop_odest"}"#, "did you mean `drop_oldest`?"),
        (r#"{"attempts":0}"#, "attempts"),
        (r#"{"lease_ms":-5}"#, "-5"),
        ("[", "EOF"),
    ] {
        let refused = problem(&ask(addr, "PUT", "queues/c", config).await, 400, "invalid");
        assert!(refused["detail"].as_str().is_some_and(|it| it.contains(why)), "{refused}");
    }
    assert_eq!(good(&get(addr, "queues/c").await, 200)["config"], config["config"]);

    for n in 0..2 {
        put(addr, "c", &format!(r#"{{"payload":{n}}}"#)).await;
    }
    let full = post(addr, "queues/c/messages", r#"{"payload":4}"#).await;
    problem(&full, 429, "queue_full");
    assert_eq!(full.header("retry-after"), Some("1"));
    let page = good(&get(addr, "queues/c/peek?n=2").await, 200);
    assert_eq!(
        (&page["messages"][0]["headers"], page["messages"].as_array().map(Vec::len)),
        (&json!({ "trace": "t" }), Some(2))
    );
    let page = good(&get(addr, &format!("queues/c/peek?n=2&after={}", page["next"])).await, 200);
    assert_eq!((&page["messages"][0]["payload"], &page["next"]), (&json!(1), &Value::Null));
    assert_eq!(good(&get(addr, "queues/c/peek?state=dead").await, 200)["messages"], json!([]));
    assert_eq!(stats(addr, "c").await["leased"], json!(0), "looking changes nothing");
    good(&ask(addr, "DELETE", "queues/c", "").await, 204);
    problem(&get(addr, "queues/c/stats").await, 404, "unknown_queue");
}

#[tokio::test]
async fn a_queue_is_paused_drained_purged_and_redriven() {
    let (_data, server) = start();
    let addr = server.addr;
    for n in 0..3 {
        put(addr, "q", &format!(r#"{{"payload":{n}}}"#)).await;
    }
    good(&post(addr, "queues/q/pause", "").await, 204);
    assert!(lease(addr, "q", "").await.is_empty());
    assert_eq!(stats(addr, "q").await["paused"], json!(true));
    good(&post(addr, "queues/q/resume", "").await, 204);
    let jobs = lease(addr, "q", "max=2").await;
    settle(addr, json!([said(&jobs[0], "dead"), said(&jobs[1], "dead")])).await;

    good(&post(addr, "queues/q/drain", "").await, 204);
    problem(&post(addr, "queues/q/messages", r#"{"payload":1}"#).await, 409, "draining");
    good(&post(addr, "queues/q/drain?on=false", "").await, 204);
    put(addr, "q", r#"{"payload":1}"#).await;

    assert_eq!(good(&post(addr, "queues/q/redrive?max=1", "").await, 200), json!({ "count": 1 }));
    assert_eq!(stats(addr, "q").await["dead"], json!(1));
    problem(&post(addr, "queues/q/purge", "").await, 400, "invalid");
    assert_eq!(good(&post(addr, "queues/q/purge?state=ready,delayed", "").await, 200), json!({ "count": 3 }));
    let left = good(&get(addr, "queues/q/peek?state=dead").await, 200)["messages"][0]["id"].clone();
    good(&ask(addr, "DELETE", &format!("messages/{left}"), "").await, 204);
    assert_eq!(stats(addr, "q").await["dead"], json!(0));
}

#[tokio::test]
async fn what_is_put_over_one_wire_is_worked_on_over_the_other() {
    let (_data, server) = start();
    put(server.addr, "q", r#"{"payload":{"data":{"$binary":"AAH/"}}}"#).await;
    let mut client = Client::websocket(server.addr).await;
    client.send("0/queues,").await;
    assert!(client.text().await.starts_with("0/queues,"));
    client.send(r#"2/queues,1["q:consume","q",{"prefetch":1}]"#).await;
    let (mut job, mut answer) = (String::new(), String::new());
    while job.is_empty() || answer.is_empty() {
        let text = client.text().await;
        if text.starts_with("3/queues,1") {
            answer = text;
        } else {
            job = text;
            client.expect_binary(b"\0\x01\xff").await;
        }
    }
    assert!(job.contains(r#"{"data":{"_placeholder":true,"num":0}}"#), "{job}");
    client.send(r#"2/queues,2["q:put","other",[1,"two"],{"headers":{"a":1}}]"#).await;
    while !client.text().await.starts_with("3/queues,2") {}
    let jobs = lease(server.addr, "other", "").await;
    assert_eq!((&jobs[0]["payload"], &jobs[0]["headers"]), (&json!([1, "two"]), &json!({ "a": 1 })));
}

#[tokio::test]
async fn leases_and_messages_outlive_the_server() {
    let data = tempfile::tempdir().expect("a folder");
    let server = Running::start("dev --json", data.path());
    put(server.addr, "q", r#"{"payload":"had"}"#).await;
    let job = lease(server.addr, "q", "").await.remove(0);
    // What is written next writes down the lease as well.
    put(server.addr, "q", r#"{"payload":"waits"}"#).await;
    server.signal("-KILL");
    drop(server);
    let server = Running::start("dev --json", data.path());
    let jobs = lease(server.addr, "q", "max=5").await;
    assert_eq!(jobs.iter().map(|job| job["payload"].clone()).collect::<Vec<_>>(), [json!("waits")]);
    assert_eq!(settle(server.addr, json!([said(&job, "done")])).await[0]["ok"], json!(true));
}

#[tokio::test]
async fn refusals_are_problems_with_a_code() {
    let (_data, server) = start();
    let addr = server.addr;
    let long = format!("queues/{}/stats", "x".repeat(201));
    for (method, target, body, status, code) in [
        ("GET", "queues/none/stats", "", 404, "unknown_queue"),
        ("GET", "queues/none", "", 404, "unknown_queue"),
        ("DELETE", "queues/none", "", 404, "unknown_queue"),
        ("GET", "queues/two%20words/stats", "", 400, "bad_name"),
        ("POST", "queues/%C3%A9/messages", r#"{"payload":1}"#, 400, "bad_name"),
        ("GET", &long, "", 400, "bad_name"),
        ("GET", "queues/%ff/stats", "", 400, "invalid"),
        ("POST", "queues/q/messages", "", 400, "invalid"),
        ("POST", "queues/q/messages", "5", 400, "invalid"),
        ("POST", "queues/q/messages", "[]", 400, "invalid"),
        ("POST", "queues/q/messages", "{}", 400, "invalid"),
        ("POST", "queues/q/messages", r#"{"payload":1,"delay":-1}"#, 400, "invalid"),
        ("POST", "queues/q/messages", r#"{"payload":1,"delay":99999999999999}"#, 400, "invalid"),
        ("POST", "queues/q/messages", r#"{"payload":1,"dely":1}"#, 400, "invalid"),
        ("POST", "queues/q/messages", r#"{"payload":{"$binary":"?"}}"#, 400, "invalid"),
        ("POST", "queues/q/messages", "{\"payload\":\"\u{0}\"}", 400, "invalid"),
        ("POST", "queues/q/lease?max=0", "", 400, "invalid"),
        ("POST", "queues/q/lease?max=1001", "", 400, "invalid"),
        ("POST", "queues/q/lease?wait=60001", "", 400, "invalid"),
        ("POST", "queues/q/lease?ttl=0", "", 400, "invalid"),
        ("POST", "queues/q/lease?maxx=1", "", 400, "invalid"),
        ("POST", "queues/q/lease", r#"{"max":5}"#, 400, "invalid"),
        ("GET", "queues?limit=0", "", 400, "invalid"),
        ("GET", "queues/q/peek?n=1001", "", 400, "invalid"),
        ("GET", "queues/q/peek?state=deda", "", 400, "invalid"),
        ("POST", "queues/q/purge?state=raedy", "", 400, "invalid"),
        ("GET", "messages/x", "", 400, "invalid"),
        ("GET", "messages/5", "", 404, "unknown_message"),
        ("GET", "messages/5/result", "", 404, "unknown_message"),
        ("DELETE", "messages/5", "", 404, "unknown_message"),
        ("PATCH", "queues/q", "", 405, "method_not_allowed"),
        ("GET", "queues/q/lease", "", 405, "method_not_allowed"),
        ("GET", "queues/q/nothing", "", 404, "not_found"),
    ] {
        let response = ask(addr, method, target, body).await;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, status, "{method} {target} {body} {text}");
        problem(&response, status, code);
    }
    assert_eq!(good(&get(addr, "queues").await, 200)["queues"], json!([]), "nothing was made");
    let large = format!(r#"{{"payload":"{}"}}"#, "x".repeat(17 << 20));
    problem(&post(addr, "queues/q/messages", &large).await, 413, "too_large");
    for origin in ["http://evil.example", "null"] {
        let foreign = Request::post("/api/v1/queues/q/messages", r#"{"payload":1}"#).header("Origin", origin);
        problem(&send(addr, &foreign).await, 403, "forbidden");
    }
    let own = Request::post("/api/v1/queues/q/messages", r#"{"payload":1}"#).header("Origin", "http://localhost");
    good(&send(addr, &own).await, 201);
}

#[tokio::test]
async fn a_server_that_is_not_for_trying_allows_what_its_rules_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Running::start("serve", &data);
    for (method, target, body) in [
        ("POST", "queues/q/messages", r#"{"payload":1}"#),
        ("POST", "queues/q/lease", ""),
        ("POST", "leases/settle", r#"[{"id":1,"token":1,"outcome":"done"}]"#),
        ("GET", "queues", ""),
        ("GET", "messages/1", ""),
        ("DELETE", "queues/q", ""),
    ] {
        problem(&ask(server.addr, method, target, body).await, 403, "forbidden");
    }
    server.signal("-TERM");
    assert_eq!(server.end(), (Some(0), String::new()));
    let file = folder.path().join("posthaste.toml");
    let rules = "[[queue]]\nmatch = 'mail'\nput = 'anyone'\nwork = 'anyone'\n[queue.config]\nattempts = 1\n[[queue]]\nmatch = 'secret'\nput = 'anyone'";
    std::fs::write(&file, rules).expect("a file");
    let server = Running::start(&format!("serve --config {}", file.display()), &data);
    let addr = server.addr;
    put(addr, "mail", r#"{"payload":1}"#).await;
    put(addr, "secret", r#"{"payload":2}"#).await;
    problem(&post(addr, "queues/secret/lease", "").await, 403, "forbidden");
    problem(&get(addr, "queues/mail/peek").await, 403, "forbidden");
    let job = lease(addr, "mail", "").await.remove(0);
    // One attempt, as the file says; and nobody guesses at what is not theirs.
    assert_eq!(
        settle(addr, json!([said(&job, "retry"), { "id": 2, "token": 1, "outcome": "done" }])).await[1]["code"],
        json!("stale_lease")
    );
    assert_eq!(good(&get(addr, &format!("messages/{}/result", job["id"])).await, 200)["state"], json!("dead"));
    problem(&get(addr, "messages/2").await, 403, "forbidden");
}

#[tokio::test]
async fn where_queues_are_strict_only_configuring_makes_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("posthaste.toml");
    let anyone = "put = 'anyone'\nwork = 'anyone'\nmanage = 'anyone'\n";
    let rules = format!(
        "strict_queues = true\n[[queue]]\nmatch = 'mail'\n{anyone}[queue.config]\n[[queue]]\nmatch = '*'\n{anyone}"
    );
    std::fs::write(&file, rules).expect("a file");
    let data = folder.path().join("data");
    for round in 1..=2 {
        let server = Running::start(&format!("serve --config {}", file.display()), &data);
        let addr = server.addr;
        put(addr, "mail", r#"{"payload":1}"#).await;
        let name = format!("made-{round}");
        problem(&post(addr, &format!("queues/{name}/messages"), r#"{"payload":1}"#).await, 404, "unknown_queue");
        problem(&post(addr, &format!("queues/{name}/lease"), "").await, 404, "unknown_queue");
        good(&ask(addr, "PUT", &format!("queues/{name}"), "{}").await, 200);
        put(addr, &name, r#"{"payload":1}"#).await;
        server.signal("-KILL");
        server.end();
    }
}

#[tokio::test]
async fn a_batch_that_does_not_fit_is_not_put_and_what_happened_is_counted() {
    let (_data, server) = start();
    let addr = server.addr;
    good(&ask(addr, "PUT", "queues/small", r#"{"max_messages":2}"#).await, 200);
    let batch = |count: usize| format!("[{}]", vec![r#"{"payload":1}"#; count].join(","));
    problem(&post(addr, "queues/small/messages", &batch(3)).await, 429, "queue_full");
    assert_eq!(stats(addr, "small").await["ready"], json!(0));
    good(&post(addr, "queues/small/messages", &batch(2)).await, 201);
    let jobs = lease(addr, "small", "max=10&ttl=100").await;
    assert_eq!(jobs.len(), 2);
    // Their leases run out, and what is said of them then is refused and counted.
    while stats(addr, "small").await["counted"]["leases_expired"] != json!(2) {
        tokio::task::yield_now().await;
    }
    let late = json!([said(&jobs[0], "done"), said(&jobs[1], "done")]);
    let refused = post(addr, "leases/settle", &late.to_string()).await;
    assert_eq!(refused.status, 409);
    let jobs = lease(addr, "small", "max=10").await;
    let done = json!([said(&jobs[0], "done"), said(&jobs[1], "done")]);
    assert_eq!(settle(addr, done).await, json!([{ "id": 1, "ok": true }, { "id": 2, "ok": true }]));
    let counted = stats(addr, "small").await["counted"].clone();
    let of = |name: &str| counted[name].as_u64();
    assert_eq!([of("put"), of("given"), of("done"), of("stale"), of("lost")], [2, 4, 2, 2, 0].map(Some), "{counted}");
}

#[tokio::test]
async fn results_are_for_those_who_may_put_into_the_queue_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let server = Running::start("dev --json", &data);
    for queue in ["mail", "secret", "gone"] {
        put(server.addr, queue, r#"{"payload":1,"keep_result":3600000}"#).await;
        let job = lease(server.addr, queue, "").await.remove(0);
        let done = json!([{ "id": job["id"], "token": job["token"], "outcome": "done", "result": queue }]);
        assert_eq!(settle(server.addr, done).await[0]["ok"], json!(true));
    }
    assert_eq!(good(&get(server.addr, "messages/3/result").await, 200)["result"], json!("gone"));
    assert_eq!(ask(server.addr, "DELETE", "queues/gone", "").await.status, 204);
    // With its queue goes what is kept of it.
    problem(&get(server.addr, "messages/3/result").await, 404, "unknown_message");
    server.signal("-KILL");
    server.end();
    let file = folder.path().join("posthaste.toml");
    let rules =
        "[[queue]]\nmatch = 'mail'\nput = 'anyone'\n[[queue]]\nmatch = 'secret'\nwork = 'anyone'\nmanage = 'anyone'";
    std::fs::write(&file, rules).expect("a file");
    let server = Running::start(&format!("serve --config {}", file.display()), &data);
    let mut client = Client::join(server.addr, posthaste_testkit::Transport::WebSocket).await;
    client.connect("/queues").await;
    assert_eq!(good(&get(server.addr, "messages/1/result").await, 200)["result"], json!("mail"));
    client.send(r#"2/queues,1["q:await",1]"#).await;
    assert_eq!(within("the result", client.text()).await, r#"3/queues,1[{"ok":true,"id":1,"result":"mail"}]"#);
    // Who may manage sees it as he sees all messages, and as no caller does.
    assert_eq!(good(&get(server.addr, "messages/2").await, 200)["result"], json!("secret"));
    problem(&get(server.addr, "messages/1").await, 404, "unknown_message");
    problem(&get(server.addr, "messages/2/result").await, 404, "unknown_message");
    client.send(r#"2/queues,2["q:await",2]"#).await;
    let refused = within("a refusal", client.text()).await;
    assert!(refused.contains(r#""code":"unknown_message""#), "{refused}");
    client.send(r#"2/queues,3["q:call","secret",1]"#).await;
    let refused = within("a refusal", client.text()).await;
    assert!(refused.contains(r#""code":"forbidden""#), "{refused}");
}
