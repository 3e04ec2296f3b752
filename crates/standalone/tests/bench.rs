//! `posthaste bench` as people and scripts use it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn bench(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
    command.arg("bench").args(line.split_whitespace()).env_remove("POSTHASTE_URL").stdin(Stdio::null());
    command
}

fn output(line: &str) -> Output {
    bench(line).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn every_scenario_runs_against_a_server_of_its_own_and_prints_json() {
    for (line, operation) in [
        ("connect -c 30 --hold 50ms", "connection"),
        ("echo -c 10 -d 300ms --warmup 50ms", "echo"),
        ("echo -c 10 -d 300ms --warmup 50ms --rate 500", "echo"),
        ("broadcast -c 10 -d 300ms --warmup 50ms", "delivery"),
        ("rooms -c 20 --rooms 8 --in-flight 2 -d 300ms --warmup 50ms", "delivery"),
        ("polling -c 5 -d 300ms --warmup 50ms", "echo"),
        ("storm -c 20 --rounds 1", "connection"),
        ("recover -c 20 --rooms 3 --missed 30 --heavy 200", "replayed event"),
    ] {
        let output = output(&format!("{line} --self --json --timeout 30s --connect-timeout 30s"));
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
        let lines: Vec<_> = text(&output.stdout).lines().collect();
        assert_eq!(lines.len(), 1, "{line}");
        let report: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!(report["scenario"], line.split(' ').next().unwrap());
        assert_eq!(report["operation"], operation);
        assert!(report["operations"].as_u64().unwrap() >= 10, "{line}: {report}");
        assert_eq!(report["problems"], Value::Array(Vec::new()), "{line}: {report}");
        let latency = report["latency"].as_object().unwrap();
        let (_, first) = latency.iter().next().unwrap();
        assert!(first["p99_us"].as_f64().unwrap() >= first["p50_us"].as_f64().unwrap(), "{line}: {report}");
        if cfg!(target_os = "linux") {
            assert!(report["server"]["cpu_us_per_operation"].as_f64().unwrap() > 0.0, "{line}: {report}");
        }
    }
}

#[test]
fn the_table_goes_to_standard_output_and_progress_elsewhere_without_escapes() {
    let output = output("echo -c 5 -d 600ms --warmup 0 --self --timeout 30s");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let table = text(&output.stdout);
    assert!(table.contains("\n  echo   5 connections, 1 in flight each, 128 bytes\n"), "{table}");
    assert!(table.contains(" echoes/s "), "{table}");
    assert!(text(&output.stderr).starts_with("  measuring · "), "{output:?}");
    assert!(!table.contains('\x1b') && !text(&output.stderr).contains('\x1b'), "{output:?}");
}

#[test]
fn options_that_make_no_sense_are_refused_as_such() {
    for (line, expected) in [
        ("echo --self -c 0", "the number of connections is 1 to 250000, not 0"),
        ("rooms --self --size 3", "a payload holds a number, so it has at least 10 bytes"),
        ("echo --self --auth [1]", "--auth takes a JSON object"),
        ("echo --url https://example.org", "TLS is not supported"),
        ("echo --url localhost", "is not a URL of the form http://host:port"),
        ("swim", "unrecognized subcommand"),
    ] {
        let output = output(line);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(text(&output.stderr).contains(expected), "{line}: {output:?}");
        assert!(output.stdout.is_empty(), "{line}");
    }
}

#[test]
fn where_nobody_listens_the_error_says_where_and_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = bench("echo --json").env("POSTHASTE_URL", &url).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let error = text(&output.stderr);
    assert!(
        error.starts_with(&format!("posthaste: {url}/socket.io/: 0 of 200 connections came up; cannot connect")),
        "{error}"
    );
    assert!(error.contains("--url") && error.contains("--self"), "{error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn an_event_the_server_does_not_offer_is_named() {
    let output = output("echo -c 2 --self --event shout --timeout 300ms");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("the server did not answer `shout`: "), "{output:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_run_and_tells_what_was_measured() {
    let mut child = bench("echo -c 5 -d 1h --warmup 0 --self --json --timeout 30s")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = progress.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("  measuring"))).unwrap();
    assert!(first.is_ok());
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let report: Value = serde_json::from_str(text(&output.stdout)).unwrap();
    assert_eq!(report["interrupted"], true);
    assert!(report["operations"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn the_application_can_be_served_for_any_load_generator() {
    let mut server =
        bench("app --listen 127.0.0.1:0 --workers 1").stdout(Stdio::piped()).spawn().expect("the binary runs");
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let url = said.strip_prefix("listening on ").expect(&said).trim();
    for scenario in ["echo -c 5", "rooms -c 20 --rooms 8 --in-flight 2"] {
        let line = format!("{scenario} -d 200ms --warmup 50ms --json --timeout 30s --url {url} --pid {}", server.id());
        let output = output(&line);
        assert_eq!(output.status.code(), Some(0), "{line}: {output:?}");
    }
    let told = Command::new("kill").arg(server.id().to_string()).status().expect("kill runs");
    assert!(told.success());
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn recovery_is_measured_with_a_server_that_is_killed_and_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let binary = env!("CARGO_BIN_EXE_posthaste");
    let server = format!(
        "{binary} bench app --workers 1 --listen 127.0.0.1:{port} --data {}",
        folder.path().join("data").display()
    );
    let url = format!("http://127.0.0.1:{port}");
    let line =
        "recover -c 30 --rooms 4 --missed 20 --heavy 400 --spread 50ms --json --timeout 60s --connect-timeout 60s";
    let output = bench(line).args(["--url", &url, "--server", &server]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_str(text(&output.stdout)).unwrap();
    assert_eq!(report["problems"], Value::Array(Vec::new()), "{report}");
    // All 31 in the first round, all but the one with much in the second.
    assert_eq!(report["operations"], 31 * 20 + 30 * 20 + 400, "{report}");
    let latency = |name: &str| report["latency"][name]["count"].as_u64();
    let counts = ["without_a_long_one", "until_one_is_recovered", "the_long_one", "start_of_the_server"].map(latency);
    assert_eq!(counts, [Some(30), Some(30), Some(1), Some(3)], "{report}");
    if cfg!(target_os = "linux") {
        assert!(report["server"]["memory_bytes_peak"].as_u64() >= report["server"]["memory_bytes_before"].as_u64());
    }
    // A server that is none.
    let output = bench("recover --url http://127.0.0.1:1 --server").arg("/no/such/program").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("the server of this run: /no/such/program cannot be started"), "{output:?}");
}
