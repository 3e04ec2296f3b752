// The official client in the versions that are in use, each over each transport, through every scenario.

import { createRequire } from "node:module";
import { describe } from "node:test";
import { check, eachSubject, modes } from "./harness.mjs";
import { noted, writeMatrix } from "./matrix.mjs";
import { Cell, scenarios } from "./scenarios.mjs";

const require = createRequire(import.meta.url);

/** A line per version: the package's name in package.json. The version is read from what is installed. */
const packages = [
  "socket.io-client",
  "socket.io-client-4.6",
  "socket.io-client-4.4",
  "socket.io-client-4.0",
  "socket.io-client-3.1",
];

writeMatrix("versions");

eachSubject("client versions", { concurrency: 4 }, (server) => {
  for (const name of packages) {
    const { io } = require(name);
    const { version } = require(`${name}/package.json`);
    for (const mode of modes) {
      describe(`socket.io-client ${version} over ${mode}`, () => {
        for (const [scenario, run] of Object.entries(scenarios)) {
          check(scenario, async () => {
            const place = { subject: server.subject, client: "socket.io-client (Node)", version, mode, scenario };
            const cell = new Cell({ io, url: server.url, mode });
            await noted(place, () => run(cell)).finally(() => cell.close());
          });
        }
      });
    }
  }
});
