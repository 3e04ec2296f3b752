// Events that become jobs, as a configuration says: `posthaste serve --config` as POSTHASTE_BIN names it. Whoever emits knows nothing of
// queues, and gets the worker's result.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { ask, check, must, opened, programOf, StandaloneServer, temporaryFolder, until } from "./harness.mjs";

const program = programOf("POSTHASTE_BIN");
const python = programOf("PYTHON_BIN");
const folder = temporaryFolder();
const config = path.join(folder, "posthaste.toml");

const RULES = `
[[queue]]
match = "*"
put = "deny"
work = "anyone"
manage = "anyone"

[[route]]
event = "order:*"
queue = "orders"
emit = "anyone"
key = "/0/customer"

[[route]]
event = "order:urgent"
queue = "orders"
emit = "anyone"
priority = 9
timeout = "100ms"

[[route]]
event = "order:secret"
queue = "orders"

[[route]]
namespace = "/shop"
event = "image"
queue = "images"
emit = "anyone"

[[route]]
event = "python"
queue = "python"
emit = "anyone"
`;

if (program && (process.env.SUBJECTS?.includes("ours") ?? true)) {
  describe("routes [ours]", () => {
    const server = new StandaloneServer({ command: [program] }, { command: "serve", options: ["--config", config] });

    const connect = (nsp, options) => server.connect(nsp, options);
    const worker = async (queue, work, options = {}) => {
      const socket = await connect("/queues");
      socket.on("job", async (job, meta, done) => done(await work(job, meta)));
      await must(socket, "q:consume", queue, options);
      return socket;
    };

    before(async () => {
      writeFileSync(config, RULES);
      await server.start();
    });
    afterEach(() => server.disconnectAll());
    after(async () => {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    check("a worker's result answers the emitter", async () => {
      const shop = await connect();
      const jobs = [];
      await worker("orders", (job, meta) => {
        jobs.push({ job, meta });
        return job.args[0].tea > 9 ? { $q: { do: "dead", why: "not so much" } } : { number: jobs.length };
      });
      assert.deepEqual(await ask(shop, "order:new", { customer: "ann", tea: 2 }), { number: 1 });
      const [{ job, meta }] = jobs;
      assert.deepEqual(job, { event: "order:new", args: [{ customer: "ann", tea: 2 }], socket: shop.id, user: null });
      assert.equal(meta.key, "ann");
      assert.deepEqual(await ask(shop, "order:new", { customer: 7, tea: 10 }), { error: "the message is dead: not so much", code: "dead" });
      assert.equal(jobs[1].meta.key, "7");
    });

    check("what an event must say, and who may emit it, is the route's to say", async () => {
      const shop = await connect();
      const { code, error } = await ask(shop, "order:new", { costumer: "ann" });
      assert.deepEqual([code, error.includes("/0/customer")], ["invalid", true]);
      assert.equal((await ask(shop, "order:secret", { customer: "ann" })).code, "forbidden");
      // Who emits may do so, whether or not he may put.
      const queues = await connect("/queues");
      assert.equal((await ask(queues, "q:put", "orders", 1)).code, "forbidden");
    });

    check("an emitter hears that it takes longer, and repeating the event makes no second job", async () => {
      const shop = await connect();
      const event = ["order:urgent", "tea", { $key: "once" }];
      const late = await ask(shop, ...event);
      assert.equal(late.code, "pending");
      assert.equal((await ask(shop, ...event)).id, late.id);
      await server.kill();
      await server.start();
      await until(() => shop.connected, "the emitter is back");
      assert.equal((await ask(shop, ...event)).id, late.id, "the store knows the key, not the process alone");
      const jobs = [];
      await worker("orders", (job) => {
        jobs.push(job.args);
        return "done";
      });
      const queues = await connect("/queues");
      await until(async () => {
        const { ready, leased } = await must(queues, "q:stats", "orders");
        return ready + leased === 0;
      }, "it is done");
      assert.deepEqual(jobs, [["tea"]]);
      assert.equal(await ask(shop, ...event), "done");
    });

    check("bytes, another namespace, an event that nobody waits for", async () => {
      const shop = await connect("/shop");
      const jobs = [];
      await worker("images", ({ args: [image] }) => {
        jobs.push(image);
        return image?.subarray?.(0, 2) ?? null;
      });
      assert.deepEqual(await ask(shop, "image", Buffer.from([1, 2, 3])), Buffer.from([1, 2]));
      shop.emit("image", "no answer");
      await until(() => jobs.length === 2, "the second");
      assert.equal(jobs[1], "no answer");
    });

    check("a client may wait for what it works off itself, over one connection", async () => {
      const shop = await connect();
      const queues = shop.io.socket("/queues");
      await opened(queues);
      queues.on("job", (job, meta, done) => done(job.args[0].n));
      const answers = Array.from({ length: 300 }, (_, n) => ask(shop, "order:new", { customer: "ann", n }));
      await must(queues, "q:consume", "orders", { prefetch: 8 });
      assert.deepEqual(await Promise.all(answers), Array.from({ length: 300 }, (_, n) => n));
    });

    const inPython = python ? check : (name) => it(name, { skip: "PYTHON_BIN names no Python with python/requirements.txt installed" });
    inPython("a worker in Python answers an emitter in JavaScript", async () => {
      const shop = await connect();
      const script = fileURLToPath(new URL("python/queues.py", import.meta.url));
      for (const kind of ["sync", "async"]) {
        const working = spawn(python, [script, server.urls.socketio, kind, "websocket", "python", "socket.io"], { stdio: ["ignore", "ignore", "pipe"] });
        let trouble = "";
        working.stderr.on("data", (data) => (trouble += data));
        try {
          assert.equal(await ask(shop, "python", { do: "double", value: 21 }), 42, `${kind}: ${trouble}`);
          assert.equal((await ask(shop, "python", { do: "dead" })).code, "dead");
        } finally {
          working.kill();
        }
      }
    });
  });
}
