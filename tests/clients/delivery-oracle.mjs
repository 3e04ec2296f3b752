// Rooms as `posthaste dev` has them, on the npm server with connection state recovery as its documentation shows it:
// what it loses is in docs/delivery.md.
//
//   node delivery-oracle.mjs dev --listen 127.0.0.1:3000 --data /tmp/unused --json

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Server } from "socket.io";

const { values } = parseArgs({
  allowPositionals: true,
  options: { listen: { type: "string" }, data: { type: "string" }, json: { type: "boolean" } },
});
const http = createServer();
const io = new Server(http, { connectionStateRecovery: {} });

io.on("connection", (socket) => {
  socket.on("room:join", async (room, options, ack) => {
    await socket.join(room);
    ack({ ok: true });
  });
  socket.on("room:emit", (room, event, ...args) => {
    const ack = args.pop();
    io.to(room).emit(event, ...args);
    ack({ ok: true });
  });
});

const [host, port] = values.listen.split(":");
http.listen(Number(port), host, () => console.log(JSON.stringify({ socketio: `http://${host}:${port}` })));
