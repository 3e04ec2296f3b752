// What has to hold of work queues after one round of trouble, judged by what producers and workers wrote down.
//
// - every acknowledged message was done, by the last worker that had it, or is dead with the reason that its worker gave;
// - what a worker was told is done, no worker gets again; what was settled under a lease that was over is refused;
// - no token is given twice, and each run of a message but the first has its reason: the job was given back, or its lease was lost;
// - messages of a key begin in the order in which they were put;
// - whatever was put under one key of deduplication is one message;
// - a message dies once, after so many failures as it may have, and leaves one letter.

/** What clocks of processes may differ by, and a note may come late, in milliseconds. */
const SLACK_MS = 250;

export class Verdict {
  messages = 0;
  runs = 0;
  /** Runs that were not asked for by who ran the job before, by what they come from. */
  extra = {};
  #found = [];

  /** `producers` have `puts`, `workers` have `notes`; `times` is when something happened to the server; see `queue-soak.mjs`. */
  constructor({ producers, workers, times, leaseMs, attempts }) {
    Object.assign(this, { times, leaseMs, attempts });
    this.puts = new Map(producers.flatMap(({ puts }) => [...puts]));
    this.runsOf = new Map();
    const tokens = new Map();
    for (const worker of workers) {
      const lost = worker.notes.filter(({ what }) => what === "lost").map(({ t }) => t);
      for (const note of worker.notes) {
        if (note.what === "got") {
          const run = { ...note, worker, lost };
          if (tokens.has(note.token)) this.#found.push(`token ${note.token} was given twice`);
          tokens.set(note.token, run);
          const runs = this.runsOf.get(note.id) ?? [];
          runs.push(run);
          this.runsOf.set(note.id, runs);
        }
        const run = tokens.get(note.token);
        if (note.what === "said" && run) Object.assign(run, { said: note.said, saidAt: note.t });
        if (note.what === "settled" && run) run.settled = note;
        if (note.what === "revoked" && run) run.revoked = note.reason;
      }
    }
    for (const runs of this.runsOf.values()) runs.sort((a, b) => a.token - b.token);
    this.messages = this.runsOf.size;
    this.runs = [...this.runsOf.values()].reduce((sum, runs) => sum + runs.length, 0);
  }

  /** What does not hold; `dead` are the dead messages of the queue whose messages die. */
  faults(dead) {
    this.#done(new Map(dead.map((message) => [message.id, message])));
    this.#fenced();
    this.#explained();
    this.#ordered();
    this.#once();
    this.#died(dead);
    return this.#found;
  }

  #done(dead) {
    for (const put of this.puts.values()) {
      for (const id of put.ids) {
        const runs = this.runsOf.get(id) ?? [];
        const last = runs.at(-1);
        if (put.queue === "doomed") {
          if (!dead.has(id)) this.#found.push(`message ${id}, which was acknowledged and is hopeless, is not dead`);
        } else if (!last) {
          this.#found.push(`message ${id} of ${put.queue}, which was acknowledged, was given to nobody`);
        } else if (last.said !== "done") {
          this.#found.push(`message ${id} of ${put.queue} is gone, and the last who had it said ${last.said}`);
        }
      }
    }
    for (const [id, [{ name, queue }]] of this.runsOf) {
      const put = this.puts.get(name);
      if (!put) this.#found.push(`message ${id} of ${queue}, ${name}, was put by nobody in this round`);
    }
  }

  /** Of settlements that were answered. */
  #fenced() {
    for (const [id, runs] of this.runsOf) {
      runs.forEach((run, at) => {
        const { settled } = run;
        if (!settled || settled.tries > 0) return;
        const next = runs[at + 1];
        if (settled.ok && next && next.t < settled.sent) {
          this.#found.push(`message ${id} was settled under a lease that was over`);
        }
        if (settled.ok && settled.outcome === "done" && next) this.#found.push(`message ${id} was done, and was given out again`);
        if (settled.ok && settled.outcome === "dead" && next) this.#found.push(`message ${id} was dead, and was given out again`);
        if (!settled.ok && !["stale_lease", "unknown_message"].includes(settled.code)) {
          this.#found.push(`message ${id} could not be settled: ${settled.code}`);
        }
      });
    }
  }

  /** Each run but the first comes after one that gave the job back, or lost it. */
  #explained() {
    for (const [id, runs] of this.runsOf) {
      runs.forEach((run, at) => {
        const before = runs[at - 1];
        if (!before) return;
        const why = this.#reason(before, run);
        const wasGivenBack = ["retry", "release"].includes(before.said) && (before.settled?.ok ?? true);
        if (!wasGivenBack && !why) {
          this.#found.push(`message ${id} was given out again without a reason: ${JSON.stringify([bare(before), bare(run)])}`);
        } else if (!wasGivenBack) {
          this.extra[why] = (this.extra[why] ?? 0) + 1;
        }
        // Who has a job is not waited for: a server that is killed may forget it, and with it the count.
        const isKept = !why?.startsWith("the server");
        if (isKept && run.deliveries <= before.deliveries) {
          this.#found.push(`message ${id} was given out for the ${run.deliveries}. time twice`);
        }
      });
      const { failures } = runs.at(-1);
      const said = runs.filter((run) => run.said === "retry").length;
      if (failures > said) this.#found.push(`message ${id} has ${failures} failures, its workers said so ${said} times`);
    }
  }

  #reason(before, run) {
    // A job that came over HTTP may be noted later than the next worker's note of it.
    const [from, to] = [Math.min(before.t, run.t) - SLACK_MS, Math.max(before.t, run.t) + SLACK_MS];
    const happened = this.times.find(([begin, end]) => begin <= to && end >= from);
    if (happened) return `the server: ${happened[2]}`;
    if (before.worker.killedAt >= from && before.worker.killedAt <= to) return "the worker was killed";
    if (before.lost.some((at) => at >= from && at <= to)) return "the connection was lost";
    // By the server's clock: a worker that was held up notes a job late.
    if (run.deadline - this.leaseMs >= before.deadline) return "the lease ran out";
    if (before.revoked || (before.saidAt ?? Infinity) - before.t >= this.leaseMs - SLACK_MS) return "the lease ran out";
    return undefined;
  }

  #ordered() {
    const firsts = [...this.runsOf.values()].map(([first]) => first).filter(({ queue }) => queue === "keyed");
    firsts.sort((a, b) => a.token - b.token);
    const last = new Map();
    for (const { id, name } of firsts) {
      const { key } = this.puts.get(name)?.options ?? {};
      const [producer, number] = name.split(/-(?=\d+$)/);
      const before = last.get(key);
      if (before && (before.id > id || before.number > Number(number))) {
        this.#found.push(`of key ${key}, ${producer}-${before.number} (${before.id}) began before ${name} (${id})`);
      }
      last.set(key, { id, number: Number(number) });
    }
  }

  #once() {
    const ids = new Map();
    const add = (name, id) => ids.set(name, (ids.get(name) ?? new Set()).add(id));
    for (const { name, ids: given } of this.puts.values()) given.forEach((id) => add(name, id));
    for (const [id, [{ name, queue }]] of this.runsOf) if (queue !== "graves") add(name, id);
    for (const [name, all] of ids) {
      if (all.size > 1) this.#found.push(`${name} was put once, and is messages ${[...all].join(", ")}`);
    }
  }

  #died(dead) {
    const letters = new Map();
    for (const [id, [{ queue, name }]] of this.runsOf) {
      if (queue === "graves") letters.set(name, [...(letters.get(name) ?? []), id]);
    }
    const names = new Set();
    for (const { id, payload, reason, failures } of dead) {
      const put = this.puts.get(payload.name);
      const expected = put?.work === "hopeless" ? ["hopeless", 0] : [`failure ${this.attempts}`, this.attempts];
      if (reason !== expected[0] || failures !== expected[1]) {
        this.#found.push(`message ${id} is dead of ${reason} after ${failures} failures, not of ${expected[0]}`);
      }
      if (names.has(payload.name)) this.#found.push(`${payload.name} is dead twice`);
      names.add(payload.name);
      const sent = letters.get(payload.name) ?? [];
      if (sent.length !== 1) this.#found.push(`message ${id} is dead, and left ${sent.length} letters`);
    }
    for (const name of letters.keys()) if (!names.has(name)) this.#found.push(`${name} left a letter and is not dead`);
  }
}

function bare({ token, t, queue, said, saidAt, settled, revoked, deliveries, deadline, worker: { kind } }) {
  return { token, t, queue, said, saidAt, settled, revoked, deliveries, deadline, kind };
}
