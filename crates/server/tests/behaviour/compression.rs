//! Compressed messages: for whom, how often, and what is left as it is.

use std::net::SocketAddr;

use posthaste::{Builder, Deflate, Recovery, Server, Socket, Workers};
use posthaste_engine::Deflated;
use posthaste_testkit::{Client, Frame, Http, Record, Running, Transport, WebSocket, serve, upgrade_request};

const TARGET: &str = "/socket.io/?EIO=4&transport=websocket";
const COMPRESSED: u8 = 4;

struct Subject {
    running: Running,
    workers: Workers,
    sockets: Record<Socket>,
}

impl Subject {
    fn new(deflate: Deflate, build: impl FnOnce(Builder) -> Builder) -> Self {
        let workers = Workers::start(1).unwrap();
        let sockets = Record::new();
        let record = sockets.clone();
        let builder = build(Server::builder().shared_workers(&workers).per_message_deflate(deflate));
        let running = serve(builder, |io| {
            io.on_connect(move |socket: Socket| {
                record.push(socket);
                async {}
            });
        });
        Self { running, workers, sockets }
    }

    /// A client that offers compression with these parameters, in the main namespace.
    async fn client(&self, parameters: &str) -> WebSocket {
        connect(self.running.addr, parameters).await
    }

    async fn deflated(&self) -> Deflated {
        self.workers.handles()[0].call(|worker| worker.deflated()).await.unwrap()
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.workers.shutdown(std::time::Duration::ZERO);
    }
}

async fn connect(addr: SocketAddr, parameters: &str) -> WebSocket {
    let mut http = Http::connect(addr).await;
    let offer = format!("permessage-deflate{parameters}");
    let answer = http.send(&upgrade_request(TARGET).header("Sec-WebSocket-Extensions", &offer)).await.unwrap();
    assert!(answer.header("sec-websocket-extensions").is_some());
    let mut socket = WebSocket::of(http.into_wire());
    socket.text().await;
    socket.send_text("40").await.unwrap();
    assert!(socket.text().await.starts_with("40"));
    socket
}

/// Text that becomes a tenth of it.
fn long() -> String {
    (0..500).map(|number| format!("the item of the number {number:04}, ")).collect()
}

async fn received(clients: &mut [WebSocket]) -> Vec<Frame> {
    let mut frames = Vec::new();
    for client in clients {
        frames.push(client.frame().await.unwrap());
    }
    frames
}

#[tokio::test]
async fn a_broadcast_is_compressed_once_for_each_size_of_window() {
    let subject = Subject::new(Deflate::default(), |builder| builder);
    let mut wide = Vec::new();
    let mut narrow = Vec::new();
    for _ in 0..30 {
        wide.push(subject.client("").await);
        narrow.push(subject.client("; server_max_window_bits=10").await);
    }
    let mut plain = Client::websocket(subject.running.addr).await;
    let mut polling = Client::join(subject.running.addr, Transport::Polling).await;
    assert_eq!(subject.deflated().await.compressed, 0);

    let event = format!(r#"42["news","{}"]"#, long());
    for round in 1..=3 {
        subject.running.io.emit("news", &long()).await.unwrap();
        let (wide, narrow) = (received(&mut wide).await, received(&mut narrow).await);
        for frames in [&wide, &narrow] {
            assert!(frames.iter().all(|frame| frame.reserved == COMPRESSED && frame.payload.len() * 3 < event.len()));
            assert!(frames.iter().all(|frame| frame == &frames[0]), "the same bytes for all");
        }
        assert_eq!(plain.text().await, event[1..]);
        assert_eq!(polling.text().await, event[1..]);
        let stats = subject.deflated().await;
        assert_eq!((stats.compressed, stats.sent), (2 * round, 60 * round));
    }
    // Short ones are not.
    subject.running.io.emit("news", "short").await.unwrap();
    assert!(received(&mut wide).await.iter().all(|frame| frame == &Frame::text(r#"42["news","short"]"#)));
    assert_eq!(subject.deflated().await.compressed, 6);
}

#[tokio::test]
async fn with_context_each_connection_has_a_compressor_of_its_own() {
    let context = Deflate { server_no_context_takeover: false, ..Deflate::default() };
    let subject = Subject::new(context, |builder| builder);
    let mut clients = vec![subject.client("").await, subject.client("").await];
    let mut shared = vec![subject.client("; server_no_context_takeover").await];
    let mut sizes = Vec::new();
    for round in 1..=3 {
        subject.running.io.emit("news", &long()).await.unwrap();
        let frames = received(&mut clients).await;
        sizes.push(frames[0].payload.len());
        received(&mut shared).await;
        let stats = subject.deflated().await;
        assert_eq!((stats.compressed, stats.sent), (3 * round, 3 * round));
    }
    assert!(sizes[1] * 3 < sizes[0], "{sizes:?}");
}

#[tokio::test]
async fn what_is_said_to_stay_as_it_is_does_on_every_way() {
    for recovery in [false, true] {
        let subject = Subject::new(Deflate::default(), |builder| match recovery {
            true => builder.recovery(Recovery::default()),
            false => builder,
        });
        let mut client = [subject.client("").await];
        let socket = subject.sockets.wait_for(1).await.remove(0);
        let io = &subject.running.io;
        for compress in [false, true] {
            let long = long();
            io.compress(compress).emit("to all", &long).await.unwrap();
            io.compress(compress).volatile().emit("volatile", &long).await.unwrap();
            socket.compress(compress).emit("to one", &long).await.unwrap();
            socket.compress(compress).volatile().emit("to one, volatile", &long).await.unwrap();
            socket.compress(compress).to(socket.id()).emit("to nobody", &long).await.unwrap();
            let asked = socket.compress(compress).timeout(std::time::Duration::ZERO);
            let _ = asked.emit_with_ack::<()>("asked", &long).await;
            let all = io.compress(compress).timeout(std::time::Duration::ZERO);
            let _ = all.emit_with_ack::<()>("all asked", &long).await;
            for _ in 0..6 {
                let frame = client[0].frame().await.unwrap();
                let begin = String::from_utf8_lossy(&frame.payload[..20]).into_owned();
                assert_eq!(frame.reserved == COMPRESSED, compress, "recovery {recovery}: {begin}");
            }
        }
    }
}
