//! The conformance app: a small server whose behaviour is fixed, so that one set of clients and checks can be pointed at any
//! Socket.IO implementation. It uses the library's public API only: what is awkward to write here is awkward for users.
//!
//! ```text
//! /health        200 "ok"
//! /socket.io/    default timers, 1,000,000 bytes at most, CORS for http://allowed.example, recovery within 2 minutes,
//!                Engine.IO 3 allowed, messages and polling answers compressed from 1,024 bytes on
//! /plain/        the same without recovery: what is emitted arrives with no offset behind it;
//!                and the client's bundle
//! /fast/         ping 300 ms, pong within 200 ms, a namespace within 1 s, an upgrade within 1 s, CORS for all
//! /steady/       ping 300 ms, pong within 2.5 s, a namespace within 2 s, an upgrade within 2 s, CORS for all:
//!                for clients on busy machines, Engine.IO 3 allowed
//! /msgpack/      default timers, packets in MessagePack, Engine.IO 3 allowed
//! /steady-msgpack/ as /steady/, packets in MessagePack
//! /hooked/       engine hooks that do what a request's headers ask for; empty dynamic namespaces are forgotten
//! /engine.io/    Engine.IO alone, ping 300 ms, pong within 200 ms, CORS for all, Engine.IO 3 allowed: what is sent comes back
//! /questions/    what sockets are asked is kept until they answer, in the folder that --data names
//! /working/      work queues in memory, open to all; /working-on/ the same with recovery
//! /returning/    with --stats: sessions are recovered within 3 s; every socket has listeners and values of its own
//! ```
//!
//! With `--suite` it is the server that an official test suite expects instead.

mod echo;
mod events;
mod hooked;
mod inboxes;
mod questions;
mod queues;
mod returning;
mod stats;
mod suites;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::routing::get;
use clap::Parser;
use posthaste::{
    Builder, Cors, Deflate, EngineLayer, HttpCompression, InboxMode, Listener, Parser as Packets, Recovery, Server,
    Workers,
};
use suites::Suite;

/// Runs the conformance app.
#[derive(Parser)]
struct Options {
    /// The port to listen on; 0 takes a free one.
    #[arg(long, env = "PORT", default_value_t = 3000)]
    port: u16,
    /// The address to listen on.
    #[arg(long, env = "HOST", default_value = "127.0.0.1")]
    host: IpAddr,
    /// I/O workers; one per core by default, one with `--suite`: some cases send two requests at once over two connections and expect
    /// them to be read in that order.
    #[arg(long)]
    workers: Option<usize>,
    /// Tells at /stats what the server holds.
    #[arg(long)]
    stats: bool,
    /// Where /questions/ keeps what has to survive; in memory by default.
    #[arg(long, env = "DATA")]
    data: Option<PathBuf>,
    /// Stands in for the server that an official test suite expects.
    #[arg(long, value_enum)]
    suite: Option<Suite>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let options = Options::parse();
    let count = options.workers.or(options.suite.is_some().then_some(1));
    let workers = count.map_or_else(Workers::start_default, Workers::start)?;
    let addr = SocketAddr::new(options.host, options.port);
    let listener = match options.suite {
        Some(suite) => suite.listen(&workers, addr)?,
        None => listen(&workers, addr, options.stats, options.data.as_deref())?,
    };
    println!("listening on {}", listener.local_addr());
    tokio::signal::ctrl_c().await?;
    listener.close();
    tokio::task::spawn_blocking(move || workers.shutdown(Duration::from_secs(4))).await?;
    Ok(())
}

/// The conformance app.
fn listen(workers: &Workers, addr: SocketAddr, with_stats: bool, data: Option<&Path>) -> anyhow::Result<Listener> {
    let main = mount(workers, main_mount("/socket.io")?.recovery(Recovery::default()))?;
    let plain = mount(workers, main_mount("/plain")?.serve_client(true))?;
    let fast = mount(workers, fast_mount())?;
    let steady = mount(workers, steady_mount())?;
    let packed = Server::builder().path("/msgpack").serve_client(false).allow_eio3(true).parser(Packets::MessagePack);
    let packed = mount(workers, packed)?;
    let steady_packed = mount(workers, steady_mount().path("/steady-msgpack").parser(Packets::MessagePack))?;
    let hooked = hooked::mount(workers)?;
    let inbox = inboxes::mount(workers, "/inbox", InboxMode::Ack)?;
    let inbox_by_offset = inboxes::mount(workers, "/inbox-by-offset", InboxMode::Offset)?;
    let questions = questions::mount(workers, data)?;
    let queues = queues::mount(workers, "/working", false)?;
    let resumed = queues::mount(workers, "/working-on", true)?;
    let echo = EngineLayer::new(echo::engine(workers, true)?);
    let mut app = axum::Router::new().route("/health", get(|| async { "ok" }));
    if with_stats {
        let owned = returning::Owned::default();
        let returning = returning::mount(workers, &owned)?;
        let mounts = vec![main.clone(), plain.clone(), fast.clone(), steady.clone(), returning.clone()];
        app = stats::route(app, mounts, owned).layer(returning.layer());
    }
    let app = app.layer(plain.layer()).layer(fast.layer()).layer(steady.layer()).layer(hooked.layer()).layer(echo);
    let app = app.layer(packed.layer()).layer(steady_packed.layer());
    let app = app.layer(inbox.layer()).layer(inbox_by_offset.layer()).layer(questions.layer());
    let app = app.layer(queues.layer()).layer(resumed.layer());
    Ok(main.listen_with(addr, app)?)
}

fn main_mount(path: &str) -> anyhow::Result<Builder> {
    let mut cors = Cors::origin("http://allowed.example")?.with_credentials();
    cors.methods = vec![http::Method::GET, http::Method::POST];
    cors.allowed_headers = Some(vec![http::HeaderName::from_static("x-custom")]);
    cors.max_age = Some(Duration::from_secs(600));
    // Messages and polling answers are compressed from 1,024 bytes on.
    let builder = Server::builder().path(path).serve_client(false).allow_eio3(true).cors(cors);
    Ok(builder.per_message_deflate(Deflate::default()).http_compression(Some(HttpCompression::default())))
}

fn fast_mount() -> Builder {
    Server::builder()
        .path("/fast")
        .serve_client(false)
        .ping(Duration::from_millis(300), Duration::from_millis(200))
        .connect_timeout(Duration::from_secs(1))
        .upgrade_timeout(Duration::from_secs(1))
        .cors(Cors::default())
}

fn steady_mount() -> Builder {
    Server::builder()
        .path("/steady")
        .serve_client(false)
        .allow_eio3(true)
        .ping(Duration::from_millis(300), Duration::from_millis(2_500))
        .connect_timeout(Duration::from_secs(2))
        .upgrade_timeout(Duration::from_secs(2))
        .cors(Cors::default())
}

fn mount(workers: &Workers, builder: Builder) -> anyhow::Result<Server> {
    let io = builder.max_payload(1_000_000).shared_workers(workers).build()?;
    events::serve(&io.namespace("/"));
    events::serve(&io.namespace("/custom"));
    let auth = io.namespace("/auth");
    events::check(&auth);
    events::serve(&auth);
    events::serve(&events::dynamic(&io)?);
    Ok(io)
}
