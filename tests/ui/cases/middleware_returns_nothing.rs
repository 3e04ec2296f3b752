//~ is no middleware
//~ whose result is `Result<(), E>` with `E: Into<ConnectError>`

use posthaste::{Server, Socket};

async fn check(_socket: Socket) {}

fn main() {
    let io = Server::new().unwrap();
    io.middleware(check);
}
