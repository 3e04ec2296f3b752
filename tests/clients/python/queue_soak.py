"""A worker, or a producer, of queues that is there to be killed: it writes down what happens to it, a line at a time, before it
says anything.

    python queue_soak.py work http://127.0.0.1:3000 notes.jsonl queue...
    python queue_soak.py put http://127.0.0.1:3000 notes.jsonl queue...

A producer puts while its standard input says so: `go`, and `stop`, which it answers with a line when it has all its receipts, or
will never have them.
"""

import asyncio
import json
import os
import random
import sys
import time

import socketio

NAMESPACE = "/queues"
PATIENCE = 2


class Notes:
    def __init__(self, path):
        self.file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, what, **fields):
        line = json.dumps({"t": time.time() * 1000, "what": what, **fields})
        os.write(self.file, (line + "\n").encode())


def verdict(work, queue, deliveries, failures):
    if queue == "graves":
        return {"do": "done"}
    if work == "flaky" and failures == 0:
        return {"do": "retry", "in": 10, "why": "not yet"}
    if work == "doomed":
        return {"do": "retry", "in": 5, "why": f"failure {failures + 1}"}
    if work == "hopeless":
        return {"do": "dead", "why": "hopeless"}
    if work == "release" and deliveries == 1:
        return {"do": "release"}
    return {"do": "done"}


def connected(notes):
    client = socketio.AsyncClient(reconnection_delay=0.02, reconnection_delay_max=0.1, randomization_factor=0.2)

    @client.on("disconnect", namespace=NAMESPACE)
    async def lost(*_):
        notes.write("lost")

    return client


async def work(url, notes, queues):
    client = connected(notes)

    @client.on("connect", namespace=NAMESPACE)
    async def connect():
        for queue in queues:
            await client.emit("q:consume", (queue, {"prefetch": 3}), namespace=NAMESPACE)

    @client.on("q:revoked", namespace=NAMESPACE)
    async def revoked(id, reason, more, *_):
        notes.write("revoked", id=id, token=more["token"], reason=reason)

    @client.on("job", namespace=NAMESPACE)
    async def job(payload, meta):
        fields = {name: meta[name] for name in ("id", "queue", "token", "deliveries", "failures", "deadline")}
        notes.write("got", name=payload["name"], **fields)
        await asyncio.sleep(random.random() * 0.004)
        said = verdict(payload["work"], meta["queue"], meta["deliveries"], meta["failures"])
        notes.write("said", id=meta["id"], token=meta["token"], said=said["do"])
        # Whatever it returns is the answer.
        return None if said["do"] == "done" else {"$q": said}

    await client.connect(url, namespaces=[NAMESPACE], transports=["websocket"], retry=True)
    await client.wait()


async def put(url, notes, queues):
    client = connected(notes)
    await client.connect(url, namespaces=[NAMESPACE], transports=["websocket"], retry=True)
    going, busy = asyncio.Event(), asyncio.Lock()

    async def orders():
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            if line.strip() == "go":
                going.set()
            else:
                going.clear()
                async with busy:
                    print("stopped", flush=True)
        os._exit(0)

    listening = asyncio.create_task(orders())
    prefix = os.getpid()
    for number in range(1 << 30):
        await going.wait()
        async with busy:
            if not going.is_set():
                continue
            if not client.connected or NAMESPACE not in client.namespaces:
                await asyncio.sleep(0.01)
                continue
            queue = queues[number % len(queues)]
            name = f"python-{prefix}-{number}"
            notes.write("puts", queue=queue, name=name, work="quick")
            try:
                arguments = (queue, {"name": name, "work": "quick"}, {"priority": number % 3})
                answer = await client.call("q:put", arguments, namespace=NAMESPACE, timeout=PATIENCE)
            except (socketio.exceptions.SocketIOError, ValueError):
                continue
            if answer["ok"]:
                notes.write("receipt", name=name, id=answer["id"])
            else:
                notes.write("refused", name=name, code=answer["code"])
                await asyncio.sleep(0.02)
    await listening


def main(what, url, path, *queues):
    asyncio.run({"work": work, "put": put}[what](url, Notes(path), queues))


main(*sys.argv[1:])
