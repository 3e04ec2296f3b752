// Packets that break the protocol end their own connection, and only that; odd ones that do not break it are taken.

import assert from "node:assert/strict";
import { ask, check, eachSubject, sleep, until } from "./harness.mjs";
import { PollingSession, RawSocket, SEPARATOR, slowRequest } from "./wire.mjs";

const bytes = Buffer.from([1, 2, 3]);

/** Messages of a client that has joined `/`, each list as it goes over the wire after the type digit of Engine.IO. */
const broken = {
  // Types
  "an unknown type": ["7"],
  "a letter as type": ["x"],
  "a sign as type": ["-1"],
  "no packet at all": [""],

  // Attachments
  "text while attachments are awaited": ['51-["noop",{"_placeholder":true,"num":0}]', '2["noop"]'],
  "binary that nobody announced": [bytes],
  "binary after the last one": ['51-["noop",{"_placeholder":true,"num":0}]', bytes, bytes],
  "no attachment count": ['5["noop"]'],
  "no attachment count before the dash": ['5-["noop"]'],
  "an attachment count without a dash": ['51["noop"]'],
  "an attachment count of zero": ['50-["noop"]'],
  "a negative attachment count": ['5-1-["noop"]'],
  "a fractional attachment count": ['51.5-["noop",{"_placeholder":true,"num":0}]'],
  "an attachment count that is no number": ['5one-["noop"]'],
  "eleven attachments": [`511-${JSON.stringify(["noop", ...placeholders(11)])}`],
  "very many attachments": ['599999999999999999999-["noop"]'],
  "a placeholder out of range": ['51-["noop",{"_placeholder":true,"num":1}]', bytes],
  "a negative placeholder": ['51-["noop",{"_placeholder":true,"num":-1}]', bytes],
  "a placeholder that is text": ['51-["noop",{"_placeholder":true,"num":"0"}]', bytes],
  "a placeholder without a number": ['51-["noop",{"_placeholder":true}]', bytes],
  "a binary event that is no array": ['51-{"_placeholder":true,"num":0}', bytes],
  "a binary acknowledgement that is no array": ['61-0{"_placeholder":true,"num":0}', bytes],

  // JSON
  "truncated JSON": ['2["noop"'],
  "a bracket too many": ['2["noop"]]'],
  "text behind the JSON": ['2["noop"]x'],
  "a comma at the end": ['2["noop",]'],
  "a bare word": ["2[noop]"],
  "single quotes": ["2['noop']"],
  "an unknown escape": ['2["noop","\\x"]'],
  "a raw line break in a text": ['2["noop","a\nb"]'],
  "NaN": ['2["noop",NaN]'],
  "a leading zero": ['2["noop",01]'],
  "a number without digits behind the point": ['2["noop",1.]'],
  "a missing comma": ['2["noop" 1]'],
  "a comment": ['2["noop"/**/]'],

  // Shapes
  "an event that is an object": ["2{}"],
  "an event that is a text": ['2"noop"'],
  "an event that is null": ["2null"],
  "an event without a name": ["2[]"],
  "an event named null": ["2[null]"],
  "an event named true": ["2[true]"],
  "an event named by an object": ["2[{}]"],
  "an event named by an array": ['2[["noop"]]'],
  "an acknowledgement that is an object": ["30{}"],
  "an acknowledgement that is a text": ['30"x"'],
  "an acknowledgement that is null": ["30null"],
  "a goodbye with an object": ["1{}"],
  "a goodbye with an array": ["1[]"],
  "a goodbye with text behind it": ["1bye"],
  "letters where the acknowledgement number should be": ['2x["noop"]'],
  "a fractional acknowledgement number": ['21.5["noop"]'],
  "a negative acknowledgement number": ['2-1["noop"]'],

  // Reserved names
  "the event connect": ['2["connect"]'],
  "the event connect_error": ['2["connect_error"]'],
  "the event disconnect": ['2["disconnect"]'],
  "the event disconnecting": ['2["disconnecting"]'],
  "the event newListener": ['2["newListener"]'],
  "the event removeListener": ['2["removeListener"]'],
  "a reserved name in escapes": ['2["\\u0063onnect"]'],
  "a reserved name in a binary event": ['51-["connect",{"_placeholder":true,"num":0}]', bytes],

  // State
  "a second join": ["0"],
  "a second join with auth": ['0{"token":"x"}'],
  "auth that is an array": ["0/custom,[]"],
  "auth that is a text": ['0/custom,"token"'],
  "auth that is null": ["0/custom,null"],
  "truncated auth": ['0/custom,{"token":"go'],
  "a connect error from a client": ['4{"message":"no"}'],
  "an event for a namespace that was not joined": ['2/custom,["noop"]'],
  "an acknowledgement for a namespace that was not joined": ["3/custom,0[]"],
  "a goodbye to a namespace that was not joined": ["1/custom,"],
  "an event for a namespace that does not exist": ['2/nowhere,["noop"]'],
};

/** Odd messages that are taken; each may be answered by anything. */
const odd = {
  "an event without payload": ["2"],
  "an acknowledgement without payload": ["30"],
  "an acknowledgement without number and payload": ["3"],
  "an acknowledgement of something never asked": ['399["x"]'],
  "an event with a number as name": ["2[7,8]"],
  "the main namespace by name": ['2/,["noop"]'],
  "a join without the comma": ["0/custom"],
  "a join with a refusal": ["0/nowhere,"],
  "white space in the JSON": ['2[ "noop" ,\n\t1 ]'],
  "duplicate keys": ['2["noop",{"a":1,"a":2}]'],
  "a placeholder in an event without attachments": ['2["noop",{"_placeholder":true,"num":0}]'],
  "ten attachments": [`510-${JSON.stringify(["noop", ...placeholders(10)])}`, ...Array(10).fill(bytes)],
  "an empty attachment": ['51-["noop",{"_placeholder":true,"num":0}]', Buffer.alloc(0)],
  "very large numbers": ['2["noop",1e400,-1e400,1e-400,123456789012345678901234567890]'],
};

/** Messages whose attachments do not match their placeholders; the npm server takes them, a strict one need not. */
const disputed = {
  "an attachment that is used twice": ['51-["noop",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]', bytes],
  "an attachment that is not used": ['51-["noop"]', bytes],
};

eachSubject("malformed packets", (server) => {
  /** What the server calls the way in which socket `id` left, asked by someone who stayed. */
  async function departure(watcher, id) {
    return until(() => ask(watcher, "last-disconnect", id), `the departure of ${id}`);
  }

  for (const [what, messages] of Object.entries(broken)) {
    check(`${what} ends its connection and no other`, async () => {
      const watcher = await server.connect();
      const bystander = await RawSocket.connected(server);
      const raw = await RawSocket.connected(server);
      for (const message of messages) raw.send(typeof message === "string" ? `4${message}` : message);
      await raw.end();
      assert.deepEqual(raw.unread, [], "nothing is said before the end");
      assert.equal(await departure(watcher, raw.id), "forced close");
      await bystander.roundTrip();
    });
  }

  for (const [what, messages] of Object.entries(odd)) {
    check(`${what} is taken`, async () => {
      const raw = await RawSocket.connected(server);
      for (const message of messages) raw.send(typeof message === "string" ? `4${message}` : message);
      await raw.roundTrip();
    });
  }

  for (const [what, messages] of Object.entries(disputed)) {
    check(`${what} is taken or ends its connection, at once and no other`, async () => {
      const bystander = await RawSocket.connected(server);
      const raw = await RawSocket.connected(server);
      for (const message of messages) raw.send(typeof message === "string" ? `4${message}` : message);
      await Promise.race([raw.end(), raw.roundTrip()]);
      await bystander.roundTrip();
    });
  }

  for (const what of [
    "an unknown type",
    "no packet at all",
    "binary that nobody announced",
    "an attachment count of zero",
    "a placeholder out of range",
    "truncated JSON",
    "an event without a name",
    "the event disconnect",
    "an acknowledgement that is null",
  ]) {
    check(`${what} over polling is answered with ok and ends the session`, async () => {
      const watcher = await server.connect();
      const session = await PollingSession.open(server);
      const id = await session.connect();
      const payload = broken[what].map((message) => typeof message === "string" ? `4${message}` : `b${message.toString("base64")}`);
      const poll = await session.park();
      const { status, body } = await session.post(payload.join(SEPARATOR));
      assert.deepEqual({ status, body }, { status: 200, body: "ok" });
      assert.equal((await poll.answer).body, "1");
      await session.gone();
      assert.equal(await departure(watcher, id), "forced close");
    });
  }

  for (const [what, packet] of [
    ["a second join", "40"],
    ["a connect error from a client", '44{"message":"no"}'],
    ["an event for a namespace that was not joined", '42/custom,["noop"]'],
  ]) {
    check(`${what} over polling ends the session, also between two polls`, async () => {
      const watcher = await server.connect();
      const session = await PollingSession.open(server);
      const id = await session.connect();
      assert.equal((await session.post(packet)).body, "ok");
      // The session could not be told yet, hence not `forced close`: it ended from above.
      assert.equal(await departure(watcher, id), "forced server close");
      assert.deepEqual((await session.poll()).at(-1), "1");
      await session.gone();
    });
  }

  for (const [what, packet] of [
    ["an event", '42["noop"]'],
    ["an acknowledgement", "430[]"],
    ["a goodbye", "41"],
    ["a connect error", '44{"message":"no"}'],
    ["a packet of unknown type", "47"],
    ["binary", bytes],
    ["auth that is a list", "40[]"],
    ["an event for another namespace", '42/custom,["noop"]'],
  ]) {
    check(`${what} before any namespace was joined ends the connection`, async () => {
      const raw = await RawSocket.session(server);
      raw.send(packet);
      await raw.end();
      assert.deepEqual(raw.unread, []);
    });
  }

  for (const [what, message] of [["an unknown packet type", "7"], ["a letter", "x"], ["an empty message", ""]]) {
    check(`${what} of Engine.IO over WebSocket is a parse error`, async () => {
      const watcher = await server.connect();
      const raw = await RawSocket.connected(server);
      raw.send(message);
      await raw.end();
      assert.equal(await departure(watcher, raw.id), "parse error");
    });
  }

  check("a broken packet ends all namespaces of its connection", async () => {
    const watcher = await server.connect({ nsp: "/custom" });
    const raw = await RawSocket.connected(server);
    raw.send("40/custom,");
    const answer = await raw.next();
    const { sid } = JSON.parse(answer.slice(answer.indexOf("{")));
    raw.send("42broken");
    await raw.end();
    assert.equal(await departure(watcher, sid), "forced close");
  });

  check("names in escapes are read before anything is decided by them", async () => {
    const raw = await RawSocket.connected(server);
    raw.send('425["\\u0065ch\\u006f","\\u00fc\\ud83d\\ude00"]');
    const answer = await raw.next();
    assert.match(answer, /^435\[/);
    assert.deepEqual(JSON.parse(answer.slice(3)), ["ü😀"]);
  });

  check("values nested a hundred thousand deep harm nobody else", async () => {
    const bystander = await RawSocket.connected(server);
    const deep = "[".repeat(100_000) + "]".repeat(100_000);
    const objects = '{"a":'.repeat(100_000) + "1" + "}".repeat(100_000);
    for (const packet of [`42["noop",${deep}]`, `42["noop",${objects}]`, `43${deep}`, `40/custom,${objects}`, `42["noop",${deep.slice(1)}]`]) {
      const raw = await RawSocket.connected(server);
      // Taking it and ending the connection are both fine.
      raw.send(packet);
      await Promise.race([raw.closed, raw.roundTrip().catch(() => {})]);
      await bystander.roundTrip();
    }
  });

  check("a packet whose attachments never come keeps nobody waiting", async () => {
    const bystander = await RawSocket.connected(server);
    for (let i = 0; i < 20; i++) {
      const raw = await RawSocket.connected(server);
      raw.send('4510-["noop",{"_placeholder":true,"num":0}]');
      raw.terminate();
    }
    await bystander.roundTrip();
  });

  check("a body without end is cut at the limit", async () => {
    const bystander = await RawSocket.connected(server);
    const session = await PollingSession.open(server);
    await session.connect();
    const post = slowRequest(server, session.target);
    let over = false;
    const answer = post.answer.then(({ status }) => status, () => "cut").finally(() => { over = true; });
    for (let i = 0; i < 100 && !over; i++) {
      post.write(Buffer.alloc(50_000, "x"));
      await sleep(1);
    }
    assert.ok([413, "cut"].includes(await answer));
    post.abort();
    await bystander.roundTrip();
  });

  check("a connection that ends inside a frame harms nobody else", async () => {
    const bystander = await RawSocket.connected(server);
    for (const bytesOfFrame of [[0x81], [0x81, 0xfe], [0x81, 0xfe, 0x10], [0x81, 0x85, 1, 2, 3, 4, 5]]) {
      const raw = await RawSocket.connected(server);
      raw.socket._socket.end(Buffer.from(bytesOfFrame));
      await raw.end();
    }
    await bystander.roundTrip();
  });
});

function placeholders(count) {
  return Array.from({ length: count }, (_, num) => ({ _placeholder: true, num }));
}
