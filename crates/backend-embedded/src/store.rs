//! The store of one data folder.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use fjall::PersistMode;
use posthaste_history::store::{Capabilities, Shard, Store, StoreError};
use posthaste_queue::Queues;

use crate::committer::Committer;
use crate::config::Config;
use crate::content::Content;
use crate::error::{OpenError, io, read_failed};
use crate::folder::Folder;
use crate::journal;
use crate::open::{self, Found};
use crate::queue::{News, Queue};
use crate::salvage;
use crate::shard::{CAPABILITIES, EmbeddedShard, Inner, Read};
use crate::start::{Start, Trimmer};
use crate::tidy::{Before, Tidy};
use crate::tools::DiskUse;
use crate::work;

/// So often somebody looks whether tidying up is worth it.
const TIDY_INTERVAL: Duration = Duration::from_millis(500);

/// Streams, sessions and cursors in one data folder, for one process.
///
/// Threads: a committer for each shard, one reader, one that tidies up, and the engine's own.
pub struct EmbeddedStore {
    config: Config,
    content: Content,
    reads: Arc<Queue<Read>>,
    chores: Arc<Queue<Read>>,
    state: Arc<Mutex<State>>,
    tidy: Arc<Tidy>,
    /// Let go last.
    _folder: Folder,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) shards: HashMap<String, Arc<Inner>>,
    queues: Option<Arc<work::Inner>>,
    threads: Vec<JoinHandle<()>>,
    is_closed: bool,
}

impl EmbeddedStore {
    /// Opens a data folder, or makes it.
    ///
    /// # Errors
    /// [`OpenError`], which says what to do about it. Damage is found in all shards, before anything is changed.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let folder = Folder::take(&config.path)?;
        let data = folder.data();
        let start = journal::examine(&data)?;
        let content = Content::open(&data, &config)?;
        Self::take_up(folder, config, content, start)
    }

    /// Opens a data folder that [`EmbeddedStore::open`] finds damaged, without what is lost. Returns what that is, a sentence each.
    ///
    /// Of every shard everything is read once; its epoch is a new one, so that no client is told it missed nothing. What cannot be read is
    /// gone for good afterwards: copy the folder first.
    ///
    /// # Errors
    /// [`OpenError`], if even the engine cannot open what is there.
    pub fn salvage(config: Config) -> Result<(Self, Vec<String>), OpenError> {
        let folder = Folder::take(&config.path)?;
        let data = folder.data();
        let (start, mut losses) = journal::salvage(&data)?;
        let content = Content::open(&data, &config)?;
        for name in names(&content).map_err(|error| OpenError::engine(&config.path, error))? {
            let number = open::identify(&content, &name, &config.boot());
            let (number, _) =
                number.map_err(|error| OpenError::Damaged { path: config.path.clone(), detail: error.to_string() })?;
            losses.extend(salvage::shard(&content, &name, number)?);
        }
        if work::are_there(&content).map_err(|error| OpenError::engine(&config.path, error))? {
            let lost = work::salvage(&content, &config);
            losses.extend(
                lost.map_err(|error| OpenError::Damaged { path: config.path.clone(), detail: error.to_string() })?,
            );
        }
        Ok((Self::take_up(folder, config, content, start)?, losses))
    }

    /// Gives every shard of a data folder that no store has an epoch that no client knows.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub(crate) fn renew_epochs(config: Config) -> Result<(), OpenError> {
        let folder = Folder::take(&config.path)?;
        let data = folder.data();
        journal::examine(&data)?;
        let content = Content::open(&data, &config)?;
        let failed = |error| OpenError::engine(&config.path, error);
        let damaged = |error: StoreError| OpenError::Damaged { path: config.path.clone(), detail: error.to_string() };
        let mut batch = content.engine.batch();
        for name in names(&content).map_err(failed)? {
            let (number, _) = open::identify(&content, &name, &config.boot()).map_err(damaged)?;
            open::renew_epoch(&content, &mut batch, &name, number).map_err(damaged)?;
        }
        content.write(|| batch.commit()).map_err(failed)?;
        content.engine.persist(PersistMode::SyncAll).map_err(failed)
    }

    /// Takes up every shard that is there.
    fn take_up(folder: Folder, config: Config, content: Content, start: Start) -> Result<Self, OpenError> {
        let trimmer = Mutex::new(Trimmer::new(folder.data(), start));
        let path = config.path.clone();
        let [reads, chores] = [(); 2].map(|()| Arc::new(Queue::new(config.max_waiting_bytes)));
        let state = Arc::<Mutex<State>>::default();
        let tidy = Tidy { config: config.clone(), content: content.clone(), state: state.clone(), trimmer };
        let tidy = Arc::new(tidy);
        let store = Self { config, content, reads, chores, state, tidy: tidy.clone(), _folder: folder };
        for name in names(&store.content).map_err(|error| OpenError::engine(&path, error))? {
            let damaged = |error: StoreError| OpenError::Damaged { path: path.clone(), detail: error.to_string() };
            store.start(&name).map_err(damaged)?;
        }
        if work::are_there(&store.content).map_err(|error| OpenError::engine(&path, error))? {
            store
                .start_queues()
                .map_err(|error| OpenError::Damaged { path: path.clone(), detail: error.to_string() })?;
        }
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let reads = store.reads.clone();
        let reader = std::thread::Builder::new().name("posthaste-reader".into()).spawn(move || {
            while let News::Work(work) = reads.take(usize::MAX, 64, None) {
                work.into_iter().for_each(|read| read());
            }
        });
        store.lock().threads.push(reader.map_err(failed)?);
        let chores = store.chores.clone();
        let tidier = std::thread::Builder::new().name("posthaste-tidier".into()).spawn(move || {
            let mut before = Before::default();
            loop {
                match chores.take(usize::MAX, 1, Some(TIDY_INTERVAL)) {
                    News::Work(work) => work.into_iter().for_each(|chore| chore()),
                    News::Nothing => tidy.now_and_then(&mut before),
                    News::Closed => break,
                }
            }
        });
        store.lock().threads.push(tidier.map_err(failed)?);
        Ok(store)
    }

    fn start(&self, name: &str) -> Result<Arc<Inner>, StoreError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(StoreError::Closed);
        }
        if let Some(inner) = state.shards.get(name) {
            return Ok(inner.clone());
        }
        let Found { number, heads, checkpoint, dirty, groups } = open::load(&self.content, &self.config, name)?;
        let (config, content) = (self.config.clone(), self.content.clone());
        let queues = [self.reads.clone(), self.chores.clone()];
        let inner = Arc::new(Inner::new(number, config, content, queues, heads));
        let committer = Committer::new(inner.clone(), checkpoint, dirty, groups);
        let thread = std::thread::Builder::new().name(format!("posthaste-shard-{number}"));
        let thread = thread.spawn(move || committer.run()).map_err(|error| io("starting a shard's thread", error))?;
        state.threads.push(thread);
        state.shards.insert(name.to_owned(), inner.clone());
        Ok(inner)
    }

    /// The work queues of this folder: always the same ones.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn queues(&self) -> Result<Arc<dyn Queues>, StoreError> {
        Ok(Arc::new(work::EmbeddedQueues(self.start_queues()?)))
    }

    fn start_queues(&self) -> Result<Arc<work::Inner>, StoreError> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(StoreError::Closed);
        }
        if let Some(inner) = &state.queues {
            return Ok(inner.clone());
        }
        let (inner, thread) = work::start(&self.content, &self.config)?;
        state.threads.push(thread);
        Ok(state.queues.insert(inner).clone())
    }

    /// Frees the disk of all that is forgotten. Blocks until that is done, and takes as long as writing what is kept. Nobody has to
    /// call this: the store tidies up by itself when there is enough to be gained.
    ///
    /// # Errors
    /// [`StoreError`] if something could not be written.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.tidy.all()
    }

    /// Messages that were forgotten since the disk was freed of them ([`EmbeddedStore::compact`]).
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.lock().shards.values().map(|shard| shard.forgotten.load(Ordering::Relaxed)).sum()
    }

    /// Messages that are kept, in all shards that were opened.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.lock().shards.values().map(|shard| shard.lock_heads().totals().messages).sum()
    }

    /// What the folder takes on the disk.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn disk_use(&self) -> Result<DiskUse, StoreError> {
        crate::tools::disk_use(&self.config.path).map_err(|error| io("reading the data folder", error))
    }

    /// For tests: every sync from now on fails.
    #[doc(hidden)]
    pub fn fail_syncs(&self) {
        let state = self.lock();
        state.shards.values().for_each(|shard| shard.fails.store(true, Ordering::Relaxed));
        state.queues.iter().for_each(|queues| queues.fails.store(true, Ordering::Relaxed));
    }

    /// For tests: how often queues were synced.
    #[doc(hidden)]
    #[must_use]
    pub fn queue_syncs(&self) -> u64 {
        self.lock().queues.as_ref().map_or(0, |queues| queues.syncs.load(Ordering::Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The names of all shards.
fn names(content: &Content) -> Result<Vec<String>, fjall::Error> {
    let shards = content.heads.prefix(b"s");
    shards.map(|entry| entry.key().map(|key| String::from_utf8_lossy(&key[1..]).into_owned())).collect()
}

impl Store for EmbeddedStore {
    fn shard(&self, name: &str) -> Result<Arc<dyn Shard>, StoreError> {
        if name.len() > CAPABILITIES.max_name {
            return Err(StoreError::Refused(format!("a shard's name of {} bytes", name.len())));
        }
        Ok(Arc::new(EmbeddedShard(self.start(name)?)))
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn close(&self) -> Result<(), StoreError> {
        let (shards, queues, threads) = {
            let mut state = self.lock();
            state.is_closed = true;
            (std::mem::take(&mut state.shards), state.queues.take(), std::mem::take(&mut state.threads))
        };
        shards.values().for_each(|shard| shard.queue.close());
        queues.iter().for_each(|queues| queues.queue.close());
        self.reads.close();
        self.chores.close();
        let here = std::thread::current().id();
        // The last reference may be let go by a thread of ours, which cannot wait for itself.
        let panicked: HashSet<bool> =
            threads.into_iter().filter(|it| it.thread().id() != here).map(|it| it.join().is_err()).collect();
        for shard in shards.values() {
            shard.healthy()?;
        }
        queues.map_or(Ok(()), |queues| queues.healthy())?;
        if panicked.contains(&true) {
            return Err(StoreError::Poisoned("a thread of the store has panicked".into()));
        }
        self.content.engine.persist(PersistMode::SyncAll).map_err(read_failed)
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if !self.lock().is_closed
            && let Err(error) = self.close()
        {
            tracing::error!(%error, "the store was not closed as it should be");
        }
    }
}
