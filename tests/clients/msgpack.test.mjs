// Packets in MessagePack, spoken by hand: what the official parser writes and reads in its bytes, and what breaks the protocol. What
// the official client does with it is in versions.test.mjs.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import msgpack from "socket.io-msgpack-parser";
import { ask, call, check, eachSubject, next, until } from "./harness.mjs";
import { vectors } from "./msgpack-vectors.mjs";
import { PollingSession, RawSocket } from "./wire.mjs";

const MOUNT = "/msgpack/";
const { Encoder, Decoder, PacketType } = msgpack;
const { CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR } = PacketType;

const pack = (packet) => new Encoder().encode(packet)[0];

function unpack(message) {
  let packet;
  const decoder = new Decoder();
  decoder.on("decoded", (decoded) => { packet = decoded; });
  decoder.add(message);
  return packet;
}

const bytes = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part, typeof part === "string" ? "latin1" : undefined)));
const event = (...data) => pack({ type: EVENT, data, nsp: "/" });

/** A socket that has joined `/`; `id` is its id. */
async function joined(server) {
  const raw = await RawSocket.session(server, MOUNT);
  raw.send(pack({ type: CONNECT, data: undefined, nsp: "/" }));
  raw.id = unpack(await raw.next()).data.sid;
  return raw;
}

async function roundTrip(raw) {
  raw.send(pack({ type: EVENT, data: ["echo", "here"], id: 77, nsp: "/" }));
  for (;;) {
    const { type, id, data } = unpack(await raw.next());
    if (type === ACK && id === 77) return assert.deepEqual(data, ["here"]);
  }
}

/** Messages of a client that has joined `/`, and that end its connection. */
const broken = {
  "a text message": '42["noop"]',
  "an empty text message": "4",
  "an empty message": Buffer.alloc(0),
  "a byte that begins nothing": bytes([0xc1]),
  "a list": bytes([0x90]),
  "a packet of JSON": Buffer.from('2["noop"]'),
  "half a packet": event("noop", "text").subarray(0, -3),
  "a packet and a half": bytes(event("noop"), [0]),
  "a length above what is there": bytes("\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xdd", [0xff, 0xff, 0xff, 0xff]),
  "an unknown type": pack({ type: 5, data: ["noop"], nsp: "/" }),
  "a negative type": pack({ type: -1, data: ["noop"], nsp: "/" }),
  "a type that is text": pack({ type: "2", data: ["noop"], nsp: "/" }),
  "no type": pack({ data: ["noop"], nsp: "/" }),
  "no namespace": pack({ type: EVENT, data: ["noop"] }),
  "a namespace that is a number": pack({ type: EVENT, data: ["noop"], nsp: 1 }),
  "an event without data": pack({ type: EVENT, nsp: "/" }),
  "an event that is text": pack({ type: EVENT, data: "noop", nsp: "/" }),
  "an event that is an object": pack({ type: EVENT, data: { noop: 1 }, nsp: "/" }),
  "an acknowledgement without data": pack({ type: ACK, nsp: "/", id: 0 }),
  "an acknowledgement number that is text": pack({ type: ACK, data: [], nsp: "/", id: "0" }),
  "an acknowledgement number with a fraction": pack({ type: ACK, data: [], nsp: "/", id: 1.5 }),
  "a goodbye with data": pack({ type: DISCONNECT, data: {}, nsp: "/" }),
  "credentials that are a list": pack({ type: CONNECT, data: [], nsp: "/custom" }),
  "credentials that are text": pack({ type: CONNECT, data: "me", nsp: "/custom" }),
  "a connect error from a client": pack({ type: CONNECT_ERROR, data: "no", nsp: "/" }),
  "a second join": pack({ type: CONNECT, nsp: "/" }),
  "an event for a namespace that was not joined": pack({ type: EVENT, data: ["noop"], nsp: "/custom" }),
};

/** The same, that the npm server takes. */
const taken = {
  "an event without a name": event(),
  "an event named null": event(null),
  "an event named by a list": event(["noop"]),
  "the event disconnect": event("disconnect"),
  "the event newListener": event("newListener"),
  "eleven binary values": event("noop", ...Array.from({ length: 11 }, () => Buffer.from([1]))),
  "a placeholder beside binary values": event("noop", { _placeholder: true, num: 0 }, Buffer.from([1])),
  "a negative acknowledgement number": pack({ type: ACK, data: [], nsp: "/", id: -1 }),
  "values 513 deep": event("noop", Array.from({ length: 511 }).reduce((inner) => [inner], [])),
  "a namespace without a slash": pack({ type: CONNECT, nsp: "custom" }),
  "a key twice": bytes("\x84\xa4type\x02\xa3nsp\xa1/\xa3nsp\xa1/\xa4data\x91\xa4noop"),
};

test("the bytes that our parser is tested with are those of the official one", () => {
  const file = new URL("../../crates/socket-proto/tests/msgpack-vectors.txt", import.meta.url);
  assert.equal(readFileSync(file, "utf8"), vectors(), "`node msgpack-vectors.mjs` writes them anew");
});

eachSubject("MessagePack", (server) => {
  const connect = (options) => server.connect({ path: MOUNT, parser: msgpack, ...options });

  check("each packet is one binary message with the keys of the official parser", async () => {
    const raw = await RawSocket.session(server, MOUNT);
    raw.send(pack({ type: CONNECT, data: undefined, nsp: "/" }));
    const { data: { sid, pid }, ...answer } = unpack(await raw.next());
    assert.deepEqual(answer, { type: CONNECT, nsp: "/" });
    assert.deepEqual([typeof sid, pid], ["string", undefined]);
    for (const [packet, expected] of [
      [{ type: CONNECT, nsp: "/nowhere" }, { type: CONNECT_ERROR, data: { message: "Invalid namespace" }, nsp: "/nowhere" }],
      [
        { type: CONNECT, data: { token: "bad" }, nsp: "/auth" },
        { type: CONNECT_ERROR, data: { message: "not authorized", data: { code: 401, hint: "token" } }, nsp: "/auth" },
      ],
      [{ type: EVENT, data: ["echo", 1], options: { compress: true }, nsp: "/" }, { type: EVENT, data: ["echo", 1], nsp: "/" }],
      [{ type: EVENT, data: ["echo"], id: 3, nsp: "/" }, { type: ACK, data: [], id: 3, nsp: "/" }],
      [
        { type: EVENT, data: ["echo", Buffer.from([1, 2]), { in: Buffer.alloc(0) }], nsp: "/" },
        { type: EVENT, data: ["echo", Buffer.from([1, 2]), { in: Buffer.alloc(0) }], nsp: "/" },
      ],
      [{ type: EVENT, data: ["kick"], nsp: "/" }, { type: DISCONNECT, nsp: "/" }],
    ]) {
      raw.send(pack(packet));
      const message = await raw.next();
      assert.ok(Buffer.isBuffer(message));
      assert.deepEqual(unpack(message), expected);
    }
  });

  check("over polling each packet is base64 behind a b", async () => {
    const session = await PollingSession.open(server, MOUNT);
    const wire = (packet) => `b${pack(packet).toString("base64")}`;
    const read = (text) => {
      assert.equal(text[0], "b");
      return unpack(Buffer.from(text.slice(1), "base64"));
    };
    await session.post(wire({ type: CONNECT, data: {}, nsp: "/" }));
    const [connected] = await session.poll();
    assert.equal(read(connected).type, CONNECT);
    await session.post(wire({ type: EVENT, data: ["echo", "ü", Buffer.from([7])], id: 0, nsp: "/" }));
    const [answer] = await session.poll();
    assert.deepEqual(read(answer), { type: ACK, data: ["ü", Buffer.from([7])], id: 0, nsp: "/" });
  });

  check("numbers go both ways exactly", async () => {
    const socket = await connect();
    const numbers = [0, 127, 128, 255, 256, 65_535, 65_536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1]
      .flatMap((number) => [number, -number - 1])
      .concat([0.1, -1e-7, 5e-324, Number.MAX_VALUE / 3 - 0.5 > 0 ? 1.7e-308 : 0, 123456.789]);
    assert.deepEqual(await call(socket, "echo", ...numbers), numbers);
  });

  check("what is undefined is null in a list, and no member of an object", async () => {
    const socket = await connect();
    const [list, object] = await call(socket, "echo", [undefined, 1], { a: undefined, b: 1 });
    // The npm server hands `undefined` on.
    assert.deepEqual([list[0] ?? null, list[1], object.a ?? null, object.b], [null, 1, null, 1]);
  });

  check("a date reaches the server, and whom it passes it on to, as the same time", async () => {
    const socket = await connect();
    for (const time of [0, 1_732_233_600_123, -1, 8.64e15]) {
      const [date] = await call(socket, "echo", new Date(time));
      // From the npm server a date, from ours its text.
      assert.equal(new Date(date).getTime(), time);
    }
  });

  check("binary of every kind arrives as binary", async () => {
    const socket = await connect();
    const data = Uint8Array.from({ length: 300 }, (_, i) => i);
    assert.deepEqual(await ask(socket, "bin-info", data.buffer, data, Buffer.from(data), { in: [data.slice(0, 3)] }), { count: 4, bytes: 903 });
  });

  check("halves of surrogate pairs harm nobody", async () => {
    const socket = await connect();
    const [short, long] = await call(socket, "echo", "a\ud800", `${"x".repeat(40)}\udc00`);
    assert.deepEqual([short[0], long.slice(0, 40)], ["a", "x".repeat(40)]);
  });

  check("broadcasts with binary reach everyone in order, and answers come back", async () => {
    const [a, b] = [await connect(), await connect({ mode: "polling" })];
    const heard = [[], []];
    for (const [i, socket] of [a, b].entries()) {
      socket.on("news", (number, data) => heard[i].push([number, Buffer.from(data).toString("hex")]));
      socket.on("vote", (ack) => ack(i));
    }
    for (let i = 0; i < 50; i++) a.emit("bcast", { via: "io" }, "news", [i, Buffer.from([i])]);
    await until(() => heard.every((list) => list.length === 50), "all news");
    const expected = Array.from({ length: 50 }, (_, i) => [i, Buffer.from([i]).toString("hex")]);
    assert.deepEqual(heard, [expected, expected]);
    const [error, votes] = await call(a, "bcast-ack", { via: "io", timeout: 10_000 }, "vote", []);
    assert.deepEqual([error, votes.sort()], [null, [0, 1]]);
  });

  for (const [what, message] of Object.entries(broken)) {
    check(`${what} ends its own connection, and no other`, async () => {
      const watcher = await connect();
      const bystander = await joined(server);
      const raw = await joined(server);
      raw.send(message);
      await raw.end();
      const reason = await until(() => ask(watcher, "last-disconnect", raw.id), "its departure");
      assert.equal(reason, "forced close");
      await roundTrip(bystander);
    });
  }

  for (const [what, message] of Object.entries(taken)) {
    check(`${what} ends its own connection or is taken, and harms no other`, async () => {
      const bystander = await joined(server);
      const raw = await joined(server);
      raw.send(message);
      if (server.subject === "ours") await raw.end();
      else await Promise.race([raw.end(), roundTrip(raw)]);
      await roundTrip(bystander);
    });
  }

  check("a client of the other parser is disconnected", async () => {
    const json = server.client({ path: MOUNT, reconnection: false });
    const closed = new Promise((resolve) => json.io.on("close", resolve));
    json.connect();
    // The JSON client cannot know why: its connection is closed.
    assert.match(await closed, /transport close|forced close|parse error/);
    const packed = server.client({ parser: msgpack, reconnection: false });
    const over = next(packed.io, "close");
    packed.connect();
    await over;
  });
});
