"""python-socketio's two clients behind one face, so that every scenario is written once.

`SyncPeer` drives `socketio.Client`, which runs in threads, `AsyncPeer` drives `socketio.AsyncClient`. Everything here is
awaited; what the server emits is recorded in the event loop's own thread, in the order in which the client told it.
"""

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import engineio
import socketio

# The client gives up a polling answer of more packets than this, 16 by default; servers may put any number into one.
engineio.payload.Payload.max_decode_packets = 10_000

PATIENCE = 20

TRANSPORTS = {"polling": ["polling"], "websocket": ["websocket"], "upgrade": ["polling", "websocket"]}


async def until(condition, what):
    """Waits until `condition()` is true; `what` is told if it never is."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"{what} did not happen")
        await asyncio.sleep(0.01)


class Peer:
    """One connection, by default to the mount whose events carry no offsets of recovery.

    `heard` lists what came: (namespace, event, arguments); `answers` tells what an event is answered with.
    """

    def __init__(self, url, mode, path="plain", **options):
        self.url, self.mode, self.path = url, mode, path
        self.heard = []
        self.answers = {}
        self.client = self.make(options)

    def listen(self, namespaces):
        for namespace in namespaces:
            for event in ("connect", "connect_error", "disconnect"):
                self.client.on(event, self.handler(namespace, event), namespace=namespace)
            self.client.on("*", self.catch_all(namespace), namespace=namespace)

    def handler(self, namespace, event):
        return lambda *args: self.record(namespace, event, args)

    def catch_all(self, namespace):
        def caught(event, *args):
            self.record(namespace, event, args)
            return self.answers[event](*args) if event in self.answers else None

        return caught

    def args_of(self, event, namespace="/"):
        """The arguments of each `event` that came."""
        return [args for where, name, args in self.heard if (where, name) == (namespace, event)]

    async def next(self, event, count=1, namespace="/"):
        """Waits for the `count`-th `event` and gives its arguments."""
        await until(lambda: len(self.args_of(event, namespace)) >= count, f"the event {event!r}")
        return self.args_of(event, namespace)[count - 1]

    async def ask(self, event, *args, namespace="/"):
        """Emits with an acknowledgement; gives its only argument, or all as a tuple."""
        return await self.run(self.client.call, event, args, namespace=namespace, timeout=PATIENCE)

    async def emit(self, event, *args, namespace="/"):
        await self.run(self.client.emit, event, args, namespace=namespace)

    async def connect(self, namespaces=("/",), auth=None, query=""):
        self.listen(namespaces)
        await self.run(
            self.client.connect, self.url + query, auth=auth, transports=TRANSPORTS[self.mode],
            namespaces=list(namespaces), socketio_path=self.path, wait_timeout=PATIENCE,
        )
        return self

    async def close(self):
        """Ends the connection, if there is one, without waiting for the answer to a poll: that may take until the next ping."""
        if self.client.connected:
            await self.run(self.client.eio.disconnect, abort=True)
        else:
            await self.run(self.client.shutdown)

    async def drained(self):
        """Waits until everything that was emitted is sent. On its way out, a client forgets what it has not begun to send."""
        await until(lambda: self.unsent() == 0, "the end of what is to be sent")
        # The last request may be over and its task not yet back at the queue.
        await asyncio.sleep(0.3)

    def id(self, namespace="/"):
        return self.client.get_sid(namespace)

    @property
    def transport(self):
        return self.client.transport()


class AsyncPeer(Peer):
    name = "AsyncClient"

    def make(self, options):
        return socketio.AsyncClient(handle_sigint=False, request_timeout=PATIENCE, **options)

    def unsent(self):
        return self.client.eio.queue._unfinished_tasks

    def record(self, *what):
        self.heard.append(what)

    async def run(self, function, *args, **kwargs):
        return await asyncio.wait_for(function(*args, **kwargs), 2 * PATIENCE)


class SyncPeer(Peer):
    name = "Client"

    def make(self, options):
        self.loop = asyncio.get_running_loop()
        # The client's methods are for one thread at a time.
        self.calls = ThreadPoolExecutor(1)
        client = socketio.Client(handle_sigint=False, request_timeout=PATIENCE, **options)
        # It starts a thread for every message, so that two of them may overtake each other, an event its own attachments
        # even. One thread for all of them shows the order in which they came.
        messages = ThreadPoolExecutor(1)
        start = client.eio.start_background_task

        def start_in_order(target, *args, **kwargs):
            if target == client.eio.handlers.get("message"):
                return messages.submit(target, *args, **kwargs)
            return start(target, *args, **kwargs)

        client.eio.start_background_task = start_in_order
        # And the end of the connection behind what was said before it.
        ended = client.eio.handlers["disconnect"]
        in_messages = threading.local()
        messages.submit(setattr, in_messages, "here", True).result()

        def end_in_order(*args):
            return ended(*args) if hasattr(in_messages, "here") else messages.submit(ended, *args).result(PATIENCE)

        client.eio.on("disconnect", end_in_order)
        return client

    def unsent(self):
        return self.client.eio.queue.unfinished_tasks

    def record(self, *what):
        self.loop.call_soon_threadsafe(self.heard.append, what)

    async def run(self, function, *args, **kwargs):
        call = functools.partial(function, *args, **kwargs)
        return await asyncio.wait_for(self.loop.run_in_executor(self.calls, call), 2 * PATIENCE)


class Cable:
    """A TCP forwarder between a client and the server, to be cut."""

    def __init__(self, host, port):
        self.host, self.port = host, port
        self.ends = set()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.forward, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.cut()
        self.server.close()

    def cut(self):
        """Ends every connection at once, without a goodbye."""
        for end in self.ends:
            end.transport.abort()

    async def forward(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            writer.close()
            return
        self.ends |= {writer, far_writer}
        try:
            await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        finally:
            self.ends -= {writer, far_writer}


async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
