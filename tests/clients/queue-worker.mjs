// A worker of queues that is there to be killed: it writes down what happens to it, a line at a time, before it says anything.
//
//   node queue-worker.mjs ack|pull|http http://127.0.0.1:3000 notes.jsonl queue...
//
// `ack` answers jobs, `pull` asks for them and settles them over Socket.IO, `http` over HTTP: the latter two hear what came of it.

import { appendFileSync } from "node:fs";
import { io } from "socket.io-client";

const [kind, url, file, ...queues] = process.argv.slice(2);
/** Longer than the queues' leases. */
const TOO_LONG_MS = 2_200;
const PATIENCE_MS = 2_000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const note = (what, fields) => appendFileSync(file, `${JSON.stringify({ t: Date.now(), what, ...fields })}\n`);

/** What becomes of a job: what its payload says, most often not the first time. */
export function verdict({ work }, { queue, deliveries, failures }) {
  if (queue === "graves") return { do: "done" };
  if (work === "flaky" && failures === 0) return { do: "retry", in: 10, why: "not yet" };
  if (work === "doomed") return { do: "retry", in: 5, why: `failure ${failures + 1}` };
  if (work === "hopeless") return { do: "dead", why: "hopeless" };
  if (work === "release" && deliveries === 1) return { do: "release" };
  return { do: "done" };
}

function got(payload, { id, queue, token, deliveries, failures, deadline }) {
  note("got", { id, queue, token, deliveries, failures, deadline, name: payload.name });
}

/** Does a job, and says what becomes of it. Nothing has been said yet. */
async function work(payload, { id, queue, token, deliveries, failures }) {
  const isTooLong = payload.work === "stall" && deliveries === 1;
  await sleep(isTooLong ? TOO_LONG_MS : Math.random() * 4);
  const said = verdict(payload, { queue, deliveries, failures });
  note("said", { id, token, said: said.do });
  return said;
}

function connected() {
  const socket = io(`${url}/queues`, { transports: ["websocket"], reconnectionDelay: 10, reconnectionDelayMax: 60, timeout: 5_000 });
  socket.on("disconnect", () => note("lost", {}));
  socket.on("q:revoked", (id, reason, { token }) => note("revoked", { id, token, reason }));
  return socket;
}

async function acks() {
  const socket = connected();
  socket.on("job", async (payload, meta, done) => {
    got(payload, meta);
    const said = await work(payload, meta);
    if (said.do === "done") done();
    else done({ $q: said });
  });
  socket.on("connect", () => {
    for (const queue of queues) socket.emit("q:consume", queue, { prefetch: 4, mode: "manual" }, () => note("consumes", { queue }));
  });
}

/** Takes messages of one queue and settles them, for ever. An answer that was lost is asked for again. */
async function pulls(queue, pull, settle) {
  for (;;) {
    const messages = await pull(queue).catch(() => sleep(20).then(() => []));
    const settlements = [];
    // All of them are leased from now on, also those that have to wait for others.
    for (const { payload, meta } of messages) got(payload, meta);
    for (const { payload, meta } of messages) {
      const { do: outcome, ...options } = await work(payload, meta);
      settlements.push({ id: meta.id, token: meta.token, outcome, options });
    }
    for (let tries = 0; settlements.length > 0; tries += 1) {
      const sent = Date.now();
      const results = await settle(settlements).catch(() => sleep(50));
      if (!results) continue;
      // Only what the first try is told is sure: one whose answer was lost may have been heard.
      settlements.forEach(({ id, token, outcome }, at) => {
        const { ok, code } = results[at];
        note("settled", { id, token, outcome, ok, code, sent, tries });
      });
      settlements.length = 0;
    }
  }
}

async function overSockets() {
  const socket = connected();
  const ask = async (...args) => {
    if (!socket.connected) throw new Error("not connected");
    const answer = await socket.timeout(PATIENCE_MS).emitWithAck(...args);
    if (!answer.ok) throw new Error(answer.code);
    return answer;
  };
  const pull = async (queue) => (await ask("q:pull", queue, { max: 3, wait: 300 })).messages;
  const settle = async (all) => {
    const settlements = all.map(({ id, token, outcome, options }) => ({ id, token, outcome: { do: outcome, ...options } }));
    return (await ask("q:settle", settlements)).results;
  };
  await Promise.all(queues.map((queue) => pulls(queue, pull, settle)));
}

async function overHttp() {
  const post = async (path, body) => {
    const answer = await fetch(`${url}/api/v1${path}`, { method: "POST", body, signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.status >= 500) throw new Error(String(answer.status));
    return answer.status === 204 ? {} : answer.json();
  };
  const pull = async (queue) => {
    const { messages = [] } = await post(`/queues/${queue}/lease?max=3&wait=300`);
    return messages.map(({ payload, ...meta }) => ({ payload, meta: { ...meta, queue } }));
  };
  const settle = async (all) => {
    const settlements = all.map(({ id, token, outcome, options }) => ({ id, token, outcome, ...options }));
    return (await post("/leases/settle", JSON.stringify(settlements))).results;
  };
  await Promise.all(queues.map((queue) => pulls(queue, pull, settle)));
}

await { ack: acks, pull: overSockets, http: overHttp }[kind]();
