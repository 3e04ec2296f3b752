// The protocol without a client library: plain HTTP requests, WebSocket messages and bytes on a TCP connection.

import { readFileSync } from "node:fs";
import http from "node:http";
import net from "node:net";
import { WebSocket } from "ws";
import { PLAIN, SOON_MS, sleep, until, within } from "./harness.mjs";

/** Separates the packets of a polling payload. */
export const SEPARATOR = "\x1e";

/**
 * One request, on a connection of its own unless an agent is given. Resolves to `{ status, headers, body, reused }`, body
 * as text and `reused` whether the connection had carried a request before; rejects when it ends without an answer.
 */
export function request(server, target, { method = "GET", headers = {}, body, agent = false } = {}) {
  const { answer, end } = slowRequest(server, target, { method, headers, agent });
  end(body);
  return answer;
}

/**
 * A request whose body is sent piece by piece: `write(bytes)`, `end(bytes)`, `abort()`, and the promise `answer`. `taken()`
 * waits until the server has read what was sent so far.
 */
export function slowRequest(server, target, { method = "POST", headers = {}, agent = false } = {}) {
  const outgoing = http.request({ host: "127.0.0.1", port: server.port, path: target, method, headers, agent });
  const answer = new Promise((resolve, reject) => {
    outgoing.on("error", reject);
    outgoing.on("response", (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", reject);
      response.on("end", () => resolve({
        status: response.statusCode,
        headers: response.headers,
        body: Buffer.concat(chunks).toString("utf8"),
        reused: outgoing.reusedSocket,
      }));
    });
  });
  const bounded = within(answer, SOON_MS, `the answer to ${method} ${target}`);
  // Whoever cuts the request, or looks at the answer only later, must not fail on an unhandled rejection.
  bounded.catch(() => {});
  return {
    answer: bounded,
    write: (bytes) => outgoing.write(bytes),
    end: (bytes) => outgoing.end(bytes),
    abort: () => outgoing.destroy(),
    taken: () => taken(outgoing),
  };
}

/**
 * Waits until the server has read what a request has sent so far. What is sent on another connection after that comes
 * later for the server as well; before that, either may come first.
 */
async function taken(outgoing) {
  const sent = () => {
    const { socket } = outgoing;
    return socket && !socket.connecting && socket.bytesWritten > 0 && socket.writableLength === 0;
  };
  await until(sent, "sending", SOON_MS, 1);
  const { localPort, remotePort } = outgoing.socket;
  await until(() => unread(localPort, remotePort) === 0, "the server's reading", SOON_MS, 1);
  // What was read is handled in the same turn of the server, unless that was interrupted just now.
  await sleep(20);
}

/** Bytes under way from one port to another: not yet acknowledged, or not yet read. Zero where the system does not tell. */
function unread(from, to) {
  let table;
  try {
    table = readFileSync("/proc/net/tcp", "utf8");
  } catch {
    return 0;
  }
  const port = (address) => Number.parseInt(address.split(":")[1], 16);
  let bytes = 0;
  for (const line of table.split("\n").slice(1)) {
    const [, local, remote, , queues] = line.trim().split(/\s+/);
    if (!queues) continue;
    const [sending, reading] = queues.split(":").map((size) => Number.parseInt(size, 16));
    if (port(local) === from && port(remote) === to) bytes += sending;
    if (port(local) === to && port(remote) === from) bytes += reading;
  }
  return bytes;
}

/** A polling session spoken by hand. */
export class PollingSession {
  /** What came in one answer with what `connect` waited for. */
  #unread = [];

  /** Opens a session; `open` is the handshake's JSON. */
  static async open(server, mount = PLAIN) {
    const answer = await request(server, `${mount}?EIO=4&transport=polling`);
    if (answer.status !== 200) throw new Error(`handshake refused: ${answer.status} ${answer.body}`);
    return new PollingSession(server, mount, answer);
  }

  constructor(server, mount, handshake) {
    this.server = server;
    this.handshake = handshake;
    this.open = JSON.parse(handshake.body.slice(1));
    this.sid = this.open.sid;
    this.target = `${mount}?EIO=4&transport=polling&sid=${this.sid}`;
    this.upgradeTarget = `${mount}?EIO=4&transport=websocket&sid=${this.sid}`;
    server.onCleanup(() => this.post("1"));
  }

  /** Starts a poll without waiting for it. */
  get(headers) {
    return request(this.server, this.target, { headers });
  }

  /** Starts a poll that the server has received when this resolves; gives its promise `answer`, and `abort()`. */
  async park() {
    const poll = slowRequest(this.server, this.target, { method: "GET" });
    poll.end();
    await poll.taken();
    return poll;
  }

  /** A poll's packets, or those that came before and nobody has taken. */
  async poll() {
    if (this.#unread.length > 0) return this.#unread.splice(0);
    const { status, body } = await this.get();
    if (status !== 200) throw new Error(`poll refused: ${status} ${body}`);
    return body.split(SEPARATOR);
  }

  post(body, headers = { "content-type": "text/plain;charset=UTF-8" }) {
    return request(this.server, this.target, { method: "POST", headers, body });
  }

  /** Joins a namespace and gives the socket's id. */
  async connect(nsp = "") {
    await this.post(`40${nsp && `${nsp},`}`);
    for (;;) {
      const packets = await this.poll();
      for (const [i, packet] of packets.entries()) {
        // A ping may come first where the interval is short.
        if (packet === "2") {
          await this.post("3");
          continue;
        }
        this.#unread = packets.slice(i + 1);
        return JSON.parse(packet.slice(packet.indexOf("{"))).sid;
      }
    }
  }

  /** Emits `echo` with an acknowledgement and checks that the answer comes: the session works both ways. */
  async roundTrip(token = "still here") {
    const posted = await this.post(`4277["echo",${JSON.stringify(token)}]`);
    if (posted.status !== 200) throw new Error(`post refused: ${posted.status} ${posted.body}`);
    const expected = `4377[${JSON.stringify(token)}]`;
    for (let round = 0; round < 5; round++) {
      if ((await this.poll()).includes(expected)) return;
    }
    throw new Error("the session does not answer");
  }

  /** Waits until the session is gone, which it may be a moment after its last answer. */
  async gone() {
    const isUnknown = async () => {
      // Does a session that lives no harm, whatever its transport.
      const { status, body } = await request(this.server, this.target, { method: "DELETE" });
      return status === 400 && JSON.parse(body).code === 1;
    };
    await until(isUnknown, "the end of the session");
  }
}

/** A WebSocket whose messages queue up until they are asked for. */
export class RawSocket {
  #messages = [];
  #waiting = [];

  /** Opens a WebSocket without waiting; `options` go to the `ws` client. */
  constructor(server, target, options) {
    this.socket = new WebSocket(`ws://127.0.0.1:${server.port}${target}`, options);
    this.socket.on("message", (data, isBinary) => {
      const message = isBinary ? data : data.toString("utf8");
      const taker = this.#waiting.shift();
      if (taker) taker(message);
      else this.#messages.push(message);
    });
    server.onCleanup(() => this.terminate());
    this.opened = new Promise((resolve, reject) => {
      this.socket.once("open", resolve);
      this.socket.once("error", reject);
    });
    this.opened.catch(() => {});
    /** Resolves with the close code once the connection is over. */
    this.closed = new Promise((resolve) => this.socket.once("close", resolve));
  }

  /** A new Engine.IO session over WebSocket; `open` is the handshake's JSON. */
  static async session(server, mount = PLAIN, options) {
    const raw = new RawSocket(server, `${mount}?EIO=4&transport=websocket`, options);
    await within(raw.opened, SOON_MS, "the WebSocket handshake");
    raw.open = JSON.parse((await raw.next()).slice(1));
    return raw;
  }

  /** A session that has joined a namespace; `id` is the socket's id. */
  static async connected(server, mount, nsp = "") {
    const raw = await RawSocket.session(server, mount);
    raw.send(`40${nsp && `${nsp},`}`);
    let answer = await raw.next();
    // A ping may come first where the interval is short.
    for (; answer === "2"; answer = await raw.next()) raw.send("3");
    raw.id = JSON.parse(answer.slice(answer.indexOf("{"))).sid;
    return raw;
  }

  send(message) {
    this.socket.send(message);
  }

  /** The next message; text as a string, binary as a Buffer. */
  next(ms = SOON_MS) {
    if (this.#messages.length > 0) return Promise.resolve(this.#messages.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), ms, "a WebSocket message");
  }

  /** Messages that came and were not asked for. */
  get unread() {
    return this.#messages;
  }

  /** Waits for the end of the connection and gives the close code. */
  end(ms = SOON_MS) {
    return within(this.closed, ms, "the end of the WebSocket");
  }

  /** Emits `echo` with an acknowledgement and checks that the answer comes. */
  async roundTrip(token = "still here") {
    this.send(`4277["echo",${JSON.stringify(token)}]`);
    const expected = `4377[${JSON.stringify(token)}]`;
    while ((await this.next()) !== expected);
  }

  terminate() {
    this.socket.terminate();
  }
}

/**
 * Sends bytes on a TCP connection and gives everything that comes back, one character per byte, until the other side ends
 * it or `enough(text)` says so.
 */
export function exchange(server, bytes, enough = () => false) {
  const answer = new Promise((resolve, reject) => {
    const chunks = [];
    const connection = net.connect(server.port, "127.0.0.1", () => connection.write(bytes));
    connection.on("data", (chunk) => {
      chunks.push(chunk);
      if (enough(Buffer.concat(chunks).toString("latin1"))) connection.destroy();
    });
    connection.on("error", (error) => (chunks.length > 0 ? finish() : reject(error)));
    connection.on("close", finish);
    function finish() {
      resolve(Buffer.concat(chunks).toString("latin1"));
    }
  });
  return within(answer, SOON_MS, "the end of the TCP connection");
}

/** The bytes of a WebSocket upgrade request, headers overridable (a value of `null` leaves one out). */
export function upgradeRequest(target, overrides = {}) {
  const headers = {
    host: "127.0.0.1",
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    ...overrides,
  };
  const lines = Object.entries(headers).filter(([, value]) => value !== null).map(([name, value]) => `${name}: ${value}`);
  return `GET ${target} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`;
}
