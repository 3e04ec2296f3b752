"""One connection of somebody's device: hears so many notes, answers each, and tells what it heard.

    python inbox.py http://127.0.0.1:3000 sync websocket ada 3
"""

import asyncio
import json
import sys
import time

import socketio

PATIENCE = 20


def hear_sync(url, options, count):
    heard = []
    client = socketio.Client(reconnection=False)

    @client.on("note")
    def note(value):
        heard.append(value)
        # Whatever it returns is the answer.
        return "taken"

    client.connect(url, **options)
    deadline = time.monotonic() + PATIENCE
    while len(heard) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    # Behind its answers.
    client.call("sync", timeout=PATIENCE)
    client.disconnect()
    return heard


async def hear_async(url, options, count):
    heard = []
    client = socketio.AsyncClient(reconnection=False)

    @client.on("note")
    async def note(value):
        heard.append(value)
        return "taken"

    await client.connect(url, **options)
    deadline = time.monotonic() + PATIENCE
    while len(heard) < count and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    await client.call("sync", timeout=PATIENCE)
    await client.disconnect()
    return heard


def main(url, kind, transport, user, count):
    options = {"socketio_path": "inbox", "transports": [transport], "auth": {"user": user, "device": "python"}}
    heard = asyncio.run(hear_async(url, options, int(count))) if kind == "async" else hear_sync(url, options, int(count))
    print(json.dumps(heard))


main(*sys.argv[1:])
