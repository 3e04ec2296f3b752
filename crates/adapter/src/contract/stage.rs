//! What a rule plays on: nodes with sockets, and patience.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::model::{Behaviour, ModelNode, State};
use super::{Cluster, Violation};
use crate::acks::{AckCollector, AnswerSink};
use crate::event::RawEvent;
use crate::packet::Packet;
use crate::port::{Adapter, Broadcast, Operation};
use crate::room::{IntoRooms, Rooms, SocketId};
use crate::target::Target;

/// The namespace that rules are about.
pub(super) const NAMESPACE: &str = "/stage";

/// The event behind everything that a rule sends.
const MARKER: &str = "marker";

pub(super) struct Stage<'a> {
    cluster: &'a dyn Cluster,
    rule: &'static str,
    pub(super) nodes: Vec<(Arc<dyn Adapter>, Arc<ModelNode>)>,
}

/// Everyone in some rooms but those in others.
pub(super) fn target(rooms: &[&str], except: &[&str]) -> Target {
    Target { rooms: list(rooms), except: list(except), ..Target::default() }
}

pub(super) fn list(names: &[&str]) -> Rooms {
    let mut rooms = Rooms::new();
    names.append_to(&mut rooms);
    rooms
}

impl<'a> Stage<'a> {
    /// So many nodes with three sockets each: one in `x`, one in `y`, one in both, and each in a room of its node.
    pub(super) async fn new(cluster: &'a dyn Cluster, nodes: usize, rule: &'static str) -> Self {
        let adapters = cluster.connect(&[NAMESPACE], nodes).await;
        let adapters = adapters.into_iter().next().unwrap_or_default();
        Self::over(cluster, NAMESPACE, adapters, rule).await
    }

    pub(super) async fn over(
        cluster: &'a dyn Cluster,
        namespace: &str,
        adapters: Vec<Arc<dyn Adapter>>,
        rule: &'static str,
    ) -> Self {
        let nodes: Vec<_> = (0u8..)
            .zip(adapters)
            .map(|(number, adapter)| {
                let node = ModelNode::new(namespace, number);
                node.start(&adapter);
                let own = format!("node-{number}");
                for (socket, rooms) in [(0, &["x"][..]), (1, &["y"]), (2, &["x", "y"])] {
                    node.connect(socket, &[rooms, &[own.as_str()]].concat(), Behaviour::Answers);
                }
                (adapter, node)
            })
            .collect();
        cluster.settle().await;
        Self { cluster, rule, nodes }
    }

    pub(super) fn violation(&self, detail: impl Into<String>) -> Violation {
        Violation { rule: self.rule, detail: detail.into() }
    }

    pub(super) fn ensure(&self, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds { Ok(()) } else { Err(self.violation(detail())) }
    }

    /// The sockets of one node that a target means.
    pub(super) fn meant_on(&self, node: usize, target: &Target) -> Vec<SocketId> {
        self.nodes[node].1.lock().meant(target)
    }

    /// The sockets of all nodes that a target means, if node `from` says so.
    pub(super) fn meant(&self, from: usize, target: &Target) -> Vec<SocketId> {
        let nodes = (0..self.nodes.len()).filter(|node| !target.flags.local || *node == from);
        nodes.flat_map(|node| self.meant_on(node, target)).collect()
    }

    pub(super) fn emit(&self, from: usize, target: Target, event: &RawEvent) -> Result<(), Violation> {
        let packet = self.packet(None, event)?;
        drop(self.nodes[from].0.broadcast(Broadcast { target, packet, answers: None }));
        Ok(())
    }

    pub(super) fn ask(&self, from: usize, target: Target, event: &RawEvent) -> Result<Arc<AckCollector>, Violation> {
        use crate::port::Node as _;
        let collector = Arc::new(AckCollector::new(usize::MAX));
        let (adapter, node) = &self.nodes[from];
        let id = node.next_ack_id();
        let answers: Arc<dyn AnswerSink> = collector.clone();
        let packet = self.packet(Some(id), event)?;
        drop(adapter.broadcast(Broadcast { target, packet, answers: Some((id, answers)) }));
        Ok(collector)
    }

    fn packet(&self, id: Option<u64>, event: &RawEvent) -> Result<Packet, Violation> {
        Packet::encode(NAMESPACE, id, event).map_err(|error| self.violation(error.to_string()))
    }

    pub(super) fn apply(&self, from: usize, target: Target, operation: Operation) {
        drop(self.nodes[from].0.apply(target, operation));
    }

    /// Waits for something that has to come.
    pub(super) async fn wait<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, Violation> {
        let mut future = pin!(future);
        let mut patience = self.cluster.patience();
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => patience.as_mut().poll(cx).map(|()| Err(self.violation(format!("{what}: never")))),
        })
        .await
    }

    /// Waits until a node is so.
    pub(super) async fn until(&self, node: usize, what: &str, is_so: impl Fn(&State) -> bool) -> Result<(), Violation> {
        let model = self.nodes[node].1.clone();
        self.wait(&format!("node {node}: {what}"), poll_fn(|cx| model.poll_until(cx, &is_so))).await
    }

    /// Waits until everything is done that node `from` has said so far: what it says last has arrived everywhere, and what others
    /// say then has come back to it, behind whatever came back before.
    pub(super) async fn done(&self, from: usize) -> Result<(), Violation> {
        self.mark(from).await?;
        for other in (0..self.nodes.len()).filter(|other| *other != from) {
            self.mark(other).await?;
        }
        Ok(())
    }

    async fn mark(&self, from: usize) -> Result<(), Violation> {
        let marker = self.event(MARKER, &self.marks())?;
        self.emit(from, Target::default(), &marker)?;
        for node in 0..self.nodes.len() {
            self.until(node, "what comes behind everything", |state| {
                state.sockets.values().all(|socket| socket.received.iter().any(|received| received.event == marker))
            })
            .await?;
            let wrong = self.nodes[node].1.lock().wrong.clone();
            self.ensure(wrong.is_none(), || wrong.unwrap_or_default())?;
        }
        Ok(())
    }

    /// How many markers there were: the next one is told from them by this number.
    fn marks(&self) -> usize {
        let is_marker = |received: &super::Received| received.event.name().is_ok_and(|name| name == MARKER);
        self.nodes
            .iter()
            .flat_map(|(_, node)| {
                let state = node.lock();
                state.sockets.values().map(|s| s.received.iter().filter(|r| is_marker(r)).count()).max()
            })
            .max()
            .unwrap_or(0)
    }

    pub(super) fn event(
        &self,
        name: &str,
        args: &(impl posthaste_socket_proto::EmitArgs + ?Sized),
    ) -> Result<RawEvent, Violation> {
        RawEvent::encode(name, args).map_err(|error| self.violation(error.to_string()))
    }

    /// What a socket has received, markers left out.
    pub(super) fn received(&self, id: SocketId) -> Vec<super::Received> {
        let not_marker = |received: &&super::Received| received.event.name().is_ok_and(|name| name != MARKER);
        let of = |node: &ModelNode| {
            let state = node.lock();
            state.sockets.get(&id).map(|socket| socket.received.iter().filter(not_marker).cloned().collect())
        };
        self.nodes.iter().find_map(|(_, node)| of(node)).unwrap_or_default()
    }

    /// The ids of all sockets.
    pub(super) fn everyone(&self) -> Vec<SocketId> {
        self.meant(0, &Target::default())
    }

    /// Compares what every socket has received with what it should have.
    pub(super) fn compare(&self, expected: &[(SocketId, RawEvent)]) -> Result<(), Violation> {
        for id in self.everyone() {
            let should: Vec<_> = expected.iter().filter(|(to, _)| *to == id).map(|(_, event)| event.clone()).collect();
            let did: Vec<_> = self.received(id).into_iter().map(|received| received.event).collect();
            self.ensure(did == should, || format!("{id} received {did:?} instead of {should:?}"))?;
        }
        Ok(())
    }
}
