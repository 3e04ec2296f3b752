// Leaving: who ended it, what each side calls it, and what stays open.

import assert from "node:assert/strict";
import { ask, check, checkBetterThanNode, eachSubject, modes, next, statsBecome, until } from "./harness.mjs";
import { PollingSession, RawSocket, SEPARATOR } from "./wire.mjs";

eachSubject("disconnects", (server) => {
  /** What the server calls the way in which socket `id` left, asked by someone who stayed. */
  async function departure(id, nsp = "/") {
    const watcher = await server.connect({ nsp });
    return until(() => ask(watcher, "last-disconnect", id), `the departure of ${id}`);
  }

  for (const mode of modes) {
    check(`being kicked from the only namespace (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const { id } = socket;
      const left = next(socket, "disconnect");
      socket.emit("kick", false);
      const [reason, details] = await left;
      assert.equal(reason, "io server disconnect");
      assert.equal(details, undefined);
      assert.equal(socket.active, false, "a kicked client does not come back by itself");
      assert.equal(await departure(id), "server namespace disconnect");
    });

    check(`being kicked from one namespace leaves the others (${mode})`, async () => {
      const main = await server.connect({ mode });
      const custom = await server.join(main, "/custom");
      const { id } = custom;
      const left = next(custom, "disconnect");
      custom.emit("kick", false);
      assert.deepEqual((await left)[0], "io server disconnect");
      assert.equal(await ask(main, "echo", "still here"), "still here");
      assert.equal(await departure(id, "/custom"), "server namespace disconnect");
    });

    check(`being kicked with the connection ends every namespace (${mode})`, async () => {
      const main = await server.connect({ mode });
      const custom = await server.join(main, "/custom");
      const ids = [main.id, custom.id];
      const left = [next(main, "disconnect"), next(custom, "disconnect")];
      main.emit("kick", true);
      const reasons = (await Promise.all(left)).map(([reason]) => reason);
      assert.deepEqual(reasons, ["io server disconnect", "io server disconnect"]);
      assert.equal(await departure(ids[0]), "server namespace disconnect");
      assert.equal(await departure(ids[1], "/custom"), "server namespace disconnect");
    });

    check(`a client that disconnects (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const { id } = socket;
      const left = next(socket, "disconnect");
      socket.disconnect();
      assert.equal((await left)[0], "io client disconnect");
      assert.equal(await departure(id), "client namespace disconnect");
    });

    check(`a client that leaves one of its namespaces and comes back as someone else (${mode})`, async () => {
      const main = await server.connect({ mode });
      const custom = await server.join(main, "/custom");
      const { id } = custom;
      custom.disconnect();
      assert.equal(await departure(id, "/custom"), "client namespace disconnect");
      assert.equal(await ask(main, "echo", "still here"), "still here");
      const again = next(custom, "connect");
      custom.connect();
      await again;
      assert.notEqual(custom.id, id);
      assert.equal(await ask(custom, "echo", "back"), "back");
    });

    check(`a client that ends the connection without leaving (${mode})`, async () => {
      const main = await server.connect({ mode });
      const custom = await server.join(main, "/custom");
      const ids = [main.id, custom.id];
      const left = next(main, "disconnect");
      main.io.engine.close();
      assert.equal((await left)[0], "forced close");
      assert.equal(await departure(ids[0]), "transport close");
      assert.equal(await departure(ids[1], "/custom"), "transport close");
    });
  }

  check("someone who never was here has no departure", async () => {
    const socket = await server.connect();
    assert.equal(await ask(socket, "last-disconnect", "unknown"), null);
    assert.equal(await ask(socket, "last-disconnect", socket.id), null);
  });

  check("a WebSocket that is cut off is a closed transport", async () => {
    const raw = await RawSocket.connected(server);
    raw.terminate();
    assert.equal(await departure(raw.id), "transport close");
  });

  check("a WebSocket closed in order is a closed transport", async () => {
    const raw = await RawSocket.connected(server);
    raw.socket.close();
    assert.equal(await raw.end(), 1005);
    assert.equal(await departure(raw.id), "transport close");
  });

  check("a poll that is cut off is a transport error", async () => {
    const session = await PollingSession.open(server);
    const id = await session.connect();
    const poll = await session.park();
    poll.abort();
    assert.equal(await departure(id), "transport error");
    await session.gone();
  });

  check("a close packet by POST is a closed transport", async () => {
    const session = await PollingSession.open(server);
    const id = await session.connect();
    const { status, body } = await session.post("1");
    assert.deepEqual({ status, body }, { status: 200, body: "ok" });
    assert.equal(await departure(id), "transport close");
    await session.gone();
  });

  const dropsLastWords = "events that arrive in one read with the packet that leaves the namespace are dropped";
  checkBetterThanNode(server, "what was sent right before leaving is still heard over WebSocket", dropsLastWords, async () => {
    const watcher = await server.connect();
    await ask(watcher, "join", "farewell");
    const socket = await server.connect();
    const heard = next(watcher, "last-words");
    socket.emit("bcast", { via: "io", to: "farewell" }, "last-words", ["bye"]);
    socket.disconnect();
    assert.deepEqual(await heard, ["bye"]);
  });

  checkBetterThanNode(server, "what was sent right before leaving is still heard over polling", dropsLastWords, async () => {
    const watcher = await server.connect();
    await ask(watcher, "join", "farewell");
    const heard = next(watcher, "last-words");
    const session = await PollingSession.open(server);
    const id = await session.connect();
    await session.post(`42["bcast",{"via":"io","to":"farewell"},"last-words",["bye"]]${SEPARATOR}41`);
    assert.deepEqual(await heard, ["bye"]);
    assert.equal(await departure(id), "client namespace disconnect");
  });

  check("leaving by packet keeps the connection open for a new start", async () => {
    const raw = await RawSocket.connected(server);
    raw.send("41");
    assert.equal(await departure(raw.id), "client namespace disconnect");
    raw.send("40");
    assert.match(await raw.next(), /^40\{"sid":"/);
    await raw.roundTrip();
  });

  check("the kick is a packet and the end of the connection follows it", async () => {
    const raw = await RawSocket.connected(server);
    raw.send("40/custom,");
    assert.match(await raw.next(), /^40\/custom,\{"sid":"/);
    raw.send('42["kick",true]');
    const packets = [await raw.next(), await raw.next()].sort();
    assert.deepEqual(packets, ["41", "41/custom,"]);
    // No status in the close frame: the client sees 1005.
    assert.equal(await raw.end(), 1005);
  });

  check("a kicked polling client reads the news from its poll", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const poll = session.get();
    await session.post('42["kick",true]');
    const packets = (await poll).body.split(SEPARATOR);
    // The rest of the farewell may come with the next poll, which is the last one.
    if (!packets.includes("1")) packets.push(...(await session.poll()));
    assert.deepEqual(packets.filter((packet) => packet !== "6"), ["41", "1"]);
    await session.gone();
  });

  check("everyone is gone in the end", async () => {
    await statsBecome(await server.connect(), { engine: 1, sockets: 1, rooms: 1 });
    await statsBecome(await server.connect({ nsp: "/custom" }), { sockets: 1, rooms: 1 });
  });
});
