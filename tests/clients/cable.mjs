// A TCP proxy between clients and a server, to be cut.

import net from "node:net";

/** The way to a server. Clients connect to `url`; what is opened through it is closed with the server's other things. */
export class Cable {
  #listener;
  #port;
  /** One per connection: both its ends, whether it carries nothing any more, since when a GET waits for its answer. */
  #wires = new Set();
  /** Whether new connections find nobody, or a hole. */
  #state = "open";
  /** Bytes to the client after which everything is cut. */
  #budget = Infinity;
  /** Bytes of clients that went into the hole. */
  swallowed = 0;

  static async to(server) {
    const cable = new Cable();
    cable.#port = server.port;
    cable.#listener = net.createServer((client) => cable.#connect(client));
    await new Promise((resolve) => cable.#listener.listen(0, "127.0.0.1", resolve));
    cable.url = `http://127.0.0.1:${cable.#listener.address().port}`;
    server.onCleanup(() => {
      cable.#listener.close();
      cable.cut();
    });
    return cable;
  }

  /** Ends every connection at once, without a goodbye; whoever comes finds nobody until `open`. */
  cut() {
    this.#state = "closed";
    this.#budget = Infinity;
    for (const wire of this.#wires) {
      wire.client.destroy();
      wire.server.destroy();
    }
  }

  /** Cuts everything once so many more bytes have gone to clients. */
  cutAfter(bytes) {
    this.#budget = bytes;
  }

  /** Swallows everything from now on, on connections there are and on new ones: neither side learns that the other is away. */
  sever() {
    this.#state = "severed";
    this.swallowed = 0;
    for (const wire of this.#wires) wire.dead = true;
  }

  /** New connections reach the server. Those that were severed stay so. */
  open() {
    this.#state = "open";
  }

  get isCut() {
    return this.#state === "closed";
  }

  /** Whether some GET has waited for its answer for a moment: a poll is under way, and not about to be answered. */
  get isAwaited() {
    const isLong = (since) => since !== undefined && performance.now() - since >= 50;
    return [...this.#wires].some(({ awaited }) => isLong(awaited));
  }

  #connect(client) {
    if (this.#state === "closed") return client.destroy();
    const wire = { client, server: net.connect(this.#port, "127.0.0.1"), dead: this.#state === "severed", awaited: undefined };
    this.#wires.add(wire);
    client.on("data", (data) => {
      const isGet = data.subarray(0, 4).toString("latin1") === "GET ";
      wire.awaited = undefined;
      if (wire.dead) this.swallowed += data.length;
      // Not before it has left: on a connection that is not up yet a cut would take it back.
      else wire.server.write(data, (error) => { wire.awaited = isGet && !error ? performance.now() : undefined; });
    });
    wire.server.on("data", (data) => {
      if (wire.dead) return;
      wire.awaited = undefined;
      const part = data.subarray(0, this.#budget);
      client.write(part);
      this.#budget -= part.length;
      if (this.#budget === 0) this.cut();
    });
    // A half that is closed closes the other, unless nobody is to know.
    for (const [end, other] of [[client, wire.server], [wire.server, client]]) {
      end.on("error", () => {});
      end.on("close", () => {
        if (!wire.dead) other.destroy();
        if (client.destroyed && wire.server.destroyed) this.#wires.delete(wire);
      });
    }
  }
}
