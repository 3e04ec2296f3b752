// A server that dies and comes back on the same port, and clients with the reconnection they have by default.

import assert from "node:assert/strict";
import { ask, check, collect, eachSubject, modes, next, opened, SOON_MS, until, within } from "./harness.mjs";

eachSubject("reconnection", (server) => {
  check("clients come back by themselves after a restart, with new ids, and send what waited", async () => {
    const sockets = await Promise.all(modes.map((mode) => server.connect({ mode, reconnection: true })));
    const customs = await Promise.all(sockets.map((socket) => server.join(socket, "/custom")));
    const ids = [...sockets, ...customs].map(({ id }) => id);
    await Promise.all(sockets.map((socket) => ask(socket, "join", "lost-with-the-server")));

    const lost = sockets.map((socket) => next(socket, "disconnect"));
    await server.kill();
    for (const [reason] of await Promise.all(lost)) {
      assert.ok(["transport close", "transport error"].includes(reason), reason);
    }
    assert.ok(sockets.every((socket) => socket.active && !socket.connected));
    // Emitted while nobody listens: kept by the client and sent, in order, after it is back.
    const late = (socket, value) => new Promise((resolve) => socket.emit("echo", value, resolve));
    const answers = sockets.map((socket, i) => Promise.all([late(socket, i), late(socket, "second")]));

    // The client waits up to 7.5 s between two attempts.
    const back = [...sockets, ...customs].map((socket) => next(socket, "connect", 40_000));
    await server.start();
    await Promise.all(back);
    assert.deepEqual(await within(Promise.all(answers), SOON_MS, "the answers"), sockets.map((_, i) => [i, "second"]));
    for (const socket of [...sockets, ...customs]) {
      assert.ok(!ids.includes(socket.id), "an id of before the restart");
      const { recovered, rooms } = await ask(socket, "whoami");
      assert.deepEqual({ recovered, rooms }, { recovered: false, rooms: [socket.id] });
    }
  });

  check("a client that was told to leave does not come back", async () => {
    const socket = await server.connect({ reconnection: true, reconnectionDelay: 20 });
    const left = next(socket, "disconnect");
    socket.emit("kick", true);
    assert.equal((await left)[0], "io server disconnect");
    const attempts = collect(socket.io, "reconnect_attempt");
    await new Promise((resolve) => setTimeout(resolve, 300));
    assert.deepEqual(attempts, []);
    // It may ask again by hand.
    await opened(socket);
    assert.equal(await ask(socket, "echo", "again"), "again");
  });

  check("a client whose connection broke comes back with a new id", async () => {
    for (const mode of modes) {
      const socket = await server.connect({ mode, reconnection: true, reconnectionDelay: 20 });
      const { id } = socket;
      const back = next(socket, "connect");
      socket.io.engine.close();
      await back;
      assert.notEqual(socket.id, id);
      const watcher = await server.connect();
      await until(() => ask(watcher, "last-disconnect", id), "the departure of the old id");
    }
  });
});
