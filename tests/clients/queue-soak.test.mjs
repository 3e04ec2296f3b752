// The real binary and its workers, killed at random moments, with jumping clocks and a full disk: no message that was acknowledged is
// lost, stuck, or done again without a reason. The long form is `cargo xtask soak queue`.

import assert from "node:assert/strict";
import { it } from "node:test";
import { programOf } from "./harness.mjs";
import { soak } from "./queue-soak.mjs";

const program = programOf("POSTHASTE_BIN");
const python = programOf("PYTHON_BIN");
const ROUNDS = 20;

it(
  "through twenty kills, jumps and full disks every message is done, or dead with its reason, and whatever ran twice had lost its lease",
  { skip: program ? false : "POSTHASTE_BIN names no program", timeout: 600_000 },
  async () => {
    const counted = await soak({ program, python, rounds: ROUNDS, orderly: true });
    const said = JSON.stringify(counted);
    assert.ok(counted.messages > 10 * ROUNDS && counted.runs > counted.messages, said);
    assert.ok(counted.dead > ROUNDS && counted.kills >= 2, said);
    assert.ok([...counted.kinds].every((kind) => counted.troubles[kind] >= 1), said);
    if (counted.kinds.has("full")) assert.ok(counted.refused > 0, said);
    assert.match(counted.verified, /is as it was written/);
  },
);
