// Inboxes: what is sent to somebody waits for each of their devices until that has confirmed it.
//
// Every connection here is a new client object, as after a page was loaded: nothing is left but what the server knows, and in the second
// half the offset that a page may keep.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import { ask, checkBetterThanNode, collect, eachSubject, modes, next, opened, programOf, until } from "./harness.mjs";

const INBOX = "/inbox/";
const BY_OFFSET = "/inbox-by-offset/";
const NONE = "it has no inboxes";
const python = programOf("PYTHON_BIN");

eachSubject("inboxes", (server) => {
  /** Connects as a device of somebody; what comes is pushed to `heard`, answered if `answers` says so. */
  async function device({ mode, user, name, heard = [], answers = () => true, path = INBOX, ...more }) {
    const socket = server.client({ mode, path, auth: { user, device: name, ...more }, reconnection: true, reconnectionDelay: 20 });
    socket.on("note", (note, answer) => {
      heard.push(note);
      if (path === INBOX && answers(note)) answer();
      socket.lastOffset = answer;
    });
    await opened(socket);
    return { socket, heard };
  }

  async function send(user, ...notes) {
    const sender = await server.connect({ path: INBOX });
    for (const note of notes) await ask(sender, "send", user, note);
    sender.disconnect();
  }

  for (const mode of modes) {
    checkBetterThanNode(server, `a device that was away hears what it did not answer, in order (${mode})`, NONE, async () => {
      const user = randomUUID();
      const notes = Array.from({ length: 30 }, (_, number) => ({ number }));
      const numbers = (heard) => heard.map(({ number }) => number);
      const phone = await device({ mode, user, name: "phone", answers: ({ number }) => number < 12 });
      const laptop = await device({ mode, user, name: "laptop" });
      await send(user, ...notes.slice(0, 20));
      // Twelve are confirmed, and eight more are the window.
      await until(() => phone.heard.length === 20 && laptop.heard.length === 20, "what was sent while they are there");
      await ask(phone.socket, "sync");
      phone.socket.disconnect();
      await send(user, ...notes.slice(20));
      await until(() => laptop.heard.length === 30, "what was sent to the one that is there");

      const again = await device({ mode, user, name: "phone" });
      await until(() => again.heard.length === 18, "the rest");
      assert.deepEqual(numbers(again.heard), Array.from({ length: 18 }, (_, place) => place + 12));
      assert.deepEqual(numbers(laptop.heard), Array.from({ length: 30 }, (_, place) => place));
      await ask(again.socket, "sync");
      again.socket.disconnect();
      const last = await device({ mode, user, name: "phone" });
      await ask(last.socket, "sync");
      assert.deepEqual(last.heard, []);
    });

    checkBetterThanNode(server, `a page that keeps its offset hears what is behind it (${mode})`, NONE, async () => {
      const user = randomUUID();
      const sender = await server.connect({ path: BY_OFFSET });
      for (let note = 0; note < 3; note++) await ask(sender, "send", user, note);
      const page = await device({ mode, user, name: "page", path: BY_OFFSET });
      await until(() => page.heard.length === 3, "what was sent before");
      page.socket.disconnect();
      for (let note = 3; note < 6; note++) await ask(sender, "send", user, note);
      const loaded = await device({ mode, user, name: "page", path: BY_OFFSET, inbox: page.socket.lastOffset });
      await until(() => loaded.heard.length === 3, "what is behind");
      assert.deepEqual(loaded.heard, [3, 4, 5]);
    });
  }

  checkBetterThanNode(server, "a client that lost its connection is sent its inbox from where its device is", NONE, async () => {
    const user = randomUUID();
    const { socket, heard } = await device({ user, name: "phone", answers: (note) => note < 2 });
    await send(user, 0, 1, 2, 3);
    await until(() => heard.length === 4, "what was sent");
    await ask(socket, "sync");
    const back = next(socket, "connect");
    socket.io.engine.close();
    await back;
    await until(() => heard.length === 6, "what was not answered");
    assert.deepEqual(heard, [0, 1, 2, 3, 2, 3]);
  });

  checkBetterThanNode(server, "whoever answers nothing keeps nobody waiting", NONE, async () => {
    const user = randomUUID();
    const silent = await device({ user, name: "silent", answers: () => false });
    const other = await device({ user, name: "other" });
    const events = collect(silent.socket, "note");
    await send(user, ...Array.from({ length: 40 }, (_, note) => note));
    await until(() => other.heard.length === 40, "everything at the other");
    await ask(silent.socket, "sync");
    assert.equal(events.length, 8, "the window");
  });

  const lacking = python ? NONE : "PYTHON_BIN names no Python with python/requirements.txt installed";
  const inPython = python ? checkBetterThanNode : (_, name, why, body) => checkBetterThanNode({ subject: "node" }, name, why, body);
  inPython(server, "python-socketio answers by what a handler returns", lacking, async () => {
    const script = fileURLToPath(new URL("python/inbox.py", import.meta.url));
    for (const kind of ["sync", "async"]) {
      for (const transport of ["polling", "websocket"]) {
        const user = randomUUID();
        await send(user, 0, 1, 2);
        const run = (count) => {
          const { status, stdout, stderr } = spawnSync(python, [script, server.url, kind, transport, user, `${count}`], { encoding: "utf8", timeout: 60_000 });
          assert.equal(status, 0, stderr);
          return JSON.parse(stdout);
        };
        assert.deepEqual(run(3), [0, 1, 2], `${kind}, ${transport}`);
        await send(user, 3);
        assert.deepEqual(run(1), [3], `${kind}, ${transport}`);
      }
    }
  });
});
