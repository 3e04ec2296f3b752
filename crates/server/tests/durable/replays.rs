//! Many who come back at once, and one who comes back too often.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use posthaste::store::{Answer, Page, Range, Retention, Shard};
use posthaste::{Auth, Budget, ConnectError, Durable, ReplayBudget, Server, Socket};
use posthaste_testkit::Running;
use serde_json::{Value, json};

use crate::between::{Between, Through};
use crate::peer::{Back, Memory, Peer};
use crate::scene::Remains;

/// Takes its time to read, and counts how often that is done.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Counting {
    fn reads(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Between for Counting {
    fn read(&self, shard: &dyn Shard, ranges: Vec<Range>, max: Budget) -> Answer<Page> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let answer = shard.read(ranges, max);
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            answer.await
        })
    }
}

/// Has all of them come back at the same time.
async fn storm(memories: Vec<Memory>, addr: std::net::SocketAddr) -> Vec<Back> {
    let coming = memories.into_iter().map(|memory| tokio::spawn(async move { memory.back(addr).await }));
    let mut backs = Vec::new();
    for back in coming.collect::<Vec<_>>() {
        backs.push(back.await.unwrap());
    }
    backs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_many_have_missed_is_read_once_for_all_of_them() {
    const PEERS: usize = 120;
    const EVENTS: usize = 200;
    let remains = Remains::new();
    let (running, sockets) = remains.serve();
    let mut memories = Vec::new();
    for number in 0..PEERS {
        let mut peer = Peer::join(running.addr).await;
        peer.client.ask(r#"["enter","room"]"#, "[]").await;
        if number % 3 == 0 {
            peer.client.ask(&format!(r#"["enter","room:{number}"]"#), "[]").await;
        }
        // Each has heard something else last.
        running.io.to("room").emit("heard", &number).await.unwrap();
        peer.expect(json!(["heard", number])).await;
        memories.push(peer.memory.clone());
    }
    let ids: Vec<String> = sockets.all().iter().map(|socket| socket.id().to_string()).collect();
    let counting = Arc::new(Counting::default());
    let store = Arc::new(Through(remains.durable().store, counting.clone()));
    let (next, _) = remains.serve_with(Retention::ROOM, |durable| Durable { store, ..durable }, |_| {});
    let mut expected: Vec<(String, Value)> = Vec::new();
    for number in 0..EVENTS {
        next.io.to("room").to(format!("room:{}", number % 9)).emit("missed", &number).await.unwrap();
        expected.push(("room".into(), json!(["missed", number])));
    }
    next.io.to("room").except(ids[7].as_str()).emit("for others", &()).await.unwrap();
    next.io.to(ids[8].as_str()).durable().emit("own", &()).await.unwrap();
    let before = counting.reads();
    let backs = storm(memories, next.addr).await;
    let reads = counting.reads() - before;
    for (number, back) in backs.iter().enumerate() {
        assert!(back.recovered, "{number}");
        let mut all: Vec<Value> = (number + 1..PEERS).map(|later| json!(["heard", later])).collect();
        all.extend((0..EVENTS).map(|number| json!(["missed", number])));
        if number != 7 {
            all.push(json!(["for others"]));
        }
        if number == 8 {
            all.push(json!(["own"]));
        }
        assert_eq!(back.missed, all, "{number}");
    }
    assert!(reads < PEERS / 4, "{reads} reads for {PEERS} who missed the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_long_and_what_is_in_many_rooms_comes_whole_and_in_order() {
    const ROOMS: usize = 40;
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let mut few = Peer::join(running.addr).await;
    let mut many = Peer::join(running.addr).await;
    for room in 0..ROOMS {
        many.client.ask(&format!(r#"["enter","room:{room}"]"#), "[]").await;
        if room < 3 {
            few.client.ask(&format!(r#"["enter","room:{room}"]"#), "[]").await;
        }
    }
    let (next, _) = remains.serve();
    let text = "x".repeat(700);
    for number in 0..2_500_usize {
        let (one, two) = (number % ROOMS, (number + 1) % ROOMS);
        next.io.to(format!("room:{one}")).to(format!("room:{two}")).emit("event", &(number, &text)).await.unwrap();
    }
    let numbers = |back: &Back| -> Vec<usize> {
        assert!(back.recovered);
        back.missed.iter().map(|event| event[1].as_u64().unwrap() as usize).collect()
    };
    let backs = storm(vec![few.memory.clone(), many.memory.clone()], next.addr).await;
    let of_few = (0..2_500).filter(|number| number % ROOMS < 3 || number % ROOMS == ROOMS - 1).collect::<Vec<_>>();
    assert_eq!(numbers(&backs[0]), of_few);
    assert_eq!(numbers(&backs[1]), (0..2_500).collect::<Vec<_>>());
}

const SMALL: ReplayBudget = ReplayBudget { burst_bytes: 30_000, bytes_per_second: 10_000 };
/// A third time 30,000 bytes cannot be earlier behind the first, however long all else takes.
const THIRD: Duration = Duration::from_secs(3);

fn with_small_budget(remains: &Remains) -> Running {
    let named = |io: &Server| {
        #[derive(serde::Deserialize)]
        struct Login {
            user: Option<String>,
        }
        io.middleware(async |socket: Socket, Auth(login): Auth<Login>| {
            if let Some(user) = login.user {
                socket.identify(user);
            }
            Ok::<_, ConnectError>(())
        });
    };
    remains.serve_with(Retention::ROOM, |durable| Durable { replay_budget: SMALL, ..durable }, named).0
}

/// About so many bytes, in ten events.
async fn emit(io: &Server, bytes: usize) -> Vec<Value> {
    let text = "x".repeat(bytes / 10);
    for number in 0..10 {
        io.to("room").emit("event", &(number, &text)).await.unwrap();
    }
    (0..10).map(|number| json!(["event", number, text])).collect()
}

async fn entered(running: &Running, auth: Value) -> Peer {
    let mut peer = Peer::join_with(running.addr, auth).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    peer
}

#[tokio::test]
async fn what_one_identity_is_replayed_goes_on_slowly_when_it_was_too_much_and_nothing_is_missing() {
    for restarts in [true, false] {
        let remains = Remains::new();
        let running = with_small_budget(&remains);
        let mut memories = Vec::new();
        for user in ["ada", "ada", "ada", "eve"] {
            let peer = entered(&running, json!({ "user": user })).await;
            memories.push((user, if restarts { peer.memory.clone() } else { peer.lose(&running.io).await }));
        }
        let next = restarts.then(|| with_small_budget(&remains));
        let running = next.as_ref().unwrap_or(&running);
        let missed = emit(&running.io, 30_000).await;
        let comeback = async |(user, memory): &(&str, Memory)| {
            let back = memory.back_with(running.addr, json!({ "user": user })).await;
            assert_eq!((back.recovered, back.missed.len()), (true, 10), "{user}");
            assert_eq!(back.missed, missed);
        };
        let start = Instant::now();
        // Two of three may have it at once: what there is, and one too much.
        comeback(&memories[0]).await;
        comeback(&memories[1]).await;
        let third = async {
            comeback(&memories[2]).await;
            start.elapsed()
        };
        let other = async {
            comeback(&memories[3]).await;
            start.elapsed()
        };
        let (third, other) = tokio::join!(third, other);
        assert!(third > THIRD, "the third goes on slowly: {third:?}, restarts: {restarts}");
        assert!(other < third, "others do not wait for it: {other:?} of {third:?}, restarts: {restarts}");
    }
}

#[tokio::test]
async fn without_an_identity_each_session_has_its_own_budget_across_its_reconnects() {
    let remains = Remains::new();
    let running = with_small_budget(&remains);
    let mut memories = Vec::new();
    for _ in 0..4 {
        memories.push(entered(&running, json!({})).await.lose(&running.io).await);
    }
    let missed = emit(&running.io, 30_000).await;
    let start = Instant::now();
    for memory in &memories[1..] {
        assert_eq!(memory.back(running.addr).await.missed, missed);
    }
    let others = start.elapsed();
    // One that comes again and again, with the offset it began with.
    let start = Instant::now();
    for _ in 0..3 {
        let back = memories[0].back(running.addr).await;
        assert_eq!((back.recovered, back.missed), (true, missed.clone()));
    }
    let took = start.elapsed();
    assert!(took > THIRD && others < took, "{took:?}, and others {others:?}");
}

#[tokio::test]
async fn who_has_to_wait_for_long_is_not_taken_for_one_that_never_joins() {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let memory = entered(&running, json!({})).await.memory;
    let budget = ReplayBudget { burst_bytes: 30_000, bytes_per_second: 100_000 };
    let (next, _) = crate::peer::recovering(
        Server::builder()
            .workers(1)
            .connect_timeout(Duration::from_millis(2_500))
            .durable(Durable { replay_budget: budget, ..remains.durable() }),
        |io| {
            io.durable_rooms("room", Retention::ROOM).unwrap();
        },
    );
    // In parts: there is more than a worker sends at once.
    let text = "x".repeat(15_000);
    for number in 0..25 {
        next.io.to("room").emit("event", &(number, &text)).await.unwrap();
    }
    let start = Instant::now();
    let back = memory.back(next.addr).await;
    assert!(back.recovered && start.elapsed() > Duration::from_secs(3), "{:?}", start.elapsed());
    let numbers: Vec<u64> = back.missed.iter().map(|event| event[1].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..25).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_asked_for_again_counts_as_well() {
    let remains = Remains::new();
    let running = with_small_budget(&remains);
    let mut peer = Peer::join_with(running.addr, json!({ "user": "ada" })).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    emit(&running.io, 30_000).await;
    for _ in 0..10 {
        peer.event().await;
    }
    let start = Instant::now();
    for _ in 0..3 {
        peer.client.send(r#"29["sio:fill","room",null,null]"#).await;
        let answer = peer.client.text().await;
        assert_eq!(answer.matches(r#""event":"event""#).count(), 10, "{answer}");
    }
    assert!(start.elapsed() > THIRD, "{:?}", start.elapsed());
}

/// What waits takes no memory but its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_to_wait_is_read_afterwards() {
    let remains = Remains::new();
    let counting = Arc::new(Counting::default());
    let store = Arc::new(Through(remains.durable().store, counting.clone()));
    let replay_budget = ReplayBudget { burst_bytes: 1_000, bytes_per_second: 1 };
    let (running, _) =
        remains.serve_with(Retention::ROOM, |durable| Durable { store, replay_budget, ..durable }, |_| {});
    let mut peer = Peer::join(running.addr).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    running.io.to("room").emit("event", &"x".repeat(5_000)).await.unwrap();
    peer.event().await;
    peer.client.send(r#"21["sio:fill","room",null,null]"#).await;
    assert!(peer.client.text().await.starts_with(r#"31[{"ok":true"#));
    let before = counting.reads();
    for number in 2..6 {
        peer.client.send(&format!(r#"2{number}["sio:fill","room",null,null]"#)).await;
    }
    peer.sync().await;
    // Another room's reader, who has used nothing up, is not held up.
    let mut other = Peer::join(running.addr).await;
    other.client.ask(r#"["enter","room"]"#, "[]").await;
    other.client.send(r#"21["sio:fill","room",null,null]"#).await;
    assert!(other.client.text().await.starts_with(r#"31[{"ok":true"#));
    assert_eq!(counting.reads() - before, 1, "nothing was read for those that wait");
}

#[tokio::test]
async fn who_missed_nothing_waits_for_nothing_however_much_others_of_the_same_identity_were_sent() {
    let remains = Remains::new();
    let named = |io: &Server| {
        io.middleware(async |socket: Socket| {
            socket.identify("ada");
            Ok::<_, ConnectError>(())
        });
    };
    let replay_budget = ReplayBudget { burst_bytes: 1_000, bytes_per_second: 1 };
    let change = |durable| Durable { replay_budget, ..durable };
    let (running, _) = remains.serve_with(Retention::ROOM, change, named);
    let nothing = Peer::join_with(running.addr, json!({})).await;
    let much = entered(&running, json!({})).await;
    let (next, _) = remains.serve_with(Retention::ROOM, change, named);
    emit(&next.io, 30_000).await;
    assert_eq!(much.memory.back(next.addr).await.missed.len(), 10);
    // What comes now would come hours later.
    let back = nothing.memory.back(next.addr).await;
    assert_eq!((back.recovered, back.missed.len()), (true, 0));
}
