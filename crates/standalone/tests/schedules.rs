//! What is put again and again: over HTTP, on the command line, in the configuration, and through kills.

#![cfg(unix)]

mod running;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime};

use posthaste_testkit::{Http, Request, Response, within};
use running::{Running, posthaste};
use serde_json::{Value, json};
use tempfile::TempDir;

fn start() -> (TempDir, Running) {
    let data = tempfile::tempdir().expect("a folder");
    let server = Running::start("dev --json", data.path());
    (data, server)
}

async fn ask(addr: SocketAddr, method: &str, target: &str, body: &str) -> Response {
    let target = format!("/api/v1/{target}");
    let request =
        if body.is_empty() { Request::new(method, &target) } else { Request::with_body(method, &target, body) };
    within("an answer", Http::once(addr, &request)).await.expect("an answer")
}

async fn put(addr: SocketAddr, name: &str, schedule: &Value) -> Response {
    ask(addr, "PUT", &format!("schedules/{name}"), &schedule.to_string()).await
}

fn good(response: &Response, status: u16) -> Value {
    assert_eq!(response.status, status, "{}", response.text());
    assert_eq!(response.header("cache-control"), Some("no-store"));
    serde_json::from_slice(&response.body).unwrap_or_default()
}

fn problem(response: &Response, status: u16, code: &str) {
    let problem: Value = serde_json::from_slice(&response.body).expect("JSON");
    assert_eq!((response.status, &problem["code"]), (status, &json!(code)), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|it| !it.is_empty()), "{problem}");
}

fn command(addr: SocketAddr, line: &str) -> Command {
    let mut command = posthaste(line);
    command.env("POSTHASTE_URL", format!("http://{addr}"));
    command
}

fn succeeded(ended: Output) -> String {
    assert!(ended.status.success(), "{ended:?}");
    String::from_utf8(ended.stdout).expect("text")
}

fn said(addr: SocketAddr, line: &str) -> String {
    succeeded(command(addr, line).output().expect("it runs"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_millis() as u64
}

#[tokio::test]
async fn a_schedule_is_told_looked_at_paused_run_and_removed() {
    let (_data, server) = start();
    let addr = server.addr;
    let told = json!({ "queue": "reports", "payload": { "$binary": "AAH/" }, "cron": "30 2 * * *", "zone": "europe/berlin",
        "missed": "all", "priority": 3, "key": "k", "ttl": 3600000, "headers": { "a": 1 } });
    let there = good(&put(addr, "nightly", &told).await, 200);
    assert_eq!(
        (&there["name"], &there["zone"], &there["max_missed"]),
        (&json!("nightly"), &json!("Europe/Berlin"), &json!(100))
    );
    assert_eq!((&there["payload"], &there["key"], &there["ttl"]), (&told["payload"], &json!("k"), &json!(3_600_000)));
    let next = there["next"].as_u64().expect("a time");
    assert!(next > now() && next <= now() + 25 * 3_600_000 && next.is_multiple_of(1_800_000), "{there}");
    assert_eq!(good(&put(addr, "nightly", &told).await, 200), there, "told again, it is the same");

    let receipt = good(&ask(addr, "POST", "schedules/nightly/run", "").await, 201);
    let message = good(&ask(addr, "GET", &format!("messages/{}", receipt["id"]), "").await, 200);
    assert_eq!(
        (&message["queue"], &message["payload"], &message["priority"]),
        (&json!("reports"), &told["payload"], &json!(3))
    );
    assert_eq!((&message["headers"]["a"], &message["headers"]["schedule"]["name"]), (&json!(1), &json!("nightly")));
    assert_eq!(good(&ask(addr, "GET", "schedules/nightly", "").await, 200), there, "a run is none of its times");

    good(&ask(addr, "POST", "schedules/nightly/pause", "").await, 204);
    let paused = good(&ask(addr, "GET", "schedules/nightly", "").await, 200);
    assert_eq!((&paused["paused"], &paused["next"]), (&json!(true), &Value::Null));
    good(&ask(addr, "POST", "schedules/nightly/resume", "").await, 204);
    assert_eq!(good(&ask(addr, "GET", "schedules/nightly", "").await, 200), there);

    for (name, queue) in [("a", "reports"), ("b", "other"), ("c", "reports")] {
        good(&put(addr, name, &json!({ "queue": queue, "payload": null, "every": 60000 })).await, 200);
    }
    let names = |page: &Value| -> Vec<String> {
        let all = page["schedules"].as_array().expect("schedules").iter();
        all.map(|it| it["name"].as_str().expect("a name").to_owned()).collect()
    };
    let page = good(&ask(addr, "GET", "schedules?limit=2", "").await, 200);
    assert_eq!((names(&page), &page["next"]), (vec!["a".into(), "b".into()], &json!("b")));
    let page = good(&ask(addr, "GET", "schedules?limit=2&after=b", "").await, 200);
    assert_eq!((names(&page), &page["next"]), (vec!["c".into(), "nightly".into()], &Value::Null));
    let page = good(&ask(addr, "GET", "schedules?queue=reports", "").await, 200);
    assert_eq!(names(&page), ["a", "c", "nightly"]);
    good(&ask(addr, "DELETE", "schedules/nightly", "").await, 204);
    for (method, target) in [("GET", ""), ("DELETE", ""), ("POST", "/run"), ("POST", "/pause"), ("POST", "/resume")] {
        let target = format!("schedules/nightly{target}");
        problem(&ask(addr, method, &target, "").await, 404, "unknown_schedule");
    }
}

#[tokio::test]
async fn what_cannot_be_scheduled_is_refused() {
    let (_data, server) = start();
    let addr = server.addr;
    let with = |more: Value| {
        let mut schedule = json!({ "queue": "q", "payload": 1, "cron": "@daily" });
        schedule.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
        schedule
    };
    good(&put(addr, "there", &with(json!({}))).await, 200);
    for (name, schedule, status, code) in [
        ("s", json!({}), 400, "invalid"),
        ("s", json!({ "queue": "q", "cron": "@daily" }), 400, "invalid"),
        ("s", json!({ "queue": "q", "payload": 1 }), 400, "invalid"),
        ("s", with(json!({ "queue": "two words" })), 400, "bad_name"),
        ("two%20words", with(json!({})), 400, "bad_name"),
        ("s", with(json!({ "cron": "61 * * * *" })), 400, "bad_schedule"),
        ("s", with(json!({ "zone": "Mars/Olympus" })), 400, "bad_schedule"),
        ("s", with(json!({ "cron": "0 0 31 2 *" })), 400, "never_fires"),
        ("s", with(json!({ "every": 5000 })), 400, "invalid"),
        ("s", with(json!({ "delay": 5000 })), 400, "invalid"),
        ("s", with(json!({ "payload": "x".repeat(70_000) })), 413, "too_large"),
        ("there", with(json!({ "queue": "r" })), 409, "other_queue"),
    ] {
        problem(&put(addr, name, &schedule).await, status, code);
    }
    let page = good(&ask(addr, "GET", "schedules", "").await, 200);
    assert_eq!(page["schedules"].as_array().map(Vec::len), Some(1));
}

#[test]
fn schedules_on_the_command_line() {
    let (_data, server) = start();
    let addr = server.addr;
    let mut add =
        command(addr, "queue schedule add nightly --queue reports --zone Europe/Berlin --missed skip --one-at-a-time");
    let shown = succeeded(add.args(["--cron", "30 2 * * *", r#"{"of":"all"}"#]).output().expect("it runs"));
    assert!(shown.contains("when       30 2 * * *, Europe/Berlin") && shown.contains(r#"{"of":"all"}"#), "{shown}");
    said(addr, "queue schedule add often --queue reports --every 10m --priority 5 text --paused");
    let listed = said(addr, "queue schedule ls");
    let rows: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows.len(), rows[1][0], rows[2][0]), (3, "nightly", "often"), "{listed}");
    assert!(listed.contains("every 10m") && listed.contains("paused"), "{listed}");
    assert_eq!(said(addr, "queue schedule ls --queue other").lines().count(), 1);
    let id: u64 = said(addr, "queue schedule run often").trim().parse().expect("an id");
    assert!(said(addr, "queue peek reports").contains("text") && id > 0);
    said(addr, "queue schedule resume often");
    said(addr, "queue schedule pause nightly");
    let nightly: Value = serde_json::from_str(&said(addr, "queue schedule show nightly --json")).expect("JSON");
    assert_eq!((&nightly["paused"], &nightly["dedup_mode"]), (&json!(true), &json!("until_done")));
    said(addr, "queue schedule rm nightly");
    let gone = command(addr, "queue schedule show nightly").output().expect("it runs");
    let why = String::from_utf8_lossy(&gone.stderr).into_owned();
    assert!(gone.status.code() == Some(1) && why.contains("unknown_schedule"), "{gone:?}");
    for line in ["queue schedule add s --queue q 1", "queue schedule add s --queue q --cron @daily --every 1m 1"] {
        assert_eq!(command(addr, line).output().expect("it runs").status.code(), Some(2), "{line}");
    }
}

/// The times of the messages of a schedule, in the order in which they were put.
fn times(addr: SocketAddr, queue: &str, name: &str) -> Vec<u64> {
    let looked = command(addr, &format!("queue peek {queue} -n 1000 --json")).output().expect("it runs");
    if String::from_utf8_lossy(&looked.stderr).contains("unknown_queue") {
        return Vec::new(); // it is made with the first of them
    }
    let page: Value = serde_json::from_str(&succeeded(looked)).expect("JSON");
    let all = page["messages"].as_array().expect("messages").iter().map(|it| &it["headers"]["schedule"]);
    all.filter(|it| it["name"] == name).map(|it| it["time"].as_u64().expect("a time")).collect()
}

fn serve(config: &Path, data: &Path) -> Running {
    Running::start(&format!("serve --config {}", config.display()), data)
}

#[test]
fn each_time_is_put_once_through_kills_of_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, data) = (folder.path().join("posthaste.toml"), folder.path().join("data"));
    let config = "[[queue]]\nmatch = '*'\nput = 'anyone'\nwork = 'anyone'\nmanage = 'anyone'\n\
        [[schedule]]\nname = 'cron'\nqueue = 'ticks'\ncron = '* * * * * *'\nzone = 'Asia/Kolkata'\nmissed = 'all'\npayload = { n = 1 }\n\
        [[schedule]]\nname = 'paused'\nqueue = 'ticks'\nevery = '1s'\npaused = true\n";
    std::fs::write(&file, config).expect("a file");
    for round in 1..=3 {
        let server = serve(&file, &data);
        let before = times(server.addr, "ticks", "cron").len();
        let began = Instant::now();
        // Told at each start, it goes on: what was missed meanwhile is there as well.
        while times(server.addr, "ticks", "cron").len() < before + 2 {
            assert!(began.elapsed() < Duration::from_secs(60), "round {round}: nothing was put");
            std::thread::sleep(Duration::from_millis(50));
        }
        server.signal("-KILL");
        drop(server);
    }
    let server = serve(&file, &data);
    let seen = times(server.addr, "ticks", "cron");
    let expected: Vec<u64> = (0..seen.len() as u64).map(|place| seen[0] + place * 1_000).collect();
    assert_eq!(seen, expected);
    assert_eq!(times(server.addr, "ticks", "paused"), [0_u64; 0]);
}

#[tokio::test]
async fn whoever_may_not_manage_a_queue_knows_nothing_of_its_schedules() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, data) = (folder.path().join("posthaste.toml"), folder.path().join("data"));
    let config = "[[queue]]\nmatch = 'open'\nmanage = 'anyone'\n[[queue]]\nmatch = 'closed'\nput = 'anyone'\n\
        [[schedule]]\nname = 'secret'\nqueue = 'closed'\nevery = '1h'\n";
    std::fs::write(&file, config).expect("a file");
    let server = serve(&file, &data);
    let addr = server.addr;
    problem(&ask(addr, "GET", "schedules", "").await, 403, "forbidden");
    problem(&ask(addr, "GET", "schedules?queue=closed", "").await, 403, "forbidden");
    for (method, target) in [("GET", ""), ("DELETE", ""), ("POST", "/run"), ("POST", "/pause")] {
        problem(&ask(addr, method, &format!("schedules/secret{target}"), "").await, 404, "unknown_schedule");
    }
    let schedule = |queue: &str| json!({ "queue": queue, "payload": 1, "every": 60000 });
    problem(&put(addr, "mine", &schedule("closed")).await, 403, "forbidden");
    good(&put(addr, "mine", &schedule("open")).await, 200);
    good(&ask(addr, "GET", "schedules?queue=open", "").await, 200);
    good(&ask(addr, "DELETE", "schedules/mine", "").await, 204);
}
