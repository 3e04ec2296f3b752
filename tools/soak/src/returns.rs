//! Clients that lose their connection and come back, where the server keeps their sessions for seconds.
//!
//! A guest hears numbers that a friend says to a room. If the server says that it has recovered the guest, none may be missing, and
//! none may come twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use posthaste_testkit::{Client, Engine, Message, Random, Transport};
use serde_json::Value;

use crate::crowd::Shared;
use crate::visitor::Visitor;

/// Where sessions are recovered, and each socket has listeners of its own.
const RETURNING: &str = "/returning/";

/// Namespaces that are made when somebody comes and forgotten when nobody can come back.
const GAMES: usize = 40;

/// Longer than sessions are kept.
const TOO_LONG: Duration = Duration::from_millis(4_500);

/// Comes back once or more often, in time or too late, over the same transport or another, and hears what it missed.
pub(crate) async fn come_back(addr: SocketAddr, mut random: Random, shared: Arc<Shared>) -> Result<()> {
    let namespace = namespace(&mut random);
    let friend = Guest::join(addr, another(&mut random), shared.clone(), &namespace).await?;
    let friends_id = friend.memory.id.clone();
    let outcome = meet(friend, addr, random, shared.clone(), &namespace).await;
    match outcome {
        Ok(()) => Ok(()),
        Err(error) => {
            let why = why_left(addr, &namespace, &friends_id, shared).await;
            Err(error.context(format!("the friend has left: [{why}")))
        }
    }
}

async fn meet(
    mut friend: Guest,
    addr: SocketAddr,
    mut random: Random,
    shared: Arc<Shared>,
    namespace: &str,
) -> Result<()> {
    let namespace = namespace.to_owned();
    let room = format!("pair-{}", random.below(usize::MAX));
    let mut guest = Guest::join(addr, another(&mut random), shared.clone(), &namespace).await?;
    guest.use_its_listeners().await?;
    guest.ask(&format!(r#""join","{room}""#)).await?;
    let (mut said, mut heard) = (0, 0);
    for _ in 0..1 + random.below(3) {
        friend.say(&room, &mut said, 1 + random.below(5)).await?;
        if random.once_in(2) {
            // Behind all of it.
            guest.ask(r#""echo""#).await?;
        }
        let former = guest.lose_connection(random.below(3)).await?;
        let too_late = random.once_in(5);
        let meanwhile = random.below(6);
        friend.say(&room, &mut said, meanwhile).await?;
        friend.stay(if too_late { TOO_LONG } else { Duration::from_millis(random.below(1_200) as u64) }).await?;
        let (client, memory) = former;
        guest = Guest::back(addr, another(&mut random), shared.clone(), &namespace, memory).await?;
        // One whose connection still stood is closed when its session is taken up.
        drop(client);
        if guest.recovered {
            shared.count_return();
        } else {
            // Nobody knows what it missed. What it hears from now on counts.
            guest.memory.numbers.clear();
            guest.ask(&format!(r#""join","{room}""#)).await?;
            heard = said;
        }
        friend.say(&room, &mut said, random.below(3)).await?;
        guest.ask(r#""echo""#).await?;
        let expected: Vec<u64> = (heard..said).collect();
        let numbers = std::mem::take(&mut guest.memory.numbers);
        ensure!(numbers == expected, "recovered: {}, heard {numbers:?}, not {expected:?}", guest.recovered);
        heard = said;
        guest.use_its_listeners().await?;
    }
    friend.leave(&mut random).await?;
    guest.leave(&mut random).await
}

/// Why the server says that a socket of its has left, for whoever did not expect it.
async fn why_left(addr: SocketAddr, namespace: &str, id: &str, shared: Arc<Shared>) -> String {
    let asked = async {
        let mut stranger = Guest::join(addr, Random::seeded(0), shared, namespace).await?;
        stranger.ask(&format!(r#""last-disconnect","{id}""#)).await
    };
    asked.await.unwrap_or_else(|error| error.to_string())
}

/// Its session is kept for nobody.
pub(crate) async fn stay_away(addr: SocketAddr, mut random: Random, shared: Arc<Shared>) -> Result<()> {
    let namespace = namespace(&mut random);
    let mut guest = Guest::join(addr, another(&mut random), shared, &namespace).await?;
    guest.use_its_listeners().await?;
    for _ in 0..random.below(4) {
        guest.ask(&format!(r#""join","room-{}""#, random.below(9))).await?;
        guest.ask(&format!(r#""bcast",{{"to":"room-{}"}},"news",["to all"]"#, random.below(9))).await?;
    }
    drop(guest.lose_connection(random.below(3)).await?);
    Ok(())
}

/// Two come back as the same client: the one that the server hears later has the session, and the other is closed for it or new.
pub(crate) async fn come_back_twice(addr: SocketAddr, mut random: Random, shared: Arc<Shared>) -> Result<()> {
    let namespace = namespace(&mut random);
    let guest = Guest::join(addr, another(&mut random), shared.clone(), &namespace).await?;
    let (client, memory) = guest.lose_connection(random.below(3)).await?;
    let transports = [0, 1].map(|_| Transport::ALL[random.below(2)]);
    let mut back =
        |transport| Guest::back_over(transport, addr, another(&mut random), shared.clone(), &namespace, memory.clone());
    let (one, other) = tokio::join!(back(transports[0]), back(transports[1]));
    drop(client);
    let mut there = 0;
    for mut guest in [one, other].into_iter().flatten() {
        if guest.ask(r#""echo""#).await.is_ok() {
            there += 1;
            guest.leave(&mut random).await?;
        }
    }
    ensure!(there > 0, "each was closed for the other");
    Ok(())
}

fn namespace(random: &mut Random) -> String {
    if random.once_in(2) { "/".to_owned() } else { format!("/game-{}", random.below(GAMES)) }
}

fn another(random: &mut Random) -> Random {
    Random::seeded(random.below(usize::MAX) as u64)
}

/// What a client keeps while it has no connection.
#[derive(Clone, Default)]
struct Memory {
    id: String,
    pid: String,
    offset: Option<String>,
    /// What it heard a friend say.
    numbers: Vec<u64>,
}

struct Guest {
    visitor: Visitor,
    namespace: String,
    memory: Memory,
    recovered: bool,
}

impl Guest {
    async fn join(addr: SocketAddr, random: Random, shared: Arc<Shared>, namespace: &str) -> Result<Self> {
        Self::back(addr, random, shared, namespace, Memory::default()).await
    }

    /// Joins as who it was, if it was anyone, and may go over to a WebSocket.
    async fn back(
        addr: SocketAddr,
        mut random: Random,
        shared: Arc<Shared>,
        namespace: &str,
        memory: Memory,
    ) -> Result<Self> {
        let transport = Transport::ALL[random.below(2)];
        let upgrades = transport == Transport::Polling && random.once_in(2);
        let mut guest = Self::back_over(transport, addr, random, shared, namespace, memory).await?;
        if upgrades {
            guest.visitor.client.engine().upgrade().await.context("an upgrade")?;
        }
        Ok(guest)
    }

    async fn back_over(
        transport: Transport,
        addr: SocketAddr,
        random: Random,
        shared: Arc<Shared>,
        namespace: &str,
        memory: Memory,
    ) -> Result<Self> {
        let mut client = Client::new(Engine::open(addr, RETURNING, transport).await);
        let mut auth = serde_json::Map::new();
        if !memory.pid.is_empty() {
            auth.insert("pid".to_owned(), memory.pid.as_str().into());
            auth.extend(memory.offset.as_ref().map(|offset| ("offset".to_owned(), offset.as_str().into())));
        }
        let comma = if namespace == "/" { String::new() } else { format!("{namespace},") };
        client.try_send(&format!("0{comma}{}", Value::Object(auth))).await?;
        let visitor = Visitor::new(client, random, shared);
        let mut guest = Self { visitor, namespace: namespace.to_owned(), memory, recovered: false };
        let answer = guest.hear(&format!("0{comma}")).await.context("an answer to a wish to join")?;
        let answer: Value = serde_json::from_str(&answer).context("an answer to a wish to join")?;
        let text = |name: &str| answer[name].as_str().map(str::to_owned).with_context(|| format!("{name} in {answer}"));
        let (id, pid) = (text("sid")?, text("pid")?);
        guest.recovered = pid == guest.memory.pid;
        ensure!(guest.recovered == (id == guest.memory.id), "who is recovered has the same id, and nobody else");
        (guest.memory.id, guest.memory.pid) = (id, pid);
        if !guest.recovered {
            guest.memory.offset = None;
        }
        Ok(guest)
    }

    /// Listeners that it has for itself come first, and those of the namespace behind them.
    async fn use_its_listeners(&mut self) -> Result<()> {
        let (mut expected, mut answers) = (Vec::new(), Vec::new());
        for (event, answer) in [
            (r#""first""#, r#""socket"]"#),
            (r#""first""#, r#""namespace"]"#),
            (r#""mine""#, r#""socket"]"#),
            (r#""forget""#, r#""ok"]"#),
            (r#""mine""#, r#""namespace"]"#),
        ] {
            answers.push(self.ask(event).await?);
            expected.push(answer);
        }
        ensure!(answers == expected, "{answers:?}");
        Ok(())
    }

    /// Asks something of its namespace. Returns the answer without its first bracket.
    async fn ask(&mut self, event: &str) -> Result<String> {
        let answer = self.visitor.ask_unheard(&self.namespace, event).await?;
        self.hear(&answer).await.with_context(|| format!("an answer to {event}"))
    }

    /// Says the next numbers to a room that it is not in.
    async fn say(&mut self, room: &str, said: &mut u64, count: usize) -> Result<()> {
        for _ in 0..count {
            self.ask(&format!(r#""bcast",{{"via":"io","to":"{room}"}},"number",[{said}]"#)).await?;
            *said += 1;
        }
        Ok(())
    }

    /// Lets time pass, and answers the server's pings meanwhile.
    async fn stay(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            self.ask(r#""echo""#).await?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(Duration::from_millis(500))).await;
        }
    }

    /// Hears until a packet begins as expected. Returns the rest of it.
    async fn hear(&mut self, beginning: &str) -> Result<String> {
        loop {
            let Message::Text(text) = self.visitor.message().await? else { continue };
            if let Some(rest) = text.strip_prefix(beginning) {
                return Ok(rest.to_owned());
            }
            self.memory.note(&text)?;
        }
    }

    /// Its connection ends: reset, closed without a word about the namespace, or standing there with nobody behind it.
    async fn lose_connection(mut self, how: usize) -> Result<(Option<Client>, Memory)> {
        let client = match how {
            0 => {
                // With a poll under way the server learns of it at once, without one at the end of the ping's timeout.
                if self.visitor.random.once_in(2) {
                    self.visitor.client.engine().begin_poll().await?;
                }
                self.visitor.client.reset();
                None
            }
            1 => {
                self.visitor.client.leave().await;
                None
            }
            _ => Some(self.visitor.client),
        };
        Ok((client, self.memory))
    }

    /// For good, or with its session kept for nobody.
    async fn leave(mut self, random: &mut Random) -> Result<()> {
        if random.once_in(2) {
            let comma = if self.namespace == "/" { String::new() } else { format!("{},", self.namespace) };
            self.visitor.client.try_send(&format!("1{comma}")).await?;
        }
        self.visitor.client.leave().await;
        Ok(())
    }
}

impl Memory {
    /// Notes the offset of an event, as the official client does, and a number that a friend said.
    fn note(&mut self, text: &str) -> Result<()> {
        let Some((head, _)) = text.split_once('[').filter(|(head, _)| head.starts_with('2')) else { return Ok(()) };
        let event: Value = serde_json::from_str(&text[head.len()..]).with_context(|| format!("an event: {text}"))?;
        // A question has none: it cannot be asked again.
        if !is_question(head)
            && let Some(offset) = event.as_array().and_then(|args| args.last()?.as_str())
        {
            self.offset = Some(offset.to_owned());
        }
        if event[0] == "number" {
            self.numbers.push(event[1].as_u64().with_context(|| format!("a number in {text}"))?);
        }
        Ok(())
    }
}

/// Whether there is an id behind an event's type and namespace: `27`, `2/game-7,7`.
fn is_question(head: &str) -> bool {
    let rest = &head[1..];
    let id = if rest.starts_with('/') { rest.split_once(',').map_or("", |(_, id)| id) } else { rest };
    !id.is_empty()
}
