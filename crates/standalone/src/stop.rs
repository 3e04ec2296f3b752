//! The end, in order: stop accepting, close what is open, exit. What is kept is flushed by whoever keeps it.

use std::time::Duration;

use posthaste::{Listener, Server};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long connections may take for their last bytes.
const PATIENCE: Duration = Duration::from_secs(4);

/// Hears SIGINT and SIGTERM. Made before anybody is told that the server is there: whoever hears of it may end it.
pub(crate) struct Signals {
    runtime: Runtime,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (interrupt, terminate) = {
            let _within = runtime.enter();
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
        };
        Ok(Self { runtime, interrupt, terminate })
    }

    /// Waits for one, then closes in order. A second one exits at once. `close` ends what else there is.
    pub(crate) fn wait(self, io: &Server, listener: &Listener, close: impl FnOnce()) -> anyhow::Result<()> {
        let Self { runtime, mut interrupt, mut terminate } = self;
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            listener.close();
            close();
            let io = io.clone();
            let closed = tokio::task::spawn_blocking(move || io.close(PATIENCE));
            tokio::select! {
                closed = closed => {
                    if !closed? {
                        tracing::warn!("some connections did not take their last bytes in time");
                    }
                }
                _ = interrupt.recv() => std::process::exit(130),
                _ = terminate.recv() => std::process::exit(143),
            }
            Ok(())
        })
    }
}
