//! How something is sent to one connection.

use posthaste_adapter::Flags;

/// What of a packet's [`Flags`] concerns the connections it is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct How {
    /// Not if it cannot be taken at once.
    pub(crate) volatile: bool,
    /// Whether it may be compressed, where a transport does that.
    pub(crate) compress: bool,
}

impl How {
    /// As most is sent.
    pub(crate) const USUAL: Self = Self { volatile: false, compress: true };
}

impl From<&Flags> for How {
    fn from(flags: &Flags) -> Self {
        Self { volatile: flags.volatile, compress: flags.compress }
    }
}
