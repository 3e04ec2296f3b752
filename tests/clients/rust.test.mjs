// rust_socketio over each transport, through every scenario (rust/src/scenarios.rs).

import { testForeign } from "./foreign.mjs";
import { programOf } from "./harness.mjs";
import { names, rustVersion } from "./installed.mjs";

const program = programOf("RUST_CLIENTS_BIN");

testForeign({
  title: "rust_socketio",
  name: "rust",
  command: program && [program],
  lacking: "RUST_CLIENTS_BIN does not name the program of the package in rust/",
  rows: [{ client: names.rust, version: rustVersion }],
});
