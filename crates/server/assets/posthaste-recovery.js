/*! Posthaste: what a page was told and what it still has to say, kept while it is loaded anew. docs/recovery-protocol.md */
(function (root) {
  "use strict";
  const OFFSET = /^(~[\w-]{22}){1,2}$/;
  const random = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => (byte + 256).toString(16).slice(1)).join("");
  const plain = (name, value) => {
    if (value instanceof ArrayBuffer || ArrayBuffer.isView(value) || (typeof Blob === "function" && value instanceof Blob)) {
      throw new TypeError("what is kept until it is answered has to be JSON, without binary values");
    }
    return value;
  };
  // The server has done nothing then, and not used up the key.
  const passing = ["busy", "storage_full", "unavailable"];
  const passes = (answer) => Boolean(answer) && answer.ok !== true && (passing.includes(answer.code) || (answer.code && answer.retry_after > 0));
  const longestPause = 60e3;
  // The client has these for itself, and throws.
  const reserved = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
  // What the packet has around an event and its arguments.
  const aroundEvent = 200;
  /** The storage of this tab, or none where a page may not have one: then nothing outlives it. */
  const tabStorage = () => {
    const none = { getItem: () => null, setItem() {}, removeItem() {} };
    try { return root.sessionStorage || none; } catch (_) { return none; }
  };
  const failure = (code, message) => Object.assign(new Error(message), { code });

  /**
   * Keeps a socket's session over loads of its page, and what it sends until it is answered. To be called before the socket connects.
   * Options: name, storage, maxCount, maxBytes, maxPayload, answerWithin, saveEvery, confirmEvery (ms), onsession(restored),
   * onanswer(event, args, answer).
   */
  function posthasteRecovery(socket, options) {
    const { name = socket.nsp, storage = tabStorage(), maxCount = 1000, maxBytes = 1e6, maxPayload = 1e6, answerWithin = 10e3,
      saveEvery = 500, confirmEvery = 5e3, onsession, onanswer } = options || {};
    if (!("recovered" in socket)) throw new Error("posthaste-recovery.js needs socket.io-client 4.6 or later");
    const place = "posthaste-recovery:" + name;
    const locks = root.navigator && root.navigator.locks;
    // Without locks two pages with one copy would never know: then it lies there only while no page has it.
    const leaves = !locks && Boolean(root.document);
    const [waiting, pauses] = [new Map(), new Map()];
    // `after`: whose outboxes it took over without their sessions. `behind`: the session went on in another page, and this one was not told
    // yet. `left`: 1 when its page has been left.
    let state = { id: random(), after: [], pid: null, offset: null, behind: false, left: 0, outbox: [] };
    let [bytes, connects, calls, isAfresh, release, told] = [0, 0, 0, false, () => {}, null];
    // Whether what lies in the storage is this page's. It is not from when the page is left to when it has taken over what lies there then.
    let [isOurs, isLeft] = [false, false];
    // The page before's session; whether `onsession` was called, and whether this connection has its session.
    let [before, isTold, isBack] = [null, false, false];
    // What it has written last, and the keys of what lies there of what it has to say.
    let [written, handed] = [null, new Set()];
    const timers = {};

    const write = () => {
      const text = JSON.stringify(state);
      if (leaves && !isLeft) {
        // Whether it will fit. Where it would lie then, another page's may.
        storage.setItem(place + ":trial", text);
        return storage.removeItem(place + ":trial");
      }
      if (!isOurs && storage.getItem(place) !== written) return;
      storage.setItem(place, text);
      written = text;
      handed = new Set(state.outbox.map(({ key }) => key));
    };
    const save = () => {
      if (leaves) return;
      try { write(); } catch (_) { /* Full: what was saved before stays. */ }
    };
    const later = (what, ms, act) => {
      timers[what] = timers[what] || setTimeout(() => { timers[what] = null; act(); }, ms);
      if (timers[what].unref) timers[what].unref();
    };
    const take = (id, options) => new Promise((resolve) => {
      locks.request("posthaste-recovery:" + id, options, (lock) => {
        resolve(Boolean(lock));
        return lock && !isLeft ? new Promise((done) => { release = done; }) : undefined;
      }).catch(() => resolve(false));
    });
    // The session is its page's that holds the lock. It waits for it: the page before may still be on its way out.
    const hold = async (id) => {
      if (await take(id, { ifAvailable: true })) return "at once";
      const late = new AbortController();
      const timer = setTimeout(() => late.abort(), 3000);
      const isHeld = await take(id, { signal: late.signal });
      clearTimeout(timer);
      return isHeld && "late";
    };
    /** What the page before has left. */
    const left = () => {
      let kept = null;
      try {
        kept = JSON.parse(storage.getItem(place));
        if (leaves) storage.removeItem(place);
      } catch (_) { /* Somebody else's. */ }
      return kept && Array.isArray(kept.outbox) && Array.isArray(kept.after) ? kept : null;
    };
    /** Somebody with this to say, who has none of the sessions before. */
    const afresh = async (after, outbox) => {
      release();
      state = { id: random(), after, pid: null, offset: null, behind: false, left: 0, outbox };
      if (locks) await hold(state.id);
    };
    const own = () => {
      if (isLeft) return;
      bytes = state.outbox.reduce((sum, entry) => sum + JSON.stringify(entry).length, 0);
      [isOurs, state.left] = [true, 0];
      save();
      flush();
    };
    let theirs = socket.auth;
    const auth = (send) => {
      const [call, { engine }] = [++calls, socket.io];
      return ready.then(() => {
        // Once connected, the client has both by itself; until then it has none, and what it is given here goes first.
        const { pid, offset } = connects || !state.pid || isAfresh ? {} : state;
        const mine = Object.assign({ sio: 1 }, pid && { pid }, pid && offset && { offset }, isAfresh && { pid: undefined, offset: undefined });
        // Not for a connection that is gone: the next one would be sent two.
        const isFor = () => call === calls && engine === socket.io.engine && socket.active;
        const give = (it) => { if (isFor()) send(Object.assign({}, it, auth, mine)); };
        return typeof theirs === "function" ? theirs(give) : give(theirs);
      });
    };
    socket.auth = auth;

    const tell = () => {
      if (!isOurs || !socket.connected || told === state.offset) return;
      // Saved first: what is confirmed is not replayed to a page that has an older offset.
      save();
      told = state.offset;
      socket.volatile.emit("sio:pos", told);
    };
    const hear = (...args) => {
      const last = args[args.length - 1];
      if (typeof last !== "string" || !OFFSET.test(last)) return;
      // Behind the handlers, which run in this turn.
      Promise.resolve().then(() => {
        state.offset = last;
        later("save", saveEvery, save);
        later("tell", confirmEvery, tell);
      });
    };
    const session = (it) => {
      const restored = !isTold && it.recovered === true && it.pid === before && !state.behind;
      [state.pid, isAfresh, recovery.restored, isBack] = [it.pid, false, restored || recovery.restored, true];
      Promise.resolve().then(save);
      if (isTold && !state.behind) return;
      [isTold, state.behind] = [true, false];
      if (onsession) onsession(restored);
    };

    /** Takes it out of the outbox. Who waits for its answer, if somebody does. */
    const close = (entry) => {
      const asker = waiting.get(entry.key);
      state.outbox.splice(state.outbox.indexOf(entry), 1);
      bytes -= JSON.stringify(entry).length;
      waiting.delete(entry.key);
      pauses.delete(entry.key);
      return asker;
    };
    const settle = (entry, answer) => {
      const asker = close(entry);
      later("save", saveEvery, save);
      if (asker) asker.resolve(answer);
      else if (onanswer) onanswer(entry.event, entry.args, answer);
    };
    const emit = (entry) => {
      // What lies there may say that it was answered.
      if (!isOurs || !socket.connected || !connects) return;
      const connect = connects;
      socket.timeout(answerWithin).emit(entry.event, ...entry.args, { $key: entry.key }, (error, answer) => {
        if (!state.outbox.includes(entry)) return;
        if (!error && !passes(answer)) return settle(entry, answer);
        const again = () => { if (state.outbox.includes(entry) && connect === connects) emit(entry); };
        if (error) return again();
        const pause = Math.min(pauses.get(entry.key) || 1e3, longestPause);
        pauses.set(entry.key, 2 * pause);
        const timer = setTimeout(again, Math.min(answer.retry_after > 0 ? answer.retry_after : pause, longestPause));
        if (timer.unref) timer.unref();
      });
    };
    const flush = () => [...state.outbox].forEach(emit);
    /**
     * Sends an event until it is answered, over connections and pages; a refusal that passes is no answer. The answer's first value; the
     * server handles it once.
     */
    const send = (event, ...args) => ready.then(() => new Promise((resolve, reject) => {
      if (typeof event !== "string" || reserved.includes(event)) throw new TypeError(`no event can have the name ${String(event)}`);
      const text = JSON.stringify({ key: random(), event, args }, plain);
      const size = new TextEncoder().encode(text).length + aroundEvent;
      if (size > maxPayload) throw failure("too_large", `the server takes ${maxPayload} bytes, and this is ${size}`);
      if (state.outbox.length >= maxCount || bytes + text.length > maxBytes) {
        throw failure("full", `the outbox is full: ${state.outbox.length} messages of ${bytes} bytes wait for their answer`);
      }
      const entry = JSON.parse(text);
      state.outbox.push(entry);
      try {
        write();
      } catch (error) {
        state.outbox.pop();
        throw failure("full", `the outbox could not be saved: ${error.message}`);
      }
      bytes += text.length;
      waiting.set(entry.key, { resolve, reject });
      emit(entry);
    }));

    const ask = (...args) => new Promise((resolve, reject) => {
      socket.timeout(answerWithin).emit(...args, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
    /** The stored events of a room (`null`: of what everybody is sent) behind one offset and up to another, without a hole, or an error. */
    const fill = async (room, after, through) => {
      const events = [];
      for (let last, page = { next: after }; !page.complete;) {
        page = await ask("sio:fill", room, page.next || null, through || null);
        if (!page.ok) throw failure(page.code, page.message);
        let isWhole = !page.gap;
        for (const event of page.events) {
          isWhole = isWhole && (!last || event.prev === last);
          last = event.offset;
          // What was not for this socket has a place alone.
          if (event.event !== undefined) events.push(event);
        }
        if (!isWhole) throw failure("gap", `a part of ${room} is forgotten`);
      }
      return events;
    };

    const connected = () => {
      connects += 1;
      told = null;
      flush();
    };
    const hide = () => {
      [isLeft, state.left] = [true, 1];
      try { if (isOurs) write(); } catch (_) { /* As above. */ }
      [isOurs, isBack] = [false, false];
      release();
    };
    /** Whose outboxes are in this one: its own name, and those it took over, the latest first. */
    const lineage = ({ id, after }, others = []) => [...new Set([id, ...after, ...others])].slice(0, 16);
    /** Takes over what lies there, which a page behind this one may have left: what it had to say, and what it was answered. */
    const adopt = () => {
      const kept = left();
      if (!kept) return;
      const [mine, lies] = [new Map(state.outbox.map((entry) => [entry.key, entry])), new Set(kept.outbox.map(({ key }) => key))];
      for (const key of lineage(kept).includes(state.id) ? handed : []) {
        if (lies.has(key) || !mine.has(key)) continue;
        const asker = close(mine.get(key));
        if (asker) asker.reject(failure("elsewhere", "another page took it over and was told the answer"));
      }
      handed.clear();
      if (kept.id !== state.id) state.after = lineage(kept, state.after);
      state.outbox.push(...kept.outbox.filter(({ key }) => !mine.has(key)));
      // What that one heard is confirmed, and is not sent again.
      const isOne = kept.id === state.id && kept.pid === state.pid;
      state.behind = state.behind || (isOne && (kept.behind || kept.offset !== state.offset));
    };
    /** What it has taken over is its own; it is told if it has its session already. */
    const settleIn = () => {
      own();
      if (state.behind && isBack) session({ pid: state.pid, recovered: true });
    };
    const goOn = async () => {
      isLeft = false;
      const isHeld = !locks || await hold(state.id);
      if (isLeft) return;
      adopt();
      if (isHeld) return settleIn();
      // Another page went on with the session meanwhile: this one becomes somebody new.
      await afresh(lineage(state), state.outbox);
      isAfresh = true;
      own();
      if (socket.active) socket.disconnect().connect();
    };
    let ready = (async () => {
      const kept = left() || state;
      const held = !locks || await hold(kept.id);
      // The page before may have said more until it let go.
      const last = (locks && left()) || kept;
      // Somebody had it, and did not leave it here: a copy, as in a tab that was duplicated.
      const isCopy = locks && held !== "at once" && !last.left;
      if (isCopy) await afresh([], []);
      else if (held && last.id === kept.id) state = last;
      else await afresh(lineage(last), last.outbox);
      before = state.pid;
      own();
    })();
    const show = ({ persisted }) => {
      if (persisted) ready = ready.then(() => isOurs || goOn());
    };
    socket.onAny(hear);
    socket.on("sio:session", session);
    socket.on("connect", connected);
    if (root.addEventListener && root.document) {
      root.addEventListener("pagehide", hide);
      root.addEventListener("pageshow", show);
      // Who goes back may be shown before the page behind has left.
      if (leaves) {
        root.addEventListener("storage", ({ key, newValue }) => {
          if (!isOurs || key !== place || !newValue) return;
          adopt();
          settleIn();
        });
      }
    }

    const recovery = {
      send, fill,
      /** Whether the page took up the session of the one before. */
      restored: false,
      /** What was last heard. */
      get offset() { return state.offset; },
      /** What was not answered yet: `{ key, event, args }`, oldest first. */
      get pending() { return state.outbox.map((entry) => Object.assign({}, entry)); },
      /** What the application says in its auth, in the place of `socket.auth`. */
      get auth() { return theirs; },
      set auth(value) { theirs = value; },
      get ready() { return ready; },
    };
    return recovery;
  }

  root.posthasteRecovery = posthasteRecovery;
  if (typeof module === "object" && module.exports) module.exports = posthasteRecovery;
})(typeof globalThis === "object" ? globalThis : self);
