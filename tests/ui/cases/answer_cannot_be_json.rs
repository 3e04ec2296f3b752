//~ cannot handle events
//~ `Result<impl Serialize, impl Display>` or `Answer`

use posthaste::{Answer, Server};

struct Receipt;

async fn buy() -> Answer<Receipt> {
    Answer(Receipt)
}

fn main() {
    let io = Server::new().unwrap();
    io.on("buy", buy);
}
