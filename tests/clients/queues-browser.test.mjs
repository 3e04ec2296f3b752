// Work queues of `posthaste dev`, used by pages of a real browser with the client that the server serves: plain events and acks.

import assert from "node:assert/strict";
import { after, afterEach, before, describe } from "node:test";
import { launchChromium } from "./chromium.mjs";
import { check, programOf, StandaloneServer, until } from "./harness.mjs";

const program = programOf("POSTHASTE_BIN");

/** What the tests ask of a page: a client of `/queues`, what it was given, and bytes in a form that a test can read. */
const PAGE = `<!doctype html><script src="/socket.io/socket.io.min.js"></script><script>
  const transports = new URLSearchParams(location.search).get("transports").split(",");
  Object.assign(window, { jobs: [], revoked: [], recovered: [], held: [] });
  window.queues = io("/queues", { transports, reconnectionDelay: 20, reconnectionDelayMax: 100 });
  queues.on("connect", () => recovered.push(queues.recovered));
  queues.on("q:revoked", (id, reason) => revoked.push([id, reason]));
  /** Has what the page is given noted and answered with what \`work\` makes of it; with nothing when it gives \`undefined\`. */
  window.works = (work) => queues.on("job", (payload, meta, done) => {
    jobs.push({ payload: readable(payload), meta });
    held.push(done);
    const answer = work?.(payload, meta);
    if (answer !== undefined) done(answer);
  });
  /** Bytes as \`{kind, bytes}\`, wherever they are. */
  window.readable = (value) => {
    if (value instanceof ArrayBuffer || value instanceof Uint8Array) {
      return { kind: value.constructor.name, bytes: [...new Uint8Array(value)] };
    }
    if (Array.isArray(value)) return value.map(readable);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, readable(inner)]));
  };
</script>`;

if (program && (process.env.SUBJECTS?.includes("ours") ?? true)) {
  describe("queues in a browser [ours]", () => {
    const server = new StandaloneServer({ command: [program] });
    let browser;
    let contexts = [];
    let queues = 0;

    before(async () => {
      await server.start();
      browser = await launchChromium();
    });
    afterEach(async () => {
      await Promise.all(contexts.map((context) => context.close()));
      contexts = [];
    });
    after(async () => {
      await browser?.close();
      await server.stop();
    });

    const newQueue = () => `browser:${(queues += 1)}`;
    const seen = (condition, what) => until(condition, what, 20_000, 30);

    /** Somebody's page under the server's origin, connected to `/queues`. */
    async function visit(transports = "websocket") {
      // A page that the test gives is from nowhere: Chromium asks before it lets such a one talk to this machine.
      const context = await browser.newContext({ permissions: ["local-network-access"] });
      contexts.push(context);
      await context.route("**/page*", (route) => route.fulfill({ contentType: "text/html", body: PAGE }));
      const page = await context.newPage();
      page.setDefaultTimeout(20_000);
      await page.goto(`${server.urls.socketio}/page?transports=${transports}`);
      await seen(() => page.evaluate(() => window.queues?.connected), "connecting");
      return page;
    }
    /** Asks for something from a page, and gives the answer with its bytes readable. */
    const ask = (page, ...event) => page.evaluate(async (it) => readable(await queues.emitWithAck(...it)), event);
    async function ok(page, ...event) {
      const answer = await ask(page, ...event);
      assert.equal(answer.ok, true, `${event}: ${JSON.stringify(answer)}`);
      return answer;
    }
    const jobs = (page) => page.evaluate(() => window.jobs);
    const given = (page, count) => seen(async () => (await jobs(page)).length >= count, `${count} jobs`).then(() => jobs(page));
    /** How many messages a queue has, and what happened to them, without what did not. */
    async function stats(page, queue) {
      const { ready, leased, delayed, dead, consumers, counted } = await ok(page, "q:stats", queue);
      return { ready, leased, delayed, dead, consumers, counted: Object.fromEntries(Object.entries(counted).filter(([, count]) => count > 0)) };
    }
    const becomes = async (page, queue, expected) => {
      await seen(async () => (await stats(page, queue)).leased === expected.leased, `${expected.leased} leases of ${queue}`);
      assert.deepEqual(await stats(page, queue), { ready: 0, leased: 0, delayed: 0, dead: 0, consumers: 1, ...expected });
    };

    for (const transports of ["polling", "websocket", "polling,websocket"]) {
      check(`what a page puts another page does, and its answer is the result (${transports})`, async () => {
        const queue = newQueue();
        const [sender, worker] = [await visit(transports), await visit(transports)];
        await worker.evaluate(() => works(({ numbers }) => ({ sum: numbers.reduce((one, other) => one + other, 0) })));
        const options = { headers: { from: "page" }, keep_result: 60_000 };
        const put = await ok(sender, "q:put", queue, { numbers: [1, 2] }, options);
        assert.deepEqual([put.dup, put.class], [false, "disk"]);
        assert.deepEqual(await stats(sender, queue), { ready: 1, leased: 0, delayed: 0, dead: 0, consumers: 0, counted: { put: 1 } });

        await ok(worker, "q:consume", queue, { prefetch: 4 });
        assert.deepEqual((await ok(sender, "q:await", put.id)).result, { sum: 3 });
        const [{ payload, meta }] = await given(worker, 1);
        assert.deepEqual(payload, { numbers: [1, 2] });
        const { id, deliveries, failures, headers } = meta;
        assert.deepEqual({ id, queue: meta.queue, deliveries, failures, headers }, { id: put.id, queue, deliveries: 1, failures: 0, headers: { from: "page" } });

        const called = await ok(sender, "q:call", queue, { numbers: [3, 4] });
        assert.deepEqual(called.result, { sum: 7 });
        assert.deepEqual((await given(worker, 2)).map((job) => job.meta.id), [put.id, called.id]);
        await becomes(sender, queue, { leased: 0, counted: { put: 2, given: 2, done: 2 } });
      });

      check(`bytes of a page stay bytes on the way to a worker and back (${transports})`, async () => {
        const queue = newQueue();
        const [sender, worker] = [await visit(transports), await visit(transports)];
        // A payload that is nothing but bytes, and bytes within one. What a page gets is an ArrayBuffer.
        await worker.evaluate(() => works((payload) => {
          const bytes = new Uint8Array(payload.image ?? payload);
          return payload.image ? { thumbnail: bytes.slice(0, 2), of: bytes.length } : bytes.reverse();
        }));
        await ok(worker, "q:consume", queue);
        const results = await sender.evaluate(async (name) => {
          const put = await queues.emitWithAck("q:put", name, new Uint8Array([7, 8, 9]), { keep_result: 60_000 });
          const awaited = await queues.emitWithAck("q:await", put.id);
          const called = await queues.emitWithAck("q:call", name, { image: new Uint8Array([0, 255, 13, 10]) });
          return readable([awaited.result, called.result]);
        }, queue);
        const buffer = (...bytes) => ({ kind: "ArrayBuffer", bytes });
        assert.deepEqual(results, [buffer(9, 8, 7), { thumbnail: buffer(0, 255), of: 4 }]);
        assert.deepEqual((await jobs(worker)).map(({ payload }) => payload), [buffer(7, 8, 9), { image: buffer(0, 255, 13, 10) }]);
      });
    }

    check("a page that waited too briefly awaits the result of its call later", async () => {
      const queue = newQueue();
      const [sender, worker] = [await visit(), await visit()];
      const { id, pending, result } = await ok(sender, "q:call", queue, "slow", { timeout: 1 });
      assert.deepEqual([pending, result], [true, undefined]);
      await worker.evaluate(() => works((text) => text.toUpperCase()));
      await ok(worker, "q:consume", queue);
      const late = await ok(sender, "q:await", id);
      assert.deepEqual([late.id, late.result, late.pending], [id, "SLOW", undefined]);
    });

    check("what a page answers settles its job: it is released, fails, and dies with a reason", async () => {
      const queue = newQueue();
      const [sender, worker] = [await visit(), await visit()];
      await worker.evaluate(() => {
        const answers = [{ do: "release" }, { do: "retry", in: 1, why: "later" }, { do: "dead", why: "hopeless" }];
        works(() => ({ $q: answers[jobs.length - 1] }));
      });
      await ok(worker, "q:consume", queue);
      const { ok: isDone, code } = await ask(sender, "q:call", queue, "stubborn");
      assert.deepEqual([isDone, code], [false, "dead"]);
      assert.deepEqual((await jobs(worker)).map(({ meta }) => [meta.deliveries, meta.failures]), [[1, 0], [2, 0], [3, 1]]);
      const { messages } = await ok(sender, "q:peek", queue, { state: "dead" });
      assert.deepEqual(messages.map(({ payload, reason }) => [payload, reason]), [["stubborn", "hopeless"]]);
      await becomes(sender, queue, { leased: 0, dead: 1, counted: { put: 1, given: 3, released: 1, failed: 1, died: 1 } });
    });

    for (const [how, leave] of [
      ["is closed", (page) => page.close()],
      ["is left for another", (page) => page.goto("about:blank")],
      ["disconnects", (page) => page.evaluate(() => { queues.disconnect(); })],
    ]) {
      check(`a job of a page that ${how} is another page's, long before its lease is over`, async () => {
        const queue = newQueue();
        const [sender, first, second] = [await visit(), await visit(), await visit()];
        for (const page of [first, second]) await page.evaluate(() => works());
        await ok(first, "q:consume", queue, { lease: 3_600_000 });
        const { id } = await ok(sender, "q:put", queue, { bytes: 1 });
        const [{ meta: lost }] = await given(first, 1);
        await ok(second, "q:consume", queue, { lease: 3_600_000 });
        await becomes(sender, queue, { leased: 1, consumers: 2, counted: { put: 1, given: 1 } });
        assert.deepEqual(await jobs(second), []);

        await leave(first);
        const [{ payload, meta }] = await given(second, 1);
        assert.deepEqual([payload, meta.id, meta.deliveries, meta.failures], [{ bytes: 1 }, id, 2, 0]);
        assert.notEqual(meta.token, lost.token);
        await becomes(sender, queue, { leased: 1, counted: { put: 1, given: 2, lost: 1 } });
        await second.evaluate(() => held[0]());
        await becomes(sender, queue, { leased: 0, counted: { put: 1, given: 2, lost: 1, done: 1 } });
        assert.deepEqual(await second.evaluate(() => revoked), []);
      });
    }

    check("a page whose server is killed has its consumer again, and does what it had and what comes", async () => {
      const queue = newQueue();
      const [sender, worker] = [await visit(), await visit()];
      await worker.evaluate(() => works());
      await ok(worker, "q:consume", queue, { prefetch: 4 });
      const { id } = await ok(sender, "q:put", queue, "before");
      const [{ meta: before }] = await given(worker, 1);
      await server.kill();
      await server.start();
      for (const page of [sender, worker]) {
        await seen(() => page.evaluate(() => queues.connected && recovered.length === 2), "coming back");
      }
      const { id: next } = await ok(sender, "q:put", queue, "after");
      // The lease of before went with the server: the same message is a job once more.
      const [, again, after] = await given(worker, 3);
      assert.deepEqual([again.meta.id, again.payload, after.meta.id, after.payload], [id, "before", next, "after"]);
      assert.notEqual(again.meta.token, before.token);
      await worker.evaluate(() => held.slice(1).forEach((done) => done()));
      await becomes(sender, queue, { leased: 0, counted: { put: 1, given: 2, done: 2 } });
    });
  });
}
