// What an application has to say about requests before they are connections: middlewares, the check of handshakes, cookies,
// headers, and the reports of what was refused. The mount `/hooked/` does what a request's headers ask for.

import assert from "node:assert/strict";
import { ask, check, eachSubject, opened, next, SOON_MS, within } from "./harness.mjs";
import { exchange, PollingSession, RawSocket, request, upgradeRequest } from "./wire.mjs";

const polling = "/hooked/?EIO=4&transport=polling";
const websocket = "/hooked/?EIO=4&transport=websocket";

eachSubject("hooks", (server) => {
  const get = (target, headers) => request(server, target, { headers });

  /** Status and body of an upgrade request's answer, which ends the connection. */
  async function upgrade(headers, target = websocket) {
    const [head, body] = (await exchange(server, upgradeRequest(target, headers))).split("\r\n\r\n");
    return { status: Number(head.split(" ")[1]), body };
  }

  /** The headers of an upgrade's 101. */
  async function upgraded(target) {
    const raw = new RawSocket(server, target);
    const [response] = await next(raw.socket, "upgrade");
    await within(raw.opened, SOON_MS, "the WebSocket handshake");
    return response.headers;
  }

  /** What was reported since the last call. */
  async function reported() {
    const socket = await server.connect({ path: "/hooked/" });
    return ask(socket, "connection-errors");
  }

  for (const mode of ["polling", "websocket"]) {
    check(`the official client is refused by the check, over ${mode}`, async () => {
      const refused = server.client({ mode, path: "/hooked/", extraHeaders: { "x-forbid": "come back later" } });
      const error = await opened(refused).then(() => assert.fail("connected"), (error) => error);
      assert.match(error.message, mode === "polling" ? /xhr poll error/ : /websocket error/);
      if (mode === "polling") assert.equal(error.description, 403);
    });

    check(`the official client is refused by a middleware, over ${mode}`, async () => {
      const refused = server.client({ mode, path: "/hooked/", extraHeaders: { "x-refuse": "a secret" } });
      await assert.rejects(opened(refused));
    });

    check(`the official client is let in, over ${mode}`, async () => {
      const socket = await server.connect({ mode, path: "/hooked/" });
      assert.equal(await ask(socket, "echo", "hello"), "hello");
    });
  }

  check("the official client upgrades past all hooks", async () => {
    const socket = await server.connect({ mode: "upgrade", path: "/hooked/" });
    assert.equal(await ask(socket, "echo", "hello"), "hello");
  });

  check("a forbidden handshake is 403 over HTTP and 400 to an upgrade", async () => {
    for (const message of ["come back later", 'say "please"']) {
      const answer = await get(polling, { "x-forbid": message });
      assert.deepEqual([answer.status, JSON.parse(answer.body)], [403, { code: 4, message }]);
      assert.equal(answer.headers["content-type"], "application/json");
      assert.deepEqual(await upgrade({ "x-forbid": message }), { status: 400, body: message });
    }
    const silent = await get(polling, { "x-forbid": "" });
    assert.deepEqual([silent.status, silent.body], [403, '{"code":4,"message":"Forbidden"}']);
    assert.deepEqual(await upgrade({ "x-forbid": "" }), { status: 400, body: "Forbidden" });
  });

  check("only handshakes are checked, and only those that are well formed", async () => {
    const session = await PollingSession.open(server, "/hooked/");
    const headers = { "x-forbid": "no" };
    assert.equal((await session.post("40", headers)).status, 200);
    assert.equal((await session.get(headers)).status, 200);
    assert.equal((await get("/hooked/?EIO=4&transport=pigeon", headers)).status, 400);
    assert.equal((await request(server, polling, { method: "POST", headers })).status, 400);
    assert.equal((await get("/hooked/?EIO=3&transport=polling", headers)).status, 403);
  });

  check("a middleware's refusal tells the client nothing of its reason", async () => {
    const answer = await get(polling, { "x-refuse": "a secret" });
    assert.deepEqual([answer.status, answer.body], [400, '{"code":3,"message":"Bad request"}']);
    assert.equal(answer.headers["x-middleware"], "seen");
    assert.deepEqual(await upgrade({ "x-refuse": "a secret" }), { status: 400, body: "Bad request" });
  });

  check("a middleware sees requests of open sessions, and may answer by itself", async () => {
    const session = await PollingSession.open(server, "/hooked/");
    await session.connect();
    assert.equal((await session.get({ "x-refuse": "x" })).status, 400);
    assert.equal((await session.post("1", { "x-refuse": "x" })).status, 400);
    const answer = await session.get({ "x-answer": "teapot" });
    assert.deepEqual([answer.status, answer.body, answer.headers["x-middleware"]], [418, "teapot", "seen"]);
    await session.roundTrip();
  });

  check("the cookie comes with the polling handshake and with nothing else", async () => {
    const session = await PollingSession.open(server, "/hooked/");
    const expected = `sticky=${session.sid}; Max-Age=90; Path=/; HttpOnly; Secure; SameSite=Strict`;
    assert.deepEqual(session.handshake.headers["set-cookie"], [expected]);
    assert.equal((await session.post("40")).headers["set-cookie"], undefined);
    assert.equal((await session.get()).headers["set-cookie"], undefined);
    assert.equal((await upgraded(session.upgradeTarget))["set-cookie"], undefined);
    assert.equal((await upgraded(websocket))["set-cookie"], undefined);
  });

  check("headers are added to every answer of a session, initial ones to the first", async () => {
    const session = await PollingSession.open(server, "/hooked/");
    const added = (headers) => [headers["x-middleware"], headers["x-initial"], headers["x-every"]];
    assert.deepEqual(added(session.handshake.headers), ["seen", "1", "GET"]);
    assert.deepEqual(added((await session.post("40")).headers), ["seen", undefined, "POST"]);
    assert.deepEqual(added((await session.get()).headers), ["seen", undefined, "GET"]);
    assert.deepEqual(added(await upgraded(session.upgradeTarget)), ["seen", undefined, "GET"]);
    assert.deepEqual(added(await upgraded(websocket)), ["seen", "1", "GET"]);
    assert.deepEqual(added((await get("/hooked/?EIO=4")).headers), ["seen", undefined, undefined]);
  });

  check("every refusal is reported with its code, message and context", async () => {
    await reported();
    const session = await PollingSession.open(server, "/hooked/");
    const cases = [
      [() => get("/hooked/?EIO=4&transport=pigeon"), 0, "Transport unknown", { transport: "pigeon" }],
      [() => get("/hooked/?EIO=4"), 0, "Transport unknown", {}],
      [() => get(`${polling}&sid=abc`), 1, "Session ID unknown", { sid: "abc" }],
      [() => upgrade({}, `${websocket}&sid=abc`), 1, "Session ID unknown", { sid: "abc" }],
      [() => request(server, polling, { method: "PUT" }), 2, "Bad handshake method", { method: "PUT" }],
      [() => get(session.upgradeTarget), 3, "Bad request",
        { name: "TRANSPORT_MISMATCH", transport: "websocket", previousTransport: "polling" }],
      [() => get(session.target.replace("EIO=4", "EIO=3")), 3, "Bad request",
        { name: "PROTOCOL_MISMATCH", protocol: 3, previousProtocol: 4 }],
      [() => get(websocket), 3, "Bad request", { name: "TRANSPORT_HANDSHAKE_ERROR" }],
      [() => get(polling, { "x-refuse": "a secret" }), 3, "Bad request", { name: "MIDDLEWARE_FAILURE" }],
      [() => upgrade({ "x-refuse": "a secret" }), 3, "Bad request", { name: "MIDDLEWARE_FAILURE" }],
      [() => get(polling, { "x-forbid": "later" }), 4, "Forbidden", { message: "later" }],
      [() => upgrade({ "x-forbid": "later" }), 4, "Forbidden", { message: "later" }],
      [() => get("/hooked/?EIO=3&transport=polling"), 5, "Unsupported protocol version", { protocol: 3 }],
    ];
    for (const [refuse] of cases) await refuse();
    const expected = cases.map(([, code, message, context]) => ({ code, message, context }));
    assert.deepEqual(await reported(), expected);
  });
});
