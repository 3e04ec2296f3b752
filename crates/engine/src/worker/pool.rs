//! The workers of a process, from their start to their end.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use posthaste_engine_proto::session::deadline_after;

use super::handle::{WorkerGone, WorkerHandle};
use super::mailbox::Mailbox;
use super::{AppEntry, AppIndex, Worker, current, driver, files, pulse};
use crate::application::Application;
use crate::config::EngineConfig;
use crate::gate::Gate;

/// The stack of the thread that watches the workers: it writes to the log.
const WATCH_STACK: usize = 256 * 1024;

/// A set of workers. Cloning shares it; the threads end with [`Workers::shutdown`], or when the last clone is dropped.
#[derive(Clone)]
pub struct Workers(Arc<Pool>);

struct Pool {
    handles: Vec<WorkerHandle>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
    /// How many applications the workers have been given.
    apps: Mutex<AppIndex>,
    /// Dropping it ends the thread that watches the workers.
    _watched: mpsc::Sender<()>,
}

impl Workers {
    /// Starts `count` workers (at least one, at most 256: a session id has a byte for its worker).
    ///
    /// # Errors
    /// When a thread or its reactor cannot be made.
    pub fn start(count: usize) -> io::Result<Self> {
        let count = count.clamp(1, 256);
        files::reserve();
        let mut handles = Vec::with_capacity(count);
        let mut threads = Vec::with_capacity(count);
        for index in 0..count {
            let mailbox = Arc::new(Mailbox::new(u16::try_from(index).expect("invariant: at most 256 workers")));
            handles.push(WorkerHandle(mailbox.clone()));
            let (started, outcome) = mpsc::channel();
            let spawned =
                thread::Builder::new().name(format!("posthaste-{index}")).spawn(move || driver::run(mailbox, &started));
            let failed = match spawned {
                Ok(thread) => {
                    threads.push(thread);
                    // A worker that ends without a word has panicked, and says so itself.
                    outcome.recv().unwrap_or_else(|_| Err(io::Error::other("the worker ended at its start"))).err()
                }
                Err(error) => Some(error),
            };
            if let Some(error) = failed {
                // Ends those that run already.
                drop(Self::new(handles, threads, mpsc::channel().0));
                return Err(error);
            }
        }
        let (watched, end) = mpsc::channel();
        let mailboxes: Vec<_> = handles.iter().map(|handle| Arc::downgrade(&handle.0)).collect();
        let watching = thread::Builder::new().name("posthaste-watch".to_owned());
        let watching = watching.stack_size(WATCH_STACK).spawn(move || pulse::watch(&mailboxes, &end));
        let workers = Self::new(handles, threads, watched);
        watching?;
        Ok(workers)
    }

    fn new(handles: Vec<WorkerHandle>, threads: Vec<thread::JoinHandle<()>>, watched: mpsc::Sender<()>) -> Self {
        Self(Arc::new(Pool { handles, threads: Mutex::new(threads), apps: Mutex::default(), _watched: watched }))
    }

    /// Starts one worker per available core.
    ///
    /// # Errors
    /// As [`Workers::start`].
    pub fn start_default() -> io::Result<Self> {
        Self::start(thread::available_parallelism().map_or(1, usize::from))
    }

    /// The workers, by number.
    #[must_use]
    pub fn handles(&self) -> &[WorkerHandle] {
        &self.0.handles
    }

    /// The worker whose thread this is, else the one with the fewest connections.
    #[must_use]
    pub fn nearest(&self) -> &WorkerHandle {
        let here = current(|current| {
            let current = current.as_ref()?;
            self.0.handles.iter().find(|handle| Arc::ptr_eq(&handle.0, &current.0.mailbox))
        });
        here.unwrap_or_else(|| {
            let least = self.0.handles.iter().min_by_key(|handle| handle.connections());
            least.expect("invariant: there is at least one worker")
        })
    }

    /// Gives each worker its half of `app`, behind everything posted before: at once when called on the worker's own thread, unless
    /// it is applying mail. Returns the application's number, the same on all.
    ///
    /// Waits for nobody: two workers may do this at once.
    ///
    /// # Errors
    /// [`WorkerGone`] after a shutdown.
    pub(crate) fn attach(
        &self,
        app: &Arc<dyn Application>,
        config: &Arc<EngineConfig>,
        gate: &Arc<Gate>,
    ) -> Result<AppIndex, WorkerGone> {
        let index = {
            // Held while it is posted: the order of numbers is the order of mail, on every worker.
            let mut apps = self.0.apps.lock().unwrap_or_else(PoisonError::into_inner);
            let index = *apps;
            for handle in &self.0.handles {
                let (app, config, gate) = (app.clone(), config.clone(), gate.clone());
                handle.post(move |worker| {
                    let half = app.attach(worker);
                    let mut apps = worker.0.apps.borrow_mut();
                    debug_assert_eq!(apps.len(), usize::from(index), "invariant: applications come in their order");
                    apps.push(AppEntry { app: half, config, gate, closed: false });
                })?;
            }
            *apps = index.checked_add(1).expect("invariant: fewer than 65,536 servers");
            index
        };
        if let Some(worker) = self.0.handles.iter().find_map(Worker::current_of) {
            worker.apply_mail();
        }
        Ok(index)
    }

    /// Ends every connection with the reason `server shutting down`, writes what waits, and ends the threads. Waits for them,
    /// at most `patience`; returns whether all had ended. Blocks: call it outside of async code.
    pub fn shutdown(&self, patience: Duration) -> bool {
        self.0.stop(patience);
        let until = deadline_after(Instant::now(), patience);
        let mut threads = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
        // A thread cannot be joined with a deadline.
        while threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        threads.retain(|thread| !thread.is_finished());
        threads.is_empty()
    }

    /// Ends the connections of one application. Returns whether every worker did so within `patience`.
    pub(crate) fn end_app(&self, app: AppIndex, patience: Duration) -> bool {
        let (reply, answers) = mpsc::channel();
        let mut asked = 0;
        for handle in &self.0.handles {
            let reply = reply.clone();
            let told = move || {
                // Nobody waits any more if it took too long.
                let _ = reply.send(());
            };
            // A worker that has ended has ended its connections too.
            let posted = match Worker::current_of(handle) {
                Some(worker) => {
                    worker.0.end_app(app);
                    told();
                    true
                }
                // The application hears of the ends before whoever waits does.
                None => {
                    let end = move |worker: &Worker| {
                        worker.0.end_app(app);
                        worker.0.put_off(told);
                    };
                    handle.post(end).is_ok()
                }
            };
            asked += usize::from(posted);
        }
        let until = deadline_after(Instant::now(), patience);
        (0..asked).all(|_| answers.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok())
    }
}

impl Pool {
    fn stop(&self, patience: Duration) {
        for handle in &self.handles {
            // Gone already: that is what was wanted.
            let _ = handle.post(move |worker| worker.0.stop(patience));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop(driver::GOODBYE);
    }
}
