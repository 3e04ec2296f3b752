//! How often the server asks the allocator, per operation: each figure says what the allocations are, and there are no others.
//!
//! Clients are the test's own thread and allocate nothing ([`Lockstep`](posthaste_counts::Lockstep)), so everything that is
//! counted is the server's. Each test has a process to itself: nobody else is counted with it. Only calls are counted that
//! take memory (`alloc`, `realloc`); what is taken and given back within an operation counts, too.
//!
//! The figures are upper bounds. One that is lower now is printed with `--nocapture`; please lower the bound here.

#![cfg(target_os = "linux")]

use std::alloc::System;
use std::process::Command;
use std::time::Duration;

use posthaste::Deflate;
use posthaste_counts::{Operation, Subject};
use posthaste_testkit::{Frame, encode_frame};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// So often before anything is counted: what grows to a size has it then.
const WARM_UP: usize = 100;
/// So often it is counted: growth that is rare still shows.
const TIMES: usize = 1_000;

/// The wheel of deadlines allocates as well, by the quarter of a second: those of requests, which are long answered, come up
/// meanwhile. Half a call for each time cannot hide one.
const TIME_ALLOCATES: usize = TIMES / 2;

/// Set in the process that counts.
const ALONE: &str = "POSTHASTE_COUNTS_ALONE";

/// Runs this test's `body` in a process of its own, with as many open files as the system allows: a thousand clients and
/// their servers take two thousand.
fn alone(test: &str, body: impl FnOnce()) {
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let program = std::env::current_exe().expect("a test is a program");
    let raise = r#"ulimit -S -n "$(ulimit -H -n)"; exec "$0" "$@""#;
    let child = Command::new("sh")
        .args(["-c", raise])
        .arg(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .expect("a shell");
    let (said, complaint) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && said.contains("1 passed"), "{test} in a process of its own:\n{said}{complaint}");
    println!("{said}");
}

/// A server and its clients, which do not rest: what it allocates is the same.
fn subject(operation: Operation) -> Subject {
    Subject::new(operation, Duration::ZERO)
}

fn calls(stats: &Stats) -> usize {
    stats.allocations + stats.reallocations
}

/// How often doing the subject's operation so many times asks the allocator.
fn counted(subject: &mut Subject, warm_up: usize, times: usize) -> usize {
    subject.run(warm_up);
    let region = Region::new(ALLOCATOR);
    subject.run(times);
    let calls = calls(&region.change());
    println!("{calls} calls for {times} times {}", subject.operation());
    calls
}

/// Fails if doing `operation` many times asks the allocator more than `each` times for each.
fn at_most(operation: Operation, each: usize) {
    let calls = counted(&mut subject(operation), WARM_UP, TIMES);
    assert!(
        calls <= each * TIMES + TIME_ALLOCATES,
        "{operation} was to allocate {each} times, not {calls} times in {TIMES}"
    );
}

/// Fails if sending to ten allocates more than `each` times, or to a thousand more often than to ten.
fn at_most_for_any_number(operation: fn(usize) -> Operation, each: usize) {
    // Both are there before anything is counted: starting and ending servers allocate.
    let (mut few, mut many) = (subject(operation(10)), subject(operation(1_000)));
    let few = counted(&mut few, WARM_UP, TIMES);
    assert!(
        few <= each * TIMES + TIME_ALLOCATES,
        "sending to ten was to allocate {each} times, not {few} times in {TIMES}"
    );
    let many = counted(&mut many, WARM_UP, TIMES);
    assert!(many <= few + TIME_ALLOCATES, "sending to a thousand allocates {many} times, to ten {few} times");
}

#[test]
fn an_echo_allocates_its_payload_and_its_handler() {
    alone("an_echo_allocates_its_payload_and_its_handler", || {
        // The argument, which the handler owns (`Box<RawValue>`); the handler's future, which may outlive the turn.
        at_most(Operation::Echo, 2);
    });
}

#[test]
fn an_echo_in_messagepack_allocates_no_more_than_it_did() {
    alone("an_echo_in_messagepack_allocates_no_more_than_it_did", || {
        // The two of an echo in JSON, and seven for reading and writing.
        at_most(Operation::PackedEcho, 9);
    });
}

#[test]
fn a_broadcast_allocates_as_often_for_a_thousand_as_for_ten() {
    alone("a_broadcast_allocates_as_often_for_a_thousand_as_for_ten", || {
        // The event that provokes it: argument and future. The room's name, and the encoded packet.
        at_most_for_any_number(Operation::Broadcast, 4);
    });
}

#[test]
fn a_volatile_broadcast_allocates_as_often_for_a_thousand_as_for_ten() {
    alone("a_volatile_broadcast_allocates_as_often_for_a_thousand_as_for_ten", || {
        // As for any broadcast.
        at_most_for_any_number(Operation::Volatile, 4);
    });
}

#[test]
fn joining_and_leaving_allocate_the_room() {
    alone("joining_and_leaving_allocate_the_room", || {
        // For each of the two: the argument, the handler's future, the room's name. The list of a new room's members.
        at_most(Operation::JoinAndLeave, 7);
    });
}

#[test]
fn an_echo_over_polling_allocates_no_more_than_it_did() {
    alone("an_echo_over_polling_allocates_no_more_than_it_did", || {
        // Argument and future. The body of the POST, and that of the answer to the GET.
        at_most(Operation::PollingEcho, 4);
    });
}

#[test]
fn a_connection_allocates_no_more_than_it_did() {
    alone("a_connection_allocates_no_more_than_it_did", || {
        // Beginning: the HTTP connection, the request's head and who shares it, the 101 with the open packet behind it, the
        // connection. Joining: what the namespace keeps of client and socket, the handler's future, the room's name, its
        // members. Ending: the close frame, the rooms that were left.
        at_most(Operation::Connect, 12);
    });
}

#[test]
fn pings_allocate_nothing_for_a_connection() {
    alone("pings_allocate_nothing_for_a_connection", || {
        const CONNECTIONS: usize = 400;
        const ROUNDS: usize = 3;
        let calls = counted(&mut subject(Operation::PingRound(CONNECTIONS)), 2, ROUNDS);
        let pings = CONNECTIONS * ROUNDS;
        assert!(calls * 100 <= pings, "{pings} pings were to allocate next to nothing, not {calls} times");
    });
}

#[test]
fn an_idle_connection_keeps_little() {
    alone("an_idle_connection_keeps_little", || {
        const CONNECTIONS: usize = 1_000;
        // What is kept in tables is counted with the room they have to grow: a little more than half is used.
        const BYTES: usize = 970;
        const CALLS: usize = 10;
        let mut subject = subject(Operation::Echo);
        subject.run(WARM_UP);
        let region = Region::new(ALLOCATOR);
        subject.connect(CONNECTIONS);
        let change = region.change();
        let bytes = (change.bytes_allocated - change.bytes_deallocated) / CONNECTIONS;
        let calls = calls(&change) / CONNECTIONS;
        println!("a connection keeps {bytes} bytes and allocated {calls} times to be opened");
        assert!(bytes <= BYTES, "an idle connection keeps {bytes} bytes, not {BYTES}");
        assert!(calls <= CALLS, "a connection allocates {calls} times to be opened, not {CALLS}");
    });
}

#[test]
fn an_idle_connection_that_may_compress_keeps_little_more() {
    alone("an_idle_connection_that_may_compress_keeps_little_more", || {
        const CONNECTIONS: usize = 200;
        let keeping =
            Deflate { server_no_context_takeover: false, client_no_context_takeover: false, ..Deflate::default() };
        // An event of 2,000 bytes, compressed, is answered by one that is.
        let payload = format!("\"{}\"", "0123456789".repeat(200));
        let mut compress = flate2::Compress::new(flate2::Compression::default(), false);
        let mut body = Vec::with_capacity(4_000);
        let text = format!(r#"420["echo",{payload}]"#);
        compress.compress_vec(text.as_bytes(), &mut body, flate2::FlushCompress::Sync).expect("room");
        let said = Frame { reserved: 4, ..Frame::new(1, &body[..body.len() - 4]) };
        let said = encode_frame(&said, Some([1, 2, 3, 4]));

        let kept = [None, Some(Deflate::default()), Some(keeping)].map(|deflate| {
            let mut subject = Subject::with(Operation::JoinAndLeave, Duration::ZERO, deflate);
            let speaks = |subject: &mut Subject| {
                if deflate.is_some() {
                    subject.ask_each(CONNECTIONS, &said);
                }
            };
            // What the worker has for all of them is there.
            subject.connect(CONNECTIONS);
            speaks(&mut subject);
            let region = Region::new(ALLOCATOR);
            subject.connect(CONNECTIONS);
            speaks(&mut subject);
            let change = region.change();
            (change.bytes_allocated - change.bytes_deallocated) / CONNECTIONS
        });
        let [plain, shared, own] = kept;
        println!("a connection keeps {plain} bytes, {shared} with compression, {own} with context of its own");
        assert!((plain..=plain + 128).contains(&shared), "it keeps {shared} bytes, {plain} without compression");
        assert!(own > 200_000, "context is kept: {own} bytes");
    });
}
