"""A worker of one queue, until it is killed.

    python queues.py http://127.0.0.1:3000 sync websocket queue
"""

import asyncio
import sys

import socketio


def work(job):
    match job["do"]:
        case "double":
            return job["value"] * 2
        case "nothing":
            return None
        case "dead":
            return {"$q": {"do": "dead", "why": "on purpose"}}
    raise RuntimeError("on purpose")


def run_sync(url, options, queue):
    client = socketio.Client()

    @client.on("job", namespace="/queues")
    def job(payload, meta):
        # Whatever it returns is the answer.
        return work(payload)

    client.connect(url, **options)
    client.call("q:consume", (queue, {"prefetch": 4, "lease": 3_600_000}), namespace="/queues")
    client.wait()


async def run_async(url, options, queue):
    client = socketio.AsyncClient()

    @client.on("job", namespace="/queues")
    async def job(payload, meta):
        return work(payload)

    await client.connect(url, **options)
    await client.call("q:consume", (queue, {"prefetch": 4, "lease": 3_600_000}), namespace="/queues")
    await client.wait()


def main(url, kind, transport, queue):
    options = {"socketio_path": "working", "transports": [transport], "namespaces": ["/queues"]}
    if kind == "async":
        asyncio.run(run_async(url, options, queue))
    else:
        run_sync(url, options, queue)


main(*sys.argv[1:])
