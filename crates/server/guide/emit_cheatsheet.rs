use std::time::Duration;

use bytes::Bytes;
use posthaste::{Server, Socket, SocketId};
use serde_json::{Value, json};

async fn all_of_it(io: Server, socket: Socket, id: SocketId) -> Result<(), Box<dyn std::error::Error>> {
    let patience = Duration::from_secs(5);

    // To one client.
    socket.emit("hello", &(1, "2", json!({ "a": 3 }))).await?;
    socket.emit("hello", &Bytes::from_static(&[1])).await?;
    let _answer: String = socket.emit_with_ack("hello", "world").await?;
    let _answer: String = socket.timeout(patience).emit_with_ack("hello", "world").await?;
    socket.send("hello").await?;
    socket.volatile().emit("position", &(1.5, 2.5)).await?;
    socket.compress(false).emit("noise", &7).await?;

    // To many.
    io.emit("hello", &()).await?;
    socket.broadcast().emit("hello", &()).await?;
    io.to("room1").emit("hello", &()).await?;
    io.within("room1").emit("hello", &()).await?;
    io.to("room1").to("room2").emit("hello", &()).await?;
    io.to(["room1", "room2"]).emit("hello", &()).await?;
    io.except("room1").emit("hello", &()).await?;
    io.to("room1").except("room2").emit("hello", &()).await?;
    socket.to("room1").emit("hello", &()).await?;
    io.to(id).emit("hello", &()).await?;
    io.namespace("/chat").emit("hello", &()).await?;
    io.namespace("/chat").to("room1").emit("hello", &()).await?;
    io.local().emit("hello", &()).await?;
    io.volatile().emit("hello", &()).await?;
    io.compress(false).emit("hello", &()).await?;

    // To many, with answers.
    let acks = io.timeout(patience).emit_with_ack::<Value>("hello", &()).await?;
    println!("{} of {} answered", acks.answers.len(), acks.asked);
    io.to("room1").timeout(patience).emit_with_ack::<Value>("hello", &()).await?;
    socket.timeout(patience).to("room1").except("room2").emit_with_ack::<Value>("hello", &()).await?;
    let mut answers = io.emit_with_ack::<Value>("hello", &()).stream();
    while let Some(answer) = answers.next().await {
        let (from, answer) = answer?;
        println!("{from:?}: {answer}");
    }

    // What is done to sockets.
    io.to("room1").sockets_join(["room2", "room3"]).await?;
    io.to("room1").sockets_leave("room2").await?;
    for socket in io.to("room1").fetch_sockets().await? {
        println!("{} {:?} {:?}", socket.id(), socket.rooms(), socket.data::<Value>()?);
    }
    io.to("room1").disconnect_sockets(true).await?;

    // To the other servers.
    io.server_side_emit("hello", "world").await?;
    let _answers = io.server_side_emit_with_ack::<Value>("ping", &()).await?;
    Ok(())
}
