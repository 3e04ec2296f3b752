// The matrix of clients that were seen to work: every test of a client version, a transport and a scenario leaves its result
// here, for compatibility.mjs, which writes docs/compatibility.md.

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after } from "node:test";
import { modes, outputFolder } from "./harness.mjs";
import { scenarios } from "./scenarios.mjs";

const results = [];

/** What belongs to a row of the matrix: the row with each mode and scenario. */
export function placesOf(row) {
  return modes.flatMap((mode) => Object.keys(scenarios).map((scenario) => ({ ...row, mode, scenario })));
}

/** Where the results go. */
export function matrixFolder() {
  return path.join(outputFolder(), "compatibility");
}

/**
 * Notes whether a scenario went well. `client` is a row of the matrix (installed.mjs); only what ran against our server counts.
 *
 * @param {{ subject: string, client: string, version: string, runtime: string, mode: string, scenario: string, ok: boolean }} result
 */
export function note({ subject, ...result }) {
  if (subject === "ours") results.push(result);
}

/** Runs `body` and notes how it ended. */
export async function noted(place, body) {
  try {
    await body();
    note({ ...place, ok: true });
  } catch (error) {
    note({ ...place, ok: false });
    throw error;
  }
}

/** Has the results of this file written when its tests are over; `name` is the file's. */
export function writeMatrix(name) {
  after(() => {
    if (results.length === 0) return;
    const folder = matrixFolder();
    mkdirSync(folder, { recursive: true });
    writeFileSync(path.join(folder, `${name}.json`), JSON.stringify(results, null, 1));
  });
}
