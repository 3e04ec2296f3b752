//! Runs of the load crate against servers in this process: good ones are measured, and what bad ones do is found out.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthaste::{Ack, Data, Server, Socket};
use posthaste_load::{Control, Load, LoadError, Plan, Report, Target, Transport, Watched, run};
use posthaste_testkit::{Running, serve};

/// The application as it should be, but for what `change` puts in the place of a handler.
fn app(change: impl FnOnce(&Server)) -> Running {
    serve(Server::builder().workers(2), |io| {
        io.on_connect(async |socket: Socket| socket.join("room"));
        io.on("echo", async |Data(payload): Data<String>, ack: Ack| ack.send(&payload).await);
        io.on("bcast", async |io: Server, Data(payload): Data<String>| io.to("room").emit("bcast", &payload).await);
        io.on("join", async |socket: Socket, Data(room): Data<String>| socket.join(room));
        io.on("leave", async |socket: Socket, Data(room): Data<String>| socket.leave(room));
        io.on("rbcast", async |io: Server, Data((room, payload)): Data<(String, String)>| {
            io.to(room).emit("bcast", &payload).await
        });
        change(io);
    })
}

/// A short run of `load`; time-outs are long, for a machine that is busy with other tests.
fn plan(server: &Running, load: Load) -> Plan {
    plan_for(&server.addr.to_string(), load)
}

fn plan_for(authority: &str, load: Load) -> Plan {
    Plan {
        target: Target::parse(&format!("http://{authority}")).expect("a URL"),
        path: "/socket.io/".into(),
        namespace: "/".into(),
        auth: None,
        headers: Vec::new(),
        transport: Transport::WebSocket,
        load,
        connections: 20,
        handshakes: 8,
        size: 64,
        in_flight: 1,
        rate: None,
        duration: Duration::from_millis(400),
        warmup: Duration::from_millis(50),
        timeout: Duration::from_secs(20),
        connect_timeout: Duration::from_secs(20),
        watched: Watched::Nobody,
    }
}

fn done(plan: &Plan) -> Result<Report, LoadError> {
    run(plan, Control { stop: &AtomicBool::new(false), progress: &mut |_| {} })
}

fn good(plan: &Plan) -> Report {
    let report = done(plan).expect("a report");
    assert!(report.is_good() && report.failures.is_empty(), "{report:?}");
    report
}

/// The problems of a run, each without its number.
fn problems(plan: &Plan) -> String {
    done(plan).expect("a report").problems.join("; ")
}

fn count(report: &Report, name: &str) -> u64 {
    report.counts.iter().find(|(it, _)| *it == name).map(|(_, count)| *count).expect("a count of the report")
}

fn latencies(report: &Report, name: &str) -> u64 {
    report
        .latency
        .iter()
        .find(|(it, _)| *it == name)
        .map(|(_, summary)| summary.count)
        .expect("latencies of the report")
}

fn echo() -> Load {
    Load::Echo { event: "echo".into() }
}

fn broadcast() -> Load {
    Load::Broadcast { event: "bcast".into(), stopped: 0 }
}

#[test]
fn echoes_are_measured_over_both_transports() {
    let server = app(|_| {});
    for transport in [Transport::WebSocket, Transport::Polling] {
        let report = good(&Plan { transport, in_flight: 3, ..plan(&server, echo()) });
        assert!(report.operations > 20, "{report:?}");
        // The last answers may come when the window is over.
        let measured = latencies(&report, "round_trip");
        assert!(measured > 0 && measured <= report.operations, "{report:?}");
    }
}

#[test]
fn at_a_rate_every_operation_of_the_window_is_measured() {
    let server = app(|_| {});
    let report = good(&Plan { rate: Some(1_000.0), in_flight: 64, ..plan(&server, echo()) });
    // 0.4 s at 1,000 a second, whatever the machine does meanwhile.
    assert!((399..=401).contains(&latencies(&report, "round_trip")), "{report:?}");
    let report = good(&Plan { rate: Some(100.0), in_flight: 64, ..plan(&server, broadcast()) });
    assert!((39..=41).contains(&latencies(&report, "to_the_last")), "{report:?}");
}

#[test]
fn broadcasts_reach_all_on_several_workers_in_a_namespace_of_their_own() {
    let server = app(|io| {
        let chat = io.namespace("/chat");
        chat.on_connect(async |socket: Socket| socket.join("room"));
        let chat = chat.clone();
        io.namespace("/chat").on("say", move |Data(payload): Data<String>| {
            let chat = chat.clone();
            async move { chat.to("room").emit("say", &payload).await }
        });
    });
    let load = Load::Broadcast { event: "say".into(), stopped: 0 };
    let report = good(&Plan { namespace: "/chat".into(), in_flight: 4, ..plan(&server, load) });
    assert!(count(&report, "broadcasts") > 4, "{report:?}");
    let measured = latencies(&report, "to_each");
    assert!(measured > 20 && measured <= report.operations, "{report:?}");
}

#[test]
fn receivers_that_stop_reading_are_no_part_of_what_is_measured() {
    let server = app(|_| {});
    let load = Load::Broadcast { event: "bcast".into(), stopped: 3 };
    // Enough for their sockets to be full before the end.
    let report = good(&Plan { size: 100_000, duration: Duration::from_secs(1), ..plan(&server, load) });
    assert!(count(&report, "broadcasts") > 4 && count(&report, "stopped") == 3, "{report:?}");
}

#[test]
fn rooms_are_measured_while_members_move() {
    let server = app(|_| {});
    let report = good(&Plan { in_flight: 2, ..plan(&server, Load::Rooms { rooms: 8 }) });
    assert!(count(&report, "broadcasts") > 4 && count(&report, "joins_and_leaves") > 4, "{report:?}");
}

#[test]
fn connections_come_up_and_come_back() {
    let server = app(|_| {});
    for transport in [Transport::WebSocket, Transport::Polling] {
        let load = Load::Connect { hold: Duration::from_millis(50) };
        let report =
            good(&Plan { transport, connections: 50, duration: Duration::from_secs(60), ..plan(&server, load) });
        assert_eq!((report.operations, latencies(&report, "handshake")), (50, 50));
        let (spread, within) = (Duration::from_millis(20), Duration::from_secs(60));
        let load = Load::Storm { rounds: 2, spread, within };
        let report = good(&Plan { transport, connections: 50, handshakes: 50, ..plan(&server, load) });
        assert_eq!(
            (report.operations, latencies(&report, "until_one_is_back"), count(&report, "rounds")),
            (100, 100, 2)
        );
        assert_eq!(latencies(&report, "until_all_are_back"), 2);
    }
}

#[test]
fn those_who_are_refused_in_a_storm_come_back_later() {
    // Of the 20 tries after the first 20 handshakes, the first five are turned away.
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    let builder = Server::builder().workers(1).allow_request(move |_: posthaste::EngineRequest| {
        let refused = (20..25).contains(&counter.fetch_add(1, Ordering::Relaxed));
        async move { if refused { Err("not now") } else { Ok(()) } }
    });
    let server = serve(builder, |_| {});
    let load = Load::Storm { rounds: 1, spread: Duration::ZERO, within: Duration::from_secs(60) };
    let report = good_but_for_failures(&Plan { handshakes: 20, ..plan(&server, load) });
    assert_eq!((report.operations, count(&report, "tries"), count(&report, "refused_or_failed")), (20, 25, 5));
    assert!(report.failures.keys().all(|text| text.ends_with("handshake: not now")), "{report:?}");
}

fn good_but_for_failures(plan: &Plan) -> Report {
    let report = done(plan).expect("a report");
    assert!(report.is_good(), "{report:?}");
    report
}

#[test]
fn a_server_that_answers_something_else_is_found_out_at_the_first_question() {
    let server = app(|io| _ = io.on("echo", async |ack: Ack| ack.send("no").await));
    let error = done(&plan(&server, echo())).unwrap_err().to_string();
    assert!(error.starts_with("the server did not answer `echo`: it answers something else; "), "{error}");
}

#[test]
fn wrong_answers_later_on_are_counted() {
    let asked = AtomicUsize::new(0);
    let asked = Arc::new(asked);
    let server = app(|io| {
        io.on("echo", move |Data(payload): Data<String>, ack: Ack| {
            let wrong = asked.fetch_add(1, Ordering::Relaxed) % 10 == 9;
            async move { ack.send(if wrong { "wrong" } else { &payload }).await }
        });
    });
    // A question with a wrong answer stays unanswered, so that the time-out ends this run.
    let plan = Plan { timeout: Duration::from_millis(500), ..plan(&server, echo()) };
    let problems = problems(&plan);
    assert!(problems.contains("answers were wrong") && problems.contains("had no answer"), "{problems}");
}

#[test]
fn a_server_without_the_events_is_told_what_it_lacks() {
    let server = serve(Server::builder().workers(1), |_| {});
    let timeout = Duration::from_millis(400);
    for (load, expected) in [
        (echo(), "the server did not answer `echo`: no answer within 400ms; "),
        (broadcast(), "only 0 of 20 connections heard `bcast` within 400ms: "),
        (Load::Rooms { rooms: 8 }, "the server did not answer `join`: 0 of 20 joins were answered; "),
    ] {
        let error = done(&Plan { timeout, ..plan(&server, load) }).unwrap_err();
        assert!(matches!(error, LoadError::Lacking(_)), "{error}");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn broadcasts_that_are_swapped_repeated_or_lost_fail_the_run() {
    let held = Arc::new(Mutex::new(None::<String>));
    // Every broadcast behind its successor, the first (the trial) alone excepted.
    let swaps = app(|io| {
        let first = AtomicBool::new(true);
        io.on("bcast", move |io: Server, Data(payload): Data<String>| {
            let earlier = held.lock().unwrap().take();
            let out = match earlier {
                _ if first.swap(false, Ordering::Relaxed) => vec![payload],
                Some(earlier) => vec![payload, earlier],
                None => {
                    *held.lock().unwrap() = Some(payload);
                    Vec::new()
                }
            };
            async move {
                for payload in out {
                    io.to("room").emit("bcast", &payload).await?;
                }
                Ok::<_, posthaste::SendError>(())
            }
        });
    });
    let repeats = app(|io| {
        io.on("bcast", async |io: Server, Data(payload): Data<String>| {
            io.to("room").emit("bcast", &payload).await?;
            io.to("room").emit("bcast", &payload).await
        });
    });
    let number = AtomicUsize::new(0);
    let loses = app(|io| {
        io.on("bcast", move |socket: Socket, io: Server, Data(payload): Data<String>| {
            let lost = number.fetch_add(1, Ordering::Relaxed) >= 3;
            async move {
                let to = io.to("room");
                if lost {
                    to.except(socket.id().to_string()).emit("bcast", &payload).await
                } else {
                    to.emit("bcast", &payload).await
                }
            }
        });
    });
    for (server, timeout, expected) in [
        (&swaps, 5_000, "deliveries came behind a later broadcast"),
        (&repeats, 20_000, "deliveries came twice"),
        (&loses, 500, "deliveries never came"),
    ] {
        let timeout = Duration::from_millis(timeout);
        let problems = problems(&Plan { in_flight: 4, timeout, ..plan(server, broadcast()) });
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
}

#[test]
fn rooms_that_are_not_left_are_found_out() {
    let server = app(|io| _ = io.on("leave", async || ()));
    let problems = problems(&Plan { in_flight: 2, ..plan(&server, Load::Rooms { rooms: 8 }) });
    assert!(problems.contains("reached who is not in the room"), "{problems}");
}

#[test]
fn connections_that_are_lost_meanwhile_fail_the_run() {
    let asked = AtomicUsize::new(0);
    let server = app(|io| {
        io.on("echo", move |socket: Socket, Data(payload): Data<String>, ack: Ack| {
            let last = asked.fetch_add(1, Ordering::Relaxed) == 50;
            async move {
                if last {
                    socket.disconnect(true);
                }
                ack.send(&payload).await
            }
        });
    });
    let report = done(&plan(&server, echo())).unwrap();
    assert!(report.problems.iter().any(|it| it == "1 connection was lost"), "{report:?}");
    assert_eq!(report.failures.values().sum::<u64>(), 1);
}

#[test]
fn what_is_no_socket_io_server_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let nobody = plan_for(&addr, echo());
    drop(listener);
    let error = done(&nobody).unwrap_err().to_string();
    assert!(error.starts_with("0 of 20 connections came up; cannot connect: "), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\n\r\nnot here\n");
        }
    });
    for transport in [Transport::WebSocket, Transport::Polling] {
        let error = done(&Plan { transport, ..plan_for(&addr, echo()) }).unwrap_err().to_string();
        assert!(error.contains("came up; HTTP 404 instead of a Socket.IO handshake: not here"), "{error}");
    }
}

#[test]
fn a_handshake_that_is_not_answered_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let connect_timeout = Duration::from_millis(200);
    let error = done(&Plan { connect_timeout, ..plan_for(&addr, echo()) }).unwrap_err().to_string();
    assert!(error.contains("no handshake within 200ms"), "{error}");
}

#[test]
fn a_run_that_is_stopped_tells_what_it_has() {
    let server = app(|_| {});
    let stop = AtomicBool::new(false);
    let plan = Plan { duration: Duration::from_secs(3_600), ..plan(&server, echo()) };
    let mut progress = |it: &posthaste_load::Progress| {
        if it.phase == "measuring" && it.done > 0 {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let report = run(&plan, Control { stop: &stop, progress: &mut progress }).unwrap();
    assert!(report.interrupted && report.is_good(), "{report:?}");
    assert!(report.operations > 0 && latencies(&report, "round_trip") > 0, "{report:?}");
}

#[test]
fn plans_beyond_their_bounds_are_refused() {
    let server = app(|_| {});
    let base = |load| plan(&server, load);
    let hour = Duration::from_secs(3_600);
    let plans = [
        Plan { connections: 0, ..base(echo()) },
        Plan { connections: 250_001, ..base(echo()) },
        Plan { connections: 100_000, in_flight: 64, ..base(echo()) },
        Plan { rate: Some(0.0), ..base(echo()) },
        Plan { rate: Some(f64::NAN), ..base(echo()) },
        Plan { rate: Some(1.0), ..base(Load::Rooms { rooms: 8 }) },
        Plan { size: 9, ..base(broadcast()) },
        Plan { size: 100 << 20, ..base(echo()) },
        Plan { duration: Duration::ZERO, ..base(echo()) },
        Plan { duration: hour * 25, ..base(echo()) },
        Plan { in_flight: 3, ..base(Load::Rooms { rooms: 8 }) },
        Plan { ..base(Load::Storm { rounds: 0, spread: Duration::ZERO, within: hour }) },
        Plan { ..base(Load::Storm { rounds: 1, spread: hour, within: hour }) },
        Plan { namespace: "chat".into(), ..base(echo()) },
        Plan { path: "socket.io".into(), ..base(echo()) },
        Plan { headers: vec![("a b".into(), "c".into())], ..base(echo()) },
        Plan { headers: vec![("a".into(), "b\r\nc: d".into())], ..base(echo()) },
        Plan { ..base(Load::Echo { event: "disconnect".into() }) },
    ];
    for plan in plans {
        let error = done(&plan).unwrap_err();
        assert!(matches!(error, LoadError::Plan(_)), "{error}");
    }
}
