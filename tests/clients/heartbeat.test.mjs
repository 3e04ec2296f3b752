// Time: pings keep a connection, silence ends it, and a connection that joins nothing is closed. On the mount with
// short timers: ping every 300 ms, 200 ms to answer, 1 s to join a namespace.

import assert from "node:assert/strict";
import { ask, check, eachSubject, modes, next, sleep, timed, until, within } from "./harness.mjs";
import { PollingSession, RawSocket } from "./wire.mjs";

const path = "/fast/";

eachSubject("heartbeat", (server) => {
  async function departure(id) {
    const watcher = await server.connect({ path });
    return until(() => ask(watcher, "last-disconnect", id), `the departure of ${id}`);
  }

  function answerPings(raw) {
    raw.socket.on("message", (data) => { if (data.toString() === "2") raw.send("3"); });
  }

  check("answered pings keep every kind of client for many rounds", async () => {
    const sockets = await Promise.all(modes.map((mode) => server.connect({ mode, path })));
    const pings = sockets.map(() => 0);
    sockets.forEach((socket, i) => {
      socket.io.on("ping", () => { pings[i] += 1; });
      socket.on("disconnect", (reason) => assert.fail(`${modes[i]} lost: ${reason}`));
    });
    await sleep(2_000);
    sockets.forEach((socket, i) => {
      assert.ok(socket.connected);
      assert.ok(pings[i] >= 3 && pings[i] <= 7, `${modes[i]}: ${pings[i]} pings in 2 s`);
    });
    sockets.forEach((socket) => socket.off("disconnect"));
  });

  check("the handshake tells the timers", async () => {
    const raw = await RawSocket.session(server, path);
    const { pingInterval, pingTimeout, maxPayload } = raw.open;
    assert.deepEqual({ pingInterval, pingTimeout, maxPayload }, { pingInterval: 300, pingTimeout: 200, maxPayload: 1_000_000 });
  });

  check("the first ping comes after the interval and not at once", async () => {
    const raw = await RawSocket.session(server, path);
    const ms = await timed(raw.next().then((packet) => assert.equal(packet, "2")));
    assert.ok(ms >= 250 && ms < 1_000, `${ms} ms`);
  });

  check("the next ping is counted from the pong", async () => {
    const raw = await RawSocket.connected(server, path);
    assert.equal(await raw.next(), "2");
    await sleep(150);
    raw.send("3");
    const ms = await timed(raw.next().then((packet) => assert.equal(packet, "2")));
    assert.ok(ms >= 250 && ms < 1_000, `${ms} ms`);
  });

  check("a silent WebSocket client is closed by the ping time-out", async () => {
    const raw = await RawSocket.connected(server, path);
    const ms = await timed(raw.end());
    assert.ok(ms >= 400 && ms < 1_200, `${ms} ms`);
    assert.equal(await departure(raw.id), "ping timeout");
  });

  check("a silent polling client is closed by the ping time-out", async () => {
    const session = await PollingSession.open(server, path);
    const id = await session.connect();
    assert.deepEqual(await session.poll(), ["2"]);
    assert.equal(await departure(id), "ping timeout");
    assert.ok(await session.isGone());
  });

  check("a poll that waits while the time-out strikes is answered", async () => {
    const session = await PollingSession.open(server, path);
    await session.connect();
    assert.deepEqual(await session.poll(), ["2"]);
    assert.equal((await session.get()).body, "1");
    assert.ok(await session.isGone());
  });

  check("traffic without pongs is no sign of life", async () => {
    const raw = await RawSocket.connected(server, path);
    const chatter = setInterval(() => raw.send('42["noop"]'), 40);
    try {
      // One extra time-out of grace is given for traffic while the pong is awaited, not more.
      const ms = await timed(raw.end());
      assert.ok(ms >= 400 && ms < 1_500, `${ms} ms`);
    } finally {
      clearInterval(chatter);
    }
    assert.equal(await departure(raw.id), "ping timeout");
  });

  check("a client that pings is closed: only the server does that", async () => {
    const raw = await RawSocket.connected(server, path);
    raw.send("2");
    await raw.end();
    assert.equal(await departure(raw.id), "transport error");
  });

  check("a pong that nobody asked for changes nothing", async () => {
    const raw = await RawSocket.connected(server, path);
    raw.send("3");
    await raw.roundTrip();
    assert.equal(await raw.next(), "2");
  });

  check("a close packet over WebSocket ends the connection soon", async () => {
    // The npm server ignores the packet and lets the heartbeat run out; closing at once is as good.
    const raw = await RawSocket.connected(server, path);
    raw.send("1");
    await raw.end(1_500);
    assert.ok(["ping timeout", "transport close"].includes(await departure(raw.id)));
  });

  check("a client that joins nothing, or only what refuses it, is closed after the connect time-out", async () => {
    await Promise.all([[], ["40/nowhere,"], ["40/auth,"]].map(async (packets) => {
      const raw = await RawSocket.session(server, path);
      answerPings(raw);
      for (const packet of packets) raw.send(packet);
      const ms = await timed(raw.end());
      assert.ok(ms >= 850 && ms < 2_000, `${packets}: ${ms} ms`);
    }));
  });

  check("a polling client that joins nothing is closed after the connect time-out", async () => {
    const session = await PollingSession.open(server, path);
    const start = performance.now();
    const end = async () => {
      for (;;) {
        const { body } = await session.get();
        if (body.includes("1")) return;
        if (body === "2") await session.post("3");
      }
    };
    await within(end(), 2_500, "the close packet");
    const ms = performance.now() - start;
    assert.ok(ms >= 850 && ms < 2_000, `${ms} ms`);
    assert.ok(await session.isGone());
  });

  check("leaving the only namespace does not start the connect time-out again", async () => {
    const raw = await RawSocket.connected(server, path);
    answerPings(raw);
    raw.send("41");
    await sleep(1_400);
    raw.send("40");
    await until(() => raw.unread.some((packet) => packet.startsWith("40{")), "the second join");
  });

  check("a client hears nothing for longer than promised and gives up", async () => {
    const socket = await server.connect({ path });
    // Nothing of the server comes through from now on, its closing neither, as in a dead network.
    const { ws } = socket.io.engine.transport;
    ws.onmessage = ws.onclose = ws.onerror = null;
    for (const event of ["message", "close", "error"]) ws.removeAllListeners(event);
    ws.on("error", () => {});
    const [reason] = await next(socket, "disconnect");
    assert.equal(reason, "ping timeout");
  });
});
