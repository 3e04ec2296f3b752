// Who gets into which namespace, under which ids, and what the handshake says about it.

import assert from "node:assert/strict";
import { ask, check, eachSubject, modes, opened, statsBecome } from "./harness.mjs";

eachSubject("namespaces", (server) => {
  for (const mode of modes) {
    check(`open namespaces are joined by anyone (${mode})`, async () => {
      for (const nsp of ["/", "/custom"]) {
        const socket = await server.connect({ mode, nsp });
        assert.equal((await ask(socket, "whoami")).nsp, nsp);
      }
    });

    check(`an unknown namespace is refused and the others of the connection stay (${mode})`, async () => {
      const socket = await server.connect({ mode });
      await assert.rejects(server.join(socket, "/nowhere"), (error) => {
        assert.equal(error.message, "Invalid namespace");
        assert.equal(error.data, undefined);
        return true;
      });
      assert.equal(await ask(socket, "echo", 1), 1);
    });

    check(`the first check of a guarded namespace refuses with message and data (${mode})`, async () => {
      for (const auth of [undefined, {}, { token: "bad" }, { token: ["good"] }, { token: "bad", delay: 30 }]) {
        await assert.rejects(server.connect({ mode, nsp: "/auth", auth }), (error) => {
          assert.equal(error.message, "not authorized");
          assert.deepEqual(error.data, { code: 401, hint: "token" });
          return true;
        });
      }
    });

    check(`the second check of a guarded namespace refuses with a message alone (${mode})`, async () => {
      const auth = { token: "good", banned: true };
      await assert.rejects(server.connect({ mode, nsp: "/auth", auth }), (error) => {
        assert.equal(error.message, "banned");
        assert.equal(error.data, undefined);
        return true;
      });
    });

    check(`a guarded namespace opens when both checks pass, also after a wait (${mode})`, async () => {
      for (const delay of [0, 50]) {
        const auth = { token: "good", delay };
        const socket = await server.connect({ mode, nsp: "/auth", auth });
        assert.deepEqual((await ask(socket, "whoami")).auth, auth);
      }
    });

    check(`the socket id is not the session id and differs per namespace (${mode})`, async () => {
      const main = await server.connect({ mode });
      const custom = await server.join(main, "/custom");
      const ids = [main.io.engine.id, main.id, custom.id];
      assert.equal(new Set(ids).size, 3, `${ids}`);
      assert.equal((await ask(main, "whoami")).id, main.id);
      assert.equal((await ask(custom, "whoami")).id, custom.id);
    });

    check(`whoami describes the connection (${mode})`, async () => {
      const auth = { user: "ada", nested: { list: [1, null, "x"] } };
      const query = { plain: "1", "odd & key=": "a b&c=d/ü" };
      const socket = await server.connect({ mode, auth, query });
      const { query: seen, ...rest } = await ask(socket, "whoami");
      assert.deepEqual(rest, {
        id: socket.id,
        nsp: "/",
        rooms: [socket.id],
        recovered: false,
        transport: mode === "polling" ? "polling" : "websocket",
        eio: 4,
        auth,
        data: {},
      });
      assert.equal(seen.plain, "1");
      assert.equal(seen["odd & key="], "a b&c=d/ü");
      assert.equal(seen.EIO, "4");
      // The query is the one of the first request, before any upgrade.
      assert.equal(seen.transport, mode === "websocket" ? "websocket" : "polling");
    });
  }

  check("a connection without auth has an empty auth object", async () => {
    const socket = await server.connect();
    assert.deepEqual((await ask(socket, "whoami")).auth, {});
  });

  check("several namespaces share one connection and do not hear each other", async () => {
    const main = await server.connect();
    const custom = await server.join(main, "/custom");
    const auth = await server.join(main, "/auth", { auth: { token: "good" } });
    const answers = await Promise.all([main, custom, auth].map((socket, i) => ask(socket, "echo", i)));
    assert.deepEqual(answers, [0, 1, 2]);
    await statsBecome(main, { engine: 1 });
    custom.on("seq", () => assert.fail("an event of another namespace"));
    await ask(main, "burst", 3, 1);
    await ask(custom, "echo");
  });

  check("a refused socket may try again over the same connection", async () => {
    const main = await server.connect();
    const auth = main.io.socket("/auth", { auth: { token: "bad" } });
    await assert.rejects(opened(auth), /not authorized/);
    auth.auth = { token: "good" };
    auth.connect();
    await opened(auth);
    await statsBecome(main, { engine: 1 });
  });

  check("socket data is kept per socket", async () => {
    const [one, two] = [await server.connect(), await server.connect()];
    assert.equal(await ask(one, "set-data", { a: 1, b: { c: 2 } }), "ok");
    assert.equal(await ask(one, "set-data", { a: 3 }), "ok");
    assert.deepEqual((await ask(one, "whoami")).data, { a: 3, b: { c: 2 } });
    assert.deepEqual((await ask(two, "whoami")).data, {});
  });

  check("a socket left out of every namespace is not counted", async () => {
    const watcher = await server.connect({ nsp: "/custom" });
    await assert.rejects(server.connect({ nsp: "/nowhere" }));
    await assert.rejects(server.connect({ nsp: "/auth" }));
    await statsBecome(watcher, { sockets: 1 });
  });
});
