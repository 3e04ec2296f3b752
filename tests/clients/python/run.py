"""Runs every scenario with both clients over every transport against the conformance app at a given address.

    python run.py http://127.0.0.1:3000

Writes a JSON line per cell of the matrix: client, version, runtime, mode, scenario, and error (null when all went well).
"""

import asyncio
import json
import platform
import sys
import traceback
from importlib.metadata import version

from peers import TRANSPORTS, AsyncPeer, SyncPeer
from scenarios import SCENARIOS, Cell

AT_ONCE = 4


async def run(kind, url, mode, name, turns):
    cell = Cell(kind, url, mode)
    error = None
    async with turns:
        try:
            await asyncio.wait_for(SCENARIOS[name](cell), 60)
        except (Exception, asyncio.CancelledError):
            error = traceback.format_exc()
        try:
            await cell.close()
        except Exception:
            error = error or traceback.format_exc()
    client = {"client": f"python-socketio {kind.name}", "version": version("python-socketio"), "runtime": f"Python {platform.python_version()}"}
    print(json.dumps({**client, "mode": mode, "scenario": name, "error": error}), flush=True)


async def main(url):
    turns = asyncio.Semaphore(AT_ONCE)
    cells = [(kind, url, mode, name, turns) for kind in (SyncPeer, AsyncPeer) for mode in TRANSPORTS for name in SCENARIOS]
    await asyncio.gather(*(run(*cell) for cell in cells))


asyncio.run(main(sys.argv[1]))
