//! A store, and servers that follow each other on it.

use std::sync::Arc;

use posthaste::store::{MemoryStore, Retention};
use posthaste::{Data, Durable, JoinError, Server, Socket};
use posthaste_testkit::{Record, Running};

use crate::peer::recovering;

/// What is left when a process was killed.
#[derive(Clone)]
pub(crate) struct Remains(Arc<MemoryStore>);

impl Remains {
    pub(crate) fn new() -> Self {
        Self(Arc::new(MemoryStore::new(7, Retention::ROOM, posthaste_history::store::WindowLimits::default())))
    }

    /// Settings on it.
    pub(crate) fn durable(&self) -> Durable {
        Durable::new(self.0.clone())
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
