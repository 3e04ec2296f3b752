//! Several attempts to take one session up: the last one has it.

use std::sync::Arc;
use std::time::Duration;

use posthaste::store::Retention;
use posthaste::{Auth, ConnectError, Durable, ReplayBudget, Server, Socket};
use posthaste_testkit::{Client, Record, Running, eventually};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::peer::{Memory, Peer};
use crate::scene::Remains;

/// A server that checks clients who say `slow` until it is told to go on, and remembers who is being checked so.
struct Slow {
    running: Running,
    sockets: Record<Socket>,
    checked: Record<Socket>,
    go_on: Arc<Semaphore>,
}

fn slow(remains: &Remains, change: impl FnOnce(Durable) -> Durable) -> Slow {
    let (checked, go_on) = (Record::new(), Arc::new(Semaphore::new(0)));
    let (record, gate) = (checked.clone(), go_on.clone());
    let (running, sockets) = remains.serve_with(Retention::ROOM, change, |io: &Server| {
        io.middleware(move |socket: Socket, Auth(auth): Auth<Value>| {
            let (record, gate) = (record.clone(), gate.clone());
            async move {
                if auth["slow"] == true {
                    record.push(socket);
                    gate.acquire().await.unwrap().forget();
                }
                Ok::<_, ConnectError>(())
            }
        });
    });
    Slow { running, sockets, checked, go_on }
}

impl Slow {
    /// Begins to come back, and is held up.
    async fn hold_up(&self, memory: &Memory) -> Client {
        let before = self.checked.all().len();
        let waiting = memory.ask_with(self.running.addr, json!({ "slow": true })).await;
        self.checked.wait_for(before + 1).await;
        waiting
    }

    fn live(&self) -> Vec<String> {
        let all = self.sockets.all();
        all.iter().filter(|socket| socket.is_connected()).map(|socket| socket.id().to_string()).collect()
    }
}

/// Where somebody was in the durable room who has lost the connection; if `is_here`, to this same process, else to one that was killed.
async fn lost(is_here: bool, change: impl FnOnce(Durable) -> Durable) -> (Slow, String, Memory) {
    let remains = Remains::new();
    let former = (!is_here).then(|| remains.serve().0);
    let here = is_here.then(|| slow(&remains, |durable| durable));
    let running = former.as_ref().or(here.as_ref().map(|slow| &slow.running)).unwrap();
    let mut peer = Peer::join_with(running.addr, json!({})).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    let id = peer.id.clone();
    match here {
        Some(slow) => {
            let memory = peer.lose(&slow.running.io).await;
            (slow, id, memory)
        }
        // Whoever follows the store last hears of it.
        None => (slow(&remains, change), id, peer.memory.clone()),
    }
}

/// The first attempts are held up in memory, or at the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_last_has_the_session_and_those_before_are_closed() {
    for is_here in [true, false] {
        let (slow, id, memory) = lost(is_here, |durable| durable).await;
        slow.running.io.to("room").emit("event", &1).await.unwrap();
        // Often enough to meet connections of the same worker and of the other.
        let mut waiting = Vec::new();
        for _ in 0..6 {
            waiting.push(slow.hold_up(&memory).await);
        }
        let back = memory.back(slow.running.addr).await;
        assert!(back.recovered, "{is_here}");
        assert_eq!((back.peer.id.as_str(), &*back.missed), (id.as_str(), &[json!(["event", 1])][..]));
        for mut client in waiting {
            client.closed().await;
        }
        // Those that were held up go on, and nothing comes of it.
        slow.go_on.add_permits(6);
        let mut peer = back.peer;
        slow.running.io.to("room").emit("event", &2).await.unwrap();
        peer.expect(json!(["event", 2])).await;
        peer.sync().await;
        assert_eq!(slow.live(), [id], "{is_here}");
        assert_eq!(slow.running.io.stats().await.sockets, 1);
    }
}

/// One attempt has the session from memory: whoever comes then does not find it in the store.
#[tokio::test]
async fn what_memory_and_the_store_know_is_one_session() {
    let (slow, id, memory) = lost(true, |durable| durable).await;
    let first = slow.hold_up(&memory).await;
    let second = slow.hold_up(&memory).await;
    slow.go_on.add_permits(2);
    eventually("the second is let in", async || slow.live() == [id.clone()]).await;
    drop((first, second));
}

/// A replay that is paced takes long: the client does not wait for the end of it.
#[tokio::test]
async fn a_replay_that_is_paced_is_given_up_for_the_next() {
    let budget = ReplayBudget { burst_bytes: 1_000, bytes_per_second: 1 };
    let (slow, id, memory) = lost(false, |durable| Durable { replay_budget: budget, ..durable }).await;
    for number in 0..3 {
        slow.running.io.to("room").emit("event", &(number, "x".repeat(60_000))).await.unwrap();
    }
    let mut paced = memory.ask_with(slow.running.addr, json!({})).await;
    // A first part has come, and the next is hours away.
    assert!(paced.text().await.starts_with("2"));
    let mut next = memory.ask_with(slow.running.addr, json!({})).await;
    paced.closed().await;
    // It is the same session: what was sent is counted, and it is paced as well.
    eventually("it is being seen to", async || slow.running.io.stats().await.connections == 1).await;
    let silent = tokio::time::timeout(Duration::from_millis(300), next.message()).await;
    assert!(silent.is_err(), "nobody is somebody new for having tried twice");
    assert_eq!(slow.live(), Vec::<String>::new(), "{id}");
}
