//! What a run is to do, and the bounds of that.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::client::Transport;
use crate::target::{Target, TargetError};
use crate::wire::NUMBER_DIGITS;

/// The most connections of a run.
pub const MOST_CONNECTIONS: usize = 250_000;
/// The most questions or broadcasts in flight, of all connections together.
pub const MOST_IN_FLIGHT: usize = 4_000_000;
/// The highest rate, in operations a second.
pub const HIGHEST_RATE: f64 = 10_000_000.0;
/// The largest payload, in bytes.
pub const LARGEST_SIZE: usize = 8 << 20;
/// The longest a phase may be told to take.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// The most rooms, and the most rounds of a storm.
pub const MOST_ROOMS: usize = 1_000_000;
/// The most events that are missed in a room.
pub const MOST_MISSED: u64 = 1_000_000;
/// The most rounds of a storm, and of recoveries.
pub const MOST_ROUNDS: u32 = 1_000;

/// What is to be measured.
#[derive(Clone, Debug)]
pub enum Load {
    /// Open connections, and keep them.
    Connect {
        /// How long they are kept after the last is up; memory is read then.
        hold: Duration,
    },
    /// Questions and answers.
    Echo {
        /// The event that the server answers with its argument.
        event: String,
    },
    /// One publishes, all receive.
    Broadcast {
        /// The event that the server sends on to all, under the same name.
        event: String,
        /// So many further connections join and then read nothing any more, until the server gives them up.
        stopped: usize,
    },
    /// Broadcasts to rooms whose members change.
    Rooms {
        /// How many rooms.
        rooms: usize,
    },
    /// All connections are lost and come back.
    Storm {
        /// How many times.
        rounds: u32,
        /// Within which time each begins to come back; zero for all at once.
        spread: Duration,
        /// How long a round may take.
        within: Duration,
    },
    /// All connections are lost, miss something, and come back; with a server of the run's own after that was killed.
    Recover {
        /// How many rooms the clients are in, one each.
        rooms: usize,
        /// What is sent to each room while all are away.
        missed: u64,
        /// What one more client misses, in a room of its own and in the last round; nobody if it is 0.
        heavy: u64,
        /// How many times.
        rounds: u32,
        /// Within which time each begins to come back; zero for all at once. The one with much to catch up begins at once.
        spread: Duration,
        /// How long a round may take.
        within: Duration,
        /// The program, and its arguments, that is the server: it is started, killed while all are away, and started again.
        server: Option<Vec<String>>,
    },
}

impl Load {
    /// The name of the scenario.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Echo { .. } => "echo",
            Self::Broadcast { .. } => "broadcast",
            Self::Rooms { .. } => "rooms",
            Self::Storm { .. } => "storm",
            Self::Recover { .. } => "recover",
        }
    }
}

/// Whose CPU time and memory are read along with the figures (on Linux).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// Nobody's.
    Nobody,
    /// This process's.
    Process(u32),
    /// This very process, in which a server runs, without the thread that makes the load.
    OtherThreads,
}

/// A run. [`run`](crate::run) checks it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// The path of Engine.IO, such as `/socket.io/`.
    pub path: String,
    /// The namespace, such as `/`.
    pub namespace: String,
    /// What clients send as `auth`; an object.
    pub auth: Option<Box<RawValue>>,
    /// Headers of every request, beyond the necessary.
    pub headers: Vec<(String, String)>,
    /// How clients speak.
    pub transport: Transport,
    /// What is measured.
    pub load: Load,
    /// How many connections; in `rooms` the publishers come on top.
    pub connections: usize,
    /// How many handshakes may be under way at once.
    pub handshakes: usize,
    /// Payload in bytes.
    pub size: usize,
    /// Questions in flight of each connection, broadcasts in flight, or movers of `rooms`.
    pub in_flight: usize,
    /// Operations a second of all connections together: an open loop. Without it, the loop is closed.
    pub rate: Option<f64>,
    /// How long is measured.
    pub duration: Duration,
    /// How long the load runs before.
    pub warmup: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How long a handshake may take.
    pub connect_timeout: Duration,
    /// Whose resources are read.
    pub watched: Watched,
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A number beyond its bounds, or settings that do not fit together.
    #[error("{0}")]
    Plan(String),
    /// Connections that are needed did not come up.
    #[error("{up} of {wanted} connections came up; {reason}")]
    Connections {
        /// How many are up.
        up: usize,
        /// How many are needed.
        wanted: usize,
        /// What happened to the others.
        reason: String,
    },
    /// The server has not what the scenario needs.
    #[error("{0}")]
    Lacking(String),
    /// The server that the run is to start.
    #[error("the server of this run: {0}")]
    Server(String),
    /// The system refused something.
    #[error("{what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
}

impl Plan {
    /// # Errors
    /// [`LoadError::Plan`] for the first setting out of its bounds, with the bounds.
    pub(crate) fn check(&self) -> Result<(), LoadError> {
        let refuse = |text: String| Err(LoadError::Plan(text));
        let within = |name: &str, value: usize, least: usize, most: usize| match (least..=most).contains(&value) {
            true => Ok(()),
            false => refuse(format!("{name} is {least} to {most}, not {value}")),
        };
        let round = |rounds: u32, spread: Duration, limit: Duration| {
            within("the number of rounds", rounds as usize, 1, MOST_ROUNDS as usize)?;
            match spread > LONGEST || limit > LONGEST || spread >= limit {
                true => refuse(format!("a round takes longer than its spread, and at most {LONGEST:?}")),
                false => Ok(()),
            }
        };
        within("the number of connections", self.connections, 1, MOST_CONNECTIONS)?;
        within("the number of handshakes at once", self.handshakes, 1, MOST_CONNECTIONS)?;
        within("in-flight", self.in_flight, 1, MOST_IN_FLIGHT)?;
        within("the size of a payload", self.size, 0, LARGEST_SIZE)?;
        if self.connections.saturating_mul(self.in_flight) > MOST_IN_FLIGHT && matches!(self.load, Load::Echo { .. }) {
            return refuse(format!("connections times in-flight is at most {MOST_IN_FLIGHT}"));
        }
        if let Some(rate) = self.rate {
            if !(rate > 0.0 && rate <= HIGHEST_RATE) {
                return refuse(format!("a rate is above 0 and at most {HIGHEST_RATE} operations a second, not {rate}"));
            }
            if matches!(self.load, Load::Rooms { .. } | Load::Storm { .. } | Load::Recover { .. }) {
                return refuse(format!("{} has no rate: it is a closed loop", self.load.name()));
            }
        }
        for (name, value) in [("warm-up", self.warmup), ("duration", self.duration)] {
            if value > LONGEST {
                return refuse(format!("a {name} is at most {LONGEST:?}"));
            }
        }
        for (name, value) in
            [("duration", self.duration), ("timeout", self.timeout), ("time to connect", self.connect_timeout)]
        {
            if value.is_zero() || value > LONGEST {
                return refuse(format!("a {name} is above 0 and at most {LONGEST:?}"));
            }
        }
        within("the number of all connections", self.all_connections(), 1, MOST_CONNECTIONS)?;
        match &self.load {
            Load::Broadcast { .. } | Load::Rooms { .. } | Load::Recover { .. } if self.size < NUMBER_DIGITS => {
                refuse(format!("a payload holds a number, so it has at least {NUMBER_DIGITS} bytes"))
            }
            Load::Rooms { rooms } => {
                within("the number of rooms", *rooms, 4, MOST_ROOMS)?;
                within("in-flight of rooms (a quarter of the rooms)", self.in_flight, 1, rooms / 4)
            }
            Load::Recover { rooms, missed, heavy, rounds, spread, within: limit, .. } => {
                within("the number of rooms", *rooms, 1, self.connections)?;
                within("the number of missed events", *missed as usize, 1, MOST_MISSED as usize)?;
                within("what one more client misses", *heavy as usize, 0, MOST_MISSED as usize)?;
                round(*rounds, *spread, *limit)?;
                match *heavy > 0 && *rounds < 2 {
                    true => {
                        refuse("a client with much to catch up needs 2 rounds: one without it, and one with it".into())
                    }
                    false => Ok(()),
                }
            }
            Load::Storm { rounds, spread, within: limit } => round(*rounds, *spread, *limit),
            Load::Connect { hold } if *hold > LONGEST => refuse(format!("connections are held at most {LONGEST:?}")),
            _ => Ok(()),
        }
    }

    /// Connections in all.
    pub(crate) fn all_connections(&self) -> usize {
        match self.load {
            Load::Rooms { .. } => self.connections + self.in_flight,
            // The publisher, and who has much to catch up.
            Load::Recover { heavy, .. } => self.connections.saturating_add(1 + usize::from(heavy > 0)),
            Load::Broadcast { stopped, .. } => self.connections.saturating_add(stopped),
            _ => self.connections,
        }
    }

    /// Files that need to be open.
    pub(crate) fn files(&self) -> u64 {
        let each = if self.transport == Transport::Polling { 2 } else { 1 };
        // A server in this process has the other ends.
        let ends = if self.watched == Watched::OtherThreads { 2 } else { 1 };
        self.all_connections() as u64 * each * ends + 64
    }
}
