//! The events of the application that need a store.

use posthaste::store::Retention;
use posthaste::{Ack, Args, Data, Server};
use serde_json::value::RawValue;

/// As much as a client may have to catch up with, and more: a room keeps 10,000 events by default.
const RETENTION: Retention = Retention { max_messages: u64::MAX, max_bytes: 1 << 30, ..Retention::ROOM };

/// Beside those of every application.
pub(super) fn install(io: &Server) -> anyhow::Result<()> {
    io.durable_rooms("kept-*", RETENTION)?;
    // Answered with what it was sent, when that is committed.
    io.on("store", async |io: Server, Data(args): Data<Args<'static>>, ack: Ack| {
        io.to("kept-store").durable().emit("stored", &args).await?;
        anyhow::Ok(ack.send(&args).await?)
    });
    io.on("rstore", async |io: Server, Data((room, payload)): Data<(String, Box<RawValue>)>, ack: Ack| {
        io.to(room).durable().emit("bcast", &payload).await?;
        anyhow::Ok(ack.send(&()).await?)
    });
    Ok(())
}
