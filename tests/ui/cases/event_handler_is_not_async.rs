//~ cannot handle events
//~ an event handler is an `async fn` or async closure

use posthaste::{Data, Server};

fn chat(Data(text): Data<String>) {
    drop(text);
}

fn main() {
    let io = Server::new().unwrap();
    io.on("chat", chat);
}
