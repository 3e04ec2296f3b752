// The real binary on a folder of its own, to be killed and started again.

import path from "node:path";
import { ServerProcess, until } from "./harness.mjs";

/** How long it may take to answer again. */
const PATIENCE_MS = 60_000;

/** `posthaste dev` on a data folder in `folder`, which outlives it; `env` goes to its process. */
export class Killed {
  #process;

  constructor(program, folder, port, { data = path.join(folder, "data"), env = {} } = {}) {
    Object.assign(this, { program, folder, port, data, env, url: `http://127.0.0.1:${port}` });
  }

  async start() {
    const args = ["dev", "--listen", `127.0.0.1:${this.port}`, "--data", this.data, "--json"];
    const options = { logFile: path.join(this.folder, "server.log"), env: this.env };
    this.#process = new ServerProcess([this.program], args, options);
    const said = () => this.#process.log.split("\n").filter((line) => line.includes('"socketio"')).length;
    const before = said();
    await this.#process.until(() => said() > before || answers(this.url));
  }

  get log() {
    return this.#process.log;
  }

  kill() {
    return this.#process.kill();
  }

  /** Ends it as whoever runs it would. */
  async stop() {
    this.#process.signal("SIGTERM");
    await until(() => this.#process.ended, "its end", PATIENCE_MS);
    return this.#process.ended;
  }
}

async function answers(url) {
  try {
    await fetch(`${url}/socket.io/socket.io.js`, { method: "HEAD" });
    return true;
  } catch {
    return false;
  }
}
