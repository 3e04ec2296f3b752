//~ `Order` cannot be sent as the arguments of an event
//~ derive `serde::Serialize` for it

use posthaste::Server;

struct Order;

fn main() {
    let io = Server::new().unwrap();
    drop(io.emit("order", &Order));
}
