// The real binary, killed at random moments under real clients: nothing that was acknowledged is lost. The long form is
// `cargo xtask soak crash`.

import assert from "node:assert/strict";
import { it } from "node:test";
import { crash } from "./crash.mjs";
import { programOf } from "./harness.mjs";

const program = programOf("POSTHASTE_BIN");
const ROUNDS = 20;

it(
  "twenty times killed, every acknowledged event is heard by everybody exactly once, and everybody is who they were",
  { skip: program ? false : "POSTHASTE_BIN names no program", timeout: 600_000 },
  async () => {
    const counted = await crash({ program, rounds: ROUNDS });
    assert.equal(counted.afresh, 0, JSON.stringify(counted));
    assert.equal(counted.gaps, 0, JSON.stringify(counted));
    assert.ok(counted.recovered >= ROUNDS && counted.events > ROUNDS, JSON.stringify(counted));
  },
);
