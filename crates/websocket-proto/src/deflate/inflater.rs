//! Reading what was compressed.

use std::fmt;

use flate2::{Decompress, FlushDecompress, Status};

use crate::ProtocolError;
use crate::assembly::Assembly;

/// What the wire leaves out at the end of a message (§7.2.2).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// So much is inflated before it is looked at: whether it is too much, whether it is text.
const STEP: usize = 8 * 1024;

/// A decompressor: of one connection whose client keeps its context, or lent to each that does not.
///
/// It holds 48 kB, whatever the window: one of 32 kB reads them all.
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Self(Decompress::new(false))
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}

impl Inflater {
    /// Inflates the next bytes of a message behind what `message` has.
    ///
    /// # Errors
    /// [`ProtocolError::MessageTooLarge`] as soon as it is, with no more than a step inflated beyond; [`ProtocolError::InvalidDeflate`];
    /// [`ProtocolError::TextNotUtf8`].
    pub(crate) fn inflate(
        &mut self,
        mut input: &[u8],
        message: &mut Assembly,
        max_message_bytes: usize,
    ) -> Result<(), ProtocolError> {
        let mut step = [0; STEP];
        loop {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let status = self.0.decompress(input, &mut step, FlushDecompress::Sync);
            let status = status.map_err(|_| ProtocolError::InvalidDeflate)?;
            let read = usize::try_from(self.0.total_in() - read).unwrap_or(usize::MAX);
            let written = usize::try_from(self.0.total_out() - written).unwrap_or(usize::MAX);
            input = &input[read..];
            if written > max_message_bytes.saturating_sub(message.len()) {
                return Err(ProtocolError::MessageTooLarge);
            }
            message.push(&step[..written], max_message_bytes)?;
            match status {
                // A final block (§7.2.3.4). Another may follow in the same message; it cannot refer to what was before.
                Status::StreamEnd => {
                    self.0.reset(false);
                    if input.is_empty() {
                        return Ok(());
                    }
                }
                Status::Ok | Status::BufError if written == STEP => {}
                Status::Ok | Status::BufError if input.is_empty() => return Ok(()),
                Status::Ok | Status::BufError if read == 0 && written == 0 => {
                    return Err(ProtocolError::InvalidDeflate);
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }

    /// Ends a message.
    ///
    /// # Errors
    /// As [`Inflater::inflate`].
    pub(crate) fn end(&mut self, message: &mut Assembly, max_message_bytes: usize) -> Result<(), ProtocolError> {
        self.inflate(&TAIL, message, max_message_bytes)
    }

    /// Forgets everything.
    pub(crate) fn reset(&mut self) {
        self.0.reset(false);
    }
}
