//! A store that another one is behind, with something that looks at what goes through, or keeps it up.

use std::sync::Arc;

use posthaste::Budget;
use posthaste::store::{
    Answer, Capabilities, Cursors, Follower, Page, Range, Receipt, SessionRecord, Shard, Stats, Store, StoreError,
    StreamInfo, StreamName, Timestamp, Write,
};
use posthaste_history::{Pid, Position};

/// What is done with calls: what nothing is said of goes through.
pub(crate) trait Between: Send + Sync + 'static {
    fn commit(&self, shard: &dyn Shard, now: Timestamp, writes: Vec<Write>) -> Answer<Vec<Receipt>> {
        shard.commit(now, writes)
    }

    fn read(&self, shard: &dyn Shard, ranges: Vec<Range>, max: Budget) -> Answer<Page> {
        shard.read(ranges, max)
    }

    fn cursors(&self, shard: &dyn Shard, stream: &StreamName) -> Answer<Cursors> {
        shard.cursors(stream)
    }
}

/// The store.
pub(crate) struct Through<B>(pub(crate) Arc<dyn Store>, pub(crate) Arc<B>);

struct ThroughShard<B>(Arc<dyn Shard>, Arc<B>);

impl<B: Between> Store for Through<B> {
    fn shard(&self, name: &str) -> Result<Arc<dyn Shard>, StoreError> {
        Ok(Arc::new(ThroughShard(self.0.shard(name)?, self.1.clone())))
    }

    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.0.close()
    }
}

impl<B: Between> Shard for ThroughShard<B> {
    fn commit(&self, now: Timestamp, writes: Vec<Write>) -> Answer<Vec<Receipt>> {
        self.1.commit(&*self.0, now, writes)
    }

    fn read(&self, ranges: Vec<Range>, max: Budget) -> Answer<Page> {
        self.1.read(&*self.0, ranges, max)
    }

    fn session(&self, now: Timestamp, pid: Pid) -> Answer<Option<SessionRecord>> {
        self.0.session(now, pid)
    }

    fn cursors(&self, stream: &StreamName) -> Answer<Cursors> {
        self.1.cursors(&*self.0, stream)
    }

    fn retain(&self, now: Timestamp) -> Answer<u64> {
        self.0.retain(now)
    }

    fn head(&self) -> Position {
        self.0.head()
    }

    fn look_up(&self, stream: &StreamName) -> Result<Option<StreamInfo>, StoreError> {
        self.0.look_up(stream)
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn follow(&self, follower: Option<Follower>) {
        self.0.follow(follower);
    }
}
