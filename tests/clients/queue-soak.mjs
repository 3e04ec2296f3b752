// Kills the real server and its workers again and again while official clients put messages and work on them, jumps its clock, fills
// its disk, and finds out whether a message was lost, stuck, done by two at once, or done again without a reason.
//
//   node queue-soak.mjs --rounds 1000       with POSTHASTE_BIN and PYTHON_BIN; `cargo xtask soak queue` builds and runs it
//
// Producers (JavaScript, Python) note which puts were acknowledged; workers (JavaScript by acks, by pulls, over HTTP; Python) write down
// each job they get and what they say of it, before they say it. In each round something happens: see `Trouble`. Then nothing more is put,
// and when the queues are empty `queue-verdict.mjs` says what did not hold.

import { parseArgs } from "node:util";
import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { once } from "node:events";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { freePort, programOf, sleep, temporaryFolder, until } from "./harness.mjs";
import { Killed } from "./killed.mjs";
import { Verdict } from "./queue-verdict.mjs";
import { SmallDisk } from "./small-disk.mjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const PATIENCE_MS = 90_000;
const DAY_MS = 86_400_000;
/** What a producer has on its way at a time. */
const WINDOW = 6;
const LEASE_MS = 1_500;
const COMMON = { lease_ms: LEASE_MS, attempts: 1_000, crash_limit: 1_000, backoff: { fixed: { ms: 10 } }, dead_ttl_ms: 3_650 * DAY_MS };
/** Failures until a message of `doomed` is dead. */
export const ATTEMPTS = 3;
const QUEUES = {
  plain: {},
  keyed: {},
  late: {},
  once: { dedup_window_ms: 30 * DAY_MS },
  doomed: { attempts: ATTEMPTS, dead_letter: "graves" },
  graves: {},
};

const pick = (list) => list[Math.floor(Math.random() * list.length)];
/** Mostly the first. */
const mostly = (first, others, share) => (Math.random() < share ? first : pick(others));

/** Puts messages of all kinds, and notes which were acknowledged. One under a key of deduplication is repeated until it is. */
class Producer {
  /** By name: queue, what is to become of it, key, and the numbers that receipts gave it. */
  puts = new Map();
  refused = { full: 0, unavailable: 0 };
  #next = 0;
  #isPaused = true;
  #onItsWay = 0;
  #unanswered = new Set();

  constructor(url, name, { stalls }) {
    Object.assign(this, { name, stalls });
    this.socket = io(`${url}/queues`, { forceNew: true, transports: ["websocket"], reconnectionDelay: 10, reconnectionDelayMax: 60 });
    this.socket.on("connect", () => {
      for (const put of this.#unanswered) this.#send(put);
      this.fill();
    });
    this.socket.on("disconnect", () => {
      this.#onItsWay = 0;
    });
  }

  fill() {
    while (!this.#isPaused && this.socket.connected && this.#onItsWay < WINDOW) this.#put();
  }

  #put() {
    const name = `${this.name}-${this.#next++}`;
    const queue = mostly("plain", ["keyed", "keyed", "late", "once", "doomed"], 0.4);
    const work = queue === "doomed" ? mostly("doomed", ["hopeless"], 0.6) : mostly("quick", ["flaky", "release"], 0.8);
    const put = { name, queue, work, ids: new Set(), options: {} };
    if (queue === "plain") put.options.priority = this.#next % 3;
    if (queue === "plain" && this.stalls() && Math.random() < 0.02) put.work = "stall";
    if (queue === "keyed") put.options.key = `${this.name}-${this.#next % 3}`;
    if (queue === "late") put.options.delay = 1 + Math.floor(Math.random() * 250);
    if (queue === "once") {
      put.options.dedup = name;
      this.#unanswered.add(put);
    }
    this.puts.set(name, put);
    this.#send(put);
    // Somebody is impatient.
    if (queue === "once" && Math.random() < 0.3) this.#send(put);
  }

  #send(put) {
    const on = this.socket.id;
    this.#onItsWay += 1;
    this.socket.emit("q:put", put.queue, { name: put.name, work: put.work }, put.options, (answer) => {
      const isHere = this.socket.id === on;
      if (isHere) this.#onItsWay -= 1;
      this.#unanswered.delete(put);
      if (answer.ok) {
        put.ids.add(answer.id);
      } else if (["storage_full", "unavailable", "busy"].includes(answer.code)) {
        this.refused[answer.code === "storage_full" ? "full" : "unavailable"] += 1;
        if (answer.code === "storage_full" && !(answer.retry_after > 0)) throw new Error(`no retry_after: ${JSON.stringify(answer)}`);
        put.wasRefused ||= put.ids.size === 0;
        setTimeout(() => this.fill(), 20);
        return;
      } else {
        throw new Error(`refused: ${JSON.stringify(answer)}`);
      }
      this.fill();
    });
  }

  resume() {
    this.#isPaused = false;
    this.fill();
  }

  async pause() {
    this.#isPaused = true;
    await until(() => this.socket.connected && this.#onItsWay === 0, `answers of ${this.name}`, PATIENCE_MS);
  }
}

/** A process in JavaScript or Python that writes notes into a file. */
class Scribe {
  notes = [];
  #read = 0;
  #rest = "";

  constructor(command, args, file, log) {
    Object.assign(this, { file, since: Date.now() });
    writeFileSync(file, "");
    this.child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"] });
    this.child.stderr.on("data", (data) => log.push(String(data)));
    this.ended = once(this.child, "exit").then(() => (this.until = Date.now()));
  }

  /** What was written since it was read last. */
  read() {
    const all = readFileSync(this.file);
    const lines = (this.#rest + all.subarray(this.#read).toString()).split("\n");
    this.#read = all.length;
    this.#rest = lines.pop();
    const fresh = lines.map((line) => JSON.parse(line));
    this.notes.push(...fresh);
    return fresh;
  }

  async kill() {
    this.killedAt = Date.now();
    this.child.kill("SIGKILL");
    await this.ended;
  }
}

/** A producer in Python. */
class PythonProducer {
  puts = new Map();
  refused = { full: 0, unavailable: 0 };

  constructor(scribe) {
    this.scribe = scribe;
  }

  resume() {
    this.scribe.child.stdin.write("go\n");
  }

  async pause() {
    const stopped = once(this.scribe.child.stdout, "data");
    this.scribe.child.stdin.write("stop\n");
    await stopped;
    for (const { what, name, queue, work, id, code } of this.scribe.read()) {
      if (what === "puts") this.puts.set(name, { name, queue, work, ids: new Set(), options: {} });
      if (what === "receipt") this.puts.get(name).ids.add(id);
      if (what === "refused") {
        this.refused[code === "storage_full" ? "full" : "unavailable"] += 1;
        this.puts.get(name).wasRefused = true;
      }
    }
    this.scribe.notes.length = 0;
  }
}

/** What can happen. Each may be answered by what could not be done on this machine. */
class Trouble {
  /** When something happened to the server by which leases may be lost: [from, to, what]. */
  times = [];
  counts = {};
  #offset = 0;

  constructor({ binary, crew, clock, disk }) {
    Object.assign(this, { binary, crew, clock, disk });
  }

  /** What can be done here, the usual things more often. */
  get kinds() {
    const kinds = ["server", "worker", "server", "both", "term", "twice"];
    if (this.clock) kinds.splice(2, 0, "forth", "back");
    if (this.disk) kinds.splice(4, 0, "full", "brim");
    return kinds;
  }

  async make(kind) {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1;
    const from = Date.now();
    await this[kind]();
    if (kind !== "worker" && kind !== "full") this.times.push([from, Date.now(), kind]);
  }

  async server() {
    await this.binary.kill();
    await this.binary.start();
  }

  async worker() {
    await this.crew.replace();
  }

  async both() {
    await Promise.all([this.binary.kill(), this.crew.replace()]);
    await this.binary.start();
  }

  async term() {
    const how = await this.binary.stop();
    if (!how.includes("code 0")) throw new Error(`it ${how}:\n${this.binary.log.slice(-2_000)}`);
    await this.binary.start();
  }

  /** Killed again while it starts. */
  async twice() {
    await this.binary.kill();
    const started = this.binary.start().catch(() => {});
    await sleep(Math.random() * 60);
    await this.binary.kill();
    await started;
    await this.binary.kill();
    await this.binary.start();
  }

  forth() {
    return this.#jump(Math.random() < 0.5 ? 3_600 * (1 + Math.random() * 5) : 1 + Math.random() * 5);
  }

  back() {
    return this.#jump(-(Math.random() < 0.5 ? 3_600 * (1 + Math.random() * 3) : 1 + Math.random() * 5));
  }

  async #jump(seconds) {
    this.#offset += seconds;
    this.clock.set(this.#offset);
    await sleep(60);
  }

  /** Too little is left: nothing more is taken in, and what is there is worked off. */
  async full() {
    this.disk.fill(40 << 20);
    await sleep(300);
    this.disk.free();
  }

  /** Nothing is left: writes fail. */
  async brim() {
    this.disk.fill(0);
    await sleep(100);
    await this.binary.kill();
    this.disk.free();
    await this.binary.start();
  }
}

/** The clock of the server's process, by libfaketime. */
class FakedClock {
  constructor(library, folder) {
    this.file = path.join(folder, "clock");
    this.env = {
      LD_PRELOAD: library,
      FAKETIME_TIMESTAMP_FILE: this.file,
      FAKETIME_NO_CACHE: "1",
      FAKETIME_DONT_FAKE_MONOTONIC: "1",
      DONT_FAKE_MONOTONIC: "1",
    };
    this.set(0);
  }

  /** So many seconds from the real time. */
  set(seconds) {
    writeFileSync(`${this.file}.new`, `${seconds < 0 ? "-" : "+"}${Math.abs(seconds).toFixed(3)}\n`);
    renameSync(`${this.file}.new`, this.file);
  }

  static library() {
    const found = readdirSync("/usr/lib").map((name) => `/usr/lib/${name}/faketime/libfaketime.so.1`);
    return found.find((file) => existsSync(file));
  }
}

/** The workers: one of each kind, those that were killed replaced. */
class Crew {
  all = [];
  log = [];
  kills = 0;
  #numbers = 0;

  constructor(url, folder, python) {
    Object.assign(this, { url, folder, python });
    for (const kind of ["ack", "pull", "http", ...(python ? ["python"] : [])]) this.add(kind);
  }

  get working() {
    return this.all.filter((worker) => !worker.until);
  }

  add(kind) {
    const file = path.join(this.folder, `worker-${this.#numbers++}.jsonl`);
    const queues = Object.keys(QUEUES);
    const [command, args] =
      kind === "python"
        ? [this.python, [path.join(here, "python/queue_soak.py"), "work", this.url, file, ...queues]]
        : [process.execPath, [path.join(here, "queue-worker.mjs"), kind, this.url, file, ...queues]];
    const worker = new Scribe(command, args, file, this.log);
    worker.kind = kind;
    this.all.push(worker);
  }

  /** Kills one, whichever, and starts another of its kind. */
  async replace() {
    const worker = pick(this.working);
    await worker.kill();
    this.kills += 1;
    this.add(worker.kind);
  }

  /** Whether all that are at work have said what they had to say of all they got. */
  isQuiet() {
    for (const worker of this.all) worker.read();
    return this.working.every(({ notes, kind }) => {
      const ofKind = (what) => notes.filter((note) => note.what === what).length;
      const [got, said, settled] = [ofKind("got"), ofKind("said"), ofKind("settled")];
      return got === said && (kind === "ack" || kind === "python" || settled === said);
    });
  }

  /** What was judged is let go. */
  forget() {
    for (const worker of this.all) worker.notes.length = 0;
    this.all = this.working;
  }
}

/**
 * Runs so many rounds with the server program; `orderly` makes every kind of trouble in turn. Returns what was counted; throws when
 * anything did not hold.
 */
export async function soak({ program, python, rounds, orderly = false, say = () => {} }) {
  const folder = temporaryFolder();
  const library = FakedClock.library();
  const clock = library && new FakedClock(library, folder);
  const disk = SmallDisk.inFolder(folder);
  const data = disk ? path.join(disk.path, "data") : path.join(folder, "data");
  const server = new Killed(program, folder, await freePort(), { data, env: clock?.env });
  await server.start();
  const producers = [];
  let crew, round = 0;
  try {
    for (const [queue, config] of Object.entries(QUEUES)) {
      const body = JSON.stringify({ ...COMMON, ...config });
      const answer = await fetch(`${server.url}/api/v1/queues/${queue}`, { method: "PUT", body });
      if (answer.status !== 200) throw new Error(`${queue}: ${await answer.text()}`);
    }
    crew = new Crew(server.url, folder, python);
    const trouble = new Trouble({ binary: server, crew, clock, disk });
    const stalls = () => round % 5 === 1;
    for (const name of ["p0", "p1"]) producers.push(new Producer(server.url, name, { stalls }));
    if (python) {
      const file = path.join(folder, "producer.jsonl");
      const script = path.join(here, "python/queue_soak.py");
      producers.push(new PythonProducer(new Scribe(python, [script, "put", server.url, file, "plain"], file, crew.log)));
    }
    const totals = { rounds, messages: 0, runs: 0, dead: 0, refused: 0, extra: {}, slowest: 0 };
    for (round = 1; round <= rounds; round += 1) {
      producers.forEach((producer) => producer.resume());
      await sleep(30 + Math.random() * 170);
      const kind = orderly ? trouble.kinds[(round - 1) % trouble.kinds.length] : pick(trouble.kinds);
      await trouble.make(kind);
      await Promise.all(producers.map((producer) => producer.pause()));
      const began = Date.now();
      await emptied(server.url, kind);
      await until(() => crew.isQuiet(), "workers have said all they had to say", PATIENCE_MS);
      totals.slowest = Math.max(totals.slowest, Date.now() - began);
      const verdict = new Verdict({ producers, workers: crew.all, times: trouble.times, leaseMs: LEASE_MS, attempts: ATTEMPTS });
      const dead = await deadOf(server.url, "doomed");
      const wrong = verdict.faults(dead);
      const buried = await post(`${server.url}/api/v1/queues/doomed/purge?state=dead`);
      if (buried.count !== dead.length) wrong.push(`${buried.count} dead were removed, of ${dead.length}`);
      if (wrong.length > 0) throw new Error(`round ${round} (${kind}): ${wrong.length} faults: ${wrong.slice(0, 10).join("; ")}`);
      totals.messages += verdict.messages;
      totals.runs += verdict.runs;
      totals.dead += dead.length;
      for (const [why, count] of Object.entries(verdict.extra)) totals.extra[why] = (totals.extra[why] ?? 0) + count;
      totals.refused += producers.reduce((sum, { refused }) => sum + refused.full + refused.unavailable, 0);
      for (const producer of producers) {
        producer.puts.clear();
        producer.refused = { full: 0, unavailable: 0 };
      }
      crew.forget();
      trouble.times.length = 0;
      if (round % 50 === 0 || round === rounds) say(`${round} rounds: ${JSON.stringify({ ...totals, troubles: trouble.counts })}`);
    }
    const how = await server.stop();
    if (!how.includes("code 0")) throw new Error(`it ${how}`);
    const verified = execFileSync(program, ["verify", data], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    return { ...totals, kills: crew.kills, troubles: trouble.counts, verified, kinds: new Set(trouble.kinds) };
  } catch (error) {
    const said = (crew?.log ?? []).join("").slice(-2_000);
    throw new Error(`${error.message}\nthe server said:\n${server.log.slice(-3_000)}\nthe workers said:\n${said}`, { cause: error });
  } finally {
    for (const { socket, scribe } of producers) {
      socket?.disconnect();
      scribe?.child.kill("SIGKILL");
    }
    for (const worker of crew?.working ?? []) worker.child.kill("SIGKILL");
    await server.kill();
    disk?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** When nothing is left in the queues but what is dead. */
async function emptied(url, kind) {
  let seen;
  const isEmpty = async () => {
    const answer = await fetch(`${url}/api/v1/queues`);
    seen = (await answer.json()).queues;
    return seen.every(({ ready, leased, delayed }) => ready + leased + delayed === 0);
  };
  await until(isEmpty, "queues are empty", PATIENCE_MS, 20).catch((error) => {
    const left = seen.filter(({ ready, leased, delayed }) => ready + leased + delayed > 0);
    throw new Error(`${error.message} after ${kind}: ${JSON.stringify(left)}`);
  });
}

async function deadOf(url, queue) {
  const dead = [];
  for (let after = 0; ; ) {
    const answer = await fetch(`${url}/api/v1/queues/${queue}/peek?state=dead&n=1000&after=${after}`);
    const { messages, next } = await answer.json();
    dead.push(...messages);
    if (messages.length === 0 || !next) return dead;
    after = next;
  }
}

async function post(url) {
  const answer = await fetch(url, { method: "POST" });
  return answer.json();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { rounds: { type: "string", default: "100" } } });
  const program = programOf("POSTHASTE_BIN");
  if (!program) throw new Error("POSTHASTE_BIN names no program");
  const counted = await soak({ program, python: programOf("PYTHON_BIN"), rounds: Number(values.rounds), say: console.log });
  console.log(counted);
  process.exit(0);
}
