//! What clients do with their time, from the well-behaved to the vanished.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use posthaste_testkit::{Client, Engine, Message, Random, Transport, WebSocket, Wire};

use crate::crowd::Shared;
use crate::returns::{come_back, come_back_twice, stay_away};
use crate::visitor::Visitor;

/// Where a ping is due every 300 ms and what is missed is missed soon.
const FAST: &str = "/fast/";

/// Where sessions end with their connection.
const PLAIN: &str = "/plain/";

/// Rooms that clients meet in.
const ROOMS: usize = 24;

type Outcome = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// A way to live.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    /// What a client of this kind does.
    pub(crate) what: &'static str,
    /// Whether it plays where timeouts are short. A busy machine lets them pass before the client has done its part; what befalls
    /// such a client is no misfortune, as long as the server forgets it.
    pub(crate) hurried: bool,
    pub(crate) live: fn(SocketAddr, Random, Arc<Shared>) -> Outcome,
}

const fn life(what: &'static str, live: fn(SocketAddr, Random, Arc<Shared>) -> Outcome) -> Life {
    Life { what, hurried: false, live }
}

const fn hurried(what: &'static str, live: fn(SocketAddr, Random, Arc<Shared>) -> Outcome) -> Life {
    Life { what, hurried: true, live }
}

macro_rules! boxed {
    ($live:ident) => {
        |addr, random, shared| Box::pin($live(addr, random, shared))
    };
}

/// All of them, as likely as they are often named.
pub(crate) const LIVES: &[Life] = &[
    life("talks", boxed!(talk)),
    life("talks", boxed!(talk)),
    life("talks", boxed!(talk)),
    life("talks", boxed!(talk)),
    life("talks and drops", boxed!(drop_amid_talk)),
    life("talks and drops", boxed!(drop_amid_talk)),
    life("abandons an upgrade", boxed!(abandon_upgrade)),
    hurried("never completes an upgrade", boxed!(stall_upgrade)),
    life("asks and does not wait", boxed!(leave_questions)),
    life("is asked and does not answer", boxed!(owe_answers)),
    life("reads slowly", boxed!(read_slowly)),
    life("visits namespaces", boxed!(visit_namespaces)),
    life("is not let in", boxed!(be_refused)),
    hurried("joins nothing", boxed!(join_nothing)),
    hurried("falls silent", boxed!(fall_silent)),
    life("is kicked", boxed!(be_kicked)),
    life("breaks the protocol", boxed!(break_protocol)),
    life("comes back", boxed!(come_back)),
    life("comes back", boxed!(come_back)),
    life("comes back", boxed!(come_back)),
    life("stays away", boxed!(stay_away)),
    life("stays away", boxed!(stay_away)),
    life("comes back twice", boxed!(come_back_twice)),
];

/// Connects, and joins nothing.
async fn open(addr: SocketAddr, transport: Transport) -> Client {
    Client::new(Engine::open(addr, PLAIN, transport).await)
}

/// Connects and joins the main namespace.
async fn join(addr: SocketAddr, transport: Transport) -> Client {
    let mut client = open(addr, transport).await;
    client.connect("/").await;
    client
}

/// Joins the main namespace: over polling, on a WebSocket, or on one after the other.
async fn arrive(addr: SocketAddr, mut random: Random, shared: Arc<Shared>) -> Result<Visitor> {
    let kind = random.below(3);
    let transport = if kind == 0 { Transport::WebSocket } else { Transport::Polling };
    let mut client = join(addr, transport).await;
    if kind == 1 {
        if random.once_in(2) {
            client.engine().begin_poll().await?;
        }
        client.engine().upgrade().await.context("an upgrade")?;
    }
    Ok(Visitor::new(client, random, shared))
}

/// A few things that clients do among each other.
async fn chat(visitor: &mut Visitor) -> Result<()> {
    for _ in 0..2 + visitor.below(8) {
        let (room, other) = (visitor.below(ROOMS), visitor.below(100));
        let event = match visitor.below(9) {
            0 | 1 => format!(r#""join",["room-{room}","alone-{room}-{other}"]"#),
            2 => format!(r#""leave","room-{room}""#),
            3 | 4 => format!(r#""bcast",{{"via":"io","to":"room-{room}"}},"news",["hello",{other}]"#),
            5 => {
                let options = format!(r#"{{"via":"socket","to":"room-{room}","timeout":200}}"#);
                format!(r#""bcast-ack",{options},"question",[1]"#)
            }
            6 => r#""ask","question",150,[1]"#.to_owned(),
            7 => format!(r#""late-ack",{other}"#),
            _ => r#""echo",{"n":[1,2.5,null]},"text""#.to_owned(),
        };
        visitor.ask("/", &event).await.with_context(|| format!("an answer to {event}"))?;
        // What others say meanwhile is heard with the next answer.
        let pause = visitor.below(300) as u64;
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    Ok(())
}

async fn talk(addr: SocketAddr, random: Random, shared: Arc<Shared>) -> Result<()> {
    let mut visitor = arrive(addr, random, shared).await?;
    chat(&mut visitor).await?;
    visitor.client.leave().await;
    Ok(())
}

async fn drop_amid_talk(addr: SocketAddr, random: Random, shared: Arc<Shared>) -> Result<()> {
    let mut visitor = arrive(addr, random, shared).await?;
    chat(&mut visitor).await?;
    visitor.ask_unheard("/", r#""join","room-0""#).await?;
    // With a poll under way the server learns of it at once, without one at the end of the ping's timeout.
    if !visitor.random.once_in(8) {
        visitor.client.engine().begin_poll().await?;
    }
    visitor.client.reset();
    Ok(())
}

/// Begins an upgrade and leaves the new transport alone, at once or in the middle; polling goes on.
async fn abandon_upgrade(addr: SocketAddr, mut random: Random, shared: Arc<Shared>) -> Result<()> {
    let (how, reset) = (random.below(3), random.once_in(2));
    let mut client = join(addr, Transport::Polling).await;
    let mut socket = WebSocket::connect(addr, &client.engine().probe_target()).await;
    if how > 0 {
        socket.send_text("2probe").await?;
    }
    if how > 1 {
        ensure!(socket.text().await == "3probe");
    }
    if reset {
        socket.reset();
    } else {
        drop(socket);
    }
    let mut visitor = Visitor::new(client, random, shared);
    chat(&mut visitor).await?;
    visitor.client.leave().await;
    Ok(())
}

/// Probes and never switches: the server gives the upgrade up, and the session when the client is gone.
async fn stall_upgrade(addr: SocketAddr, mut random: Random, _: Arc<Shared>) -> Result<()> {
    let mut engine = Engine::open(addr, FAST, Transport::Polling).await;
    let mut socket = WebSocket::connect(addr, &engine.probe_target()).await;
    if random.once_in(2) {
        socket.send_text("2probe").await?;
    }
    if random.once_in(2) {
        // Goes on polling until the server has had enough of one or the other.
        while engine.message().await.is_ok() {}
    }
    socket.closed().await.context("the end of a probe")?;
    Ok(())
}

/// Handlers are at work, and answers under way, when the client goes.
async fn leave_questions(addr: SocketAddr, random: Random, shared: Arc<Shared>) -> Result<()> {
    let mut visitor = arrive(addr, random, shared).await?;
    for _ in 0..1 + visitor.below(6) {
        let event = match visitor.below(4) {
            0 => r#""late-ack",1500"#,
            1 => r#""no-ack""#,
            2 => r#""ask","question",1000,[]"#,
            _ => r#""bcast-ack",{"via":"io","to":"room-0","timeout":1000},"question",[]"#,
        };
        visitor.ask_unheard("/", event).await?;
    }
    let pause = Duration::from_millis(visitor.below(400) as u64);
    tokio::time::sleep(pause).await;
    if visitor.random.once_in(2) {
        visitor.client.leave().await;
    } else {
        visitor.client.engine().begin_poll().await?;
        visitor.client.reset();
    }
    Ok(())
}

/// Lets the server wait for answers until it no longer does.
async fn owe_answers(addr: SocketAddr, random: Random, shared: Arc<Shared>) -> Result<()> {
    let mut visitor = arrive(addr, random, shared).await?;
    let expected = visitor.ask_unheard("/", r#""ask","question",300,[1,2]"#).await?;
    loop {
        if let Message::Text(text) = visitor.message().await?
            && let Some(answer) = text.strip_prefix(&expected)
        {
            ensure!(answer == r#""timeout"]"#, "{answer}");
            break;
        }
    }
    visitor.client.leave().await;
    Ok(())
}

/// Fills the server's buffers, then reads on or leaves everything there.
async fn read_slowly(addr: SocketAddr, mut random: Random, shared: Arc<Shared>) -> Result<()> {
    let (reads_on, pause) = (random.once_in(2), random.below(1_000) as u64);
    let mut client = Client::new(Engine::open_on(Wire::connect_narrow(addr).await, addr, PLAIN).await);
    client.connect("/").await;
    let mut visitor = Visitor::new(client, random, shared);
    let answer = visitor.ask_unheard("/", r#""burst",60,6000"#).await?;
    tokio::time::sleep(Duration::from_millis(200 + pause)).await;
    if reads_on {
        visitor.hear(r#"2["seq-end",60]"#).await.context("the end of a burst")?;
        visitor.hear(&answer).await.context("an answer")?;
        visitor.client.leave().await;
    } else {
        visitor.client.reset();
    }
    Ok(())
}

/// Several namespaces on one connection, joined and left again; some are made when asked for.
async fn visit_namespaces(addr: SocketAddr, random: Random, shared: Arc<Shared>) -> Result<()> {
    let mut visitor = arrive(addr, random, shared).await?;
    for _ in 0..1 + visitor.below(3) {
        let (namespace, auth) = match visitor.below(3) {
            0 => ("/custom".to_owned(), ""),
            1 => ("/auth".to_owned(), r#"{"token":"good","delay":5}"#),
            _ => (format!("/dyn-{}", visitor.below(1_000)), ""),
        };
        visitor.client.try_send(&format!("0{namespace},{auth}")).await?;
        loop {
            let Message::Text(text) = visitor.message().await? else { continue };
            if text.starts_with(&format!("0{namespace},")) {
                visitor.ask(&namespace, r#""join","room-1""#).await?;
                visitor.ask(&namespace, r#""bcast",{"to":"room-1"},"news",[]"#).await?;
                visitor.client.try_send(&format!("1{namespace},")).await?;
                break;
            }
            if text.starts_with(&format!("4{namespace},")) {
                ensure!(namespace.starts_with("/dyn-"), "refused: {text}");
                break;
            }
        }
    }
    visitor.client.leave().await;
    Ok(())
}

/// Is refused, or gone before the check has ended.
async fn be_refused(addr: SocketAddr, mut random: Random, shared: Arc<Shared>) -> Result<()> {
    let impatient = random.once_in(2);
    let mut client = open(addr, Transport::WebSocket).await;
    if impatient {
        client.try_send(r#"0/auth,{"token":"good","delay":700}"#).await?;
        client.reset();
        return Ok(());
    }
    client.try_send(r#"0/auth,{"token":"bad","delay":50}"#).await?;
    let mut visitor = Visitor::new(client, random, shared);
    visitor.hear("4/auth,").await.context("a refusal")?;
    visitor.client.leave().await;
    Ok(())
}

/// Connects and says nothing: the server's patience ends.
async fn join_nothing(addr: SocketAddr, mut random: Random, _: Arc<Shared>) -> Result<()> {
    let transport = Transport::ALL[random.below(2)];
    let mut engine = Engine::open(addr, FAST, transport).await;
    if random.once_in(2) {
        engine.closed().await.context("the end of a session without a ping's answer")?;
        return Ok(());
    }
    // Answers pings, so that only the namespace is missing.
    while engine.message().await.is_ok() {}
    Ok(())
}

/// Answers no ping any more, its connection still open.
async fn fall_silent(addr: SocketAddr, mut random: Random, _: Arc<Shared>) -> Result<()> {
    let transport = Transport::ALL[random.below(2)];
    let mut client = Client::new(Engine::open(addr, FAST, transport).await);
    client.connect("/").await;
    client.try_send(r#"2["join","room-2"]"#).await?;
    tokio::time::sleep(Duration::from_millis(500 + random.below(700) as u64)).await;
    client.reset();
    Ok(())
}

async fn be_kicked(addr: SocketAddr, random: Random, shared: Arc<Shared>) -> Result<()> {
    let mut visitor = arrive(addr, random, shared).await?;
    visitor.ask("/", r#""join","room-3""#).await?;
    if visitor.random.once_in(2) {
        visitor.client.try_send(r#"2["kick",true]"#).await?;
        while visitor.message().await.is_ok() {}
        return Ok(());
    }
    visitor.client.try_send(r#"2["kick",false]"#).await?;
    visitor.hear("1").await.context("a disconnect packet")?;
    visitor.client.leave().await;
    Ok(())
}

async fn break_protocol(addr: SocketAddr, random: Random, shared: Arc<Shared>) -> Result<()> {
    let mut visitor = arrive(addr, random, shared).await?;
    let wrong = ["9", r#"2["disconnect"]"#, r#"51-["x"]"#, "2/nowhere,[1]", "0", "2[", "1x"];
    let wrong = wrong[visitor.below(wrong.len())];
    // The server may be quicker than its answer to a POST.
    let _ = visitor.client.try_send(wrong).await;
    while visitor.message().await.is_ok() {}
    Ok(())
}
