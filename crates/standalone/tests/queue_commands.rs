//! `posthaste queue` and `posthaste work` as people and scripts call them.

#![cfg(unix)]

mod running;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use running::{Running, posthaste};
use serde_json::{Value, json};
use tempfile::TempDir;

fn start() -> (TempDir, Running) {
    let data = tempfile::tempdir().expect("a folder");
    let server = Running::start("dev --json", data.path());
    (data, server)
}

fn command(addr: SocketAddr, line: &str) -> Command {
    let mut command = posthaste(line);
    command.env("POSTHASTE_URL", format!("http://{addr}"));
    command
}

fn run(addr: SocketAddr, line: &str) -> Output {
    command(addr, line).output().expect("it runs")
}

/// What it prints, when it succeeds.
fn said(addr: SocketAddr, line: &str) -> String {
    let ended = run(addr, line);
    assert!(ended.status.success(), "{line}: {ended:?}");
    String::from_utf8(ended.stdout).expect("text")
}

fn json(addr: SocketAddr, line: &str) -> Value {
    let said = said(addr, &format!("{line} --json"));
    assert_eq!(said.lines().count(), 1, "{said}");
    serde_json::from_str(&said).expect("JSON")
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn messages_are_put_looked_at_and_pulled() {
    let (_data, server) = start();
    let addr = server.addr;
    assert_eq!(said(addr, "queue ls"), "queue  ready  leased  delayed  dead  consumers  oldest\n");
    let id: u64 = said(addr, r#"queue put mail {"to":"ada"} --priority 3"#).trim().parse().expect("an id");
    let receipt = json(addr, "queue put mail hello --dedup k");
    assert_eq!((&receipt["dup"], &receipt["class"]), (&json!(false), &json!("disk")));
    assert_eq!(said(addr, "queue put mail hello --dedup k"), format!("{} (it was there before)\n", receipt["id"]));
    said(addr, "queue put mail 5 --text --delay 1h --key a --ttl 2h --attempts 3");
    let mut child = command(addr, "queue put mail -").stdin(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(b"{\"from\": \"stdin\"}\n").expect("it reads");
    assert!(child.wait().expect("it ends").success());

    let page = json(addr, "queue peek mail -n 2");
    assert_eq!(
        (&page["messages"][0]["payload"], &page["messages"][1]["payload"]),
        (&json!({ "to": "ada" }), &json!("hello"))
    );
    let shown = said(addr, "queue peek mail -n 2");
    assert!(shown.contains(r#"{"to":"ada"}"#) && shown.contains("more with --after"), "{shown}");
    assert_eq!(json(addr, "queue peek mail --state delayed")["messages"][0]["payload"], json!("5"));
    let listed = said(addr, "queue ls");
    let row: Vec<&str> = listed.lines().nth(1).expect("a queue").split_whitespace().collect();
    assert_eq!(row[..6], ["mail", "3", "0", "1", "0", "0"], "{listed}");
    assert_eq!(json(addr, "queue ls")["queues"][0]["ready"], json!(3));

    let pulled = json(addr, "queue pull mail --max 2 --lease 1m");
    assert_eq!((&pulled["messages"][0]["id"], pulled["messages"].as_array().map(Vec::len)), (&json!(id), Some(2)));
    let last = said(addr, "queue pull mail --wait 1s --done");
    assert!(last.ends_with("\t{\"from\":\"stdin\"}\n"), "{last}");
    assert_eq!(said(addr, "queue pull mail"), "");
    let stats = said(addr, "queue stats mail");
    assert!(stats.contains("leased     2\n") && stats.contains("ready      0\n"), "{stats}");
}

#[test]
fn queues_are_looked_after_and_nothing_is_removed_without_a_word() {
    let (_data, server) = start();
    let addr = server.addr;
    for n in 0..3 {
        said(addr, &format!("queue put q {n}"));
    }
    said(addr, "queue pause q");
    assert_eq!(json(addr, "queue stats q")["paused"], json!(true));
    assert_eq!(said(addr, "queue pull q"), "");
    assert_eq!(json(addr, "queue resume q"), json!({ "ok": true }));
    said(addr, "queue drain q");
    let refused = run(addr, "queue put q 4");
    let text = String::from_utf8(refused.stderr).expect("text");
    assert_eq!((refused.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.starts_with("posthaste: ") && text.contains("(draining)"), "{text}");
    said(addr, "queue drain q --off");

    for line in ["queue purge q --state ready", "queue rm q"] {
        let ended = run(addr, line);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(String::from_utf8_lossy(&ended.stderr).contains("--yes"), "{ended:?}");
    }
    assert_eq!(run(addr, "queue purge q --yes").status.code(), Some(2), "it has to be said what");
    assert_eq!(json(addr, "queue stats q")["ready"], json!(3));
    assert_eq!(said(addr, "queue purge q --state ready,delayed --max 1 --yes"), "removed 1 message\n");
    assert_eq!(json(addr, "queue purge q --state ready --yes"), json!({ "count": 2 }));
    said(addr, "queue rm q -y");
    assert_eq!(json(addr, "queue ls"), json!({ "queues": [] }));
    let ended = run(addr, "queue stats q");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("(unknown_queue)"), "{ended:?}");
}

#[test]
fn a_server_that_is_not_there_is_said_to_be_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("it has one");
    drop(listener);
    let ended = run(addr, "queue ls");
    let text = String::from_utf8(ended.stderr).expect("text");
    assert!(text.contains(&format!("http://{addr} does not answer")), "{text}");
    assert_eq!(ended.status.code(), Some(1));
    let ended = run(addr, "queue ls --url ftp://x");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("is no URL of a server"), "{ended:?}");
}

/// A worker whose command is a script; killed with the test.
struct Worker(Child);

impl Worker {
    fn start(addr: SocketAddr, line: &str, script: &str) -> Self {
        let mut command = command(addr, &format!("work --queue q {line} -- sh -c"));
        Self(command.arg(script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs"))
    }

    fn signal(&self, name: &str) {
        let told = Command::new("kill").args([name, &self.0.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
    }

    /// Waits for its end; gives its exit code and what it said on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut errors = String::new();
        self.0.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
        (self.0.wait().expect("it ends").code(), errors)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn result(addr: SocketAddr, id: u64) -> Value {
    let mut stream = std::net::TcpStream::connect(addr).expect("the server is there");
    let request =
        format!("GET /api/v1/messages/{id}/result?wait=60000 HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    serde_json::from_str(answer.split_once("\r\n\r\n").expect("a body").1).unwrap_or_else(|_| panic!("{answer}"))
}

fn put(addr: SocketAddr, line: &str) -> u64 {
    json(addr, &format!("queue put q {line}"))["id"].as_u64().expect("an id")
}

fn put_configuration(addr: SocketAddr, config: &str) {
    let mut stream = std::net::TcpStream::connect(addr).expect("the server is there");
    let length = config.len();
    let request = format!(
        "PUT /api/v1/queues/q HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{config}"
    );
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn the_exit_code_settles_a_message_and_what_is_printed_is_its_result() {
    let (_data, server) = start();
    let addr = server.addr;
    put_configuration(addr, r#"{"keep_results_ms":600000,"backoff":"none","attempts":3}"#);
    let script = r#"
        read job
        case "$job" in
            '"json"') echo '{"a": [1]}';;
            '"text"') echo plain words;;
            '"quiet"') ;;
            '"env"') echo "$POSTHASTE_QUEUE:$POSTHASTE_ATTEMPT:$POSTHASTE_KEY:$POSTHASTE_ID";;
            '"hopeless"') echo no such address >&2; exit 9;;
            '"later"') [ "$POSTHASTE_ATTEMPT" = 2 ] || exit 75; echo "attempt $POSTHASTE_ATTEMPT";;
            *) echo "cannot do $job" >&2; exit 1;;
        esac"#;
    let worker = Worker::start(addr, "--concurrency 3 --dead-on 9", script);
    let done = |id: u64, result: Value| json!({ "id": id, "state": "done", "result": result });
    let id = put(addr, "json");
    assert_eq!(result(addr, id), done(id, json!({ "a": [1] })));
    let id = put(addr, "text");
    assert_eq!(result(addr, id), done(id, json!("plain words")));
    let id = put(addr, "quiet");
    assert_eq!(result(addr, id), done(id, Value::Null));
    let id = put(addr, "env --key k");
    assert_eq!(result(addr, id), done(id, json!(format!("q:1:k:{id}"))));
    let id = put(addr, "later");
    assert_eq!(result(addr, id), done(id, json!("attempt 2")));
    let id = put(addr, "hopeless");
    assert_eq!(result(addr, id), json!({ "id": id, "state": "dead", "reason": "no such address" }));
    let id = put(addr, "other");
    let dead = result(addr, id);
    assert_eq!((&dead["state"], &dead["reason"]), (&json!("dead"), &json!("cannot do \"other\"")));
    let dead = json(addr, "queue dead q");
    assert_eq!((&dead["messages"][0]["failures"], &dead["messages"][1]["failures"]), (&json!(0), &json!(3)), "{dead}");
    assert!(said(addr, "queue dead q").contains("no such address"));
    assert_eq!(json(addr, &format!("queue redrive q --id {id}")), json!({ "count": 1 }));
    worker.signal("-TERM");
    assert_eq!(worker.end().0, Some(0));
}

#[test]
fn a_worker_that_is_told_to_end_finishes_what_runs_and_takes_nothing_new() {
    let (data, server) = start();
    let addr = server.addr;
    let gate = data.path().join("gate");
    let script = format!("while [ ! -e '{}' ]; do sleep 0.05; done; echo finished", gate.display());
    let first = put(addr, "1");
    let worker = Worker::start(addr, "", &script);
    wait_until("it is taken", || json(addr, "queue stats q")["leased"] == json!(1));
    worker.signal("-TERM");
    put(addr, "2");
    std::fs::write(&gate, "").expect("a file");
    let (code, text) = worker.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 still running"), "{text}");
    let stats = json(addr, "queue stats q");
    assert_eq!((&stats["ready"], &stats["leased"]), (&json!(1), &json!(0)), "{first} is done, the other waits");
}

#[test]
fn a_second_signal_kills_what_runs_and_gives_it_back() {
    let (data, server) = start();
    let addr = server.addr;
    let id = put(addr, "1");
    let pids = data.path().join("pids");
    // The command has a command of its own, which has to end as well.
    let worker = Worker::start(addr, "", &format!("sleep 600 & echo $! $$ > '{}'; wait", pids.display()));
    wait_until("it runs", || std::fs::read_to_string(&pids).is_ok_and(|it| it.ends_with('\n')));
    worker.signal("-INT");
    // The first has to have been seen: two of a kind at once are one.
    let mut errors = BufReader::new(worker_errors(&worker));
    let mut line = String::new();
    errors.read_line(&mut line).expect("text");
    assert!(line.contains("1 still running"), "{line}");
    worker.signal("-TERM");
    let mut worker = worker;
    assert_eq!(worker.0.wait().expect("it ends").code(), Some(143));
    for pid in std::fs::read_to_string(&pids).expect("it was written").split_whitespace() {
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Whoever inherits it may not have noticed its end.
        wait_until("it is gone", || state().is_empty() || state().contains(") Z "));
    }
    let page = json(addr, "queue peek q");
    let message = &page["messages"][0];
    assert_eq!((&message["id"], &message["failures"], &message["deliveries"]), (&json!(id), &json!(0), &json!(1)));
}

fn worker_errors(worker: &Worker) -> std::fs::File {
    let fd = format!("/proc/{}/fd/2", worker.0.id());
    std::fs::File::open(fd).expect("its standard error")
}

#[test]
fn a_lease_is_kept_alive_while_a_command_runs_and_given_up_when_it_is_lost() {
    let (data, server) = start();
    let addr = server.addr;
    let (gate, pid) = (data.path().join("gate"), data.path().join("pid"));
    let script = format!("echo $$ > '{}'; while [ ! -e '{}' ]; do sleep 0.05; done", pid.display(), gate.display());
    put(addr, "1");
    let worker = Worker::start(addr, "--lease 1s", &script);
    wait_until("it runs", || std::fs::read_to_string(&pid).is_ok_and(|it| it.ends_with('\n')));
    // Three leases long.
    std::thread::sleep(Duration::from_secs(3));
    let page = json(addr, "queue peek q --state leased");
    assert_eq!(
        (&page["messages"][0]["deliveries"], &page["messages"][0]["failures"]),
        (&json!(1), &json!(0)),
        "{page}"
    );
    said(addr, "queue purge q --state leased --yes");
    let pid = std::fs::read_to_string(&pid).expect("it was written");
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    wait_until("it is killed", || state().is_empty() || state().contains(") Z "));
    worker.signal("-TERM");
    let (code, text) = worker.end();
    assert!(code == Some(0) && text.contains("its lease is over"), "{code:?} {text}");
}

#[test]
fn a_worker_outlives_its_server_and_one_whose_command_cannot_be_started_does_not() {
    let (data, server) = start();
    let addr = server.addr;
    let mut command = command(addr, "work --queue q -- /no/such/program");
    let worker = Worker(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs"));
    put(addr, "1");
    let (code, text) = worker.end();
    assert!(code == Some(1) && text.contains("/no/such/program cannot be started"), "{code:?} {text}");
    let page = json(addr, "queue peek q");
    assert_eq!((&page["messages"][0]["failures"], &page["messages"][0]["id"]), (&json!(0), &json!(1)));

    let worker = Worker::start(addr, "", "echo done");
    wait_until("it is done", || json(addr, "queue stats q")["ready"] == json!(0));
    server.signal("-KILL");
    drop(server);
    let mut again = posthaste("dev --json");
    again.args(["--listen", &addr.to_string(), "--data"]).arg(data.path());
    let mut again = again.stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut line = String::new();
    BufReader::new(again.stdout.take().expect("piped")).read_line(&mut line).expect("it starts");
    let put_again = put(addr, "2");
    wait_until("it is done", || json(addr, "queue stats q")["ready"] == json!(0));
    assert!(put_again > 1);
    worker.signal("-TERM");
    assert_eq!(worker.end().0, Some(0));
    again.kill().expect("it runs");
    again.wait().expect("it ends");
}
