//! A store, and servers that follow each other on it.

use std::sync::Arc;

use posthaste::store::{MemoryStore, Retention, Store, StreamName, Timestamp};
use posthaste::{Auth, ConnectError, Data, Durable, Inbox, JoinError, Server, Socket};
use posthaste_history::Pid;
use posthaste_testkit::{Record, Running};

use crate::peer::{Peer, recovering};

/// What is left when a process was killed.
#[derive(Clone)]
pub(crate) struct Remains(Arc<dyn Store>);

impl Remains {
    pub(crate) fn new() -> Self {
        Self::of(Arc::new(MemoryStore::new(7, Retention::ROOM, posthaste_history::store::WindowLimits::default())))
    }

    /// What is left in this store.
    pub(crate) fn of(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// How many questions the store has that a socket has not answered.
    pub(crate) fn open(&self, id: &str) -> u64 {
        self.0.shard("/").unwrap().stream(&format!("q:{id}").into()).map_or(0, |questions| questions.messages)
    }

    /// Settings on it.
    pub(crate) fn durable(&self) -> Durable {
        Durable::new(self.0.clone())
    }

    /// Up to where each device of somebody's inbox has it, by name.
    pub(crate) async fn cursors(&self, user: &str) -> Vec<(String, u64)> {
        let cursors = self.0.shard("/").unwrap().cursors(&format!("u:{user}").into()).await.unwrap();
        cursors.into_iter().map(|(device, pos)| (device.to_string(), pos)).collect()
    }

    /// The streams of the rooms that a session is in, and of what everybody is sent.
    pub(crate) async fn rooms(&self, pid: Pid) -> Vec<StreamName> {
        let record = self.0.shard("/").unwrap().session(Timestamp(0), pid).await.unwrap();
        record.map_or(Vec::new(), |record| record.trail.rooms().cloned().collect())
    }

    /// How many messages somebody's inbox has.
    pub(crate) fn kept(&self, user: &str) -> u64 {
        self.0.shard("/").unwrap().stream(&format!("u:{user}").into()).map_or(0, |inbox| inbox.messages)
    }

    /// A server on it where everybody has an inbox, and is who they say.
    pub(crate) fn serve_inboxes(&self, inbox: Inbox) -> Running {
        let named = |io: &Server| {
            io.middleware(async |socket: Socket, Auth(login): Auth<Login>| {
                if let Some(user) = login.user {
                    socket.identify(user);
                }
                Ok::<_, ConnectError>(())
            });
        };
        let durable = |durable| Durable { inbox: Some(inbox), ..durable };
        self.serve_with(Retention::ROOM, durable, named).0
    }

    /// A server on it: `room` and `room:*` are durable, clients join by themselves.
    pub(crate) fn serve(&self) -> (Running, Record<Socket>) {
        self.serve_with(Retention::ROOM, |durable| durable, |_| {})
    }

    pub(crate) fn serve_with(
        &self,
        retention: Retention,
        change: impl FnOnce(Durable) -> Durable,
        setup: impl FnOnce(&Server),
    ) -> (Running, Record<Socket>) {
        let durable = change(Durable::new(self.0.clone()));
        recovering(Server::builder().workers(2).durable(durable), |io| {
            io.durable_rooms("room", retention).unwrap().durable_rooms("room:*", retention).unwrap();
            io.on("enter", async |socket: Socket, Data(room): Data<String>| {
                socket.join(room);
                socket.journalled().await.unwrap();
                Ok::<_, JoinError>(())
            });
            setup(io);
        })
    }
}

/// A server on a new store, and a client in the durable `room`.
pub(crate) async fn scene() -> (Remains, Running, Peer) {
    let remains = Remains::new();
    let (running, _) = remains.serve();
    let mut peer = Peer::join(running.addr).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    (remains, running, peer)
}

#[derive(serde::Deserialize)]
struct Login {
    user: Option<String>,
}
