//! `posthaste dev` and `serve` as people start and stop them: the data folder, the configuration, signals.

#![cfg(unix)]

mod running;

use std::fs;
use std::path::Path;
use std::process::Output;

use posthaste_testkit::{Client, Http, Request};
use running::{Running, output, posthaste};
use serde_json::Value;
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// What it says on standard error when it does not start.
fn refusal(ended: &Output) -> String {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stdout.is_empty(), "{ended:?}");
    String::from_utf8(ended.stderr.clone()).expect("text")
}

async fn keep(addr: std::net::SocketAddr, texts: &[&str]) {
    let mut client = Client::websocket(addr).await;
    for text in texts {
        client.send(&format!(r#"21["room:emit","demo","chat","{text}"]"#)).await;
        let answer = client.text().await;
        assert!(answer.contains(r#""class":"disk""#), "{answer}");
    }
    client.reset();
}

async fn kept(addr: std::net::SocketAddr) -> Vec<String> {
    let page = Http::once(addr, &Request::get("/api/v1/streams/demo")).await.expect("an answer");
    let page: Value = serde_json::from_slice(&page.body).expect("JSON");
    let events = page["events"].as_array().expect("events").iter();
    events.map(|event| event["args"][0].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn what_was_kept_is_there_after_an_interrupt_a_termination_and_a_kill() {
    let data = folder();
    let mut said = Vec::new();
    for (text, signal) in [("one", "-INT"), ("two", "-TERM"), ("three", "-KILL")] {
        let server = Running::start("dev --json", data.path());
        assert_eq!(kept(server.addr).await, said);
        keep(server.addr, &[text]).await;
        said.push(text.to_owned());
        server.signal(signal);
        let expected = if signal == "-KILL" { None } else { Some(0) };
        assert_eq!(server.end(), (expected, String::new()), "{signal}");
    }
    assert_eq!(kept(Running::start("dev --json", data.path()).addr).await, said);
}

#[test]
fn a_folder_that_cannot_be_used_says_what_to_do() {
    let data = folder();
    let first = Running::start("serve", data.path());
    let text = refusal(&output("serve", data.path()));
    assert!(text.contains("is in use by another process") && text.contains("--data"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    drop(first);
    drop(Running::start("serve", data.path()));

    let foreign = folder();
    fs::write(foreign.path().join("notes.txt"), "mine").expect("a file");
    let text = refusal(&output("dev", foreign.path()));
    assert!(text.contains("files that are not a data folder's") && text.contains("--data"), "{text}");
    assert_eq!(fs::read_dir(foreign.path()).expect("a folder").count(), 1, "nothing is added to what is not ours");

    // A folder cannot be made there, whoever asks.
    let text = refusal(&output("serve", Path::new("/proc/posthaste")));
    assert!(text.contains("cannot be used") && text.contains("--data"), "{text}");
    let file = foreign.path().join("notes.txt");
    let text = refusal(&output("serve", &file));
    assert!(text.contains("cannot be used"), "{text}");
}

#[tokio::test]
async fn a_damaged_folder_is_refused_with_the_remedy_and_salvage_goes_on_without_what_is_lost() {
    let data = folder();
    let server = Running::start("dev --json", data.path());
    keep(server.addr, &["first", "second", "third", "fourth", "fifth"]).await;
    server.signal("-KILL");
    drop(server);
    let journal = data.path().join("data/0.jnl");
    let mut bytes = fs::read(&journal).expect("the journal");
    let place = bytes.windows(5).position(|it| it == b"third").expect("it was written");
    bytes[place] ^= 0x20;
    fs::write(&journal, bytes).expect("the journal");

    let text = refusal(&output("dev --json", data.path()));
    assert!(text.contains("is damaged") && text.contains("--salvage") && text.contains("backup"), "{text}");

    let server = Running::start("dev --json --salvage", data.path());
    assert_eq!(kept(server.addr).await, ["first", "second"]);
    keep(server.addr, &["sixth"]).await;
    server.signal("-INT");
    let (code, text) = server.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("used without what is missing") && text.lines().count() > 1, "{text}");
    // Whole again: the option then changes nothing.
    let server = Running::start("dev --json --salvage", data.path());
    assert_eq!(kept(server.addr).await, ["first", "second", "sixth"]);
    server.signal("-INT");
    assert_eq!(server.end(), (Some(0), String::new()));
}

#[test]
fn a_configuration_that_cannot_be_is_refused_before_anything_is_made() {
    let folder = folder();
    let (file, data) = (folder.path().join("posthaste.toml"), folder.path().join("data"));
    let refused = |text: &str| {
        fs::write(&file, text).expect("a file");
        let text = refusal(&output(&format!("serve --config {}", file.display()), &data));
        assert!(text.contains("posthaste.toml"), "{text}");
        assert!(!data.exists());
        text
    };
    let text = refused("[[room]]\nmatch = 'a'\njoin = 'anyone'\nemmit = 'anyone'");
    assert!(text.contains("line 4") && text.contains("did you mean `emit`?"), "{text}");
    let text = refused("[[room]]\nmatch = 'a'\njoin = 'authenticated'");
    assert!(text.contains("line 3") && text.contains("`authenticated` needs to know who a client is"), "{text}");
    fs::remove_file(&file).expect("a file");
    let text = refusal(&output(&format!("serve --config {}", file.display()), &data));
    assert!(text.contains("posthaste.toml") && text.contains("No such file"), "{text}");
}

#[test]
fn dev_prints_where_things_are_and_nothing_that_is_not_there() {
    let data = folder();
    let server = Running::start("dev", data.path());
    let port = server.addr.port();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = server.said.lines().map(words).filter(|line| !line.is_empty()).collect();
    assert_eq!(
        lines,
        [
            format!("Socket.IO http://localhost:{port} loopback only"),
            format!("Demo http://localhost:{port}/demo chat that forgets nothing: kill the server, start it again"),
            format!("Follow curl -N -H accept:text/event-stream localhost:{port}/api/v1/streams/demo"),
            format!(
                "Queues http://localhost:{port}/queues open: posthaste queue --url http://localhost:{port} put emails '{{\"to\": \"ada\"}}'"
            ),
            format!("Worker posthaste work --url http://localhost:{port} --queue emails -- tee /dev/stderr"),
            "Ctrl-C stops it.".to_owned(),
        ]
    );
    drop(server);
    let server = Running::start("dev --json", data.path());
    let said: Value = serde_json::from_str(&server.said).expect("one line of JSON");
    let base = format!("http://localhost:{}", server.addr.port());
    let expected = serde_json::json!({
        "socketio": base,
        "demo": format!("{base}/demo"),
        "api": format!("{base}/api/v1"),
        "queues": format!("{base}/queues"),
    });
    assert_eq!(said, expected);
    drop(server);
    let refused = posthaste("dev --listen 0.0.0.0:0").arg("--data").arg(data.path()).output().expect("it runs");
    assert!(refusal(&refused).contains("listens on this machine only"));
}
