//! Inboxes and questions in a store on the disk, which is opened anew by each server.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use posthaste::store::{Durability, Store};
use posthaste::{Inbox, RoomPolicy};
use posthaste_backend_embedded::{Config, EmbeddedStore};
use posthaste_testkit::eventually;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::device::Device;
use crate::peer::Peer;
use crate::questions::{answer, ask_and_forget, last, question};
use crate::scene::Remains;

/// Has `life` happen on a folder's store, then closes that. Returns a copy of the folder: the first server may still hold it.
async fn once(folder: TempDir, life: impl AsyncFnOnce(Remains)) -> TempDir {
    let store = Arc::new(EmbeddedStore::open(Config::new(folder.path())).unwrap());
    life(Remains::of(store.clone())).await;
    store.close().unwrap();
    let next = tempfile::tempdir().unwrap();
    copy(folder.path(), next.path());
    next
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
}

fn numbers(range: std::ops::Range<u64>) -> impl Iterator<Item = Value> {
    range.map(|number| json!(["event", number]))
}

#[tokio::test]
async fn an_inbox_is_where_it_was_when_the_store_is_opened_again() {
    let mut folder = tempfile::tempdir().unwrap();
    folder = once(folder, async |remains| {
        let running = remains.serve_inboxes(Inbox::default());
        for number in 0..5 {
            running.io.user("ada").emit("event", &number).await.unwrap();
        }
        let mut laptop = Device::connect(running.addr, "ada", "laptop").await;
        laptop.expect(numbers(0..5)).await;
        let mut phone = Device::connect(running.addr, "ada", "phone").await;
        let ids = phone.expect(numbers(0..5)).await;
        let passed = async || {
            let cursors = remains.cursors("ada").await;
            cursors.iter().find(|(name, _)| name == "phone").map_or(0, |(_, pos)| *pos)
        };
        phone.answer([ids[0], ids[3]]).await;
        phone.sync().await;
        eventually("the first is written", async || passed().await > 0).await;
        let first = passed().await;
        phone.answer([ids[1]]).await;
        phone.sync().await;
        eventually("the second is written", async || passed().await > first).await;
    })
    .await;
    folder = once(folder, async |remains| {
        let running = remains.serve_inboxes(Inbox::default());
        running.io.user("ada").emit("event", &5).await.unwrap();
        let mut phone = Device::connect(running.addr, "ada", "phone").await;
        let ids = phone.expect(numbers(2..6)).await;
        phone.answer(ids).await;
        let mut laptop = Device::connect(running.addr, "ada", "laptop").await;
        let ids = laptop.expect(numbers(0..6)).await;
        laptop.answer(ids).await;
        eventually("all is confirmed", async || remains.kept("ada") == 0).await;
    })
    .await;
    once(folder, async |remains| {
        let running = remains.serve_inboxes(Inbox::default());
        for device in ["phone", "laptop"] {
            let mut device = Device::connect(running.addr, "ada", device).await;
            assert_eq!(device.sync().await, []);
        }
    })
    .await;
}

#[tokio::test]
async fn questions_are_open_when_the_store_is_opened_again_until_they_are_answered() {
    let mut folder = tempfile::tempdir().unwrap();
    let (mut memory, mut ids) = (None, Vec::new());
    folder = once(folder, async |remains| {
        let (running, sockets) = remains.serve();
        let mut peer = Peer::join(running.addr).await;
        ask_and_forget(&last(&sockets), 0..3).await;
        for number in 0..3 {
            let (id, event) = question(&mut peer).await;
            assert_eq!(event, json!(["question", number]));
            ids.push(id);
        }
        answer(&mut peer, ids[1], "0").await;
        peer.sync().await;
        last(&sockets).journalled().await.unwrap();
        memory = Some(peer.memory.clone());
    })
    .await;
    folder = once(folder, async |remains| {
        let (running, _) = remains.serve();
        let mut back = memory.take().unwrap().back(running.addr).await;
        assert!(back.recovered);
        for number in [0, 2] {
            assert_eq!(question(&mut back.peer).await, (ids[number], json!(["question", number])));
            answer(&mut back.peer, ids[number], "0").await;
        }
        back.peer.sync().await;
        eventually("all is answered", async || remains.open(&back.peer.id) == 0).await;
        memory = Some(back.peer.memory.clone());
    })
    .await;
    once(folder, async |remains| {
        let (running, _) = remains.serve();
        let mut back = memory.take().unwrap().back(running.addr).await;
        assert!(back.recovered);
        back.peer.sync().await;
    })
    .await;
}

/// Whoever has a receipt that says less gets it earlier; what says more is never less.
#[tokio::test]
async fn rooms_and_events_may_ask_for_less_than_a_sync_and_get_no_less_than_the_strictest_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path());
    // Nothing is synced that nobody waits for.
    config.sync_interval = std::time::Duration::from_secs(3_600);
    let store = Arc::new(EmbeddedStore::open(config).unwrap());
    let shard = store.shard("/").unwrap();
    let (running, _) = Remains::of(store.clone()).serve();
    let io = &running.io;
    let os = RoomPolicy { durability: Some(Durability::Os), ..RoomPolicy::default() };
    io.durable_rooms("map:*", os).unwrap();
    let reached = async |operator: posthaste::DurableOperator| {
        let syncs = shard.stats().syncs;
        let stored = operator.emit("event", &()).await.unwrap();
        (stored.durability, shard.stats().syncs - syncs)
    };
    assert_eq!(reached(io.to("room").durable()).await, (Durability::Disk, 1));
    // Before the first that a power cut could take back, the store notes on the disk that there is such.
    reached(io.to("map:1").durable()).await;
    assert_eq!(reached(io.to("map:1").durable()).await, (Durability::Os, 0));
    assert_eq!(reached(io.to("map:1").durable().durability(Durability::Disk)).await, (Durability::Os, 0));
    assert_eq!(reached(io.to("room").durable().durability(Durability::Os)).await, (Durability::Os, 0));
    assert_eq!(reached(io.to("map:1").to("room").durable()).await, (Durability::Disk, 1));
    assert_eq!(reached(io.to("map:1").to("unnamed").durable()).await, (Durability::Disk, 1));
}
