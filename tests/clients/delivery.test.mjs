// What becomes of events that happen while a client is away, on our binary and on the npm server with connection state recovery. The
// table is in docs/delivery.md; what it says of the npm server is asserted as well, or it would be hearsay.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { after, describe, it } from "node:test";
import { io } from "socket.io-client";
import { Cable } from "./cable.mjs";
import { SOON_MS, ServerProcess, available, freePort, next, programOf, temporaryFolder, until } from "./harness.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const ROOM = "demo:delivery";
const EVENTS = 20;

const subjects = available([
  { name: "ours", command: programOf("POSTHASTE_BIN") && [programOf("POSTHASTE_BIN")] },
  { name: "node", command: [process.execPath, path.join(here, "delivery-oracle.mjs")] },
]);

for (const subject of subjects) {
  describe(`delivery [${subject.name}]`, () => {
    const folder = temporaryFolder();
    const loses = (there) => (subject.name === "node" ? there : 0);
    let server;
    const open = [];
    const cleanups = [];

    after(async () => {
      open.forEach((socket) => socket.disconnect());
      cleanups.forEach((act) => act());
      await server?.kill();
      rmSync(folder, { recursive: true, force: true });
    });

    /** Starts the server, or starts it again where it was. */
    async function start(port) {
      const args = ["dev", "--listen", `127.0.0.1:${port}`, "--data", path.join(folder, `${port}`), "--json"];
      const logFile = path.join(folder, `server-${port}-${Math.random()}.log`);
      server = new ServerProcess(subject.command, args, { logFile });
      await server.until(({ log }) => log.includes('"socketio"'));
    }

    function connect(url, options = {}) {
      const socket = io(url, { forceNew: true, transports: ["websocket"], reconnectionDelay: 10, reconnectionDelayMax: 50, ...options });
      open.push(socket);
      return socket;
    }

    async function emits(socket, from, count) {
      for (let number = from; number < from + count; number += 1) {
        const answer = await socket.timeout(SOON_MS).emitWithAck("room:emit", ROOM, "event", number);
        assert.equal(answer.ok, true);
      }
    }

    /** A member of the room behind a cable, and somebody who emits to it. */
    async function scene() {
      const port = await freePort();
      await start(port);
      const url = `http://127.0.0.1:${port}`;
      const cable = await Cable.to({ port, onCleanup: (act) => cleanups.push(act) });
      const member = connect(cable.url);
      const heard = [];
      member.on("event", (number) => heard.push(number));
      await next(member, "connect");
      await member.timeout(SOON_MS).emitWithAck("room:join", ROOM, {});
      const publisher = connect(url);
      await next(publisher, "connect");
      return { port, cable, member, heard, publisher };
    }

    async function cut({ member, cable }) {
      const lost = next(member, "disconnect");
      cable.cut();
      await lost;
    }

    /** The client comes back; then everything it is going to hear has been heard, for it has heard what was emitted last. */
    async function lostOf({ member, cable, heard, publisher }, expected) {
      const back = next(member, "connect");
      cable.open();
      await back;
      if (!member.recovered) await member.timeout(SOON_MS).emitWithAck("room:join", ROOM, {});
      await emits(publisher, -1, 1);
      await until(() => heard.includes(-1), "the last event");
      const once = new Set(heard);
      assert.equal(once.size, heard.length, "nothing twice");
      return expected.filter((number) => !once.has(number)).length;
    }

    const range = (from, count) => Array.from({ length: count }, (_, index) => from + index);

    it("a connection is cut, and the client has heard something before", async () => {
      const it = await scene();
      await emits(it.publisher, 0, 1);
      await until(() => it.heard.length === 1, "the first event");
      await cut(it);
      await emits(it.publisher, 1, EVENTS);
      assert.equal(await lostOf(it, range(0, EVENTS + 1)), 0);
      it.cable.cut();
      await server.kill();
    });

    it("a connection is cut before the client has heard anything", async () => {
      const it = await scene();
      await cut(it);
      await emits(it.publisher, 1, EVENTS);
      assert.equal(await lostOf(it, range(1, EVENTS)), loses(EVENTS));
      it.cable.cut();
      await server.kill();
    });

    it("the server is killed and started again while the client is away", async () => {
      const it = await scene();
      await emits(it.publisher, 0, 1);
      await until(() => it.heard.length === 1, "the first event");
      await cut(it);
      await emits(it.publisher, 1, EVENTS);
      await server.kill();
      await start(it.port);
      await until(() => it.publisher.connected, "the publisher is back");
      await emits(it.publisher, EVENTS + 1, EVENTS);
      assert.equal(await lostOf(it, range(0, 2 * EVENTS + 1)), loses(2 * EVENTS));
      it.cable.cut();
      await server.kill();
    });

    it("the server is killed under connected clients, with events on their way", async () => {
      const it = await scene();
      await emits(it.publisher, 0, 1);
      await until(() => it.heard.length === 1, "the first event");
      const before = await Promise.all(range(1, EVENTS).map((number) => emits(it.publisher, number, 1)));
      assert.equal(before.length, EVENTS);
      const lost = next(it.member, "disconnect");
      await server.kill();
      await lost;
      it.cable.cut();
      await start(it.port);
      await until(() => it.publisher.connected, "the publisher is back");
      await emits(it.publisher, EVENTS + 1, EVENTS);
      const missing = await lostOf(it, range(0, 2 * EVENTS + 1));
      // How many of the first were on their way is the kernel's to say.
      if (subject.name === "node") assert.ok(missing >= EVENTS, `${missing} lost`);
      else assert.equal(missing, 0);
      it.cable.cut();
      await server.kill();
    });
  });
}
