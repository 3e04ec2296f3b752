// Time: pings keep a connection, silence ends it, and a connection that joins nothing is closed. On the mount with
// steady timers: ping every 300 ms, 2.5 s to answer, 2 s to join a namespace.
//
// Nothing may come early; on a busy machine anything may come late. So lower bounds are exact and there are no upper ones
// but those of every wait. Clocks start before the server's: what the server counts cannot seem shorter than it was.

import assert from "node:assert/strict";
import { ask, check, eachSubject, modes, next, sleep, until, within } from "./harness.mjs";
import { PollingSession, RawSocket } from "./wire.mjs";

const path = "/steady/";
const [INTERVAL, TIMEOUT, CONNECT_TIMEOUT] = [300, 2_500, 2_000];
/** What clocks of different make may differ by. */
const SLACK = 50;

// Each test waits for seconds, and none minds the others.
eachSubject("heartbeat", { concurrency: true }, (server) => {
  async function departure(id) {
    const watcher = await server.connect({ path });
    return until(() => ask(watcher, "last-disconnect", id), `the departure of ${id}`);
  }

  function answerPings(raw) {
    // The first may have come with what was waited for last.
    for (const packet of raw.unread) if (packet === "2") raw.send("3");
    raw.socket.on("message", (data) => { if (data.toString() === "2") raw.send("3"); });
  }

  /** Checks that at least `ms` milliseconds have passed since `begin`. */
  function passed(begin, ms, what = "time") {
    const passed = performance.now() - begin;
    assert.ok(passed >= ms - SLACK, `${what}: ${passed} ms`);
  }

  check("answered pings keep every kind of client for longer than one could go unanswered", async () => {
    const begin = performance.now();
    const sockets = await Promise.all(modes.map((mode) => server.connect({ mode, path })));
    const pings = sockets.map(() => 0);
    const lost = [];
    sockets.forEach((socket, i) => {
      socket.io.on("ping", () => { pings[i] += 1; });
      socket.on("disconnect", (reason) => lost.push(`${modes[i]}: ${reason}`));
    });
    const enough = Math.ceil((INTERVAL + TIMEOUT) / INTERVAL) + 2;
    await until(() => lost.length > 0 || pings.every((count) => count >= enough), `${enough} pings for each`, 30_000);
    assert.deepEqual(lost, []);
    passed(begin, enough * INTERVAL, `${enough} pings`);
    for (const socket of sockets) assert.equal(await ask(socket, "echo", "still here"), "still here");
    sockets.forEach((socket) => socket.off("disconnect"));
  });

  check("the handshake tells the timers", async () => {
    for (const [mount, expected] of [[path, TIMEOUT], ["/fast/", 200]]) {
      const raw = await RawSocket.session(server, mount);
      const { pingInterval, pingTimeout, maxPayload } = raw.open;
      assert.deepEqual({ pingInterval, pingTimeout, maxPayload }, { pingInterval: INTERVAL, pingTimeout: expected, maxPayload: 1_000_000 });
    }
  });

  check("the first ping comes after the interval and not at once", async () => {
    const begin = performance.now();
    const raw = await RawSocket.session(server, path);
    assert.equal(await raw.next(), "2");
    passed(begin, INTERVAL);
  });

  check("the next ping is counted from the pong", async () => {
    const raw = await RawSocket.connected(server, path);
    assert.equal(await raw.next(), "2");
    await sleep(INTERVAL);
    const begin = performance.now();
    raw.send("3");
    assert.equal(await raw.next(), "2");
    passed(begin, INTERVAL);
  });

  check("a silent WebSocket client is closed by the ping time-out", async () => {
    const begin = performance.now();
    const raw = await RawSocket.connected(server, path);
    await raw.end();
    passed(begin, INTERVAL + TIMEOUT);
    assert.equal(await departure(raw.id), "ping timeout");
  });

  check("a silent polling client is closed by the ping time-out", async () => {
    const session = await PollingSession.open(server, path);
    const id = await session.connect();
    assert.deepEqual(await session.poll(), ["2"]);
    assert.equal(await departure(id), "ping timeout");
    await session.gone();
  });

  check("a poll that waits while the time-out strikes is answered", async () => {
    const session = await PollingSession.open(server, path);
    await session.connect();
    assert.deepEqual(await session.poll(), ["2"]);
    assert.equal((await session.get()).body, "1");
    await session.gone();
  });

  check("traffic without pongs is no sign of life", async () => {
    const begin = performance.now();
    const raw = await RawSocket.connected(server, path);
    const chatter = setInterval(() => raw.send('42["noop"]'), 40);
    try {
      // For ever, if it were one.
      await raw.end();
      passed(begin, INTERVAL + TIMEOUT);
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
    raw.send('4277["echo","still here"]');
    // The ping may come first, on a busy machine.
    assert.deepEqual([await raw.next(), await raw.next()].sort(), ["2", '4377["still here"]']);
  });

  check("a close packet over WebSocket ends the connection soon", async () => {
    // The npm server ignores the packet and lets the heartbeat run out; closing at once is as good.
    const raw = await RawSocket.connected(server, path);
    raw.send("1");
    await raw.end();
    assert.ok(["ping timeout", "transport close"].includes(await departure(raw.id)));
  });

  check("a client that joins nothing, or only what refuses it, is closed after the connect time-out", async () => {
    await Promise.all([[], ["40/nowhere,"], ["40/auth,"]].map(async (packets) => {
      const begin = performance.now();
      const raw = await RawSocket.session(server, path);
      answerPings(raw);
      for (const packet of packets) raw.send(packet);
      await raw.end();
      passed(begin, CONNECT_TIMEOUT, `${packets}`);
    }));
  });

  check("a polling client that joins nothing is closed after the connect time-out", async () => {
    const begin = performance.now();
    const session = await PollingSession.open(server, path);
    const end = async () => {
      for (;;) {
        const { body } = await session.get();
        if (body.includes("1")) return;
        if (body === "2") await session.post("3");
      }
    };
    await within(end(), 30_000, "the close packet");
    passed(begin, CONNECT_TIMEOUT);
    await session.gone();
  });

  check("leaving the only namespace does not start the connect time-out again", async () => {
    const raw = await RawSocket.connected(server, path);
    answerPings(raw);
    raw.send("41");
    await sleep(CONNECT_TIMEOUT + 500);
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
