//! What waits for a transport: a queue bounded in bytes and packets.
//!
//! Everything in it is complete, unmasked WebSocket frames, whichever transport will take it: a WebSocket writes the bytes as
//! they are, a poll strips the frame headers, and an upgrade needs no conversion.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::payload;

/// The bounds of one outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes, frame headers included.
    pub bytes: usize,
    /// Packets.
    pub packets: usize,
}

/// The outbox has no room; nothing of what was offered was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the outbox is full at {bytes} bytes in {packets} packets")]
pub struct OutboxFull {
    /// Bytes waiting.
    pub bytes: usize,
    /// Packets waiting.
    pub packets: usize,
}

/// A queue of frames for one session; a pointer while nothing waits.
///
/// An outbox that is empty takes one run of frames of any size, or a message above the bound could never leave.
#[derive(Debug, Default)]
pub struct Outbox(
    /// Present while something waits.
    Option<Box<Queue>>,
);

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    /// Bytes of the front chunk that a stream has taken already.
    taken: usize,
    bytes: usize,
    packets: usize,
    /// Whether something that waits may be compressed.
    compressible: bool,
}

/// Neighbouring small runs share an allocation; large ones stay shared with every other receiver.
#[derive(Debug)]
struct Chunk {
    packets: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Owned(Vec<u8>),
    Shared(Bytes),
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match &self.data {
            Data::Owned(bytes) => bytes,
            Data::Shared(bytes) => bytes,
        }
    }
}

/// Runs up to this size are copied behind one another; larger ones are kept as references to the shared bytes.
const COPY_UP_TO: usize = 4096;

impl Outbox {
    /// Whether nothing waits.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// Packets that wait; one that a stream took in part counts until it is gone with its chunk.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.packets)
    }

    /// Queues a copy of `frames`, a run of `packets` packets.
    ///
    /// # Errors
    /// [`OutboxFull`] when a bound of `limits` would be passed; the outbox is unchanged.
    pub fn push(&mut self, frames: &[u8], packets: usize, limits: &OutboxLimits) -> Result<(), OutboxFull> {
        if frames.is_empty() {
            // A chunk of nothing would make the outbox look as if it had something to say.
            return Ok(());
        }
        let queue = self.admit(frames.len(), packets, limits)?;
        match queue.chunks.back_mut() {
            Some(Chunk { packets: held, data: Data::Owned(last) })
                if last.len() + frames.len() <= COPY_UP_TO.max(last.capacity()) =>
            {
                last.extend_from_slice(frames);
                *held += packets;
            }
            _ => queue.chunks.push_back(Chunk { packets, data: Data::Owned(frames.to_vec()) }),
        }
        Ok(())
    }

    /// Queues `frames`, a run of `packets` packets, sharing the bytes when they are many.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub fn push_shared(&mut self, frames: Bytes, packets: usize, limits: &OutboxLimits) -> Result<(), OutboxFull> {
        if frames.len() <= COPY_UP_TO {
            return self.push(&frames, packets, limits);
        }
        let queue = self.admit(frames.len(), packets, limits)?;
        queue.chunks.push_back(Chunk { packets, data: Data::Shared(frames) });
        Ok(())
    }

    /// Notes that something of what waits may be compressed; nothing when nothing waits.
    pub fn mark_compressible(&mut self) {
        if let Some(queue) = &mut self.0 {
            queue.compressible = true;
        }
    }

    /// Whether something of what waits may be compressed.
    #[must_use]
    pub fn is_compressible(&self) -> bool {
        self.0.as_ref().is_some_and(|queue| queue.compressible)
    }

    fn admit(&mut self, bytes: usize, packets: usize, limits: &OutboxLimits) -> Result<&mut Queue, OutboxFull> {
        if let Some(queue) = &self.0
            && (queue.bytes + bytes > limits.bytes || queue.packets + packets > limits.packets)
        {
            return Err(OutboxFull { bytes: queue.bytes, packets: queue.packets });
        }
        let queue = self.0.get_or_insert_default();
        queue.bytes += bytes;
        queue.packets += packets;
        Ok(queue)
    }

    /// The next bytes for a stream; empty when nothing waits.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |queue| queue.front())
    }

    /// The next runs for a vectored write, at most `N` of them.
    pub fn slices<const N: usize>(&self) -> ([&[u8]; N], usize) {
        let mut slices = [&[][..]; N];
        let mut count = 0;
        let Some(queue) = &self.0 else { return (slices, count) };
        for (index, chunk) in queue.chunks.iter().take(N).enumerate() {
            slices[index] = if index == 0 { &chunk.as_slice()[queue.taken..] } else { chunk.as_slice() };
            count += 1;
        }
        (slices, count)
    }

    /// Drops the first `bytes` bytes: a stream took them.
    ///
    /// # Panics
    /// When fewer bytes wait.
    pub fn advance(&mut self, mut bytes: usize) {
        const TOO_MANY: &str = "invariant: a stream takes no more than it was offered";
        let Some(queue) = &mut self.0 else { return assert_eq!(bytes, 0, "{TOO_MANY}") };
        queue.bytes = queue.bytes.checked_sub(bytes).expect(TOO_MANY);
        while bytes > 0 {
            let left = queue.front().len();
            if bytes < left {
                queue.taken += bytes;
                return;
            }
            bytes -= left;
            queue.packets -= queue.chunks.pop_front().map_or(0, |chunk| chunk.packets);
            queue.taken = 0;
        }
        if queue.chunks.is_empty() {
            // The capacity of a burst is not kept: an idle connection costs nothing.
            self.0 = None;
        }
    }

    /// Moves everything behind `frames`, as it is.
    ///
    /// # Panics
    /// As [`Outbox::drain_into_payload`].
    pub fn drain_into_frames(&mut self, frames: &mut Vec<u8>) {
        let Some(queue) = self.0.take() else { return };
        assert_eq!(queue.taken, 0, "invariant: a session goes from polling to a stream, never back");
        for chunk in &queue.chunks {
            frames.extend_from_slice(chunk.as_slice());
        }
    }

    /// Moves everything into a polling body.
    ///
    /// # Panics
    /// When a stream took part of a frame before: an upgraded session has no polls.
    pub fn drain_into_payload(&mut self, body: &mut Vec<u8>) {
        let Some(queue) = self.0.take() else { return };
        assert_eq!(queue.taken, 0, "invariant: a session goes from polling to a stream, never back");
        for chunk in &queue.chunks {
            payload::append_frames(body, chunk.as_slice());
        }
    }
}

impl Queue {
    fn front(&self) -> &[u8] {
        self.chunks.front().map_or(&[], |chunk| &chunk.as_slice()[self.taken..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use posthaste_websocket_proto::{Opcode, append_frame};
    use proptest::prelude::*;

    const LIMITS: OutboxLimits = OutboxLimits { bytes: 100, packets: 3 };

    fn frame(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        append_frame(&mut out, Opcode::Text, text.as_bytes());
        out
    }

    #[test]
    fn a_full_outbox_refuses_and_stays_as_it_was() {
        let mut outbox = Outbox::default();
        outbox.push(&frame("4a"), 1, &LIMITS).expect("room");
        outbox.push(&frame("4b"), 2, &LIMITS).expect("room");
        assert_eq!(outbox.push(&frame("4c"), 1, &LIMITS), Err(OutboxFull { bytes: 8, packets: 3 }));
        let mut body = Vec::new();
        outbox.drain_into_payload(&mut body);
        assert_eq!(body, b"4a\x1e4b");
        assert!(outbox.is_empty() && outbox.bytes() == 0 && outbox.packets() == 0);
    }

    #[test]
    fn one_message_above_the_bound_may_leave_an_empty_outbox() {
        let mut outbox = Outbox::default();
        let large = frame(&format!("4{}", "x".repeat(200)));
        outbox.push(&large, 1, &LIMITS).expect("the only one");
        assert!(outbox.push(&frame("4b"), 1, &LIMITS).is_err());
        outbox.advance(large.len());
        outbox.push(&frame("4b"), 1, &LIMITS).expect("room again");
    }

    #[test]
    fn a_run_of_nothing_is_not_queued() {
        let mut outbox = Outbox::default();
        outbox.push(&[], 0, &LIMITS).expect("room");
        outbox.push_shared(Bytes::new(), 0, &LIMITS).expect("room");
        assert!(outbox.is_empty() && outbox.slices::<4>().1 == 0);
    }

    #[test]
    fn large_runs_stay_shared() {
        let frames = Bytes::from(frame(&"x".repeat(COPY_UP_TO)));
        let mut outbox = Outbox::default();
        let limits = OutboxLimits { bytes: usize::MAX, packets: usize::MAX };
        outbox.push_shared(frames.clone(), 1, &limits).expect("room");
        assert!(std::ptr::eq(outbox.front().as_ptr(), frames.as_ptr()));
    }

    proptest! {
        #[test]
        fn a_stream_gets_every_byte_in_order_however_little_it_takes(
            runs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..6000), 0..8),
            takes in proptest::collection::vec(1usize..3000, 0..64),
        ) {
            let limits = OutboxLimits { bytes: usize::MAX, packets: usize::MAX };
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (index, run) in runs.iter().enumerate() {
                expected.extend_from_slice(run);
                if index % 2 == 0 {
                    outbox.push(run, 1, &limits).expect("no bound");
                } else {
                    outbox.push_shared(Bytes::copy_from_slice(run), 1, &limits).expect("no bound");
                }
            }
            let mut taken = Vec::new();
            for take in takes.into_iter().chain(std::iter::repeat(usize::MAX)) {
                let (slices, count) = outbox.slices::<4>();
                if count == 0 { break }
                let offered: Vec<u8> = slices[..count].concat();
                let take = take.min(offered.len());
                prop_assert!(offered.starts_with(outbox.front()));
                taken.extend_from_slice(&offered[..take]);
                outbox.advance(take);
                prop_assert_eq!(outbox.bytes(), expected.len() - taken.len());
            }
            prop_assert_eq!(taken, expected);
            prop_assert_eq!(outbox.packets(), 0);
        }
    }
}
