//! The end, in order: stop accepting, close what is open, flush what is kept, exit.

use std::time::Duration;

use anyhow::Context as _;
use posthaste::store::Store;
use posthaste::{Listener, Server};
use tokio::signal::unix::{SignalKind, signal};

/// How long connections may take for their last bytes.
const PATIENCE: Duration = Duration::from_secs(4);

/// Runs until SIGINT or SIGTERM, then closes in order. A second signal exits at once.
///
/// # Errors
/// When what is kept could not be written.
pub(crate) fn until_signal(io: &Server, listener: &Listener, store: Option<&dyn Store>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        listener.close();
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
        anyhow::Ok(())
    })?;
    store.map_or(Ok(()), Store::close).context("the data folder could not be closed: what was kept last may be missing")
}
