// Compressed messages and answers: what real clients agree on with the server, and that everything still arrives.
//
// Parameters of permessage-deflate are those of RFC 7692, offered by `ws` in every combination it has; what the servers answer to
// the compression of polling is compared header by header.

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, describe } from "node:test";
import zlib from "node:zlib";
import { WebSocket } from "ws";
import { launchChromium } from "./chromium.mjs";
import { check, checkBetterThanNode, eachSubject, engineUpgrade, PLAIN, SOON_MS, within } from "./harness.mjs";
import { PollingSession } from "./wire.mjs";

const MOUNT = "/socket.io/";
/** Long enough to be compressed, and small when it is. */
const long = JSON.stringify(Array.from({ length: 2_000 }, (_, id) => ({ id, name: `user-${id % 97}` })));

eachSubject("compressed messages", (server) => {
  const url = (mount = MOUNT) => `ws://127.0.0.1:${server.port}${mount}?EIO=4&transport=websocket`;

  /** A `ws` client that counts bytes and compressed frames, its open packet and namespace behind it. */
  async function open(perMessageDeflate, mount = PLAIN) {
    const socket = new WebSocket(url(mount), { perMessageDeflate });
    server.onCleanup(() => socket.terminate());
    const messages = [];
    let wanted = () => {};
    socket.on("message", (data, isBinary) => {
      messages.push(isBinary ? data : data.toString());
      wanted();
    });
    const next = () => within(new Promise((resolve) => {
      wanted = () => messages.length > 0 && resolve(messages.shift());
      wanted();
    }), SOON_MS, "a message");
    await within(new Promise((resolve, reject) => {
      socket.once("open", resolve);
      socket.once("error", reject);
    }), SOON_MS, "the WebSocket");
    assert.match(await next(), /^0\{/);
    socket.send("40");
    assert.match(await next(), /^40\{/);
    return { socket, next, read: () => socket._socket.bytesRead };
  }

  const offers = [true];
  for (const serverNoContextTakeover of [undefined, true]) {
    for (const clientNoContextTakeover of [undefined, true]) {
      for (const serverMaxWindowBits of [undefined, 9, 10, 15]) {
        for (const clientMaxWindowBits of [undefined, 9, 12]) {
          offers.push({ serverNoContextTakeover, clientNoContextTakeover, serverMaxWindowBits, clientMaxWindowBits });
        }
      }
    }
  }
  for (const offer of offers) {
    const named = JSON.stringify(offer);
    check(`ws is served with ${named}`, async () => {
      const { socket, next, read } = await open(typeof offer === "object" ? { ...offer, threshold: 0 } : offer);
      assert.match(socket.extensions, /^permessage-deflate/);
      const agreed = socket._extensions["permessage-deflate"].params;
      if (offer.serverMaxWindowBits) assert.ok(agreed.server_max_window_bits <= offer.serverMaxWindowBits);
      for (let round = 0; round < 3; round++) {
        const before = read();
        socket.send(`421["echo",${long}]`);
        assert.equal(await next(), `431[${long}]`);
        assert.ok(read() - before < long.length / 3, `${read() - before} bytes of ${long.length}`);
        // Short messages leave as they are, and in order.
        socket.send('422["echo","short"]');
        assert.equal(await next(), '432["short"]');
        // Binary follows its packet.
        socket.send('4513-["echo",{"_placeholder":true,"num":0}]'.replace("4513-", "451-3"));
        socket.send(Buffer.alloc(5_000, round));
        assert.equal(await next(), '461-3[{"_placeholder":true,"num":0}]');
        assert.deepEqual(await next(), Buffer.alloc(5_000, round));
      }
    });
  }

  check("a client that offers nothing is sent nothing compressed", async () => {
    const { socket, next, read } = await open(false);
    assert.equal(socket.extensions, "");
    const before = read();
    socket.send(`421["echo",${long}]`);
    assert.equal(await next(), `431[${long}]`);
    assert.ok(read() - before > long.length);
  });

  check("a mount without compression agrees on nothing", async () => {
    const { socket, next } = await open(true, "/fast/");
    assert.equal(socket.extensions, "");
    socket.send(`421["echo",${long}]`);
    assert.equal(await next(), `431[${long}]`);
  });

  check("fragments of compressed messages are joined", async () => {
    const { socket, next } = await open({ threshold: 0 });
    const text = `421["echo",${long}]`;
    for (let at = 0; at < text.length; at += 10_000) {
      const fin = at + 10_000 >= text.length;
      socket.send(text.slice(at, at + 10_000), { fin, compress: true, binary: false });
      if (!fin) socket.ping("between");
    }
    assert.equal(await next(), `431[${long}]`);
  });

  for (const [what, offer] of [
    ["a window too small", "permessage-deflate; server_max_window_bits=7"],
    ["a parameter twice", "permessage-deflate; client_no_context_takeover; client_no_context_takeover"],
    ["an unknown parameter", "permessage-deflate; unknown"],
    ["a broken list", "permessage-deflate; ;"],
  ]) {
    checkBetterThanNode(server, `an offer with ${what} is declined, and the connection is not`, "refuses the connection", async () => {
      const headers = { "Sec-WebSocket-Extensions": offer };
      const socket = new WebSocket(url(), { perMessageDeflate: false, headers });
      server.onCleanup(() => socket.terminate());
      const [first] = await within(new Promise((resolve, reject) => {
        socket.once("message", (...all) => resolve(all));
        socket.once("error", reject);
      }), SOON_MS, "the open packet");
      assert.match(first.toString(), /^0\{/);
      assert.equal(socket.extensions, "");
    });
  }

  check("a bomb is refused with 1009, garbage with 1007", async () => {
    const bomb = zlib.deflateRawSync(Buffer.alloc(100_000_000), { finishFlush: zlib.constants.Z_SYNC_FLUSH }).subarray(0, -4);
    for (const [body, code] of [[bomb, 1009], [Buffer.from([7, 7, 7]), 1007]]) {
      const { socket } = await open(true);
      const closed = within(new Promise((resolve) => socket.once("close", resolve)), SOON_MS, "the end");
      // A frame of our own making, masked with zeros.
      const header = Buffer.alloc(14);
      header[0] = 0x80 | 0x40 | 0x02;
      header[1] = 0x80 | 127;
      let length = header.length;
      if (body.length < 126) {
        header[1] = 0x80 | body.length;
        length = 6;
      } else {
        header.writeBigUInt64BE(BigInt(body.length), 2);
      }
      socket._socket.write(Buffer.concat([header.subarray(0, length), body]));
      assert.equal(await closed, code);
    }
  });

  for (const mode of ["websocket", "upgrade"]) {
    for (const perMessageDeflate of [true, { threshold: 0 }]) {
      check(`socket.io-client over ${mode} with perMessageDeflate ${JSON.stringify(perMessageDeflate)}`, async () => {
        const socket = await server.connect({ mode, path: PLAIN, perMessageDeflate });
        if (mode === "upgrade") await engineUpgrade(socket);
        assert.match(socket.io.engine.transport.ws.extensions, /permessage-deflate/);
        for (const value of [long, "short", { deep: [Buffer.alloc(3_000, 1), long] }]) {
          assert.deepEqual(await socket.timeout(SOON_MS).emitWithAck("echo", value), value);
        }
      });
    }
  }

  describe("Chromium", () => {
    let browser;
    before(async () => { browser = await launchChromium(); }, { timeout: 180_000 });
    after(() => browser?.close());

    check("Chromium agrees by itself, and is sent compressed frames", async () => {
      const page = await browser.newPage();
      const devtools = await page.context().newCDPSession(page);
      await devtools.send("Network.enable");
      const answered = within(new Promise((resolve) => {
        devtools.on("Network.webSocketHandshakeResponseReceived", ({ response }) => resolve(response));
      }), SOON_MS, "the handshake");
      await page.goto(`${server.url}/health`);
      const echoed = await page.evaluate(async ([target, long]) => {
        const socket = new WebSocket(target);
        const heard = [];
        const next = () => new Promise((resolve) => { socket.onmessage = ({ data }) => resolve(data); });
        heard.push(await next());
        socket.send("40");
        heard.push(await next());
        socket.send(`421["echo",${long}]`);
        heard.push(await next());
        return { extensions: socket.extensions, echo: heard[2] };
      }, [url(PLAIN), long]);
      const { headers } = await answered;
      const extensions = Object.entries(headers).find(([name]) => name.toLowerCase() === "sec-websocket-extensions")?.[1];
      assert.match(extensions, /^permessage-deflate/);
      assert.equal(echoed.extensions, extensions);
      assert.equal(echoed.echo, `431[${long}]`);
      await page.close();
    });
  });
});

eachSubject("compressed answers", (server) => {
  /** The answer to a poll that brings `text`, its body as bytes. */
  async function poll(text, headers) {
    const session = await PollingSession.open(server);
    await session.post("40");
    await session.get();
    await session.post(text);
    const outgoing = http.get({ host: "127.0.0.1", port: server.port, path: session.target, headers, agent: false });
    return within(new Promise((resolve, reject) => {
      outgoing.on("error", reject);
      outgoing.on("response", (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, body: Buffer.concat(chunks) }));
      });
    }), SOON_MS, "the poll");
  }

  const inflated = { gzip: zlib.gunzipSync, deflate: zlib.inflateSync, br: zlib.brotliDecompressSync, undefined: (body) => body };

  for (const [asked, expected] of [
    [undefined, undefined],
    ["gzip", "gzip"],
    ["deflate", "deflate"],
    ["gzip, deflate", "gzip"],
    ["deflate, gzip", "deflate"],
    ["gzip, deflate, br, zstd", "gzip"],
    ["gzip;q=0, deflate", "deflate"],
    ["gzip;q=0.1, deflate;q=0.5", "deflate"],
    ["GZIP", "gzip"],
    ["*", "gzip"],
    ["identity", undefined],
    ["gzip;q=0, *;q=0", undefined],
    ["zstd", undefined],
  ]) {
    check(`a long answer to Accept-Encoding ${asked ?? "of nothing"} comes in ${expected ?? "no coding"}`, async () => {
      const answer = await poll(`421["echo",${long}]`, asked ? { "accept-encoding": asked } : {});
      assert.equal(answer.status, 200);
      assert.equal(answer.headers["content-encoding"], expected);
      assert.equal(answer.headers["content-type"], "text/plain; charset=UTF-8");
      assert.equal(answer.headers["cache-control"], "no-store");
      assert.equal(inflated[expected](answer.body).toString(), `431[${long}]`);
      assert.equal(answer.body.length < long.length / 3, expected !== undefined);
    });
  }

  check("a short answer comes as it is", async () => {
    const answer = await poll('421["echo","short"]', { "accept-encoding": "gzip" });
    assert.equal(answer.headers["content-encoding"], undefined);
    assert.equal(answer.body.toString(), '431["short"]');
  });

  checkBetterThanNode(server, "Brotli comes to whom likes it best", "has no Brotli for packets", async () => {
    const answer = await poll(`421["echo",${long}]`, { "accept-encoding": "gzip;q=0.5, br" });
    assert.equal(answer.headers["content-encoding"], "br");
    assert.equal(zlib.brotliDecompressSync(answer.body).toString(), `431[${long}]`);
  });

  checkBetterThanNode(server, "the answer says that it varies", "does not say so", async () => {
    const answer = await poll(`421["echo",${long}]`, { "accept-encoding": "gzip" });
    assert.match(answer.headers.vary ?? "", /Accept-Encoding/);
  });

  check("socket.io-client hears long events by polling", async () => {
    const socket = await server.connect({ mode: "polling", path: PLAIN });
    assert.deepEqual(await socket.timeout(SOON_MS).emitWithAck("echo", long), long);
  });
});
