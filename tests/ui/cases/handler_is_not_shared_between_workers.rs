//~ `Rc<i32>` cannot be sent between threads safely
//~ required for

use std::rc::Rc;

use posthaste::Server;

fn main() {
    let io = Server::new().unwrap();
    let seen = Rc::new(7);
    io.on("chat", move || {
        let seen = seen.clone();
        async move { drop(seen) }
    });
}
