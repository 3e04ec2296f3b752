// The official client in the versions that are in use, and the newest and the oldest with the parser for MessagePack, each over each
// transport, through every scenario.

import { describe } from "node:test";
import { check, eachSubject, modes } from "./harness.mjs";
import { names, nodeClients, packedClient, packedSecondClient } from "./installed.mjs";
import { noted, writeMatrix } from "./matrix.mjs";
import { Cell, scenarios } from "./scenarios.mjs";

const runtime = `Node ${process.versions.node}`;

writeMatrix("versions");

const clients = [
  ...nodeClients.map(({ version, load }) => ({ client: names.node, version, load })),
  { client: names.packed, ...packedClient },
  { client: names.packed, ...packedSecondClient },
];

eachSubject("client versions", { concurrency: 4 }, (server) => {
  for (const { client, version, load, parser } of clients) {
    const io = load();
    const how = parser ? { parser: "msgpack", options: { parser } } : {};
    for (const mode of modes) {
      describe(`${client} ${version} over ${mode}`, () => {
        for (const [scenario, { run }] of Object.entries(scenarios)) {
          check(scenario, async () => {
            const place = { subject: server.subject, client, version, runtime, mode, scenario };
            const cell = new Cell({ io, url: server.url, mode, version, ...how });
            await noted(place, () => run(cell)).finally(() => cell.close());
          });
        }
      });
    }
  }
});
