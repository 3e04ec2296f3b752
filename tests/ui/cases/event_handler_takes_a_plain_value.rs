//~ cannot handle events
//~ whose arguments, up to eight, are extractors (`Socket`, `Data<T>`, `Ack`, …)

use posthaste::Server;

async fn chat(text: String) {
    drop(text);
}

fn main() {
    let io = Server::new().unwrap();
    io.on("chat", chat);
}
