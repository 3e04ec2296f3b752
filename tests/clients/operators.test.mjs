// What a server asks and learns of many sockets at once: their answers, their rooms, who they are.

import assert from "node:assert/strict";
import { ask, call, check, eachSubject, modes } from "./harness.mjs";

eachSubject("operators", (server) => {
  /** Sockets a, b, c …, each in the given rooms, over all transports, that answer `vote` with their names. */
  async function crowd(memberships) {
    const sockets = {};
    let turn = 0;
    for (const [name, rooms] of Object.entries(memberships)) {
      const socket = await server.connect({ mode: modes[turn++ % modes.length] });
      socket.on("vote", (ack) => ack(name));
      if (rooms.length > 0) await ask(socket, "join", rooms);
      sockets[name] = socket;
    }
    return sockets;
  }

  check("sockets are fetched with their rooms, by rooms and exceptions", async () => {
    const sockets = await crowd({ a: ["r1"], b: ["r1", "r2"], c: ["r2"], d: [] });
    const names = (fetched) => Object.keys(sockets).filter((name) => fetched.some(({ id }) => id === sockets[name].id));
    for (const [options, expected] of [
      [{}, "abcd"],
      [{ in: "r1" }, "ab"],
      [{ in: ["r1", "r2"] }, "abc"],
      [{ in: ["r1", "r2"], except: "r2" }, "a"],
      [{ except: ["r1", "r2"] }, "d"],
      [{ in: "nobody" }, ""],
      [{ in: sockets.c.id }, "c"],
      [{ except: sockets.c.id }, "abd"],
    ]) {
      const fetched = await ask(sockets.d, "util", "fetch", options);
      assert.equal(names(fetched).join(""), expected, JSON.stringify(options));
      assert.equal(fetched.length, expected.length);
    }
    const [fetched] = await ask(sockets.a, "util", "fetch", { in: "r1", except: sockets.a.id });
    assert.deepEqual(fetched, { id: sockets.b.id, rooms: [sockets.b.id, "r1", "r2"].sort(), data: {} });
  });

  check("a fetch sees what was done a moment before", async () => {
    const { a, b } = await crowd({ a: [], b: [] });
    a.emit("util", "join", { rooms: "late" });
    assert.equal((await ask(a, "util", "fetch", { in: "late" })).length, 2);
    b.emit("leave", "late");
    await ask(b, "whoami");
    assert.deepEqual((await ask(a, "util", "fetch", { in: "late" })).map(({ id }) => id), [a.id]);
  });

  check("a namespace's sockets are fetched and no others", async () => {
    const main = await server.connect();
    const custom = await server.join(main, "/custom");
    assert.deepEqual((await ask(custom, "util", "fetch", {})).map(({ id }) => id), [custom.id]);
    assert.deepEqual((await ask(main, "util", "fetch", {})).map(({ id }) => id), [main.id]);
  });

  check("exactly the targets of a question answer it, for every combination of rooms and exceptions", async () => {
    const sockets = await crowd({ a: ["r1"], b: ["r1", "r2"], c: ["r2"], d: [] });
    for (const [options, expected] of [
      [{ via: "io" }, "abcd"],
      [{ via: "socket" }, "abc"],
      [{ via: "io", to: "r1" }, "ab"],
      [{ via: "io", to: ["r1", "r2"] }, "abc"],
      [{ via: "io", to: ["r1", "r2"], except: "r2" }, "a"],
      [{ via: "io", except: "r1" }, "cd"],
      [{ via: "socket", except: "r1" }, "c"],
      [{ via: "socket", to: "r1", except: sockets.a.id }, "b"],
      [{ via: "io", to: sockets.d.id }, "d"],
      [{ via: "socket", to: sockets.d.id }, ""],
      [{ via: "io", to: "r1", except: ["r1", "r2"] }, ""],
      [{ via: "io", to: "r2", local: true }, "bc"],
    ]) {
      const answer = await call(sockets.d, "bcast-ack", { ...options, timeout: 4_000 }, "vote", []);
      assert.deepEqual([answer[0], answer[1].sort().join("")], [null, expected], JSON.stringify(options));
    }
  });

  check("answers without a value, late answers and second answers", async () => {
    const { a, b, c } = await crowd({ a: [], b: [], c: [] });
    for (const socket of [a, b, c]) socket.off("vote");
    a.on("vote", (ack) => ack());
    b.on("vote", (ack) => setTimeout(() => ack("late"), 600));
    c.on("vote", (ack) => {
      ack("first");
      ack("second");
    });
    const [error, answers] = await call(a, "bcast-ack", { via: "io", timeout: 300 }, "vote", []);
    assert.equal(error, "timeout");
    assert.deepEqual(answers.sort(), ["first", null]);
    // The late one belongs to nobody; the next question has answers of its own.
    b.off("vote").on("vote", (ack) => ack("in time"));
    const [, next] = await call(c, "bcast-ack", { via: "io", timeout: 4_000 }, "vote", []);
    assert.deepEqual(next.sort(), ["first", "in time", null]);
  });

  check("questions to overlapping rooms at the same time do not mix their answers", async () => {
    const sockets = await crowd({ a: ["x"], b: ["x", "y"], c: ["y"] });
    for (const [name, socket] of Object.entries(sockets)) {
      socket.off("vote").on("vote", (round, ack) => ack(`${round}${name}`));
    }
    const rounds = Array.from({ length: 40 }, (_, round) => round);
    const asked = rounds.map((round) => {
      const options = { via: "io", to: round % 2 ? "x" : "y", timeout: 4_000 };
      return call(sockets.a, "bcast-ack", options, "vote", [round]);
    });
    for (const [round, [error, answers]] of (await Promise.all(asked)).entries()) {
      assert.equal(error, null);
      assert.deepEqual(answers.sort(), (round % 2 ? ["a", "b"] : ["b", "c"]).map((name) => `${round}${name}`));
    }
  });
});
