// What goes in comes out: every kind of argument, with and without an acknowledgement, over every transport.

import assert from "node:assert/strict";
import { ask, call, check, collect, eachSubject, engineUpgrade, modes, next, settle } from "./harness.mjs";

const argumentLists = {
  "no arguments": [],
  "null": [null],
  "booleans": [true, false],
  "numbers": [0, -0.5, 1e21, 1e-7, 123456789012345680000, Number.MAX_SAFE_INTEGER, 5e-324, 1.7976931348623157e308],
  "empty values": ["", [], {}],
  "nested values": [{ a: [1, { b: [null, { c: "d" }] }] }, [[[]]]],
  "unicode": ["ŭñíçødé €uro 日本語 עברית 👩‍👩‍👧‍👦 \u{10ffff}", { "ключ": "значение" }],
  "separators and control characters": ["\x00\x01\x1e\x1f\x7f\u2028\u2029\ufeff", "\r\n\t\b\f\\\"/"],
  "what looks like protocol": ["451-[\"x\"]", "[", "0{\"sid\":1}", { _placeholder: false, num: 0 }],
  "special keys": [JSON.parse('{"__proto__":1,"constructor":2,"":3,"toString":4,"0":5}')],
  "key order": [{ z: 1, a: 2, m: 3 }],
  "twenty arguments": Array.from({ length: 20 }, (_, i) => i),
  "a long text": ["x".repeat(100_000)],
  "ten thousand numbers": [Array.from({ length: 10_000 }, (_, i) => i)],
};

const binaryLists = {
  "one binary": [Buffer.from([0, 1, 2, 253, 254, 255])],
  "an empty binary": [Buffer.alloc(0)],
  "binary between texts": ["before", Buffer.from("middle"), "after"],
  "nested binary": [{ a: { b: [1, Buffer.from([7]), { c: Buffer.from([8, 9]) }] } }],
  "ten binaries": Array.from({ length: 10 }, (_, i) => Buffer.alloc(i * 100, i)),
  "the same binary twice": ((same) => [same, [same]])(Buffer.from("same")),
  "a large binary": [Buffer.alloc(300_000, 0xa5)],
  "binary next to odd texts": [Buffer.from("b"), "\x1e", "ü"],
};

// Valid JSON from a browser, although no valid Unicode. Over WebSocket each end must escape them to get them across.
const loneSurrogates = ["\ud800", "\udc00", "a\ud83db", "\ude00\ud83d", { "\udfff": "\ud8ff" }];

const oddNames = {
  "empty": "",
  "NUL": "\x00",
  "very long": "e".repeat(20_000),
  "__proto__": "__proto__",
  "constructor": "constructor",
  "hasOwnProperty": "hasOwnProperty",
  "quotes and backslashes": "\"\\\"\\u0041/",
  "separators": "a\x1eb,c/d[e]{f}\u2028\r\n",
  "beyond ASCII": "événement 日本 👋",
  "error": "error",
  "a digit": "42",
  "white space": "  \t",
};

eachSubject("echo", (server) => {
  for (const mode of modes) {
    check(`arguments come back in the acknowledgement (${mode})`, async () => {
      const socket = await server.connect({ mode });
      for (const [name, args] of Object.entries(argumentLists)) {
        assert.deepEqual(await call(socket, "echo", ...args), args, name);
      }
    });

    check(`arguments come back as an event (${mode})`, async () => {
      const socket = await server.connect({ mode });
      for (const [name, args] of Object.entries(argumentLists)) {
        const answer = next(socket, "echo");
        socket.emit("echo", ...args);
        assert.deepEqual(await answer, args, name);
      }
    });

    check(`binary values come back in the acknowledgement and as an event (${mode})`, async () => {
      const socket = await server.connect({ mode });
      for (const [name, args] of Object.entries(binaryLists)) {
        assert.deepEqual(await call(socket, "echo", ...args), args, name);
        const answer = next(socket, "echo");
        socket.emit("echo", ...args);
        assert.deepEqual(await answer, args, name);
      }
    });

    check(`the server counts binary values at any depth (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const five = Buffer.alloc(5);
      assert.deepEqual(await ask(socket, "bin-info"), { count: 0, bytes: 0 });
      assert.deepEqual(await ask(socket, "bin-info", "no", { a: [1] }), { count: 0, bytes: 0 });
      assert.deepEqual(await ask(socket, "bin-info", five, { a: [five, { b: five }] }), { count: 3, bytes: 15 });
    });

    check(`lone surrogates do not end the connection (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const answer = await call(socket, "echo", ...loneSurrogates);
      // JSON.stringify escapes them on the way in. A server may hand them back or put U+FFFD in their place, since text
      // on the wire is UTF-8, which cannot carry them; it may not lose the event or anything else in it.
      const lossy = (text) => text.replace(/\p{Surrogate}/gu, "\ufffd");
      const tolerant = (value) => JSON.parse(lossy(JSON.stringify(value).replace(/\\ud[89a-f][0-9a-f]{2}/gi, "\ufffd")));
      assert.deepEqual(tolerant(answer), tolerant(loneSurrogates));
      assert.equal(await ask(socket, "echo", "alive"), "alive");
    });

    check(`two thousand random numbers come back bit by bit (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const numbers = randomDoubles(2_000);
      const answer = await ask(socket, "echo", numbers);
      const different = numbers.filter((number, i) => !Object.is(number, answer[i]));
      assert.deepEqual(different, []);
    });

    check(`events of any name reach the server (${mode})`, async () => {
      const socket = await server.connect({ mode });
      for (const [name, event] of Object.entries(oddNames)) {
        const answer = next(socket, "unhandled");
        socket.emit(event, 1, "two");
        assert.deepEqual(await answer, [event, 1, "two"], name);
      }
    });

    check(`events of any name reach the client (${mode})`, async () => {
      const socket = await server.connect({ mode });
      const seen = [];
      socket.onAny((event, ...args) => seen.push([event, ...args]));
      for (const event of Object.values(oddNames)) await ask(socket, "bcast", { via: "io", to: socket.id }, event, [1]);
      await settle(socket);
      assert.deepEqual(seen, Object.values(oddNames).map((event) => [event, 1]));
    });
  }

  check("an acknowledged echo is answered by the acknowledgement alone", async () => {
    const socket = await server.connect();
    const events = collect(socket, "echo");
    await call(socket, "echo", "once");
    await settle(socket);
    assert.deepEqual(events, []);
  });

  check("an event without a handler asked for an acknowledgement gets none", async () => {
    const socket = await server.connect();
    const answer = next(socket, "unhandled");
    await assert.rejects(socket.timeout(150).emitWithAck("nobody-listens", 1), /timed out/);
    assert.deepEqual(await answer, ["nobody-listens", 1]);
  });

  check("many acknowledgements in flight find their way back", async () => {
    const socket = await server.connect();
    const answers = await Promise.all(Array.from({ length: 500 }, (_, i) => ask(socket, "echo", i, Buffer.from([i % 256]))));
    assert.deepEqual(answers, Array.from({ length: 500 }, (_, i) => i));
  });

  check("binary values survive the upgrade that happens while they travel", async () => {
    const socket = await server.connect({ mode: "upgrade", upgradeAfter: 50 });
    let done = false;
    const upgraded = engineUpgrade(socket).then(() => { done = true; });
    for (let round = 0; !done || round < 3; round++) {
      const values = Array.from({ length: 50 }, (_, i) => ({ i, data: Buffer.alloc(i * 20, i) }));
      assert.deepEqual(await Promise.all(values.map((value) => ask(socket, "echo", value))), values);
    }
    await upgraded;
    assert.equal((await ask(socket, "whoami")).transport, "websocket");
  });
});

/** Finite doubles of every size, the same at each run. */
function randomDoubles(count) {
  let state = 0x9e3779b9;
  const word = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  const numbers = [];
  const view = new DataView(new ArrayBuffer(8));
  while (numbers.length < count) {
    view.setUint32(0, word());
    view.setUint32(4, word());
    const number = view.getFloat64(0);
    // Negative zero is `0` in JSON, the others would be `null`.
    if (Number.isFinite(number) && !Object.is(number, -0)) numbers.push(number);
  }
  return numbers;
}
