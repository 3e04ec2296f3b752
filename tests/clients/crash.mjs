// Kills the real server again and again while official clients talk, and finds out whether anything was lost.
//
//   node crash.mjs --rounds 1000            with POSTHASTE_BIN; `cargo xtask soak crash` builds and runs it
//
// Publishers emit to a durable room and note what was acknowledged. Listeners note what they hear. At a random moment the server is
// killed (SIGKILL) and started again on its folder. After each round, when everybody is back, it has to hold that
//
// - every acknowledged event was heard by every listener exactly once;
// - an event whose answer was lost was heard by all of them once, or by none;
// - all heard the events they both know in the same order, which is that of their offsets.
//
// A listener that was not recovered joins again behind what it heard last, as an application would, and is counted.

import { parseArgs } from "node:util";
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";
import { freePort, programOf, sleep, temporaryFolder, until, within } from "./harness.mjs";
import { Killed } from "./killed.mjs";

const ROOM = "demo:crash";
const LISTENERS = 6;
const PUBLISHERS = 3;
const TRANSPORTS = [["websocket"], ["polling", "websocket"], ["polling"]];
/** What a publisher has on its way at a time. */
const WINDOW = 8;
const PATIENCE_MS = 60_000;
const OPTIONS = { forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 60, timeout: 5_000 };

/** Hears everything, and notes in which order. */
class Listener {
  heard = [];
  recovered = 0;
  afresh = 0;
  gaps = [];
  #joined = false;

  constructor(url, transports) {
    this.socket = io(url, { ...OPTIONS, transports });
    this.socket.on("event", (id, offset) => this.heard.push({ id, offset }));
    this.socket.on("sio:gap", (gaps) => this.gaps.push(gaps));
    this.socket.on("connect", () => this.#connected());
  }

  async #connected() {
    if (this.socket.recovered) {
      this.recovered += 1;
      return;
    }
    const again = this.#joined;
    if (again) this.afresh += 1;
    const after = this.heard.at(-1)?.offset;
    const options = again && after ? { after } : {};
    const answer = await this.socket.timeout(PATIENCE_MS).emitWithAck("room:join", ROOM, options).catch(() => undefined);
    if (!answer) return;
    if (!answer.ok) throw new Error(`not joined: ${JSON.stringify(answer)}`);
    this.#joined = true;
    const known = new Set(this.heard.map((event) => event.id));
    for (const { event, args, offset } of answer.history ?? []) {
      if (event === "event" && !known.has(args[0])) this.heard.push({ id: args[0], offset });
    }
  }

  get isReady() {
    return this.socket.connected && this.#joined;
  }
}

/** Emits without a pause, and notes what was acknowledged. */
class Publisher {
  acknowledged = new Set();
  unknown = new Set();
  #next = 0;
  #isPaused = false;
  #onItsWay = 0;

  constructor(url, name) {
    this.name = name;
    this.socket = io(url, { ...OPTIONS, transports: ["websocket"] });
    this.socket.on("connect", () => this.fill());
    this.socket.on("disconnect", () => {
      this.#onItsWay = 0;
    });
  }

  fill() {
    while (!this.#isPaused && this.socket.connected && this.#onItsWay < WINDOW) this.#emit();
  }

  #emit() {
    const id = `${this.name}-${this.#next++}`;
    const on = this.socket.id;
    this.#onItsWay += 1;
    this.unknown.add(id);
    this.socket.emit("room:emit", ROOM, "event", id, (answer) => {
      if (this.socket.id === on) this.#onItsWay -= 1;
      if (answer?.ok) {
        this.unknown.delete(id);
        this.acknowledged.add(id);
      } else if (answer && answer.code !== "busy") {
        throw new Error(`refused: ${JSON.stringify(answer)}`);
      }
      this.fill();
    });
  }

  async pause() {
    this.#isPaused = true;
    await until(() => this.socket.connected, `${this.name} is back`, PATIENCE_MS);
    await until(() => this.#onItsWay === 0, `answers of ${this.name}`, PATIENCE_MS);
  }

  resume() {
    this.#isPaused = false;
    this.fill();
  }
}

/** Says what does not hold; nothing if all does. */
function faults(listeners, publishers) {
  const found = [];
  const counts = listeners.map(({ heard }) => {
    const count = new Map();
    for (const { id } of heard) count.set(id, (count.get(id) ?? 0) + 1);
    return count;
  });
  const name = (index) => `listener ${index}`;
  for (const publisher of publishers) {
    for (const id of publisher.acknowledged) {
      counts.forEach((count, index) => {
        const times = count.get(id) ?? 0;
        if (times !== 1) found.push(`${name(index)} heard ${id}, which was acknowledged, ${times} times`);
      });
    }
    for (const id of publisher.unknown) {
      const times = counts.map((count) => count.get(id) ?? 0);
      if (times.some((many) => many !== times[0] || many > 1)) {
        found.push(`${id}, whose answer was lost, was heard ${times.join(", ")} times`);
      }
    }
  }
  const [first, ...others] = listeners.map(({ heard }) => heard.map(({ id }) => id));
  others.forEach((order, index) => {
    const at = order.findIndex((id, place) => id !== first[place]);
    if (at >= 0) found.push(`${name(index + 1)} heard ${order[at]} where listener 0 heard ${first[at]}, at ${at}`);
  });
  return found;
}

/**
 * Runs so many rounds with the server program. Returns what was counted; throws when anything was lost, doubled or out of order.
 */
export async function crash({ program, rounds, say = () => {} }) {
  const folder = temporaryFolder();
  const server = new Killed(program, folder, await freePort());
  await server.start();
  const listeners = [];
  const publishers = [];
  const sum = (pick) => listeners.reduce((total, listener) => total + pick(listener), 0);
  try {
    for (let index = 0; index < LISTENERS; index += 1) listeners.push(new Listener(server.url, TRANSPORTS[index % TRANSPORTS.length]));
    await until(() => listeners.every((listener) => listener.isReady), "everybody joined", PATIENCE_MS);
    for (let index = 0; index < PUBLISHERS; index += 1) publishers.push(new Publisher(server.url, `p${index}`));
    let events = 0;
    for (let round = 1; round <= rounds; round += 1) {
      publishers.forEach((publisher) => publisher.resume());
      await sleep(20 + Math.random() * 180);
      await server.kill();
      await server.start();
      await Promise.all(publishers.map((publisher) => publisher.pause()));
      await until(() => listeners.every((listener) => listener.isReady), "everybody is back", PATIENCE_MS);
      // Behind everything: who has heard it has heard what comes.
      const mark = `mark-${round}`;
      const marked = publishers[0].socket.emitWithAck("room:emit", ROOM, "event", mark);
      const answer = await within(marked, PATIENCE_MS, "the mark's answer");
      if (!answer.ok) throw new Error(`refused: ${JSON.stringify(answer)}`);
      await until(() => listeners.every(({ heard }) => heard.some(({ id }) => id === mark)), "the mark", PATIENCE_MS);
      const wrong = faults(listeners, publishers);
      if (wrong.length > 0) throw new Error(`round ${round}: ${wrong.slice(0, 10).join("; ")}`);
      events += listeners[0].heard.length;
      // What was judged is let go, but for what comes next is compared with.
      for (const listener of listeners) listener.heard.splice(0, listener.heard.length - 1);
      for (const publisher of publishers) {
        publisher.acknowledged.clear();
        publisher.unknown.clear();
      }
      if (round % 50 === 0 || round === rounds) {
        say(`${round} rounds: ${events} events, ${sum((it) => it.recovered)} recoveries, ${sum((it) => it.afresh)} afresh`);
      }
    }
    const gaps = sum((it) => it.gaps.length);
    return { rounds, events, recovered: sum((it) => it.recovered), afresh: sum((it) => it.afresh), gaps };
  } finally {
    [...listeners, ...publishers].forEach(({ socket }) => socket.disconnect());
    await server.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { rounds: { type: "string", default: "100" } } });
  const program = programOf("POSTHASTE_BIN");
  if (!program) throw new Error("POSTHASTE_BIN names no program");
  console.log(await crash({ program, rounds: Number(values.rounds), say: console.log }));
  process.exit(0);
}
