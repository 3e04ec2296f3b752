// WebSocket by hand: the opening, the upgrade of a polling session and what may go wrong on the way, and frames that
// break RFC 6455.

import assert from "node:assert/strict";
import { check, eachSubject, sleep } from "./harness.mjs";
import { exchange, PollingSession, RawSocket, SEPARATOR, upgradeRequest } from "./wire.mjs";

const websocket = "/socket.io/?EIO=4&transport=websocket";

eachSubject("raw upgrade", (server) => {
  /** A polling session in the main namespace. */
  async function joined(mount) {
    const session = await PollingSession.open(server, mount);
    await session.connect();
    return session;
  }

  /** A WebSocket for `session` that has asked for the probe and got its answer. */
  async function probe(session) {
    const raw = new RawSocket(server, session.upgradeTarget);
    await raw.opened;
    raw.send("2probe");
    assert.equal(await raw.next(), "3probe");
    return raw;
  }

  // -------------------------------------------------------------------------------------------------------------------
  // The upgrade as it should go

  check("the probe is answered, the waiting poll let go, and the session moves over", async () => {
    const session = await joined();
    const poll = session.get();
    const raw = await probe(session);
    assert.equal((await poll).body, "6");
    raw.send("5");
    await raw.roundTrip();
    const refused = await session.get();
    assert.deepEqual([refused.status, refused.body], [400, '{"code":3,"message":"Bad request"}']);
    await raw.roundTrip();
  });

  check("a poll that comes while probing is let go as well", async () => {
    const session = await joined();
    const raw = await probe(session);
    assert.equal((await session.get()).body, "6");
    raw.send("5");
    await raw.roundTrip();
  });

  check("a poll that still waits when the upgrade is done gets a close packet", async () => {
    const session = await joined();
    const raw = await probe(session);
    // The noop that the probe caused goes to this one; the next poll has to be waiting when the upgrade packet arrives.
    assert.equal((await session.get()).body, "6");
    const poll = await session.park();
    raw.send("5");
    const { status, body } = await poll.answer;
    assert.equal(status, 200);
    assert.ok(["1", "6"].includes(body), body);
    await raw.roundTrip();
  });

  check("what could not be polled before the upgrade comes over WebSocket, in order and before what is new", async () => {
    const session = await joined();
    const raw = await probe(session);
    await session.post(['42["echo",1]', '42["echo",2]'].join(SEPARATOR));
    raw.send("5");
    raw.send('42["echo",3]');
    assert.deepEqual([await raw.next(), await raw.next(), await raw.next()], ['42["echo",1]', '42["echo",2]', '42["echo",3]']);
  });

  check("events keep flowing over polling while the probe is under way", async () => {
    const session = await joined();
    const raw = await probe(session);
    await session.roundTrip("polling");
    raw.send("5");
    await raw.roundTrip("websocket");
  });

  // -------------------------------------------------------------------------------------------------------------------
  // The upgrade as it should not go

  for (const [what, packet] of [
    ["a ping that is no probe", "2"],
    ["a probe with another word", "2other"],
    ["a pong", "3probe"],
    ["a message", '42["noop"]'],
    ["a close packet", "1"],
    ["a noop", "6"],
    ["nonsense", "x"],
    ["an empty message", ""],
    ["bytes", Buffer.from([1, 2, 3])],
  ]) {
    check(`${what} instead of the probe ends the WebSocket and leaves polling usable`, async () => {
      const session = await joined();
      const raw = new RawSocket(server, session.upgradeTarget);
      await raw.opened;
      raw.send(packet);
      await raw.end();
      assert.deepEqual(raw.unread, []);
      await session.roundTrip();
      // And the session may still be upgraded.
      const again = await probe(session);
      again.send("5");
      await again.roundTrip();
    });
  }

  check("a message after the probe ends the WebSocket and leaves polling usable", async () => {
    const session = await joined();
    const raw = await probe(session);
    raw.send('4277["echo","not yet"]');
    await raw.end();
    await session.roundTrip();
  });

  check("an upgrade without a probe is an upgrade", async () => {
    const session = await joined();
    const raw = new RawSocket(server, session.upgradeTarget);
    await raw.opened;
    raw.send("5");
    await raw.roundTrip();
  });

  check("a WebSocket that goes away while probing leaves polling usable", async () => {
    for (const leave of [(raw) => raw.terminate(), (raw) => raw.socket.close()]) {
      const session = await joined();
      const raw = await probe(session);
      leave(raw);
      await raw.end();
      await session.roundTrip();
      const again = await probe(session);
      again.send("5");
      await again.roundTrip();
    }
  });

  check("a probe that is never completed is given up after the upgrade time-out", async () => {
    const session = await joined("/steady/");
    // Answers pings on the polling side meanwhile: the session lives there.
    let polling = true;
    const keptAlive = (async () => {
      while (polling) {
        const packets = await session.poll();
        if (packets.includes("2")) await session.post("3");
      }
    })();
    const begin = performance.now();
    const raw = await probe(session);
    await raw.end();
    const ms = performance.now() - begin;
    assert.ok(ms >= 1_950, `${ms} ms`);
    await sleep(400);
    polling = false;
    await keptAlive;
    await session.roundTrip();
  });

  check("a second WebSocket for a session being upgraded is turned away, the first goes on", async () => {
    const session = await joined();
    const first = await probe(session);
    const second = new RawSocket(server, session.upgradeTarget);
    await second.opened.catch(() => {});
    await second.end();
    assert.deepEqual(second.unread, []);
    first.send("5");
    await first.roundTrip();
  });

  check("a second WebSocket cannot take over an upgraded session", async () => {
    const session = await joined();
    const first = await probe(session);
    first.send("5");
    await first.roundTrip();
    const second = new RawSocket(server, session.upgradeTarget);
    await second.opened.catch(() => {});
    await second.end();
    assert.deepEqual(second.unread, []);
    await first.roundTrip();
  });

  check("the end of an upgraded WebSocket is the end of the session", async () => {
    const session = await joined();
    const raw = await probe(session);
    raw.send("5");
    await raw.roundTrip();
    raw.terminate();
    await session.gone();
  });

  check("a session that ends while probing takes the WebSocket with it", async () => {
    const session = await joined();
    const raw = await probe(session);
    await session.post("1");
    await raw.end();
  });

  // -------------------------------------------------------------------------------------------------------------------
  // The opening

  check("the opening is accepted with the key's answer and without a body", async () => {
    const raw = new RawSocket(server, websocket);
    const response = await new Promise((resolve) => raw.socket.once("upgrade", resolve));
    assert.equal(response.statusCode, 101);
    assert.equal(response.headers.upgrade.toLowerCase(), "websocket");
    assert.equal(response.headers.connection.toLowerCase(), "upgrade");
    assert.equal(response.headers["sec-websocket-protocol"], undefined);
    assert.match(await raw.next(), /^0\{/);
  });

  for (const [what, target, message] of [
    ["an unknown transport", "/socket.io/?EIO=4&transport=pigeon", "Transport unknown"],
    ["no transport", "/socket.io/?EIO=4", "Transport unknown"],
    ["an unknown session", `${websocket}&sid=unknown`, "Session ID unknown"],
  ]) {
    check(`an opening with ${what} is answered with 400 and the bare message`, async () => {
      const answer = await exchange(server, upgradeRequest(target));
      const [head, body] = answer.split("\r\n\r\n");
      assert.match(head, /^HTTP\/1\.1 400 Bad Request\r\n/);
      assert.match(head, /^connection: close$/im);
      assert.match(head, /^content-type: text\/html$/im);
      assert.match(head, new RegExp(`^content-length: ${message.length}$`, "im"));
      assert.equal(body, message);
    });
  }

  check("an opening with another protocol version than the session's is refused and the session lives", async () => {
    const session = await joined("/steady/");
    const answer = await exchange(server, upgradeRequest(session.upgradeTarget.replace("EIO=4", "EIO=3")));
    assert.match(answer, /^HTTP\/1\.1 400 /);
    assert.match(answer, /\r\n\r\nBad request$/);
    await session.roundTrip();
  });

  check("an opening with an unsupported protocol version gets no session", async () => {
    const answer = await exchange(server, upgradeRequest("/fast/?EIO=3&transport=websocket"));
    // The npm server says 101 first and then writes this HTTP answer into the WebSocket. Saying it at once is better.
    assert.match(answer, /HTTP\/1\.1 400 Bad Request\r\n/);
    assert.match(answer, /\r\n\r\nUnsupported protocol version$/);
    assert.ok(!answer.includes('"sid"'));
  });

  check("an opening for polling gets no session", async () => {
    const raw = new RawSocket(server, "/socket.io/?EIO=4&transport=polling");
    // The npm server opens the WebSocket and closes it at once; refusing the opening is as good.
    await raw.opened.catch(() => {});
    await raw.end();
    assert.deepEqual(raw.unread, []);
  });

  check("an opening at a path beside the mounts comes to nothing", async () => {
    // Answered as any request for that path, or not at all: the npm server lets it wait for a second and hangs up.
    const answer = await exchange(server, upgradeRequest("/nothing/?EIO=4&transport=websocket"), (text) => text.includes("\r\n\r\n"));
    assert.match(answer, /^$|^HTTP\/1\.1 404 /);
  });

  for (const [what, headers] of [
    ["without a key", { "sec-websocket-key": null }],
    ["with a short key", { "sec-websocket-key": "c2hvcnQ=" }],
    ["with a key that is no base64", { "sec-websocket-key": "!!!!!!!!!!!!!!!!!!!!!!!!" }],
    ["without a version", { "sec-websocket-version": null }],
    ["with version 12", { "sec-websocket-version": "12" }],
    ["with another protocol in Upgrade", { upgrade: "h2c" }],
  ]) {
    check(`an opening ${what} is refused`, async () => {
      const answer = await exchange(server, upgradeRequest(websocket, { ...headers, ...(headers.upgrade ? { connection: "Upgrade, close" } : {}) }));
      assert.match(answer, /^HTTP\/1\.1 4\d\d /);
    });
  }

  check("the opening's names and values are compared without regard to case", async () => {
    const opening = upgradeRequest(websocket, { connection: "keep-alive, UPGRADE", upgrade: "WebSocket" });
    const answer = await exchange(server, concat(opening.replace("sec-websocket-key", "SEC-WEBSOCKET-KEY"), frame(0x88, [])));
    assert.match(answer, /^HTTP\/1\.1 101 /);
    assert.match(answer, /sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=\r\n/i);
  });

  // -------------------------------------------------------------------------------------------------------------------
  // Frames

  for (const [what, frames, code] of [
    ["an unmasked frame", [[0x81, 0x02, 0x34, 0x30]], 1002],
    ["a reserved bit", [frame(0xc1, "40")], 1002],
    ["a reserved opcode", [frame(0x83, "40")], 1002],
    ["a reserved control opcode", [frame(0x8b, "")], 1002],
    ["a continuation of nothing", [frame(0x80, "40")], 1002],
    ["a new message inside a fragmented one", [frame(0x01, "4"), frame(0x81, "0")], 1002],
    ["a fragmented control frame", [frame(0x09, "")], 1002],
    ["a control frame that is too long", [frame(0x89, "x".repeat(126))], 1002],
    ["a close frame of one byte", [frame(0x88, [0x03])], 1002],
    ["a close code that must not be sent", [frame(0x88, [0x03, 0xed])], 1002],
    ["text that is no UTF-8", [frame(0x81, [0x34, 0xff])], 1007],
    ["a close reason that is no UTF-8", [frame(0x88, [0x03, 0xe8, 0xc3, 0x28])], 1007],
    ["text whose fragments end inside a character", [frame(0x01, [0x34, 0xe2]), frame(0x80, [0x82])], 1007],
    ["a length beyond the limit", [[0x81, 0xff, 0, 0, 0, 0, 0, 0x0f, 0x42, 0x41, 0, 0, 0, 0]], 1009],
    ["a length of the highest kind", [[0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]], 1009],
  ]) {
    check(`${what} closes with ${code}`, async () => {
      const bystander = await RawSocket.connected(server);
      const answer = await exchange(server, concat(upgradeRequest(websocket), ...frames));
      assert.equal(closeCode(answer), code);
      await bystander.roundTrip();
    });
  }

  check("a close frame is answered with its code", async () => {
    const answer = await exchange(server, concat(upgradeRequest(websocket), frame(0x88, [0x03, 0xe8])));
    assert.equal(closeCode(answer), 1000);
  });

  check("a WebSocket ping is answered with a pong that carries its bytes", async () => {
    const raw = await RawSocket.connected(server);
    const pong = new Promise((resolve) => raw.socket.once("pong", resolve));
    raw.socket.ping("are you there");
    assert.equal((await pong).toString(), "are you there");
    await raw.roundTrip();
  });

  check("a control frame between two fragments does not disturb the message", async () => {
    const raw = await RawSocket.connected(server);
    const pong = new Promise((resolve) => raw.socket.once("pong", resolve));
    raw.socket.send('42["ec', { fin: false });
    raw.socket.ping();
    raw.socket.send('ho",1]', { fin: true });
    await pong;
    assert.equal(await raw.next(), '42["echo",1]');
  });

  check("a message in many fragments, empty ones among them, is one message", async () => {
    const raw = await RawSocket.connected(server);
    const parts = ["", "4", "2[", "", '"echo"', ',"€', '"]', ""];
    parts.forEach((part, i) => raw.socket.send(part, { fin: i === parts.length - 1 }));
    assert.equal(await raw.next(), '42["echo","€"]');
  });

  check("frames that come in one write are all handled, in order", async () => {
    const raw = await RawSocket.connected(server);
    const packets = Array.from({ length: 50 }, (_, i) => `42${i}["echo",${i}]`);
    raw.socket._socket.write(concat(...packets.map((packet) => frame(0x81, packet))));
    for (let i = 0; i < 50; i++) assert.equal(await raw.next(), `43${i}[${i}]`);
  });

  check("a frame that arrives byte by byte is a frame", async () => {
    const raw = await RawSocket.connected(server);
    for (const byte of frame(0x81, '42["echo","slow"]')) {
      raw.socket._socket.write(Buffer.from([byte]));
      await sleep(1);
    }
    assert.equal(await raw.next(), '42["echo","slow"]');
  });
});

/** A masked client frame; `first` is FIN, reserved bits and opcode. */
function frame(first, payload) {
  const data = Buffer.from(payload);
  const mask = Buffer.from([0x12, 0x34, 0x56, 0x78]);
  const length = data.length < 126 ? [0x80 | data.length] : [0x80 | 126, data.length >> 8, data.length & 0xff];
  return Buffer.concat([Buffer.from([first, ...length]), mask, data.map((byte, i) => byte ^ mask[i % 4])]);
}

function concat(...parts) {
  return Buffer.concat(parts.map((part) => Buffer.from(part)));
}

/** The code in the close frame at the end of what a server sent, or undefined. */
function closeCode(answer) {
  const at = answer.lastIndexOf("\x88");
  if (at < 0 || answer.charCodeAt(at + 1) < 2) return undefined;
  return answer.charCodeAt(at + 2) * 256 + answer.charCodeAt(at + 3);
}
