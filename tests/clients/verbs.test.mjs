// Rooms that clients join themselves, under the rules of a configuration: `posthaste serve --config` as POSTHASTE_BIN names it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { ask, check, collect, must, next, programOf, StandaloneServer, temporaryFolder, until } from "./harness.mjs";

const program = programOf("POSTHASTE_BIN");
const python = programOf("PYTHON_BIN");
const folder = temporaryFolder();
const config = path.join(folder, "posthaste.toml");

const RULES = `
[[room]]
match = "chat:staff"

[[room]]
match = "chat:{id}"
join = "anyone"
emit = "anyone"
history = "anyone"
durable = true
presence = true
volatile = ["typing"]

[[room]]
match = "lobby:*"
join = "anyone"
emit = "anyone"

[[room]]
match = "news"
join = "anyone"

[[room]]
match = "box"
emit = "anyone"

[[room]]
match = "short"
join = "anyone"
emit = "anyone"
history = "anyone"
durable = { max_messages = 3 }
`;

if (program && (process.env.SUBJECTS?.includes("ours") ?? true)) {
  describe("verbs of rooms [ours]", () => {
    const server = new StandaloneServer({ command: [program] }, { command: "serve", options: ["--config", config] });
    let rooms = 0;

    const room = () => `chat:${(rooms += 1)}`;
    const connect = (options) => server.connect("", options);
    const textsOf = (events) => events.map(({ args }) => args[0]);

    before(async () => {
      writeFileSync(config, RULES);
      await server.start();
    });
    afterEach(() => server.disconnectAll());
    after(async () => {
      await server.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    check("without a rule a client may do nothing, and the first rule that matches counts", async () => {
      const socket = await connect();
      const refused = [
        ["forbidden", "room:join", "elsewhere"],
        ["forbidden", "room:emit", "elsewhere", "chat", 1],
        ["forbidden", "room:history", "elsewhere"],
        ["forbidden", "room:presence", "elsewhere"],
        ["forbidden", "room:join", "chat:staff"],
        ["forbidden", "room:emit", "chat:staff", "chat", 1],
        ["not_durable", "room:history", "chat:staff"],
        ["forbidden", "room:emit", "news", "chat", 1],
        ["forbidden", "room:join", "box"],
        ["not_durable", "room:history", "lobby:1"],
        ["not_durable", "room:join", "lobby:1", { history: 1 }],
        ["forbidden", "room:presence", "lobby:1"],
        ["not_member", "room:presence", "chat:1"],
        ["forbidden", "room:join", socket.id],
        ["invalid", "room:join"],
        ["invalid", "room:join", ""],
        ["invalid", "room:join", "chat:1", { histroy: 1 }],
        ["invalid", "room:join", "chat:1", { history: 1_001 }],
        ["invalid", "room:join", "chat:1", { after: "yesterday" }],
        ["invalid", "room:join", `chat:${"x".repeat(300)}`],
        ["invalid", "room:join", 7],
        ["invalid", "room:emit", "chat:1"],
        ["invalid", "room:emit", "chat:1", ""],
        ["forbidden", "room:emit", "chat:1", "disconnect"],
        ["forbidden", "room:emit", "chat:1", "room:joined", "chat:1", { id: "me" }],
        ["forbidden", "room:emit", "chat:1", "sio:gap"],
        ["invalid", "room:history", "chat:1", { limit: 0 }],
        ["invalid", "room:history", "chat:1", { limit: -1 }],
        ["invalid", "room:history", "chat:1", { after: `~${"a".repeat(22)}`, before: `~${"a".repeat(22)}` }],
      ];
      for (const [code, ...call] of refused) {
        const answer = await ask(socket, ...call);
        assert.deepEqual({ ok: answer.ok, code: answer.code }, { ok: false, code }, JSON.stringify(call));
        assert.equal(typeof answer.message, "string");
        assert.deepEqual(Object.keys(answer).sort(), ["code", "message", "ok"]);
      }
      assert.deepEqual(await ask(socket, "room:leave", "chat:1"), { ok: true }, "nobody has to be in a room to leave it");
    });

    check("an event goes to everybody in the room, the sender too, and nobody else", async () => {
      const [ada, grace, eve] = await Promise.all([connect(), connect(), connect()]);
      const heard = [ada, grace, eve].map((socket) => collect(socket, "chat"));
      await must(ada, "room:join", "lobby:x");
      await must(grace, "room:join", "lobby:x");
      assert.deepEqual(await must(ada, "room:emit", "lobby:x", "chat", "a", 1), { ok: true, class: "memory" });
      // Who may emit need not be in the room.
      await must(eve, "room:emit", "lobby:x", "chat", "b", Buffer.from([1, 2]));
      await must(grace, "room:leave", "lobby:x");
      await must(ada, "room:emit", "lobby:x", "chat", "c");
      await until(() => heard[0].length === 3, "the last event");
      const args = heard.map((events) => events.map((event) => event.slice(0, -1)));
      assert.deepEqual(args, [[["a", 1], ["b", Buffer.from([1, 2])], ["c"]], [["a", 1], ["b", Buffer.from([1, 2])]], []]);
      assert.deepEqual(await must(eve, "room:emit", "box", "chat", 1), { ok: true, class: "memory" });
    });

    check("members are told who is there, comes and goes, where the rule says so", async () => {
      const name = room();
      const ada = await connect({ auth: { info: { name: "Ada" } } });
      const [comings, goings] = [collect(ada, "room:joined"), collect(ada, "room:left")];
      const me = { id: ada.id, info: { name: "Ada" } };
      assert.deepEqual((await must(ada, "room:join", name)).members, [me]);
      const grace = await connect();
      const other = { id: grace.id };
      const both = [me, other].sort((a, b) => (a.id < b.id ? -1 : 1));
      const byId = ({ members }) => members.sort((a, b) => (a.id < b.id ? -1 : 1));
      assert.deepEqual(byId(await must(grace, "room:join", name)), both);
      assert.deepEqual(byId(await must(ada, "room:presence", name)), both);
      await until(() => comings.length === 1, "the coming");
      assert.deepEqual(comings[0].slice(0, 2), [name, other]);
      grace.disconnect();
      await until(() => goings.length === 1, "the going");
      assert.deepEqual(goings[0].slice(0, 2), [name, other]);
      assert.equal("members" in (await must(ada, "room:join", "lobby:1")), false);
      assert.deepEqual(textsOf((await must(ada, "room:history", name)).events), [], "who comes and goes is no history");
      const tooMuch = await connect({ auth: { info: "x".repeat(2_000) } });
      assert.equal((await ask(tooMuch, "room:join", name)).code, "invalid");
    });

    check("a durable room answers with the offset and keeps what was sent; pages go both ways", async () => {
      const name = room();
      const ada = await connect();
      const heard = collect(ada, "chat");
      const joined = await must(ada, "room:join", name);
      assert.match(joined.offset, /^~[\w-]{22}$/);
      const receipts = [];
      for (let i = 1; i <= 5; i++) receipts.push(await must(ada, "room:emit", name, "chat", i, { data: Buffer.from([i]) }));
      for (const { offset, class: promised } of receipts) {
        assert.match(offset, /^~[\w-]{22}$/);
        assert.equal(promised, "disk");
      }
      await must(ada, "room:emit", name, "typing", true);
      await until(() => heard.length === 5, "the events");
      heard.forEach(([, , offset], i) => assert.ok(offset.startsWith(receipts[i].offset), "what is heard live begins with its place"));

      const all = await must(ada, "room:history", name);
      assert.deepEqual(textsOf(all.events), [1, 2, 3, 4, 5]);
      assert.deepEqual(all.events.map(({ n, offset, event }) => [n, offset, event]), receipts.map(({ offset }, i) => [i + 1, offset, "chat"]));
      assert.deepEqual(all.events[1].args[1], { data: Buffer.from([2]) });
      assert.ok(all.events.every(({ at }) => Math.abs(at - Date.now()) < 600_000));
      assert.deepEqual({ complete: all.complete, gap: all.gap, next: all.next }, { complete: true, gap: false, next: receipts[4].offset });

      const page = async (options) => {
        const { events, complete, next } = await must(ada, "room:history", name, options);
        return { texts: textsOf(events), complete, next };
      };
      assert.deepEqual(await page({ after: receipts[0].offset, limit: 2 }), { texts: [2, 3], complete: false, next: receipts[2].offset });
      assert.deepEqual((await page({ after: receipts[2].offset })).texts, [4, 5]);
      assert.deepEqual((await page({ after: heard[2][2] })).texts, [4, 5], "the offset of a live event is one, too");
      assert.deepEqual((await page({ after: joined.offset, limit: 1 })).texts, [1]);
      assert.deepEqual((await page({ limit: 2 })).texts, [4, 5]);
      assert.deepEqual((await page({ before: receipts[3].offset, limit: 2 })).texts, [2, 3]);
      assert.deepEqual((await page({ before: receipts[1].offset })).texts, [1]);
      assert.deepEqual((await page({ before: receipts[0].offset })).texts, []);

      const late = await connect();
      const { history, offset, complete, gap } = await must(late, "room:join", name, { history: 2 });
      assert.deepEqual({ texts: textsOf(history), offset, complete, gap }, { texts: [4, 5], offset: receipts[4].offset, complete: true, gap: false });
      const since = await must(late, "room:join", name, { after: receipts[1].offset });
      assert.deepEqual(textsOf(since.history), [3, 4, 5]);
    });

    check("binary values come in pages that the client takes, and what only looks like one stays what it was", async () => {
      const name = room();
      const ada = await connect();
      const lookalike = { _placeholder: true, num: 0 };
      const sent = [lookalike, ...Array.from({ length: 11 }, (_, i) => Buffer.from([i])), lookalike, "last"];
      const receipts = [];
      for (const value of sent) receipts.push(await must(ada, "room:emit", name, "chat", value));
      const lost = collect(ada, "disconnect");
      const joined = await must(ada, "room:join", name, { history: 1_000 });
      const [found, counts] = [textsOf(joined.history), [joined.history.length]];
      for (let page = { complete: joined.complete, next: joined.offset }; !page.complete;) {
        page = await must(ada, "room:history", name, { after: page.next });
        found.push(...textsOf(page.events));
        counts.push(page.events.length);
      }
      assert.deepEqual(found, sent);
      assert.deepEqual(counts, [1, 10, 1, 2]);
      const last = await must(ada, "room:history", name, { limit: 13 });
      assert.deepEqual([textsOf(last.events), last.complete, last.next], [sent.slice(1, 11), false, receipts[10].offset]);
      assert.deepEqual(lost, []);
    });

    check("whoever joins while others write hears every event, and knows by its offset what it has already", async () => {
      const name = room();
      const writer = await connect();
      let stop = false;
      const writing = (async () => {
        let i = 0;
        for (; !stop; i += 1) await must(writer, "room:emit", name, "chat", i);
        return i;
      })();
      for (let round = 0; round < 10; round++) {
        const socket = await connect();
        const heard = collect(socket, "chat");
        const { history } = await must(socket, "room:join", name, { history: 1_000 });
        await until(() => heard.length > 3, "events behind the join");
        const known = new Set(history.map(({ offset }) => offset));
        const live = heard.filter(([, offset]) => !known.has(offset.slice(0, 23))).map(([i]) => i);
        const all = [...textsOf(history), ...live];
        assert.deepEqual(all, Array.from(all, (_, i) => all[0] + i), `round ${round}`);
        socket.disconnect();
      }
      stop = true;
      const count = await writing;
      assert.equal((await must(writer, "room:history", name, { limit: 1 })).events[0].n, count);
    });

    check("what is forgotten is a gap, and so is an offset that nobody gave", async () => {
      const ada = await connect();
      const receipts = [];
      for (let i = 1; i <= 6; i++) receipts.push(await must(ada, "room:emit", "short", "chat", i));
      const page = async (options) => {
        const { events, gap } = await must(ada, "room:history", "short", options);
        return { texts: textsOf(events), gap };
      };
      assert.deepEqual(await page({ after: receipts[0].offset }), { texts: [4, 5, 6], gap: true });
      assert.deepEqual(await page({ after: receipts[2].offset }), { texts: [4, 5, 6], gap: false });
      assert.deepEqual(await page({}), { texts: [4, 5, 6], gap: false });
      assert.deepEqual(await page({ after: `~${"a".repeat(22)}` }), { texts: [4, 5, 6], gap: true });
      const joined = await must(ada, "room:join", "short", { after: receipts[0].offset });
      assert.deepEqual({ texts: textsOf(joined.history), gap: joined.gap }, { texts: [4, 5, 6], gap: true });
    });

    check("a client may be in 256 rooms, and in another one when it has left one", async () => {
      const ada = await connect();
      const answers = await Promise.all(Array.from({ length: 257 }, (_, i) => ask(ada, "room:join", `lobby:${i}`)));
      assert.deepEqual(answers.map(({ ok }) => ok), [...Array(256).fill(true), false]);
      assert.equal(answers[256].code, "too_many");
      await must(ada, "room:leave", "lobby:0");
      await must(ada, "room:join", "lobby:256");
    });

    check("an emit with a key is kept once, however often it is sent", async () => {
      const name = room();
      const ada = await connect();
      const [heard, comings] = [collect(ada, "chat"), collect(ada, "room:joined")];
      const { members } = await must(ada, "room:join", name);
      const first = await must(ada, "room:emit", name, "chat", 1, { $key: `${name}-one` });
      const again = await must(ada, "room:emit", name, "chat", 1, { $key: `${name}-one` });
      assert.equal(again.offset, first.offset);
      const lost = next(ada, "disconnect");
      await server.kill();
      await lost;
      const back = next(ada, "connect");
      await server.start();
      await back;
      assert.deepEqual((await must(ada, "room:presence", name)).members, members, "a member without joining anew");
      const later = await must(ada, "room:emit", name, "chat", 1, { $key: `${name}-one` });
      assert.deepEqual(later, { ...first, dup: true });
      await must(ada, "room:emit", name, "chat", 2, { $key: `${name}-two` });
      await until(() => heard.length === 2, "both");
      assert.deepEqual(heard.map((args) => args.slice(0, -1)), [[1], [2]], "nobody sees the key");
      assert.deepEqual(comings, [], "nobody is told of themselves");
      assert.deepEqual(textsOf((await must(ada, "room:history", name)).events), [1, 2]);
    });

    check("a server that is killed while everybody writes has every event once, and so do its clients", async () => {
      const name = room();
      const [ada, grace] = await Promise.all([connect(), connect()]);
      const heard = collect(ada, "chat");
      await must(ada, "room:join", name);
      const { id } = ada;
      const confirmed = new Set();
      /** Sent again, under its key, until it is answered. */
      const insist = async (number) => {
        while (!confirmed.has(number)) {
          await until(() => grace.connected, "the connection");
          const answer = await grace.timeout(5_000).emitWithAck("room:emit", name, "chat", number, { $key: `${name}-${number}` }).catch(() => {});
          if (answer?.ok) confirmed.add(number);
        }
      };
      const PER_ROUND = 200;
      for (let round = 0; round < 3; round++) {
        const sent = Array.from({ length: PER_ROUND }, (_, i) => insist(round * PER_ROUND + i));
        await until(() => confirmed.size >= round * PER_ROUND + 20, "some answers");
        const [lost, back] = [next(ada, "disconnect"), next(ada, "connect")];
        await server.kill();
        await lost;
        await server.start();
        await back;
        assert.deepEqual({ recovered: ada.recovered, id: ada.id }, { recovered: true, id }, `round ${round}`);
        await Promise.all(sent);
      }
      const end = await must(grace, "room:emit", name, "chat", "end");
      await until(() => heard.at(-1)?.[0] === "end", "the last event");
      const numbers = heard.slice(0, -1).map(([number]) => number);
      assert.deepEqual(numbers.toSorted((a, b) => a - b), Array.from({ length: 3 * PER_ROUND }, (_, i) => i), "each once");
      const kept = textsOf((await must(grace, "room:history", name, { before: end.offset, limit: 1_000 })).events);
      assert.deepEqual(kept, numbers, "the history is what was heard");
    });

    check("who comes back when the rules have changed is only where it may be now", async () => {
      const name = room();
      const ada = await connect();
      await must(ada, "room:join", name);
      await must(ada, "room:join", "news");
      const heard = collect(ada, "chat");
      const lost = next(ada, "disconnect");
      await server.kill();
      await lost;
      const back = next(ada, "connect");
      writeFileSync(config, RULES.replace('match = "chat:{id}"\njoin = "anyone"', 'match = "chat:{id}"\njoin = "deny"'));
      await server.start();
      await back;
      assert.equal(ada.recovered, true);
      assert.equal((await ask(ada, "room:presence", name)).code, "not_member");
      await must(ada, "room:emit", name, "chat", "not for it");
      assert.equal((await must(ada, "room:history", name)).events.length, 1);
      await ask(ada, "room:presence", name);
      assert.deepEqual(heard, []);
      await server.kill();
      writeFileSync(config, RULES);
      await server.start();
    });

    if (python) {
      for (const kind of ["sync", "async"]) {
        check(`python-socketio's ${kind} client joins, emits, reads the history and goes on behind its offset`, async () => {
          const child = spawn(python, [fileURLToPath(new URL("python/verbs.py", import.meta.url)), server.urls.socketio, kind, room()]);
          let said = "";
          for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => { said += data; });
          const [code] = await next(child, "close", 50_000);
          assert.equal(code, 0, said);
        });
      }
    } else {
      it("python-socketio", { skip: process.env.CI ? false : "PYTHON_BIN names no Python" }, () => assert.fail("PYTHON_BIN names no Python"));
    }
  });
}
