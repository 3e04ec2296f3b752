//! `GET /api/v1/streams/{name}` as curl sees it.

#![cfg(unix)]

mod running;

use std::net::SocketAddr;

use posthaste_testkit::{Client, Http, Request, Response, within};
use running::Running;
use serde_json::{Value, json};
use tempfile::TempDir;

async fn get(addr: SocketAddr, target: &str) -> Response {
    Http::once(addr, &Request::get(target)).await.expect("an answer")
}

fn json(response: &Response) -> Value {
    serde_json::from_slice(&response.body).expect("JSON")
}

/// Sends an event to a room; gives its offset.
async fn keep(client: &mut Client, room: &str, args: &str) -> String {
    client.send(&format!(r#"21["room:emit","{room}","chat",{args}]"#)).await;
    let answer = client.text().await;
    let answer: Value = serde_json::from_str(answer.strip_prefix("31").expect("an answer")).expect("JSON");
    answer[0]["offset"].as_str().expect("it is kept").to_owned()
}

/// A connection on which the events of a stream come.
struct Events(Http);

impl Events {
    async fn open(addr: SocketAddr, target: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(target).header("Accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let mut http = Http::connect(addr).await;
        http.wire().write(&request.encode()).await.expect("it is sent");
        let head = http.wire().take_until(b"\r\n\r\n").await.expect("a head");
        let head = String::from_utf8(head).expect("text");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
        assert!(head.contains("cache-control: no-"), "{head}");
        Self(http)
    }

    /// The lines of the next event; comments are passed over.
    async fn next(&mut self) -> Vec<String> {
        loop {
            let wire = self.0.wire();
            let size = within("an event", wire.take_until(b"\r\n")).await.expect("a chunk");
            let size = usize::from_str_radix(std::str::from_utf8(&size).expect("text").trim(), 16).expect("a size");
            let chunk = wire.take(size + 2).await.expect("a chunk");
            let text = std::str::from_utf8(&chunk[..size]).expect("text");
            assert!(text.ends_with("\n\n"), "an event is a chunk: {text:?}");
            let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
            if !lines.iter().all(|line| line.starts_with(':')) {
                return lines;
            }
        }
    }

    /// The next event's id and data.
    async fn event(&mut self) -> (String, Value) {
        let lines = self.next().await;
        let [id, data] = &lines[..] else { panic!("{lines:?}") };
        let data = data.strip_prefix("data: ").expect("data");
        (id.strip_prefix("id: ").expect("an id").to_owned(), serde_json::from_str(data).expect("JSON"))
    }
}

fn start() -> (TempDir, Running) {
    let data = tempfile::tempdir().expect("a folder");
    let server = Running::start("dev --json", data.path());
    (data, server)
}

#[tokio::test]
async fn a_stream_is_read_in_pages_each_of_which_leads_to_the_next() {
    let (_data, server) = start();
    let mut client = Client::websocket(server.addr).await;
    let mut offsets = Vec::new();
    for text in ["1", r#""two",{"three":[4]}"#, "null"] {
        offsets.push(keep(&mut client, "demo:a/b c", text).await);
    }
    let response = get(server.addr, "/api/v1/streams/demo%3Aa%2Fb%20c?limit=2").await;
    assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
    assert_eq!((response.header("vary"), response.header("cache-control")), (Some("accept"), Some("no-store")));
    let page = json(&response);
    assert_eq!(page["events"][1]["args"], json!(["two", { "three": [4] }]));
    assert_eq!((&page["events"][1]["n"], &page["events"][1]["event"]), (&json!(2), &json!("chat")));
    assert_eq!((&page["complete"], &page["gap"], &page["next"]), (&json!(false), &json!(false), &json!(offsets[1])));
    let page = json(
        &get(server.addr, &format!("/api/v1/streams/demo:a%2Fb c?after={}", offsets[1]).replace(' ', "%20")).await,
    );
    assert_eq!(page["events"].as_array().map(Vec::len), Some(1));
    assert_eq!((&page["complete"], &page["next"]), (&json!(true), &json!(offsets[2])));
    let page = json(&get(server.addr, "/api/v1/streams/demo:nobody-was-here").await);
    assert_eq!((&page["events"], &page["complete"]), (&json!([]), &json!(true)));
    let now = json(&get(server.addr, "/api/v1/streams/demo?after=now").await);
    assert_eq!(now["events"], json!([]));
}

#[tokio::test]
async fn bytes_are_spelt_out() {
    let (_data, server) = start();
    let mut client = Client::websocket(server.addr).await;
    client.send(r#"51-21["room:emit","demo","file",{"data":{"_placeholder":true,"num":0}}]"#).await;
    client.send_binary(b"\0\x01\xff").await;
    assert!(client.text().await.contains(r#""ok":true"#));
    let page = json(&get(server.addr, "/api/v1/streams/demo").await);
    assert_eq!(page["events"][0]["args"], json!([{ "data": { "$binary": "AAH/" } }]));
}

#[tokio::test]
async fn events_come_as_they_are_kept_and_the_last_id_goes_on_behind_it() {
    let (_data, server) = start();
    let mut client = Client::websocket(server.addr).await;
    let first = keep(&mut client, "demo", r#""a\nb""#).await;
    let mut all = Events::open(server.addr, "/api/v1/streams/demo", None).await;
    let (id, data) = all.event().await;
    assert_eq!((&id, &data["offset"], &data["n"], &data["args"]), (&first, &json!(first), &json!(1), &json!(["a\nb"])));
    let mut fresh = Events::open(server.addr, "/api/v1/streams/demo?after=now", None).await;
    assert_eq!(fresh.next().await, [format!("id: {first}")], "where it is, with nothing sent of it");
    for text in ["2", "3"] {
        let offset = keep(&mut client, "demo", text).await;
        // Another room's events are none of this stream's.
        keep(&mut client, "demo:other", text).await;
        for events in [&mut all, &mut fresh] {
            assert_eq!(events.event().await.0, offset);
        }
    }
    drop((all, fresh));
    // What an EventSource says when it comes back counts more than where it began.
    let mut back = Events::open(server.addr, &format!("/api/v1/streams/demo?after={first}"), Some(&first)).await;
    assert_eq!(back.event().await.1["args"], json!([2]));
    let (third, _) = back.event().await;
    let mut back = Events::open(server.addr, "/api/v1/streams/demo", Some(&third)).await;
    keep(&mut client, "demo", "4").await;
    assert_eq!(back.event().await.1["args"], json!([4]));
    let mut lost = Events::open(server.addr, "/api/v1/streams/demo", Some(&format!("~{}", "a".repeat(22)))).await;
    assert_eq!(lost.next().await[0], "event: gap");
    assert_eq!(lost.event().await.0, first);
}

#[tokio::test]
async fn who_follows_is_let_go_when_the_server_stops() {
    let (_data, server) = start();
    let mut events = Events::open(server.addr, "/api/v1/streams/demo?after=now", None).await;
    events.next().await;
    server.signal("-INT");
    let rest = within("the end", events.0.wire().take_rest()).await.expect("in good order");
    assert_eq!(rest, b"0\r\n\r\n");
    assert_eq!(server.end(), (Some(0), String::new()));
}

#[tokio::test]
async fn refusals_are_problems_with_a_code() {
    let (_data, server) = start();
    let sse = |target: &str| Request::get(target).header("Accept", "text/event-stream");
    let long = format!("/api/v1/streams/{}", "x".repeat(300));
    for (request, status, code) in [
        (Request::get("/api/v1/streams/private"), 403, "forbidden"),
        (sse("/api/v1/streams/private"), 403, "forbidden"),
        (Request::get("/api/v1/streams/demo?after=yesterday"), 400, "invalid"),
        (sse("/api/v1/streams/demo?after=yesterday"), 400, "invalid"),
        (Request::get("/api/v1/streams/demo?limit=0"), 400, "invalid"),
        (Request::get("/api/v1/streams/demo?limit=1001"), 400, "invalid"),
        (Request::get("/api/v1/streams/demo?limit=-1"), 400, "invalid"),
        (sse("/api/v1/streams/demo?limit=5"), 400, "invalid"),
        (sse("/api/v1/streams/demo").header("Last-Event-ID", "7"), 400, "invalid"),
        (Request::get("/api/v1/streams/demo?aftre=x"), 400, "invalid"),
        (Request::get("/api/v1/streams/%ff"), 400, "invalid"),
        (Request::get(&long), 400, "invalid"),
        (Request::new("DELETE", "/api/v1/streams/demo"), 405, "method_not_allowed"),
        (Request::get("/api/v1/streams/"), 404, "not_found"),
        (Request::get("/api/v1/nothing"), 404, "not_found"),
    ] {
        let response = Http::once(server.addr, &request).await.expect("an answer");
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert_eq!(response.status, status, "{request:?} {text}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{request:?}");
        let problem = json(&response);
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{request:?}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{text}");
    }
}
