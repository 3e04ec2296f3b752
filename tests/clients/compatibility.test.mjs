// docs/compatibility.md tells of the clients that are tested, in the versions that are installed, and of nothing else.

import assert from "node:assert/strict";
import { test } from "node:test";
import { parts, render, runtimes } from "./compatibility.mjs";
import { lackOf, rows } from "./installed.mjs";
import { placesOf } from "./matrix.mjs";

/** The places of the matrix that have results. */
const places = rows.flatMap(placesOf).filter((place) => !lackOf(place));

test("docs/compatibility.md is what these clients give when every scenario passes that they do not lack", () => {
  const runtime = "any";
  const perfect = places.map((place) => ({ ...place, runtime, ok: true }));
  const section = parts().section.replace(/^Run with .*$/m, runtimes([runtime]));
  assert.equal(section, render(perfect), "`npm run compatibility` writes it anew, after `cargo xtask test --only clients`");
});

test("a scenario that fails is told, and one without a result is no success", () => {
  const [first, ...others] = places.map((place) => ({ ...place, runtime: "any", ok: true }));
  const count = (text) => text.match(/([0-9]+) of ([0-9]+)/).slice(1).map(Number);
  const [passed, all] = count(render([{ ...first, ok: false }, ...others]));
  assert.equal(passed, all - 1);
  assert.throws(() => render(others), /no result of/);
});
