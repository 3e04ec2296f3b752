// Clients in other languages than JavaScript: a program of theirs runs every scenario against a server.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { it } from "node:test";
import { eachSubject } from "./harness.mjs";
import { lackOf } from "./installed.mjs";
import { note, placesOf, writeMatrix } from "./matrix.mjs";

/** All of it, on a busy machine. */
const TIMEOUT_MS = 300_000;

/**
 * Tests the clients of `rows`: `command`, with the address of a server behind it, writes a cell of the matrix a line, as JSON: mode,
 * scenario, error (null when all went well), and what else tells of its client. Of a scenario that a client lacks (installed.mjs)
 * it shows what happens instead; that is tested, and no success. Without a command, `lacking` says what is not there.
 */
export function testForeign({ title, name, command, lacking, rows }) {
  if (!command) {
    // Whoever tests by hand may do without, the machine that decides may not.
    it(title, { skip: process.env.CI ? false : lacking }, () => assert.fail(lacking));
    return;
  }
  writeMatrix(name);
  eachSubject(title, (server) => {
    it("runs every scenario over each transport", { timeout: TIMEOUT_MS }, async (test) => {
      const cells = (await run([...command, server.url])).map((cell) => ({ ...(rows.length === 1 ? rows[0] : {}), ...cell }));
      const inWords = ({ client, version, mode, scenario }) => `${client} ${version} over ${mode}: ${scenario}`;
      assert.deepEqual(cells.map(inWords).sort(), rows.flatMap(placesOf).map(inWords).sort());
      for (const { error, ...cell } of cells) {
        const lack = lackOf(cell);
        if (!lack) note({ subject: server.subject, ...cell, ok: error === null });
        await test.test(`${inWords(cell)}${lack ? ", as far as it can" : ""}`, () => assert.equal(error, null, error));
      }
    });
  });
}

/** What a program writes, a value in JSON a line. */
function run([program, ...args]) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], timeout: TIMEOUT_MS });
    const [out, errors] = [[], []];
    child.stdout.on("data", (data) => out.push(data));
    child.stderr.on("data", (data) => errors.push(data));
    child.once("error", reject);
    child.once("close", (code, signal) => {
      const complaint = Buffer.concat(errors).toString("utf8");
      if (code !== 0) return reject(new Error(`${program} ended with ${signal ?? `code ${code}`}:\n${complaint}`));
      resolve(Buffer.concat(out).toString("utf8").trim().split("\n").map((line) => JSON.parse(line)));
    });
  });
}
