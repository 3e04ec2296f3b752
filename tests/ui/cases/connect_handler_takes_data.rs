//~ cannot handle connections
//~ whose arguments, up to eight, are extractors (`Socket`, `Auth<T>`, `State<T>`, …)

use posthaste::{Data, Server};

async fn welcome(Data(_name): Data<String>) {}

fn main() {
    let io = Server::new().unwrap();
    io.on_connect(welcome);
}
