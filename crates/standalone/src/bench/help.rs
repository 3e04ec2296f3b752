//! What `posthaste bench --help` says behind the options.

/// What a server must offer, for `--help`.
pub(super) const HELP: &str = r#"What the server must offer

  `connect` and `storm` need nothing but a server. The others need these events, here in Node and in Rust:

    io.on("connection", (socket) => {
      socket.join("room");
      socket.on("echo", (payload, ack) => ack(payload));                         // echo, polling
      socket.on("bcast", (payload) => io.to("room").emit("bcast", payload));     // broadcast
      socket.on("join", async (room, ack) => { await socket.join(room); ack(); });    // rooms
      socket.on("leave", async (room, ack) => { await socket.leave(room); ack(); });
      socket.on("rbcast", (room, payload) => io.to(room).emit("bcast", payload));
      socket.on("rstore", (room, payload, ack) => { io.to(room).emit("bcast", payload); ack(); });   // recover
    });

    io.on_connect(async |socket: Socket| socket.join("room"));
    io.on("echo", async |Data(payload): Data<Box<RawValue>>, ack: Ack| ack.send(&payload).await);
    io.on("bcast", async |io: Server, Data(payload): Data<Box<RawValue>>, _ack: Ack| {
        io.to("room").emit("bcast", &payload).await
    });
    io.on("join", async |socket: Socket, Data(room): Data<String>| socket.join(room));
    io.on("leave", async |socket: Socket, Data(room): Data<String>| socket.leave(room));
    io.on("rbcast", async |io: Server, Data((room, payload)): Data<(String, Box<RawValue>)>, _ack: Ack| {
        io.to(room).emit("bcast", &payload).await
    });
    io.on("rstore", async |io: Server, Data((room, payload)): Data<(String, Box<RawValue>)>, ack: Ack| {
        io.to(room).durable().emit("bcast", &payload).await?;
        Ok::<_, anyhow::Error>(ack.send(&()).await?)
    });

  `recover` needs a server that keeps sessions (in Node: `connectionStateRecovery`), and events as well if it is to be killed:

    posthaste bench recover -c 5000 --missed 200 --url http://127.0.0.1:4000 \
      --server "posthaste bench app --listen 127.0.0.1:4000 --data ./data"

  --self starts a Posthaste server with them for the run, one worker on a free port.

How to read the figures

  Without --rate the loop is closed: the next operation begins when one has ended, so the load is as fast as the server
  allows, and latencies are those of a server at its limit. With --rate the loop is open: operations are due at even
  distances and latency counts from when they were due, also while the server stalls. Compare servers by the CPU time
  of an operation (--pid), or by latency at a rate that all of them can take.

  The load is one thread. Where server and load share a machine, keep them on different cores (--cpu, taskset).

Exit codes: 0 all went well, 1 something failed, was wrong or was lost, 2 an option makes no sense, 130 interrupted."#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_shows_every_event_of_the_application() {
        let source = concat!(include_str!("app.rs"), include_str!("kept.rs"));
        let events: Vec<_> = source.lines().filter_map(|line| line.trim().strip_prefix("io.on(\"")).collect();
        assert_eq!(events.len(), 7);
        for event in events.into_iter().filter(|event| !event.starts_with("store\"")) {
            let name = event.split('"').next().unwrap();
            assert!(HELP.contains(&format!("socket.on(\"{name}\"")), "{name} in Node");
            assert!(HELP.contains(&format!("io.on(\"{name}\"")), "{name} in Rust");
        }
    }
}
