//! This process as an adapter sees it: one job per worker for each broadcast.

use std::sync::Arc;
use std::time::Instant;

use posthaste_adapter::{Broadcast, Node, Operation, Target};
use posthaste_engine::{ConnectionId, Frames, Worker};
use posthaste_engine_proto::session::deadline_after;

use super::Local;
use crate::namespace::Namespace;

/// The sockets of one namespace in this process.
pub(crate) struct LocalNode<'a>(&'a Namespace);

impl<'a> LocalNode<'a> {
    pub(crate) const fn new(namespace: &'a Namespace) -> Self {
        Self(namespace)
    }
}

impl Node for LocalNode<'_> {
    fn deliver(&self, broadcast: &Broadcast) {
        if let (Some((_, collector)), Some(server)) = (&broadcast.answers, self.0.0.server.upgrade()) {
            collector.expect(server.workers.handles().len());
        }
        self.everywhere(broadcast, Local::deliver, |broadcast| report(broadcast, 0));
    }

    fn apply(&self, target: &Target, operation: &Operation) {
        self.everywhere(&(target.clone(), operation.clone()), Local::apply, |_| {});
    }
}

impl LocalNode<'_> {
    /// Does `act` on every worker: on this thread's own at once, behind everything posted to it before; on the others by a job.
    /// `absent` stands in for a worker without a half of this server.
    fn everywhere<T: Clone + Send + Sync + 'static>(&self, what: &T, act: fn(&Local, u32, &T), absent: fn(&T)) {
        let namespace = &self.0.0;
        let Some(server) = namespace.server.upgrade() else { return };
        let here = super::of(&namespace.server);
        if let Some(local) = &here {
            local.worker.apply_mail();
        }
        let mut shared: Option<Arc<T>> = None;
        for handle in server.workers.handles() {
            if here.as_ref().is_some_and(|local| local.worker.is(handle)) {
                continue;
            }
            let what = shared.get_or_insert_with(|| Arc::new(what.clone()));
            // The job holds the namespace: until it is done no other has its number.
            let (posted, namespace) = (what.clone(), namespace.clone());
            let job = move |_: &Worker| match super::of(&namespace.server) {
                Some(local) => act(&local, namespace.number(), &posted),
                None => absent(&posted),
            };
            if handle.post(job).is_err() {
                absent(what);
            }
        }
        if let Some(local) = here {
            act(&local, namespace.number(), what);
        }
    }
}

/// Tells whoever counts the answers how many sockets this worker asked.
fn report(broadcast: &Broadcast, addressed: usize) {
    if let Some((_, collector)) = &broadcast.answers {
        collector.addressed(addressed);
    }
}

impl Local {
    /// Does an operation to this worker's members of its target.
    fn apply(&self, namespace: u32, (target, operation): &(Target, Operation)) {
        let Some(namespace) = self.namespace(namespace) else { return };
        let mut meant = Vec::new();
        {
            let sockets = namespace.sockets.borrow();
            namespace.membership.borrow_mut().select(target, |member, _| {
                meant.extend(sockets.get(member.0 as usize).cloned().flatten());
            });
        }
        for socket in &meant {
            match operation {
                Operation::Join(rooms) => self.join(socket, rooms),
                Operation::Leave(rooms) => self.leave(socket, rooms),
                Operation::Disconnect { close } => self.disconnect(socket, *close),
                _ => {}
            }
        }
    }

    /// Delivers a broadcast to this worker's members of its target.
    fn deliver(&self, namespace: u32, broadcast: &Broadcast) {
        let Some(namespace) = self.namespace(namespace) else { return report(broadcast, 0) };
        let mut slots = self.slots.take();
        slots.clear();
        let volatile = broadcast.target.flags.volatile;
        match &broadcast.answers {
            None => namespace.membership.borrow_mut().select(&broadcast.target, |_, slot| slots.push(slot)),
            Some((id, collector)) => {
                let mut asked = Vec::new();
                let sockets = namespace.sockets.borrow();
                namespace.membership.borrow_mut().select(&broadcast.target, |member, slot| {
                    slots.push(slot);
                    if let Some(Some(socket)) = sockets.get(member.0 as usize) {
                        asked.push(socket.0.connection);
                    }
                });
                drop(sockets);
                self.ask_all(&asked, namespace.shared.number(), *id, broadcast, collector);
            }
        }
        if !slots.is_empty() {
            let staged = self.worker.stage_shared(&Frames::new(broadcast.packet.frames.clone()));
            self.worker.deliver(&staged, slots.iter().copied(), volatile);
        }
        self.slots.replace(slots);
    }

    fn ask_all(
        &self,
        asked: &[ConnectionId],
        namespace: u32,
        id: u64,
        broadcast: &Broadcast,
        collector: &Arc<posthaste_adapter::AckCollector>,
    ) {
        let deadline = deadline_after(Instant::now(), broadcast.target.flags.timeout.unwrap_or_default());
        // Counted before anyone can be lost or answer.
        report(broadcast, asked.len());
        for connection in asked {
            self.expect_answer_of(*connection, namespace, id, deadline, collector);
        }
    }
}
