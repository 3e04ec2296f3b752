//! How does a shop hear what became of its pickups, whoever is away or killed in between? By a queue that drivers take pickups from, an inbox for each
//! shop, and a store on the disk for both. Run it and open <http://localhost:3000> in two tabs: in one announce pickups, in the other drive. Close the
//! shop's tab, deliver, and open it again; close the driver's, and ten seconds later another driver has the pickup. Kill the server (Ctrl-C or
//! `kill -9`) whenever you like, and run it again.

use std::sync::Arc;

use axum::{Router, response::Html, routing::get};
use posthaste::{
    Auth, ConnectError, Data, Durable, DurableError, Inbox, QueueError, QueueVerb, Server, Socket, WorkQueues,
};
use posthaste_backend_embedded::{Config, EmbeddedStore};
use serde::{Deserialize, Serialize};

/// What a shop has for somebody.
#[derive(Serialize, Deserialize)]
struct Pickup {
    shop: String,
    what: String,
}

/// What became of it.
#[derive(Serialize)]
struct News {
    what: String,
    state: String,
    driver: Arc<str>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join("posthaste-example-deliveries");
    let store = Arc::new(EmbeddedStore::open(Config::new(&folder))?);
    // Drivers are clients of `/queues`, and may take pickups there. Pickups themselves are put by `announce`.
    let queues =
        WorkQueues::new(store.queues()?).permit(|_, verb, queue| verb == QueueVerb::Consume && queue == "pickups");
    let durable = Durable { inbox: Some(Inbox::default()), ..Durable::new(store) };
    let io = Server::builder().durable(durable).queues(queues).build()?;
    io.middleware(identify);
    io.on("pickup", announce);
    let drivers = io.namespace("/queues");
    drivers.middleware(identify);
    drivers.on("news", tell);

    let page = Router::new().route("/", get(|| async { Html(include_str!("../index.html")) }));
    let listener = io.listen_with(([127, 0, 0, 1], 3000).into(), page)?;
    println!("listening on http://{}, with everything in {}", listener.local_addr(), folder.display());
    std::thread::park();
    Ok(())
}

#[derive(Deserialize)]
struct Credentials {
    name: String,
}

/// Whose inbox it is goes by this. Here everybody is believed; `examples/middleware_auth` asks for a token.
async fn identify(socket: Socket, Auth(Credentials { name }): Auth<Credentials>) -> Result<(), ConnectError> {
    if name.is_empty() {
        return Err(ConnectError::new("a name is needed"));
    }
    socket.identify(name);
    Ok(())
}

/// A shop announces a pickup. When it is answered, the pickup is on the disk. A page repeats what was not answered, under a key that it made up:
/// it is one pickup all the same.
async fn announce(io: Server, socket: Socket, Data((what, key)): Data<(String, String)>) -> Result<(), QueueError> {
    let shop = socket.identity().unwrap_or_default().to_string();
    let key = format!("{shop}/{key}");
    io.queue("pickups").put(&Pickup { shop, what }).dedup(key).await?;
    Ok(())
}

/// A driver says what became of a job before it answers the job: were it the other way round, a driver that is lost in between would leave the shop
/// without news. This way it is said again by whoever has the job next, and what the same driver says twice is in the inbox once.
async fn tell(
    io: Server,
    socket: Socket,
    Data((id, Pickup { shop, what }, state)): Data<(u64, Pickup, String)>,
) -> Result<(), DurableError> {
    let driver = socket.identity().unwrap_or_default();
    let key = format!("{id}/{state}/{driver}");
    io.user(shop).key(key).emit("news", &News { what, state, driver }).await?;
    Ok(())
}
