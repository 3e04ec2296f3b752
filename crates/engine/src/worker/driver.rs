//! The task driver: a worker's runtime, and a small task for each stream.

use std::cell::Cell;
use std::future::Future;
use std::io::Write as _;
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
use super::reactor::Reactor;
use super::{CURRENT, ConnectionId, Local, Worker, report_stall};
use crate::stream::{Handover, Stream};

/// The size of the one buffer that a worker reads into.
pub(super) const SCRATCH: usize = 64 * 1024;

/// How long a stream that is being closed may take for its last bytes, and then for its peer's goodbye.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);

/// The life of a worker; `started` hears whether it has begun.
pub(super) fn run(mailbox: Arc<Mailbox>, started: &std::sync::mpsc::Sender<std::io::Result<()>>) {
    // A runtime of this thread alone: what handlers spawn runs here too, and may spawn what cannot leave the thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    let made = runtime.and_then(|runtime| {
        let (reactor, registry) = runtime.block_on(async { Reactor::new() })?;
        Ok((runtime, reactor, registry))
    });
    let (runtime, reactor, registry) = match made {
        Ok(made) => made,
        Err(error) => return drop(started.send(Err(error))),
    };
    let worker = Worker(Rc::new(Local::new(mailbox.clone(), registry)));
    CURRENT.set(Some(worker.clone()));
    // Whatever ends this thread, nobody goes on waiting for it.
    let closing = CloseMailbox(mailbox.clone());
    // Whoever starts the worker waits for this.
    let _ = started.send(Ok(()));
    runtime.block_on(async {
        let ticker = tokio::task::spawn_local(tick(worker.0.clone()));
        // Outside of tokio's budget: past it, what hundreds of handlers ask would be refused for nothing.
        tokio::task::unconstrained(turns(&worker.0, reactor)).await;
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

/// Each turn: mail, what sockets have to say, woken handlers, and one write per connection that has something to say. It begins when
/// the reactor has news, or when a connection of another driver has something to say: then it queues behind every task that is ready.
async fn turns(local: &Rc<Local>, mut reactor: Reactor) {
    // Whether the reactor had more news than were taken.
    let mut is_behind = false;
    loop {
        let news = tokio::select! {
            biased;
            () = std::future::ready(()), if is_behind => true,
            () = reactor.ready() => true,
            () = local.mailbox.notify().notified() => false,
            () = patience(local.stopping.get()) => return,
        };
        let begin = local.begin_turn();
        // This is the turn that anybody may want from now on.
        local.turn_wanted.set(true);
        local.apply_mail();
        local.read_on();
        is_behind = news && reactor.turn(local);
        local.run_ready();
        local.flush();
        local.end_turn(begin);
        if local.stopping.get().is_some() {
            // A connection that came with the mail behind the word to stop.
            local.end_all(None);
            local.end_idle_http();
            local.settle();
            local.flush();
            if local.tasks.len() == 0 && local.deferred.borrow().is_empty() {
                return;
            }
        }
        if !local.core.borrow().unread.is_empty() {
            local.want_turn();
        }
        if is_behind || local.turn_wanted.get() {
            // The next turn could begin at once. Others first.
            tokio::task::yield_now().await;
        }
    }
}

/// Until then; for ever without a time.
async fn patience(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

/// Sleeps until the wheel's next entry, and again when an earlier one appears.
async fn tick(local: Rc<Local>) {
    loop {
        let due = local.core.borrow_mut().wheel.next_due();
        let changed = local.wheel_changed.notified();
        match due {
            None => changed.await,
            Some(due) => {
                if tokio::time::timeout_at(due.into(), changed).await.is_ok() {
                    continue;
                }
                let begin = local.begin_turn();
                local.tick(begin);
                local.end_turn(begin);
            }
        }
    }
}

/// The buffer to read into, to be put back.
pub(super) fn take_scratch(local: &Local) -> Vec<u8> {
    let mut scratch = local.scratch.take();
    if scratch.is_empty() {
        scratch.resize(SCRATCH, 0); // a read inside another one's handlers took it
    }
    scratch
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
        let begin = self.local.begin_turn();
        let polled = self.local.drive(self.at.get(), cx);
        self.local.settle();
        self.local.end_turn(begin);
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

    /// As [`Local::start_clock`]; others see how long it takes until [`Local::end_turn`].
    fn begin_turn(&self) -> Instant {
        let now = self.start_clock();
        self.mailbox.pulse.begin(now);
        now
    }

    fn end_turn(&self, begin: Instant) {
        let taken = begin.elapsed();
        if self.mailbox.pulse.end(taken) {
            report_stall(self.mailbox.index, taken);
        }
    }

    /// One bounded read of a stream that has a task, after what waits to be written.
    fn drive(&self, id: ConnectionId, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut core = self.core.borrow_mut();
            let Some(stream) = core.stream(id) else { return Poll::Ready(()) };
            if !stream.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                stream.waker = Some(cx.waker().clone());
            }
        }
        match self.read(id, cx, true) {
            Drove::Again => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Drove::Waits => Poll::Pending,
            Drove::Over => Poll::Ready(()),
        }
    }

    /// One bounded read of a stream, after what waits to be written. `to_the_end` says whether a short read is followed by another:
    /// tokio answers that without asking the kernel, and a peer that has closed shows it only there.
    pub(super) fn read(&self, id: ConnectionId, cx: &mut Context<'_>, to_the_end: bool) -> Drove {
        if !self.writable(id) {
            return Drove::Over;
        }
        if !self.takes_answers(id, cx) {
            return Drove::Waits;
        }
        self.input_tail(id);
        let mut budget = SCRATCH;
        loop {
            let mut scratch = take_scratch(self);
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
            let is_full = matches!(read, Read::Bytes(count) if count == scratch.len());
            self.scratch.replace(scratch);
            match read {
                // A full buffer, or many short reads: there may be more. Others first.
                Read::Bytes(count) if count >= budget => return Drove::Again,
                Read::Bytes(count) => budget -= count,
                Read::Nothing => return Drove::Waits,
                Read::End | Read::Gone => return Drove::Over,
            }
            if self.core.borrow_mut().stream(id).is_none() {
                // Closed by its own input, or moved by an upgrade: then the next poll finds it there.
                return Drove::Again;
            }
            if !is_full && !to_the_end {
                return Drove::Waits;
            }
        }
    }
}

/// How a read left a stream.
pub(super) enum Drove {
    /// There may be more, or it is elsewhere by now.
    Again,
    /// Its driver is told when there is more.
    Waits,
    /// No stream is there any more.
    Over,
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
pub(super) fn end_stream(stream: Stream, mut outbox: Outbox, farewell: &Farewell) {
    let mut last = Vec::new();
    match farewell {
        Farewell::Gone => return,
        Farewell::Quiet | Farewell::Echo(None) => ws::append_close(&mut last, None),
        Farewell::Code(code) | Farewell::Echo(Some(code)) => ws::append_close(&mut last, Some((*code, ""))),
    }
    if let Stream::Direct(socket) = &stream
        && matches!(farewell, Farewell::Echo(_))
        && outbox.is_empty()
        && matches!((&*socket).write(&last), Ok(written) if written == last.len())
    {
        // The peer has said its last, and that was read.
        return;
    }
    finish(stream, async move |stream| {
        while !outbox.is_empty() {
            let count = stream.write(outbox.front()).await?;
            outbox.advance(count);
        }
        stream.write_all(&last).await
    });
}

/// The same for an HTTP connection whose last answer is `rest`.
pub(super) fn end_http(stream: Stream, rest: Vec<u8>) {
    finish(stream, async move |stream| stream.write_all(&rest).await);
}

fn finish(stream: Stream, write: impl AsyncFnOnce(&mut Stream) -> std::io::Result<()> + 'static) {
    let worker = Worker::current().expect("invariant: streams end on the worker that owns them");
    let stream = match stream {
        Stream::Direct(stream) => Stream::adopt(Handover::Tcp(worker.0.release(stream))),
        stream => Ok(stream),
    };
    let mut stream = match stream {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "a stream ends without a goodbye"),
    };
    let goodbye = Goodbye::new(&worker);
    tokio::task::spawn_local(async move {
        let written = tokio::time::timeout(GOODBYE, async {
            write(&mut stream).await?;
            stream.shutdown().await
        })
        .await;
        if matches!(written, Ok(Ok(()))) {
            let drained = async {
                // Not in the future itself, which would be copied with it.
                let mut sink = vec![0; 4096];
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
