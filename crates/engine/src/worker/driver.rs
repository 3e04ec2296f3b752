//! The task driver: a worker's runtime, and a small task for each stream.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use posthaste_engine_proto::Outbox;
use posthaste_websocket_proto as ws;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::runtime::LocalOptions;

use super::connection::Farewell;
use super::mailbox::Mailbox;
use super::{CURRENT, ConnectionId, Local, STALL, Worker};
use crate::stream::Stream;

/// The size of the one buffer that a worker reads into.
pub(super) const SCRATCH: usize = 64 * 1024;

/// How long a stream that is being closed may take for its last bytes, and then for its peer's goodbye.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// The life of a worker; `started` hears whether it has begun.
pub(super) fn run(mailbox: Arc<Mailbox>, started: &std::sync::mpsc::Sender<std::io::Result<()>>) {
    // A runtime of this thread alone: what handlers spawn runs here too, and may spawn what cannot leave the thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error))),
    };
    let worker = Worker(Rc::new(Local::new(mailbox.clone())));
    CURRENT.set(Some(worker.clone()));
    // Whatever ends this thread, nobody goes on waiting for it.
    let closing = CloseMailbox(mailbox.clone());
    // Whoever starts the worker waits for this.
    let _ = started.send(Ok(()));
    runtime.block_on(async {
        let ticker = tokio::task::spawn_local(tick(worker.0.clone()));
        turns(&worker.0).await;
        ticker.abort();
        mailbox.close();
        // Streams and requests that are saying goodbye.
        let _ = tokio::time::timeout(GOODBYE, worker.0.goodbyes.wait()).await;
    });
    drop(closing);
    worker.0.tasks.clear();
    worker.0.apps.borrow_mut().clear();
    drop(runtime);
    CURRENT.set(None);
}

struct CloseMailbox(Arc<Mailbox>);

impl Drop for CloseMailbox {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The end of each turn: mail, woken handlers, and one write per connection that has something to say. Notified by the first
/// connection that does, it queues behind every task that is ready.
async fn turns(local: &Rc<Local>) {
    loop {
        match local.stopping.get() {
            None => local.mailbox.notify.notified().await,
            Some(until) => {
                if tokio::time::timeout_at(until.into(), local.mailbox.notify.notified()).await.is_err() {
                    return;
                }
            }
        }
        let begin = local.start_clock();
        local.apply_mail();
        local.run_ready();
        local.flush();
        local.stop_clock(begin);
        if local.stopping.get().is_some() {
            // A connection that came with the mail behind the word to stop.
            local.end_all(None);
            local.settle();
            local.flush();
            if local.tasks.len() == 0 && local.deferred.borrow().is_empty() {
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Sleeps until the wheel's next entry, and again when an earlier one appears.
async fn tick(local: Rc<Local>) {
    loop {
        let due = local.core.borrow().wheel.next_due();
        let changed = local.wheel_changed.notified();
        match due {
            None => changed.await,
            Some(due) => {
                if tokio::time::timeout_at(due.into(), changed).await.is_ok() {
                    continue;
                }
                let begin = local.start_clock();
                local.tick(begin);
                local.stop_clock(begin);
            }
        }
    }
}

/// Reads a stream from now on, until it is gone; `at` is where it is.
pub(super) fn drive(local: &Rc<Local>, at: Rc<Cell<ConnectionId>>) {
    tokio::task::spawn_local(Drive { local: local.clone(), at });
}

/// The task of one stream.
struct Drive {
    local: Rc<Local>,
    at: Rc<Cell<ConnectionId>>,
}

impl Future for Drive {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let begin = self.local.start_clock();
        let polled = self.local.drive(self.at.get(), cx);
        self.local.settle();
        self.local.stop_clock(begin);
        polled
    }
}

impl Local {
    /// Takes the time for everything that follows in this turn.
    pub(super) fn start_clock(&self) -> Instant {
        let now = Instant::now();
        self.now.set(now);
        now
    }

    fn stop_clock(&self, begin: Instant) {
        let taken = begin.elapsed();
        if taken > STALL {
            tracing::warn!(
                worker = self.mailbox.index,
                milliseconds = taken.as_millis(),
                "worker stalled: a handler kept it from its other connections; heavy work belongs on spawn_blocking"
            );
        }
    }

    /// One bounded read of a stream, after what waits to be written.
    fn drive(&self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut core = self.core.borrow_mut();
            let Some(stream) = core.stream(id) else { return Poll::Ready(()) };
            if !stream.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                stream.waker = Some(cx.waker().clone());
            }
        }
        if !self.writable(id) {
            return Poll::Ready(());
        }
        if !self.takes_answers(id, cx) {
            return Poll::Pending;
        }
        self.input_tail(id);
        let mut budget = SCRATCH;
        loop {
            let mut scratch = self.scratch.take();
            if scratch.is_empty() {
                scratch.resize(SCRATCH, 0); // a read inside another one's handlers took it
            }
            let read = {
                let mut core = self.core.borrow_mut();
                let paused = core.get(id).is_some_and(|connection| connection.paused);
                match core.stream(id) {
                    None => Read::Gone,
                    Some(_) if paused => Read::Nothing,
                    Some(stream) => {
                        let mut buffer = ReadBuf::new(&mut scratch);
                        match Pin::new(&mut stream.io).poll_read(cx, &mut buffer) {
                            Poll::Pending => Read::Nothing,
                            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Read::End,
                            Poll::Ready(Ok(())) => Read::Bytes(buffer.filled().len()),
                            Poll::Ready(Err(_)) => Read::End,
                        }
                    }
                }
            };
            match read {
                Read::Bytes(count) => self.input(id, &mut scratch[..count]),
                Read::End => self.end_at(id, posthaste_engine_proto::CloseReason::TransportClose, Farewell::Gone),
                Read::Gone | Read::Nothing => {}
            }
            self.scratch.replace(scratch);
            match read {
                // A full buffer, or many short reads: there may be more. Others first.
                Read::Bytes(count) if count >= budget => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // Tokio takes a short read as "drained": this asks for the wake-up without a system call.
                Read::Bytes(count) => budget -= count,
                Read::Nothing => return Poll::Pending,
                Read::End | Read::Gone => return Poll::Ready(()),
            }
            if self.core.borrow_mut().stream(id).is_none() {
                // Closed by its own input, or moved by an upgrade: then the next poll finds it there.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Read {
    Bytes(usize),
    /// The peer closed, or the stream broke.
    End,
    /// No stream is there any more.
    Gone,
    /// No bytes now; the task is woken when there are.
    Nothing,
}

/// Counts streams that are being closed.
#[derive(Default)]
pub(super) struct Goodbyes {
    open: Cell<usize>,
    none: tokio::sync::Notify,
}

impl Goodbyes {
    async fn wait(&self) {
        while self.open.get() > 0 {
            self.none.notified().await;
        }
    }
}

/// Something that keeps an ending worker until it is done.
pub(crate) struct Goodbye(Rc<Local>);

impl Goodbye {
    pub(crate) fn new(worker: &Worker) -> Self {
        worker.0.goodbyes.open.set(worker.0.goodbyes.open.get() + 1);
        Self(worker.0.clone())
    }
}

impl Drop for Goodbye {
    fn drop(&mut self) {
        self.0.goodbyes.open.set(self.0.goodbyes.open.get() - 1);
        self.0.goodbyes.none.notify_one();
    }
}

/// Writes what is left, says goodbye, and waits a little for the peer's: closing a socket that still holds unread bytes would
/// reset it, and the peer could lose what was just written.
pub(super) fn end_stream(mut stream: Stream, mut outbox: Outbox, farewell: &Farewell) {
    let mut last = Vec::new();
    match farewell {
        Farewell::Gone => return,
        Farewell::Quiet => ws::append_close(&mut last, None),
        Farewell::Code(code) => ws::append_close(&mut last, Some((*code, ""))),
    }
    let worker = Worker::current().expect("invariant: streams end on the worker that owns them");
    let goodbye = Goodbye::new(&worker);
    tokio::task::spawn_local(async move {
        let written = tokio::time::timeout(GOODBYE, async {
            while !outbox.is_empty() {
                let count = stream.write(outbox.front()).await?;
                outbox.advance(count);
            }
            stream.write_all(&last).await?;
            stream.shutdown().await
        })
        .await;
        if matches!(written, Ok(Ok(()))) {
            let drained = async {
                let mut sink = [0; 4096];
                let mut budget = 1usize << 20;
                while let Ok(count @ 1..) = stream.read(&mut sink).await {
                    budget = budget.saturating_sub(count);
                    if budget == 0 {
                        break;
                    }
                }
            };
            // A peer that neither reads nor closes has had its time.
            let _ = tokio::time::timeout(GOODBYE, drained).await;
        }
        drop(stream);
        drop(goodbye);
    });
}
