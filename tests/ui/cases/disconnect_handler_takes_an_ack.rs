//~ cannot handle disconnections
//~ whose arguments, up to eight, are extractors (`Socket`, `DisconnectReason`, `State<T>`, …)

use posthaste::{Ack, Server};

async fn gone(_ack: Ack) {}

fn main() {
    let io = Server::new().unwrap();
    io.on_disconnect(gone);
}
