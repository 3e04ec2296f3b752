// The official client in the versions that are in use, each over each transport, through every scenario.

import { describe } from "node:test";
import { check, eachSubject, modes } from "./harness.mjs";
import { names, nodeClients } from "./installed.mjs";
import { noted, writeMatrix } from "./matrix.mjs";
import { Cell, scenarios } from "./scenarios.mjs";

const runtime = `Node ${process.versions.node}`;

writeMatrix("versions");

eachSubject("client versions", { concurrency: 4 }, (server) => {
  for (const { version, load } of nodeClients) {
    const io = load();
    for (const mode of modes) {
      describe(`socket.io-client ${version} over ${mode}`, () => {
        for (const [scenario, { run }] of Object.entries(scenarios)) {
          check(scenario, async () => {
            const place = { subject: server.subject, client: names.node, version, runtime, mode, scenario };
            const cell = new Cell({ io, url: server.url, mode });
            await noted(place, () => run(cell)).finally(() => cell.close());
          });
        }
      });
    }
  }
});
