//! What a server does all day.

use std::fmt;
use std::str::FromStr;

/// What is done once per count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Over a WebSocket, an event with an argument that is answered with the same.
    Echo,
    /// The same with packets in MessagePack.
    PackedEcho,
    /// The first over polling: a POST, and the answer to the poll that waits.
    PollingEcho,
    /// A client's event has its handler send one to a room of so many, the client among them.
    Broadcast(usize),
    /// The same, to those that can take it at once.
    Volatile(usize),
    /// A socket joins a room of its own choice and leaves it, with an answer to each.
    JoinAndLeave,
    /// A connection's life: the upgrade, joining the main namespace, and its end.
    Connect,
    /// A ping to each of so many connections, and the pongs.
    PingRound(usize),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo => f.write_str("echo"),
            Self::PackedEcho => f.write_str("packed-echo"),
            Self::PollingEcho => f.write_str("polling-echo"),
            Self::Broadcast(receivers) => write!(f, "broadcast-{receivers}"),
            Self::Volatile(receivers) => write!(f, "volatile-{receivers}"),
            Self::JoinAndLeave => f.write_str("join-and-leave"),
            Self::Connect => f.write_str("connect"),
            Self::PingRound(connections) => write!(f, "ping-round-{connections}"),
        }
    }
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let unknown = || format!("no operation is called {name:?}");
        let (kind, number) = match name.rsplit_once('-') {
            Some((kind, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                (kind, number.parse().map_err(|_| unknown())?)
            }
            _ => (name, 0),
        };
        match kind {
            "echo" => Ok(Self::Echo),
            "packed-echo" => Ok(Self::PackedEcho),
            "polling-echo" => Ok(Self::PollingEcho),
            "broadcast" => Ok(Self::Broadcast(number)),
            "volatile" => Ok(Self::Volatile(number)),
            "join-and-leave" => Ok(Self::JoinAndLeave),
            "connect" => Ok(Self::Connect),
            "ping-round" => Ok(Self::PingRound(number)),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for operation in [
            Operation::Echo,
            Operation::PackedEcho,
            Operation::PollingEcho,
            Operation::Broadcast(1_000),
            Operation::Volatile(1),
            Operation::JoinAndLeave,
            Operation::Connect,
            Operation::PingRound(7),
        ] {
            assert_eq!(operation.to_string().parse(), Ok(operation));
        }
        assert!("sing".parse::<Operation>().is_err());
    }
}
