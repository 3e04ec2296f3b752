// python-socketio, its sync and its async client, each over each transport, through every scenario (python/scenarios.py).

import { fileURLToPath } from "node:url";
import { testForeign } from "./foreign.mjs";
import { programOf } from "./harness.mjs";
import { names, pythonVersion } from "./installed.mjs";

const python = programOf("PYTHON_BIN");

testForeign({
  title: "python-socketio",
  name: "python",
  command: python && [python, fileURLToPath(new URL("python/run.py", import.meta.url))],
  lacking: "PYTHON_BIN names no Python with python/requirements.txt installed",
  rows: names.python.map((client) => ({ client, version: pythonVersion })),
});
