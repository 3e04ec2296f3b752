//! Rooms of which nothing is kept are forgotten, and come again as if they were new.

use std::sync::Arc;
use std::time::Duration;

use posthaste::store::{Durability, MemoryStore, Put, Retention, Store, StreamName, Timestamp, WindowLimits, Write};
use posthaste::{Budget, Durable, HistoryStart, Inbox, InboxMode, Recovery, Server};
use posthaste_testkit::eventually;
use serde_json::json;

use crate::device::Device;
use crate::peer::{Peer, recovering};
use crate::scene::Remains;

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
    let offset = peer.memory.offset.clone().unwrap();
    let offset = &offset[..23];
    let page = history.page(HistoryStart::After(offset), Budget::UNLIMITED).await.unwrap();
    assert!(!page.gap, "it heard all there was");
    // What the server keeps for itself, and the room of which something is kept.
    eventually("they are forgotten", async || shard.stats().streams < 5).await;
    io.to("brief:0").emit("after", &1).await.unwrap();
    peer.expect(json!(["after", 1])).await;
    let page = history.page(HistoryStart::After(offset), Budget::UNLIMITED).await.unwrap();
    assert!(page.gap, "nobody can tell any more that nothing came between");
    for event in &page.events {
        assert_eq!((event.n, &event.prev), (1, &None), "it begins anew");
    }
    for number in 2..=9 {
        io.to("brief:0").emit("after", &number).await.unwrap();
    }
    let page = history.page(HistoryStart::Oldest, Budget::UNLIMITED).await.unwrap();
    assert!(page.events.len() <= 3, "how much it keeps was said anew: {}", page.events.len());
    let page = io.history("kept").unwrap().page(HistoryStart::Oldest, Budget::UNLIMITED).await.unwrap();
    assert_eq!((page.events.len(), page.gap), (1, false));
}

/// Has a store drop a stream, as if that had been idle for long.
async fn drop_one(remains: &Remains) -> u64 {
    let shard = remains.durable().store.shard("/").unwrap();
    let stream: StreamName = "x:gone".into();
    let put = Put::new(&stream, "x".into(), Durability::Memory);
    let pos = shard.commit(Timestamp(1), vec![Write::Put(put)]).await.unwrap()[0].position.pos;
    shard.commit(Timestamp(1), vec![Write::Trim { stream, through: pos }]).await.unwrap();
    assert_eq!(shard.drop_idle(pos).await.unwrap(), 1);
    pos
}

#[tokio::test]
async fn a_device_that_is_new_is_told_of_no_gap() {
    for mode in [InboxMode::Ack, InboxMode::Pong, InboxMode::Offset] {
        let remains = Remains::new();
        let running = remains.serve_inboxes(Inbox { mode, ..Inbox::default() });
        drop_one(&remains).await;
        for _ in 0..3 {
            let mut phone = Device::connect(running.addr, "ada", "phone").await;
            assert_eq!(phone.sync().await, []);
        }
        running.io.user("ada").emit("event", &1).await.unwrap();
        let mut phone = Device::connect(running.addr, "ada", "phone").await;
        assert_eq!(phone.sync().await.len(), 1, "and of what came then");
    }
}

#[tokio::test]
async fn whoever_came_behind_a_mark_is_recovered_also_where_nothing_came_in_rooms_since() {
    let remains = Remains::new();
    let shard = remains.durable().store.shard("/").unwrap();
    let recovery = Recovery { max_disconnection: Duration::from_millis(400), ..Recovery::default() };
    let builder = || Server::builder().workers(2).recovery(recovery).durable(remains.durable());
    let (running, _) = recovering(builder(), |_| {});
    drop_one(&remains).await;
    let marks = StreamName::from("k:marks");
    eventually("it is noted where the store is", async || shard.stream(&marks).is_some_and(|it| it.messages > 0)).await;
    let mut peer = Peer::join(running.addr).await;
    peer.client.ask(r#"["join","room"]"#, "[]").await;
    eventually("its session is noted", async || {
        let pid = posthaste_history::Pid::parse(&peer.memory.pid).unwrap();
        !remains.rooms(pid).await.is_empty()
    })
    .await;
    let (next, _) = recovering(builder(), |_| {});
    assert!(peer.memory.back(next.addr).await.recovered);
}
