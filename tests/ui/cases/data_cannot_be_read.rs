//~ cannot handle events
//~ `fn(Data<Order>)

use posthaste::{Data, Server};

struct Order;

async fn buy(Data(_order): Data<Order>) {}

fn main() {
    let io = Server::new().unwrap();
    io.on("buy", buy);
}
