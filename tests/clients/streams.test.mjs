// Streams over HTTP as browsers and scripts read them: the binary that POSTHASTE_BIN names, fetch, and EventSource in Chromium.

import assert from "node:assert/strict";
import { after, afterEach, before, describe } from "node:test";
import { io } from "socket.io-client";
import { launchChromium } from "./chromium.mjs";
import { ask, check, opened, programOf, StandaloneServer, until } from "./harness.mjs";

const program = programOf("POSTHASTE_BIN");

if (program && (process.env.SUBJECTS?.includes("ours") ?? true)) {
  describe("streams over HTTP [ours]", () => {
    const server = new StandaloneServer({ command: [program] });
    let browser;
    let writer;
    let context;
    let rooms = 0;

    const room = () => `demo:stream-${(rooms += 1)}`;
    const urlOf = (name, query = "") => `${server.urls.api}/streams/${encodeURIComponent(name)}${query}`;

    before(async () => {
      await server.start();
      browser = await launchChromium();
    });
    afterEach(async () => {
      writer?.disconnect();
      await context?.close();
      [writer, context] = [undefined, undefined];
    });
    after(async () => {
      await browser?.close();
      await server.stop();
    });

    async function write(name, ...texts) {
      writer ??= io(server.urls.socketio, { forceNew: true, transports: ["websocket"], reconnectionDelay: 20, reconnectionDelayMax: 200 });
      if (!writer.connected) await opened(writer);
      const offsets = [];
      for (const text of texts) {
        const { ok, offset } = await ask(writer, "room:emit", name, "chat", text);
        assert.equal(ok, true);
        offsets.push(offset);
      }
      return offsets;
    }

    /** A page of the server's own that follows a stream; `heard()` gives what came, `[id, data]` each. */
    async function follow(name, query = "") {
      context ??= await browser.newContext();
      const page = await context.newPage();
      await page.goto(server.urls.demo);
      await page.evaluate((url) => {
        window.heard = [];
        window.gaps = 0;
        window.opened = 0;
        window.source = new EventSource(url);
        source.onopen = () => { window.opened += 1; };
        source.onmessage = ({ lastEventId, data }) => heard.push([lastEventId, JSON.parse(data)]);
        source.addEventListener("gap", () => { window.gaps += 1; });
      }, urlOf(name, query));
      await until(() => page.evaluate(() => window.opened > 0), "the stream");
      return {
        heard: () => page.evaluate(() => window.heard),
        texts: async () => (await page.evaluate(() => window.heard)).map(([, { args }]) => args[0]),
        gaps: () => page.evaluate(() => window.gaps),
        opened: () => page.evaluate(() => window.opened),
      };
    }

    check("pages lead through everything that is kept", async () => {
      const name = room();
      const offsets = await write(name, 1, 2, 3, 4, 5);
      const texts = [];
      let query = "?limit=2";
      for (let complete = false; !complete; ) {
        const response = await fetch(urlOf(name, query));
        assert.equal(response.status, 200);
        assert.equal(response.headers.get("content-type"), "application/json");
        const page = await response.json();
        assert.equal(page.gap, false);
        texts.push(...page.events.map(({ args }) => args[0]));
        assert.deepEqual(page.events.map(({ offset }) => offset), offsets.slice(texts.length - page.events.length, texts.length));
        query = `?limit=2&after=${encodeURIComponent(page.next)}`;
        complete = page.complete;
      }
      assert.deepEqual(texts, [1, 2, 3, 4, 5]);
    });

    check("a page follows a stream: what is kept first, then what comes, each once and with its offset", async () => {
      const name = room();
      const before = await write(name, "one", "two");
      const all = await follow(name);
      const fresh = await follow(name, "?after=now");
      const behind = await follow(name, `?after=${encodeURIComponent(before[0])}`);
      const more = await write(name, "three", "four");
      await until(async () => (await all.texts()).length === 4, "all four");
      await until(async () => (await fresh.texts()).length === 2, "the new ones");
      await until(async () => (await behind.texts()).length === 3, "the later ones");
      const heard = await all.heard();
      assert.deepEqual(heard.map(([id]) => id), [...before, ...more]);
      assert.deepEqual(heard.map(([, { n, event, args }]) => [n, event, args]), ["one", "two", "three", "four"].map((text, i) => [i + 1, "chat", [text]]));
      assert.deepEqual(await fresh.texts(), ["three", "four"]);
      assert.deepEqual(await behind.texts(), ["two", "three", "four"]);
    });

    check("a browser comes back by itself after the server was killed, and misses nothing", async () => {
      const name = room();
      await write(name, "before");
      const all = await follow(name);
      // Nothing was sent of this one yet: its place is known nevertheless.
      const quiet = await follow(name, "?after=now");
      await until(async () => (await all.texts()).length === 1, "the first");
      await server.kill();
      await server.start();
      // Before the pages are back, or after: they cannot know.
      await write(name, "meanwhile");
      await until(async () => (await all.opened()) === 2 && (await quiet.opened()) === 2, "the return", 40_000);
      await write(name, "after");
      await until(async () => (await all.texts()).length >= 3 && (await quiet.texts()).length >= 2, "everything");
      assert.deepEqual(await all.texts(), ["before", "meanwhile", "after"]);
      assert.deepEqual(await quiet.texts(), ["meanwhile", "after"]);
      assert.equal(await all.gaps(), 0);
    });

    check("an offset of another store is a gap that is told before what there is", async () => {
      const name = room();
      await write(name, "kept");
      const lost = await follow(name, `?after=${encodeURIComponent(`~${"a".repeat(22)}`)}`);
      await until(async () => (await lost.texts()).length === 1, "what is kept");
      assert.equal(await lost.gaps(), 1);
    });

    check("pages of other sites cannot read a stream", async () => {
      const name = room();
      await write(name, "private to this machine");
      const response = await fetch(urlOf(name), { headers: { origin: "http://elsewhere.example" } });
      assert.equal(response.headers.get("access-control-allow-origin"), null);
    });
  });
}
