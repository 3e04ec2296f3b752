//! What leaves: one write per connection and turn, and what waits when a transport takes less.

use std::cell::Cell;
use std::future::Future;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use posthaste_engine_proto::payload;
use posthaste_engine_proto::{CloseReason, Limit, Outbox, OutboxFull, OutboxLimits, Wire};
use posthaste_websocket_proto::{Decoder, DeflateTerms, PerMessageDeflate};
use tokio::io::AsyncWrite;

use super::connection::{Connection, Farewell, StreamState};
use super::deflate::Compression;
use super::turn::Taken;
use super::{AppEntry, ConnectionId, Local, driver};
use crate::config::EngineConfig;
use crate::stream::{Stream, write_now};

/// Up to this much is gathered into one buffer before it is written; more goes out vectored.
const CORK: usize = 16 * 1024;

impl Local {
    /// The end of a turn: each connection that has something to say says it once.
    pub(super) fn flush(&self) {
        // Outside of tokio's budget: it is the budget of whichever task this is, and past it sockets that would take a write
        // say that they are busy.
        let flush = std::pin::pin!(tokio::task::unconstrained(async { self.write_dirty() }));
        let done = flush.poll(&mut Context::from_waker(Waker::noop()));
        debug_assert!(done.is_ready(), "invariant: it waits for nothing");
        self.send_answers();
    }

    fn write_dirty(&self) {
        self.turn_wanted.set(false);
        let mut failed: Vec<(ConnectionId, CloseReason, Farewell)> = Vec::new();
        {
            let mut core = self.core.borrow_mut();
            core.turn_number += 1;
            core.turn_shared = 0;
            if core.dirty.is_empty() {
                // Staged, and nobody took it.
                core.turn.clear();
                if let Some(compression) = &mut core.compression {
                    compression.end_turn();
                }
                return;
            }
            let apps = self.apps.borrow();
            let mut compression = core.compression.take();
            let mut dirty = std::mem::take(&mut core.dirty);
            let mut turn = std::mem::take(&mut core.turn);
            for slot in dirty.drain(..) {
                let Some((id, connection, taken)) = core.at_dirty(slot) else { continue };
                let AppEntry { config, gate, .. } = &apps[connection.app as usize];
                if let Err((reason, farewell)) = connection.write_out(&taken, &turn, config, &mut compression) {
                    if reason == CloseReason::Slow {
                        gate.count(Limit::Outbox);
                    }
                    failed.push((id, reason, farewell));
                }
            }
            core.dirty = dirty;
            if let Some(compression) = &mut compression {
                compression.end_turn();
            }
            core.compression = compression;
            // The buffer of a burst is not kept.
            if turn.capacity() > 2 * super::turn::FLUSH_ABOVE {
                turn = Vec::new();
            }
            turn.clear();
            core.turn = turn;
        }
        for (id, reason, farewell) in failed {
            if reason == CloseReason::Slow {
                tracing::debug!(connection = ?id, "disconnected: it reads too slowly");
            }
            self.end(id, reason, farewell);
        }
    }

    /// The stream at `id` can be written again. Returns false when the stream is gone.
    pub(super) fn writable(&self, id: ConnectionId) -> bool {
        let failed = {
            let mut core = self.core.borrow_mut();
            match core.stream(id) {
                None => return false,
                Some(stream) => {
                    let flushed = if stream.holds_back { stream.push_through() } else { Ok(()) };
                    flushed.is_err() || core.get_mut(id).is_some_and(|connection| connection.write_outbox().is_err())
                }
            }
        };
        if failed {
            self.end_at(id, CloseReason::TransportClose, Farewell::Gone);
        }
        !failed
    }
}

impl Connection {
    /// Hands what this turn produced to the transport, or keeps it for later.
    fn write_out(
        &mut self,
        taken: &Taken,
        turn: &[u8],
        config: &EngineConfig,
        compression: &mut Option<Box<Compression>>,
    ) -> Result<(), (CloseReason, Farewell)> {
        let limits = &config.outbox;
        let slow = |_: OutboxFull| (CloseReason::Slow, Farewell::Quiet);
        if self.wire != Wire::V4 && self.is_changed(taken, turn) {
            return self.write_rewritten(taken, turn, limits, may_compress(compression, taken, turn));
        }
        let Some(stream) = &mut self.stream else {
            let compressible = may_compress(compression, taken, turn);
            if !self.answer_at_once(taken, turn, compressible) {
                keep(&mut self.outbox, taken, turn, limits).map_err(slow)?;
                if compressible {
                    self.outbox.mark_compressible();
                }
            }
            return Ok(());
        };
        if stream.decoder.may_deflate() {
            return self.write_compressed(taken, turn, config, compression);
        }
        self.write_frames(taken, turn, limits)
    }

    /// As [`Connection::write_out`], with what is to be compressed compressed.
    #[cold]
    fn write_compressed(
        &mut self,
        taken: &Taken,
        turn: &[u8],
        config: &EngineConfig,
        compression: &mut Option<Box<Compression>>,
    ) -> Result<(), (CloseReason, Farewell)> {
        let state = self.stream.as_mut().and_then(|stream| stream.decoder.deflate_mut());
        let compressed = state.zip(config.per_message_deflate.as_ref()).and_then(|(state, options)| {
            compression.get_or_insert_default().deflate(self.app, options, state, taken, turn)
        });
        self.write_frames(compressed.as_ref().unwrap_or(taken), turn, &config.outbox)
    }

    /// Hands frames to the stream, or keeps them for later.
    // On the path of every message: a call of its own is a tenth of what a broadcast takes for each receiver.
    #[inline(always)]
    fn write_frames(
        &mut self,
        taken: &Taken,
        turn: &[u8],
        limits: &OutboxLimits,
    ) -> Result<(), (CloseReason, Farewell)> {
        let slow = |_: OutboxFull| (CloseReason::Slow, Farewell::Quiet);
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if !self.outbox.is_empty() {
            // A slow reader, or what waited for a poll before the upgrade.
            keep(&mut self.outbox, taken, turn, limits).map_err(slow)?;
            return self.write_outbox().map_err(|()| (CloseReason::TransportClose, Farewell::Gone));
        }
        let gone = |_| (CloseReason::TransportClose, Farewell::Gone);
        if let Some(single) = taken.single(turn) {
            let written = stream.write(single).map_err(gone)?;
            return keep_rest(&mut self.outbox, single, written, limits).map_err(slow);
        }
        if let Some(shared) = taken.single_shared().filter(|shared| shared.len() <= CORK) {
            let written = stream.write(shared).map_err(gone)?;
            return keep_rest(&mut self.outbox, shared, written, limits).map_err(slow);
        }
        let mut pieces = Vec::with_capacity(taken.more().len() + 1);
        pieces.push(taken.first(turn));
        pieces.extend(taken.more().iter().map(|piece| piece.bytes(turn)));
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if total <= CORK {
            let gathered = pieces.concat();
            let written = stream.write(&gathered).map_err(gone)?;
            return keep_rest(&mut self.outbox, &gathered, written, limits).map_err(slow);
        }
        // First to the kernel, as much as it takes: what a fast reader is sent does not count against its outbox.
        let mut written = 0;
        let mut rest = &pieces[..];
        while let Some(first) = rest.first() {
            let count = stream.write_vectored(&rest[..rest.len().min(16)]).map_err(gone)?;
            if count == 0 {
                break;
            }
            written += count;
            // Whole pieces go; a part of one is left to the outbox.
            let mut left = count;
            let mut part = first.len();
            while left >= part {
                left -= part;
                rest = &rest[1..];
                match rest.first() {
                    Some(next) => part = next.len(),
                    None => break,
                }
            }
            if left > 0 {
                break;
            }
        }
        keep_from(&mut self.outbox, taken, turn, written, limits).map_err(slow)?;
        self.write_outbox().map_err(|()| (CloseReason::TransportClose, Farewell::Gone))
    }

    /// Whether what this turn produced is written otherwise for this client.
    #[cold]
    fn is_changed(&self, taken: &Taken, turn: &[u8]) -> bool {
        taken.pieces(turn).any(|frames| self.wire.changes(frames))
    }

    /// As [`Connection::write_out`], in the form that the client takes.
    #[cold]
    fn write_rewritten(
        &mut self,
        taken: &Taken,
        turn: &[u8],
        limits: &OutboxLimits,
        compressible: bool,
    ) -> Result<(), (CloseReason, Farewell)> {
        let all = taken.concat(turn);
        let frames = self.wire.frames(&all);
        let kept = self.outbox.push(&frames, payload::count_frames(&frames), limits);
        kept.map_err(|_: OutboxFull| (CloseReason::Slow, Farewell::Quiet))?;
        if self.stream.is_none() {
            if compressible {
                self.outbox.mark_compressible();
            }
            self.answer_parked_poll();
            return Ok(());
        }
        self.write_outbox().map_err(|()| (CloseReason::TransportClose, Farewell::Gone))
    }

    /// Offers what waits to the stream.
    fn write_outbox(&mut self) -> Result<(), ()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.outbox.is_empty() {
            let (slices, count) = self.outbox.slices::<16>();
            let written = stream.write_vectored(&slices[..count]).map_err(drop)?;
            if written == 0 {
                break;
            }
            self.outbox.advance(written);
        }
        Ok(())
    }
}

impl StreamState {
    pub(super) fn new(io: Stream, deflate: Option<DeflateTerms>, at: Option<Rc<Cell<ConnectionId>>>) -> Self {
        let decoder =
            deflate.map_or_else(Decoder::new, |terms| Decoder::with_deflate(PerMessageDeflate::server(terms)));
        Self { io, decoder, tail: Vec::new(), holds_back: false, waker: None, at }
    }

    /// Writes as much as the stream takes; past that the driving task is woken when there is room.
    pub(super) fn write(&mut self, mut data: &[u8]) -> std::io::Result<usize> {
        if let Stream::Direct(socket) = &mut self.io {
            return write_now(socket, data);
        }
        let waker = self.waker.clone().unwrap_or_else(|| Waker::noop().clone());
        let mut cx = Context::from_waker(&waker);
        let mut written = 0;
        while !data.is_empty() {
            match Pin::new(&mut self.io).poll_write(&mut cx, data) {
                Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    written += count;
                    data = &data[count..];
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        self.push_through()?;
        Ok(written)
    }

    /// As [`StreamState::write`], once, for several runs.
    fn write_vectored(&mut self, runs: &[&[u8]]) -> std::io::Result<usize> {
        if !self.io.is_write_vectored() {
            return self.write(runs.first().copied().unwrap_or_default());
        }
        let waker = self.waker.clone().unwrap_or_else(|| Waker::noop().clone());
        let mut cx = Context::from_waker(&waker);
        let mut slices = [IoSlice::new(&[]); 16];
        for (slice, run) in slices.iter_mut().zip(runs) {
            *slice = IoSlice::new(run);
        }
        let written = match Pin::new(&mut self.io).poll_write_vectored(&mut cx, &slices[..runs.len().min(16)]) {
            Poll::Ready(Ok(0)) => return Err(std::io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(written)) => written,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => 0,
        };
        self.push_through()?;
        Ok(written)
    }

    /// Streams with a buffer of their own (TLS) are told to empty it, and asked again when they can.
    fn push_through(&mut self) -> std::io::Result<()> {
        let Stream::Other(io) = &mut self.io else { return Ok(()) };
        let waker = self.waker.as_ref().unwrap_or(Waker::noop());
        let flushed = Pin::new(io).poll_flush(&mut Context::from_waker(waker));
        self.holds_back = flushed.is_pending();
        match flushed {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Sends what is left and says goodbye; the task that drove the stream ends.
    pub(super) fn end(self, outbox: Outbox, farewell: &Farewell) {
        driver::end_stream(self.io, outbox, farewell);
        if let Some(waker) = self.waker {
            waker.wake();
        }
    }
}

/// Whether something of what a connection is sent may be compressed: everything, unless whoever sent it says otherwise.
fn may_compress(compression: &Option<Box<Compression>>, taken: &Taken, turn: &[u8]) -> bool {
    compression.as_ref().is_none_or(|compression| compression.may_compress(taken, turn))
}

/// Queues what a turn produced.
pub(super) fn keep(outbox: &mut Outbox, taken: &Taken, turn: &[u8], limits: &OutboxLimits) -> Result<(), OutboxFull> {
    keep_from(outbox, taken, turn, 0, limits)
}

/// Queues what a turn produced, without its first `written` bytes. Shared pieces stay shared, so that what the kernel refuses
/// is not copied for every slow receiver.
fn keep_from(
    outbox: &mut Outbox,
    taken: &Taken,
    turn: &[u8],
    mut written: usize,
    limits: &OutboxLimits,
) -> Result<(), OutboxFull> {
    let count = payload::count_frames;
    let mut skip = |len: usize| {
        let skipped = written.min(len);
        written -= skipped;
        skipped
    };
    let first = taken.first(turn);
    let skipped = skip(first.len());
    if skipped < first.len() {
        outbox.push(&first[skipped..], count(first), limits)?;
    }
    for piece in taken.more() {
        let bytes = piece.bytes(turn);
        let skipped = skip(bytes.len());
        if skipped == bytes.len() {
            continue;
        }
        match piece {
            super::turn::Piece::Shared(shared) => outbox.push_shared(shared.slice(skipped..), count(shared), limits)?,
            super::turn::Piece::Range { .. } => outbox.push(&bytes[skipped..], count(bytes), limits)?,
        }
    }
    Ok(())
}

/// Queues what the stream did not take of `run`.
fn keep_rest(outbox: &mut Outbox, run: &[u8], written: usize, limits: &OutboxLimits) -> Result<(), OutboxFull> {
    if written == run.len() {
        return Ok(());
    }
    // Counted as a whole run: a packet more than is left at most.
    outbox.push(&run[written..], payload::count_frames(run), limits)
}
