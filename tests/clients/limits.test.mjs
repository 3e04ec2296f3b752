// The payload limit of one million bytes, and what the application may refuse or ignore.

import assert from "node:assert/strict";
import { ask, check, collect, eachSubject, modes, next, settle, until } from "./harness.mjs";
import { PollingSession, RawSocket } from "./wire.mjs";

const LIMIT = 1_000_000;

/** An `echo` packet with an acknowledgement, `bytes` long. */
function echoOf(bytes) {
  const [head, tail] = ['421["echo","', '"]'];
  return `${head}${"x".repeat(bytes - head.length - tail.length)}${tail}`;
}

eachSubject("limits", (server) => {
  async function departure(id) {
    const watcher = await server.connect();
    return until(() => ask(watcher, "last-disconnect", id), `the departure of ${id}`);
  }

  check("a WebSocket message of exactly the limit is taken", async () => {
    const raw = await RawSocket.connected(server);
    const packet = echoOf(LIMIT);
    assert.equal(Buffer.byteLength(packet), LIMIT);
    raw.send(packet);
    assert.equal((await raw.next()).length, LIMIT - '421["echo",]'.length + "431[]".length);
  });

  check("a WebSocket message of one byte more closes its connection with 1009, and only that", async () => {
    const bystander = await RawSocket.connected(server);
    const raw = await RawSocket.connected(server);
    raw.send(echoOf(LIMIT + 1));
    assert.equal(await raw.end(), 1009);
    assert.deepEqual(raw.unread, []);
    assert.equal(await departure(raw.id), "transport error");
    await bystander.roundTrip();
  });

  check("the limit counts bytes and not characters", async () => {
    const raw = await RawSocket.connected(server);
    raw.send(`42["noop","${"€".repeat(LIMIT / 3)}"]`);
    assert.equal(await raw.end(), 1009);
  });

  check("a binary message of exactly the limit is taken, one of one byte more is not", async () => {
    const raw = await RawSocket.connected(server);
    raw.send('451-5["bin-info",{"_placeholder":true,"num":0}]');
    raw.send(Buffer.alloc(LIMIT));
    assert.equal(await raw.next(), `435[{"count":1,"bytes":${LIMIT}}]`);
    raw.send('451-6["bin-info",{"_placeholder":true,"num":0}]');
    raw.send(Buffer.alloc(LIMIT + 1));
    assert.equal(await raw.end(), 1009);
  });

  check("a message in fragments counts as a whole", async () => {
    const raw = await RawSocket.connected(server);
    const packet = Buffer.from(echoOf(LIMIT + 1));
    for (let at = 0; at < packet.length; at += 250_000) {
      const end = Math.min(at + 250_000, packet.length);
      raw.socket.send(packet.subarray(at, end), { binary: false, fin: end === packet.length });
    }
    assert.equal(await raw.end(), 1009);
  });

  check("a polling body of exactly the limit is taken", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const { status, body } = await session.post(echoOf(LIMIT));
    assert.deepEqual({ status, body }, { status: 200, body: "ok" });
    assert.match((await session.poll())[0], /^431\["x+"\]$/);
  });

  check("a polling body of one byte more is refused with 413 and the session lives", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const { status, body } = await session.post(echoOf(LIMIT + 1));
    assert.deepEqual({ status, body }, { status: 413, body: "" });
    await session.roundTrip();
  });

  check("the client over WebSocket sees its oversized event as a lost transport", async () => {
    const socket = await server.connect();
    const { id } = socket;
    const lost = next(socket, "disconnect");
    socket.emit("echo", "x".repeat(LIMIT));
    const [reason, details] = await lost;
    assert.equal(reason, "transport close");
    assert.equal(details.context.code, 1009);
    assert.equal(await departure(id), "transport error");
  });

  check("the client over polling sees its oversized event as a transport error with status 413", async () => {
    const socket = await server.connect({ mode: "polling" });
    const lost = next(socket, "disconnect");
    socket.emit("echo", "x".repeat(LIMIT));
    const [reason, details] = await lost;
    assert.equal(reason, "transport error");
    assert.equal(details.description, 413);
  });

  check("the client over polling spreads what is too much for one body over several", async () => {
    const socket = await server.connect({ mode: "polling" });
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => ask(socket, "echo", `${i}`.repeat(200_000))));
    assert.deepEqual(answers.map(({ length }) => length), [...Array(10).fill(200_000), 400_000, 400_000]);
  });

  check("answers may be larger than the limit, which holds for what clients send", async () => {
    for (const mode of modes) {
      const socket = await server.connect({ mode });
      const answer = await ask(socket, "bin-info", ...Array.from({ length: 4 }, () => Buffer.alloc(150_000)));
      assert.deepEqual(answer, { count: 4, bytes: 600_000 });
      const texts = collect(socket, "seq");
      await ask(socket, "burst", 3, 900_000);
      assert.deepEqual(texts.map(([, text]) => text.length), [900_000, 900_000, 900_000]);
    }
  });

  for (const mode of modes) {
    check(`an event that a check refuses reaches no handler and ends nothing (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const unhandled = collect(socket, "unhandled");
      for (const args of [[], ["x"], [Buffer.from("x")]]) {
        const refused = next(socket, "mw-error");
        socket.emit("forbidden", ...args);
        assert.deepEqual(await refused, ["event refused"]);
      }
      await assert.rejects(socket.timeout(150).emitWithAck("forbidden"), /timed out/);
      await settle(socket);
      assert.deepEqual(unhandled, []);
      assert.ok(socket.connected);
    });
  }
});
