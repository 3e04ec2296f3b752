// The binary on a disk that is full: nothing more is taken in, and what is there is worked off, over Socket.IO and HTTP.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import path from "node:path";
import { it } from "node:test";
import { io } from "socket.io-client";
import { ask, freePort, next, opened, programOf, temporaryFolder, until } from "./harness.mjs";
import { Killed } from "./killed.mjs";
import { SmallDisk } from "./small-disk.mjs";

const program = programOf("POSTHASTE_BIN");
const folder = temporaryFolder();
const disk = SmallDisk.inFolder(folder);
const skip = !program ? "POSTHASTE_BIN names no program" : !disk && "this user mounts no disks";

it("a full disk takes no more jobs, says when to try again, and what is there is done", { skip, timeout: 120_000 }, async () => {
  const server = new Killed(program, folder, await freePort(), { data: path.join(disk.path, "data") });
  await server.start();
  const socket = io(`${server.url}/queues`, { transports: ["websocket"], reconnection: false });
  const keyed = io(server.url, { transports: ["websocket"], reconnection: false });
  const say = () => ask(keyed, "room:emit", "demo:full", "note", "x".repeat(1_000), { $key: "one" });
  const post = (target, body) => fetch(`${server.url}/api/v1/${target}`, { method: "POST", body: body && JSON.stringify(body) });
  const depth = async () => (await fetch(`${server.url}/api/v1/queues/q/stats`)).json();
  try {
    await Promise.all([opened(socket), opened(keyed)]);
    for (const number of [1, 2, 3, 4]) assert.equal((await ask(socket, "q:put", "q", number)).ok, true);
    const pulled = await (await post("queues/q/lease?max=1")).json();

    disk.fill(32 << 20);
    let refused;
    await until(async () => !(refused = await ask(socket, "q:put", "q", 5)).ok, "it is full");
    assert.deepEqual([refused.code, refused.retry_after > 0], ["storage_full", true]);
    assert.equal((await say()).code, "storage_full");
    const response = await post("queues/q/messages", { payload: 5 });
    assert.equal(response.status, 507);
    assert.equal((await response.json()).code, "storage_full");
    assert.ok(Number(response.headers.get("retry-after")) > 0, "Retry-After");

    // By an ack, by a settlement over Socket.IO, by one over HTTP, and what is done to a queue.
    const jobs = [];
    socket.on("job", (job, meta, done) => jobs.push({ job, meta, done }));
    const before = (await depth()).leased;
    assert.equal(before, 1);
    await ask(socket, "q:consume", "q", { prefetch: 2 });
    await until(() => jobs.length === 2, "jobs are given out");
    jobs[0].done();
    await until(async () => (await depth()).leased === 3, "the one behind it is given out");
    const { id, token } = jobs[1].meta;
    assert.deepEqual((await ask(socket, "q:settle", [{ id, token, outcome: "done" }])).results, [{ ok: true }]);
    const [{ id: pulledId, token: pulledToken }] = pulled.messages;
    const settled = await post("leases/settle", [{ id: pulledId, token: pulledToken, outcome: "done" }]);
    assert.deepEqual((await settled.json()).results, [{ id: pulledId, ok: true }]);
    assert.equal((await ask(socket, "q:purge", "q", { state: ["ready", "leased"] })).count, 1);
    assert.equal((await depth()).leased, 0);

    disk.free();
    await until(async () => (await ask(socket, "q:put", "q", 6)).ok, "there is room again");
    // What was refused for now did not use up its key. Rooms look at the disk when they please, not when queues do.
    let said;
    await until(async () => (said = await say()).ok, "rooms see the room, too");
    assert.equal(said.dup, undefined, JSON.stringify(said));
    // What was done is done, and nothing else is there.
    await server.kill();
    await server.start();
    const { ready, leased } = await depth();
    assert.equal(ready + leased, 1);
  } finally {
    socket.disconnect();
    keyed.disconnect();
    await server.kill();
    disk.close();
    rmSync(folder, { recursive: true, force: true });
  }
});

if (skip) {
  disk?.close();
  rmSync(folder, { recursive: true, force: true });
}
