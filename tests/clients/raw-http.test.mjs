// Engine.IO over plain HTTP, request by request: statuses, bodies, headers, and what a session survives.
//
// Statuses and bodies are those that the npm server was seen to give.

import assert from "node:assert/strict";
import { Agent } from "node:http";
import { check, eachSubject, PLAIN, sleep } from "./harness.mjs";
import { PollingSession, RawSocket, request, SEPARATOR, slowRequest } from "./wire.mjs";

const errors = {
  unknownTransport: { code: 0, message: "Transport unknown" },
  unknownSession: { code: 1, message: "Session ID unknown" },
  badHandshakeMethod: { code: 2, message: "Bad handshake method" },
  badRequest: { code: 3, message: "Bad request" },
  unsupportedVersion: { code: 5, message: "Unsupported protocol version" },
};

eachSubject("raw HTTP", (server) => {
  const get = (target, options) => request(server, target, options);
  const handshake = "/socket.io/?EIO=4&transport=polling";

  /** `{ status, body }` of an answer, the body parsed when it is JSON. */
  function outcome({ status, headers, body }) {
    return { status, body: headers["content-type"] === "application/json" ? JSON.parse(body) : body };
  }

  function refused(error) {
    return { status: 400, body: error };
  }

  // -------------------------------------------------------------------------------------------------------------------
  // Requests that are refused

  for (const [what, method, target, error] of [
    ["no transport", "GET", "/socket.io/?EIO=4", errors.unknownTransport],
    ["an empty transport", "GET", "/socket.io/?EIO=4&transport=", errors.unknownTransport],
    ["an unknown transport", "GET", "/socket.io/?EIO=4&transport=pigeon", errors.unknownTransport],
    ["a transport named like a built-in", "GET", "/socket.io/?EIO=4&transport=constructor", errors.unknownTransport],
    ["webtransport over HTTP", "GET", "/socket.io/?EIO=4&transport=webtransport", errors.unknownTransport],
    ["no query at all", "GET", "/socket.io/", errors.unknownTransport],
    ["a file that is not served", "GET", "/socket.io/nothing.js", errors.unknownTransport],
    ["an unknown transport before an unknown session", "GET", "/socket.io/?EIO=4&transport=pigeon&sid=x", errors.unknownTransport],
    ["an unknown session", "GET", `${handshake}&sid=abc`, errors.unknownSession],
    ["an unknown session, posted to", "POST", `${handshake}&sid=abc`, errors.unknownSession],
    ["a session named like a built-in", "GET", `${handshake}&sid=__proto__`, errors.unknownSession],
    ["a handshake by POST", "POST", handshake, errors.badHandshakeMethod],
    ["a handshake by PUT", "PUT", handshake, errors.badHandshakeMethod],
    ["a handshake by DELETE", "DELETE", handshake, errors.badHandshakeMethod],
    ["a handshake by an empty session id and POST", "POST", `${handshake}&sid=`, errors.badHandshakeMethod],
    ["websocket without an upgrade", "GET", "/socket.io/?EIO=4&transport=websocket", errors.badRequest],
    ["an old protocol version", "GET", "/fast/?EIO=3&transport=polling", errors.unsupportedVersion],
    ["no protocol version", "GET", "/fast/?transport=polling", errors.unsupportedVersion],
    ["a future protocol version", "GET", "/fast/?EIO=5&transport=polling", errors.unsupportedVersion],
  ]) {
    check(`${what} is refused: ${error.message}`, async () => {
      const answer = await get(target, { method });
      assert.deepEqual(outcome(answer), refused(error));
      assert.equal(answer.headers["content-type"], "application/json");
      assert.equal(answer.headers["cache-control"], undefined);
    });
  }

  check("the body of a refusal is exactly its code and message, in this order", async () => {
    assert.equal((await get("/socket.io/?EIO=4")).body, '{"code":0,"message":"Transport unknown"}');
  });

  check("another transport than the session's is refused and the session lives", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    assert.deepEqual(outcome(await get(session.upgradeTarget)), refused(errors.badRequest));
    await session.roundTrip();
  });

  check("a polling request for a session over WebSocket is refused and the session lives", async () => {
    const raw = await RawSocket.connected(server);
    const target = `${PLAIN}?EIO=4&transport=polling&sid=${raw.open.sid}`;
    assert.deepEqual(outcome(await get(target)), refused(errors.badRequest));
    assert.deepEqual(outcome(await get(target, { method: "POST", body: "1" })), refused(errors.badRequest));
    await raw.roundTrip();
  });

  check("another protocol version than the session's is refused and the session lives", async () => {
    const session = await PollingSession.open(server, "/steady/");
    await session.connect();
    const other = session.target.replace("EIO=4", "EIO=3");
    assert.deepEqual(outcome(await get(other)), refused(errors.badRequest));
    assert.deepEqual(outcome(await get(other, { method: "POST", body: "1" })), refused(errors.badRequest));
    await session.roundTrip();
  });

  check("paths beside the mounts are not found", async () => {
    for (const target of ["/", "/nothing", "/socket.io", "/socket.io?EIO=4&transport=polling", "/other/?EIO=4&transport=polling"]) {
      assert.equal((await get(target)).status, 404, target);
    }
    assert.deepEqual(outcome(await get("/health")), { status: 200, body: "ok" });
  });

  check("the path is a prefix: what follows it does not matter", async () => {
    const { status, body } = await get("/socket.io/anything/else?EIO=4&transport=polling");
    assert.equal(status, 200);
    assert.match(body, /^0\{/);
  });

  check("sessions of one mount are unknown on the other", async () => {
    const session = await PollingSession.open(server);
    assert.deepEqual(outcome(await get(session.target.replace(PLAIN, "/fast/"))), refused(errors.unknownSession));
  });

  // -------------------------------------------------------------------------------------------------------------------
  // The handshake

  check("the open packet has its keys in order and the polling headers", async () => {
    const { handshake: answer, open } = await PollingSession.open(server);
    assert.equal(answer.status, 200);
    assert.equal(
      answer.body,
      `0{"sid":"${open.sid}","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`,
    );
    assert.equal(answer.headers["content-type"], "text/plain; charset=UTF-8");
    assert.equal(answer.headers["cache-control"], "no-store");
    assert.equal(answer.headers["content-length"], String(answer.body.length));
    assert.equal(answer.headers["set-cookie"], undefined);
    assert.equal(answer.headers["x-xss-protection"], undefined);
  });

  check("the open packet over WebSocket offers no upgrades", async () => {
    const raw = new RawSocket(server, "/socket.io/?EIO=4&transport=websocket");
    const packet = await raw.next();
    const { sid } = JSON.parse(packet.slice(1));
    assert.equal(packet, `0{"sid":"${sid}","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`);
  });

  check("session ids are long, differ and go into an address as they are", async () => {
    const ids = new Set();
    for (let i = 0; i < 20; i++) {
      const { sid } = await PollingSession.open(server);
      assert.match(sid, /^[A-Za-z0-9_-]{20,}$/);
      ids.add(sid);
    }
    assert.equal(ids.size, 20);
  });

  check("the cache buster and unknown query parts are ignored", async () => {
    const { status } = await get(`${handshake}&t=abc123&foo=bar&foo=baz&%F0%9F%91%8B=1&b64`);
    assert.equal(status, 200);
  });

  check("an old browser gets the header that keeps it from guessing", async () => {
    const headers = { "user-agent": "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko" };
    assert.equal((await get(handshake, { headers })).headers["x-xss-protection"], "0");
  });

  // -------------------------------------------------------------------------------------------------------------------
  // Polling

  check("a POST is answered with ok as text/html", async () => {
    const session = await PollingSession.open(server);
    const { status, headers, body } = await session.post("40");
    assert.equal(status, 200);
    assert.equal(body, "ok");
    assert.equal(headers["content-type"], "text/html");
    assert.equal(headers["content-length"], "2");
    assert.equal(headers["cache-control"], "no-store");
  });

  check("the answer to a handshake never carries the answer to CONNECT", async () => {
    const session = await PollingSession.open(server);
    const poll = session.get();
    await session.post("40");
    const { body, headers } = await poll;
    assert.match(body, /^40\{"sid":"[^"]+"\}$/);
    assert.equal(headers["content-type"], "text/plain; charset=UTF-8");
    assert.equal(headers["cache-control"], "no-store");
    assert.equal(headers["content-length"], String(body.length));
  });

  check("a poll waits until there is something to say", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    let answered = false;
    const poll = session.get().then((answer) => {
      answered = true;
      return answer;
    });
    await sleep(200);
    assert.equal(answered, false);
    await session.post('42["echo","now"]');
    assert.equal((await poll).body, '42["echo","now"]');
  });

  check("what piles up between two polls comes in one, in order, binary as base64", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    await session.post([
      '42["echo",1]',
      '451-["echo",{"_placeholder":true,"num":0}]',
      "bAQID/w==",
      '42["echo","ü\u2028"]',
    ].join(SEPARATOR));
    const { body, headers } = await session.get();
    assert.deepEqual(body.split(SEPARATOR), [
      '42["echo",1]',
      '451-["echo",{"_placeholder":true,"num":0}]',
      "bAQID/w==",
      '42["echo","ü\u2028"]',
    ]);
    assert.equal(headers["content-length"], String(Buffer.byteLength(body)));
  });

  check("a client that cannot take binary gets base64, over WebSocket too", async () => {
    const raw = new RawSocket(server, `${PLAIN}?EIO=4&transport=websocket&b64=1`);
    assert.match(await raw.next(), /^0\{/);
    raw.send("40");
    assert.match(await raw.next(), /^40\{/);
    raw.send('451-["echo",{"_placeholder":true,"num":0}]');
    raw.send(Buffer.from([1, 2, 3]));
    assert.equal(await raw.next(), '451-["echo",{"_placeholder":true,"num":0}]');
    assert.equal(await raw.next(), "bAQID");
  });

  check("the content type of a POST does not matter as long as it is text", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    for (const type of ["text/plain", "text/plain;charset=UTF-8", "application/json", "application/x-www-form-urlencoded", undefined]) {
      const { status, body } = await session.post(`42["noop"]`, type ? { "content-type": type } : {});
      assert.deepEqual({ status, body }, { status: 200, body: "ok" }, type);
    }
    await session.roundTrip();
  });

  check("a POST in chunks of any size is one payload", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const post = slowRequest(server, session.target, { headers: { "content-type": "text/plain" } });
    // In the middle of a character too.
    const bytes = Buffer.from('42["echo","a€b"]');
    for (const byte of bytes) {
      post.write(Buffer.from([byte]));
      if (byte > 0x7f) await sleep(5);
    }
    post.end();
    assert.equal((await post.answer).body, "ok");
    assert.deepEqual(await session.poll(), ['42["echo","a€b"]']);
  });

  check("one connection carries request after request", async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const answer = await get(handshake, { agent });
    const target = `${handshake}&sid=${JSON.parse(answer.body.slice(1)).sid}`;
    for (const [method, body] of [["POST", "40"], ["GET"], ["POST", '42["echo",1]'], ["GET"], ["POST", "1"]]) {
      const { status, reused } = await get(target, { method, body, agent });
      assert.deepEqual({ status, reused }, { status: 200, reused: true }, method);
    }
    agent.destroy();
  });

  // -------------------------------------------------------------------------------------------------------------------
  // What costs a session its life, and what does not

  check("a second poll ends the session: the first gets a close packet, the second 400", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const first = await session.park();
    const second = await session.get();
    assert.deepEqual(outcome(second), { status: 400, body: "" });
    const { status, body } = await first.answer;
    assert.deepEqual({ status, body }, { status: 200, body: "1" });
    await session.gone();
  });

  check("a second POST ends the session: it gets 400, the first no ok", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const first = slowRequest(server, session.target, { headers: { "content-length": "100" } });
    first.write('42["noop"]');
    await first.taken();
    const second = await session.post('42["noop"]');
    assert.deepEqual(outcome(second), { status: 400, body: "" });
    // The npm server cuts the first one's connection; saying 400 to it too is kinder.
    const firstAnswer = await first.answer.then(({ status }) => status, ({ code }) => code);
    assert.ok([400, "ECONNRESET"].includes(firstAnswer), firstAnswer);
    await session.gone();
  });

  check("binary bodies are refused and end the session", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const { status, body } = await session.post(Buffer.from([4, 1]), { "content-type": "application/octet-stream" });
    assert.deepEqual({ status, body }, { status: 400, body: "" });
    await session.gone();
  });

  for (const method of ["DELETE", "PUT", "PATCH"]) {
    check(`${method} on a session gets 500 and the session lives`, async () => {
      const session = await PollingSession.open(server);
      await session.connect();
      assert.deepEqual(outcome(await get(session.target, { method })), { status: 500, body: "" });
      await session.roundTrip();
    });
  }

  check("a body announced as too large is refused without reading on, and the session lives", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const post = slowRequest(server, session.target, { headers: { "content-length": "2000000" } });
    post.write(Buffer.alloc(1_000_001, "x"));
    const { status, body } = await post.answer;
    assert.deepEqual({ status, body }, { status: 413, body: "" });
    post.abort();
    await session.roundTrip();
  });

  for (const [what, payload] of [
    ["an unknown packet type", "7"],
    ["a letter as packet type", "x"],
    ["separators alone", SEPARATOR.repeat(3)],
    ["an empty payload", ""],
    ["a separator at the end", `42["noop"]${SEPARATOR}`],
    ["a separator at the start", `${SEPARATOR}42["noop"]`],
  ]) {
    check(`${what} is answered with ok and ends the session`, async () => {
      const session = await PollingSession.open(server);
      await session.connect();
      const poll = await session.park();
      const { status, body } = await session.post(payload);
      assert.deepEqual({ status, body }, { status: 200, body: "ok" });
      const answer = await poll.answer;
      assert.equal(answer.status, 200);
      assert.equal(answer.body, "1");
      await session.gone();
    });
  }

  for (const [what, packet] of [["open", "0"], ["upgrade", "5"], ["noop", "6"], ["pong", "3"]]) {
    check(`a stray ${what} packet changes nothing`, async () => {
      const session = await PollingSession.open(server);
      await session.connect();
      assert.equal((await session.post(packet)).body, "ok");
      await session.roundTrip();
    });
  }

  check("a ping by the client ends the session", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    assert.equal((await session.post("2")).body, "ok");
    await session.gone();
  });

  check("a close packet ends the session and the waiting poll is answered", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const poll = await session.park();
    assert.equal((await session.post("1")).body, "ok");
    const { status, body } = await poll.answer;
    assert.deepEqual({ status, body }, { status: 200, body: "6" });
    await session.gone();
    assert.deepEqual(outcome(await session.post('42["noop"]')), refused(errors.unknownSession));
  });

  check("a poll that is cut off loses the session", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const poll = await session.park();
    poll.abort();
    await session.gone();
  });

  check("a POST that is cut off loses the session", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    const post = slowRequest(server, session.target, { headers: { "content-length": "100" } });
    post.write('42["noop"]');
    await post.taken();
    post.abort();
    await session.gone();
  });

  check("a session that the server ends between two polls says so at the next", async () => {
    const session = await PollingSession.open(server);
    await session.connect();
    await session.post('42["kick",true]');
    const packets = [];
    while (!packets.includes("1")) packets.push(...(await session.poll()));
    assert.equal(packets[0], "41");
    assert.equal(packets.at(-1), "1");
    await session.gone();
  });

  // -------------------------------------------------------------------------------------------------------------------
  // Cross-origin requests

  check("a preflight is answered with what the mount allows", async () => {
    for (const target of [handshake, "/socket.io/?EIO=4&transport=polling&sid=unknown", "/socket.io/"]) {
      const { status, headers, body } = await get(target, {
        method: "OPTIONS",
        headers: {
          origin: "http://allowed.example",
          "access-control-request-method": "POST",
          "access-control-request-headers": "x-custom",
        },
      });
      assert.equal(status, 204);
      assert.equal(body, "");
      assert.equal(headers["access-control-allow-origin"], "http://allowed.example");
      assert.equal(headers["access-control-allow-credentials"], "true");
      assert.equal(headers["access-control-allow-methods"], "GET,POST");
      assert.equal(headers["access-control-allow-headers"], "x-custom");
      assert.equal(headers["access-control-max-age"], "600");
      assert.match(headers.vary, /\borigin\b/i);
    }
  });

  check("a preflight where everything is allowed echoes the wanted headers", async () => {
    const { status, headers } = await get("/fast/?EIO=4&transport=polling", {
      method: "OPTIONS",
      headers: { origin: "http://anyone.example", "access-control-request-method": "POST", "access-control-request-headers": "x-a, x-b" },
    });
    assert.equal(status, 204);
    assert.equal(headers["access-control-allow-origin"], "*");
    assert.equal(headers["access-control-allow-methods"], "GET,HEAD,PUT,PATCH,POST,DELETE");
    assert.equal(headers["access-control-allow-headers"], "x-a, x-b");
    assert.equal(headers["access-control-allow-credentials"], undefined);
    assert.equal(headers["access-control-max-age"], undefined);
    assert.match(headers.vary, /access-control-request-headers/i);
  });

  check("answers carry the allowed origin, whoever asks", async () => {
    for (const origin of ["http://allowed.example", "http://foreign.example", undefined]) {
      const { status, headers } = await get(handshake, { headers: origin ? { origin } : {} });
      assert.equal(status, 200);
      assert.equal(headers["access-control-allow-origin"], "http://allowed.example");
      assert.equal(headers["access-control-allow-credentials"], "true");
      assert.equal(headers["access-control-allow-methods"], undefined);
      assert.match(headers.vary, /\borigin\b/i);
    }
    const { headers } = await get("/fast/?EIO=4&transport=polling", { headers: { origin: "http://anyone.example" } });
    assert.equal(headers["access-control-allow-origin"], "*");
    assert.equal(headers.vary, undefined);
  });

  check("polls, posts and refusals carry the allowed origin too", async () => {
    const headers = { origin: "http://allowed.example" };
    const session = await PollingSession.open(server);
    const post = await session.post("40", headers);
    const poll = await session.get(headers);
    const refusals = await Promise.all([
      get("/socket.io/?EIO=4&transport=pigeon", { headers }),
      get(`${handshake}&sid=unknown`, { headers }),
      get(session.target, { method: "DELETE", headers }),
      get(handshake, { method: "POST", headers }),
    ]);
    for (const answer of [post, poll, ...refusals]) {
      assert.equal(answer.headers["access-control-allow-origin"], "http://allowed.example", `${answer.status} ${answer.body}`);
      assert.equal(answer.headers["access-control-allow-credentials"], "true");
    }
  });
});
