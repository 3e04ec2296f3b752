// The conformance app on the npm server.
//
// One address with a health route, seven Socket.IO mounts and one of Engine.IO alone: `/socket.io/` with the default timers and
// connection state recovery, `/plain/` the same without, so that what is emitted arrives without an offset behind it, `/fast/`
// with short timers, `/steady/` with timers that are short but leave a busy machine some time, `/hooked/` with hooks of the
// engine, `/msgpack/` and `/steady-msgpack/` with packets in MessagePack, and `/engine.io/`, which sends everything back. On all
// Socket.IO mounts but `/hooked/` every namespace speaks the same events, so that one set of assertions can be pointed at any
// implementation.
//
//   node oracle.mjs --port 3000

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Server as Engine } from "engine.io";
import { Server } from "socket.io";
import msgpack from "socket.io-msgpack-parser";

const { values } = parseArgs({ options: { port: { type: "string", default: "3000" } } });

const http = createServer((request, response) => {
  const found = request.url === "/health";
  response.writeHead(found ? 200 : 404, { "content-type": "text/plain" }).end(found ? "ok" : "not found");
});

/** The names of namespaces that are made when somebody asks for them. */
const DYNAMIC = /^\/dyn-[0-9]+$/;

const shared = { serveClient: false, maxHttpBufferSize: 1_000_000 };

const main = {
  ...shared,
  allowEIO3: true,
  httpCompression: { threshold: 1024 },
  perMessageDeflate: { threshold: 1024 },
  cors: {
    origin: "http://allowed.example",
    credentials: true,
    methods: ["GET", "POST"],
    allowedHeaders: ["x-custom"],
    maxAge: 600,
  },
};
const connectionStateRecovery = { maxDisconnectionDuration: 120_000, skipMiddlewares: true };

mount({ ...main, path: "/socket.io", connectionStateRecovery });
mount({ ...main, path: "/plain", serveClient: true });
mount({
  ...shared,
  path: "/fast",
  pingInterval: 300,
  pingTimeout: 200,
  connectTimeout: 1000,
  upgradeTimeout: 1000,
  cors: { origin: "*" },
});
mount({
  ...shared,
  path: "/steady",
  allowEIO3: true,
  pingInterval: 300,
  pingTimeout: 2500,
  connectTimeout: 2000,
  upgradeTimeout: 2000,
  cors: { origin: "*" },
});

mount({ ...shared, path: "/msgpack", allowEIO3: true, parser: msgpack });
mount({
  ...shared,
  path: "/steady-msgpack",
  allowEIO3: true,
  pingInterval: 300,
  pingTimeout: 2500,
  connectTimeout: 2000,
  upgradeTimeout: 2000,
  parser: msgpack,
});

mountHooked();
mountEngine();

http.listen(Number(values.port), "127.0.0.1");

function mount(options) {
  const io = new Server(http, options);
  const dynamic = io.of(DYNAMIC);
  const auth = io.of("/auth");
  auth.use(async (socket, next) => {
    await sleep(socket.handshake.auth.delay ?? 0);
    if (socket.handshake.auth.token === "good") return next();
    next(Object.assign(new Error("not authorized"), { data: { code: 401, hint: "token" } }));
  });
  auth.use((socket, next) => next(socket.handshake.auth.banned ? new Error("banned") : undefined));
  for (const namespace of [io.of("/"), io.of("/custom"), auth, dynamic]) {
    namespace.on("connection", (socket) => serve(io, dynamic, socket));
  }
}

/**
 * A mount whose engine hooks do what a request's headers ask for, and which tells of refused requests. Its dynamic namespaces are
 * forgotten when nobody is in them.
 */
function mountHooked() {
  const io = new Server(http, {
    ...shared,
    path: "/hooked",
    cleanupEmptyChildNamespaces: true,
    cookie: { name: "sticky", maxAge: 90, secure: true, sameSite: "strict" },
    allowRequest: (request, answer) => {
      const message = request.headers["x-forbid"];
      setImmediate(() => answer(message, message === undefined));
    },
  });
  const dynamic = io.of(DYNAMIC);
  const errors = [];
  io.engine.use((request, response, next) => {
    response.setHeader("x-middleware", "seen");
    if (request.headers["x-answer"]) {
      response.writeHead(418);
      return response.end(request.headers["x-answer"]);
    }
    next(request.headers["x-refuse"] ? new Error(request.headers["x-refuse"]) : undefined);
  });
  io.engine.on("initial_headers", (headers) => { headers["x-initial"] = "1"; });
  io.engine.on("headers", (headers, request) => { headers["x-every"] = request.method; });
  io.engine.on("connection_error", ({ code, message, context }) => errors.push({ code, message, context }));
  io.on("connection", (socket) => {
    socket.on("connection-errors", (ack) => ack(errors.splice(0)));
    socket.on("children", (ack) => ack([...dynamic.children].map(({ name }) => name).sort()));
    socket.on("echo", (...args) => args.pop()(...args));
  });
}

/** Engine.IO alone: every message comes back as it was sent. */
function mountEngine() {
  const engine = new Engine({ pingInterval: 300, pingTimeout: 200, maxHttpBufferSize: 1_000_000, allowEIO3: true, cors: { origin: "*" } });
  engine.attach(http, { path: "/engine.io" });
  engine.on("connection", (socket) => {
    socket.on("message", (message) => socket.send(message));
  });
}

/** Socket id → why it last left, per namespace object. */
const departures = new WeakMap();

function serve(io, dynamic, socket) {
  const namespace = socket.nsp;
  if (!departures.has(namespace)) departures.set(namespace, new Map());
  socket.on("disconnect", (reason) => departures.get(namespace).set(socket.id, reason));

  const counter = { received: 0, outOfOrder: 0, next: 0 };
  const rooms = () => [...socket.rooms].sort();

  // Each handler gets the arguments without the acknowledgement, and an `ack` that does nothing when none was asked for.
  const events = new Map([
    ["bin-info", (ack, ...args) => ack(binaryInfo(args))],
    ["whoami", (ack) => ack({
      id: socket.id,
      nsp: namespace.name,
      rooms: rooms(),
      recovered: socket.recovered,
      transport: socket.conn.transport.name,
      eio: socket.conn.protocol,
      auth: socket.handshake.auth,
      query: socket.handshake.query,
      data: socket.data,
    })],
    ["set-data", (ack, data) => { Object.assign(socket.data, data); ack("ok"); }],
    ["join", async (ack, room) => { await socket.join(room); ack(rooms()); }],
    ["leave", async (ack, room) => { for (const one of [room].flat()) await socket.leave(one); ack(rooms()); }],
    ["bcast", (ack, options, event, args) => {
      target(socket, options).emit(event, ...(args ?? []));
      ack("ok");
    }],
    ["bcast-ack", (ack, options, event, args) => {
      target(socket, options).timeout(options.timeout)
        .emit(event, ...(args ?? []), (error, answers) => ack(error ? "timeout" : null, answers));
    }],
    ["ask", (ack, event, timeout, args) => {
      socket.timeout(timeout)
        .emit(event, ...(args ?? []), (error, ...answer) => error ? ack("timeout") : ack(null, ...answer));
    }],
    ["util", async (ack, operation, options) => ack(await utility(namespace, operation, options))],
    ["kick", (_ack, close) => socket.disconnect(close)],
    ["burst", (ack, n, size) => {
      for (let i = 0; i < n; i++) socket.emit("seq", i, "x".repeat(size));
      socket.emit("seq-end", n);
      ack("ok");
    }],
    ["volatile-burst", (ack, n, size) => {
      for (let i = 0; i < n; i++) socket.volatile.emit("vseq", i, "x".repeat(size));
      socket.emit("vseq-end", n);
      ack("ok");
    }],
    ["count", (_ack, i) => {
      counter.received += 1;
      if (i !== counter.next) counter.outOfOrder += 1;
      counter.next = i + 1;
    }],
    ["count-report", (ack) => ack({ received: counter.received, outOfOrder: counter.outOfOrder })],
    ["late-ack", async (ack, ms) => { await sleep(ms); ack("late"); }],
    ["double-ack", (ack) => { ack("first"); ack("second"); }],
    ["no-ack", () => {}],
    ["noop", () => {}],
    ["last-disconnect", (ack, id) => ack(departures.get(namespace).get(id) ?? null)],
    ["stats", (ack) => ack({
      engine: io.engine.clientsCount,
      sockets: namespace.sockets.size,
      rooms: namespace.adapter.rooms.size,
    })],
    ["parent-emit", (ack, event, ...args) => { dynamic.emit(event, ...args); ack("ok"); }],
  ]);

  socket.on("echo", (...args) => {
    if (typeof args.at(-1) === "function") args.pop()(...args);
    else socket.emit("echo", ...args);
  });
  for (const [name, handle] of events) {
    socket.on(name, async (...args) => {
      const ack = typeof args.at(-1) === "function" ? args.pop() : () => {};
      try {
        await handle(ack, ...args);
      } catch (error) {
        // Wrong arguments are their sender's mistake and nobody else's.
        console.error(`${name}: ${error}`);
      }
    });
  }
  socket.use(([name], next) => {
    if (name !== "forbidden") return next();
    socket.emit("mw-error", "event refused");
    next(new Error("event refused"));
  });
  socket.onAny((name, ...args) => {
    // A packet `42` without payload has no name: nothing to report.
    if (name === undefined || name === "echo" || name === "forbidden" || events.has(name)) return;
    if (typeof args.at(-1) === "function") args.pop();
    socket.emit("unhandled", name, ...args);
  });
}

/** The broadcast operator that the options of `bcast` and `bcast-ack` describe. */
function target(socket, options) {
  let operator = options.via === "socket" ? socket.broadcast : socket.nsp.except([]);
  if (options.to !== undefined) operator = operator.to(options.to);
  if (options.except !== undefined) operator = operator.except(options.except);
  if (options.volatile) operator = operator.volatile;
  if (options.local) operator = operator.local;
  return operator;
}

async function utility(namespace, operation, options = {}) {
  let operator = namespace.except(options.except ?? []);
  if (options.in !== undefined) operator = operator.in(options.in);
  switch (operation) {
    case "fetch": {
      const sockets = await operator.fetchSockets();
      return sockets.map(({ id, rooms, data }) => ({ id, rooms: [...rooms].sort(), data }));
    }
    case "join": operator.socketsJoin(options.rooms); return "ok";
    case "leave": operator.socketsLeave(options.rooms); return "ok";
    case "disconnect": operator.disconnectSockets(options.close); return "ok";
  }
}

function binaryInfo(value, info = { count: 0, bytes: 0 }) {
  // MessagePack brings an ArrayBuffer where JSON brings a Buffer.
  if (Buffer.isBuffer(value) || value instanceof ArrayBuffer) {
    info.count += 1;
    info.bytes += value.byteLength;
  } else if (value !== null && typeof value === "object") {
    for (const inner of Object.values(value)) binaryInfo(inner, info);
  }
  return info;
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
