"""A worker of one queue, until it is killed.

    python queues.py http://127.0.0.1:3000 sync websocket queue [path]

The job is what was put, or the first argument of an event that a route made one.
"""

import asyncio
import sys

import socketio


def work(job):
    if "event" in job:
        job = job["args"][0]
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


def main(url, kind, transport, queue, path="working"):
    options = {"socketio_path": path, "transports": [transport], "namespaces": ["/queues"]}
    if kind == "async":
        asyncio.run(run_async(url, options, queue))
    else:
        run_sync(url, options, queue)


main(*sys.argv[1:])
