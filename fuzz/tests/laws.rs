//! The laws hold of some thousand inputs, the same in every run. Fuzzers look further: `cargo xtask fuzz`.

use std::panic::catch_unwind;

use posthaste_fuzz::{Mutator, TARGETS, Target, find};

/// What a target gets; all of them together take a few seconds.
const INPUTS: usize = 4_000;

fn check(target: &Target, input: &[u8]) {
    let run = target.run;
    if catch_unwind(|| run(input)).is_err() {
        panic!("{} breaks a law with b\"{}\"", target.name, input.escape_ascii());
    }
}

fn holds(name: &str) {
    let target = find(name).unwrap_or_else(|| panic!("{name} is a target"));
    check(target, b"");
    target.seeds.iter().for_each(|seed| check(target, seed));
    let mut mutator = Mutator::new(*target, 1);
    for _ in 0..INPUTS {
        check(target, &mutator.input());
    }
}

macro_rules! laws {
    ($($test:ident: $name:literal,)*) => {
        $(#[test]
        fn $test() {
            holds($name);
        })*

        #[test]
        fn every_target_has_its_test() {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$($name),*]);
        }
    };
}

laws! {
    websocket_decoder: "websocket-decoder",
    websocket_frames: "websocket-frames",
    websocket_upgrade: "websocket-upgrade",
    websocket_deflate: "websocket-deflate",
    websocket_offers: "websocket-offers",
    engine_payload: "engine-payload",
    engine_payload_v3: "engine-payload-v3",
    engine_query: "engine-query",
    engine_session: "engine-session",
    engine_outbox: "engine-outbox",
    socket_packet: "socket-packet",
    socket_json: "socket-json",
    socket_args: "socket-args",
    socket_msgpack: "socket-msgpack",
    socket_connection: "socket-connection",
    socket_acks: "socket-acks",
    history_texts: "history-texts",
    history_sessions: "history-sessions",
    history_store: "history-store",
}
