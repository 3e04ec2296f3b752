// The official client in a browser, as the bundle that the server itself serves, over each transport, through every scenario.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, describe } from "node:test";
import { launchChromium } from "./chromium.mjs";
import { check, eachSubject, modes } from "./harness.mjs";
import { bundleVersion, names } from "./installed.mjs";
import { noted, writeMatrix } from "./matrix.mjs";
import { scenarios } from "./scenarios.mjs";

const source = readFileSync(new URL("scenarios.mjs", import.meta.url), "utf8");
const mount = "/plain";
/** Starting a browser, on a busy machine. */
const LAUNCH_TIMEOUT_MS = 180_000;

writeMatrix("browser");

eachSubject("browser", { concurrency: modes.length }, (server) => {
  let browser;
  before(async () => { browser = await launchChromium(); }, { timeout: LAUNCH_TIMEOUT_MS });
  after(() => browser?.close());

  for (const mode of modes) {
    // One after the other: a page has six connections to a server, and each client's poll takes one.
    describe(`the bundle over ${mode}`, { concurrency: 1 }, () => {
      let page;
      before(async () => { page = await visit("socket.io.min.js"); });
      after(() => page?.close());

      for (const scenario of Object.keys(scenarios)) {
        check(scenario, async () => {
          const runtime = `Chromium ${browser.version()}`;
          const place = { subject: server.subject, client: names.chromium, version: bundleVersion, runtime, mode, scenario };
          await noted(place, () => page.run(scenario, mode));
        });
      }
    });
  }

  describe("each bundle", () => {
    for (const bundle of ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js"]) {
      check(`${bundle} is the version that it should be, and works`, async () => {
        const script = await (await fetch(`${server.url}${mount}/${bundle}`)).text();
        assert.equal(script.match(/Socket\.IO v([0-9.]+)/)?.[1], bundleVersion);
        const page = await visit(bundle);
        await page.run("binary both ways", "upgrade");
        await page.close();
      });
    }
  });

  describe("the bundle with MessagePack", { concurrency: 1 }, () => {
    let page;
    before(async () => { page = await visit("socket.io.msgpack.min.js"); });
    after(() => page?.close());

    for (const mode of modes) {
      for (const scenario of Object.keys(scenarios)) {
        check(`${scenario} over ${mode}`, async () => {
          const runtime = `Chromium ${browser.version()}`;
          const client = names.chromiumPacked;
          const place = { subject: server.subject, client, version: bundleVersion, runtime, mode, scenario };
          await noted(place, () => page.run(scenario, mode, "msgpack"));
        });
      }
    }
  });

  check("the client 2.5 polls by scripts and forms", async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    await page.goto(`${server.url}/health`);
    await page.addScriptTag({ path: createRequire(import.meta.url).resolve("socket.io-client-2.5/dist/socket.io.js") });
    const kinds = new Set();
    page.on("request", (request) => {
      if (/[?&]j=\d+(&|$)/.test(request.url())) kinds.add(`${request.method()} ${request.resourceType()}`);
    });
    const answers = await page.evaluate(async (path) => {
      const socket = window.io(location.origin, { path, transports: ["polling"], forceJSONP: true, reconnection: false });
      await new Promise((resolve, reject) => {
        socket.once("connect", resolve);
        socket.once("connect_error", reject);
      });
      const call = (...args) => new Promise((resolve) => socket.emit("echo", ...args, (...answer) => resolve(answer)));
      const text = await call('"\\\n\r\u2028</script>', "€😀");
      const [binary] = await call(new Uint8Array([1, 2, 255]).buffer);
      return [...text, [...new Uint8Array(binary)]];
    }, `${mount}/`);
    assert.deepEqual(answers, ['"\\\n\r\u2028</script>', "€😀", [1, 2, 255]]);
    assert.deepEqual([...kinds].sort(), ["GET script", "POST document"]);
    await context.close();
  });

  /** A page of the server with a bundle and the scenarios in it, and a cache and connections of its own. */
  async function visit(bundle) {
    const context = await browser.newContext();
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    // Any page of the server does: what matters is that it is the server's.
    await page.goto(`${server.url}/health`);
    const library = `${mount}/${bundle}`;
    if (bundle.includes(".esm.")) await page.evaluate(async (path) => { window.io = (await import(path)).io; }, library);
    else await page.addScriptTag({ url: library });
    await page.addScriptTag({ type: "module", content: `${source}\nObject.assign(window, { Cell, scenarios });` });
    await page.waitForFunction(() => window.io && window.scenarios);
    return {
      close: () => context.close(),
      async run(scenario, mode, parser) {
        await page.evaluate(async ([scenario, mode, parser]) => {
          const cell = new window.Cell({ io: window.io, url: location.origin, mode, parser });
          await window.scenarios[scenario].run(cell).finally(() => cell.close());
        }, [scenario, mode, parser]);
        assert.deepEqual(errors.splice(0), [], "errors that nobody caught");
      },
    };
  }
});
