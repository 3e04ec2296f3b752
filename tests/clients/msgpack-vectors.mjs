// Packets as the official parsers write them, for the tests of ours: each line has a packet in JSON with its attachments, and the
// same packet in MessagePack.
//
//   node msgpack-vectors.mjs > ../../crates/socket-proto/tests/msgpack-vectors.txt
//
// Columns, behind tabs: `both` if ours must write the same bytes, `read` if only read them (a client's `Date` is not written again);
// MessagePack, the text, and the attachments; bytes are in hexadecimal, attachments separated by commas.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const { Encoder } = require("socket.io-parser");
const msgpack = require("socket.io-msgpack-parser");

const [CONNECT, DISCONNECT, EVENT, ACK, CONNECT_ERROR] = [0, 1, 2, 3, 4];

/** Powers of two, and what is around them: where the forms of whole numbers meet. */
const whole = [5, 6, 7, 8, 15, 16, 31, 32, 53].flatMap((bits) => [2 ** bits - 1, 2 ** bits, 2 ** bits + 1])
  .filter(Number.isSafeInteger)
  .flatMap((number) => [number, -number]);

const event = (...data) => ({ type: EVENT, data: ["e", ...data], nsp: "/" });
const text = (length) => "x".repeat(length);

/** Packets that ours writes as well. */
const both = [
  { type: CONNECT, nsp: "/" },
  { type: CONNECT, nsp: "/admin" },
  { type: CONNECT, data: { sid: "x1", pid: "p1" }, nsp: "/" },
  { type: DISCONNECT, nsp: "/chat" },
  { type: CONNECT_ERROR, data: { message: "no", data: { code: 7 } }, nsp: "/auth" },
  { type: EVENT, data: ["hi"], nsp: "/" },
  { type: EVENT, data: [7, "a number is a name"], nsp: "/" },
  { type: EVENT, data: ["hi", 1], nsp: "/chat", id: 0 },
  { type: EVENT, data: ["hi"], nsp: "/", id: 4294967296 },
  { type: ACK, data: [], nsp: "/", id: 3 },
  { type: ACK, data: [Buffer.from("ok")], nsp: "/chat", id: 300 },
  event(null, true, false, 0, 1, -1, "", [], {}),
  event(...whole),
  event(0.5, -0.5, 1.1, 5e-324, 1.7976931348623157e-308, 123456.789, 1e-7),
  event("é", "日本", "👩‍👩‍👧‍👦", "\x00\x1f\x7f\u2028\"\\/"),
  ...[31, 32, 33, 255, 256].map((length) => event(text(length))),
  event("ü".repeat(20), "ü".repeat(200)),
  event({ a: [1, { b: [null, { c: "d" }] }] }, [], {}, [[[]]]),
  ...[15, 16, 17].map((length) => event(Array.from({ length }, (_, i) => i % 100))),
  ...[15, 16, 17].map((length) => event(Object.fromEntries(Array.from({ length }, (_, i) => [`k${i}`, 1])))),
  event(Buffer.alloc(0), Buffer.from([1, 2, 3])),
  ...[31, 32, 255, 256].map((length) => event(Buffer.alloc(length, 7))),
  event({ deep: [{ data: Buffer.from([9]) }, Buffer.from([8])], after: 1 }, "x"),
  event({ _placeholder: true, num: 0 }),
  event(nested(500)),
];

/** Packets that only clients write. */
const read = [
  { type: CONNECT, data: undefined, nsp: "/" },
  { type: CONNECT, data: { token: "abc", list: [1, undefined], none: undefined }, nsp: "/" },
  { type: EVENT, data: ["e", 1], options: { compress: true }, id: 5, nsp: "/" },
  { type: EVENT, data: ["e"], options: { compress: true, deep: [{ a: [Buffer.from("skipped"), new Date(5)] }] }, nsp: "/" },
  { extra: [1, { two: 3 }], nsp: "/", type: EVENT, more: "x", data: ["e"] },
  event(undefined, [undefined, 1], { a: undefined, b: 1, c: undefined }, { only: undefined }),
  event(NaN, Infinity, -Infinity, -0),
  event(new Date(0), new Date(1732233600123), new Date(-1), new Date(8.64e15), { at: new Date(-62167219200001) }),
  event(new ArrayBuffer(3), new Uint8Array([1, 2]), new Uint8Array(300), { in: [new ArrayBuffer(0)] }),
  event({ toJSON: () => "made" }),
];

function nested(depth) {
  let value = "inside";
  for (let i = 0; i < depth; i++) value = i % 2 ? [value] : { a: value };
  return value;
}

function line(kind, packet) {
  const packed = new msgpack.Encoder().encode(packet)[0];
  const [json, ...attachments] = new Encoder().encode({ ...packet, options: undefined });
  const hex = (data) => Buffer.from(data.buffer ?? data, data.byteOffset ?? 0, data.byteLength).toString("hex");
  return [kind, hex(packed), json, attachments.map(hex).join(",")].join("\t");
}

/** The lines. */
export const vectors = () =>
  [...both.map((packet) => line("both", packet)), ...read.map((packet) => line("read", packet))].join("\n") + "\n";

if (import.meta.url === pathToFileURL(process.argv[1]).href) process.stdout.write(vectors());
