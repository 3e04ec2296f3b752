// Engine.IO alone, without Socket.IO on top: a handshake, a heartbeat, and every message back as it was.

import assert from "node:assert/strict";
import { check, eachSubject } from "./harness.mjs";
import { PollingSession, RawSocket, SEPARATOR, request } from "./wire.mjs";

const MOUNT = "/engine.io/";

/** A ping must be answered within 200 ms, which a busy machine may miss: what is expected comes in one of some attempts. */
async function inOneOf(attempts, body) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await body();
    } catch (error) {
      if (attempt === attempts) throw error;
    }
  }
}

/** The next message but pings, which are answered. */
async function message(raw) {
  const ended = raw.closed.then((code) => { throw new Error(`the connection ended with ${code}`); });
  for (;;) {
    const message = await Promise.race([raw.next(), ended]);
    if (message !== "2") return message;
    raw.send("3");
  }
}

eachSubject("Engine.IO alone", (server) => {
  check("the handshake tells the settings, and nothing greets", async () => {
    const { open, handshake } = await PollingSession.open(server, MOUNT);
    assert.deepEqual({ ...open, sid: typeof open.sid }, {
      sid: "string",
      upgrades: ["websocket"],
      pingInterval: 300,
      pingTimeout: 200,
      maxPayload: 1_000_000,
    });
    assert.equal(handshake.headers["access-control-allow-origin"], "*");
    assert.equal(handshake.headers["set-cookie"], undefined);
    const raw = await RawSocket.session(server, MOUNT);
    assert.deepEqual(raw.open.upgrades, []);
    // The first that comes is a ping.
    assert.equal(await raw.next(), "2");
  });

  check("messages come back over a WebSocket, text as text and binary as binary", async () => {
    const sent = ["4hello", "4", "40", "4ünïcödé 日本", Buffer.from([0, 1, 0xff]), Buffer.alloc(0), Buffer.from("text")];
    await inOneOf(5, async () => {
      const raw = await RawSocket.session(server, MOUNT);
      for (const message of sent) raw.send(message);
      for (const expected of sent) assert.deepEqual(await message(raw), expected);
    });
  });

  check("messages come back over polling, binary in base64", async () => {
    const sent = ["4hello", "bAAH/", "4", "440"];
    await inOneOf(5, async () => {
      const session = await PollingSession.open(server, MOUNT);
      await session.post(sent.join(SEPARATOR));
      const came = [];
      while (came.length < sent.length) {
        for (const packet of await session.poll()) {
          if (packet === "2") await session.post("3");
          else came.push(packet);
        }
      }
      assert.deepEqual(came, sent);
    });
  });

  check("who does not answer pings is gone", async () => {
    const raw = await RawSocket.session(server, MOUNT);
    assert.equal(await raw.next(), "2");
    await raw.end();
  });

  check("a message of a million bytes comes back, a longer one ends the connection", async () => {
    const longest = `4${"x".repeat(999_999)}`;
    await inOneOf(5, async () => {
      const raw = await RawSocket.session(server, MOUNT);
      raw.send(longest);
      assert.ok((await message(raw)) === longest);
      raw.send(`${longest}x`);
      assert.equal(await raw.end(), 1009);
    });
  });

  check("mounts that are not there answer 404", async () => {
    for (const target of ["/engine.io", "/engine", "/dyn-1", "/"]) {
      assert.equal((await request(server, target)).status, 404, target);
    }
  });
});
