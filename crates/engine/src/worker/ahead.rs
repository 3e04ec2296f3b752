//! Reading many sockets before anything that was read is looked at.
//!
//! Between two sockets' messages lies a call of the kernel, which leaves little of this program in the nearest caches. So the news of
//! a turn are read one behind the other, and then served one behind the other: each half finds its own code where it left it.

use std::io::Read;
use std::rc::Rc;

use super::{ConnectionId, Local, driver};
use crate::stream::Stream;

/// With less room than this the next socket waits until what was read is served.
const LEAST_ROOM: usize = 16 * 1024;

/// What was read ahead, in the order of arrival.
#[derive(Default)]
pub(super) struct ReadAhead {
    /// The worker's buffer, while it holds something.
    bytes: Vec<u8>,
    used: usize,
    /// Whose they are, and how many.
    read: Vec<(ConnectionId, usize)>,
}

impl ReadAhead {
    /// Reads the socket of a WebSocket session once, if that is all there is to do now. False when its news have to be looked at
    /// in their turn, after what was read before them is served.
    pub(super) fn read(&mut self, local: &Rc<Local>, slot: u32) -> bool {
        let mut core = local.core.borrow_mut();
        let Some((id, connection)) = core.at(slot) else { return false };
        if connection.paused || !connection.outbox.is_empty() {
            return false;
        }
        let Some(stream) = connection.stream.as_mut().filter(|stream| stream.tail.is_empty()) else { return false };
        let Stream::Direct(socket) = &mut stream.io else { return false };
        if self.bytes.is_empty() {
            self.bytes = driver::take_scratch(local);
        }
        match socket.read(&mut self.bytes[self.used..]) {
            Ok(count @ 1..) => {
                self.used += count;
                self.read.push((id, count));
                if self.used == self.bytes.len() {
                    // There may be more. Others first.
                    core.unread.push(slot);
                }
                drop(core);
                if self.bytes.len() - self.used < LEAST_ROOM {
                    self.serve(local);
                }
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => true,
            // Its end, or an interruption: found once more by reading.
            Ok(0) | Err(_) => false,
        }
    }

    /// Serves what was read. Nothing is read ahead after it.
    pub(super) fn serve(&mut self, local: &Rc<Local>) {
        if self.bytes.is_empty() {
            return;
        }
        let mut rest = &mut self.bytes[..self.used];
        for (id, count) in self.read.drain(..) {
            let (data, behind) = rest.split_at_mut(count);
            rest = behind;
            local.input(id, data);
            local.settle();
        }
        self.used = 0;
        local.scratch.replace(std::mem::take(&mut self.bytes));
    }
}
