// The clients that the tests drive, in the versions that are there. Nothing here is written twice: package.json,
// python/requirements.txt, rust/Cargo.toml and the server's assets say which these are.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const read = (file) => readFileSync(new URL(file, import.meta.url), "utf8");

const NODE_CLIENT = /^socket\.io-client(-|$)/;

/** The client for Node, every version of it, the newest first: `version`, and `load`, which gives the library. */
export const nodeClients = Object.keys(JSON.parse(read("package.json")).devDependencies)
  .filter((name) => NODE_CLIENT.test(name))
  .map((name) => ({ version: require(`${name}/package.json`).version, load: () => require(name).io ?? require(name) }))
  .sort((one, other) => other.version.localeCompare(one.version, "en", { numeric: true }));

/** The newest of them with its parser for MessagePack: `parser` is an option of the client. */
export const packedClient = {
  ...nodeClients[0],
  version: `${nodeClients[0].version}, parser ${require("socket.io-msgpack-parser/package.json").version}`,
  parser: require("socket.io-msgpack-parser"),
};

/**
 * The client of Socket.IO 2 with the same parser, as that client calls it: it takes what was written by a callback, and has types of their
 * own for packets with binary, which the parser does not know. (What the parser of its time can do is in eio3.test.mjs.)
 */
const secondClient = nodeClients.at(-1);
export const packedSecondClient = {
  ...secondClient,
  version: `${secondClient.version}, parser ${require("socket.io-msgpack-parser/package.json").version}`,
  parser: {
    Encoder: class extends packedClient.parser.Encoder {
      encode(packet, give) {
        const type = { 5: 2, 6: 3 }[packet.type] ?? packet.type;
        give(super.encode({ ...packet, type }));
      }
    },
    Decoder: packedClient.parser.Decoder,
  },
};

/** The version of the bundle that our server serves to browsers. */
export const bundleVersion = read("../../crates/server/assets/client/VERSION").trim();

/** The version of python-socketio, whose two clients run.py drives. */
export const pythonVersion = read("python/requirements.txt").match(/^python-socketio==(.+)$/m)[1];

/** The version of rust_socketio, which the program in rust/ drives. */
export const rustVersion = read("rust/Cargo.toml").match(/^rust_socketio = \{ version = "=([^"]+)"/m)[1];

/** The names that the clients have in the matrix. */
export const names = {
  node: "socket.io-client in Node",
  packed: "socket.io-client in Node, MessagePack",
  chromium: "socket.io-client in Chromium",
  chromiumPacked: "socket.io-client in Chromium, MessagePack",
  python: ["python-socketio Client", "python-socketio AsyncClient"],
  rust: "rust_socketio",
};

/** The scenarios that a client cannot do with any server, in all modes or in those named, and why. */
export const lacks = [
  { client: names.rust, scenario: "several namespaces over one connection", why: "gives each namespace a connection of its own" },
  {
    client: names.rust,
    scenario: "binary both ways",
    why: "sends one piece of binary, as the only argument; with an acknowledgement it sends that as a packet of type 6, which is an answer; "
      + "what comes over WebSocket it splits at 0x1e, as if it were the body of a poll",
  },
  { client: names.rust, scenario: "acknowledgements both ways, with binary", why: "hears answers, and has no way to give one" },
  {
    client: names.rust,
    scenario: "large payloads",
    modes: ["polling"],
    why: "takes each part of a polling answer that one read of the socket gives for a whole one",
  },
];

/** What `lacks` has for a place of the matrix. */
export function lackOf({ client, mode, scenario }) {
  return lacks.find((lack) => lack.client === client && lack.scenario === scenario && (lack.modes?.includes(mode) ?? true));
}

/** The rows of the matrix. */
export const rows = [
  ...nodeClients.map(({ version }) => ({ client: names.node, version })),
  { client: names.packed, version: packedClient.version },
  { client: names.packed, version: packedSecondClient.version },
  { client: names.chromium, version: bundleVersion },
  { client: names.chromiumPacked, version: bundleVersion },
  ...names.python.map((client) => ({ client, version: pythonVersion })),
  { client: names.rust, version: rustVersion },
];
