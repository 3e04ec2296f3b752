"""How does a program in Python do what a browser waits for? By taking jobs from the server's queue: what its handler returns is the answer.

    pip install "python-socketio[client]" pillow
    cargo run -p posthaste-example-thumbnails -- --worker python
    python examples/thumbnails/worker.py [http://localhost:3000]
"""

import sys

try:
    import socketio
    from PIL import Image
except ImportError as missing:
    sys.exit(f'{missing}. What this worker needs: pip install "python-socketio[client]" pillow')

SIDE = 96  # the longer side of a thumbnail

# Of the two clients this one calls handlers on threads, where they may take a processor for a while: pings are answered meanwhile.
client = socketio.Client()


@client.on("connect", namespace="/queues")
def connected():
    # At each connection: after the server was started anew it knows nothing of this worker.
    client.emit("q:consume", ("thumbnails", {"prefetch": 2}), namespace="/queues", callback=told)


def told(answer):
    print("waiting for pictures" if answer["ok"] else answer["message"], flush=True)


@client.on("job", namespace="/queues")
def shrink(task, meta):
    """One picture. If this process is killed before it has returned, another worker has the job at once."""
    picture = task["image"]
    try:
        image = Image.frombytes("RGBA", (picture["width"], picture["height"]), picture["pixels"])
    except ValueError as error:
        # Trying again would not help.
        return {"$q": {"do": "dead", "why": f"that is no picture: {error}"}}
    image.thumbnail((SIDE, SIDE))
    print(f"job {meta['id']}: {picture['width']} x {picture['height']} is {image.width} x {image.height} now", flush=True)
    return {"width": image.width, "height": image.height, "pixels": image.tobytes()}


client.connect(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:3000", namespaces=["/queues"], retry=True)
try:
    client.wait()
except KeyboardInterrupt:
    client.disconnect()
