//~ cannot handle events
//~ whose result is `()`, `Result<impl Serialize, impl Display>` or `Answer`

use posthaste::Server;

async fn count() -> usize {
    7
}

fn main() {
    let io = Server::new().unwrap();
    io.on("count", count);
}
