//! SEC-01: session ids that nobody can guess.

use std::collections::HashSet;

use posthaste_testkit::{Http, Request, Transport, eventually};

use crate::echo::EchoServer;
use crate::{PATH, POLLING};

const SESSIONS: usize = 10_000;

#[tokio::test]
async fn sec_01_session_ids_are_random_in_every_place_and_share_no_beginning() {
    let server = EchoServer::over(2, |_| {});
    let mut sids: Vec<String> = Vec::new();
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let addr = server.addr;
        connections.spawn(async move {
            let mut http = Http::connect(addr).await;
            let mut sids = Vec::new();
            for _ in 0..SESSIONS / 4 {
                let opened = http.send(&Request::get(POLLING)).await.unwrap();
                sids.push(opened.text()[9..29].to_owned());
            }
            sids
        });
    }
    while let Some(some) = connections.join_next().await {
        sids.extend(some.unwrap());
    }
    assert_eq!(sids.len(), SESSIONS);
    // 48 random bits: that any two of ten thousand begin alike has a chance of one in five million.
    let beginnings: HashSet<&str> = sids.iter().map(|sid| &sid[..8]).collect();
    assert_eq!(beginnings.len(), SESSIONS, "two ids begin alike");
    // The last byte tells the worker, so the last two characters say little; all others are of 64 kinds, about equally often.
    for place in 0..18 {
        let mut counts = [0usize; 128];
        sids.iter().for_each(|sid| counts[usize::from(sid.as_bytes()[place])] += 1);
        let kinds = counts.iter().filter(|count| **count > 0).count();
        let most = *counts.iter().max().unwrap();
        assert!(kinds == 64 && most < 2 * SESSIONS / 64, "place {place}: {kinds} kinds, one {most} times");
    }
    // Neighbours differ as much as strangers: nothing counts.
    for pair in sids.windows(2) {
        let same = pair[0].bytes().zip(pair[1].bytes()).take(18).filter(|(a, b)| a == b).count();
        assert!(same < 8, "{pair:?}");
    }
}

#[tokio::test]
async fn sec_01_an_id_of_another_form_or_place_opens_nothing() {
    let server = EchoServer::over(2, |_| {});
    let engine = posthaste_testkit::Engine::open(server.addr, PATH, Transport::Polling).await;
    let sid = engine.sid();
    let changed = |place: usize| {
        let mut bytes = sid.as_bytes().to_vec();
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        String::from_utf8(bytes).unwrap()
    };
    let lower: String = sid
        .chars()
        .map(|c| if c.is_ascii_uppercase() { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
        .collect();
    let tried = [
        changed(0),
        changed(10),
        changed(19),
        lower,
        sid[..19].to_owned(),
        format!("{sid}A"),
        format!("{sid}%00"),
        format!("%20{sid}"),
        sid.replace(['-', '_'], "+") + "x",
        "A".repeat(20),
        "_".repeat(20),
        "A".repeat(10_000),
    ];
    for other in tried {
        for request in
            [Request::get(&format!("{POLLING}&sid={other}")), Request::post(&format!("{POLLING}&sid={other}"), "4x")]
        {
            let answer = Http::once(server.addr, &request).await.unwrap();
            assert_eq!(
                (answer.status, answer.text()),
                (400, r#"{"code":1,"message":"Session ID unknown"}"#),
                "{other}"
            );
        }
    }
    assert_eq!(server.connections(), 1);
    engine.leave().await.unwrap();
    eventually("it has left", async || server.connections() == 0).await;
}
