// Events arrive in the order in which they were sent, in both directions, whatever the transport does meanwhile.

import assert from "node:assert/strict";
import { ask, check, collect, eachSubject, engineUpgrade, modes, next, settle, until } from "./harness.mjs";

eachSubject("order", (server) => {
  for (const mode of modes) {
    check(`ten thousand events reach the server in order (${mode})`, async () => {
      const socket = await server.connect({ mode });
      for (let i = 0; i < 10_000; i++) socket.emit("count", i);
      assert.deepEqual(await ask(socket, "count-report"), { received: 10_000, outOfOrder: 0 });
    });

    check(`events with attachments do not fall behind or overtake (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const seen = collect(socket, "echo");
      const sent = [];
      for (let i = 0; i < 300; i++) {
        const args = i % 3 === 0 ? [i, Buffer.alloc(i)] : [i];
        sent.push(args);
        socket.emit("echo", ...args);
      }
      await until(() => seen.length === sent.length, "300 echoes");
      assert.deepEqual(seen, sent);
    });

    check(`a burst from the server arrives complete, in order and before its acknowledgement (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const seen = collect(socket, "seq");
      const ended = next(socket, "seq-end");
      assert.equal(await ask(socket, "burst", 2_000, 100), "ok");
      assert.deepEqual(await ended, [2_000]);
      assert.deepEqual(seen.map(([i]) => i), Array.from({ length: 2_000 }, (_, i) => i));
      assert.ok(seen.every(([, text]) => text === "x".repeat(100)));
    });

    check(`a volatile burst arrives in order with gaps at most, and the normal event behind it always (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const seen = collect(socket, "vseq");
      const ended = next(socket, "vseq-end");
      assert.equal(await ask(socket, "volatile-burst", 500, 100), "ok");
      assert.deepEqual(await ended, [500]);
      const numbers = seen.map(([i]) => i);
      assert.deepEqual(numbers, [...numbers].sort((a, b) => a - b));
      assert.equal(new Set(numbers).size, numbers.length);
    });
  }

  check("order is kept across an upgrade while events flow both ways", async () => {
    for (const upgradeAfter of [1, 20, 40, 60, 80]) {
      const socket = await server.connect({ mode: "upgrade", upgradeAfter });
      const down = collect(socket, "seq");
      const echoes = collect(socket, "echo");
      let upgraded = false;
      const upgrade = engineUpgrade(socket).then(() => { upgraded = true; });

      // Keeps both directions busy from before the upgrade until well after it.
      let sent = 0;
      let bursts = 0;
      for (let after = 0; after < 5; after += upgraded ? 1 : 0) {
        for (let i = 0; i < 50; i++) {
          socket.emit("count", sent);
          socket.emit("echo", sent);
          sent += 1;
        }
        await ask(socket, "burst", 20, 50);
        bursts += 1;
      }
      await upgrade;
      assert.equal((await ask(socket, "whoami")).transport, "websocket");
      assert.deepEqual(await ask(socket, "count-report"), { received: sent, outOfOrder: 0 });
      await settle(socket);
      assert.deepEqual(echoes.map(([i]) => i), Array.from({ length: sent }, (_, i) => i));
      assert.deepEqual(down.map(([i]) => i), Array.from({ length: bursts * 20 }, (_, i) => i % 20));
    }
  });

  check("broadcasts of one sender reach every member in the order they were made", async () => {
    const sender = await server.connect();
    const members = await Promise.all(modes.map((mode) => server.connect({ mode })));
    const seen = members.map((member) => collect(member, "numbered"));
    await Promise.all(members.map((member) => ask(member, "join", "ordered")));
    for (let i = 0; i < 300; i++) sender.emit("bcast", { via: "io", to: "ordered" }, "numbered", [i]);
    await until(() => seen.every((list) => list.length === 300), "300 broadcasts at each member");
    for (const list of seen) assert.deepEqual(list.map(([i]) => i), Array.from({ length: 300 }, (_, i) => i));
  });

  check("an acknowledgement does not overtake the events sent before it", async () => {
    const socket = await server.connect({ mode: "polling" });
    const log = [];
    socket.on("seq-end", () => log.push("event"));
    for (let i = 0; i < 20; i++) {
      await ask(socket, "burst", 1, 10);
      log.push("ack");
    }
    assert.deepEqual(log, Array.from({ length: 20 }, () => ["event", "ack"]).flat());
  });
});
