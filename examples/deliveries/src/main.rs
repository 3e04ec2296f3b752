//! How does an event of one client become work for another, whose answer is the answer? By a route into a queue that clients consume. Run it and
//! open <http://localhost:3000> in two tabs: one orders, the other drives. Close the one that drives in the middle of a delivery.

use std::sync::Arc;
use std::time::Duration;

use axum::{Router, response::Html, routing::get};
use posthaste::queue::MemoryQueues;
use posthaste::{QueueRoute, QueueVerb, Server, Socket, WorkQueues};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // In memory: `posthaste-backend-embedded` has queues on the disk, and orders outlive the process.
    let store = Arc::new(MemoryQueues::new(MemoryQueues::limits(), 1));
    let io = Server::builder().queues(WorkQueues::new(store).permit(may)).build()?;
    // Those who order know nothing of queues: they emit, and wait for an answer. Orders of one customer are delivered one after the other.
    io.add_route(QueueRoute::new("order:*", "deliveries").key("/0/customer").timeout(Duration::from_secs(600)))?;

    let page = Router::new().route("/", get(|| async { Html(include_str!("../index.html")) }));
    let listener = io.listen_with(([127, 0, 0, 1], 3000).into(), page)?;
    println!("listening on http://{}", listener.local_addr());
    std::thread::park();
    Ok(())
}

/// What clients may do in the namespace `/queues`. Who somebody is, a middleware would say (`socket.identity()`).
fn may(_: &Socket, verb: QueueVerb, queue: &str) -> bool {
    queue == "deliveries" && matches!(verb, QueueVerb::Consume | QueueVerb::Stats)
}
