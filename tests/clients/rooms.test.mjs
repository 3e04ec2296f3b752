// Who hears a broadcast: unions of rooms, exceptions, the sender left out, and every target once.

import assert from "node:assert/strict";
import { ask, check, checkBetterThanNode, collect, eachSubject, modes, settle, statsBecome, until } from "./harness.mjs";

eachSubject("rooms", (server) => {
  /** Sockets a, b, c …, one per entry, each in the given rooms; alternating transports so that all are mixed. */
  async function crowd(memberships) {
    const sockets = {};
    let turn = 0;
    for (const [name, rooms] of Object.entries(memberships)) {
      sockets[name] = await server.connect({ mode: modes[turn++ % modes.length] });
      if (rooms.length > 0) await ask(sockets[name], "join", rooms);
    }
    return sockets;
  }

  /** Who received how many of one broadcast that `sender` asks for; every expected receiver must have it exactly once. */
  async function heard(sockets, sender, options, expected) {
    const seen = Object.fromEntries(Object.entries(sockets).map(([name, socket]) => [name, collect(socket, "news")]));
    const names = () => Object.keys(seen).filter((name) => seen[name].length > 0).sort().join("");
    assert.equal(await ask(sender, "bcast", options, "news", ["x", { deep: [1] }]), "ok");
    await until(() => names().length >= expected.length, `news for ${expected}`);
    await settle(...Object.values(sockets));
    for (const socket of Object.values(sockets)) socket.off("news");
    assert.equal(names(), expected);
    for (const name of expected) assert.deepEqual(seen[name], [["x", { deep: [1] }]], `copies for ${name}`);
  }

  for (const mode of modes) {
    check(`join and leave answer with the sorted rooms, own id included (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const rooms = (...names) => [socket.id, ...names].sort();
      assert.deepEqual(await ask(socket, "join", "b"), rooms("b"));
      assert.deepEqual(await ask(socket, "join", ["a", "c", "a"]), rooms("a", "b", "c"));
      assert.deepEqual(await ask(socket, "join", "a"), rooms("a", "b", "c"));
      assert.deepEqual(await ask(socket, "leave", "b"), rooms("a", "c"));
      assert.deepEqual(await ask(socket, "leave", ["a", "never joined"]), rooms("c"));
      assert.deepEqual((await ask(socket, "whoami")).rooms, rooms("c"));
    });
  }

  const leavesItself = "a socket can leave the room of its own id, and is no longer reached by it";
  checkBetterThanNode(server, "the room of its own id is not left", leavesItself, async () => {
    const sockets = await crowd({ a: ["r1"], b: [] });
    assert.deepEqual(await ask(sockets.a, "leave", [sockets.a.id, "r1"]), [sockets.a.id]);
    await heard(sockets, sockets.b, { via: "io", to: sockets.a.id }, "a");
  });

  check("targets are the union of rooms, without exceptions, each once", async () => {
    const sockets = await crowd({ a: ["r1"], b: ["r1", "r2"], c: ["r2"], d: ["r3"], e: [], f: ["r1", "r3"] });
    const { a, b, e } = sockets;
    for (const [sender, options, expected] of [
      [e, { via: "io" }, "abcdef"],
      [e, { via: "io", to: "r1" }, "abf"],
      [e, { via: "io", to: ["r1", "r2"] }, "abcf"],
      [e, { via: "io", to: ["r1", "r1", "r1"] }, "abf"],
      [e, { via: "io", to: ["r1", "r2", "r3"] }, "abcdf"],
      [e, { via: "io", to: "nobody" }, ""],
      [e, { via: "io", to: ["nobody", "r3"] }, "df"],
      [e, { via: "io", except: "r1" }, "cde"],
      [e, { via: "io", except: ["r1", "r2"] }, "de"],
      [e, { via: "io", except: "nobody" }, "abcdef"],
      [e, { via: "io", to: "r1", except: "r2" }, "af"],
      [e, { via: "io", to: ["r1", "r2"], except: ["r3"] }, "abc"],
      [e, { via: "io", to: "r1", except: "r1" }, ""],
      [e, { via: "io", local: true, to: "r2" }, "bc"],
      [a, { via: "io", to: "r1" }, "abf"],
      [a, { via: "socket" }, "bcdef"],
      [a, { via: "socket", to: "r1" }, "bf"],
      [a, { via: "socket", to: ["r1", "r2"] }, "bcf"],
      [a, { via: "socket", except: "r2" }, "def"],
      [b, { via: "socket", to: ["r1", "r2"], except: "r3" }, "ac"],
      [e, { via: "socket", to: "r3" }, "df"],
    ]) {
      await heard(sockets, sender, options, expected);
    }
  });

  check("every socket is in the room of its own id", async () => {
    const sockets = await crowd({ a: [], b: [], c: [] });
    const { a, b, c } = sockets;
    await heard(sockets, a, { via: "io", to: b.id }, "b");
    await heard(sockets, a, { via: "io", to: a.id }, "a");
    await heard(sockets, a, { via: "socket", to: a.id }, "");
    await heard(sockets, a, { via: "io", except: b.id }, "ac");
    await heard(sockets, a, { via: "io", to: [b.id, c.id] }, "bc");
  });

  check("another socket's id is a room that anyone may be put into", async () => {
    const sockets = await crowd({ a: [], b: [], c: [] });
    await ask(sockets.a, "join", sockets.b.id);
    await heard(sockets, sockets.c, { via: "io", to: sockets.b.id }, "ab");
  });

  check("a socket that left a room or the server is no longer reached", async () => {
    const sockets = await crowd({ a: ["room"], b: ["room"], c: ["room"] });
    await ask(sockets.b, "leave", "room");
    await heard(sockets, sockets.a, { via: "io", to: "room" }, "ac");
    const { a, b, c } = sockets;
    c.disconnect();
    await heard({ a, b }, a, { via: "io", to: "room" }, "a");
  });

  check("rooms of one name in two namespaces are two rooms", async () => {
    const main = await server.connect();
    const custom = await server.join(main, "/custom");
    await ask(main, "join", "shared");
    await ask(custom, "join", "shared");
    await heard({ m: main, c: custom }, main, { via: "io", to: "shared" }, "m");
    await heard({ m: main, c: custom }, custom, { via: "io", to: "shared" }, "c");
  });

  check("a socket joined a moment before hears the broadcast that follows", async () => {
    const socket = await server.connect();
    const seen = collect(socket, "news");
    for (let i = 0; i < 100; i++) {
      socket.emit("join", `quick-${i}`);
      socket.emit("bcast", { via: "io", to: `quick-${i}` }, "news", [i]);
      socket.emit("leave", `quick-${i}`);
    }
    await until(() => seen.length === 100, "100 broadcasts to oneself");
    assert.deepEqual(seen.map(([i]) => i), Array.from({ length: 100 }, (_, i) => i));
  });

  check("binary values reach every receiver over every transport", async () => {
    const sockets = await crowd({ a: ["bin"], b: ["bin"], c: ["bin"] });
    const seen = Object.values(sockets).map((socket) => collect(socket, "blob"));
    const data = Buffer.from([0, 0x1e, 0x80, 0xff]);
    await ask(sockets.a, "bcast", { via: "io", to: "bin" }, "blob", [{ data }, data]);
    await until(() => seen.every((list) => list.length === 1), "a blob at each");
    for (const [args] of seen) assert.deepEqual(args, [{ data }, data]);
  });

  check("a volatile broadcast reaches clients that are ready for it", async () => {
    const sockets = await crowd({ a: ["v"], b: ["v"], c: ["v"] });
    const seen = Object.values(sockets).map((socket) => collect(socket, "tick"));
    // A polling client is not ready between two polls, so one try is not enough for it.
    await until(async () => {
      await ask(sockets.a, "bcast", { via: "io", to: "v", volatile: true }, "tick", []);
      await settle(...Object.values(sockets));
      return seen.every((list) => list.length > 0);
    }, "a volatile event at each");
  });

  check("odd room names are names like any other", async () => {
    const sockets = await crowd({ a: [], b: [] });
    for (const room of ["", "__proto__", "a,b", "/", "ü 日本", "x".repeat(5_000), "\x00"]) {
      await ask(sockets.b, "join", room);
      await heard(sockets, sockets.a, { via: "io", to: room }, "b");
      await ask(sockets.b, "leave", room);
    }
  });

  check("many sockets join, leave and are disconnected at once, and what is emitted behind it sees it", async () => {
    const sockets = await crowd({ a: ["r1"], b: ["r1", "r2"], c: ["r2"], d: [] });
    const { a, b, c, d } = sockets;
    assert.equal(await ask(d, "util", "join", { in: ["r1", "r2"], except: "r2", rooms: ["r3", "r4"] }), "ok");
    await heard(sockets, d, { via: "io", to: "r3" }, "a");
    assert.equal(await ask(d, "util", "join", { rooms: "all" }), "ok");
    await heard(sockets, d, { via: "io", to: "all" }, "abcd");
    assert.equal(await ask(d, "util", "leave", { in: "r2", rooms: ["all", "r2"] }), "ok");
    await heard(sockets, d, { via: "io", to: "all" }, "ad");
    await heard(sockets, d, { via: "io", to: "r2" }, "");
    const reasons = [collect(b, "disconnect"), collect(c, "disconnect")];
    assert.equal(await ask(d, "util", "disconnect", { except: ["r4", d.id], close: true }), "ok");
    await until(() => reasons.every((events) => events.length === 1), "both are gone");
    for (const [[reason]] of reasons) assert.equal(reason, "io server disconnect");
    assert.ok(a.connected && d.connected);
  });

  check("counts go back to where they were after everyone left", async () => {
    const watcher = await server.connect();
    const alone = { engine: 1, sockets: 1, rooms: 1 };
    await statsBecome(watcher, alone);
    const crowded = [];
    for (let i = 0; i < 12; i++) {
      const socket = await server.connect({ mode: modes[i % modes.length] });
      await ask(socket, "join", ["everyone", `own-${i}`]);
      crowded.push(socket);
    }
    assert.deepEqual(await ask(watcher, "stats"), { engine: 13, sockets: 13, rooms: 13 + 1 + 12 });
    crowded.forEach((socket, i) => {
      if (i % 3 === 0) socket.disconnect();
      else if (i % 3 === 1) socket.io.engine.close();
      else socket.emit("kick", i % 2 === 0);
    });
    // `kick` without closing leaves the connection to the client, which closes it by itself.
    await statsBecome(watcher, alone);
  });
});
