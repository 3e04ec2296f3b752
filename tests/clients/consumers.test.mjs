// Workers over a restart of the server: `posthaste dev` as POSTHASTE_BIN names it, killed as by `kill -9`. The worker asks for its jobs once, and
// is a stock client that does nothing about any of this.

import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, afterEach, before, describe } from "node:test";
import { check, must, next, opened, programOf, sleep, StandaloneServer, temporaryFolder, until } from "./harness.mjs";

const program = programOf("POSTHASTE_BIN");

if (program && (process.env.SUBJECTS?.includes("ours") ?? true)) {
  describe("consumers over a restart [ours]", () => {
    const server = new StandaloneServer({ command: [program] });

    const connect = (options) => server.connect("/queues", options);
    const restart = async (...expected) => {
      const back = expected.map((socket) => next(socket, "connect"));
      await server.kill();
      await server.start();
      await Promise.all(back);
    };

    before(() => server.start());
    afterEach(() => server.disconnectAll());
    after(() => server.stop());

    for (const transports of [["websocket"], ["polling"]]) {
      check(`who consumed before the server was killed is sent jobs when it is back (${transports})`, async () => {
        const queue = `kept-${transports}`;
        const worker = await connect({ transports });
        const jobs = [];
        worker.on("job", (job, meta, done) => {
          jobs.push(job);
          done(`did ${job}`);
        });
        const { consumer } = await must(worker, "q:consume", queue, { prefetch: 3, lease: 60_000 });
        const { id } = worker;
        await restart(worker);
        assert.deepEqual([worker.recovered, worker.id], [true, id]);
        // Nobody asks again.
        const sender = await connect();
        assert.equal((await must(sender, "q:call", queue, "one")).result, "did one");
        // Again, from what the second process noted.
        await restart(worker, sender);
        assert.equal(worker.recovered, true);
        assert.equal((await must(sender, "q:call", queue, "two")).result, "did two");
        // Whoever asks all the same has it once, under its old name.
        assert.equal((await must(worker, "q:consume", queue, { prefetch: 3, lease: 60_000 })).consumer, consumer);
        assert.equal((await must(sender, "q:stats", queue)).consumers, 1);
        await must(worker, "q:stop", consumer);
        assert.equal((await must(sender, "q:stats", queue)).consumers, 0);
        assert.deepEqual(jobs, ["one", "two"]);
      });
    }

    check("who has stopped has stopped, and each consumer is as it was asked for", async () => {
      const worker = await connect();
      const jobs = [];
      worker.on("job", (job, meta, done) => jobs.push({ job, meta, done }));
      const gone = await must(worker, "q:consume", "gone");
      const drained = await must(worker, "q:consume", "drained");
      await must(worker, "q:consume", "keyed", { keys: ["a"], prefetch: 2, lease: 45_000 });
      await must(worker, "q:stop", gone.consumer);
      await must(worker, "q:stop", drained.consumer, { drain: true });
      await restart(worker);
      assert.equal(worker.recovered, true);
      const sender = await connect();
      for (const queue of ["gone", "drained"]) assert.equal((await must(sender, "q:stats", queue)).consumers, 0, queue);
      for (const [job, key] of [[1, "b"], [2, "a"], [3, "a"]]) await must(sender, "q:put", "keyed", job, { key });
      await until(() => jobs.length === 1, "the first of its key");
      const [{ job, meta, done }] = jobs;
      assert.deepEqual([job, meta.key], [2, "a"]);
      const lease = meta.deadline - Date.now();
      assert.ok(lease > 30_000 && lease <= 45_000, `${lease} ms`);
      done();
      await until(() => jobs.length === 2, "the next of its key");
      const { ready, leased } = await must(sender, "q:stats", "keyed");
      assert.deepEqual([ready, leased], [1, 1]);
    });

    check("a job from before is somebody's again, and a late answer to it settles nothing else", async () => {
      const worker = await connect();
      const jobs = [];
      worker.on("job", (job, meta, done) => jobs.push({ job, meta, done }));
      await must(worker, "q:consume", "late", { prefetch: 1 });
      const sender = await connect();
      for (const job of ["first", "second"]) await must(sender, "q:put", "late", job);
      await until(() => jobs.length === 1, "the first job");
      await restart(worker, sender);
      await until(() => jobs.length === 2, "it is given out again");
      assert.deepEqual([jobs[1].job, jobs[1].meta.deliveries], ["first", 2]);
      jobs[0].done("late");
      // What it says next is behind that.
      const { leased, ready } = await must(worker, "q:stats", "late");
      assert.deepEqual([leased, ready], [1, 1]);
      jobs[1].done();
      await until(() => jobs.length === 3, "the second job");
      assert.deepEqual([jobs[2].job, jobs[2].meta.deliveries], ["second", 1]);
      jobs[2].done();
    });

    check("who may not do it any more does not consume again", async () => {
      const folder = temporaryFolder();
      const config = path.join(folder, "posthaste.toml");
      const rules = (work) => writeFileSync(config, `[[queue]]\nmatch = "*"\nwork = "${work}"\nmanage = "anyone"`);
      rules("anyone");
      const strict = new StandaloneServer({ command: [program] }, { command: "serve", options: ["--config", config] });
      try {
        await strict.start();
        const worker = await strict.connect("/queues");
        await must(worker, "q:consume", "work");
        for (const [work, consumers] of [["anyone", 1], ["deny", 0]]) {
          rules(work);
          const back = next(worker, "connect");
          await strict.kill();
          await strict.start();
          await back;
          assert.equal(worker.recovered, true);
          const stats = await must(worker, "q:stats", "work");
          assert.equal(stats.consumers, consumers, work);
        }
      } finally {
        await strict.stop();
        rmSync(folder, { recursive: true, force: true });
      }
    });

    check("who left on purpose consumes nothing", async () => {
      const worker = await connect();
      await must(worker, "q:consume", "left");
      worker.disconnect();
      const sender = await connect();
      await until(async () => (await must(sender, "q:stats", "left")).consumers === 0, "it has left");
      await restart(sender);
      worker.connect();
      await opened(worker);
      assert.equal(worker.recovered, false);
      await must(sender, "q:put", "left", 1);
      await sleep(50);
      assert.equal((await must(sender, "q:stats", "left")).ready, 1);
    });
  });
}
