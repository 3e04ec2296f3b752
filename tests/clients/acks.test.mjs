// Acknowledgements in both directions: one answer, a late one, too many, none, and broadcasts that collect them.

import assert from "node:assert/strict";
import { ask, call, check, eachSubject, modes, settle, timed } from "./harness.mjs";
import { RawSocket } from "./wire.mjs";

eachSubject("acknowledgements", (server) => {
  for (const mode of modes) {
    check(`the server asks and gets the client's answer (${mode})`, async () => {
      const socket = await server.connect({ mode });
      socket.on("question", (...args) => args.pop()("answer", ...args));
      assert.deepEqual(await call(socket, "ask", "question", 10_000, [1, { two: 2 }]), [null, "answer", 1, { two: 2 }]);
    });

    check(`an answer may be empty, binary or both (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const data = Buffer.from([1, 2, 3]);
      socket.on("empty", (ack) => ack());
      socket.on("binary", (ack) => ack(data, { inside: [data] }));
      assert.deepEqual(await call(socket, "ask", "empty", 10_000, []), [null]);
      assert.deepEqual(await call(socket, "ask", "binary", 10_000, []), [null, data, { inside: [data] }]);
    });

    check(`a binary question gets an answer (${mode})`, async () => {
      const socket = await server.connect({ mode });
      socket.on("size", (data, ack) => ack(data.length));
      assert.deepEqual(await call(socket, "ask", "size", 10_000, [Buffer.alloc(1_000)]), [null, 1_000]);
    });

    check(`the server stops waiting after the time-out (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const late = [];
      socket.on("ignored", (ack) => late.push(ack));
      const ms = await timed(call(socket, "ask", "ignored", 150, []).then((answer) => assert.deepEqual(answer, ["timeout"])));
      assert.ok(ms >= 140, `${ms} ms`);
      // An answer that comes after that is ignored.
      late[0]("too late");
      await settle(socket);
    });

    check(`an answer may come late and out of turn (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const order = [];
      const slow = ask(socket, "late-ack", 500).then((answer) => order.push(answer));
      const quick = ask(socket, "echo", "quick").then((answer) => order.push(answer));
      await Promise.all([slow, quick]);
      assert.deepEqual(order, ["quick", "late"]);
    });

    check(`a broadcast collects the answers of all its targets (${mode})`, async () => {
      const sockets = [];
      for (let i = 0; i < 4; i++) {
        const socket = await server.connect({ mode });
        socket.on("vote", (about, ack) => ack(`${about}${i}`));
        await ask(socket, "join", "voters");
        sockets.push(socket);
      }
      const options = { via: "io", to: "voters", timeout: 10_000 };
      const [error, answers] = await call(sockets[0], "bcast-ack", options, "vote", ["v"]);
      assert.equal(error, null);
      assert.deepEqual(answers.sort(), ["v0", "v1", "v2", "v3"]);
      const [, others] = await call(sockets[0], "bcast-ack", { ...options, via: "socket" }, "vote", ["v"]);
      assert.deepEqual(others.sort(), ["v1", "v2", "v3"]);
    });
  }

  check("a broadcast whose targets stay silent gives the answers that came", async () => {
    const quiet = await server.connect();
    const talker = await server.connect();
    talker.on("vote", (ack) => ack("yes"));
    quiet.on("vote", () => {});
    await ask(quiet, "join", "mixed");
    await ask(talker, "join", "mixed");
    const options = { via: "io", to: "mixed", timeout: 1_500 };
    const ms = await timed(call(talker, "bcast-ack", options, "vote", []).then((answer) => {
      assert.deepEqual(answer, ["timeout", ["yes"]]);
    }));
    assert.ok(ms >= 1_490, `${ms} ms`);
  });

  check("a broadcast to nobody is answered at once", async () => {
    const socket = await server.connect();
    // The time-out lies beyond what `call` waits for.
    assert.deepEqual(await call(socket, "bcast-ack", { via: "io", to: "nobody", timeout: 60_000 }, "vote", []), [null, []]);
  });

  check("a target that leaves without answering counts as silent", async () => {
    const asker = await server.connect();
    const leaver = await server.connect();
    leaver.on("vote", () => leaver.disconnect());
    asker.on("vote", (ack) => ack("here"));
    const answer = await call(asker, "bcast-ack", { via: "io", timeout: 1_500 }, "vote", []);
    assert.deepEqual(answer, ["timeout", ["here"]]);
  });

  check("of several values that a target answers a broadcast keeps the first, binary included", async () => {
    const socket = await server.connect();
    socket.on("vote", (ack) => ack(Buffer.from("first"), "second"));
    const answer = await call(socket, "bcast-ack", { via: "io", timeout: 10_000 }, "vote", []);
    assert.deepEqual(answer, [null, [Buffer.from("first")]]);
  });

  check("only the first of two acknowledgements is sent", async () => {
    const raw = await RawSocket.connected(server);
    raw.send('425["double-ack"]');
    assert.equal(await raw.next(), '435["first"]');
    await raw.roundTrip();
    assert.deepEqual(raw.unread, []);
  });

  check("an acknowledgement that never comes runs into the client's time-out", async () => {
    const socket = await server.connect();
    await assert.rejects(socket.timeout(150).emitWithAck("no-ack"), /operation has timed out/);
    assert.equal(await ask(socket, "echo", "alive"), "alive");
  });

  check("acknowledgement numbers are echoed as they came, also large ones", async () => {
    const raw = await RawSocket.connected(server);
    for (const id of [0, 7, 4294967296, Number.MAX_SAFE_INTEGER]) {
      raw.send(`42${id}["echo","x"]`);
      assert.equal(await raw.next(), `43${id}["x"]`);
    }
  });

  check("an answer nobody asked for is ignored", async () => {
    const raw = await RawSocket.connected(server);
    raw.send('4399["unknown"]');
    raw.send('430["unknown"]');
    await raw.roundTrip();
  });

  check("what the server asks carries a number and the answer settles it once", async () => {
    const raw = await RawSocket.connected(server);
    raw.send('421["ask","q",10000,["x"]]');
    const question = await raw.next();
    const [, id] = /^42(\d+)\["q","x"\]$/.exec(question) ?? assert.fail(question);
    raw.send(`43${id}["a"]`);
    raw.send(`43${id}["b"]`);
    assert.equal(await raw.next(), '431[null,"a"]');
    await raw.roundTrip();
    assert.deepEqual(raw.unread, []);
  });
});
