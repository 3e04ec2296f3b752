//! A worker, from other threads.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Worker;
use super::mailbox::{Mail, Mailbox};
use super::pulse::WorkerStalls;

/// What a job that waits takes besides what it sends, about.
const JOB_BYTES: usize = 512;

/// The worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has ended")]
pub struct WorkerGone;

/// A worker, from anywhere.
#[derive(Clone)]
pub struct WorkerHandle(pub(super) Arc<Mailbox>);

impl WorkerHandle {
    /// The worker's number, from 0.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.0.index
    }

    /// How many connections it owns.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.load.load(Ordering::Relaxed)
    }

    /// How the worker has kept up. Does not ask the worker, which may be what does not answer.
    #[must_use]
    pub fn stalls(&self) -> WorkerStalls {
        self.0.pulse.stalls(self.0.index)
    }

    /// Runs `job` on the worker, behind everything posted before. Jobs run one after the other and must not block.
    ///
    /// # Errors
    /// [`WorkerGone`] when the worker has ended; the job is dropped.
    pub fn post(&self, job: impl FnOnce(&Worker) + Send + 'static) -> Result<(), WorkerGone> {
        self.0.post(Mail::Job(Box::new(job))).map_err(|_| WorkerGone)
    }

    /// As [`WorkerHandle::post`], for a job that sends `bytes`. Returns whether more waits than should: whoever can wait then
    /// waits for [`WorkerHandle::caught_up`].
    ///
    /// # Errors
    /// As [`WorkerHandle::post`].
    pub fn post_bytes(&self, bytes: usize, job: impl FnOnce(&Worker) + Send + 'static) -> Result<bool, WorkerGone> {
        // A job and its queue's entry are worth something too.
        self.0.post_bytes(Mail::Job(Box::new(job)), bytes + JOB_BYTES).map_err(|_| WorkerGone)
    }

    /// Whether more waits to be sent than should.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.0.is_behind()
    }

    /// Waits until the worker has taken what was posted to be sent, if that is more than should wait.
    ///
    /// # Cancel safety
    /// Safe.
    pub fn caught_up(&self) -> impl Future<Output = ()> + Send + use<> {
        let mailbox = self.0.clone();
        async move { mailbox.caught_up().await }
    }

    /// Runs `job` on the worker and brings back what it returns: at once when called on the worker's own thread.
    ///
    /// # Errors
    /// [`WorkerGone`] when the worker ended before it ran the job.
    ///
    /// # Cancel safety
    /// The job runs whether or not the future is awaited to its end.
    pub fn call<R: Send + 'static, J: FnOnce(&Worker) -> R + Send + 'static>(
        &self,
        job: J,
    ) -> impl Future<Output = Result<R, WorkerGone>> + Send + use<R, J> {
        let (now, later) = match Worker::current_of(self) {
            Some(worker) if worker.0.mailbox.is_closed() => {
                drop(worker);
                (Some(Err(WorkerGone)), None)
            }
            Some(worker) => {
                worker.0.start_clock();
                worker.0.apply_mail();
                let result = job(&worker);
                worker.0.settle();
                (Some(Ok(result)), None)
            }
            None => {
                let (reply, answer) = tokio::sync::oneshot::channel();
                let posted = self.post(move |worker| drop(reply.send(job(worker))));
                match posted {
                    Ok(()) => (None, Some(answer)),
                    Err(gone) => (Some(Err(gone)), None),
                }
            }
        };
        async move {
            match (now, later) {
                (Some(result), _) => result,
                (None, Some(answer)) => answer.await.map_err(|_| WorkerGone),
                (None, None) => Err(WorkerGone),
            }
        }
    }
}

impl std::fmt::Debug for WorkerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WorkerHandle({})", self.index())
    }
}
