//! Streams of which nothing is kept leave the disk.

use posthaste_history::store::{Reply, StoreError};

use super::{Committer, RETAIN_STEP, Request};
use crate::codec::{checkpoint_key, head_key, name_key};
use crate::error::write_failed;

/// Forgets streams, in several steps.
pub(crate) struct DropIdle {
    /// Nothing was put in since.
    pub(crate) through: u64,
    /// The numbers of those that were seen to be idle.
    pub(crate) idle: Vec<u64>,
    /// How many are dropped by now.
    pub(crate) count: u64,
    pub(crate) reply: Reply<u64>,
}

/// No more than so many messages are taken off the disk with their stream: that has to be known of each, and compaction does it by the way.
const DROPPED_MESSAGES: usize = 64;

impl Committer {
    /// One step; the rest comes behind what waits by then.
    pub(super) fn drop_idle(&mut self, mut all: DropIdle) {
        let step = all.idle.split_off(all.idle.len().saturating_sub(RETAIN_STEP));
        match self.guarded(|committer| committer.drop_some(all.through, &step)) {
            Ok(count) => all.count += count,
            Err(error) => return all.reply.answer(Err(error)),
        }
        if all.idle.is_empty() {
            all.reply.answer(Ok(all.count));
        } else if let Err((Request::DropIdle(all), error)) = self.shard.queue.push(Request::DropIdle(all), 0) {
            all.reply.answer(Err(error));
        }
    }

    /// Forgets those of these streams that are still idle. Those that the checkpoint does not have as they are may be dropped another time:
    /// what is kept behind it names them.
    fn drop_some(&mut self, through: u64, step: &[u64]) -> Result<u64, StoreError> {
        let shard = self.shard.clone();
        let (content, number) = (&shard.content, shard.number);
        let mut batch = content.engine.batch();
        let mut dropped = Vec::new();
        for id in step {
            let Some((name, head)) = content.head(number, *id)? else { continue };
            let is_known = content.number_named(number, &name)? == Some(*id);
            let is_idle = head.is_idle(through) && !content.has_cursors(number, *id)?;
            if self.dirty.contains(&name) || !is_known || !is_idle {
                continue;
            }
            // What compaction has not dropped by now. Where that is much, it will.
            let rest = content.message_keys(number, *id, DROPPED_MESSAGES + 1)?;
            if rest.len() > DROPPED_MESSAGES {
                continue;
            }
            rest.into_iter().for_each(|key| batch.remove(&content.messages, key));
            batch.remove(&content.heads, name_key(number, &name));
            batch.remove(&content.heads, head_key(number, *id));
            dropped.push((name, head.head));
        }
        if dropped.is_empty() {
            return Ok(0);
        }
        {
            let mut heads = shard.lock_heads();
            dropped.iter().for_each(|(_, end)| heads.raise_dropped(*end));
            self.checkpoint.dropped = heads.dropped();
        }
        let key = checkpoint_key(number);
        batch.insert(&content.heads, &key[..], self.checkpoint.encode(&key));
        // Compaction may see it before the sync: it keeps what has no head.
        content.write(|| batch.commit()).map_err(|error| write_failed(&error))?;
        self.sync()?;
        let mut heads = shard.lock_heads();
        dropped.iter().for_each(|(name, _)| heads.drop_stream(name));
        Ok(dropped.len() as u64)
    }
}
