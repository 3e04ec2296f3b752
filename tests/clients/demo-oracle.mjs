// The demo chat's server on the npm package: the page's files and the room events it uses.
//
// Started as the standalone server is, so that the demo's tests can start either:
//   node demo-oracle.mjs dev --listen 127.0.0.1:3000 --data /tmp/unused --json

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Server } from "socket.io";

const { values } = parseArgs({
  allowPositionals: true,
  options: {
    listen: { type: "string", default: "127.0.0.1:3000" },
    data: { type: "string" },
    json: { type: "boolean", default: false },
  },
});

const assets = new URL("../../crates/standalone/assets/demo/", import.meta.url);
const files = new Map([
  ["/demo", ["index.html", "text/html; charset=utf-8"]],
  ["/demo/demo.css", ["demo.css", "text/css; charset=utf-8"]],
  ["/demo/demo.js", ["demo.js", "text/javascript; charset=utf-8"]],
]);
const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "connect-src 'self'",
  "img-src data:",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join("; ");

const http = createServer(async (request, response) => {
  const found = files.get(new URL(request.url, "http://localhost").pathname);
  if (!found) return response.writeHead(404).end();
  const [name, type] = found;
  const body = await readFile(new URL(name, assets));
  response.writeHead(200, {
    "content-type": type,
    "content-security-policy": policy,
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
  });
  response.end(body);
});

const io = new Server(http);

io.on("connection", (socket) => {
  const me = { id: socket.id, info: socket.handshake.auth.info ?? {} };
  socket.data.info = me.info;

  /** Answers the acknowledgement with what `action` gives, for open rooms only. */
  const verb = (action) => async (room, ...rest) => {
    const ack = rest.pop();
    if (typeof ack !== "function") return;
    if (!isOpen(room)) return ack(refusal("forbidden", "this room is not open here"));
    ack({ ok: true, ...(await action(room, ...rest)) });
  };

  socket.on("room:join", verb(async (room) => {
    if (!socket.rooms.has(room)) {
      await socket.join(room);
      socket.to(room).emit("room:joined", room, me);
    }
    return { members: await members(room) };
  }));
  socket.on("room:leave", verb(async (room) => {
    if (!socket.rooms.has(room)) return;
    await socket.leave(room);
    io.to(room).emit("room:left", room, me);
  }));
  socket.on("room:presence", verb(async (room) => ({ members: await members(room) })));
  socket.on("room:emit", verb((room, event, ...args) => {
    if (!socket.rooms.has(room)) return refusal("not_member", "only members may emit to a room");
    io.to(room).emit(event, ...args);
  }));
  socket.on("disconnecting", () => {
    for (const room of socket.rooms) socket.to(room).emit("room:left", room, me);
  });
});

function refusal(code, message) {
  return { ok: false, code, message };
}

function isOpen(room) {
  return typeof room === "string" && (room === "demo" || room.startsWith("demo:"));
}

async function members(room) {
  return (await io.in(room).fetchSockets()).map(({ id, data }) => ({ id, info: data.info }));
}

const [host, port] = values.listen.split(":");
http.listen(Number(port), host, () => {
  const base = `http://${host}:${http.address().port}`;
  const lines = { socketio: base, demo: `${base}/demo` };
  console.log(values.json ? JSON.stringify(lines) : `Demo  ${lines.demo}`);
});
