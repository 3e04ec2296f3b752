//! What handlers do that are called because somebody posted something: in order with everything else.

use posthaste::{Server, Socket};
use serde_json::json;

use crate::peer::{Peer, plain, recovering};

/// Disconnected from another thread, a socket's handlers run where its worker takes the word for it.
#[tokio::test]
async fn what_a_handler_sends_goes_before_what_it_does_next_whoever_caused_it() {
    let (running, sockets) = recovering(plain(), |io| {
        let last_words = async |io: Server, socket: Socket| {
            io.to("game").emit("over", &socket.id()).now().unwrap();
            io.to("game").sockets_leave("game").now().unwrap();
        };
        io.on_disconnecting(last_words);
    });
    let mut witness = Peer::join(running.addr).await;
    for round in 0..3 {
        let leaving = Peer::join(running.addr).await;
        let socket = sockets.all()[1 + round].clone();
        witness.client.emit(r#"["join","game"]"#).await;
        witness.sync().await;
        match round {
            0 => socket.disconnect(false),
            1 => running.io.to(leaving.id.as_str()).disconnect_sockets(true).await.unwrap(),
            _ => {}
        }
        let id = leaving.id.clone();
        if round == 2 {
            leaving.client.reset();
        }
        witness.expect(json!(["over", id])).await;
    }
}
