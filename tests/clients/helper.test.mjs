// posthaste-recovery.js in pages of a real browser, and the official client's own repeating in Node: nothing is missed over a page
// load, and nothing is done twice.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, afterEach, before, describe } from "node:test";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { Cable } from "./cable.mjs";
import { launchChromium } from "./chromium.mjs";
import { ask, check, opened, programOf, StandaloneServer, until } from "./harness.mjs";

const program = programOf("POSTHASTE_BIN");
const assets = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../crates/server/assets");

/** What the tests ask of a page: a socket with the helper, what it heard, how it came back. */
const SCRIPT = `
  Object.assign(window, { heard: [], sessions: [], answers: [], drops: 0 });
  window.socket = io({ transports: ["websocket"], reconnectionDelay: 20, reconnectionDelayMax: 100, auth: { info: "x" } });
  window.recovery = posthasteRecovery(socket, {
    answerWithin: 5000, saveEvery: window.saveEvery ?? 50, confirmEvery: 100,
    onsession: (restored) => sessions.push(restored),
    onanswer: (event, args, answer) => answers.push([event, args, answer]),
  });
  socket.on("note", (number) => heard.push(number));
  socket.on("disconnect", () => { drops += 1; });
`;
const CLASSIC = `<!doctype html><script src="/socket.io/socket.io.min.js"></script><script src="/socket.io/posthaste-recovery.js"></script>
  <script>${SCRIPT}</script>`;
const MODULE = `<!doctype html><script type="module">import { io } from "/socket.io/socket.io.esm.min.js";
  import "/socket.io/posthaste-recovery.js"; ${SCRIPT}</script>`;

const seen = (condition, what) => until(condition, what, 20_000, 30);

if (program && (process.env.SUBJECTS?.includes("ours") ?? true)) {
  describe("the helper [ours]", () => {
    const server = new StandaloneServer({ command: [program] });
    let browser;
    let keeping;
    let contexts = [];
    let cleanups = [];
    let rooms = 0;

    before(async () => {
      await server.start();
      browser = await launchChromium();
    });
    afterEach(async () => {
      for (const clean of cleanups) clean();
      await Promise.all(contexts.map((context) => context.close()));
      [contexts, cleanups] = [[], []];
      await server.mend();
    });
    after(async () => {
      await browser?.close();
      await keeping?.close();
      await server.stop();
    });

    const room = () => `demo:${(rooms += 1)}`;
    const address = () => `${server.urls.socketio}/page`;

    /** Pages under the server's origin; `offline` has the scripts come from the disk, so that pages load while the server is down. */
    async function context({ page = CLASSIC, offline = false, keepsPages = false, locks = true, saveEvery } = {}) {
      if (keepsPages) keeping ??= await launchChromium({ keepsPages });
      // A page that the test gives is from nowhere: Chromium asks before it lets such a one talk to this machine.
      const made = await (keepsPages ? keeping : browser).newContext({ permissions: ["local-network-access"] });
      contexts.push(made);
      // As in pages without TLS.
      if (!locks) await made.addInitScript(() => Object.defineProperty(Navigator.prototype, "locks", { get: () => undefined }));
      if (saveEvery) await made.addInitScript((ms) => { window.saveEvery = ms; }, saveEvery);
      await made.route("**/page*", (route) => route.fulfill({ contentType: "text/html", body: page }));
      if (offline) {
        const script = (file) => (route) => route.fulfill({ contentType: "text/javascript", body: readFileSync(path.join(assets, file), "utf8") });
        await made.route("**/socket.io/socket.io.min.js", script("client/socket.io.min.js"));
        await made.route("**/socket.io/posthaste-recovery.js", script("posthaste-recovery.js"));
      }
      return made;
    }
    const session = (page) => seen(() => page.evaluate(() => window.sessions?.length > 0), "the session");
    async function visit(made) {
      const page = await made.newPage();
      page.setDefaultTimeout(20_000);
      await page.goto(address());
      await session(page);
      return page;
    }
    const join = (page, name) => page.evaluate((it) => socket.emitWithAck("room:join", it), name);
    const heard = (page) => page.evaluate(() => window.heard);
    const hears = (page, numbers) => seen(async () => (await heard(page)).length >= numbers.length, `hearing ${numbers}`)
      .then(async () => assert.deepEqual(await heard(page), numbers));

    /** Kills the server, and waits until the page knows. */
    async function killUnder(page) {
      await server.kill();
      await seen(() => page.evaluate(() => !socket.connected), "the end of the connection");
    }

    /** A client in Node, and a function with which it says notes in a room. */
    async function teller(name) {
      const socket = io(server.urls.socketio, { forceNew: true, transports: ["websocket"], reconnectionDelay: 20, reconnectionDelayMax: 100 });
      cleanups.push(() => socket.disconnect());
      await opened(socket);
      return async (...numbers) => {
        for (const number of numbers) assert.equal((await ask(socket, "room:emit", name, "note", number)).ok, true);
      };
    }
    /** What a room keeps. */
    async function kept(name) {
      const socket = io(server.urls.socketio, { forceNew: true, transports: ["websocket"] });
      cleanups.push(() => socket.disconnect());
      await opened(socket);
      const page = await ask(socket, "room:history", name, { limit: 1000 });
      assert.equal(page.ok, true, JSON.stringify(page));
      return page.events.map(({ args }) => args[0]);
    }

    for (const [kind, page] of [["a classic script", CLASSIC], ["a module", MODULE]]) {
      check(`a page that is loaded again as ${kind} is who it was and missed nothing, also over a kill`, async () => {
        const [name, made] = [room(), await context({ page })];
        const first = await visit(made);
        assert.equal(await first.evaluate(() => recovery.restored), false);
        assert.equal((await join(first, name)).ok, true);
        const id = await first.evaluate(() => socket.id);
        let tell = await teller(name);
        await tell(1, 2);
        await hears(first, [1, 2]);
        for (const [killed, missed, live] of [[false, [3, 4], 5], [true, [6, 7], 8]]) {
          await first.goto("about:blank");
          await tell(...missed);
          if (killed) {
            await server.kill();
            await server.start();
            tell = await teller(name);
          }
          await first.goto(address());
          await session(first);
          assert.deepEqual(await first.evaluate(() => [sessions, recovery.restored, socket.id]), [[true], true, id]);
          await tell(live);
          await hears(first, [...missed, live]);
        }
        // And reloaded as a person does it.
        await first.reload();
        await session(first);
        assert.deepEqual(await first.evaluate(() => [recovery.restored, socket.id]), [true, id]);
        await tell(9);
        await hears(first, [9]);
      });
    }

    check("a page that heard nothing before it was loaded again misses nothing either", async () => {
      const [name, made] = [room(), await context()];
      const page = await visit(made);
      await join(page, name);
      await page.goto("about:blank");
      await (await teller(name))(1);
      await page.goto(address());
      await hears(page, [1]);
    });

    check("a tab that was duplicated is somebody of its own, and neither takes the other's session", async () => {
      const [name, made] = [room(), await context()];
      const one = await visit(made);
      await join(one, name);
      const tell = await teller(name);
      await tell(1);
      await hears(one, [1]);
      await seen(() => one.evaluate(() => JSON.parse(sessionStorage.getItem("posthaste-recovery:/")).offset === recovery.offset), "saving");
      // A window that a page opens has a copy of its storage, as a duplicated tab has.
      const [two] = await Promise.all([made.waitForEvent("page"), one.evaluate(() => { window.open(location.href); })]);
      await session(two);
      assert.equal(await two.evaluate(() => recovery.restored), false);
      await join(two, name);
      await tell(2);
      await Promise.all([hears(one, [1, 2]), hears(two, [2])]);
      const ids = [await one.evaluate(() => socket.id), await two.evaluate(() => socket.id)];
      assert.notEqual(ids[0], ids[1]);
      assert.deepEqual([await one.evaluate(() => drops), await two.evaluate(() => drops)], [0, 0]);
      for (const [page, id] of [[two, ids[1]], [one, ids[0]]]) {
        await page.reload();
        await session(page);
        assert.deepEqual(await page.evaluate(() => [recovery.restored, socket.id]), [true, id]);
      }
    });

    check("a copy of a page that is left meanwhile takes neither its session nor what it still has to say", async () => {
      const [name, made] = [room(), await context({ offline: true })];
      const one = await visit(made);
      await join(one, name);
      const id = await one.evaluate(() => socket.id);
      await killUnder(one);
      await one.evaluate((it) => { recovery.send("room:emit", it, "note", 1); }, name);
      await seen(() => one.evaluate(() => recovery.pending.length === 1), "what is to be said");
      const [two] = await Promise.all([made.waitForEvent("page"), one.evaluate(() => { window.open(location.href); })]);
      await seen(() => two.evaluate(async () => (await navigator.locks.query()).pending.length === 1), "waiting for the lock");
      await one.goto("about:blank");
      await two.evaluate(() => recovery.ready);
      assert.deepEqual(await two.evaluate(() => recovery.pending), []);
      await server.start();
      await session(two);
      assert.deepEqual(await two.evaluate((it) => [sessions, socket.id === it], id), [[false], false]);
      await one.goto(address());
      await session(one);
      assert.deepEqual(await one.evaluate(() => [sessions, socket.id]), [[true], id]);
      await seen(() => one.evaluate(() => recovery.pending.length === 0), "its answer");
      assert.deepEqual(await kept(name), [1]);
    });

    check("what a page sends is kept once each and in order, over a kill and a reload", async () => {
      const [name, made] = [room(), await context({ offline: true })];
      // The first connection's answers are lost, also those that are late: everything is done, and the page cannot know.
      let connections = 0;
      await made.routeWebSocket(/socket\.io/, (way) => {
        const isMute = (connections += 1) === 1;
        const to = way.connectToServer();
        to.onMessage((message) => { if (!isMute || !String(message).startsWith("43")) way.send(message); });
      });
      const page = await visit(made);
      const COUNT = 40;
      await page.evaluate((it) => {
        for (let number = 0; number < 20; number++) recovery.send("room:emit", it, "note", number);
      }, name);
      await seen(async () => (await kept(name)).length === 20, "keeping the first half");
      await server.kill();
      await page.evaluate((it) => {
        for (let number = 20; number < 40; number++) recovery.send("room:emit", it, "note", number);
      }, name);
      await seen(() => page.evaluate(() => recovery.pending.at(-1)?.args[2] === 39), "keeping the last");
      await page.goto(address());
      await seen(() => page.evaluate(() => window.recovery?.pending.length === 40), "what was not answered, again");
      await server.start();
      await seen(() => page.evaluate(() => recovery.pending.length === 0), "all answers");
      const answers = await page.evaluate(() => answers);
      assert.equal(answers.length, COUNT);
      assert.equal(answers.filter(([, , answer]) => answer.dup).length, 20);
      assert.ok(answers.every(([event, , answer]) => event === "room:emit" && answer.ok), JSON.stringify(answers));
      assert.deepEqual(await kept(name), Array.from({ length: COUNT }, (_, number) => number));
      // Nothing is left for the page after it.
      await page.reload();
      await session(page);
      assert.deepEqual(await page.evaluate(() => recovery.pending), []);
    });

    /** A page in a room, in a browser that keeps pages which are left. */
    async function keptPage(options) {
      const [name, made] = [room(), await context({ keepsPages: true, ...options })];
      const page = await visit(made);
      await Promise.all([join(page, name), page.evaluate(() => { window.isKept = true; })]);
      return { name, page };
    }
    /** Goes back to it. Nothing is loaded by that, which is what a navigation is waited for. */
    const back = async (page) => {
      await page.evaluate(() => { setTimeout(() => history.back(), 0); });
      await seen(() => page.evaluate(() => window.isKept).catch(() => false), "the page that was kept");
    };
    /** Has another page hold the lock of this one's session for a while, as soon as this one lets go. */
    const lockBehind = async (page, ms) => {
      const lock = await page.evaluate(() => `posthaste-recovery:${JSON.parse(sessionStorage.getItem("posthaste-recovery:/")).id}`);
      const other = await page.context().newPage();
      await other.goto(`${address()}?other`);
      await other.evaluate(([name, time]) => { navigator.locks.request(name, () => new Promise((done) => { setTimeout(done, time); })); }, [lock, ms]);
    };

    for (const locks of [true, false]) {
      const how = locks ? "" : ", where there are no locks";
      check(`a page that somebody goes back to hears what was said meanwhile${how}`, async () => {
        const { name, page } = await keptPage({ locks });
        const tell = await teller(name);
        await tell(1);
        await hears(page, [1]);
        const id = await page.evaluate(() => socket.id);
        await page.goto("about:blank");
        await tell(2, 3);
        await back(page);
        await tell(4);
        await hears(page, [1, 2, 3, 4]);
        assert.deepEqual(await page.evaluate(() => [socket.id, sessions]), [id, [false]]);
        await page.reload();
        await session(page);
        assert.deepEqual(await page.evaluate(() => [recovery.restored, socket.id]), [true, id]);
      });

      check(`what a page could not send is sent by the one that somebody goes back to, and once${how}`, async () => {
        // What was heard is to be saved half a second later: the page is left before, and comes back with that still to do, when
        // what lies there is not its own yet.
        const { name, page } = await keptPage({ offline: true, locks, saveEvery: 500 });
        await (await teller(name))(0);
        await hears(page, [0]);
        await server.kill();
        await page.evaluate((it) => { recovery.send("room:emit", it, "note", 1); }, name);
        await page.goto(`${address()}?second`);
        await seen(() => page.evaluate(() => window.recovery?.pending.length === 1), "what the first has left");
        await page.evaluate((it) => { recovery.send("room:emit", it, "note", 2); }, name);
        await seen(() => page.evaluate(() => window.recovery?.pending.length === 2), "what the second has to say");
        if (locks) await lockBehind(page, 1000);
        await back(page);
        // It takes over what the second has left when that has gone; before, its own alone could be answered.
        await seen(() => page.evaluate(() => recovery.pending.length === 2), "what both have to say");
        await server.start();
        await seen(() => page.evaluate(() => recovery.pending.length === 0), "all answers");
        assert.deepEqual(await kept(name), [0, 1, 2]);
        // Both say all of it, whether the browser kept the second or loads it: each has one effect.
        await page.evaluate(() => { setTimeout(() => history.forward(), 0); });
        const isDone = () => location.search === "?second" && window.sessions.length > 0 && recovery.pending.length === 0;
        await seen(() => page.evaluate(isDone).catch(() => false), "all answers, again");
        assert.deepEqual(await kept(name), [0, 1, 2]);
      });

      check(`a page that somebody goes back to is told that another heard more, and sends nothing that the other was answered${how}`, async () => {
        const { name, page } = await keptPage({ offline: true, locks });
        const id = await page.evaluate(() => socket.id);
        const tell = await teller(name);
        await tell(1);
        await hears(page, [1]);
        await killUnder(page);
        await page.evaluate((it) => {
          window.sent = [];
          socket.onAnyOutgoing((event) => sent.push(event));
          window.answer = recovery.send("room:emit", it, "note", 2).then(() => "an answer", (error) => error.code);
        }, name);
        await page.goto(`${address()}?second`);
        await seen(() => page.evaluate(() => window.recovery?.pending.length === 1), "what the first has left");
        await server.start();
        await session(page);
        await seen(() => page.evaluate(() => recovery.pending.length === 0), "the answer");
        assert.equal(await page.evaluate(() => socket.id), id);
        await tell(3);
        await hears(page, [2, 3]);
        await back(page);
        await seen(() => page.evaluate(() => sessions.length === 2), "being told");
        assert.deepEqual(await page.evaluate(async () => [sessions, recovery.pending, await answer, socket.id]), [[false, false], [], "elsewhere", id]);
        await tell(4);
        await seen(async () => (await heard(page)).at(-1) === 4, "what comes now");
        assert.ok(!(await page.evaluate(() => sent)).includes("room:emit"));
        assert.deepEqual(await kept(name), [1, 2, 3, 4]);
      });
    }

    check("what a page says as it is left is said by the next one, and not again by who goes back", async () => {
      const { name, page } = await keptPage({ offline: true });
      await page.evaluate((it) => {
        window.sent = [];
        socket.onAnyOutgoing((event) => sent.push(event));
        // Behind pagehide, and the connection is closed by then or cannot be relied on.
        document.addEventListener("visibilitychange", () => {
          if (document.visibilityState !== "hidden") return;
          window.answer = recovery.send("room:emit", it, "note", 1).then(() => "an answer", (error) => error.code);
        });
      }, name);
      await page.goto(`${address()}?second`);
      await session(page);
      await seen(async () => (await kept(name)).length === 1, "what the first said as it was left");
      await seen(() => page.evaluate(() => recovery.pending.length === 0), "its answer");
      await back(page);
      assert.equal(await page.evaluate(() => answer), "elsewhere");
      await seen(() => page.evaluate(() => socket.connected), "its connection");
      assert.deepEqual(await page.evaluate(() => [recovery.pending, sent.includes("room:emit")]), [[], false]);
      assert.deepEqual(await kept(name), [1]);
    });

    check("that another page heard more is told as well to who is loaded again before it could be told", async () => {
      const { name, page } = await keptPage({ offline: true });
      const tell = await teller(name);
      await tell(1);
      await hears(page, [1]);
      await page.goto(`${address()}?second`);
      await session(page);
      assert.equal(await page.evaluate(() => recovery.restored), true);
      await tell(2);
      await hears(page, [2]);
      await server.kill();
      await back(page);
      await page.evaluate(() => recovery.ready);
      await page.reload();
      await server.start();
      await session(page);
      assert.deepEqual(await page.evaluate(() => [sessions, recovery.restored]), [[false], false]);
      await page.reload();
      await session(page);
      assert.deepEqual(await page.evaluate(() => [sessions, recovery.restored]), [[true], true]);
    });

    check("a page whose first connection ended before it was told of its session is told over the next", async () => {
      const [name, made] = [room(), await context()];
      let cuts = 0;
      await made.routeWebSocket(/socket\.io/, (way) => {
        const to = way.connectToServer();
        to.onMessage((message) => {
          if (cuts > 0 && String(message).startsWith('42["sio:session"')) {
            cuts -= 1;
            return way.close();
          }
          way.send(message);
        });
      });
      const page = await visit(made);
      await join(page, name);
      const id = await page.evaluate(() => socket.id);
      cuts = 1;
      await page.reload();
      await session(page);
      assert.deepEqual(await page.evaluate(() => [sessions, recovery.restored, socket.id]), [[true], true, id]);
      // Another page's is not its own, though it is recovered over the second connection.
      const other = await made.newPage();
      cuts = 1;
      await other.goto(address());
      await session(other);
      assert.deepEqual(await other.evaluate(() => [sessions, socket.recovered]), [[false], true]);
    });

    check("a page that may not store anything has its session as long as it lives", async () => {
      const [name, made] = [room(), await context()];
      await made.addInitScript(() => Object.defineProperty(window, "sessionStorage", { get: () => { throw new DOMException("blocked", "SecurityError"); } }));
      const page = await visit(made);
      await join(page, name);
      assert.equal((await page.evaluate((it) => recovery.send("room:emit", it, "note", 1), name)).ok, true);
      await hears(page, [1]);
      assert.deepEqual(await page.evaluate(() => [sessions, recovery.pending]), [[false], []]);
    });

    check("a page that somebody goes back to while another has its session is somebody new, and loses nothing it had to say", async () => {
      const { name, page } = await keptPage({ offline: true });
      const id = await page.evaluate(() => socket.id);
      await killUnder(page);
      await page.evaluate((it) => { recovery.send("room:emit", it, "note", 1); }, name);
      await lockBehind(page, 10_000);
      await page.goto("about:blank");
      await server.start();
      await back(page);
      await seen(() => page.evaluate((it) => socket.connected && socket.id !== it, id), "being somebody new");
      await seen(() => page.evaluate(() => recovery.pending.length === 0), "the answer");
      assert.equal(await page.evaluate(() => socket.recovered), false);
      assert.deepEqual(await kept(name), [1]);
      await page.reload();
      await session(page);
      assert.equal(await page.evaluate(() => recovery.restored), true);
    });

    check("without locks a page is who it was when it is loaded again, and one that it opens is somebody else", async () => {
      const [name, made] = [room(), await context({ locks: false })];
      const one = await visit(made);
      await join(one, name);
      const id = await one.evaluate(() => socket.id);
      const tell = await teller(name);
      await tell(1);
      await hears(one, [1]);
      const [two] = await Promise.all([made.waitForEvent("page"), one.evaluate(() => { window.open(location.href); })]);
      await session(two);
      assert.deepEqual(await two.evaluate(() => [recovery.restored, typeof navigator.locks]), [false, "undefined"]);
      assert.notEqual(await two.evaluate(() => socket.id), id);
      await one.reload();
      await session(one);
      assert.deepEqual(await one.evaluate(() => [recovery.restored, socket.id]), [true, id]);
      await tell(2);
      await hears(one, [2]);
    });

    check("what is refused for now stays in the outbox and is sent again under its key", async () => {
      const [name, made] = [room(), await context()];
      const refusals = [{ code: "busy" }, { code: "storage_full", retry_after: 30 }];
      const keys = [];
      await made.routeWebSocket(/socket\.io/, (way) => {
        const to = way.connectToServer();
        way.onMessage((message) => {
          const key = /"\$key":"(\w+)"/.exec(String(message));
          if (key) keys.push(key[1]);
          to.send(message);
        });
        to.onMessage((message) => {
          const id = /^43(\d+)\[/.exec(String(message))?.[1];
          const refusal = id && refusals.shift();
          way.send(refusal ? `43${id}[${JSON.stringify({ ok: false, message: "not now", ...refusal })}]` : message);
        });
      });
      const page = await visit(made);
      const answer = await page.evaluate((it) => recovery.send("room:emit", it, "note", 7), name);
      assert.equal(answer.ok, true, JSON.stringify(answer));
      assert.equal(keys.length, 3);
      assert.equal(new Set(keys).size, 1);
      assert.deepEqual(await page.evaluate(() => recovery.pending), []);
      assert.deepEqual(await kept(name), [7]);
    });

    check("an outbox has bounds and says so", async () => {
      const page = await visit(await context());
      const refused = await page.evaluate(async () => {
        socket.disconnect();
        const small = posthasteRecovery(socket, { name: "small", maxCount: 2, maxBytes: 1000 });
        small.send("a", 1);
        small.send("b", 2);
        const codes = [];
        const code = (error) => codes.push(error.code ?? error.name);
        await small.send("c", 3).catch(code);
        const other = posthasteRecovery(socket, { name: "other", maxBytes: 1000 });
        await other.send("d", "x".repeat(1000)).catch(code);
        await other.send("e", new Uint8Array(3)).catch(code);
        await other.send("disconnect").catch(code);
        await posthasteRecovery(socket, { name: "large", maxPayload: 1000 }).send("f", "\u4e00".repeat(300)).catch(code);
        try { posthasteRecovery({ nsp: "/", timeout() {} }); } catch (error) { codes.push(error.message); }
        return [codes, small.pending.map(({ event }) => event), other.pending.length];
      });
      assert.deepEqual(refused, [["full", "full", "TypeError", "TypeError", "too_large", "posthaste-recovery.js needs socket.io-client 4.6 or later"], ["a", "b"], 0]);
    });

    check("what a page was sent of a room it can read again, without a hole", async () => {
      const [name, made] = [room(), await context()];
      const page = await visit(made);
      const start = await page.evaluate(() => recovery.offset);
      await join(page, name);
      const tell = await teller(name);
      await tell(...Array.from({ length: 120 }, (_, number) => number));
      await hears(page, Array.from({ length: 120 }, (_, number) => number));
      const events = await page.evaluate(([it, from]) => recovery.fill(it, from), [name, start]);
      assert.deepEqual(events.map(({ event, args }) => [event, args[0]]), Array.from({ length: 120 }, (_, number) => ["note", number]));
      assert.equal(await page.evaluate(() => recovery.fill("demo:of others").catch((error) => error.code)), "not_member");
    });

    check("the official client's own repeating has one effect with a key, and two without", async () => {
      const cable = await Cable.to({ port: server.port, onCleanup: (clean) => cleanups.push(clean) });
      const socket = io(cable.url, { forceNew: true, transports: ["websocket"], retries: 3, ackTimeout: 3_000, reconnectionDelay: 20, reconnectionDelayMax: 100 });
      cleanups.push(() => socket.disconnect());
      await opened(socket);
      for (const [key, effects] of [[[{ $key: `retries-${Math.random()}` }], 1], [[], 2]]) {
        const name = room();
        // The answer is on its way when the connection is lost: whoever sent it cannot know.
        cable.cutAfter(1);
        const answer = ask(socket, "room:emit", name, "note", 7, ...key);
        await until(() => cable.isCut, "the cut");
        cable.open();
        // With retries the first value is an error, if there is one.
        assert.equal(await answer, null);
        assert.equal((await kept(name)).length, effects);
      }
    });
  });
}
