//! Servers that the official test suites expect: each suite was written against one server, and these stand in for it.
//!
//! One module per server; what each must do is whatever its suite asks for, and no more.

mod client_engineio;
mod client_socketio;
mod date;
mod socket_v5;

use std::net::SocketAddr;

use clap::ValueEnum;
use posthaste::{Listener, Workers};

use crate::echo;

/// An official suite, by the server it is run against.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Suite {
    /// `docs/engine.io-protocol/v4-test-suite`.
    EngineV4,
    /// `docs/engine.io-protocol/v3-test-suite`.
    EngineV3,
    /// `docs/socket.io-protocol/v5-test-suite`.
    SocketV5,
    /// `packages/socket.io-client`.
    ClientSocketio,
    /// `packages/engine.io-client`.
    ClientEngineio,
}

impl Suite {
    /// Starts the server that the suite expects.
    pub(crate) fn listen(self, workers: &Workers, addr: SocketAddr) -> anyhow::Result<Listener> {
        match self {
            // A request that names no revision is one of revision 3, which the suite of revision 4 wants refused.
            Self::EngineV4 => Ok(echo::engine(workers, false)?.listen(addr)?),
            Self::EngineV3 => Ok(echo::engine(workers, true)?.listen(addr)?),
            Self::SocketV5 => socket_v5::listen(workers, addr),
            Self::ClientSocketio => client_socketio::listen(workers, addr),
            Self::ClientEngineio => client_engineio::listen(workers, addr),
        }
    }
}
