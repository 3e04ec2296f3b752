// Work queues, used by the official clients as they are: plain events and acks.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { ask, checkBetterThanNode, collect, eachSubject, modes, next, opened, programOf, until } from "./harness.mjs";

const PATH = "/working/";
/** The same where clients are recovered. */
const RECOVERED = "/working-on/";
const NONE = "it has no queues";
const python = programOf("PYTHON_BIN");

eachSubject("queues", (server) => {
  const join = (options = {}) => server.connect({ path: PATH, nsp: "/queues", ...options });

  /** Asks for something that is to be. */
  async function ok(socket, ...event) {
    const answer = await ask(socket, ...event);
    assert.equal(answer.ok, true, `${event}: ${JSON.stringify(answer)}`);
    return answer;
  }

  const depth = async (socket, queue) => {
    const { ready, leased, delayed, dead } = await ok(socket, "q:stats", queue);
    return { ready, leased, delayed, dead };
  };
  const settled = (socket, queue) => until(async () => (await depth(socket, queue)).leased === 0, "no job is open");

  for (const mode of modes) {
    checkBetterThanNode(server, `what is put is done by a worker, whose result the caller gets (${mode})`, NONE, async () => {
      const queue = randomUUID();
      const [sender, worker] = [await join({ mode }), await join({ mode })];
      const jobs = [];
      worker.on("job", (job, meta, done) => {
        jobs.push({ job, meta });
        done({ sum: job.numbers.reduce((one, other) => one + other, 0) });
      });
      await ok(worker, "q:consume", queue, { prefetch: 4 });
      const { id, dup, class: durability } = await ok(sender, "q:put", queue, { numbers: [1, 2] }, { headers: { from: "node" } });
      assert.deepEqual([dup, durability], [false, "memory"]);
      const called = await ok(sender, "q:call", queue, { numbers: [3, 4] });
      assert.deepEqual(called.result, { sum: 7 });
      await until(() => jobs.length === 2, "both jobs");
      assert.equal(jobs[0].meta.id, id);
      assert.deepEqual([jobs[0].meta.queue, jobs[0].meta.deliveries, jobs[0].meta.failures], [queue, 1, 0]);
      assert.deepEqual(jobs[0].meta.headers, { from: "node" });
      await settled(sender, queue);
    });

    checkBetterThanNode(server, `bytes stay bytes on the way to a worker and back (${mode})`, NONE, async () => {
      const queue = randomUUID();
      const [sender, worker] = [await join({ mode }), await join({ mode })];
      worker.on("job", ({ image }, meta, done) => done({ thumbnail: image.subarray(0, 2), of: image.length }));
      await ok(worker, "q:consume", queue);
      const { result } = await ok(sender, "q:call", queue, { image: Buffer.from([9, 8, 7]) });
      assert.deepEqual(result, { thumbnail: Buffer.from([9, 8]), of: 3 });
    });
  }

  checkBetterThanNode(server, "a schedule puts bytes again and again, for times that follow each other, until it is removed", NONE, async () => {
    const [queue, name] = [randomUUID(), randomUUID()];
    const worker = await join();
    const jobs = [];
    worker.on("job", (job, { headers }, done) => {
      jobs.push([job, headers]);
      done();
    });
    await ok(worker, "q:consume", queue);
    const options = { cron: "* * * * * *", zone: "Europe/Berlin", missed: "all", headers: { from: "node" } };
    const there = await ok(worker, "q:schedule", queue, name, { image: Buffer.from([1, 2]) }, options);
    await until(() => jobs.length >= 2, "two jobs");
    await ok(worker, "q:unschedule", queue, name);
    jobs.forEach(([job, headers], place) => {
      assert.deepEqual(job, { image: Buffer.from([1, 2]) });
      assert.deepEqual(headers, { from: "node", schedule: { name, time: there.next + place * 1000 } });
    });
    assert.deepEqual((await ok(worker, "q:schedules", queue)).schedules, []);
    const never = await ask(worker, "q:schedule", queue, name, 1, { cron: "0 0 30 2 *" });
    assert.deepEqual([never.ok, never.code], [false, "never_fires"]);
  });

  checkBetterThanNode(server, "a worker says what becomes of a job", NONE, async () => {
    const queue = randomUUID();
    const worker = await join();
    const said = [];
    worker.on("job", (job, { deliveries, failures }, done) => {
      said.push([deliveries, failures]);
      const answers = [{ $q: { do: "release" } }, { $q: { do: "retry", in: 1, why: "later" } }, { $q: { do: "dead", why: "hopeless" } }];
      done(answers[said.length - 1]);
    });
    await ok(worker, "q:consume", queue);
    await ok(worker, "q:put", queue, "stubborn");
    await until(async () => (await depth(worker, queue)).dead === 1, "it is dead");
    assert.deepEqual(said, [[1, 0], [2, 0], [3, 1]]);
    const { messages } = await ok(worker, "q:peek", queue, { state: "dead" });
    assert.deepEqual(messages.map(({ payload, reason }) => [payload, reason]), [["stubborn", "hopeless"]]);
  });

  checkBetterThanNode(server, "jobs of a worker that goes are another's at once, and it never has too many", NONE, async () => {
    const queue = randomUUID();
    const [first, second] = [await join(), await join()];
    const held = collect(first, "job");
    for (let number = 0; number < 6; number++) await ok(first, "q:put", queue, number);
    await ok(first, "q:consume", queue, { prefetch: 4, lease: 3_600_000 });
    await until(() => held.length === 4, "as many as it asked for");
    assert.deepEqual(await depth(first, queue), { ready: 2, leased: 4, delayed: 0, dead: 0 });
    const numbers = [];
    second.on("job", (job, meta, done) => {
      numbers.push(job);
      done();
    });
    first.disconnect();
    await ok(second, "q:consume", queue);
    await until(() => numbers.length === 6, "all of them");
    assert.deepEqual(numbers.sort(), [0, 1, 2, 3, 4, 5]);
    await settled(second, queue);
  });

  checkBetterThanNode(server, "a job that ends while its worker is reconnecting is done", NONE, async () => {
    const queue = randomUUID();
    const worker = server.client({ path: RECOVERED, nsp: "/queues", reconnection: true, reconnectionDelay: 20 });
    await opened(worker);
    // A client can be recovered once it was sent an event.
    await ok(worker, "q:watch", queue);
    const news = next(worker, "q:event");
    await ok(worker, "q:put", queue, "gone", { ttl: 1 });
    await news;
    const jobs = [];
    worker.on("job", (job, meta, done) => jobs.push({ job, meta, done }));
    await ok(worker, "q:consume", queue, { lease: 3_600_000 });
    await ok(worker, "q:put", queue, "long");
    await until(() => jobs.length === 1, "the job");
    const revoked = collect(worker, "q:revoked");
    const back = next(worker, "connect");
    worker.io.engine.close();
    await back;
    assert.equal(worker.recovered, true);
    jobs[0].done("over the new connection");
    await settled(worker, queue);
    assert.deepEqual(await depth(worker, queue), { ready: 0, leased: 0, delayed: 0, dead: 0 });
    // It goes on.
    await ok(worker, "q:put", queue, "next");
    await until(() => jobs.length === 2, "the next job");
    assert.equal(jobs[1].meta.deliveries, 1);
    assert.deepEqual(revoked, []);
  });

  checkBetterThanNode(server, "whoever answers too late is told", NONE, async () => {
    const queue = randomUUID();
    const worker = await join();
    const jobs = [];
    worker.on("job", (job, meta, done) => jobs.push({ meta, done }));
    await ok(worker, "q:consume", queue, { lease: 150, mode: "manual" });
    await ok(worker, "q:put", queue, 1);
    const revoked = collect(worker, "q:revoked");
    await until(() => revoked.length >= 1 && jobs.length >= 2, "the lease is over, and another has begun");
    assert.deepEqual(revoked[0].slice(0, 2), [jobs[0].meta.id, "expired"]);
    jobs[0].done();
    await until(() => revoked.some(([, reason, { token }]) => reason === "stale" && token === jobs[0].meta.token), "it was too late");
  });

  checkBetterThanNode(server, "a pull brings jobs to those who ask", NONE, async () => {
    const queue = randomUUID();
    const socket = await join();
    const pulling = ask(socket, "q:pull", queue, { max: 5, wait: 10_000 });
    await until(async () => (await ask(socket, "q:stats", queue)).consumers === 1, "it waits");
    await ok(socket, "q:putMany", queue, [{ payload: "a" }, { payload: "b" }]);
    const { messages } = await pulling;
    assert.deepEqual(messages.map(({ payload }) => payload), ["a", "b"]);
    const settlements = messages.map(({ meta: { id, token } }) => ({ id, token, outcome: "done" }));
    const { results } = await ok(socket, "q:settle", settlements);
    assert.deepEqual(results, [{ ok: true }, { ok: true }]);
    assert.deepEqual(await depth(socket, queue), { ready: 0, leased: 0, delayed: 0, dead: 0 });
  });

  checkBetterThanNode(server, "what cannot be is refused with a code", NONE, async () => {
    const socket = await join();
    for (const [event, code] of [
      [["q:put", "two words", 1], "bad_name"],
      [["q:put", "queue", 1, { delay: -1 }], "invalid"],
      [["q:put", "queue", 1, { unheard: 1 }], "invalid"],
      [["q:consume", "queue", { prefetch: 1e9 }], "invalid"],
      [["q:settle", [{ id: 1, token: 1, outcome: "fine" }]], "invalid"],
      [["q:touch", 1, 1], "stale_lease"],
      [["q:stats", randomUUID()], "unknown_queue"],
      [["q:nothing"], "unknown_verb"],
    ]) {
      const answer = await ask(socket, ...event);
      assert.deepEqual([answer.ok, answer.code, typeof answer.message], [false, code, "string"], JSON.stringify(event));
    }
  });

  const lacking = python ? NONE : "PYTHON_BIN names no Python with python/requirements.txt installed";
  const inPython = python ? checkBetterThanNode : (_, name, why, body) => checkBetterThanNode({ subject: "node" }, name, why, body);
  inPython(server, "a worker in Python answers by what its handler returns, and by failing not at all", lacking, async () => {
    const script = fileURLToPath(new URL("python/queues.py", import.meta.url));
    const sender = await join();
    for (const kind of ["sync", "async"]) {
      for (const transport of ["polling", "websocket"]) {
        const queue = randomUUID();
        const worker = spawn(python, [script, server.url, kind, transport, queue], { stdio: ["ignore", "ignore", "pipe"] });
        let trouble = "";
        worker.stderr.on("data", (data) => (trouble += data));
        try {
          const { result } = await ok(sender, "q:call", queue, { do: "double", value: 21 });
          assert.equal(result, 42, `${kind}, ${transport}`);
          const bytes = await ok(sender, "q:call", queue, { do: "double", value: Buffer.from("ab") });
          assert.deepEqual(bytes.result, Buffer.from("abab"));
          const nothing = await ok(sender, "q:call", queue, { do: "nothing" });
          assert.equal(nothing.result, null);
          const dead = await ask(sender, "q:call", queue, { do: "dead" });
          assert.deepEqual([dead.ok, dead.code], [false, "dead"]);
          // No answer is sent: the job is free again when its worker has gone.
          await ok(sender, "q:put", queue, { do: "fail" });
          await until(async () => (await depth(sender, queue)).leased === 1, "the failing job was taken");
          const gone = once(worker, "exit");
          worker.kill();
          await gone;
          // Who polls is missed when a pong is.
          if (transport === "websocket") await until(async () => (await depth(sender, queue)).ready === 1, "it is free again");
        } catch (error) {
          throw new Error(`${kind}, ${transport}: ${error.message}\n${trouble}`, { cause: error });
        } finally {
          worker.kill();
        }
      }
    }
  });
});
