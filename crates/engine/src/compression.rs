//! Settings of compression, on both transports.

use posthaste_websocket_proto::DeflateTerms;

use crate::config::ConfigError;

/// zlib's second level takes half the time of its sixth, for answers a tenth larger.
const LEVEL: u8 = 2;
/// The same as Socket.IO's thresholds.
const THRESHOLD: usize = 1024;
/// A megabyte takes a worker some 4 ms with zlib's second level, and 9 ms with Brotli's, for which nobody else is served.
const MAX_BYTES: usize = 1 << 20;

/// Compressed messages of WebSockets, permessage-deflate: see [`EngineConfig::per_message_deflate`](crate::EngineConfig).
///
/// The default keeps no context between messages, on either side. Then one compressor serves all connections of a worker, a
/// broadcast is compressed once for all its receivers, and a connection keeps less than a hundred bytes. With context of its own
/// (`server_no_context_takeover: false`) messages that resemble those before them become smaller, and each connection keeps 250 to 380 kB
/// from its first compressed message on, and each broadcast is compressed for each receiver.
///
/// A client that asks for no context, or smaller windows, gets that.
///
/// ```
/// let deflate = posthaste_engine::Deflate { threshold: 4096, ..Default::default() };
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// Messages of fewer bytes leave as they are; 1,024 by default.
    pub threshold: usize,
    /// Messages of more bytes leave as they are: a worker that compresses serves nobody else. 1 MiB by default.
    pub max_bytes: usize,
    /// zlib's level, 1 (fast) to 9 (small); 2 by default.
    pub level: u8,
    /// Whether the server compresses each message by itself; true by default.
    pub server_no_context_takeover: bool,
    /// Whether clients are asked to; true by default. Otherwise each connection keeps 48 kB from its client's first compressed
    /// message on.
    pub client_no_context_takeover: bool,
    /// The server's window is at most 2 to this power of bytes; 9 to 15, which is the default.
    pub server_max_window_bits: u8,
    /// What clients that allow it are told about theirs; 8 to 15, which is the default.
    pub client_max_window_bits: u8,
}

impl Default for Deflate {
    fn default() -> Self {
        Self {
            threshold: THRESHOLD,
            max_bytes: MAX_BYTES,
            level: LEVEL,
            server_no_context_takeover: true,
            client_no_context_takeover: true,
            server_max_window_bits: 15,
            client_max_window_bits: 15,
        }
    }
}

impl Deflate {
    /// What clients are told.
    pub(crate) const fn terms(&self) -> DeflateTerms {
        DeflateTerms {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: self.server_max_window_bits,
            client_max_window_bits: self.client_max_window_bits,
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        in_range("per_message_deflate.level", self.level, 1, 9)?;
        in_range("per_message_deflate.server_max_window_bits", self.server_max_window_bits, 9, 15)?;
        in_range("per_message_deflate.client_max_window_bits", self.client_max_window_bits, 8, 15)
    }
}

/// Compressed answers of HTTP long-polling: see [`EngineConfig::http_compression`](crate::EngineConfig).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpCompression {
    /// Bodies of fewer bytes leave as they are; 1,024 by default.
    pub threshold: usize,
    /// Bodies of more bytes leave as they are: a worker that compresses serves nobody else. 1 MiB by default (Socket.IO has no bound).
    pub max_bytes: usize,
    /// zlib's level, 1 (fast) to 9 (small); 2 by default. Brotli, for clients that prefer it, has no knob.
    pub level: u8,
}

impl Default for HttpCompression {
    fn default() -> Self {
        Self { threshold: THRESHOLD, max_bytes: MAX_BYTES, level: LEVEL }
    }
}

impl HttpCompression {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        in_range("http_compression.level", self.level, 1, 9)
    }
}

fn in_range(what: &'static str, value: u8, least: u8, most: u8) -> Result<(), ConfigError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { what, value, least, most }) }
}
