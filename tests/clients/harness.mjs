// Starts the servers under test and gives tests bounded ways to wait.
//
// There are two subjects. `node` is the conformance app on the npm server (`oracle.mjs`) and always runs. `ours` is the
// binary that CONFORMANCE_BIN names, started as `$CONFORMANCE_BIN --port N`. Every suite runs against each subject with
// the same assertions; that is how ours is held to the real server. SUBJECTS=ours,node narrows the choice.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { Agent } from "node:http";
import { connect as connectTcp, createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { io } from "socket.io-client";

const here = path.dirname(fileURLToPath(import.meta.url));

/**
 * How long anything that should happen soon may take. Far above what it takes on a busy machine: passing it means that it
 * will never come.
 */
export const SOON_MS = 15_000;
/** How long a test that waits for nothing slow may run. */
const TEST_TIMEOUT_MS = 60_000;
/** How long a server may take until it answers. */
const START_TIMEOUT_MS = 30_000;

/** The mount for everything that is not about a mount: events arrive there as they were sent, without the offsets of recovery. */
export const PLAIN = "/plain/";

/** The three ways a client may be connected; `connect({ mode })` takes the key. */
export const modes = ["polling", "websocket", "upgrade"];

const transportsOf = {
  polling: ["polling"],
  websocket: ["websocket"],
  upgrade: ["polling", "websocket"],
};

const wanted = process.env.SUBJECTS?.split(",");

/** Subjects a suite runs against: `candidates` whose command is known, narrowed by SUBJECTS. */
export function available(candidates) {
  const chosen = candidates.filter(({ name, command }) => command && (wanted?.includes(name) ?? true));
  if (chosen.length === 0) throw new Error(`no subject left of SUBJECTS=${process.env.SUBJECTS}`);
  return chosen;
}

/** Absolute path of a program given by an environment variable, or undefined. */
export function programOf(variable) {
  const value = process.env[variable];
  return value ? path.resolve(value) : undefined;
}

const conformanceSubjects = available([
  { name: "ours", command: programOf("CONFORMANCE_BIN") && [programOf("CONFORMANCE_BIN")] },
  { name: "node", command: [process.execPath, path.join(here, "oracle.mjs")] },
]);

/** A test with a bound on its running time. */
export function check(name, body, timeout = TEST_TIMEOUT_MS) {
  it(name, { timeout }, body);
}

/** A test of something that the npm server gets wrong: `defect` says what, and there the test is skipped. */
export function checkBetterThanNode(server, name, defect, body) {
  if (server.subject === "node") it(name, { skip: `npm server: ${defect}` }, body);
  else check(name, body);
}

/**
 * Runs `body(server)` once per available subject, inside a suite of its own with a server that lives as long as the
 * suite. Everything that was opened on the server is closed after every test; with the option `concurrency`, by which the
 * tests of the suite run at the same time, after the last.
 */
export function eachSubject(title, options, body = options) {
  const { concurrency = false } = options;
  for (const subject of conformanceSubjects) {
    describe(`${title} [${subject.name}]`, { concurrency }, () => {
      const server = new ConformanceServer(subject);
      before(() => server.start());
      afterEach(() => concurrency || server.closeAll());
      after(() => server.stop());
      body(server);
    });
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Servers

const running = new Set();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

/** A child process with its output in a file, so that a failure can show it and a full pipe can never stall it. */
export class ServerProcess {
  #child;
  #logFile;
  #exited;

  constructor(command, args, { logFile, env = {} }) {
    this.#logFile = logFile;
    const log = openSync(logFile, "a");
    const [program, ...leading] = command;
    this.#child = spawn(program, [...leading, ...args], {
      stdio: ["ignore", log, log],
      env: { ...process.env, ...env },
    });
    closeSync(log);
    this.#child.unref();
    running.add(this.#child);
    this.#exited = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve(`could not start: ${error.message}`));
      this.#child.once("exit", (code, signal) => resolve(`ended with ${signal ?? `code ${code}`}`));
    }).then((how) => {
      running.delete(this.#child);
      this.ended = how;
      return how;
    });
  }

  get log() {
    return readFileSync(this.#logFile, "utf8");
  }

  /** Polls `probe` until it gives something truthy; fails when the process ends first. */
  async until(probe) {
    const deadline = Date.now() + START_TIMEOUT_MS;
    while (Date.now() < deadline && !this.ended) {
      const found = await probe(this);
      if (found) return found;
      await sleep(25);
    }
    const how = this.ended ?? "did not become ready in time";
    await this.kill();
    throw new Error(`server ${how}; its output:\n${this.log.slice(-4_000)}`);
  }

  signal(name) {
    if (!this.ended) this.#child.kill(name);
  }

  /** Ends the process without giving it a chance to say goodbye. */
  async kill() {
    if (!this.ended) {
      this.#child.ref();
      this.#child.kill("SIGKILL");
    }
    await this.#exited;
  }
}

/** A subject's conformance app on a port of its own. */
export class ConformanceServer {
  #process;
  #opened = new Set();
  #folder;

  constructor(subject) {
    this.subject = subject.name;
    this.command = subject.command;
  }

  /** Starts the server; a second start after `kill` takes the same port again. */
  async start() {
    this.port ??= await freePort();
    this.#folder ??= temporaryFolder();
    this.#process = new ServerProcess(this.command, ["--port", String(this.port)], {
      logFile: path.join(this.#folder, "server.log"),
      env: { DATA: path.join(this.#folder, "data") },
    });
    await this.#process.until(async () => {
      const response = await fetch(`${this.url}/health`).catch(() => undefined);
      return response?.status === 200 && (await response.text()) === "ok";
    });
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  kill() {
    return this.#process.kill();
  }

  async stop() {
    await this.closeAll();
    await this.#process?.kill();
    if (this.#folder) rmSync(this.#folder, { recursive: true, force: true });
  }

  /**
   * A client that has not been told to connect. `mode` names the transports, `path` the mount, `nsp` the namespace, `url` another
   * way to the server, `upgradeAfter` holds an upgrade back for so many milliseconds; everything else goes to the client as it is.
   */
  client({ mode = "websocket", nsp = "/", path: mount = PLAIN, url = this.url, upgradeAfter, ...options } = {}) {
    const socket = io(url + nsp, {
      path: mount,
      transports: transportsOf[mode],
      transportOptions: upgradeAfter ? { websocket: { agent: new LateAgent(upgradeAfter) } } : {},
      forceNew: true,
      reconnection: false,
      autoConnect: false,
      ...options,
    });
    this.onCleanup(() => hangUp(socket));
    return socket;
  }

  /**
   * A client that is connected and, in mode `upgrade` without `upgradeAfter`, has arrived at its final transport.
   * Rejects when refused.
   */
  async connect(options = {}) {
    const socket = this.client(options);
    await opened(socket);
    if (options.mode === "upgrade" && !options.upgradeAfter) await engineUpgrade(socket);
    return socket;
  }

  /** A second namespace over the connection that `socket` already has. */
  async join(socket, nsp, options = {}) {
    const other = socket.io.socket(nsp, options);
    await opened(other);
    return other;
  }

  /** Has `close` called, and waited for, when the test is over. */
  onCleanup(close) {
    this.#opened.add(close);
  }

  async closeAll() {
    const closing = [...this.#opened];
    this.#opened.clear();
    await Promise.allSettled(closing.map((close) => close()));
  }
}

/** A standalone server with its own port and data folder; a second start after `kill` takes up both again. */
export class StandaloneServer {
  #process;
  #folder = temporaryFolder();
  #starts = 0;
  #sockets = [];

  constructor(subject, { command = "dev", options = ["--json"] } = {}) {
    this.command = subject.command;
    this.data = path.join(this.#folder, "data");
    this.args = [command, ...options];
  }

  async start() {
    this.port ??= await freePort();
    this.#starts += 1;
    this.#process = new ServerProcess(this.command, [...this.args, "--listen", `127.0.0.1:${this.port}`, "--data", this.data], {
      logFile: path.join(this.#folder, `server-${this.#starts}.log`),
    });
    this.urls = await this.#process.until(({ log }) => {
      const lines = log.split("\n").slice(0, -1);
      const json = lines.find((text) => text.startsWith("{") && text.includes('"demo"'));
      if (json) return JSON.parse(json);
      const plain = lines.find((text) => text.startsWith("listening on "))?.slice("listening on ".length);
      return plain && { socketio: plain, api: `${plain}/api/v1` };
    });
  }

  /** A client of a namespace that comes back soon when the connection is lost. */
  async connect(nsp = "", options = {}) {
    const quick = { forceNew: true, transports: ["websocket"], reconnectionDelay: 20, reconnectionDelayMax: 200 };
    const socket = io(this.urls.socketio + nsp, { ...quick, ...options });
    this.#sockets.push(socket);
    await opened(socket);
    return socket;
  }

  /** Ends all that `connect` gave. */
  disconnectAll() {
    this.#sockets.forEach(hangUp);
    this.#sockets = [];
  }

  /** Starts it if it was killed: what a test that failed left does not fail those behind it. */
  async mend() {
    if (this.#process.ended) await this.start();
  }

  kill() {
    return this.#process.kill();
  }

  async stop() {
    this.disconnectAll();
    await this.#process?.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Ends a client's connection with all its namespaces, and its attempts to come back. */
function hangUp(socket) {
  socket.io.reconnection(false);
  socket.disconnect();
  socket.io.engine?.close();
}

/** Resolves when a client socket is connected, rejects with the refusal. Connects it when it does not already try. */
export function opened(socket, ms = SOON_MS) {
  const answer = new Promise((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("connect_error", reject);
  });
  if (!socket.active) socket.connect();
  return within(answer, ms, "connecting");
}

/** Resolves once a connected client is on its final transport. */
export async function engineUpgrade(socket) {
  const { engine } = socket.io;
  if (engine.transport.name !== "websocket") await next(engine, "upgrade");
}

/** Opens its connections late, so that there is time to do something before an upgrade. */
class LateAgent extends Agent {
  constructor(delay) {
    super();
    this.delay = delay;
  }

  createConnection(options, callback) {
    setTimeout(() => callback(null, connectTcp(options)), this.delay);
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Asking and waiting

/** Emits with an acknowledgement and gives all of its arguments. */
export function call(socket, event, ...args) {
  return within(
    new Promise((resolve) => socket.emit(event, ...args, (...answer) => resolve(answer))),
    SOON_MS,
    `the acknowledgement of ${JSON.stringify(event.slice(0, 40))}`,
  );
}

/** Emits with an acknowledgement and gives its first argument. */
export async function ask(socket, event, ...args) {
  const [answer] = await call(socket, event, ...args);
  return answer;
}

/** Asks what has to be answered with `{ok: true}`. */
export async function must(socket, ...call) {
  const answer = await ask(socket, ...call);
  assert.equal(answer.ok, true, `${JSON.stringify(call)}: ${JSON.stringify(answer)}`);
  return answer;
}

/** The arguments of the next `event` of an emitter. */
export function next(emitter, event, ms = SOON_MS) {
  return within(
    new Promise((resolve) => emitter.once(event, (...args) => resolve(args))),
    ms,
    `event ${JSON.stringify(event.slice(0, 40))}`,
  );
}

/** A growing list with the arguments of every `event`. */
export function collect(socket, event) {
  const seen = [];
  socket.on(event, (...args) => seen.push(args));
  return seen;
}

/** Waits until `condition()` gives something truthy (or resolves to it) and returns that. */
export async function until(condition, what, ms = SOON_MS, interval = 10) {
  const deadline = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`${what} did not happen within ${ms} ms`);
    await sleep(interval);
  }
}

/** Waits until the server's counts, as `socket` sees them, are the expected ones: those who left take a moment to go. */
export async function statsBecome(socket, expected, ms = SOON_MS) {
  let stats;
  const matches = async () => {
    stats = await ask(socket, "stats");
    return Object.entries(expected).every(([name, value]) => stats[name] === value);
  };
  await until(matches, `counts ${JSON.stringify(expected)}`, ms).catch((error) => {
    throw new Error(`${error.message}; last seen ${JSON.stringify(stats)}`);
  });
}

/** The promise, or an error that names what was waited for. */
export async function within(promise, ms, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Time for something that must not happen to show itself. */
export async function settle(...sockets) {
  // A round trip first: whatever was under way to these clients before has arrived by then.
  await Promise.all(sockets.map((socket) => call(socket, "echo")));
  await sleep(60);
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Milliseconds that `promise` took. */
export async function timed(promise) {
  const start = performance.now();
  await promise;
  return performance.now() - start;
}

// ---------------------------------------------------------------------------------------------------------------------
// The machine

/**
 * A TCP port on which nothing listens at this moment.
 *
 * It lies below the ports that systems give to outgoing connections (from 32,768 on Linux): one of those could otherwise
 * take it in the moment before the server does, or while the server is down between two starts.
 */
export async function freePort() {
  for (;;) {
    const port = 15_000 + Math.floor(Math.random() * 15_000);
    if (await isFree(port)) return port;
  }
}

function isFree(port) {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once("error", () => resolve(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
  });
}

export function temporaryFolder() {
  return mkdtempSync(path.join(tmpdir(), "posthaste-clients-"));
}

/** Where screenshots and the like go: TEST_OUTPUT, or `test-output` at the top of the project. */
export function outputFolder() {
  const folder = process.env.TEST_OUTPUT ?? path.resolve(here, "../../test-output");
  mkdirSync(folder, { recursive: true });
  return folder;
}
