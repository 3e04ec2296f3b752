//! The end, in order: stop accepting, close what is open, exit. What is kept is flushed by whoever keeps it.

use std::time::Duration;

use posthaste::{Listener, Server};
use tokio::signal::unix::{SignalKind, signal};

/// How long connections may take for their last bytes.
const PATIENCE: Duration = Duration::from_secs(4);

/// Runs until SIGINT or SIGTERM, then closes in order. A second signal exits at once.
/// `close` ends what else there is.
pub(crate) fn until_signal(io: &Server, listener: &Listener, close: impl FnOnce()) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
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
