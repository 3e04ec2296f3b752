// python-socketio, its sync and its async client, each over each transport, through every scenario (python/scenarios.py).

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { eachSubject, programOf } from "./harness.mjs";
import { names, pythonVersion } from "./installed.mjs";
import { note, placesOf, writeMatrix } from "./matrix.mjs";

const python = programOf("PYTHON_BIN");
const script = fileURLToPath(new URL("python/run.py", import.meta.url));
/** All of it, on a busy machine. */
const TIMEOUT_MS = 300_000;

if (python) {
  writeMatrix("python");
  eachSubject("python-socketio", (server) => {
    it("runs every scenario with both clients over each transport", { timeout: TIMEOUT_MS }, async (test) => {
      const cells = await run(server.url);
      const inWords = ({ client, version, mode, scenario }) => `${client} ${version} over ${mode}: ${scenario}`;
      const expected = names.python.flatMap((client) => placesOf({ client, version: pythonVersion }));
      assert.deepEqual(cells.map(inWords).sort(), expected.map(inWords).sort());
      for (const { error, ...cell } of cells) {
        note({ subject: server.subject, ...cell, ok: error === null });
        await test.test(inWords(cell), () => assert.equal(error, null, error));
      }
    });
  });
} else {
  // Whoever tests by hand may do without Python, the machine that decides may not.
  const lacking = "PYTHON_BIN names no Python with python/requirements.txt installed";
  it("python-socketio", { skip: process.env.CI ? false : lacking }, () => assert.fail(lacking));
}

/** The cells of the matrix that the script writes, a line each. */
function run(url) {
  return new Promise((resolve, reject) => {
    const child = spawn(python, [script, url], { stdio: ["ignore", "pipe", "pipe"], timeout: TIMEOUT_MS });
    const [out, errors] = [[], []];
    child.stdout.on("data", (data) => out.push(data));
    child.stderr.on("data", (data) => errors.push(data));
    child.once("error", reject);
    child.once("close", (code, signal) => {
      const complaint = Buffer.concat(errors).toString("utf8");
      if (code !== 0) return reject(new Error(`python ended with ${signal ?? `code ${code}`}:\n${complaint}`));
      resolve(Buffer.concat(out).toString("utf8").trim().split("\n").map((line) => JSON.parse(line)));
    });
  });
}
