//! A server of one worker, and the clients of one operation.

use std::time::Duration;

use posthaste::{Ack, Data, Deflate, Parser, Server, Socket};
use posthaste_testkit::{Request, Running, serve};
use serde_json::value::RawValue;

use crate::lockstep::{
    Handshake, Lockstep, masked_frame, masked_packed, masked_text, plain_frame, plain_packed, plain_text,
};
use crate::operation::Operation;

/// What an event carries, in bytes of JSON: one string.
const PAYLOAD_BYTES: usize = 128;
/// No ping comes while something else is counted.
const NEVER: Duration = Duration::from_secs(3_600);
/// Where pings are what is counted.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// Clients that are slow because the machine is are not missed.
const PING_TIMEOUT: Duration = Duration::from_secs(60);

/// A server in this process, its clients, and what they say.
///
/// The clients are this thread; every other thread is the server's.
#[derive(Debug)]
pub struct Subject {
    operation: Operation,
    pace: Duration,
    running: Running,
    clients: Vec<Lockstep>,
    handshake: Handshake,
    script: Script,
}

#[derive(Debug)]
enum Script {
    /// The first client says something, and all of them hear something; often more than once.
    Exchange(Vec<Exchange>),
    /// The first client polls, the second posts.
    Polling {
        get: Vec<u8>,
        post: Vec<u8>,
        posted: Vec<u8>,
        polled: Vec<u8>,
    },
    Life,
    Pings {
        ping: Vec<u8>,
        pong: Vec<u8>,
    },
}

#[derive(Debug)]
struct Exchange {
    said: Vec<u8>,
    heard: Vec<u8>,
}

impl Subject {
    /// Starts a server with default settings, one worker and without pings that are not asked for, and connects the clients,
    /// each of which rests for `pace` before it says something.
    ///
    /// # Panics
    /// When one of them cannot, most likely because the process may not have as many files open: two per client.
    #[must_use]
    pub fn new(operation: Operation, pace: Duration) -> Self {
        Self::with(operation, pace, None)
    }

    /// The same with clients that offer compression, where the server has settings for it.
    ///
    /// # Panics
    /// As [`Subject::new`].
    #[must_use]
    pub fn with(operation: Operation, pace: Duration, deflate: Option<Deflate>) -> Self {
        let interval = if matches!(operation, Operation::PingRound(_)) { PING_INTERVAL } else { NEVER };
        let builder = Server::builder().workers(1).ping(interval, PING_TIMEOUT);
        let (builder, handshake) = match deflate {
            None if operation == Operation::PackedEcho => {
                (builder.parser(Parser::MessagePack), Lockstep::packed_handshake())
            }
            None => (builder, Lockstep::handshake()),
            Some(deflate) => (builder.per_message_deflate(deflate), Lockstep::offering("permessage-deflate")),
        };
        let running = serve(builder, application);
        let clients = match operation {
            Operation::Connect => 0,
            Operation::Echo | Operation::PackedEcho | Operation::JoinAndLeave => 1,
            Operation::PollingEcho => 2,
            Operation::Broadcast(count) | Operation::Volatile(count) | Operation::PingRound(count) => count,
        };
        let mut subject = Self { operation, pace, running, clients: Vec::new(), handshake, script: Script::Life };
        subject.script = match operation {
            Operation::PollingEcho => subject.poll(),
            _ => {
                subject.connect(clients);
                script(operation)
            }
        };
        subject
    }

    /// Does the operation so many times, one after the other. Returns when the last is over, for the clients.
    ///
    /// # Panics
    /// When the server says something else than it should.
    pub fn run(&mut self, times: usize) {
        for _ in 0..times {
            match &self.script {
                Script::Exchange(exchanges) => {
                    for Exchange { said, heard } in exchanges {
                        self.clients[0].send(said);
                        self.clients.iter_mut().for_each(|client| client.expect(heard));
                    }
                }
                Script::Polling { get, post, posted, polled } => {
                    // The worker hears of them in this order, so the poll waits when the event comes.
                    self.clients[0].send(get);
                    self.clients[1].send(post);
                    self.clients[1].expect_answer(posted);
                    self.clients[0].expect_answer(polled);
                }
                Script::Life => Lockstep::websocket(self.running.addr, self.pace, &self.handshake).close(),
                Script::Pings { ping, pong } => self.clients.iter_mut().for_each(|client| {
                    client.expect(ping);
                    client.send(pong);
                }),
            }
        }
    }

    /// Connects more clients, which say nothing.
    ///
    /// # Panics
    /// As [`Subject::new`].
    pub fn connect(&mut self, count: usize) {
        let addr = self.running.addr;
        self.clients.reserve_exact(count);
        let Exchange { said: sync, heard: synced } = exchange(self.operation, r#"20["sync"]"#, "30[]");
        for _ in 0..count {
            let mut client = Lockstep::websocket(addr, self.pace, &self.handshake);
            // Answered behind everything that its joining began.
            client.send(&sync);
            client.expect(&synced);
            self.clients.push(client);
        }
    }

    /// Has each of the last `count` clients say these bytes, and hear one frame.
    ///
    /// # Panics
    /// When it does not come.
    pub fn ask_each(&mut self, count: usize, said: &[u8]) {
        let first = self.clients.len() - count;
        for client in &mut self.clients[first..] {
            client.send(said);
            client.expect_frame();
        }
    }

    /// What it does.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// Opens a session over polling, on two connections.
    fn poll(&mut self) -> Script {
        let addr = self.running.addr;
        let target = "/socket.io/?EIO=4&transport=polling";
        let (mut first, mut second) = (Lockstep::connect(addr, self.pace), Lockstep::connect(addr, self.pace));
        first.send(&Request::get(target).encode());
        let open = first.answer();
        let sid = open.split('"').nth(3).expect("the open packet begins with the id").to_owned();
        let target = format!("{target}&sid={sid}");
        let post = |body: String| Request::post(&target, body).encode();
        let get = Request::get(&target).encode();

        second.send(&post("40".to_owned()));
        second.expect_answer(b"ok");
        first.send(&get);
        assert!(first.answer().starts_with("40"), "the main namespace is joined");
        let payload = payload();
        self.clients.extend([first, second]);
        Script::Polling {
            get,
            post: post(format!(r#"420["echo",{payload}]"#)),
            posted: b"ok".to_vec(),
            polled: format!("430[{payload}]").into_bytes(),
        }
    }
}

/// The application: what tools/bench has, and a volatile broadcast.
fn application(io: &Server) {
    io.on_connect(async |socket: Socket| socket.join("room"));
    io.on("sync", async || {});
    io.on("echo", async |Data(payload): Data<Box<RawValue>>, ack: Ack| ack.send(&payload).await);
    io.on("bcast", async |io: Server, Data(payload): Data<Box<RawValue>>, _ack: Ack| {
        io.to("room").emit("bcast", &payload).await
    });
    io.on("volatile", async |io: Server, Data(payload): Data<Box<RawValue>>, _ack: Ack| {
        io.to("room").volatile().emit("bcast", &payload).await
    });
    io.on("join", async |socket: Socket, Data(room): Data<String>| socket.join(room));
    io.on("leave", async |socket: Socket, Data(room): Data<String>| socket.leave(room));
}

fn script(operation: Operation) -> Script {
    let payload = payload();
    let exchange = |said: String, heard: String| exchange(operation, &said, &heard);
    let broadcast = |event| {
        Script::Exchange(vec![exchange(format!(r#"2["{event}",{payload}]"#), format!(r#"2["bcast",{payload}]"#))])
    };
    match operation {
        Operation::Echo | Operation::PackedEcho => {
            Script::Exchange(vec![exchange(format!(r#"20["echo",{payload}]"#), format!("30[{payload}]"))])
        }
        Operation::Broadcast(_) => broadcast("bcast"),
        Operation::Volatile(_) => broadcast("volatile"),
        Operation::JoinAndLeave => Script::Exchange(
            ["join", "leave"]
                .map(|event| exchange(format!(r#"20["{event}","a room that is empty"]"#), "30[]".to_owned()))
                .into(),
        ),
        Operation::PingRound(_) => Script::Pings { ping: plain_frame("2"), pong: masked_frame("3") },
        Operation::Connect | Operation::PollingEcho => Script::Life,
    }
}

/// What is said and heard, in the words of the operation's clients.
fn exchange(operation: Operation, said: &str, heard: &str) -> Exchange {
    match operation {
        Operation::PackedEcho => Exchange { said: masked_packed(said), heard: plain_packed(heard) },
        _ => Exchange { said: masked_text(said), heard: plain_text(heard) },
    }
}

fn payload() -> String {
    format!("\"{}\"", "x".repeat(PAYLOAD_BYTES - 2))
}
