// Writes the tested clients into docs/compatibility.md, from what the tests left behind:
//
//   cargo xtask test --only clients
//   npm run compatibility
//
// Only what stands between its two markers is replaced.

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { modes } from "./harness.mjs";
import { lackOf, lacks, rows } from "./installed.mjs";
import { matrixFolder, placesOf } from "./matrix.mjs";
import { scenarios } from "./scenarios.mjs";

const file = fileURLToPath(new URL("../../docs/compatibility.md", import.meta.url));
const [begin, end] = ["<!-- clients: begin -->\n", "<!-- clients: end -->\n"];

const titles = { polling: "polling", websocket: "WebSocket", upgrade: "polling, then WebSocket" };

/** The place in the document: what stands before it, in it and after it. */
export function parts(text = readFileSync(file, "utf8")) {
  const [start, stop] = [text.indexOf(begin) + begin.length, text.indexOf(end)];
  if (start < begin.length || stop < start) throw new Error(`${file} lacks its markers`);
  return { before: text.slice(0, start), section: text.slice(start, stop), after: text.slice(stop) };
}

/**
 * The section for these results (see `note` in matrix.mjs).
 *
 * Fails unless there is one for every client, mode and scenario that it does not lack: a table with holes would look like a whole one.
 */
export function render(results) {
  const keyOf = ({ client, version, mode, scenario }) => [client, version, mode, scenario].join(" · ");
  const found = new Map(results.map((result) => [keyOf(result), result]));
  const passed = (places) => {
    for (const place of places) if (!lackOf(place) && !found.has(keyOf(place))) throw new Error(`no result of ${keyOf(place)}`);
    return `${places.filter((place) => found.get(keyOf(place))?.ok).length} of ${places.length}`;
  };
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [
    line(["client", "version", ...modes.map((mode) => titles[mode])]),
    line(["---", "---", ...modes.map(() => "---")]),
    ...rows.map((row) => line([
      row.client,
      row.version,
      ...modes.map((mode) => passed(placesOf(row).filter((place) => place.mode === mode))),
    ])),
    "",
    runtimes([...new Set(results.flatMap(({ runtime }) => runtime ?? []))].sort()),
    "",
    "| client | cannot, with either server | for it |",
    "|---|---|---|",
    ...lacks.map(({ client, scenario, modes, why }) => line([
      client,
      modes ? `${scenario} (${modes.map((mode) => titles[mode]).join(", ")})` : scenario,
      why,
    ])),
    "",
    "| scenario | what it checks |",
    "|---|---|",
    ...Object.entries(scenarios).map(([name, { checks }]) => line([name, checks])),
    "",
  ].join("\n");
}

/** The line with what the clients ran on: the only one that may differ from one machine to the next. */
export const runtimes = (names) => `Run with ${names.join(", ")}.`;

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const folder = matrixFolder();
  const results = readdirSync(folder).flatMap((name) => JSON.parse(readFileSync(path.join(folder, name), "utf8")));
  const { before, after } = parts();
  writeFileSync(file, before + render(results) + after);
}
