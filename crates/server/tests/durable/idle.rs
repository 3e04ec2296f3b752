//! Rooms of which nothing is kept are forgotten, and come again as if they were new.

use std::sync::Arc;
use std::time::Duration;

use posthaste::store::{MemoryStore, Retention, Store, WindowLimits};
use posthaste::{Budget, Durable, HistoryStart, Recovery, Server};
use posthaste_testkit::eventually;
use serde_json::json;

use crate::peer::{Peer, recovering};

#[tokio::test]
async fn rooms_of_which_nothing_is_kept_are_forgotten_and_come_again() {
    const ROOMS: u64 = 50;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(7, Retention::ROOM, WindowLimits::default()));
    let shard = store.shard("/").unwrap();
    let durable = Durable {
        max_away: Duration::from_millis(500),
        forget_after: Duration::from_secs(1),
        ..Durable::new(store.clone())
    };
    let brief = Retention { max_age_ms: 100, max_messages: 3, ..Retention::ROOM };
    // What is too old is looked for four times within this.
    let recovery = Recovery { max_disconnection: Duration::from_millis(400), ..Recovery::default() };
    let (running, _) = recovering(Server::builder().workers(1).recovery(recovery).durable(durable), |io| {
        io.durable_rooms("brief:*", brief).unwrap().durable_rooms("kept", Retention::ROOM).unwrap();
    });
    let io = &running.io;
    let mut peer = Peer::join(running.addr).await;
    peer.client.ask(r#"["join","brief:0"]"#, "[]").await;
    io.to("kept").emit("kept", &()).await.unwrap();
    for room in 0..ROOMS {
        io.to(format!("brief:{room}")).emit("before", &room).await.unwrap();
    }
    peer.expect(json!(["before", 0])).await;
    let history = io.history("brief:0").unwrap();
    let page = history.page(HistoryStart::Oldest, Budget::UNLIMITED).await.unwrap();
    let before = page.next;
    assert!(shard.stats().streams > ROOMS);
    // What the server keeps for itself, and the room of which something is kept.
    eventually("they are forgotten", async || shard.stats().streams < 5).await;
    for number in 1..=5 {
        io.to("brief:0").emit("after", &number).await.unwrap();
        peer.expect(json!(["after", number])).await;
    }
    let page = history.page(HistoryStart::After(&before), Budget::UNLIMITED).await.unwrap();
    assert!(page.gap, "nobody can tell any more that nothing came between");
    assert!(page.events.len() <= 3, "how much it keeps was said anew: {}", page.events.len());
    assert!(page.events.iter().all(|event| event.n <= 5));
    let page = io.history("kept").unwrap().page(HistoryStart::Oldest, Budget::UNLIMITED).await.unwrap();
    assert_eq!((page.events.len(), page.gap), (1, false));
}
