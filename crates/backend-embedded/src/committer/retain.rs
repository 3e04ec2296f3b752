//! What is too old is forgotten.

use std::sync::atomic::Ordering;

use posthaste_history::Pid;
use posthaste_history::store::{Durability, Reply, StoreError, Timestamp};

use super::{Committer, RETAIN_STEP, Request};
use crate::content::Part;

/// Forgets what is too old, in several steps: what waits is committed in between.
pub(crate) struct Retain {
    pub(crate) now: Timestamp,
    /// Sessions that were seen to have expired.
    pub(crate) expired: Vec<Pid>,
    /// What is forgotten by now.
    pub(crate) count: u64,
    pub(crate) reply: Reply<u64>,
}

impl Committer {
    /// One step; the rest comes behind what waits by then.
    pub(super) fn retain(&mut self, mut retain: Retain) {
        match self.guarded(|committer| committer.retain_some(&mut retain)) {
            Ok(false) => {
                if let Err((Request::Retain(retain), error)) = self.shard.queue.push(Request::Retain(retain), 0) {
                    retain.reply.answer(Err(error));
                }
            }
            Ok(true) => {
                self.shard.retained.store(true, Ordering::Relaxed);
                retain.reply.answer(Ok(retain.count));
            }
            Err(error) => retain.reply.answer(Err(error)),
        }
    }

    /// Returns whether that was all.
    fn retain_some(&mut self, retain: &mut Retain) -> Result<bool, StoreError> {
        let (shard, now) = (self.shard.clone(), retain.now);
        let source = Part { content: &shard.content, shard: shard.number };
        let due = shard.lock_heads().due(now, RETAIN_STEP);
        for id in &due {
            if shard.lock_heads().name(*id).is_none() {
                let (name, head) = shard.content.head(shard.number, *id)?.ok_or_else(|| {
                    StoreError::Damaged(format!("the head of stream {id}, of which something is too old, is missing"))
                })?;
                shard.lock_heads().admit(&name, head);
            }
        }
        let expired = retain.expired.split_off(retain.expired.len().saturating_sub(RETAIN_STEP));
        // They may have been stored anew since they were looked for.
        let mut gone = Vec::new();
        for pid in expired {
            if shard.session(pid)?.is_some_and(|record| record.expires <= now) {
                gone.push(pid);
            }
        }
        let mut heads = shard.lock_heads();
        heads.forget_keys(now);
        let mut group = heads.begin();
        let mut forgotten = 0;
        for id in &due {
            let count = heads.look_after(*id, now, &source)?;
            forgotten += count;
            let Some(name) = heads.name(*id).cloned() else { continue };
            if count > 0 {
                group.trims.extend(heads.stream(&name).map(|head| (*id, head.floor)));
            }
            self.dirty.insert(name);
        }
        retain.count += forgotten + gone.len() as u64;
        group.sessions.extend(gone.into_iter().map(|pid| (pid, None)));
        if group.is_empty() {
            heads.cancel(&group);
        }
        drop(heads);
        shard.forgotten.fetch_add(forgotten, Ordering::Relaxed);
        if !group.is_empty() {
            group.durability = Durability::Disk;
            self.write(&group)?;
            self.show(group)?;
        }
        if self.is_checkpoint_due() {
            self.write_checkpoint()?;
        }
        Ok(due.len() < RETAIN_STEP && retain.expired.is_empty())
    }
}
