// Clients of Socket.IO 2 where the matrix does not look: what is on the wire, and polling by scripts and forms. (Every scenario of the
// matrix with the client 2.5 is in versions.test.mjs.)

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import vm from "node:vm";
import { PLAIN, ask, check, checkBetterThanNode, eachSubject, next, opened } from "./harness.mjs";
import { request } from "./wire.mjs";

const require = createRequire(import.meta.url);
const io = require("socket.io-client-2.5");
const parserOfItsTime = require("socket.io-msgpack-parser-2");

/** A session of revision 3, request by request. */
class Session {
  static async open(server, { mount = PLAIN, query = "&b64=1" } = {}) {
    const target = `${mount}?EIO=3&transport=polling${query}`;
    const answer = await request(server, target);
    assert.equal(answer.status, 200, answer.body);
    return Object.assign(new Session(), { server, target: `${target}&sid=${answer.body.match(/"sid\\*":\\*"([^"\\]+)/)[1]}`, answer });
  }

  get sid() {
    return this.target.match(/sid=(.*)/)[1];
  }

  poll() {
    return request(this.server, this.target);
  }

  /** The answers to polls, up to one that has `what` in it. */
  async upTo(what) {
    let all = "";
    while (!all.includes(what)) all += (await this.poll()).body;
    return all;
  }

  post(body, headers = {}) {
    return request(this.server, this.target, { method: "POST", body, headers: { "content-type": "text/plain;charset=UTF-8", ...headers } });
  }
}

const payload = (...packets) => packets.map((packet) => `${packet.length}:${packet}`).join("");

eachSubject("revision 3", (server) => {
  check("the main namespace is joined with the first poll", async () => {
    const session = await Session.open(server);
    const [, length, packet] = session.answer.body.match(/^(\d+):(.*)$/);
    assert.equal(Number(length), packet.length);
    assert.deepEqual(Object.keys(JSON.parse(packet.slice(1))), ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]);
    assert.equal(session.answer.headers["content-type"], "text/plain; charset=UTF-8");
    assert.equal((await session.poll()).body, "2:40");
    assert.equal((await session.post(payload("2", '420["whoami"]'))).body, "ok");
    const answer = await session.upTo("430");
    assert.ok(answer.startsWith("1:3"), answer);
    const [whoami] = JSON.parse(answer.slice(answer.indexOf("430") + 3));
    assert.deepEqual([whoami.id, whoami.rooms, whoami.eio, whoami.auth], [session.sid, [session.sid], 3, {}]);
  });

  check("lengths count what JavaScript counts", async () => {
    const session = await Session.open(server);
    await session.upTo("40");
    const packet = '420["echo","€😀ü\u2028"]';
    assert.equal((await session.post(payload(packet))).body, "ok");
    assert.equal(await session.upTo("430"), payload('430["€😀ü\u2028"]'));
  });

  check("namespaces with a query, and refusals", async () => {
    const session = await Session.open(server);
    await session.upTo("40");
    for (const [wish, answer] of [
      ["40/custom?a=b%20c&d=1,", "40/custom,"],
      ["40/auth?token=bad,", '44/auth,{"code":401,"hint":"token"}'],
      ["40/auth?token=good&banned=1,", '44/auth,"banned"'],
      ["40/auth?token=good,", "40/auth,"],
      ["40/nowhere,", '44/nowhere,{"message":"Invalid namespace"}'],
    ]) {
      assert.equal((await session.post(payload(wish))).body, "ok");
      assert.equal(await session.upTo("4"), payload(answer));
    }
    await session.post(payload('42/custom,1["whoami"]'));
    const answer = await session.upTo("43/custom,1");
    const [whoami] = JSON.parse(answer.slice(answer.indexOf("[")));
    assert.deepEqual([whoami.id, whoami.auth, whoami.eio], [`/custom#${session.sid}`, { a: "b c", d: "1" }, 3]);
  });

  check("binary in both forms of a body", async () => {
    const sent = ['451-0["echo",{"_placeholder":true,"num":0}]', "b4AQID"];
    const base64 = await Session.open(server);
    await base64.upTo("40");
    await base64.post(payload(...sent));
    assert.equal(await base64.upTo("b4"), payload('461-0[{"_placeholder":true,"num":0}]', "b4AQID"));

    const binary = await Session.open(server, { query: "" });
    await binary.upTo("40");
    const text = Buffer.from(sent[0]);
    await binary.post(Buffer.concat([Buffer.from([0, ...String(text.length).split("").map(Number), 255]), text, Buffer.from([1, 4, 255, 4, 1, 2, 3])]), {
      "content-type": "application/octet-stream",
    });
    const answer = await binary.poll();
    assert.equal(answer.headers["content-type"], "application/octet-stream");
    assert.ok(answer.body.includes("461-0["), answer.body);
    assert.ok(answer.body.endsWith("\u0004\u0001\u0002\u0003"), answer.body);
  });

  check("a body that is none ends the session, and is answered", async () => {
    for (const body of ["abc", "9:4a", "1:", "1:63"]) {
      const session = await Session.open(server);
      assert.deepEqual([(await session.post(body)).status], [200], body);
      assert.equal((await session.poll()).status, 400, body);
    }
  });

  check("the wrong heartbeat direction ends the session", async () => {
    const session = await Session.open(server);
    assert.equal((await session.post("1:3")).status, 200);
    assert.equal((await session.poll()).status, 400);
  });

  check("a session is of one revision", async () => {
    const session = await Session.open(server);
    const { status, body } = await request(server, session.target.replace("EIO=3", "EIO=4"));
    assert.deepEqual([status, body], [400, '{"code":3,"message":"Bad request"}']);
  });

  check("revision 3 is refused where it is not allowed", async () => {
    for (const query of ["EIO=3&", "EIO=5&", ""]) {
      const { status, body } = await request(server, `/fast/?${query}transport=polling`);
      assert.deepEqual([status, body], [400, '{"code":5,"message":"Unsupported protocol version"}'], query);
    }
  });

  checkBetterThanNode(server, "no offset follows the arguments", "sends one", async () => {
    for (const path of ["/socket.io/", PLAIN]) {
      const socket = io(server.url, { path, transports: ["websocket"], forceNew: true, reconnection: false });
      server.onCleanup(() => socket.close());
      await next(socket, "connect");
      const echo = next(socket, "echo");
      socket.emit("echo", "text");
      assert.deepEqual(await echo, ["text"], path);
      const news = next(socket, "news");
      socket.emit("bcast", { via: "io", to: socket.id }, "news", ["text"]);
      assert.deepEqual(await news, ["text"], path);
    }
  });

  check("MessagePack by the parser of its time: events of the main namespace, and no more", async () => {
    const join = async () => {
      const options = { path: "/msgpack/", transports: ["websocket"], forceNew: true, reconnection: false, parser: parserOfItsTime };
      const socket = io(server.url, options);
      server.onCleanup(() => socket.close());
      await opened(socket);
      assert.equal(await ask(socket, "echo", "text"), "text");
      return socket;
    };
    // Packets with binary have types of their own, and joining and leaving are text.
    for (const end of [
      (socket) => socket.emit("noop", Buffer.from("binary")),
      (socket) => socket.io.socket("/custom").open(),
    ]) {
      const socket = await join();
      const gone = next(socket, "disconnect");
      end(socket);
      assert.deepEqual((await gone)[0], "transport close");
    }
  });

  check("the client polls by scripts and forms", async () => {
    const page = new Page();
    const socket = page.run(() => io(server.url, { path: PLAIN, transports: ["polling"], forceJSONP: true, forceNew: true, reconnection: false }));
    server.onCleanup(() => socket.close());
    await opened(socket);
    assert.ok(page.scripts.length > 0 && page.scripts.every(({ target }) => /[?&]j=\d+(&|$)/.test(target)), "it polled by scripts");
    for (const args of [["text"], ['"\\\n\\n\r\u2028\u2029</script>', "€😀"], [{ a: ["\\\\n", "\n"] }], [Buffer.from([1, 2, 255])]]) {
      const echo = next(socket, "echo");
      socket.emit("echo", ...args);
      assert.deepEqual((await echo).map(plain), args.map(plain));
    }
    assert.ok(page.forms > 0, "it posted by forms");
    assert.equal((await ask(socket, "whoami")).transport, "polling");
  });

  check("a script repeats nothing of a request but digits", async () => {
    for (const j of ["1](alert(1));//", "%3Cscript%3E1", "1%0a"]) {
      const session = await Session.open(server, { query: `&b64=1&j=${j}` });
      assert.match(session.answer.body, /^___eio\[1+\]\("/, j);
      assert.ok(!session.answer.body.includes("alert") && !session.answer.body.includes("<"), session.answer.body);
    }
  });

  checkBetterThanNode(server, "a script is sent as one", "text/plain, and nothing against sniffing", async () => {
    const { answer } = await Session.open(server, { query: "&b64=1&j=0" });
    assert.equal(answer.headers["content-type"], "text/javascript; charset=UTF-8");
    assert.equal(answer.headers["x-content-type-options"], "nosniff");
  });
});

/** What a page would be to the client: it fetches scripts and runs them, and sends forms. */
class Page {
  scripts = [];
  forms = 0;

  /** Runs `open` with a document for it, which the client's own requests find as well. */
  run(open) {
    globalThis.document = {
      createElement: (name) => this.element(name),
      getElementsByTagName: () => [],
      head: this.element("head"),
      body: this.element("body"),
    };
    return open();
  }

  element(name) {
    const page = this;
    const element = {
      name,
      style: {},
      children: [],
      setAttribute(key, value) { this[key] = value; },
      appendChild(child) {
        child.parentNode = this;
        this.children.push(child);
        if (child.name === "script") page.#fetchScript(child);
        return child;
      },
      removeChild(child) {
        this.children = this.children.filter((one) => one !== child);
        child.gone = true;
      },
    };
    if (name === "form") element.submit = () => page.#send(element);
    return element;
  }

  async #fetchScript(script) {
    try {
      const answer = await fetch(script.src);
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${answer.status} ${text}`);
      this.scripts.push({ target: script.src, text });
      // A script that was taken out before it came runs all the same.
      vm.runInThisContext(text);
    } catch (error) {
      if (!script.gone) script.onerror?.(error);
    }
  }

  async #send(form) {
    this.forms += 1;
    const [area] = form.children;
    const iframe = form.children.findLast(({ name }) => name !== "textarea");
    await fetch(form.action, { method: "POST", body: new URLSearchParams({ d: area.value }) });
    iframe.onload?.();
  }
}

function plain(value) {
  return Buffer.isBuffer(value) || value instanceof Uint8Array || value instanceof ArrayBuffer ? [...new Uint8Array(value)] : value;
}
