// The demo chat: one room of a Posthaste server, spoken with the official Socket.IO client.
//
//   client → server, acknowledged   room:join (room, { history } or { after })   room:emit (room, event, ...args)
//                                   room:history (room, { after, limit })
//   server → members                room:joined (room, member)   room:left (room, member)   and every emitted event
//
// Two events travel through the room: `chat`, a plain text or { name, text, from, id }, and `typing`, { name, typing, from }.
// `from` names the tab that wrote it and stays the same over reconnections; `id` names the message, so that one sent
// again after a broken connection shows once. Whatever comes from others is put on the page as text, never as markup.
//
// A durable room keeps what is said, and every event carries its offset as its last argument. The client comes back by itself and
// is sent what it missed (`socket.recovered`). This page does not take the server's word for it: after each break it reads the
// room's history behind the last message it had, and counts what had not come by itself.

const MAX_TEXT = 2_000;
const MAX_NAME = 32;
const MAX_ENTRIES = 500;
const GROUP_MS = 5 * 60_000;
const GROUP_NOTES = 30;
const ACK_TIMEOUT_MS = 8_000;
const RECONNECT_MS = 1_000;
const RECONNECT_MAX_MS = 5_000;
/** How many messages a new page begins with. */
const HISTORY = 200;
/** The largest page of a history, and how many of them are read after a break. */
const HISTORY_PAGE = 1_000;
const HISTORY_PAGES = 20;
/** How long the button cuts the connection. */
const CUT_MS = 5_000;
/** The part of an offset that names a place in the room's history; live events have more of it. */
const OFFSET_CHARS = 23;
/** How long a confirmed letter waits for its copy. */
const COPY_TIMEOUT_MS = 1_500;
const TYPING_REPEAT_MS = 2_500;
const TYPING_FADE_MS = 5_000;
/** Who comes back within this time (a reload, a new name, a short break) has not left. */
const LEAVE_GRACE_MS = 1_200;
/** The same after this page's own connection was lost: the others may be waiting for their next attempt. */
const RETURN_GRACE_MS = RECONNECT_MAX_MS + 1_500;

const $ = (id) => document.getElementById(id);
const room = new URLSearchParams(location.search).get("room") || "demo";

/** Storage that forgets where the browser forbids it or has no room. */
const memory = {
  get(kind, key) {
    try { return window[kind].getItem(key); } catch { return null; }
  },
  set(kind, key, value) {
    try { window[kind].setItem(key, value); } catch { /* forgotten */ }
  },
  remove(kind, key) {
    try { window[kind].removeItem(key); } catch { /* nothing to forget */ }
  },
};

// The tab's id outlives a reload. It is stored only from one page to the next, because a duplicated tab copies what is
// stored and must not take the id of the tab it came from.
const TAB_KEY = "posthaste-demo-tab";
const tab = memory.get("sessionStorage", TAB_KEY) ?? randomText(12);
memory.remove("sessionStorage", TAB_KEY);
addEventListener("pagehide", () => memory.set("sessionStorage", TAB_KEY, tab));
addEventListener("pageshow", () => memory.remove("sessionStorage", TAB_KEY));

function randomText(length) {
  const letters = "abcdefghijkmnpqrstuvwxyz23456789";
  return Array.from(crypto.getRandomValues(new Uint8Array(length)), (byte) => letters[byte % letters.length]).join("");
}

function element(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

// Names ---------------------------------------------------------------------------------------------------------------

const moods = "Amber Brisk Calm Clever Cosy Curious Dapper Eager Early Fond Gentle Glad Hasty Jolly Keen Kind Lively Lucky Merry Mellow Nimble Patient Quick Quiet Rapid Sunny Swift Tidy Warm Witty".split(" ");
const birds = "Avocet Bittern Crane Curlew Dove Egret Falcon Finch Godwit Grebe Heron Ibis Jackdaw Kestrel Lark Magpie Marten Oriole Osprey Petrel Pigeon Plover Puffin Robin Starling Swallow Swift Tern Thrush Wren".split(" ");

function friendlyName() {
  const [a, b] = crypto.getRandomValues(new Uint8Array(2));
  return `${moods[a % moods.length]} ${birds[b % birds.length]}`;
}

/** A name as it may be shown: one line, not too long, or undefined. */
function cleanName(value) {
  if (typeof value !== "string") return undefined;
  const name = Array.from(value.replace(/\s+/gu, " ").trim()).slice(0, MAX_NAME).join("");
  return name || undefined;
}

const NAME_KEY = "posthaste-demo-name";
let name = cleanName(memory.get("localStorage", NAME_KEY)) ?? friendlyName();
memory.set("localStorage", NAME_KEY, name);

/** A colour that is always the same for the same person. */
function hueOf(key) {
  let hash = 7;
  for (const char of key) hash = (hash * 31 + char.codePointAt(0)) % 100_003;
  return (hash * 47) % 360;
}

function stamp(node, key, label) {
  const words = label.split(" ").map((word) => Array.from(word)[0]);
  node.textContent = words.slice(0, 2).join("").toLocaleUpperCase();
  node.style.setProperty("--hue", hueOf(key));
  node.setAttribute("aria-hidden", "true");
  return node;
}

// The log -------------------------------------------------------------------------------------------------------------

const scroll = $("scroll");
const log = $("log");
const outbox = $("outbox");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

/** The group that the next message of the same person joins. */
let lastGroup;
let lastDay;
let pinned = true;
let unseen = 0;
let unread = 0;

/** Adds to the log and keeps what the reader looks at where it is: the end when they are there, else their place. */
function append(node) {
  $("empty").hidden = true;
  log.append(node);
  while (log.childElementCount > MAX_ENTRIES) log.firstElementChild.remove();
  keepPinned();
}

function keepPinned() {
  if (pinned) scroll.scrollTop = scroll.scrollHeight;
}

function showMessage({ author, from, text, own, kind, at }, animated) {
  const now = at ?? new Date();
  const day = now.toDateString();
  if (lastDay && lastDay !== day) showLine(calendar.format(now));
  lastDay = day;

  const key = `${kind ?? ""}${from}${author}`;
  if (lastGroup?.key !== key || now - lastGroup.at > GROUP_MS || lastGroup.notes.childElementCount > GROUP_NOTES) {
    lastGroup = { key, at: now, notes: element("div", "notes") };
    const group = element("li", own ? "group own" : "group");
    if (kind === "server") group.classList.add("from-server");
    if (own) {
      lastGroup.notes.append(element("span", "spoken", "You wrote"));
    } else {
      const picture = element("span", "stamp");
      if (kind === "server") {
        picture.classList.add("server");
        picture.textContent = ">_";
        picture.setAttribute("aria-hidden", "true");
      } else {
        stamp(picture, from, author);
      }
      const who = element("p", "who");
      who.append(element("b", "", author), time(now));
      lastGroup.notes.append(who);
      group.append(picture);
    }
    group.append(lastGroup.notes);
    append(group);
  }
  const note = element("div", animated ? "note new" : "note", text);
  note.title = clock.format(now);
  lastGroup.at = now;
  if (own) {
    // One line of time and confirmation under a group, not under every note.
    lastGroup.meta?.remove();
    lastGroup.meta = element("p", "meta");
    lastGroup.meta.append(time(now), tick());
    lastGroup.notes.append(note, lastGroup.meta);
  } else {
    lastGroup.notes.append(note);
  }
  keepPinned();
}

/** A line of the house: who came, who left, which day it is. */
function showLine(text, kind = "") {
  lastGroup = undefined;
  const line = element("li", `line ${kind}`.trim());
  line.append(element("span", "", text));
  append(line);
}

function time(date) {
  const node = element("time", "", clock.format(date));
  node.dateTime = date.toISOString();
  return node;
}

function tick() {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  const path = document.createElementNS(ns, "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 12 12", fill: "none", stroke: "currentColor", "stroke-width": "1.6", "stroke-linecap": "round", role: "img", "aria-label": "delivered" })) {
    svg.setAttribute(key, value);
  }
  path.setAttribute("d", "M2 6.5 4.8 9.3 10 3.2");
  svg.append(path);
  return svg;
}

scroll.addEventListener("scroll", () => {
  pinned = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 40;
  if (pinned) countUnseen(0);
}, { passive: true });
new ResizeObserver(keepPinned).observe(scroll);

function countUnseen(count) {
  unseen = count;
  $("newer").hidden = unseen === 0;
  $("newer").textContent = unseen === 1 ? "1 new message ↓" : `${unseen} new messages ↓`;
}

function scrollToEnd() {
  pinned = true;
  countUnseen(0);
  keepPinned();
}

$("newer").addEventListener("click", () => {
  scrollToEnd();
  scroll.focus();
});

function countUnread(count) {
  unread = count;
  document.title = `${unread > 0 ? `(${unread}) ` : ""}${room} · Posthaste`;
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) countUnread(0);
});

// Outgoing letters ----------------------------------------------------------------------------------------------------
//
// A letter waits in the outbox under the log. The acknowledgement confirms it; its copy that comes back through the room
// puts it into the log, which thereby has the same order for everyone.

/**
 * Waiting letters by id, oldest first. State `waiting`: not handed to the client; `sending`: no answer yet; `sent`:
 * acknowledged; `failed`: refused.
 */
const letters = new Map();
/** Ids of messages that were shown, newest last. */
const shown = new Set();

function isNew(id) {
  if (typeof id !== "string" || id.length > 64) return true;
  if (shown.has(id)) return false;
  shown.add(id);
  if (shown.size > 2 * MAX_ENTRIES) shown.delete(shown.values().next().value);
  return true;
}

function write(text) {
  const letter = { id: `${tab}-${randomText(8)}`, refusals: 0, author: name, text, node: element("li", "group own") };
  const notes = element("div", "notes");
  letter.meta = element("p", "meta");
  notes.append(element("div", "note new", text), letter.meta);
  letter.node.append(notes);
  letters.set(letter.id, letter);
  outbox.classList.toggle("continues", lastGroup?.key === `${tab}${name}`);
  outbox.append(letter.node);
  $("empty").hidden = true;
  mark(letter, "waiting");
  scrollToEnd();
  if (joined) post(letter);
}

function mark(letter, state, why) {
  letter.state = state;
  letter.node.dataset.state = state;
  letter.meta.replaceChildren(
    { waiting: "Waiting for the connection", sending: "Sending…", sent: "", failed: `Not delivered${why ? `: ${why}` : ""}` }[state],
  );
  if (state === "failed") {
    const again = element("button", "link", "Try again");
    again.type = "button";
    again.addEventListener("click", () => (joined ? post(letter) : mark(letter, "waiting")));
    letter.meta.append(again);
  }
  keepPinned();
}

function post(letter) {
  mark(letter, "sending");
  const message = { name: letter.author, text: letter.text, from: tab, id: letter.id };
  // Whatever became of it when the connection broke: under its key it is kept once. A refusal is remembered under a key as well.
  const key = { $key: `${letter.id}.${letter.refusals}` };
  const posted = performance.now();
  socket.timeout(ACK_TIMEOUT_MS).emit("room:emit", room, "chat", message, key, (error, answer) => {
    if (answer) showRoundTrip(performance.now() - posted);
    if (!letters.has(letter.id)) return;
    if (error) {
      // Lost with the connection: it goes out again after the next join. Too slow: the writer decides.
      if (joined) mark(letter, "failed", "no answer from the server");
      else mark(letter, "waiting");
    } else if (answer?.ok) {
      mark(letter, "sent");
      setTimeout(() => settle(letter), COPY_TIMEOUT_MS);
    } else {
      letter.refusals += 1;
      mark(letter, "failed", answer?.message);
    }
  });
}

/** Moves a letter from the outbox to its place in the log. */
function settle(letter, at) {
  if (!letters.delete(letter.id)) return;
  letter.node.remove();
  if (isNew(letter.id)) showMessage({ author: letter.author, from: tab, text: letter.text, own: true, at });
}

// What comes through the room -----------------------------------------------------------------------------------------

/** The place of the last message in the room's history. */
let lastOffset;
/** Places of messages that were shown, newest last. */
const places = new Set();
/** Messages that came before the page's first look at the history: they stand behind it. */
let early = [];

/** A message that was heard. `offset` is there where the room keeps what is said. */
function hear(message, offset) {
  if (early) early.push([message, offset]);
  else if (receiveChat(message, offset) && lost && !joined) lost.caughtUp += 1;
}

/** Puts a message in its place, unless it was there before. Says whether it was new. */
function receiveChat(message, offset, at) {
  if (typeof offset === "string" && offset.startsWith("~")) {
    lastOffset = offset.slice(0, OFFSET_CHARS);
    if (places.has(lastOffset)) return false;
    places.add(lastOffset);
    if (places.size > 2 * MAX_ENTRIES) places.delete(places.values().next().value);
  }
  if (typeof message === "string") {
    arrive({ author: "server", from: "server", text: message, kind: "server", at });
    return true;
  }
  if (typeof message?.text !== "string") return false;
  const letter = letters.get(message.id);
  if (letter) {
    settle(letter, at);
    return true;
  }
  if (!isNew(message.id)) return false;
  const author = cleanName(message.name) ?? "someone";
  const from = typeof message.from === "string" ? message.from : author;
  stopsTyping(from);
  arrive({ author, from, text: message.text, own: from === tab, at });
  return true;
}

/** Puts events of the room's history in their place. Gives how many messages of them were new. */
function recall(events) {
  const isNew = ({ event, args, offset, at }) => event === "chat" && receiveChat(args[0], offset, new Date(at));
  return events.filter(isNew).length;
}

function arrive(message) {
  // A backend may write more than this page lets people write, within reason.
  const cut = message.text.length > 4 * MAX_TEXT ? `${message.text.slice(0, 4 * MAX_TEXT)}…` : message.text;
  const isHistory = early !== undefined;
  showMessage({ ...message, text: cut }, !isHistory);
  if (!pinned) countUnseen(unseen + 1);
  if (document.hidden && !isHistory) countUnread(unread + 1);
}

/** Who is typing: key → { name, timer }. */
const typists = new Map();

function receiveTyping(notice) {
  const who = cleanName(notice?.name);
  if (!who) return;
  const key = typeof notice.from === "string" ? notice.from : who;
  if (key === tab || (notice.from === undefined && who === name)) return;
  stopsTyping(key);
  if (notice.typing === true && typists.size < 50) {
    typists.set(key, { name: who, timer: setTimeout(() => stopsTyping(key), TYPING_FADE_MS) });
    showTyping();
  }
}

function stopsTyping(key) {
  clearTimeout(typists.get(key)?.timer);
  if (typists.delete(key)) showTyping();
}

function showTyping() {
  const names = Array.from(typists.values(), (typist) => typist.name);
  $("typing").textContent =
    names.length === 0 ? ""
    : names.length === 1 ? `${names[0]} is typing…`
    : names.length === 2 ? `${names[0]} and ${names[1]} are typing…`
    : "Several people are typing…";
}

// People --------------------------------------------------------------------------------------------------------------

/** Member id → { id, name, from, leaving }; `leaving` is the timer that ends the wait for somebody's return. */
const people = new Map();

function person({ id, info }) {
  return { id, name: cleanName(info?.name) ?? "someone", from: typeof info?.from === "string" ? info.from : id };
}

/** Takes over the list that the room gave at the welcome. */
function meet(members) {
  const before = Array.from(people.values());
  for (const one of before) clearTimeout(one.leaving);
  people.clear();
  for (const member of members) {
    const one = person(member);
    people.set(one.id, one);
  }
  const present = new Set(Array.from(people.values(), (one) => one.from));
  for (const one of before) {
    if (one.from === tab || present.has(one.from)) continue;
    people.set(one.id, one);
    expectReturn(one, RETURN_GRACE_MS);
  }
  showPeople();
}

function comes(member) {
  if (member?.id === undefined || member.id === socket.id) return;
  const one = person(member);
  // The same tab under a new id: it only reconnected, perhaps under a new name.
  const before = Array.from(people.values()).find((other) => other.leaving && other.from === one.from);
  if (before) {
    clearTimeout(before.leaving);
    people.delete(before.id);
    if (before.name !== one.name) showLine(`${before.name} is now ${one.name}`);
  } else if (!people.has(one.id)) {
    showLine(`${one.name} joined`);
  }
  people.set(one.id, one);
  showPeople();
}

function leaves(member) {
  const one = people.get(member?.id);
  if (!one || one.id === socket.id) return;
  stopsTyping(one.from);
  expectReturn(one, LEAVE_GRACE_MS);
  showPeople();
}

function expectReturn(one, ms) {
  clearTimeout(one.leaving);
  one.leaving = setTimeout(() => {
    if (people.delete(one.id)) showLine(`${one.name} left`);
    showPeople();
  }, ms);
}

function showPeople() {
  const sorted = Array.from(people.values()).sort((a, b) =>
    (b.id === socket.id) - (a.id === socket.id) || a.name.localeCompare(b.name));
  $("members").replaceChildren(...sorted.map((one) => {
    const row = element("li");
    row.append(stamp(element("span", "stamp small"), one.from, one.name), element("span", "name", one.name));
    if (one.id === socket.id) row.append(element("span", "you", "you"));
    if (!joined || one.leaving) row.dataset.away = "";
    return row;
  }));
  const present = sorted.filter((one) => !one.leaving).length;
  for (const count of document.querySelectorAll("[data-count]")) count.textContent = present;
}

// On narrow screens the list is a sheet over the page.
const side = $("people");
const narrow = matchMedia("(max-width: 760px)");

function openPeople(open) {
  if (side.hasAttribute("data-open") === open) return;
  side.toggleAttribute("data-open", open);
  $("curtain").hidden = !open;
  $("people-open").setAttribute("aria-expanded", String(open));
  for (const covered of document.querySelectorAll(".bar, .talk")) covered.inert = open;
  (open ? $("people-close") : $("people-open")).focus();
}

$("people-open").addEventListener("click", () => openPeople(true));
$("people-close").addEventListener("click", () => openPeople(false));
$("curtain").addEventListener("click", () => openPeople(false));
narrow.addEventListener("change", () => openPeople(false));
addEventListener("keydown", (event) => {
  if (event.key === "Escape") openPeople(false);
});

// The connection ------------------------------------------------------------------------------------------------------

/** True between the room's welcome and the end of the connection: what is emitted now reaches the room. */
let joined = false;
let attempt = 0;
let countdown;

if (typeof io !== "function") {
  $("status").dataset.state = "disconnected";
  $("status-text").textContent = "The client script could not be loaded";
  throw new Error("socket.io.min.js is missing");
}

const socket = io({
  auth: { info: { name, from: tab } },
  // Without the random part the next attempt can be announced to the second.
  randomizationFactor: 0,
  reconnectionDelay: RECONNECT_MS,
  reconnectionDelayMax: RECONNECT_MAX_MS,
});

function showState(state, text, spoken = text) {
  clearInterval(countdown);
  $("status").dataset.state = state;
  $("status-text").textContent = text;
  if ($("status-spoken").textContent !== spoken) $("status-spoken").textContent = spoken;
  $("offline").hidden = state !== "reconnecting" && state !== "disconnected";
  keepPinned();
}

/** The transport in use, and by which way it came to be used. */
function showTransport(transport, way, ms) {
  $("transport").textContent = transport ?? "";
  $("transport").classList.toggle("fresh", ms !== undefined);
  $("fact-transport").textContent = way ?? transport ?? "–";
  $("fact-upgrade").textContent = milliseconds(ms);
}

function showRoundTrip(ms) {
  $("fact-trip").textContent = milliseconds(ms);
}

function milliseconds(ms) {
  return ms === undefined ? "–" : ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}

/** Says when the client tries again; `attempt` counts the ones that failed, and the client keeps to the same rhythm. */
function announceAttempt() {
  const at = performance.now() + Math.min(socket.io.reconnectionDelay() * 2 ** attempt, RECONNECT_MAX_MS);
  const say = () => {
    const seconds = Math.ceil((at - performance.now()) / 1_000);
    $("status-text").textContent = seconds > 0 ? `Reconnecting in ${seconds} s` : "Reconnecting…";
  };
  showState("reconnecting", "Reconnecting…", "Connection lost. Reconnecting.");
  say();
  countdown = setInterval(say, 200);
}

socket.io.on("open", () => {
  const { engine } = socket.io;
  const opened = performance.now();
  const first = engine.transport.name;
  showTransport(first);
  engine.once("upgrade", ({ name: transport }) => {
    showTransport(transport, `${first} → ${transport}`, performance.now() - opened);
  });
});

socket.io.on("reconnect_attempt", () => showState("reconnecting", "Reconnecting…", "Connection lost. Reconnecting."));
socket.io.on("reconnect_error", () => {
  attempt += 1;
  announceAttempt();
});

socket.on("connect", () => {
  attempt = 0;
  socket.io.reconnectionDelay(RECONNECT_MS);
  $("fact-socket").textContent = socket.id;
  const asked = performance.now();
  const from = lastOffset ? { after: lastOffset, history: HISTORY_PAGE } : { history: HISTORY };
  socket.timeout(ACK_TIMEOUT_MS).emit("room:join", room, from, async (error, answer) => {
    if (error) {
      // Connected, but nobody answers: begin again from the start.
      if (socket.connected) restart();
      return;
    }
    if (!answer?.ok) return refuse(answer);
    showRoundTrip(performance.now() - asked);
    await remember(answer);
    if (!socket.connected) return;
    joined = true;
    $("cut").disabled = false;
    showState("connected", "Connected");
    meet(answer.members ?? []);
    for (const letter of letters.values()) {
      if (letter.state === "waiting") post(letter);
    }
  });
});

/** Shows what the room's history has and this page has not, and says what became of a break. */
async function remember({ history, complete, gap, offset }) {
  const recovered = socket.recovered === true;
  let missed = recall(history ?? []);
  for (let pages = 1; complete === false && pages < HISTORY_PAGES; pages += 1) {
    const more = await ask("room:history", room, { after: lastOffset, limit: HISTORY_PAGE });
    if (!more?.ok) break;
    missed += recall(more.events);
    ({ complete } = more);
  }
  lastOffset = offset ?? lastOffset;
  const waiting = early ?? [];
  early = undefined;
  for (const [message, place] of waiting) receiveChat(message, place);
  if (lost) showReturn({ recovered, missed, gap, isKept: history !== undefined });
  lost = undefined;
}

function ask(...call) {
  return new Promise((resolve) => socket.timeout(ACK_TIMEOUT_MS).emit(...call, (error, answer) => resolve(error ? undefined : answer)));
}

// What becomes of a break -----------------------------------------------------------------------------------------------

/** While the connection is lost: since when, and how many messages came by themselves when it was back. */
let lost;

/**
 * Says how a break ended. `missed` messages were in the room's history and had not come by themselves: with a recovered session that
 * would be a fault of the server, else the history is what brings them. Where something is forgotten, nobody can say how much.
 */
function showReturn({ recovered, missed, gap, isKept }) {
  const seconds = Math.max(1, Math.round((performance.now() - lost.since) / 1_000));
  const { caughtUp } = lost;
  const isLost = gap || (recovered && missed > 0);
  const state = !isKept ? "unknown" : isLost ? "bad" : "good";
  const loss = !isKept ? "unknown" : gap ? "some" : recovered ? String(missed) : "0";
  const found = recovered || !isKept ? caughtUp : caughtUp + missed;
  $("fact-break").textContent = `${seconds} s`;
  $("fact-recovered").textContent = recovered ? "yes" : "no";
  $("fact-caught").textContent = String(found);
  $("fact-missed").textContent = loss;
  $("fact-missed").dataset.state = state;
  const caught = found === 1 ? "1 message caught up" : `${found} messages caught up`;
  showLine(`Back after ${seconds} s: recovered ${recovered ? "yes" : "no"}, ${caught}, missed ${loss}`, `return ${state}`);
}

$("cut").addEventListener("click", () => {
  if (!socket.connected) return;
  // As when a network goes: the transport ends, nobody says goodbye, and the client comes back by itself.
  socket.io.reconnectionDelay(CUT_MS);
  socket.io.engine.close();
});

socket.on("disconnect", (reason) => {
  // Who leaves by themselves has not lost anything.
  if (joined && reason !== "io client disconnect") lost ??= { since: performance.now(), caughtUp: 0 };
  joined = false;
  attempt = 0;
  showTransport();
  showRoundTrip();
  $("fact-socket").textContent = "–";
  $("cut").disabled = true;
  for (const key of typists.keys()) stopsTyping(key);
  if (reason === "io client disconnect") showState("connecting", "Connecting…");
  else if (socket.active) announceAttempt();
  else showState("disconnected", "Disconnected", "Disconnected by the server.");
  showPeople();
});

socket.on("connect_error", () => {
  // A server that cannot be reached is tried again by the client; one that refused is not.
  if (!socket.active) showState("disconnected", "Disconnected", "The server refused the connection.");
  else if ($("status").dataset.state === "connecting") announceAttempt();
});

socket.on("chat", hear);
socket.on("typing", receiveTyping);
socket.on("room:joined", (where, member) => { if (where === room) comes(member); });
socket.on("room:left", (where, member) => { if (where === room) leaves(member); });

// Says goodbye in time; a page that the browser wakes up again comes back.
addEventListener("pagehide", () => socket.disconnect());
addEventListener("pageshow", (event) => { if (event.persisted) socket.connect(); });

function restart() {
  attempt = 0;
  socket.disconnect();
  socket.connect();
}

$("retry").addEventListener("click", () => {
  showState("connecting", "Connecting…");
  restart();
});

function refuse(answer) {
  socket.disconnect();
  showState("disconnected", "Not in the room");
  $("offline").hidden = true;
  $("empty").hidden = true;
  $("closed").hidden = false;
  $("closed-reason").textContent = answer?.message ?? "The server did not say why.";
  $("text").placeholder = "Nobody can write here";
  $("text").disabled = true;
  $("send").disabled = true;
}

// Writing -------------------------------------------------------------------------------------------------------------

const text = $("text");
/** When the room was last told that somebody types here; undefined when it believes that nobody does. */
let toldAt;
let typingStop;

function textLength() {
  return Array.from(text.value.trim()).length;
}

function review() {
  const length = textLength();
  const over = length - MAX_TEXT;
  $("send").disabled = length === 0 || over > 0;
  $("length").classList.toggle("over", over > 0);
  $("length").textContent =
    over > 0 ? `${over} too many` : length > MAX_TEXT - 200 ? `${MAX_TEXT - length} left` : "";
  text.setAttribute("aria-invalid", String(over > 0));
  // As high as what is written; the style sheet sets the limit.
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight}px`;
  keepPinned();
}

function tellTyping(typing) {
  clearTimeout(typingStop);
  if (typing) typingStop = setTimeout(() => tellTyping(false), 2 * TYPING_REPEAT_MS);
  const now = performance.now();
  if (typing ? now - toldAt < TYPING_REPEAT_MS : toldAt === undefined) return;
  toldAt = typing ? now : undefined;
  if (joined) socket.emit("room:emit", room, "typing", { name, typing, from: tab }, () => {});
}

text.addEventListener("input", () => {
  review();
  tellTyping(textLength() > 0);
});
text.addEventListener("blur", () => tellTyping(false));
text.addEventListener("keydown", (event) => {
  // While an input method composes, Enter belongs to it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const length = textLength();
  if (length === 0 || length > MAX_TEXT || text.disabled) return;
  write(text.value.trim());
  text.value = "";
  review();
  tellTyping(false);
  text.focus();
});

// The own name --------------------------------------------------------------------------------------------------------

const dialog = $("name-dialog");

function showName() {
  $("me-name").textContent = name;
  stamp($("me-stamp"), tab, name);
}

$("name-edit").addEventListener("click", () => {
  $("name").value = name;
  dialog.showModal();
  $("name").select();
});
$("name-other").addEventListener("click", () => {
  $("name").value = friendlyName();
  $("name").focus();
});
$("name-cancel").addEventListener("click", () => dialog.close());
dialog.addEventListener("pointerdown", (event) => { if (event.target === dialog) dialog.close(); });
$("name-form").addEventListener("submit", (event) => {
  const wanted = cleanName($("name").value);
  if (!wanted) return event.preventDefault();
  if (wanted === name) return;
  name = wanted;
  memory.set("localStorage", NAME_KEY, name);
  showName();
  // The room knows its members by what they said when they connected, so a new name is a new connection.
  socket.auth = { info: { name, from: tab } };
  if (socket.connected) restart();
});

// Start ---------------------------------------------------------------------------------------------------------------

$("room").textContent = room;
for (const link of document.querySelectorAll(".second-tab")) link.href = location.pathname + location.search;
countUnread(0);
showName();
review();
// On a touch screen this would open the keyboard over the conversation.
if (matchMedia("(pointer: fine)").matches) text.focus();

// Where an on-screen keyboard covers the page, the page ends above it.
window.visualViewport?.addEventListener("resize", () => {
  if (window.visualViewport.scale !== 1) return;
  document.documentElement.style.setProperty("--visible-height", `${window.visualViewport.height}px`);
  window.scrollTo(0, 0);
  keepPinned();
});
