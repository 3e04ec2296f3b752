//! How long a test waits.

use std::future::Future;
use std::time::{Duration, Instant};

/// The end of every wait. Far above what anything takes on a busy machine: passing it means that it will never come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks of [`eventually`].
const STEP: Duration = Duration::from_millis(5);

/// Waits for `future`; `what` is told if it takes too long.
///
/// # Panics
/// After [`PATIENCE`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain: {what}"),
    }
}

/// Waits until `holds` is true, looking again and again; `what` is told if it never is.
///
/// # Panics
/// After [`PATIENCE`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let begin = std::time::Instant::now();
/// posthaste_testkit::eventually("a moment passes", async || begin.elapsed().as_micros() > 10).await;
/// # }
/// ```
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(STEP).await;
    }
}
