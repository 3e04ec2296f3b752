// Connection state recovery: who comes back in time is who it was, and hears what it missed, once and in order.
//
// The official client takes part unmodified; a TCP proxy (`Cable`) takes its connection away. What the client itself cannot be
// made to do, two at once with one secret, is spoken by hand.

import { randomBytes } from "node:crypto";
import assert from "node:assert/strict";
import { Cable } from "./cable.mjs";
import { ask, check, checkBetterThanNode, collect, eachSubject, engineUpgrade, modes, next, opened, until } from "./harness.mjs";
import { PollingSession, RawSocket, SEPARATOR } from "./wire.mjs";

/** The mount whose clients are recovered. */
const RECOVERING = "/socket.io/";

/** An offset is a text that the application did not send. */
function withoutOffset(args) {
  assert.equal(typeof args.at(-1), "string", "an offset");
  return args.slice(0, -1);
}

eachSubject("recovery", (server) => {
  /** Someone who sees what others do not. */
  function watcher(nsp = "/") {
    return server.connect({ path: RECOVERING, nsp, auth: { token: "good" } });
  }

  /** A client on a cable of its own. */
  async function onCable({ mode, ...options } = {}) {
    const cable = await Cable.to(server);
    const quick = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100 };
    const socket = await server.connect({ path: RECOVERING, url: cable.url, mode, ...quick, ...options });
    return { cable, socket };
  }

  /** Whether the server has a socket of that id. */
  async function isThere(observer, id) {
    return (await ask(observer, "util", "fetch", { in: id })).length > 0;
  }

  const departed = (observer, id) => until(async () => !(await isThere(observer, id)), "the departure");

  /** Cuts the cable; then the server has noticed, and the client finds nobody until the cable is open again. */
  async function lose(socket, cable, observer) {
    const { id } = socket;
    // What the client has said last, the end of an upgrade perhaps, has arrived.
    await ask(socket, "echo");
    // Between two polls the server would notice nothing.
    if (socket.io.engine.transport.name === "polling") await until(() => cable.isAwaited, "a poll");
    const lost = next(socket, "disconnect");
    cable.cut();
    await lost;
    await departed(observer, id);
  }

  /** Leaves by itself, and waits until the server knows: over another connection it might hear of the coming back before. */
  async function goAway(socket, observer) {
    const { id } = socket;
    socket.disconnect();
    await departed(observer, id);
  }

  async function comeBack(socket, cable) {
    const back = next(socket, "connect");
    cable.open();
    await back;
  }

  function publish(observer, to, ...args) {
    return ask(observer, "bcast", { via: "io", to }, "news", args);
  }

  for (const mode of modes) {
    check(`a client that lost its connection is who it was, and hears what it missed (${mode})`, async () => {
      const { cable, socket } = await onCable({ mode });
      const observer = await watcher();
      const { id } = socket;
      const heard = collect(socket, "news");
      const rooms = await ask(socket, "join", ["r1", "r2"]);
      socket.emit("count", 0);
      await ask(socket, "set-data", { name: "ada", list: [1] });
      await publish(observer, "r1", 0);
      await until(() => heard.length === 1, "the event before");

      await lose(socket, cable, observer);
      const data = Buffer.from([0, 0x1e, 0xff]);
      await publish(observer, "r1", 1, "one");
      await publish(observer, "r3", "not for it");
      await ask(observer, "bcast", { via: "io", except: "r2" }, "news", ["not for it"]);
      await publish(observer, ["r2", "r1"], 2, { data }, data);
      await publish(observer, id, 3);
      await publish(observer, undefined, 4);
      // What the client says meanwhile waits, and comes in order.
      for (let i = 0; i < 3; i++) socket.emit("count", i);

      await comeBack(socket, cable);
      assert.equal(socket.recovered, true);
      assert.equal(socket.id, id);
      assert.deepEqual(await ask(socket, "count-report"), { received: 3, outOfOrder: 0 });
      const me = await ask(socket, "whoami");
      assert.deepEqual(
        { id: me.id, rooms: me.rooms, recovered: me.recovered, data: me.data },
        { id, rooms, recovered: true, data: { name: "ada", list: [1] } },
      );
      if (mode === "upgrade") await engineUpgrade(socket);
      await publish(observer, "r2", 5);
      await until(() => heard.length >= 6, "the event after");
      assert.deepEqual(heard.map(withoutOffset), [[0], [1, "one"], [2, { data }, data], [3], [4], [5]]);
    });

    check(`who is lost again and again hears each event once (${mode})`, async () => {
      const { cable, socket } = await onCable({ mode });
      const observer = await watcher();
      const { id } = socket;
      const heard = collect(socket, "news");
      await publish(observer, id, 0);
      await until(() => heard.length === 1, "the event before");
      for (const round of [1, 2, 3, 4]) {
        await lose(socket, cable, observer);
        // In one of the rounds nothing is missed: then the offset is that of a replayed event.
        if (round !== 2) await publish(observer, id, round);
        await comeBack(socket, cable);
        assert.equal(socket.recovered, true, `round ${round}`);
        if (mode === "upgrade") await engineUpgrade(socket);
      }
      await publish(observer, id, 5);
      await until(() => heard.length >= 5, "the event after");
      assert.deepEqual(heard.map(withoutOffset), [[0], [1], [3], [4], [5]]);
    });

    const halfOpen = "a session that the server has not missed yet cannot be recovered (socketio/socket.io#4880)";
    checkBetterThanNode(server, `a connection that the server believes alive is ended when its client comes back (${mode})`, halfOpen, async () => {
      const { cable, socket } = await onCable({ mode, reconnection: false });
      const observer = await watcher();
      const { id } = socket;
      const heard = collect(socket, "news");
      await ask(socket, "join", "r1");
      await publish(observer, "r1", 0);
      await until(() => heard.length === 1, "the event before");
      cable.sever();
      const lost = next(socket, "disconnect");
      socket.io.engine.close();
      await lost;
      await until(() => cable.swallowed > 0, "the client's farewell in the hole");
      await publish(observer, "r1", 1);
      assert.ok(await isThere(observer, id), "the server has not noticed");
      const back = next(socket, "connect");
      cable.open();
      socket.connect();
      await back;
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      assert.equal((await ask(observer, "util", "fetch", { in: id })).length, 1, "one socket of that id");
      assert.equal(await ask(observer, "last-disconnect", id), "transport close");
      await publish(observer, "r1", 2);
      await until(() => heard.length >= 3, "the event after");
      assert.deepEqual(heard.map(withoutOffset), [[0], [1], [2]]);
    });

    const needsAnEvent = "a client that heard nothing yet is not recovered (socketio/socket.io#4888)";
    checkBetterThanNode(server, `a client that had heard nothing yet is recovered (${mode})`, needsAnEvent, async () => {
      const { cable, socket } = await onCable({ mode });
      const observer = await watcher();
      const { id } = socket;
      const heard = collect(socket, "news");
      await ask(socket, "join", "r1");
      await lose(socket, cable, observer);
      await publish(observer, "r1", 1);
      await comeBack(socket, cable);
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      await publish(observer, "r1", 2);
      await until(() => heard.length >= 2, "the event after");
      assert.deepEqual(heard.map(withoutOffset), [[1], [2]]);
    });
  }

  // Over polling the npm server does not learn that an answer was cut off: the session stands, and is not recovered.
  for (const mode of server.subject === "node" ? ["websocket"] : modes) {
    check(`a replay that is cut off is repeated, with nothing left out (${mode})`, async () => {
      const { cable, socket } = await onCable({ mode });
      const observer = await watcher();
      const { id } = socket;
      const heard = collect(socket, "news");
      await publish(observer, id, 0);
      await until(() => heard.length === 1, "the event before");
      await lose(socket, cable, observer);
      const count = 200;
      // Nothing that compression makes small: so many bytes are to be on the cable.
      const text = () => randomBytes(1_500).toString("base64");
      for (let i = 1; i <= count; i++) observer.emit("bcast", { via: "io", to: id }, "news", [i, text()]);
      await ask(observer, "echo");

      cable.open();
      cable.cutAfter(150_000);
      await until(() => cable.isCut, "the second loss");
      assert.equal(heard.length, 1);
      await comeBack(socket, cable);
      assert.deepEqual([socket.recovered, socket.id], [true, id]);
      await publish(observer, id, count + 1);
      await until(() => heard.at(-1)[0] === count + 1, "the event after");
      const numbers = heard.map(([number]) => number);
      const whole = Array.from({ length: count + 2 }, (_, i) => i);
      // The client keeps what it heard of the first replay as well, since it was never connected, and tells it all at the end.
      const twice = numbers.length - whole.length;
      assert.deepEqual(numbers, [0, ...whole.slice(1, 1 + twice), ...whole.slice(1)]);
    });
  }

  check("what is replayed has the offset that it had, as often as it is asked for", async () => {
    const observer = await watcher();
    const first = await join();
    first.raw.send('42["bcast",{"via":"io"},"news",["x"]]');
    const offset = JSON.parse((await first.raw.next()).slice(2)).at(-1);
    await leave(first, observer);
    await publish(observer, first.sid, 1);
    await publish(observer, first.sid, 2);
    const replays = [];
    for (let round = 0; round < 3; round++) {
      const back = await join({ pid: first.pid, offset });
      assert.deepEqual([back.sid, back.pid], [first.sid, first.pid]);
      replays.push(back.before);
      await leave(back, observer);
    }
    assert.deepEqual(replays[0].map((packet) => JSON.parse(packet.slice(2)).slice(0, 2)), [["news", 1], ["news", 2]]);
    assert.deepEqual(replays[1], replays[0]);
    assert.deepEqual(replays[2], replays[0]);
    // From in between.
    const between = JSON.parse(replays[0][0].slice(2)).at(-1);
    assert.deepEqual((await join({ pid: first.pid, offset: between })).before, replays[0].slice(1));
  });

  check("a volatile event is not replayed, and moves nothing if it ends in no text", async () => {
    const { cable, socket } = await onCable();
    const observer = await watcher();
    const { id } = socket;
    const [heard, ticks] = [collect(socket, "news"), collect(socket, "tick")];
    const tick = (number) => ask(observer, "bcast", { via: "io", to: id, volatile: true }, "tick", [number]);
    await publish(observer, id, 0);
    await tick(0);
    await until(() => heard.length === 1 && ticks.length === 1, "the events before");
    await lose(socket, cable, observer);
    await publish(observer, id, 1);
    await tick(1);
    await publish(observer, id, 2);
    await comeBack(socket, cable);
    assert.equal(socket.recovered, true);
    await publish(observer, id, 3);
    await until(() => heard.length >= 4, "the event after");
    assert.deepEqual(heard.map(withoutOffset), [[0], [1], [2], [3]]);
    assert.deepEqual(ticks.map(([number]) => number), [0]);
  });

  const poisoned = "the last text of a volatile event is taken for an offset (socketio/socket.io#5539)";
  checkBetterThanNode(server, "a volatile event that ends in a text is taken for no other", poisoned, async () => {
    const { cable, socket } = await onCable();
    const observer = await watcher();
    const { id } = socket;
    const [heard, ticks] = [collect(socket, "news"), collect(socket, "tick")];
    await publish(observer, id, 0);
    await ask(observer, "bcast", { via: "io", to: id, volatile: true }, "tick", ["a text"]);
    await until(() => heard.length === 1 && ticks.length === 1, "the events before");
    assert.deepEqual(ticks.map(withoutOffset), [["a text"]]);
    await lose(socket, cable, observer);
    await publish(observer, id, 1);
    await comeBack(socket, cable);
    assert.deepEqual([socket.recovered, socket.id], [true, id]);
    await publish(observer, id, 2);
    await until(() => heard.length >= 3, "the event after");
    assert.deepEqual(heard.map(withoutOffset), [[0], [1], [2]]);
  });

  const twins = "all of them are recovered, and several sockets have one id";
  checkBetterThanNode(server, "of many that show one secret at once, one is that socket in the end", twins, async () => {
    const observer = await watcher();
    for (const gone of [true, false]) {
      const first = await join();
      await publish(observer, first.sid, 0);
      const offset = JSON.parse((await first.raw.next()).slice(2)).at(-1);
      // Also while the connection from before stands.
      if (gone) await leave(first, observer);
      const rivals = await Promise.all(Array.from({ length: 6 }, () => RawSocket.session(server, RECOVERING)));
      for (const rival of rivals) rival.send(`40${JSON.stringify({ pid: first.pid, offset })}`);
      // Whoever comes later closes those before, perhaps before they are answered.
      const ended = ({ socket }) => new Promise((resolve) => socket.addEventListener("close", () => resolve({})));
      const answers = await Promise.all(rivals.map((rival) => Promise.race([answered(rival), ended(rival)])));
      const isOpen = ({ socket }) => socket.readyState === socket.OPEN;
      const same = () => rivals.filter((rival, i) => answers[i].sid === first.sid && isOpen(rival));
      await until(() => same().length <= 1, "the end of all but one");
      assert.equal(same().length, 1, "one is recovered");
      assert.equal((await ask(observer, "util", "fetch", { in: first.sid })).length, 1);
      const [winner] = same();
      await publish(observer, first.sid, 1);
      assert.match(await winner.next(), /^42\["news",1,"/);
      const others = rivals.filter((rival, i) => answers[i].sid !== first.sid);
      for (const other of others) assert.deepEqual(other.unread, []);
      for (const rival of rivals) rival.terminate();
      await departed(observer, first.sid);
    }
  });

  const dropsLastWords = "events that arrive in one read with the packet that ends the connection are dropped";
  checkBetterThanNode(server, "what came in one read with the end of the connection is heard, and the session recovered", dropsLastWords, async () => {
    const observer = await watcher();
    await ask(observer, "join", "farewell");
    const heard = collect(observer, "last-words");
    const lastWords = (word) => `42["bcast",{"via":"io","to":"farewell"},"last-words",["${word}"]]`;
    for (const [packet, recovered] of [["1", true], ["41", false]]) {
      const session = await PollingSession.open(server, RECOVERING);
      await session.post("40");
      const { sid, pid } = JSON.parse((await session.poll())[0].slice(2));
      await session.post([lastWords("one"), lastWords("two"), packet].join(SEPARATOR));
      await until(() => heard.length === 2, "the last words");
      assert.deepEqual(heard.splice(0).map(withoutOffset), [["one"], ["two"]]);
      await departed(observer, sid);
      const back = await join({ pid });
      assert.equal(back.sid === sid, recovered, packet);
    }
  });

  check("a secret that is nobody's gives a fresh session and no error", async () => {
    const ids = new Set();
    for (const auth of [
      { pid: "forged", offset: "forged" },
      { pid: "x".repeat(5_000), offset: "x".repeat(5_000) },
      { pid: "", offset: "" },
      { pid: 7, offset: 7 },
      { pid: null, offset: null },
      { pid: { toString: "x" }, offset: ["x"] },
      { pid: "__proto__", offset: "constructor" },
      { offset: "alone" },
    ]) {
      const { raw, before, sid, pid } = await join(auth);
      assert.deepEqual(before, []);
      assert.notEqual(pid, auth.pid);
      assert.ok(!ids.has(sid));
      ids.add(sid);
      await raw.roundTrip();
    }
  });

  const needsOffset = "a fresh session";
  checkBetterThanNode(server, "the right secret with an offset that is none repeats, and skips nothing", needsOffset, async () => {
    const observer = await watcher();
    for (const offset of ["", "forged", "x".repeat(5_000), 7, null, ["x"]]) {
      const first = await join();
      await publish(observer, first.sid, 1);
      await first.raw.next();
      await leave(first, observer);
      await publish(observer, first.sid, 2);
      const back = await join({ pid: first.pid, offset });
      assert.equal(back.sid, first.sid, `${offset}`);
      assert.deepEqual(back.before.map((packet) => JSON.parse(packet.slice(2))[1]), [1, 2]);
      back.raw.terminate();
    }
  });

  const replaysTooMuch = "what happened in a room before it was joined is replayed";
  checkBetterThanNode(server, "what happened in a room while the client was not in it is not replayed", replaysTooMuch, async () => {
    const { cable, socket } = await onCable();
    const observer = await watcher();
    const { id } = socket;
    const heard = collect(socket, "news");
    await publish(observer, id, 0);
    await until(() => heard.length === 1, "the event before");
    await publish(observer, "r1", "before it joined");
    await ask(socket, "join", ["r1", "r2"]);
    await ask(socket, "leave", "r2");
    await publish(observer, "r2", "after it left");
    await lose(socket, cable, observer);
    await publish(observer, ["r1", "r2"], 1);
    await publish(observer, "r2", "after it left");
    await comeBack(socket, cable);
    assert.equal(socket.recovered, true);
    await publish(observer, id, 2);
    await until(() => heard.length >= 3, "the event after");
    assert.deepEqual(heard.map(withoutOffset), [[0], [1], [2]]);
  });

  check("another one's secret without its connection is a fresh session after the other has left for good", async () => {
    const observer = await watcher();
    const first = await join();
    await publish(observer, first.sid, 0);
    const offset = JSON.parse((await first.raw.next()).slice(2)).at(-1);
    first.raw.send("41");
    await departed(observer, first.sid);
    const back = await join({ pid: first.pid, offset });
    assert.deepEqual(back.before, []);
    assert.notEqual(back.sid, first.sid);
    assert.notEqual(back.pid, first.pid);
  });

  for (const [how, end] of [
    ["left by itself", (socket) => socket.disconnect()],
    ["was told to leave", (socket) => socket.emit("kick", false)],
    ["was told to leave with its connection", (socket) => socket.emit("kick", true)],
  ]) {
    check(`a client that ${how} is somebody new when it comes back`, async () => {
      const { socket } = await onCable();
      const observer = await watcher();
      const { id } = socket;
      const heard = collect(socket, "news");
      await ask(socket, "join", "r1");
      await publish(observer, "r1", 0);
      await until(() => heard.length === 1, "the event before");
      const left = next(socket, "disconnect");
      end(socket);
      await left;
      await departed(observer, id);
      await publish(observer, "r1", 1);
      await opened(socket);
      assert.equal(socket.recovered, false);
      assert.notEqual(socket.id, id);
      const { rooms, recovered, data } = await ask(socket, "whoami");
      assert.deepEqual({ rooms, recovered, data }, { rooms: [socket.id], recovered: false, data: {} });
      assert.equal(heard.length, 1);
    });
  }

  check("who is recovered is not checked again, and who was never lost is", async () => {
    const auth = { token: "good" };
    const { cable, socket } = await onCable({ nsp: "/auth", auth });
    const { socket: other } = await onCable({ nsp: "/auth", auth });
    const observer = await watcher("/auth");
    const { id } = socket;
    const heard = [collect(socket, "news"), collect(other, "news")];
    await publish(observer, [id, other.id], 0);
    await until(() => heard.every((list) => list.length === 1), "the event before");
    await lose(socket, cable, observer);
    socket.auth = { token: "bad" };
    await comeBack(socket, cable);
    assert.deepEqual([socket.recovered, socket.id], [true, id]);
    assert.equal((await ask(socket, "whoami")).auth.token, "bad");
    await goAway(other, observer);
    other.auth = { token: "bad" };
    await assert.rejects(opened(other), /not authorized/);
  });

  const neverEnds = "a session that was recovered once can be recovered again after it ended for good, past the checks";
  checkBetterThanNode(server, "who was recovered and then left by itself is checked again", neverEnds, async () => {
    const { cable, socket } = await onCable({ nsp: "/auth", auth: { token: "good" } });
    const observer = await watcher("/auth");
    const { id } = socket;
    const heard = collect(socket, "news");
    await publish(observer, id, 0);
    await until(() => heard.length === 1, "the event before");
    await lose(socket, cable, observer);
    await comeBack(socket, cable);
    assert.equal(socket.recovered, true);
    await goAway(socket, observer);
    socket.auth = { token: "bad" };
    await assert.rejects(opened(socket), /not authorized/);
    socket.auth = { token: "good" };
    await opened(socket);
    assert.equal(socket.recovered, false);
    assert.notEqual(socket.id, id);
  });

  check("every namespace of a connection is recovered, made for the client or not", async () => {
    const { cable, socket: main } = await onCable();
    const names = ["/", "/custom", "/dyn-11", "/dyn-12"];
    const observers = await Promise.all(names.map((nsp) => watcher(nsp)));
    const sockets = [main];
    for (const nsp of names.slice(1)) sockets.push(await server.join(main, nsp));
    const ids = sockets.map(({ id }) => id);
    const heard = sockets.map((socket) => collect(socket, "news"));
    await Promise.all(sockets.map((socket) => ask(socket, "join", "r1")));
    await Promise.all(observers.map((observer) => publish(observer, "r1", "before")));
    await until(() => heard.every((list) => list.length === 1), "the events before");
    await lose(main, cable, observers[0]);
    for (const [i, observer] of observers.entries()) {
      await departed(observer, ids[i]);
      await publish(observer, "r1", names[i]);
    }
    await ask(observers[0], "parent-emit", "news", "to all that were made");
    const back = sockets.map((socket) => next(socket, "connect"));
    cable.open();
    await Promise.all(back);
    assert.deepEqual(sockets.map(({ recovered }) => recovered), names.map(() => true));
    assert.deepEqual(sockets.map(({ id }) => id), ids);
    await until(() => heard.every((list, i) => list.length >= (i < 2 ? 2 : 3)), "the missed events");
    const missed = (name) => [["before"], [name], ...(name.startsWith("/dyn") ? [["to all that were made"]] : [])];
    assert.deepEqual(heard.map((list) => list.map(withoutOffset)), names.map(missed));
  });

  check("events carry an offset behind their arguments, answers and questions none", async () => {
    const { raw } = await join();
    raw.send('42["echo",1,"two"]');
    assert.match(await raw.next(), /^42\["echo",1,"two","[^"]+"\]$/);
    raw.send('42["echo"]');
    assert.match(await raw.next(), /^42\["echo","[^"]+"\]$/);
    raw.send('451-["echo",{"_placeholder":true,"num":0}]');
    raw.send(Buffer.from([1]));
    assert.match(await raw.next(), /^451-\["echo",\{"_placeholder":true,"num":0\},"[^"]+"\]$/);
    assert.deepEqual(await raw.next(), Buffer.from([1]));
    raw.send('427["echo",1,"two"]');
    assert.equal(await raw.next(), '437[1,"two"]');
    raw.send('42["ask","question",10000,["why?"]]');
    assert.match(await raw.next(), /^42\d+\["question","why\?"\]$/);
  });

  check("mounts without recovery give no secret and no offsets", async () => {
    for (const mount of ["/plain/", "/fast/", "/steady/"]) {
      const raw = await RawSocket.session(server, mount);
      raw.send("40");
      const { sid, pid, before } = await answered(raw);
      assert.deepEqual([typeof sid, pid, before], ["string", undefined, []]);
      raw.send('42["echo",1]');
      let answer = await raw.next();
      for (; answer === "2"; answer = await raw.next()) raw.send("3");
      assert.equal(answer, '42["echo",1]');
    }
  });

  check("a server that was started anew knows nobody", async () => {
    const socket = await server.connect({ path: RECOVERING, reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 200 });
    const { id } = socket;
    const heard = next(socket, "news");
    await ask(socket, "bcast", { via: "io" }, "news", [0]);
    await heard;
    const lost = next(socket, "disconnect");
    await server.kill();
    await lost;
    const back = next(socket, "connect", 40_000);
    await server.start();
    await back;
    assert.equal(socket.recovered, false);
    assert.notEqual(socket.id, id);
    assert.equal((await ask(socket, "whoami")).recovered, false);
  });

  /** Joins over a new WebSocket; gives what came before the answer, and what is in it. */
  async function join(auth) {
    const raw = await RawSocket.session(server, RECOVERING);
    raw.send(`40${auth ? JSON.stringify(auth) : ""}`);
    return answered(raw);
  }

  async function answered(raw) {
    const before = [];
    for (;;) {
      const message = await raw.next();
      if (message === "2") raw.send("3");
      else if (typeof message === "string" && message.startsWith("40")) return { raw, before, ...JSON.parse(message.slice(2)) };
      else before.push(message);
    }
  }

  /** Ends a connection without a goodbye, and waits until the server has noticed. */
  async function leave({ raw, sid }, observer) {
    raw.terminate();
    await departed(observer, sid);
  }
});
