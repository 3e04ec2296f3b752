//! The command line of `bench`, and the plan that it means.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use posthaste_load::{Load, Plan, Target, Transport, Watched};
use serde_json::value::RawValue;

use super::help;

/// Questions in flight of a connection with a rate: enough for the latency of a slow server, and bounded.
const IN_FLIGHT_AT_A_RATE: usize = 64;

#[derive(Debug, Args)]
#[command(after_long_help = help::HELP)]
pub(crate) struct BenchOptions {
    #[command(subcommand)]
    pub(super) what: What,
}

#[derive(Debug, Subcommand)]
pub(super) enum What {
    #[command(flatten)]
    Scenario(Box<Scenario>),
    /// Serve the events that the scenarios need, to measure this binary with any load generator.
    App(AppOptions),
}

#[derive(Debug, Args)]
pub(super) struct AppOptions {
    /// Where to listen: an address and a port. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3000")]
    pub(super) listen: SocketAddr,
    /// Threads that own connections [default: one for each core].
    #[arg(long, value_name = "N")]
    pub(super) workers: Option<usize>,
    /// Offer events that are kept in this data folder as well: `store`, answered when its payload is committed (`bench echo --event
    /// store`), and `rstore`, for `bench recover`.
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Scenario {
    /// Open connections: how long handshakes take, and what a connection costs (with --pid).
    Connect(Connect),
    /// Questions and answers: closed loop, or open loop with --rate.
    Echo(Echo),
    /// One publishes, all receive: every message, in order, once.
    Broadcast(Broadcast),
    /// Broadcasts to rooms while sockets leave and join.
    Rooms(Rooms),
    /// As echo, over HTTP long-polling.
    Polling(Polling),
    /// All connections are lost at once and come back.
    Storm(Storm),
    /// All connections are lost, the server is killed, and everybody comes back to hear what they missed: once, in order.
    Recover(Recover),
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// The server, http://host:port [default: $POSTHASTE_URL, else http://127.0.0.1:3000].
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// Start a server with the application for this run, and measure that.
    #[arg(long = "self", conflicts_with_all = ["url", "pid"])]
    pub(super) own: bool,
    /// The path of Socket.IO.
    #[arg(long, default_value = "/socket.io/")]
    path: String,
    /// The namespace to join.
    #[arg(long, value_name = "NAME", default_value = "/")]
    namespace: String,
    /// What clients send as `auth`.
    #[arg(long, value_name = "JSON")]
    auth: Option<String>,
    /// A header for every request; may be given several times.
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// How many connections [default: 1000; echo 200, polling 100].
    #[arg(long, short, value_name = "N")]
    connections: Option<usize>,
    /// How many handshakes may be under way at once [default: 64; storm and recover: all].
    #[arg(long, value_name = "N")]
    handshakes: Option<usize>,
    /// How long an answer may take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// How long a handshake may take.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    connect_timeout: Duration,
    /// Read the server's CPU time and memory from this process (Linux).
    #[arg(long)]
    pub(super) pid: Option<u32>,
    /// Keep the load on this core, counted from 0 (Linux).
    #[arg(long, value_name = "CORE")]
    pub(super) cpu: Option<usize>,
    /// Print one line of JSON on standard output instead of the table.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
struct Timed {
    /// How long to measure.
    #[arg(long, short, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How long to run before that.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    warmup: Duration,
    /// Payload of an event, in bytes.
    #[arg(long, short, value_name = "BYTES", default_value_t = 128)]
    size: usize,
}

#[derive(Debug, Args)]
struct Via {
    /// How clients connect; they do not upgrade.
    #[arg(long, value_enum, default_value_t = TransportName::Websocket)]
    transport: TransportName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TransportName {
    Websocket,
    Polling,
}

#[derive(Debug, Args)]
pub(super) struct Connect {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    via: Via,
    /// Begin so many handshakes a second: an open loop.
    #[arg(long, short, value_name = "PER SECOND")]
    rate: Option<f64>,
    /// Keep the connections for so long, answering heartbeats, before memory is read.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    hold: Duration,
    /// How long it may take until all are up.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    within: Duration,
}

#[derive(Debug, Args)]
struct Asking {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    timed: Timed,
    /// Ask so many questions a second, all connections together: an open loop.
    #[arg(long, short, value_name = "PER SECOND")]
    rate: Option<f64>,
    /// Questions of one connection that wait for an answer [default: 1, with --rate 64].
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,
    /// The event to ask.
    #[arg(long, value_name = "NAME", default_value = "echo")]
    event: String,
}

#[derive(Debug, Args)]
pub(super) struct Echo {
    #[command(flatten)]
    asking: Asking,
    #[command(flatten)]
    via: Via,
}

#[derive(Debug, Args)]
pub(super) struct Polling {
    #[command(flatten)]
    asking: Asking,
}

#[derive(Debug, Args)]
pub(super) struct Broadcast {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    via: Via,
    #[command(flatten)]
    timed: Timed,
    /// Publish so many broadcasts a second: an open loop.
    #[arg(long, short, value_name = "PER SECOND")]
    rate: Option<f64>,
    /// Broadcasts on their way at once [default: 1, with --rate 64].
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,
    /// The event to publish, and to hear.
    #[arg(long, value_name = "NAME", default_value = "bcast")]
    event: String,
    /// So many further connections join and then read nothing any more, until the server gives them up.
    #[arg(long, value_name = "N", default_value_t = 0)]
    stopped: usize,
}

#[derive(Debug, Args)]
pub(super) struct Rooms {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    via: Via,
    #[command(flatten)]
    timed: Timed,
    /// How many rooms the connections are in.
    #[arg(long, value_name = "N", default_value_t = 100)]
    rooms: usize,
    /// Broadcasts and moves under way at once, each by a publisher of its own.
    #[arg(long, value_name = "N", default_value_t = 8)]
    in_flight: usize,
}

#[derive(Debug, Args)]
pub(super) struct Storm {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    via: Via,
    /// How many times all connections are lost.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,
    /// Each comes back at a random moment within this time; 0 for all at once. Who is refused tries again after 1 s,
    /// doubled up to 5 s, half more or less by chance, as the official clients do.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    spread: Duration,
    /// How long a round may take.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = duration)]
    within: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Recover {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    via: Via,
    /// The server as a command line, which listens where --url says: it is started, killed (as by `kill -9`) while all are away,
    /// and started again. It is split at blanks; no shell is involved. Without it, the server that is there stays.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["own", "pid"])]
    server: Option<String>,
    /// How many rooms the clients are in, one each.
    #[arg(long, value_name = "N", default_value_t = 1)]
    rooms: usize,
    /// What is sent to each room while all are away.
    #[arg(long, value_name = "EVENTS", default_value_t = 200)]
    missed: u64,
    /// One more client, in a room of its own, that misses so much in the last round and begins to come back first. The latency of
    /// the others is told with it and without it: there have to be two rounds.
    #[arg(long, value_name = "EVENTS", default_value_t = 0)]
    heavy: u64,
    /// How many times all are lost [default: 1, with --heavy 2].
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// Each comes back at a random moment within this time; 0 for all at once.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    spread: Duration,
    /// How long it may take until all have what they missed.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    within: Duration,
    /// Payload of an event, in bytes.
    #[arg(long, short, value_name = "BYTES", default_value_t = 128)]
    size: usize,
    /// Events on their way to the store at once, while all are away.
    #[arg(long, value_name = "N", default_value_t = 64)]
    in_flight: usize,
}

impl Recover {
    fn plan(&self, target: Target) -> anyhow::Result<Plan> {
        let load = Load::Recover {
            rooms: self.rooms,
            missed: self.missed,
            heavy: self.heavy,
            rounds: self.rounds.unwrap_or(if self.heavy > 0 { 2 } else { 1 }),
            spread: self.spread,
            within: self.within,
            server: self.server.as_ref().map(|line| line.split_whitespace().map(str::to_owned).collect()),
        };
        let plan = self.common.plan(target, self.via.transport, load, 1_000, usize::MAX)?;
        Ok(Plan { size: self.size, in_flight: self.in_flight, ..plan })
    }
}

impl Scenario {
    pub(super) fn common(&self) -> &Common {
        match self {
            Scenario::Connect(it) => &it.common,
            Scenario::Echo(it) => &it.asking.common,
            Scenario::Broadcast(it) => &it.common,
            Scenario::Rooms(it) => &it.common,
            Scenario::Polling(it) => &it.asking.common,
            Scenario::Storm(it) => &it.common,
            Scenario::Recover(it) => &it.common,
        }
    }

    /// Whether its server has to keep events.
    pub(super) fn needs_store(&self) -> bool {
        matches!(self, Self::Recover(_))
    }

    /// The plan for `target`; nobody is watched yet.
    pub(super) fn plan(&self, target: Target) -> anyhow::Result<Plan> {
        match self {
            Scenario::Connect(it) => Ok(Plan {
                rate: it.rate,
                duration: it.within,
                ..it.common.plan(target, it.via.transport, Load::Connect { hold: it.hold }, 1_000, 64)?
            }),
            Scenario::Echo(it) => it.asking.plan(target, it.via.transport, 200),
            Scenario::Polling(it) => it.asking.plan(target, TransportName::Polling, 100),
            Scenario::Broadcast(it) => Ok(Plan {
                rate: it.rate,
                in_flight: in_flight(it.in_flight, it.rate),
                ..it.timed.plan(it.common.plan(
                    target,
                    it.via.transport,
                    Load::Broadcast { event: it.event.clone(), stopped: it.stopped },
                    1_000,
                    64,
                )?)
            }),
            Scenario::Rooms(it) => Ok(Plan {
                in_flight: it.in_flight,
                ..it.timed.plan(it.common.plan(target, it.via.transport, Load::Rooms { rooms: it.rooms }, 1_000, 64)?)
            }),
            Scenario::Recover(it) => it.plan(target),
            Scenario::Storm(it) => {
                let load = Load::Storm { rounds: it.rounds, spread: it.spread, within: it.within };
                it.common.plan(target, it.via.transport, load, 1_000, usize::MAX)
            }
        }
    }
}

impl Asking {
    fn plan(&self, target: Target, transport: TransportName, connections: usize) -> anyhow::Result<Plan> {
        let load = Load::Echo { event: self.event.clone() };
        Ok(Plan {
            rate: self.rate,
            in_flight: in_flight(self.in_flight, self.rate),
            ..self.timed.plan(self.common.plan(target, transport, load, connections, 64)?)
        })
    }
}

impl Timed {
    fn plan(&self, plan: Plan) -> Plan {
        Plan { duration: self.duration, warmup: self.warmup, size: self.size, ..plan }
    }
}

impl Common {
    fn plan(
        &self,
        target: Target,
        transport: TransportName,
        load: Load,
        connections: usize,
        handshakes: usize,
    ) -> anyhow::Result<Plan> {
        let connections = self.connections.unwrap_or(connections);
        let header = |text: &String| {
            let (name, value) = text.split_once(':').with_context(|| format!("{text:?} is not `name: value`"))?;
            anyhow::Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        let auth = |text: &String| {
            serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
                .and_then(|_| RawValue::from_string(text.trim().to_owned()))
                .with_context(|| format!("--auth takes a JSON object, not {text:?}"))
        };
        Ok(Plan {
            target,
            path: self.path.clone(),
            namespace: self.namespace.clone(),
            auth: self.auth.as_ref().map(auth).transpose()?,
            headers: self.headers.iter().map(header).collect::<Result<_, _>>()?,
            transport: match transport {
                TransportName::Websocket => Transport::WebSocket,
                TransportName::Polling => Transport::Polling,
            },
            load,
            connections,
            handshakes: self.handshakes.unwrap_or(handshakes.min(connections.max(1))),
            size: 128,
            in_flight: 1,
            rate: None,
            duration: Duration::from_secs(10),
            warmup: Duration::from_secs(1),
            timeout: self.timeout,
            connect_timeout: self.connect_timeout,
            watched: Watched::Nobody,
        })
    }
}

fn in_flight(given: Option<usize>, rate: Option<f64>) -> usize {
    given.unwrap_or(if rate.is_some() { IN_FLIGHT_AT_A_RATE } else { 1 })
}

/// `500ms`, `10s`, `2m`, `1h`, or a number of seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|it: char| it.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("a time is a number and ms, s, m or h".into()),
    };
    let number: f64 = digits.parse().map_err(|_| "a time is a number and ms, s, m or h".to_owned())?;
    Duration::try_from_secs_f64(number * unit).map_err(|_| "that is no time".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchOptions,
    }

    fn plan(line: &str) -> anyhow::Result<Plan> {
        let line = Line::try_parse_from(std::iter::once("bench").chain(line.split_terminator(' ')))?;
        match line.bench.what {
            What::Scenario(scenario) => scenario.plan(Target::parse("http://x")?),
            What::App(_) => unreachable!("a scenario was asked for"),
        }
    }

    #[test]
    fn a_line_becomes_a_plan() {
        let it = plan("echo -c 7 --rate 500 -d 3s --warmup 0 --size 9 --event say -H a:b --auth {\"t\":1}").unwrap();
        assert_eq!((it.connections, it.rate, it.in_flight, it.size), (7, Some(500.0), 64, 9));
        assert_eq!((it.duration, it.warmup), (Duration::from_secs(3), Duration::ZERO));
        assert_eq!(it.headers, [("a".to_owned(), "b".to_owned())]);
        assert_eq!(it.auth.unwrap().get(), r#"{"t":1}"#);
        let it = plan("storm --spread 250ms").unwrap();
        assert_eq!((it.connections, it.handshakes), (1_000, 1_000));
        assert!(matches!(it.load, Load::Storm { spread, .. } if spread == Duration::from_millis(250)));
        let it = plan("recover -c 9 --heavy 1000 --server posthaste\u{a0}bench").unwrap();
        assert!(
            matches!(&it.load, Load::Recover { rounds: 2, missed: 200, server: Some(line), .. } if line.len() == 2)
        );
        assert_eq!(plan("polling").unwrap().transport, Transport::Polling);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "swim",
            "echo --auth [1]",
            "echo -H x",
            "echo -d 1w",
            "echo --self --url http://x",
            "polling --transport websocket",
            "recover --self --server x",
        ] {
            assert!(plan(line).is_err(), "{line}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, ms) in [("500ms", 500), ("2", 2_000), ("1.5s", 1_500), ("2m", 120_000), ("1h", 3_600_000), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "1w", "-1s", "1e999h", "ten"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
