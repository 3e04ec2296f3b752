// The demo chat in a real browser: two people in one room, what they see of each other, and what happens when the
// server dies under them.
//
// Subjects: `node` is the page on the npm server (demo-oracle.mjs), `ours` the binary that POSTHASTE_BIN names.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import path from "node:path";
import { after, afterEach, before, beforeEach, describe } from "node:test";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { launchChromium } from "./chromium.mjs";
import { ask, available, call, check, outputFolder, programOf, StandaloneServer, until } from "./harness.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const program = programOf("POSTHASTE_BIN");

const subjects = available([
  { name: "ours", command: program && [program] },
  { name: "node", command: [process.execPath, path.join(here, "demo-oracle.mjs")] },
]);

/** `until` for what a page shows, asking less often: every look is a conversation with the browser. */
const seen = (condition, what) => until(condition, what, 20_000, 50);

/** Longer than the page waits for somebody's return. */
const GRACE_MS = 1_400;

const desktop = { viewport: { width: 1280, height: 800 } };
const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

for (const subject of subjects) {
  // Both subjects serve the very same page. What is about the page alone need not be seen on both: a browser is slow.
  const checkPage = subject === subjects[0] ? check : () => {};

  describe(`demo [${subject.name}]`, () => {
    const server = new StandaloneServer(subject);
    let browser;
    let contexts = [];
    let backends = [];
    let complaints = [];
    let testRoom;
    let testCount = 0;

    // A room of its own for each test: nobody of the test before is still there.
    beforeEach(() => { testRoom = `demo:test-${testCount += 1}`; });
    before(async () => {
      await server.start();
      browser = await launchChromium();
    });
    afterEach(async () => {
      for (const backend of backends) backend.disconnect();
      await Promise.all(contexts.map((context) => context.close()));
      [contexts, backends] = [[], []];
      const said = complaints;
      complaints = [];
      assert.deepEqual(said, [], "nothing in the browser's console");
    });
    after(async () => {
      await browser?.close();
      await server.stop();
    });

    /**
     * A page of someone of their own, in the test's room unless `room` says otherwise; `after` is waited for, `clock` lets
     * the test stop the page's timers, the rest describes the device.
     */
    async function visit(name, { room = testRoom, after, clock = false, ...device } = desktop) {
      const context = await browser.newContext({ reducedMotion: "reduce", ...device });
      contexts.push(context);
      await context.addInitScript((chosen) => {
        if (chosen && !localStorage.getItem("posthaste-demo-name")) localStorage.setItem("posthaste-demo-name", chosen);
        // Everything the transport label ever said, for the moment that is too short to look at.
        window.transports = [];
        addEventListener("DOMContentLoaded", () => {
          const label = document.getElementById("transport");
          new MutationObserver(() => {
            if (label.textContent !== window.transports.at(-1)) window.transports.push(label.textContent);
          }).observe(label, { childList: true, characterData: true, subtree: true });
        });
      }, name);
      const page = await context.newPage();
      page.on("console", (message) => {
        // A page that leaves while its transport is being upgraded gives up its own WebSocket; Chromium says so, and may.
        if (message.text().endsWith("WebSocket is closed before the connection is established.")) return;
        if (["error", "warning"].includes(message.type())) complaints.push(message.text());
      });
      page.on("pageerror", (error) => complaints.push(String(error)));
      page.setDefaultTimeout(20_000);
      if (clock) await page.clock.install();
      await after;
      await page.goto(`${server.urls.demo}?room=${encodeURIComponent(room)}`);
      return page;
    }

    /** Waits until the page is in its room and on its final transport: what ends in between is missed late. */
    async function connected(page) {
      await page.locator('#status[data-state="connected"]').waitFor();
      await page.locator("#transport", { hasText: "websocket" }).waitFor();
    }
    /** Stops the timers of a page that was opened with `clock`, a little ahead: nobody is late until the test lets time pass. */
    const stopClock = async (page) => page.clock.pauseAt(await page.evaluate(() => Date.now() + 10_000));
    const notes = (page) => page.locator("#log .note").allTextContents();
    const lines = (page) => page.locator("#log .line").allTextContents();
    const members = (page) => page.locator("#members .name").allTextContents();

    async function say(page, text) {
      await page.fill("#text", text);
      await page.press("#text", "Enter");
    }

    /** Two people in one room who see each other; the second came while the first was there. */
    async function two(first = "Ada", second = "Grace", options = desktop) {
      const arrival = visit(first, options);
      const pages = await Promise.all([arrival, visit(second, { ...options, after: arrival.then(connected) })]);
      await Promise.all(pages.map((page) => seen(async () => (await members(page)).length === 2, "two people at each")));
      return pages;
    }

    /** A client without a page, which gets to say in a room what no page would; gives the emitting function. */
    async function backend(room = testRoom) {
      const socket = io(server.urls.socketio, { forceNew: true, reconnection: false, transports: ["websocket"] });
      backends.push(socket);
      await until(() => socket.connected, "the backend");
      assert.equal((await ask(socket, "room:join", room, {})).ok, true);
      return (event, ...args) => ask(socket, "room:emit", room, event, ...args);
    }

    const shown = (page, text) => seen(async () => (await notes(page)).includes(text), `the note ${JSON.stringify(text.slice(0, 40))}`);

    // -----------------------------------------------------------------------------------------------------------------

    check("the page brings nothing from elsewhere and nothing inline", async () => {
      for (const [suffix, type] of [["", "text/html"], ["/demo.css", "text/css"], ["/demo.js", "text/javascript"]]) {
        const response = await fetch(server.urls.demo + suffix);
        assert.equal(response.status, 200);
        assert.ok(response.headers.get("content-type").startsWith(type), suffix);
        const text = await response.text();
        const foreign = text.match(/(https?:)?\/\/[a-z0-9.-]+\.[a-z]+/gi) ?? [];
        assert.deepEqual(foreign.filter((address) => !address.endsWith("//www.w3.org")), [], suffix);
        if (suffix) continue;
        const policy = response.headers.get("content-security-policy");
        assert.match(policy, /default-src 'none'|default-src 'self'/);
        assert.doesNotMatch(policy, /unsafe|\*/);
        assert.doesNotMatch(text, /<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)/i);
      }
    });

    check("a message is seen in both tabs, in the same order, and each knows its own", async () => {
      const [ada, grace] = await two();
      await say(ada, "first");
      await shown(grace, "first");
      await say(grace, "second");
      await shown(ada, "second");
      await say(ada, "third\nwith two lines");
      await shown(grace, "third\nwith two lines");
      await seen(async () => (await notes(ada)).length === 3, "Ada's own copy");
      assert.deepEqual(await notes(ada), ["first", "second", "third\nwith two lines"]);
      assert.deepEqual(await notes(grace), await notes(ada));
      assert.deepEqual(await ada.locator("#log .own .note").allTextContents(), ["first", "third\nwith two lines"]);
      assert.deepEqual(await grace.locator("#log .own .note").allTextContents(), ["second"]);
      assert.deepEqual(await ada.locator("#log .who b").allTextContents(), ["Grace"]);
      assert.equal(await ada.locator("#outbox li").count(), 0);
      assert.equal(await ada.locator("#log .own .meta svg").count(), 2, "delivered twice");
    });

    check("messages that many write at once stand in one order everywhere", async () => {
      const pages = await two();
      await Promise.all(pages.map(async (page, who) => {
        for (let i = 0; i < 15; i++) await say(page, `${who}-${i}`);
      }));
      for (const page of pages) await seen(async () => (await notes(page)).length === 30, "thirty notes");
      assert.deepEqual(await notes(pages[0]), await notes(pages[1]));
      assert.ok(await pages[0].locator("#log .group").count() <= 30);
    });

    checkPage("messages of one person in a row stand together", async () => {
      const [ada, grace] = await two();
      for (const text of ["one", "two", "three"]) await say(ada, text);
      await shown(grace, "three");
      assert.equal(await grace.locator("#log .group").count(), 1);
      assert.equal(await grace.locator("#log .who").count(), 1);
    });

    /** Ada types, Grace is told; the clocks stand, as on a slow machine the notice would fade before it is looked at. */
    async function typing(ada, grace, letters) {
      await ada.locator("#text").pressSequentially(letters);
      await seen(async () => (await grace.locator("#typing").textContent()) === "Ada is typing…", "the notice");
    }

    check("the typing notice shows, clears when the message comes and clears when the text is taken back", async () => {
      const [ada, grace] = await two("Ada", "Grace", { ...desktop, clock: true });
      await Promise.all([ada, grace].map(stopClock));
      const cleared = () => seen(async () => (await grace.locator("#typing").textContent()) === "", "the end of the notice");
      await typing(ada, grace, "hel");
      assert.equal(await ada.locator("#typing").textContent(), "", "nobody is told about themselves");
      await ada.press("#text", "Enter");
      await shown(grace, "hel");
      await cleared();

      await typing(ada, grace, "x");
      await ada.press("#text", "Backspace");
      await cleared();
    });

    check("a typist who goes away stops typing", async () => {
      const [ada, grace] = await two("Ada", "Grace", { ...desktop, clock: true });
      await Promise.all([ada, grace].map(stopClock));
      await typing(ada, grace, "hel");
      await ada.close();
      await seen(async () => (await grace.locator("#typing").textContent()) === "", "the end of the notice");
    });

    check("people are listed with their number, oneself first, and leave the list when they leave", async () => {
      const [ada, grace] = await two();
      assert.deepEqual(await members(ada), ["Ada", "Grace"]);
      assert.deepEqual(await members(grace), ["Grace", "Ada"]);
      assert.equal(await ada.locator(".side-head .count").textContent(), "2");
      assert.equal(await ada.locator("#members li:first-child .you").textContent(), "you");
      assert.deepEqual(await lines(ada), ["Grace joined"]);
      // What was said over the WebSocket arrived: the server has ended the upgrade. A page that closes before that is a poll that
      // does not come, and missed only at the end of a heartbeat.
      await say(grace, "bye");
      await shown(ada, "bye");
      await grace.close();
      await seen(async () => (await members(ada)).length === 1, "Grace gone from the list");
      assert.deepEqual(await lines(ada), ["Grace joined", "Grace left"]);
      assert.equal(await ada.locator(".side-head .count").textContent(), "1");
    });

    check("a reload is neither leaving nor joining", async () => {
      const [ada, grace] = await two("Ada", "Grace", { ...desktop, clock: true });
      // The server has ended the upgrade, or it would miss the page only at the end of a heartbeat.
      await say(grace, "back in a moment");
      await shown(ada, "back in a moment");
      await stopClock(ada);
      await grace.reload();
      await connected(grace);
      await seen(async () => (await ada.locator("#members li[data-away]").count()) === 0 && (await members(ada)).length === 2, "Grace back");
      await ada.clock.runFor(GRACE_MS);
      assert.deepEqual(await lines(ada), ["Grace joined"]);
      assert.deepEqual(await members(ada), ["Ada", "Grace"]);
    });

    check("the connection shows its state and its transport, which becomes websocket", async () => {
      const ada = await visit("Ada");
      await connected(ada);
      assert.equal(await ada.locator("#status-text").textContent(), "Connected");
      assert.equal(await ada.locator("#status-spoken").textContent(), "Connected");
      assert.deepEqual(await ada.evaluate(() => window.transports), ["polling", "websocket"]);
      assert.equal(await ada.locator("#fact-transport").textContent(), "polling → websocket");
      assert.match(await ada.locator("#fact-socket").textContent(), /^[\w-]{16,}$/);
      assert.match(await ada.locator("#fact-trip").textContent(), /^[\d.]+ ms$/);
    });

    check("a new name is seen by the others and kept for the next visit", async () => {
      const [ada, grace] = await two("Ada", "Grace", { ...desktop, clock: true });
      await stopClock(grace);
      await ada.click("#name-edit");
      await ada.fill("#name", "  Ada   Lovelace ");
      await ada.press("#name", "Enter");
      await seen(async () => (await members(grace)).includes("Ada Lovelace"), "the new name");
      await seen(async () => (await lines(grace)).includes("Ada is now Ada Lovelace"), "the line about it");
      await grace.clock.runFor(GRACE_MS);
      assert.equal((await members(grace)).length, 2);
      assert.ok(!(await lines(grace)).includes("Ada left"));
      await connected(ada);
      await say(ada, "under the new name");
      await shown(grace, "under the new name");
      assert.deepEqual(await grace.locator("#log .who b").allTextContents(), ["Ada Lovelace"]);
      await ada.reload();
      await connected(ada);
      assert.equal(await ada.locator("#me-name").textContent(), "Ada Lovelace");
    });

    checkPage("the name dialog keeps the old name when cancelled or empty, and suggests another", async () => {
      const ada = await visit("Ada");
      await connected(ada);
      await ada.click("#name-edit");
      await ada.fill("#name", "Somebody");
      await ada.press("#name", "Escape");
      await ada.locator("#name-dialog").waitFor({ state: "hidden" });
      await ada.click("#name-edit");
      assert.equal(await ada.inputValue("#name"), "Ada");
      await ada.fill("#name", "   ");
      await ada.press("#name", "Enter");
      assert.equal(await ada.locator("#me-name").textContent(), "Ada");
      if (!(await ada.locator("#name-dialog").isVisible())) await ada.click("#name-edit");
      await ada.click("#name-other");
      assert.match(await ada.inputValue("#name"), /^[A-Z][a-z]+ [A-Z][a-z]+$/);
      await ada.click("#name-cancel");
      assert.deepEqual(await members(ada), ["Ada"]);
    });

    checkPage("someone new gets a friendly name", async () => {
      const page = await visit(undefined);
      await connected(page);
      const name = await page.locator("#me-name").textContent();
      assert.match(name, /^[A-Z][a-z]+ [A-Z][a-z]+$/);
      assert.deepEqual(await members(page), [name]);
    });

    check("what is written while the server is down waits and arrives once, in order, after it is back", async () => {
      const [ada, grace] = await two();
      await say(ada, "before");
      await shown(grace, "before");
      await server.kill();
      await ada.locator('#status[data-state="reconnecting"]').waitFor();
      assert.match(await ada.locator("#status-text").textContent(), /^Reconnecting/);
      assert.ok(await ada.locator("#offline").isVisible());
      await say(ada, "during one");
      await say(ada, "during two");
      assert.deepEqual(await ada.locator("#outbox .note").allTextContents(), ["during one", "during two"]);
      assert.deepEqual(await ada.locator("#outbox .meta").allTextContents(), Array(2).fill("Waiting for the connection"));
      assert.deepEqual(await notes(ada), ["before"]);
      await seen(async () => /^Reconnecting in \d s$/.test(await ada.locator("#status-text").textContent()), "the countdown");
      await ada.locator('#status[data-state="reconnecting"]').waitFor();

      // Both pages first: whoever joins late has not missed the other's letters then.
      await ada.context().setOffline(true);
      await server.start();
      // The page may come back by itself in this moment, and there is nothing to click any more.
      await Promise.any([grace.click("#retry"), connected(grace)]);
      await connected(grace);
      await ada.context().setOffline(false);
      await connected(ada);
      await seen(async () => (await notes(ada)).length === 3, "delivery");
      assert.equal(await ada.locator("#outbox li").count(), 0);
      assert.equal(await ada.locator("#offline").isVisible(), false);
      await shown(grace, "during two");
      await ada.waitForTimeout(300);
      for (const page of [ada, grace]) {
        await seen(async () => (await members(page)).sort().join() === "Ada,Grace", "both in the list");
        assert.deepEqual(await notes(page), ["before", "during one", "during two"]);
      }
      // The browser itself reports each refused request; everything else would be ours.
      complaints = complaints.filter((text) => !/ERR_(CONNECTION_(REFUSED|RESET)|EMPTY_RESPONSE|INTERNET_DISCONNECTED)|WebSocket connection to .* failed/.test(text));
    });

    /** What is about history is about ours: the npm server keeps none. */
    const checkKept = subject.name === "ours" ? check : () => {};
    /** The browser itself reports each refused request; everything else would be ours. */
    const forgiveRefusals = () => {
      complaints = complaints.filter((text) => !/ERR_(CONNECTION_(REFUSED|RESET)|EMPTY_RESPONSE|INTERNET_DISCONNECTED)|WebSocket connection to .* failed/.test(text));
    };
    const proof = async (page) => ({
      recovered: await page.locator("#fact-recovered").textContent(),
      caughtUp: await page.locator("#fact-caught").textContent(),
      missed: await page.locator("#fact-missed").textContent(),
    });
    const isBack = (page) => seen(async () => (await page.locator("#fact-break").textContent()) !== "–", "the end of the break");

    checkKept("what was said is there for who comes later, in its order, also after a reload", async () => {
      const [ada, grace] = await two();
      for (const text of ["first", "second"]) {
        await say(ada, text);
        await shown(grace, text);
      }
      await say(grace, "third");
      await shown(ada, "third");
      const emit = await backend();
      await emit("chat", "from a script");
      const all = ["first", "second", "third", "from a script"];
      for (const page of [ada, grace]) await shown(page, "from a script");
      await ada.reload();
      const late = await visit("Eve");
      for (const page of [ada, late]) {
        await connected(page);
        await seen(async () => (await notes(page)).length === 4, "the history");
        assert.deepEqual(await notes(page), all);
        assert.equal(await page.locator("#empty").isVisible(), false);
      }
      assert.equal(await late.locator("#log .own").count(), 0);
      assert.deepEqual(await ada.locator("#log .own .note").allTextContents(), ["first", "second"], "the tab knows its own again");
      assert.match(await late.title(), /^demo:test/, "history is nothing unread");
      assert.ok((await late.locator("#log time").first().getAttribute("datetime")) <= new Date().toISOString());
    });

    checkKept("a connection that is cut comes back by itself, with what was said meanwhile, and misses nothing", async () => {
      const [ada, grace] = await two("Ada", "Grace", { ...desktop, colorScheme: "dark" });
      await say(ada, "before");
      await shown(grace, "before");
      await ada.click("#cut");
      await ada.locator('#status[data-state="reconnecting"]').waitFor();
      assert.ok(await ada.locator("#cut").isDisabled());
      await say(grace, "while you were away");
      await say(grace, "and another");
      await say(ada, "written in the dark");
      await connected(ada);
      await isBack(ada);
      assert.deepEqual(await proof(ada), { recovered: "yes", caughtUp: "2", missed: "0" });
      assert.match((await lines(ada)).at(-1), /^Back after \d+ s: recovered yes, 2 messages caught up, missed 0$/);
      await shown(grace, "written in the dark");
      await shown(ada, "written in the dark");
      for (const page of [ada, grace]) {
        assert.deepEqual(await notes(page), ["before", "while you were away", "and another", "written in the dark"]);
      }
      assert.deepEqual(await faintTexts(ada), []);
      await ada.screenshot({ path: path.join(outputFolder(), `demo-${subject.name}-back.png`) });
    });

    checkKept("a server that is killed and started again has lost nothing: every message is there once, for everybody", async () => {
      const [ada, grace] = await two();
      for (const text of ["one", "two"]) await say(ada, text);
      await shown(grace, "two");
      await shown(ada, "two");
      await server.kill();
      for (const page of [ada, grace]) await page.locator('#status[data-state="reconnecting"]').waitFor();
      await say(ada, "while it was dead");
      await ada.context().setOffline(true);
      await server.start();
      await connected(grace);
      await isBack(grace);
      assert.deepEqual(await proof(grace), { recovered: "yes", caughtUp: "0", missed: "0" });
      // Ada is still away: what is said now she is sent when she is back.
      await say(grace, "it lives");
      await shown(grace, "it lives");
      const emit = await backend();
      assert.equal((await emit("chat", "so it does")).class, "disk");
      await shown(grace, "so it does");
      await ada.context().setOffline(false);
      await connected(ada);
      await isBack(ada);
      assert.deepEqual(await proof(ada), { recovered: "yes", caughtUp: "2", missed: "0" });
      await shown(grace, "while it was dead");
      await shown(ada, "while it was dead");
      const all = ["one", "two", "it lives", "so it does", "while it was dead"];
      const late = await visit("Eve");
      await connected(late);
      await seen(async () => (await notes(late)).length === all.length, "the history");
      for (const page of [ada, grace, late]) assert.deepEqual(await notes(page), all);
      forgiveRefusals();
    });

    checkKept("a server that has forgotten says so: missed is not zero", async () => {
      const ada = await visit("Ada");
      await connected(ada);
      await say(ada, "before");
      await shown(ada, "before");
      await server.kill();
      rmSync(server.data, { recursive: true });
      await server.start();
      await connected(ada);
      await isBack(ada);
      assert.deepEqual(await proof(ada), { recovered: "no", caughtUp: "0", missed: "some" });
      await say(ada, "after");
      await shown(ada, "after");
      assert.deepEqual(await notes(ada), ["before", "after"]);
      assert.deepEqual(await faintTexts(ada), []);
      forgiveRefusals();
    });

    checkPage("markup in texts, names and rooms is shown literally", async () => {
      const evil = '<img src=x onerror="window.hit=1"><script>window.hit=1</script><b>bold</b>';
      const room = `demo:<b>${testCount}</b>`;
      const [ada, grace] = await two("<i>Ada</i>", "Grace", { ...desktop, room });
      await say(ada, evil);
      await shown(grace, evil);
      await shown(ada, evil);
      assert.deepEqual(await members(grace), ["Grace", "<i>Ada</i>"]);
      assert.deepEqual(await grace.locator("#log .who b").allTextContents(), ["<i>Ada</i>"]);
      assert.deepEqual(await lines(ada), ["Grace joined"]);
      assert.equal(await grace.locator("#room").textContent(), room);
      const emit = await backend(room);
      await emit("chat", { name: evil, text: evil, from: evil });
      await emit("typing", { name: "<u>Eve</u>", typing: true });
      await seen(async () => (await grace.locator("#typing").textContent()) === "<u>Eve</u> is typing…", "the notice");
      for (const page of [ada, grace]) {
        assert.equal(await page.evaluate(() => window.hit), undefined);
        assert.equal(await page.locator("#log img, #log script, #log .note b, #log i, #members i, #room b").count(), 0);
      }
    });

    check("what a backend posts as plain text is shown as from the server", async () => {
      const ada = await visit("Ada");
      await connected(ada);
      const emit = await backend();
      assert.equal((await emit("chat", "hi")).ok, true);
      await shown(ada, "hi");
      assert.deepEqual(await ada.locator("#log .who b").allTextContents(), ["server"]);
      assert.equal(await ada.locator("#log .own").count(), 0);
    });

    check("messages of an unexpected shape do no harm", async () => {
      const ada = await visit("Ada");
      await connected(ada);
      const emit = await backend();
      for (const odd of [undefined, null, 7, true, [], {}, { text: 7 }, { text: null }, [["x"]]]) await emit("chat", odd);
      for (const odd of [undefined, null, "x", {}, { name: 7, typing: true }, { name: "x" }]) await emit("typing", odd);
      await emit("chat", { text: "nameless" });
      await emit("chat", { name: "n".repeat(500), text: "long name" });
      await emit("chat", { name: "Eve", text: "y".repeat(50_000) });
      await seen(async () => (await notes(ada)).length === 3, "the three that are messages");
      assert.deepEqual((await notes(ada)).slice(0, 2), ["nameless", "long name"]);
      assert.ok((await notes(ada))[2].length < 10_000);
      assert.deepEqual(await ada.locator("#log .who b").allTextContents(), ["someone", "n".repeat(32), "Eve"]);
      await say(ada, "alive");
      await shown(ada, "alive");
    });

    checkPage("nothing empty and nothing over-long is sent", async () => {
      const [ada, grace] = await two();
      for (const text of ["", "   ", "\n\n"]) {
        await say(ada, text);
        assert.ok(await ada.locator("#send").isDisabled());
      }
      await ada.fill("#text", "x".repeat(1_900));
      assert.equal(await ada.locator("#length").textContent(), "100 left");
      await ada.fill("#text", "x".repeat(2_001));
      assert.equal(await ada.locator("#length").textContent(), "1 too many");
      assert.ok(await ada.locator("#send").isDisabled());
      await ada.press("#text", "Enter");
      assert.equal((await ada.inputValue("#text")).length, 2_001, "nothing that was written is lost");
      assert.equal(await ada.locator("#text").getAttribute("aria-invalid"), "true");
      // Two thousand characters are two thousand, however many code units they take.
      await say(ada, "👋".repeat(2_000));
      await shown(grace, "👋".repeat(2_000));
      assert.equal((await notes(grace)).length, 1);
    });

    checkPage("Enter sends, Shift and Enter start a new line, and the field grows with it", async () => {
      const ada = await visit("Ada");
      await connected(ada);
      const height = () => ada.locator("#text").evaluate((node) => node.clientHeight);
      const one = await height();
      await ada.locator("#text").pressSequentially("one");
      await ada.press("#text", "Shift+Enter");
      await ada.locator("#text").pressSequentially("two");
      assert.ok((await height()) > one);
      await ada.press("#text", "Enter");
      await shown(ada, "one\ntwo");
      assert.equal(await ada.inputValue("#text"), "");
      assert.equal(await height(), one);
      await ada.fill("#text", "by the button");
      await ada.click("#send");
      await shown(ada, "by the button");
    });

    checkPage("whoever reads further up stays there and is told about new messages", async () => {
      const [ada, grace] = await two();
      for (let i = 0; i < 30; i++) await say(ada, `line ${i}`);
      await shown(grace, "line 29");
      const position = () => grace.locator("#scroll").evaluate((node) => node.scrollHeight - node.scrollTop - node.clientHeight);
      assert.ok((await position()) < 2, "the end follows");
      // Scrolled, and the page knows it.
      const up = () => grace.locator("#scroll").evaluate((node) => new Promise((resolve) => {
        node.addEventListener("scroll", resolve, { once: true });
        node.scrollTop = 0;
      }));
      await up();
      assert.ok((await position()) > 200);
      await say(ada, "one new");
      await seen(async () => (await grace.locator("#newer").textContent()) === "1 new message ↓", "the chip");
      await say(ada, "two new");
      await seen(async () => (await grace.locator("#newer").textContent()) === "2 new messages ↓", "the chip counts");
      assert.equal(await grace.locator("#scroll").evaluate((node) => node.scrollTop), 0);
      await grace.click("#newer");
      assert.ok((await position()) < 2);
      assert.equal(await grace.locator("#newer").isVisible(), false);
      // Writing takes the writer to the end.
      await up();
      await say(grace, "down");
      await seen(async () => (await position()) < 2, "the end again");
    });

    checkPage("the title counts what came while the page was hidden", async () => {
      const [ada, grace] = await two();
      assert.match(await grace.title(), /^demo:test/);
      const hide = (hidden) => grace.evaluate((value) => {
        Object.defineProperty(document, "hidden", { configurable: true, get: () => value });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
      await hide(true);
      await say(ada, "one");
      await say(ada, "two");
      await seen(async () => (await grace.title()).startsWith("(2) demo:test"), "the count in the title");
      await hide(false);
      assert.match(await grace.title(), /^demo:test/);
    });

    check("rooms are apart, and one that is not open says so", async () => {
      const ada = await visit("Ada");
      const grace = await visit("Grace", { ...desktop, room: `${testRoom}:other` });
      await connected(ada);
      await connected(grace);
      await say(ada, "here");
      await shown(ada, "here");
      await say(grace, "there");
      await shown(grace, "there");
      assert.deepEqual(await notes(ada), ["here"]);
      assert.deepEqual(await members(grace), ["Grace"]);
      assert.equal(await grace.locator("#room").textContent(), `${testRoom}:other`);
      assert.ok((await grace.locator(".about .second-tab").getAttribute("href")).endsWith(encodeURIComponent(`${testRoom}:other`)));

      const eve = await visit("Eve", { ...desktop, room: "private" });
      await eve.locator("#closed").waitFor();
      assert.notEqual(await eve.locator("#closed-reason").textContent(), "");
      assert.equal(await eve.locator("#status-text").textContent(), "Not in the room");
      assert.ok(await eve.locator("#text").isDisabled());
      await backend();
      const { ok, code } = await ask(backends[0], "room:join", "private", {});
      assert.deepEqual({ ok, code }, { ok: false, code: "forbidden" });
      assert.equal((await ask(backends[0], "room:emit", "private", "chat", "x")).ok, false);
    });

    check("two tabs of one browser are two people, a duplicated tab too", async () => {
      const ada = await visit("Ada");
      await connected(ada);
      const link = ada.locator(".about .second-tab");
      const [second] = await Promise.all([contexts[0].waitForEvent("page"), link.click()]);
      await connected(second);
      await seen(async () => (await members(ada)).length === 2, "two tabs");
      await say(second, "from the second tab");
      await shown(ada, "from the second tab");
      assert.equal(await ada.locator("#log .own").count(), 0);
      await seen(async () => (await second.locator("#log .own").count()) === 1, "the copy came back to its writer");
      // What a duplicated tab would copy holds no tab id while the page is open.
      assert.equal(await ada.evaluate(() => sessionStorage.length), 0);
    });

    checkPage("the page can be used by keyboard alone", async () => {
      const ada = await visit("Ada");
      await connected(ada);
      const focused = () => ada.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.tagName);
      assert.equal(await focused(), "text", "ready to write");
      await ada.focus(".skip");
      const order = [await focused()];
      for (let i = 0; i < 6; i++) {
        await ada.keyboard.press("Tab");
        order.push(await focused());
      }
      assert.deepEqual(order, ["skip", "name-edit", "scroll", "second-tab", "text", "cut", "second-tab button"]);
      await ada.focus("#name-edit");
      await ada.keyboard.press("Enter");
      assert.equal(await focused(), "name");
      await ada.keyboard.type("Countess");
      await ada.keyboard.press("Enter");
      await seen(async () => (await members(ada)).includes("Countess"), "the new name");
      assert.equal(await focused(), "name-edit", "back where it came from");
      // Focus is visible: a ring of at least two pixels.
      const ring = await ada.evaluate(() => getComputedStyle(document.activeElement).outlineWidth);
      assert.ok(parseFloat(ring) >= 2, ring);
    });

    checkPage("screen readers get names, a log and the state", async () => {
      const [ada] = await two();
      for (const [role, name] of [["log", "Messages"], ["textbox", "Message"], ["button", "Send"], ["complementary", "People and connection"], ["heading", `Posthaste ${testRoom}`]]) {
        assert.equal(await ada.getByRole(role, { name }).count(), 1, `${role} ${name}`);
      }
      assert.match(await ada.locator("#name-edit").evaluate((node) => node.textContent.replace(/\s+/g, " ").trim()), /^A ?You are Ada\. Change your name$/);
      assert.equal(await ada.locator('[role="log"]').getAttribute("aria-live"), "polite");
      await ada.getByRole("status").filter({ hasText: "Connected" }).waitFor({ state: "attached" });
    });

    for (const colorScheme of ["light", "dark"]) {
      checkPage(`every text has enough contrast and the page looks right (desktop, ${colorScheme})`, async () => {
        const page = await visit("Swift Kestrel", { ...desktop, colorScheme, room: `demo:${colorScheme}` });
        await connected(page);
        assert.deepEqual(await faintTexts(page), []);
        await conversation(page);
        assert.deepEqual(await faintTexts(page), []);
        await page.screenshot({ path: path.join(outputFolder(), `demo-${subject.name}-desktop-${colorScheme}.png`) });
        assert.equal(await overflow(page), 0);
      });
    }

    checkPage("a phone shows the conversation, and the people in a sheet", async () => {
      const page = await visit("Quick Heron", { ...phone, colorScheme: "light", room: "demo" });
      await connected(page);
      await conversation(page);
      assert.deepEqual(await faintTexts(page), []);
      await page.screenshot({ path: path.join(outputFolder(), `demo-${subject.name}-phone.png`) });
      assert.equal(await overflow(page), 0);
      assert.equal(await page.locator("#text").evaluate((node) => getComputedStyle(node).fontSize), "16px");
      const field = await page.locator("#composer").boundingBox();
      assert.ok(field.y + field.height <= 844, "the field is on the screen");
      for (const control of ["#send", "#people-open", "#name-edit"]) {
        const { width, height } = await page.locator(control).boundingBox();
        assert.ok(width >= 40 && height >= 40, `${control} is ${width} × ${height}`);
      }

      assert.equal(await page.locator("#people").isVisible(), false);
      assert.equal(await page.locator("#people-open .count").textContent(), "3");
      await page.tap("#people-open");
      await page.locator("#people").waitFor();
      assert.equal(await page.locator("#people-open").getAttribute("aria-expanded"), "true");
      assert.equal(await page.evaluate(() => document.activeElement.id), "people-close");
      await page.waitForTimeout(300);
      await page.screenshot({ path: path.join(outputFolder(), `demo-${subject.name}-phone-people.png`) });
      assert.deepEqual(await page.locator("#members .name").allTextContents(), ["Quick Heron", "Ada Lovelace", "Grace Hopper"]);
      await page.keyboard.press("Escape");
      await page.locator("#people").waitFor({ state: "hidden" });
      assert.equal(await page.evaluate(() => document.activeElement.id), "people-open");

      // An on-screen keyboard leaves about half of the height: the field stays, the end of the conversation above it.
      await page.setViewportSize({ width: 390, height: 420 });
      await seen(async () => {
        const squeezed = await page.locator("#composer").boundingBox();
        return squeezed.y > 100 && squeezed.y + squeezed.height <= 420;
      }, "the field above the keyboard");
      const isAtEnd = (node) => node.scrollHeight - node.scrollTop - node.clientHeight < 2;
      await seen(() => page.locator("#scroll").evaluate(isAtEnd), "the end of the conversation above the field");
    });

    checkPage("the narrowest phones and long words do not make it scroll sideways", async () => {
      const page = await visit("W".repeat(32), { ...phone, viewport: { width: 320, height: 568 } });
      await connected(page);
      await say(page, "unbreakable".repeat(60));
      await shown(page, "unbreakable".repeat(60));
      const emit = await backend();
      await emit("chat", { name: "M".repeat(32), text: "wide ".repeat(40) + "x".repeat(300) });
      await seen(async () => (await notes(page)).length === 2, "both notes");
      assert.equal(await overflow(page), 0);
    });

    /** A conversation worth looking at, with two more people who stay until the test is over. */
    async function conversation(page) {
      const room = await page.locator("#room").textContent();
      for (const name of ["Ada Lovelace", "Grace Hopper"]) {
        const socket = io(server.urls.socketio, {
          forceNew: true,
          reconnection: false,
          auth: { info: { name, from: name } },
        });
        backends.push(socket);
        await until(() => socket.connected, "someone else");
        await call(socket, "room:join", room, {});
        socket.chat = (text) => call(socket, "room:emit", room, "chat", { name, text, from: name });
      }
      const [ada, grace] = backends.slice(-2);
      await ada.chat("Is the parcel service back up?");
      await grace.chat("It is. I restarted the node while you were typing, and your tab came back by itself.");
      await grace.chat("Nothing was lost as far as I can see.");
      await say(page, "Can confirm from the train: polling first, then websocket.");
      await shown(page, "Can confirm from the train: polling first, then websocket.");
      await ada.chat("Lovely. Two lines:\n  • the order is the same for everyone\n  • <b>markup</b> is just text");
      await call(ada, "room:emit", room, "chat", "deploy 4f1c2e finished in 38 s");
      await shown(page, "deploy 4f1c2e finished in 38 s");
      await say(page, "Perfect.");
      await shown(page, "Perfect.");
      await say(page, "Closing the ticket then.");
      await shown(page, "Closing the ticket then.");
      await call(grace, "room:emit", room, "typing", { name: "Grace Hopper", typing: true, from: "Grace Hopper" });
      await seen(async () => (await page.locator("#typing").textContent()) !== "", "the notice");
      await page.waitForTimeout(250);
    }
  });
}

/** By how many pixels the page is wider than its window. */
function overflow(page) {
  return page.evaluate(() => Math.max(0, document.documentElement.scrollWidth - innerWidth));
}

/** Visible texts whose contrast to what lies behind them is below 4.5 to 1 (WCAG 2.2, 1.4.3, level AA). */
function faintTexts(page) {
  return page.evaluate(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (color) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
      return canvas.getImageData(0, 0, 1, 1).data;
    };
    const luminance = ([r, g, b]) => {
      const [x, y, z] = [r, g, b].map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (node) => {
      for (let at = node; at; at = at.parentElement) {
        const color = rgba(getComputedStyle(at).backgroundColor);
        if (color[3] === 255) return color;
      }
      return rgba("white");
    };
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode.parentElement;
      const content = walker.currentNode.textContent.trim();
      if (!content || node.closest(".spoken, :disabled, noscript, dialog, script") || !node.checkVisibility({ visibilityProperty: true })) continue;
      const [high, low] = [luminance(rgba(getComputedStyle(node).color)), luminance(behind(node))].sort((a, b) => b - a);
      const ratio = (high + 0.05) / (low + 0.05);
      if (ratio < 4.5) faint.push(`${content.slice(0, 30)}: ${ratio.toFixed(2)}`);
    }
    return faint;
  });
}
