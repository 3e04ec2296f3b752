//! Where a broadcast goes.

use std::time::Duration;

use crate::room::Rooms;

/// Rooms, exceptions and flags of one broadcast. Without rooms it goes to the whole namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Sockets in any of these; each socket once, however many of them it is in.
    pub rooms: Rooms,
    /// Not the sockets in any of these.
    pub except: Rooms,
    /// How it is sent.
    pub flags: Flags,
}

/// How a broadcast is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Skip sockets that cannot take it at once.
    pub volatile: bool,
    /// Only the sockets of this node.
    pub local: bool,
    /// Whether transports that compress may compress it; true by default.
    pub compress: bool,
    /// How long answers may take, when they are asked for.
    pub timeout: Option<Duration>,
}

impl Default for Flags {
    fn default() -> Self {
        Self { volatile: false, local: false, compress: true, timeout: None }
    }
}
