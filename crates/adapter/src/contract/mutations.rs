//! The suite accepts what keeps its rules and nothing else.

use std::sync::Arc;
use std::time::Duration;

use super::{Adapters, Cluster, Fault, Mesh, check, rules};
use crate::memory::MemoryAdapter;
use crate::port::Pending;

struct Alone;

impl Cluster for Alone {
    fn connect(&self, namespaces: &[&str], _: usize) -> Pending<Adapters> {
        let adapters = namespaces.iter().map(|_| vec![Arc::new(MemoryAdapter::new()) as _]).collect();
        Box::pin(std::future::ready(adapters))
    }

    fn patience(&self) -> Pending<()> {
        Box::pin(tokio::time::sleep(Duration::from_secs(20)))
    }
}

struct Meshed {
    mesh: Mesh,
    patience: Duration,
}

impl Cluster for Meshed {
    fn connect(&self, namespaces: &[&str], nodes: usize) -> Pending<Adapters> {
        Box::pin(std::future::ready(self.mesh.connect(namespaces, nodes)))
    }

    fn patience(&self) -> Pending<()> {
        Box::pin(tokio::time::sleep(self.patience))
    }
}

#[tokio::test]
async fn the_memory_adapter_keeps_the_rules_of_one_node() {
    check(&Alone, 1).await.expect("it keeps them");
}

#[tokio::test]
async fn the_mesh_keeps_the_rules_of_several_nodes() {
    let cluster = Meshed { mesh: Mesh::default(), patience: Duration::from_secs(60) };
    for nodes in [2, 4] {
        check(&cluster, nodes).await.expect("it keeps them");
    }
}

#[test]
fn every_fault_is_noticed() {
    use Fault::*;
    let all = [
        (DeliversHereLate, "what is for this node's sockets is done"),
        (HearsItself, "gets an event once"),
        (DeliversTwice, "gets an event once"),
        (SwapsBroadcasts, "in order"),
        (IgnoresLocal, "what is local"),
        (LosesExceptions, "every socket of the target"),
        (LosesFlags, "volatile and compress"),
        (LosesAttachments, "the same name, arguments and binary values"),
        (KeepsTheAskersId, "under ids of their own nodes"),
        (ExpectsNobodyElse, "a question is answered"),
        (ReportsTwice, "a question is answered"),
        (KeepsLossesToItself, "sockets that leave"),
        (AnswersTwice, "a question is answered"),
        (ForgetsLeaves, "operations are done"),
        (AppliesOnlyElsewhere, "what is for this node's sockets is done"),
        (ForgetsToClose, "operations are done"),
        (FetchesOnlyHere, "sockets are fetched"),
        (FetchesWithoutRooms, "sockets are fetched"),
        (TellsItself, "a server's events reach"),
        (TellsServersTwice, "a server's events reach"),
        (ServersNeverAnswer, "every other server answers"),
        (CountsOnlyItself, "servers are counted"),
        (StaysAfterItsEnd, "one that has ended"),
        (WaitsForTheDead, "one that has ended"),
        (MixesNamespaces, "nothing goes from one namespace"),
    ];
    // What never comes is waited for as long as this, all at the same time.
    let patience = Duration::from_secs(5);
    let judge = |fault, rule: &str| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        match runtime.block_on(rules::check(&Meshed { mesh: Mesh::broken(fault), patience }, 3)) {
            Err(violation) if violation.rule.contains(rule) => None,
            Err(violation) => Some(format!("{fault:?} broke another rule: {violation}")),
            Ok(()) => Some(format!("{fault:?} went unnoticed")),
        }
    };
    let misjudged: Vec<String> = std::thread::scope(|scope| {
        let judges = all.map(|(fault, rule)| scope.spawn(move || judge(fault, rule)));
        judges.into_iter().filter_map(|judge| judge.join().expect("it judges")).collect()
    });
    assert!(misjudged.is_empty(), "{misjudged:#?}");
}
