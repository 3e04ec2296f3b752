//! The rules, one function each.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::Bytes;

use super::model::{Behaviour, answer};
use super::stage::{NAMESPACE, Stage, list, target};
use super::{Cluster, Violation};
use crate::acks::{AckCollector, AnswerSink, Counts};
use crate::event::RawEvent;
use crate::port::Operation;
use crate::room::SocketId;
use crate::target::{Flags, Target};

pub(super) async fn check(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    delivers_here_before_it_returns(cluster, nodes).await?;
    delivers_to_the_target_everywhere_once_and_in_order(cluster, nodes).await?;
    carries_events_whole(cluster, nodes).await?;
    carries_flags(cluster, nodes).await?;
    keeps_what_is_local(cluster, nodes).await?;
    collects_the_answers_of_all(cluster, nodes).await?;
    knows_who_will_not_answer(cluster, nodes).await?;
    applies_operations_everywhere(cluster, nodes).await?;
    fetches_from_everywhere(cluster, nodes).await?;
    tells_the_other_servers_and_not_this_one(cluster, nodes).await?;
    collects_the_answers_of_the_other_servers(cluster, nodes).await?;
    keeps_namespaces_apart(cluster, nodes).await?;
    is_gone_when_it_is_closed(cluster, nodes).await
}

async fn delivers_here_before_it_returns(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage = Stage::new(cluster, nodes, "what is for this node's sockets is done when the call returns").await;
    let mut expected: Vec<(SocketId, RawEvent)> = Vec::new();
    let here = |stage: &Stage<'_>, expected: &[(SocketId, RawEvent)]| -> Result<(), Violation> {
        for id in stage.meant_on(0, &Target::default()) {
            let should = expected.iter().filter(|(to, _)| *to == id).count();
            let did = stage.received(id).len();
            // More than once is another rule's business.
            stage.ensure(did >= should, || format!("{id} has received {did} events instead of {should}"))?;
        }
        Ok(())
    };
    for (number, (rooms, except)) in TARGETS.iter().enumerate() {
        let event = stage.event("event", &number)?;
        let to = target(rooms, except);
        expected.extend(stage.meant_on(0, &to).into_iter().map(|id| (id, event.clone())));
        stage.emit(0, to, &event)?;
        here(&stage, &expected)?;
    }
    stage.apply(0, target(&["x"], &[]), Operation::Join(list(&["new"])));
    let joined = stage.meant_on(0, &target(&["new"], &[]));
    stage.ensure(joined.len() == 2, || format!("{} sockets have joined instead of 2", joined.len()))
}

/// Rooms and exceptions: everybody, one room, unions, rooms of one node only, names of nobody.
const TARGETS: [(&[&str], &[&str]); 9] = [
    (&[], &[]),
    (&["x"], &[]),
    (&["x", "y"], &[]),
    (&[], &["x"]),
    (&["x"], &["y"]),
    (&["x", "y"], &["node-0"]),
    (&["node-0"], &[]),
    (&["node-1", "nobody"], &["nobody"]),
    (&["nobody"], &[]),
];

async fn delivers_to_the_target_everywhere_once_and_in_order(
    cluster: &dyn Cluster,
    nodes: usize,
) -> Result<(), Violation> {
    let rule = "every socket of the target, on whichever node, gets an event once, and one node's events in order";
    let stage = Stage::new(cluster, nodes, rule).await;
    let mut expected: Vec<(SocketId, RawEvent)> = Vec::new();
    for from in 0..nodes {
        let mut number = 0;
        for _ in 0..3 {
            for (rooms, except) in TARGETS {
                let event = stage.event("event", &(from, number))?;
                number += 1;
                let to = target(rooms, except);
                expected.extend(stage.meant(from, &to).into_iter().map(|id| (id, event.clone())));
                stage.emit(from, to, &event)?;
            }
        }
        // One after the other: the order between nodes is nobody's promise.
        stage.done(from).await?;
        stage.compare(&expected)?;
    }
    let own = stage.everyone();
    for id in own {
        let event = stage.event("own room", &id.to_string())?;
        stage.emit(0, target(&[&id.to_string()], &[]), &event)?;
        expected.push((id, event));
    }
    stage.done(0).await?;
    stage.compare(&expected)
}

async fn carries_events_whole(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage = Stage::new(cluster, nodes, "an event has the same name, arguments and binary values everywhere").await;
    let (bytes, empty) = (Bytes::from((0..=255).collect::<Vec<u8>>()), Bytes::new());
    let long = "long \u{1F980} ".repeat(10_000);
    let events = [
        stage.event("plain", &())?,
        stage.event("", &"an event without a name")?,
        stage.event("[\"odd\"]", &(1, -2.5, true, "quote \" and \u{2028}", None::<u8>))?,
        stage.event("nested", &(vec![vec![1], vec![]], ("a", "b")))?,
        stage.event("binary", &(&bytes, "between", &empty))?,
        stage.event("deep", &vec![("name", &bytes), ("other", &bytes)])?,
        stage.event("long", &long)?,
    ];
    let mut expected = Vec::new();
    for event in events {
        expected.extend(stage.everyone().into_iter().map(|id| (id, event.clone())));
        stage.emit(0, Target::default(), &event)?;
    }
    stage.done(0).await?;
    stage.compare(&expected)
}

async fn carries_flags(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage = Stage::new(cluster, nodes, "volatile and compress are the same everywhere").await;
    let event = stage.event("event", &())?;
    for (volatile, compress) in [(false, true), (true, true), (false, false), (true, false)] {
        let flags = Flags { volatile, compress, ..Flags::default() };
        stage.emit(0, Target { flags, ..Target::default() }, &event)?;
    }
    stage.done(0).await?;
    for id in stage.everyone() {
        let flags: Vec<_> = stage.received(id).iter().map(|it| (it.flags.volatile, it.flags.compress)).collect();
        let expected = [(false, true), (true, true), (false, false), (true, false)];
        stage.ensure(flags == expected, || format!("(volatile, compress) were {flags:?} for {id}"))?;
    }
    Ok(())
}

async fn keeps_what_is_local(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage = Stage::new(cluster, nodes, "what is local concerns no other node").await;
    let local = Target { flags: Flags { local: true, ..Flags::default() }, ..Target::default() };
    let event = stage.event("event", &())?;
    stage.emit(0, local.clone(), &event)?;
    stage.apply(0, local.clone(), Operation::Join(list(&["local"])));
    let asked = stage.ask(0, local.clone(), &stage.event("question", &())?)?;
    stage.wait("answers of this node's sockets", poll_fn(|cx| asked.poll_done(cx))).await?;
    stage.ensure(asked.counts().asked == 3, || format!("{} sockets were asked", asked.counts().asked))?;
    let fetched = stage.wait("this node's sockets", stage.nodes[0].0.fetch(local.clone())).await?;
    let fetched = fetched.map_err(|error| stage.violation(error.to_string()))?;
    stage.ensure(fetched.len() == 3, || format!("{} sockets were fetched", fetched.len()))?;
    stage.done(0).await?;
    for node in 0..nodes {
        let joined = stage.meant_on(node, &target(&["local"], &[])).len();
        stage.ensure((joined == 3) == (node == 0), || format!("{joined} sockets of node {node} have joined"))?;
        for id in stage.meant_on(node, &Target::default()) {
            let received = stage.received(id).len();
            let expected = if node == 0 { 2 } else { 0 };
            stage.ensure(received == expected, || format!("{id} of node {node} received {received} events"))?;
        }
    }
    Ok(())
}

async fn collects_the_answers_of_all(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let rule = "a question is answered once by every socket of the target on every node, under ids of their own nodes";
    let stage = Stage::new(cluster, nodes, rule).await;
    let event = stage.event("question", &(1, Bytes::from_static(b"binary")))?;
    for (rooms, except) in TARGETS {
        for from in 0..nodes {
            let to = target(rooms, except);
            let meant = stage.meant(from, &to);
            let asked = stage.ask(from, to, &event)?;
            stage.wait("the end of the answers", poll_fn(|cx| asked.poll_done(cx))).await?;
            let all = Counts { asked: meant.len(), answered: meant.len(), ..Counts::default() };
            stage.ensure(asked.counts() == all, || format!("{:?} instead of {all:?}", asked.counts()))?;
            // And nothing comes behind the end.
            stage.done(from).await?;
            stage.ensure(asked.counts() == all, || format!("then {:?} instead of {all:?}", asked.counts()))?;
            let replies = asked.take();
            let expected: BTreeSet<_> = meant.iter().map(|id| answer(&id.to_string()).raw().to_owned()).collect();
            let answers: BTreeSet<_> = replies.iter().map(|reply| reply.args.raw().to_owned()).collect();
            stage.ensure(answers == expected, || format!("{answers:?} instead of {expected:?}"))?;
            for reply in replies {
                let bytes = reply.args.attachments();
                stage.ensure(bytes == [Bytes::from_static(&[1, 2])], || format!("an answer with {bytes:?}"))?;
                let id = reply.from.map(|id| answer(&id.to_string()));
                stage.ensure(id.is_none_or(|id| id == reply.args), || format!("{:?} is another's", reply.from))?;
            }
        }
    }
    Ok(())
}

async fn knows_who_will_not_answer(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage = Stage::new(cluster, nodes, "sockets that leave are not waited for, silent ones are").await;
    for (_, node) in &stage.nodes {
        node.connect(7, &["leaving"], Behaviour::Leaves);
        node.connect(8, &["silent"], Behaviour::IsSilent);
    }
    cluster.settle().await;
    let event = stage.event("question", &())?;
    let asked = stage.ask(0, target(&["leaving", "x"], &[]), &event)?;
    stage.wait("the end of the answers", poll_fn(|cx| asked.poll_done(cx))).await?;
    let expected = Counts { asked: 3 * nodes, answered: 2 * nodes, lost: nodes, ..Counts::default() };
    stage.ensure(asked.counts() == expected, || format!("{:?} instead of {expected:?}", asked.counts()))?;
    let asked = stage.ask(0, target(&["silent", "x"], &[]), &event)?;
    let expected = Counts { asked: 3 * nodes, answered: 2 * nodes, ..Counts::default() };
    let mut came = 0;
    while came < 2 * nodes {
        stage.wait("an answer of many", poll_fn(|cx| asked.poll_reply(cx))).await?;
        came += 1;
    }
    stage.done(0).await?;
    // Nodes say how many they asked before or behind the answers.
    stage.wait("all nodes' counts", reports(&asked)).await?;
    stage.ensure(asked.counts() == expected, || format!("{:?} instead of {expected:?}", asked.counts()))
}

/// Ends when every node has said how many it asked. Asks again and again: nothing tells of a report.
async fn reports(asked: &AckCollector) {
    poll_fn(|cx| {
        if asked.counts().nodes == 0 {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

async fn applies_operations_everywhere(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage =
        Stage::new(cluster, nodes, "operations are done to the target on every node, in order with events").await;
    let event = |name: &str| stage.event(name, &());
    let mut expected = Vec::new();
    let mut emit = |to: Target, name: &str, ids: Vec<SocketId>| -> Result<(), Violation> {
        let event = event(name)?;
        expected.extend(ids.into_iter().map(|id| (id, event.clone())));
        stage.emit(0, to, &event)
    };
    let in_x = stage.meant(0, &target(&["x"], &[]));
    let only_x = stage.meant(0, &target(&["x"], &["y"]));
    let not_x = stage.meant(0, &target(&[], &["x"]));
    let both = stage.meant(0, &target(&["y"], &[])).into_iter().filter(|id| in_x.contains(id)).collect();
    stage.apply(0, target(&["x"], &[]), Operation::Join(list(&["p", "q"])));
    emit(target(&["p"], &[]), "all of x are in p", in_x.clone())?;
    stage.apply(0, target(&["q"], &["y"]), Operation::Leave(list(&["p"])));
    emit(target(&["p"], &[]), "some of p have left", both)?;
    emit(target(&["q"], &[]), "nobody has left q", in_x)?;
    stage.done(0).await?;
    stage.compare(&expected)?;
    stage.apply(0, target(&["q"], &["y"]), Operation::Disconnect { close: true });
    stage.apply(0, target(&[], &["x"]), Operation::Disconnect { close: false });
    for (node, (_, model)) in stage.nodes.iter().enumerate() {
        stage.until(node, "two sockets are disconnected", |state| state.disconnected.len() >= 2).await?;
        let disconnected = model.lock().disconnected.clone();
        for (id, close) in disconnected {
            let right = if close { only_x.contains(&id) } else { not_x.contains(&id) };
            stage.ensure(right, || format!("{id} was disconnected, close: {close}"))?;
        }
    }
    stage.done(0).await?;
    stage.ensure(stage.everyone().len() == nodes, || format!("{} sockets are left", stage.everyone().len()))
}

async fn fetches_from_everywhere(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage = Stage::new(cluster, nodes, "sockets are fetched from every node, as they are there").await;
    for from in 0..nodes {
        for (rooms, except) in TARGETS {
            let to = target(rooms, except);
            let mut expected: Vec<_> = stage.nodes.iter().flat_map(|(_, node)| node.lock().snapshots(&to)).collect();
            let fetched = stage.wait("the sockets", stage.nodes[from].0.fetch(to)).await?;
            let mut fetched = fetched.map_err(|error| stage.violation(error.to_string()))?;
            fetched.sort_by(|a, b| a.id.cmp(&b.id));
            fetched.iter_mut().for_each(|socket| socket.rooms.sort());
            expected.sort_by(|a, b| a.id.cmp(&b.id));
            stage.ensure(fetched == expected, || format!("{fetched:?} instead of {expected:?}"))?;
        }
    }
    // As everything that was called before has left it.
    stage.apply(0, target(&["x"], &[]), Operation::Join(list(&["late"])));
    let fetched = stage.wait("the sockets", stage.nodes[0].0.fetch(target(&["late"], &[]))).await?;
    let count = fetched.map_err(|error| stage.violation(error.to_string()))?.len();
    stage.ensure(count == 2 * nodes, || format!("{count} of those who have joined just now"))
}

async fn tells_the_other_servers_and_not_this_one(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage = Stage::new(cluster, nodes, "a server's events reach every other server once and in order").await;
    let events = [
        stage.event("first", &())?,
        stage.event("disconnect", &("any name", 1))?,
        stage.event("binary", &("x", Bytes::from_static(b"yz")))?,
    ];
    for event in &events {
        drop(stage.nodes[0].0.server_emit(event.clone(), None));
    }
    for node in 1..nodes {
        stage.until(node, "a server's events", |state| state.server_events.len() >= events.len()).await?;
    }
    stage.done(0).await?;
    for (node, (_, model)) in stage.nodes.iter().enumerate() {
        let heard = model.lock().server_events.clone();
        let expected = if node == 0 { &[][..] } else { &events };
        stage.ensure(heard == expected, || format!("server {node} heard {heard:?}"))?;
    }
    Ok(())
}

async fn collects_the_answers_of_the_other_servers(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage = Stage::new(cluster, nodes, "every other server answers once; without any that is no answer").await;
    let event = stage.event("question", &1)?;
    for from in 0..nodes {
        let collector = Arc::new(AckCollector::new(usize::MAX));
        let answers: Arc<dyn AnswerSink> = collector.clone();
        drop(stage.nodes[from].0.server_emit(event.clone(), Some(answers)));
        stage.wait("the end of the answers", poll_fn(|cx| collector.poll_done(cx))).await?;
        let all = Counts { asked: nodes - 1, answered: nodes - 1, ..Counts::default() };
        stage.ensure(collector.counts() == all, || format!("{:?} instead of {all:?}", collector.counts()))?;
        stage.done(from).await?;
        stage.ensure(collector.counts() == all, || format!("then {:?} instead of {all:?}", collector.counts()))?;
        let answers: BTreeSet<_> = collector.take().into_iter().map(|reply| reply.args.raw().to_owned()).collect();
        let others = (0..nodes).filter(|node| *node != from);
        let expected: BTreeSet<_> = others.map(|node| answer(&node.to_string()).raw().to_owned()).collect();
        stage.ensure(answers == expected, || format!("{answers:?} instead of {expected:?}"))?;
    }
    Ok(())
}

async fn keeps_namespaces_apart(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let rule = "nothing goes from one namespace to another";
    let mut adapters = cluster.connect(&[NAMESPACE, "/other"], nodes).await.into_iter();
    let stage = Stage::over(cluster, NAMESPACE, adapters.next().unwrap_or_default(), rule).await;
    let other = Stage::over(cluster, "/other", adapters.next().unwrap_or_default(), rule).await;
    let event = other.event("event", &())?;
    other.emit(0, Target::default(), &event)?;
    other.apply(0, Target::default(), Operation::Join(list(&["other"])));
    drop(other.nodes[0].0.server_emit(event.clone(), None));
    other.done(0).await?;
    stage.done(0).await?;
    stage.compare(&[])?;
    let joined = stage.meant(0, &target(&["other"], &[])).len();
    stage.ensure(joined == 0, || format!("{joined} sockets have joined another namespace's room"))?;
    let heard: usize = stage.nodes.iter().map(|(_, node)| node.lock().server_events.len()).sum();
    stage.ensure(heard == 0, || "a server's event was heard in another namespace".to_owned())?;
    let expected: Vec<_> = other.everyone().into_iter().map(|id| (id, event.clone())).collect();
    other.compare(&expected)
}

async fn is_gone_when_it_is_closed(cluster: &dyn Cluster, nodes: usize) -> Result<(), Violation> {
    let stage = Stage::new(cluster, nodes, "servers are counted, and one that has ended is not waited for").await;
    for (adapter, _) in &stage.nodes {
        let count = stage.wait("the number of servers", adapter.node_count()).await?;
        let count = count.map_err(|error| stage.violation(error.to_string()))?;
        stage.ensure(count == nodes, || format!("{count} servers instead of {nodes}"))?;
    }
    if nodes == 1 {
        return Ok(());
    }
    let last = nodes - 1;
    let (closed, gone) = &stage.nodes[last];
    stage.done(last).await?;
    drop(closed.close());
    let counted = async {
        // It takes its time until everybody has heard of it.
        while stage.nodes[0].0.node_count().await.is_ok_and(|count| count == nodes) {
            poll_once_more().await;
        }
    };
    stage.wait("one server less", counted).await?;
    let event = stage.event("question", &())?;
    let asked = stage.ask(0, Target::default(), &event)?;
    stage.wait("the end of the answers", poll_fn(|cx| asked.poll_done(cx))).await?;
    let expected = Counts { asked: 3 * last, answered: 3 * last, ..Counts::default() };
    stage.ensure(asked.counts() == expected, || format!("{:?} instead of {expected:?}", asked.counts()))?;
    let fetched = stage.wait("the sockets", stage.nodes[0].0.fetch(Target::default())).await?;
    let count = fetched.map_err(|error| stage.violation(error.to_string()))?.len();
    stage.ensure(count == 3 * last, || format!("{count} sockets instead of {}", 3 * last))?;
    let heard = gone.lock().sockets.values().any(|it| it.received.iter().any(|received| received.event == event));
    stage.ensure(!heard, || "what has ended is still delivered to".to_owned())
}

/// Lets others go on.
async fn poll_once_more() {
    let mut first = true;
    poll_fn(|cx| {
        if std::mem::take(&mut first) {
            cx.waker().wake_by_ref();
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(())
    })
    .await;
}
