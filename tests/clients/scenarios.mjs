// What any JavaScript client must be able to do with the conformance app, whatever its version, transport and surroundings.
//
// One file for Node and for a page: it imports nothing, and takes the client library as a value. A scenario is a function of a
// `Cell`, one place of the matrix: a client library, and the way in which it connects.

const PATIENCE_MS = 20_000;

/** The transports by which each mode connects; a test that needs more than the client's usual wait brings its own. */
const transportsOf = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

let cells = 0;

/** The mounts of a parser: one without recovery, so that events arrive as they were sent, and one with short timers. */
const mountsOf = {
  json: { plain: "/plain/", steady: "/steady/" },
  msgpack: { plain: "/msgpack/", steady: "/steady-msgpack/" },
};

/**
 * One way to connect: `io` is the library, `mode` a key of `transportsOf`, `parser` of `mountsOf`, `options` go to every client.
 */
export class Cell {
  #sockets = [];

  constructor({ io, url, mode, parser = "json", options = {}, version = "4" }) {
    Object.assign(this, { io, url, mode, parser, options, mounts: mountsOf[parser] });
    /**
     * Whether it is the client of Socket.IO 2, over revision 3 of Engine.IO. It has no `auth` but the query of a namespace, whose
     * values are text; hears of refusals as `error`, with bare data; knows no volatile events; pings by itself; and takes for binary
     * what is a `Buffer`, in Node.
     */
    this.isSecond = Number(version.split(".")[0]) === 2;
    this.transport = mode === "polling" ? "polling" : "websocket";
    // Cells share one server.
    this.name = `cell-${(cells += 1)}-${Math.random()}`;
  }

  /** A client that was not told to connect. */
  client(nsp = "/", options = {}) {
    const socket = this.io(this.url + nsp, {
      path: this.mounts.plain,
      transports: transportsOf[this.mode],
      forceNew: true,
      reconnection: false,
      autoConnect: false,
      ...this.options,
      ...options,
    });
    this.#sockets.push(socket);
    return socket;
  }

  /** A client that is connected, and on its final transport. */
  async connect(nsp, options) {
    const socket = this.client(nsp, options);
    await opened(socket);
    await this.arrived(socket);
    return socket;
  }

  /** Binary data. In browsers the official MessagePack parser takes an ArrayBuffer for such, and nothing else. */
  bytes(length) {
    const data = bytes(length);
    if (this.isSecond) return Buffer.from(data.buffer);
    return this.parser === "msgpack" ? data.buffer : data;
  }

  async arrived(socket) {
    await until(() => socket.io.engine?.transport?.name === this.transport, `the transport ${this.transport}`);
  }

  /** Ends whatever the scenario left open. */
  close() {
    for (const socket of this.#sockets.splice(0)) {
      socket.io.reconnection(false);
      socket.disconnect();
      socket.io.engine?.close();
    }
  }
}

/** Name of a scenario → what it checks, in a line for docs/compatibility.md, and `run`, a function of a `Cell` that does. */
export const scenarios = {};

function scenario(name, checks, run) {
  scenarios[name] = { checks, run };
}

scenario(
  "connect with auth and query",
  "`auth`, given or computed, and the query reach the server; it knows the transport",
  async (cell) => {
    if (cell.isSecond) {
      const socket = await cell.connect("/custom", { query: { user: "ada", room: "a b&c=d/ü" } });
      const seen = await ask(socket, "whoami");
      equal([seen.id, seen.nsp, seen.auth, seen.transport, seen.eio], [socket.id, "/custom", { user: "ada", room: "a b&c=d/ü" }, cell.transport, 3]);
      equal([seen.query.room, seen.rooms], ["a b&c=d/ü", [socket.id]]);
      const main = await ask(await cell.connect("/", { query: { room: "x" } }), "whoami");
      equal([main.auth, main.query.room], [{}, "x"]);
      return;
    }
    const auth = { user: "ada", nested: { list: [1, null, "x"] } };
    const socket = await cell.connect("/", { auth, query: { room: "a b&c=d/ü" } });
    const seen = await ask(socket, "whoami");
    equal([seen.id, seen.nsp, seen.auth, seen.transport, seen.eio, seen.query.room], [socket.id, "/", auth, cell.transport, 4, "a b&c=d/ü"]);
    const computed = await cell.connect("/", { auth: (give) => give({ token: "later" }) });
    equal((await ask(computed, "whoami")).auth, { token: "later" });
  },
);

scenario(
  "several namespaces over one connection",
  "two namespaces and a refused one share a connection, and none hears what is for another",
  async (cell) => {
    const main = await cell.connect();
    const custom = main.io.socket("/custom");
    const nowhere = main.io.socket("/nowhere");
    await opened(custom);
    const refusal = await refused(nowhere);
    equal(refusal.message, "Invalid namespace");
    equal([(await ask(main, "whoami")).nsp, (await ask(custom, "whoami")).nsp], ["/", "/custom"]);
    equal(custom.id !== main.id, true);
    const echo = next(custom, "echo");
    main.on("echo", () => custom.emit("echo", "heard by the wrong one"));
    custom.emit("echo", "for one");
    equal(await echo, ["for one"]);
  },
);

scenario(
  "events with arguments of every kind",
  "JSON of every shape, Unicode and control characters come back as they were sent; any name is an event's",
  async (cell) => {
    const socket = await cell.connect();
    // What is whole the official MessagePack parser writes as if it had 64 bits.
    const whole = cell.parser === "msgpack" ? [2 ** 53, -(2 ** 53)] : [1e21];
    for (const args of [
      [],
      [null, true, false, 0, -0.5, 5e-324, ...whole],
      ["", "ŭñíçødé 日本 👩‍👩‍👧‍👦", "\x00\x1e\u2028\"\\/", "451-[\"x\"]"],
      [{ a: [1, { b: [null, { c: "d" }] }] }, [], {}, [[[]]]],
    ]) {
      const answer = next(socket, "echo");
      socket.emit("echo", ...args);
      equal(await answer, args);
    }
    const unhandled = next(socket, "unhandled");
    socket.emit("événement 日本", 1, "two");
    equal(await unhandled, ["événement 日本", 1, "two"]);
  },
);

scenario(
  "binary both ways",
  "binary anywhere in the arguments, empty and many pieces among it, comes back byte for byte",
  async (cell) => {
    const socket = await cell.connect();
    const data = cell.bytes(300);
    for (const args of [[data], [cell.bytes(0)], ["a", data, { b: [data, { c: data }] }, "d"], Array.from({ length: 10 }, () => data)]) {
      const answer = next(socket, "echo");
      socket.emit("echo", ...args);
      equal(await answer, args);
    }
    equal(await ask(socket, "bin-info", data, { a: [bytes(7).buffer] }), { count: 2, bytes: 307 });
  },
);

scenario(
  "acknowledgements both ways, with binary",
  "answers of the server and of the client, empty ones, a hundred at once, and one that does not come in time",
  async (cell) => {
    const socket = await cell.connect();
    const data = cell.bytes(40);
    equal(await call(socket, "echo", 1, { two: data }), [1, { two: data }]);
    socket.on("question", (about, ack) => ack("answer", about, data));
    equal(await call(socket, "ask", "question", 10_000, [data]), [null, "answer", data, data]);
    socket.on("empty", (ack) => ack());
    equal(await call(socket, "ask", "empty", 10_000, []), [null]);
    socket.on("ignored", () => {});
    equal(await call(socket, "ask", "ignored", 200, []), ["timeout"]);
    const many = await Promise.all(Array.from({ length: 100 }, (_, i) => ask(socket, "echo", i)));
    equal(many, Array.from({ length: 100 }, (_, i) => i));
  },
);

scenario(
  "volatile events",
  "what is volatile may be lost, the rest is not; what arrives is in order",
  async (cell) => {
    const socket = cell.client();
    // Not connected: a volatile event is dropped, another one waits.
    if (!cell.isSecond) socket.volatile.emit("count", 0);
    socket.emit("count", 0);
    await opened(socket);
    equal(await ask(socket, "count-report"), { received: 1, outOfOrder: 0 });
    const seen = [];
    socket.on("vseq", (number) => seen.push(number));
    const end = next(socket, "vseq-end");
    await ask(socket, "volatile-burst", 200, 100);
    equal(await end, [200]);
    equal(seen, [...new Set(seen)].sort((a, b) => a - b));
  },
);

scenario(
  "rooms and broadcasts",
  "joining, leaving, broadcasts to rooms, with and without the sender or a room, and answers of all in a room",
  async (cell) => {
    const [a, b, c] = [await cell.connect(), await cell.connect(), await cell.connect()];
    const room = (name) => `${cell.name}-${name}`;
    equal(await ask(a, "join", [room("r"), room("s")]), [a.id, room("r"), room("s")].sort());
    await ask(b, "join", room("r"));
    await ask(c, "join", room("s"));
    const names = { a, b, c };
    let round = 0;
    for (const [sender, options, expected] of [
      [c, { via: "io", to: room("r") }, "ab"],
      [a, { via: "socket", to: room("r") }, "b"],
      [b, { via: "io", to: [room("r"), room("s")] }, "abc"],
      [b, { via: "io", to: [room("r"), room("s")], except: room("s") }, "b"],
      [a, { via: "io", to: c.id }, "c"],
    ]) {
      const event = `news-${(round += 1)}`;
      const heard = [];
      const args = [round, { data: cell.bytes(5) }];
      for (const [name, socket] of Object.entries(names)) {
        socket.on(event, (...received) => {
          equal(received, args);
          heard.push(name);
        });
      }
      equal(await ask(sender, "bcast", options, event, args), "ok");
      await until(() => heard.length >= expected.length, `${event} at ${expected}`);
      // What was on its way to the others would arrive before the answer to this.
      await Promise.all([a, b, c].map((socket) => ask(socket, "echo")));
      equal(heard.sort().join(""), expected);
    }
    for (const [name, socket] of Object.entries(names)) socket.on("vote", (ack) => ack(name));
    const [error, votes] = await call(a, "bcast-ack", { via: "io", to: [room("r"), room("s")], timeout: 10_000 }, "vote", []);
    equal([error, votes.sort()], [null, ["a", "b", "c"]]);
    equal(await ask(a, "leave", [room("r"), room("s")]), [a.id]);
  },
);

scenario(
  "a refused connection",
  "a middleware's refusal arrives with its data; with better credentials the same client is let in",
  async (cell) => {
    if (cell.isSecond) {
      const socket = cell.client("/auth", { query: { token: "bad" } });
      equal(await refused(socket), { code: 401, hint: "token" });
      socket.query = "token=good&banned=true";
      equal(await refused(socket), "banned");
      socket.query = "token=good";
      await opened(socket);
      equal((await ask(socket, "whoami")).nsp, "/auth");
      return;
    }
    const socket = cell.client("/auth", { auth: { token: "bad" } });
    const refusal = await refused(socket);
    equal([refusal.message, refusal.data], ["not authorized", { code: 401, hint: "token" }]);
    socket.auth = { token: "good", banned: true };
    equal((await refused(socket)).message, "banned");
    socket.auth = { token: "good" };
    await opened(socket);
    equal((await ask(socket, "whoami")).nsp, "/auth");
  },
);

scenario(
  "leaving, by the client",
  "leaving a namespace leaves the others; the server learns whether a client left or its connection closed",
  async (cell) => {
    const watcher = await cell.connect();
    const socket = await cell.connect();
    const custom = socket.io.socket("/custom");
    await opened(custom);
    const { id } = socket;
    const left = next(socket, "disconnect");
    socket.disconnect();
    equal((await left)[0], "io client disconnect");
    equal(await departure(watcher, id), "client namespace disconnect");
    equal(await ask(custom, "echo", "still here"), "still here");
    // The whole connection.
    const other = await cell.connect();
    const otherId = other.id;
    const lost = next(other, "disconnect");
    other.io.engine.close();
    equal((await lost)[0], "forced close");
    equal(await departure(watcher, otherId), "transport close");
  },
);

scenario(
  "being disconnected by the server",
  "out of one namespace the others stay, with the connection everything ends; the client learns who did it",
  async (cell) => {
    const watcher = await cell.connect();
    for (const close of [false, true]) {
      const socket = await cell.connect("/", { reconnection: true, reconnectionDelay: 20 });
      const custom = socket.io.socket("/custom");
      await opened(custom);
      const { id } = socket;
      const gone = [next(socket, "disconnect"), ...(close ? [next(custom, "disconnect")] : [])];
      socket.emit("kick", close);
      for (const [reason] of await Promise.all(gone)) equal(reason, "io server disconnect");
      equal(await departure(watcher, id), "server namespace disconnect");
      if (!close) equal(await ask(custom, "echo", "still here"), "still here");
    }
  },
);

scenario(
  "reconnection",
  "a lost connection is made again under a new id; what was emitted meanwhile arrives, in order",
  async (cell) => {
    const socket = await cell.connect("/", { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 20 });
    const { id } = socket;
    const lost = next(socket, "disconnect");
    const back = next(socket, "connect");
    socket.io.engine.close();
    await lost;
    // What is emitted meanwhile waits, and arrives in order.
    for (let i = 0; i < 20; i++) socket.emit("count", i);
    await back;
    equal(socket.id !== id, true);
    equal(await ask(socket, "count-report"), { received: 20, outOfOrder: 0 });
    await cell.arrived(socket);
    equal((await ask(socket, "whoami")).recovered, false);
  },
);

scenario(
  "order under traffic, through the upgrade if there is one",
  "events of both sides, binary ones between them, arrive once and in order from the first moment on",
  async (cell) => {
    const socket = cell.client();
    const [echoes, numbers] = [[], []];
    socket.on("echo", (number) => echoes.push(number));
    socket.on("seq", (number) => numbers.push(number));
    let sent = 0;
    const talk = () => {
      for (let i = 0; i < 20; i++) {
        socket.emit("count", sent);
        socket.emit("echo", sent, ...(sent % 5 === 0 ? [cell.bytes(sent % 300)] : []));
        sent += 1;
      }
    };
    // From the first moment: what is emitted before the connection is there waits for it.
    talk();
    const connected = opened(socket);
    let bursts = 0;
    for (let after = 0; after < 4; after += socket.io.engine?.transport?.name === cell.transport ? 1 : 0) {
      talk();
      await ask(socket, "burst", 20, 50);
      bursts += 1;
    }
    await connected;
    equal((await ask(socket, "whoami")).transport, cell.transport);
    equal(await ask(socket, "count-report"), { received: sent, outOfOrder: 0 });
    await until(() => echoes.length === sent, "all echoes");
    equal(echoes, Array.from({ length: sent }, (_, i) => i));
    equal(numbers, Array.from({ length: bursts * 20 }, (_, i) => i % 20));
  },
);

scenario(
  "large payloads",
  "800 kB of text, 600 kB of binary and 700 kB events in a row, near the server's bound of 1 MB",
  async (cell) => {
    const socket = await cell.connect();
    // In MessagePack text goes over polling as binary does, in base64.
    const text = "ü".repeat(cell.parser === "msgpack" && cell.transport === "polling" ? 350_000 : 400_000);
    equal((await ask(socket, "echo", text)) === text, true);
    equal(await ask(socket, "bin-info", ...Array.from({ length: 3 }, () => cell.bytes(200_000))), { count: 3, bytes: 600_000 });
    const data = cell.bytes(500_000);
    equal((await call(socket, "echo", data)).map(summary), [summary(data)]);
    const lengths = [];
    socket.on("seq", (_, { length }) => lengths.push(length));
    await ask(socket, "burst", 3, 700_000);
    equal(lengths, [700_000, 700_000, 700_000]);
  },
);

scenario(
  "heartbeats keep the connection",
  "ten pings are answered, and the connection outlives the time that one may go unanswered",
  async (cell) => {
    // Ping every 300 ms, 2.5 s to answer: ten pings take longer than one could go unanswered.
    const socket = await cell.connect("/", { path: cell.mounts.steady });
    let pings = 0;
    const lost = [];
    // Of the two packets of a ping the one that comes from the server.
    const answered = cell.isSecond ? "pong" : "ping";
    socket.io.engine.on("packet", ({ type }) => { pings += type === answered ? 1 : 0; });
    socket.on("disconnect", (reason) => lost.push(reason));
    await until(() => pings >= 10 || lost.length > 0, "ten pings");
    equal(lost, []);
    equal(await ask(socket, "echo", "still here"), "still here");
    socket.off("disconnect");
  },
);

// ---------------------------------------------------------------------------------------------------------------------

/** What a client hears when it is refused; the second is Socket.IO 2's. */
const REFUSALS = ["connect_error", "error"];

function opened(socket) {
  const answer = new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    for (const refusal of REFUSALS) socket.once(refusal, reject);
  });
  socket.connect();
  return within(answer, "connecting");
}

/** The refusal of a client that is told to connect. */
function refused(socket) {
  const answer = new Promise((resolve, reject) => {
    for (const refusal of REFUSALS) socket.once(refusal, resolve);
    socket.once("connect", () => reject(new Error("connected")));
  });
  socket.connect();
  return within(answer, "a refusal").finally(() => {
    socket.off("connect");
    for (const refusal of REFUSALS) socket.off(refusal);
  });
}

function call(socket, event, ...args) {
  return within(new Promise((resolve) => socket.emit(event, ...args, (...answer) => resolve(answer))), `the answer to ${event}`);
}

async function ask(socket, event, ...args) {
  return (await call(socket, event, ...args))[0];
}

function next(socket, event) {
  return within(new Promise((resolve) => socket.once(event, (...args) => resolve(args))), `the event ${event}`);
}

/** What the server calls the way in which `id` left. */
function departure(watcher, id) {
  return until(() => ask(watcher, "last-disconnect", id), `the departure of ${id}`);
}

async function until(condition, what) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what} did not happen`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

function bytes(length) {
  const data = new Uint8Array(length);
  for (let i = 0; i < length; i++) data[i] = i * 7;
  return data;
}

/** Fails unless both are the same; binary is compared by its bytes, whatever holds them. */
function equal(actual, expected) {
  const [left, right] = [JSON.stringify(plain(actual)), JSON.stringify(plain(expected))];
  if (left !== right) throw new Error(`${left?.slice(0, 500)} is not ${right?.slice(0, 500)}`);
}

function plain(value) {
  if (value === undefined) return { $: "undefined" };
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return { $: summary(value) };
  if (Array.isArray(value)) return value.map(plain);
  if (value !== null && typeof value === "object") {
    return Object.fromEntries(Object.keys(value).sort().map((key) => [key, plain(value[key])]));
  }
  return value;
}

/** Length and a checksum (FNV-1a) of binary data. */
function summary(value) {
  const data = value instanceof ArrayBuffer ? new Uint8Array(value) : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  let hash = 0x811c9dc5;
  for (const byte of data) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return `${data.length} bytes ${hash.toString(16)}`;
}
