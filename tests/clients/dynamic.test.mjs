// Namespaces that are made when somebody asks for them, and their parent.

import assert from "node:assert/strict";
import { ask, check, collect, eachSubject, modes, next, settle, statsBecome, until } from "./harness.mjs";

eachSubject("dynamic namespaces", (server) => {
  for (const mode of modes) {
    check(`a name that matches is made for whoever asks (${mode})`, async () => {
      for (const nsp of ["/dyn-1", "/dyn-007", `/dyn-${"9".repeat(60)}`]) {
        const socket = await server.connect({ mode, nsp });
        const { nsp: name, rooms } = await ask(socket, "whoami");
        assert.deepEqual({ name, rooms }, { name: nsp, rooms: [socket.id] });
        assert.equal(await ask(socket, "echo", "there"), "there");
      }
    });
  }

  check("a name that matches only in part is refused", async () => {
    const main = await server.connect();
    for (const nsp of ["/dyn-", "/dyn-1x", "/xdyn-1", "/dyn-1/2", "/x/dyn-1", "/DYN-1", "/dyn-1\n", "/dyn- 1", "/dyn-١"]) {
      await assert.rejects(server.join(main, nsp), (error) => {
        assert.equal(error.message, "Invalid namespace", nsp);
        assert.equal(error.data, undefined);
        return true;
      });
    }
    assert.equal(await ask(main, "echo", "still here"), "still here");
  });

  check("those who ask for one name meet, those who ask for another do not hear them", async () => {
    const sockets = [];
    for (const [i, nsp] of ["/dyn-21", "/dyn-21", "/dyn-22"].entries()) sockets.push(await server.connect({ nsp, mode: modes[i] }));
    const [one, two, other] = sockets;
    const heard = sockets.map((socket) => collect(socket, "news"));
    for (const socket of sockets) await ask(socket, "join", "shared");
    await ask(one, "bcast", { via: "socket", to: "shared" }, "news", [1]);
    await ask(one, "bcast", { via: "io" }, "news", [2]);
    await until(() => heard[1].length === 2 && heard[0].length === 1, "the news");
    await settle(...sockets);
    assert.deepEqual(heard, [[[2]], [[1], [2]], []]);
    const ids = (await ask(two, "util", "fetch", {})).map(({ id }) => id);
    assert.deepEqual(ids.sort(), [one.id, two.id].sort());
    assert.deepEqual((await ask(other, "util", "fetch", {})).map(({ id }) => id), [other.id]);
    await statsBecome(two, { sockets: 2, rooms: 3 });
    await statsBecome(other, { sockets: 1, rooms: 2 });
  });

  check("what is sent to the parent reaches everyone in all of them, and nobody else", async () => {
    const main = await server.connect();
    const custom = await server.join(main, "/custom");
    const made = [];
    // Several of one connection, several connections in one, over every transport.
    for (const mode of modes) {
      const socket = await server.connect({ mode, nsp: "/dyn-31" });
      made.push(socket, await server.join(socket, "/dyn-32"), await server.join(socket, `/dyn-33${modes.indexOf(mode)}`));
    }
    const sockets = [main, custom, ...made];
    const heard = sockets.map((socket) => collect(socket, "news"));
    const data = Buffer.from([0, 1, 0xff]);
    // Whoever asks, in or out of them.
    const rounds = [[main, []], [custom, ["text", { a: [1] }]], [made[0], [data, { data }]]];
    for (const [sender, args] of rounds) assert.equal(await ask(sender, "parent-emit", "news", ...args), "ok");
    await until(() => heard.slice(2).every((list) => list.length >= rounds.length), "the news at all");
    await settle(...sockets);
    const expected = rounds.map(([, args]) => args);
    for (const [i, list] of heard.entries()) assert.deepEqual(list, i < 2 ? [] : expected, sockets[i].nsp);
    // Who has left hears no more.
    made[0].disconnect();
    await ask(main, "parent-emit", "news", "later");
    await until(() => heard.slice(3).every((list) => list.length === rounds.length + 1), "the last news");
    assert.equal(heard[2].length, rounds.length);
  });

  check("what is sent to the parent when there is nobody is sent to nobody", async () => {
    const main = await server.connect();
    assert.equal(await ask(main, "parent-emit", "news", 1), "ok");
    const late = await server.connect({ nsp: "/dyn-41" });
    const heard = collect(late, "news");
    await settle(late);
    assert.deepEqual(heard, []);
  });

  check("each of them knows who left it, and why", async () => {
    const watcher = await server.connect({ nsp: "/dyn-51" });
    const other = await server.connect({ nsp: "/dyn-52" });
    for (const [reason, end] of [
      ["client namespace disconnect", (socket) => socket.disconnect()],
      ["server namespace disconnect", (socket) => socket.emit("kick", false)],
      ["transport close", (socket) => socket.io.engine.close()],
    ]) {
      const socket = await server.connect({ nsp: "/dyn-51" });
      const { id } = socket;
      end(socket);
      const left = await until(() => ask(watcher, "last-disconnect", id), "the departure");
      assert.equal(left, reason);
      assert.equal(await ask(other, "last-disconnect", id), null);
    }
  });

  check("a per-packet check and unknown events are theirs as well", async () => {
    const socket = await server.connect({ nsp: "/dyn-61" });
    const refused = next(socket, "mw-error");
    socket.emit("forbidden", 1);
    assert.deepEqual(await refused, ["event refused"]);
    const unhandled = next(socket, "unhandled");
    socket.emit("whatever", 1);
    assert.deepEqual(await unhandled, ["whatever", 1]);
  });

  check("where they are forgotten, they are gone with their last socket and made again", async () => {
    const path = "/hooked/";
    const main = await server.connect({ path });
    const children = () => ask(main, "children");
    assert.deepEqual(await children(), []);
    const one = await server.connect({ path, nsp: "/dyn-1" });
    const two = await server.connect({ path, nsp: "/dyn-1" });
    const three = await server.join(one, "/dyn-2");
    assert.deepEqual(await children(), ["/dyn-1", "/dyn-2"]);
    one.disconnect();
    three.disconnect();
    await until(async () => (await children()).length === 1, "the end of the empty one");
    assert.deepEqual(await children(), ["/dyn-1"]);
    two.io.engine.close();
    await until(async () => (await children()).length === 0, "the end of the other");
    await server.connect({ path, nsp: "/dyn-2" });
    assert.deepEqual(await children(), ["/dyn-2"]);
  });

  check("where they are kept, those who come back find them", async () => {
    const first = await server.connect({ nsp: "/dyn-71" });
    const { id } = first;
    first.disconnect();
    const second = await server.connect({ nsp: "/dyn-71" });
    assert.equal(await until(() => ask(second, "last-disconnect", id), "the departure"), "client namespace disconnect");
  });
});
