"""What python-socketio must be able to do with the conformance app: the scenarios of ../scenarios.mjs, for its clients."""

import asyncio
from urllib.parse import urlsplit

import socketio

from peers import Cable, until

SCENARIOS = {}


def scenario(name):
    """Enters a coroutine function of a `Cell` under `name`."""

    def enter(function):
        SCENARIOS[name] = function
        return function

    return enter


class Cell:
    """One place of the matrix: a client, and the way in which it connects."""

    count = 0

    def __init__(self, kind, url, mode):
        self.kind, self.url, self.mode = kind, url, mode
        self.transport = "polling" if mode == "polling" else "websocket"
        self.peers = []
        Cell.count += 1
        self.name = f"cell-{Cell.count}"

    def peer(self, url=None, **options):
        peer = self.kind(url or self.url, self.mode, **{"reconnection": False, **options})
        self.peers.append(peer)
        return peer

    async def connect(self, namespaces=("/",), **options):
        return await self.peer().connect(namespaces, **options)

    async def close(self):
        for peer in self.peers:
            await peer.close()


def equal(actual, expected):
    if actual != expected:
        raise AssertionError(f"{str(actual)[:500]} is not {str(expected)[:500]}")


async def departure(watcher, sid):
    """What the server calls the way in which `sid` left."""
    while (reason := await watcher.ask("last-disconnect", sid)) is None:
        await asyncio.sleep(0.01)
    return reason


def data(length):
    return bytes(i * 7 % 256 for i in range(length))


@scenario("connect with auth and query")
async def connect(cell):
    auth = {"user": "ada", "nested": {"list": [1, None, "x"]}}
    peer = await cell.connect(auth=auth, query="?room=a%20b%26c%3Dd")
    seen = await peer.ask("whoami")
    equal(
        [seen["id"], seen["nsp"], seen["auth"], seen["transport"], seen["eio"], seen["query"]["room"]],
        [peer.id(), "/", auth, cell.transport, 4, "a b&c=d"],
    )
    equal(peer.transport, cell.transport)


@scenario("several namespaces over one connection")
async def namespaces(cell):
    peer = await cell.connect(("/", "/custom"))
    equal((await peer.ask("whoami"))["nsp"], "/")
    equal((await peer.ask("whoami", namespace="/custom"))["nsp"], "/custom")
    equal(peer.id("/") != peer.id("/custom"), True)
    await peer.emit("echo", "for one", namespace="/custom")
    equal(await peer.next("echo", namespace="/custom"), ("for one",))
    await peer.ask("echo", 1)
    equal(peer.args_of("echo"), [])


@scenario("events with arguments of every kind")
async def events(cell):
    peer = await cell.connect()
    for number, args in enumerate([
        (),
        (None, True, False, 0, -0.5, 1e21, 5e-324),
        ("", "ŭñíçødé 日本 👩‍👩‍👧‍👦", '\x00\x1e\u2028"\\/', '451-["x"]'),
        ({"a": [1, {"b": [None, {"c": "d"}]}]}, [], {}, [[[]]]),
    ]):
        await peer.emit("echo", *args)
        equal(await peer.next("echo", number + 1), args)
    await peer.emit("événement 日本", 1, "two")
    equal(await peer.next("unhandled"), ("événement 日本", 1, "two"))


@scenario("binary both ways")
async def binary(cell):
    peer = await cell.connect()
    some = data(300)
    for number, args in enumerate([(some,), (b"",), ("a", some, {"b": [some, {"c": some}]}, "d"), (some,) * 10]):
        await peer.emit("echo", *args)
        equal(await peer.next("echo", number + 1), args)
    equal(await peer.ask("bin-info", some, {"a": [some[:7]]}), {"count": 2, "bytes": 307})


@scenario("acknowledgements both ways, with binary")
async def acknowledgements(cell):
    peer = await cell.connect()
    some = data(40)
    equal(await peer.ask("echo", 1, {"two": some}), (1, {"two": some}))
    peer.answers["question"] = lambda about: ("answer", about, some)
    equal(await peer.ask("ask", "question", 10_000, [some]), (None, "answer", some, some))
    peer.answers["empty"] = lambda: ()
    equal(await peer.ask("ask", "empty", 10_000, []), None)
    for number in range(30):
        equal(await peer.ask("echo", number), number)


@scenario("volatile events")
async def volatile(cell):
    peer = await cell.connect()
    await peer.ask("volatile-burst", 200, 100)
    equal(await peer.next("vseq-end"), (200,))
    numbers = [number for number, _ in peer.args_of("vseq")]
    equal(numbers, sorted(set(numbers)))


@scenario("rooms and broadcasts")
async def rooms(cell):
    a, b, c = [await cell.connect() for _ in range(3)]
    r, s = f"{cell.name}-r", f"{cell.name}-s"
    equal(await a.ask("join", [r, s]), sorted([a.id(), r, s]))
    await b.ask("join", r)
    await c.ask("join", s)
    peers = {"a": a, "b": b, "c": c}
    for number, (sender, options, expected) in enumerate([
        (c, {"via": "io", "to": r}, "ab"),
        (a, {"via": "socket", "to": r}, "b"),
        (b, {"via": "io", "to": [r, s]}, "abc"),
        (b, {"via": "io", "to": [r, s], "except": s}, "b"),
        (a, {"via": "io", "to": c.id()}, "c"),
    ]):
        event = f"news-{number}"
        args = (number, {"data": data(5)})
        equal(await sender.ask("bcast", options, event, list(args)), "ok")
        heard = lambda: "".join(name for name, peer in peers.items() if peer.args_of(event))
        await until(lambda: len(heard()) >= len(expected), f"{event} at {expected}")
        # What was on its way to the others would arrive before the answer to this.
        for peer in peers.values():
            await peer.ask("echo")
        equal(heard(), expected)
        for name in expected:
            equal(peers[name].args_of(event), [args])
    for name, peer in peers.items():
        peer.answers["vote"] = lambda name=name: name
    error, votes = await a.ask("bcast-ack", {"via": "io", "to": [r, s], "timeout": 10_000}, "vote", [])
    equal((error, sorted(votes)), (None, ["a", "b", "c"]))
    equal(await a.ask("leave", [r, s]), [a.id()])


@scenario("a refused connection")
async def refused(cell):
    for auth, expected in [
        ({"token": "bad"}, {"message": "not authorized", "data": {"code": 401, "hint": "token"}}),
        ({"token": "good", "banned": True}, {"message": "banned"}),
    ]:
        peer = cell.peer()
        try:
            await peer.connect(("/auth",), auth=auth)
        except socketio.exceptions.ConnectionError:
            equal(await peer.next("connect_error", namespace="/auth"), (expected,))
        else:
            raise AssertionError("connected")
    peer = await cell.connect(("/auth",), auth={"token": "good"})
    equal((await peer.ask("whoami", namespace="/auth"))["nsp"], "/auth")


@scenario("leaving, by the client")
async def leaving(cell):
    watcher = await cell.connect()
    peer = await cell.connect()
    sid = peer.id()
    await peer.drained()
    await peer.run(peer.client.disconnect)
    equal(await peer.next("disconnect"), ("client disconnect",))
    # And it closes a WebSocket without waiting for the goodbye to be sent.
    reason = await departure(watcher, sid)
    equal(reason in ("client namespace disconnect", "transport close"), True)


@scenario("being disconnected by the server")
async def disconnected(cell):
    watcher = await cell.connect()
    for close in (False, True):
        peer = await cell.connect(("/", "/custom"))
        sid = peer.id()
        await peer.emit("kick", close)
        (reason,) = await peer.next("disconnect")
        # `Client` reads on one thread and handles on another: which hears first of a connection that ends, is chance.
        equal(reason in ("server disconnect", *(["transport error"] if close else [])), True)
        equal(await departure(watcher, sid), "server namespace disconnect")
        if close:
            await peer.next("disconnect", namespace="/custom")
        else:
            equal(await peer.ask("echo", "still here", namespace="/custom"), "still here")


@scenario("reconnection")
async def reconnection(cell):
    watcher = await cell.connect()
    address = urlsplit(cell.url)
    async with Cable(address.hostname, address.port) as cable:
        peer = cell.peer(cable.url, reconnection=True, reconnection_delay=0.05, reconnection_delay_max=0.05, randomization_factor=0)
        await peer.connect()
        sid = peer.id()
        while not peer.args_of("disconnect"):
            # A polling client misses what is cut between two polls.
            cable.cut()
            await asyncio.sleep(0.1)
        equal(await peer.next("disconnect"), ("transport error",))
        await peer.next("connect", 2)
        await until(lambda: peer.client.connected, "the connection")
        equal(peer.id() != sid, True)
        equal((await peer.ask("whoami"))["recovered"], False)
        equal(await peer.ask("echo", "back"), "back")
        if cell.mode != "polling":
            equal(await departure(watcher, sid), "transport close")
        await peer.close()


@scenario("order under traffic, through the upgrade if there is one")
async def order(cell):
    peer = await cell.connect()
    sent = 0
    for _ in range(5):
        for _ in range(40):
            await peer.emit("count", sent)
            await peer.emit("echo", sent, *([data(sent)] if sent % 5 == 0 else []))
            sent += 1
        await peer.ask("burst", 20, 50)
    equal((await peer.ask("whoami"))["transport"], cell.transport)
    equal(await peer.ask("count-report"), {"received": sent, "outOfOrder": 0})
    await until(lambda: len(peer.args_of("echo")) == sent, "all echoes")
    equal([args[0] for args in peer.args_of("echo")], list(range(sent)))
    equal([number for number, _ in peer.args_of("seq")], list(range(20)) * 5)


@scenario("large payloads")
async def large(cell):
    peer = await cell.connect()
    # Python writes JSON in ASCII: an "ü" would be six bytes.
    text = "u" * 800_000
    equal(await peer.ask("echo", text) == text, True)
    some = data(200_000)
    equal(await peer.ask("bin-info", some, some, some), {"count": 3, "bytes": 600_000})
    much = data(500_000)
    equal(await peer.ask("echo", much) == much, True)
    await peer.ask("burst", 3, 700_000)
    equal([len(text) for _, text in peer.args_of("seq")], [700_000] * 3)


@scenario("heartbeats keep the connection")
async def heartbeats(cell):
    # Ping every 300 ms, 2.5 s to answer.
    peer = cell.kind(cell.url, cell.mode, path="steady", reconnection=False)
    cell.peers.append(peer)
    await peer.connect()
    await asyncio.sleep(3.3)
    equal(peer.args_of("disconnect"), [])
    equal(await peer.ask("echo", "still here"), "still here")
