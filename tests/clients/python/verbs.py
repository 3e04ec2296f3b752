"""The verbs of rooms with one of python-socketio's clients; the exit code says whether all went well.

    python verbs.py http://127.0.0.1:3000 sync|async ROOM

ROOM is durable and open to everybody. The client knows nothing of recovery: it comes back with the offset of the last event.
"""

import asyncio
import sys

from peers import AsyncPeer, SyncPeer


async def connected(kind, url):
    return await kind(url, "websocket", path="socket.io").connect()


async def verb(peer, event, *args):
    answer = await peer.ask(event, *args)
    assert answer["ok"] is True, (event, args, answer)
    return answer


async def main(url, kind, room):
    peer = await connected({"sync": SyncPeer, "async": AsyncPeer}[kind], url)
    joined = await verb(peer, "room:join", room)
    assert len(joined["offset"]) == 23, joined
    receipt = await verb(peer, "room:emit", room, "chat", {"text": "one"}, b"\x00\x01")
    assert receipt["class"] == "disk", receipt
    message, data, offset = await peer.next("chat")
    assert (message, data) == ({"text": "one"}, b"\x00\x01"), peer.heard
    assert offset.startswith(receipt["offset"]), offset
    await peer.close()

    peer = await connected(type(peer), url)
    for text in ("two", "three"):
        await verb(peer, "room:emit", room, "chat", {"text": text})
    # What was missed, from where the client was.
    back = await verb(peer, "room:join", room, {"after": offset})
    assert [event["args"][0]["text"] for event in back["history"]] == ["two", "three"], back
    assert (back["complete"], back["gap"]) == (True, False), back
    page = await verb(peer, "room:history", room, {"limit": 10})
    assert [event["n"] for event in page["events"]] == [1, 2, 3], page
    assert page["events"][0]["args"] == [{"text": "one"}, b"\x00\x01"], page
    refused = await peer.ask("room:join", "nowhere")
    assert (refused["ok"], refused["code"]) == (False, "forbidden"), refused
    await verb(peer, "room:leave", room)
    await peer.close()


url, kind, room = sys.argv[1:]
asyncio.run(asyncio.wait_for(main(url, kind, room), 45))
