//! Which packets fit into which state of a connection.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use posthaste_socket_proto::*;
use proptest::prelude::*;

fn joined(namespaces: &[&str]) -> Connection<usize> {
    let mut connection = Connection::new(Instant::now());
    for (socket, namespace) in namespaces.iter().enumerate() {
        let wish = receive(&mut connection, &format!("0{namespace},")).map(|wish| wish.is_some());
        assert!(matches!(wish, Ok(true)));
        assert_eq!(connection.accept(&Arc::from(*namespace), socket), Ok(()));
    }
    connection
}

fn receive<'a>(connection: &mut Connection<usize>, text: &'a str) -> Result<Option<Inbound<'a, usize>>, Violation> {
    connection.receive_text(text, Instant::now(), &ConnectionLimits::default())
}

#[test]
fn packets_for_a_joined_namespace_reach_its_socket() {
    let mut connection = joined(&["/", "/admin"]);
    assert!(matches!(
        receive(&mut connection, r#"2/admin,7["hi",1]"#),
        Ok(Some(Inbound::Event { socket: 1, namespace, id: Some(7), event, args }))
            if namespace == "/admin" && event == "hi" && args.raw() == "1"
    ));
    assert!(matches!(
        receive(&mut connection, "312[true]"),
        Ok(Some(Inbound::Ack { socket: 0, id: 12, args })) if args.raw() == "true"
    ));
    assert!(matches!(receive(&mut connection, "2"), Ok(None)));
    assert!(matches!(receive(&mut connection, "3/admin"), Ok(None)));
    assert!(matches!(receive(&mut connection, r#"51-["b",{"_placeholder":true,"num":0}]"#), Ok(None)));
    let inbound = connection.receive_binary(Bytes::from_static(b"x"), &ConnectionLimits::default()).unwrap();
    assert!(matches!(inbound, Some(Inbound::Event { socket: 0, args, .. }) if args.attachments().len() == 1));

    assert_eq!(connection.iter().collect::<Vec<_>>(), [("/", &0), ("/admin", &1)]);
    assert_eq!((connection.get("/admin"), connection.get("/nope")), (Some(&1), None));
    assert!(matches!(receive(&mut connection, "1/admin,"), Ok(Some(Inbound::Disconnect { socket: 1 }))));
    assert_eq!(connection.get("/admin"), None);
    assert!(matches!(receive(&mut connection, "1"), Ok(Some(Inbound::Disconnect { socket: 0 }))));
    assert!(connection.is_empty());
    assert!(matches!(receive(&mut connection, "0"), Ok(Some(Inbound::Connect { .. }))), "and back again");
}

#[test]
fn packets_that_do_not_fit_are_violations() {
    for (namespaces, text, expected) in [
        (&[][..], r#"2["hi"]"#, "NotJoined"),
        (&[], "2", "NotJoined"),
        (&[], "30[]", "NotJoined"),
        (&[], "1", "NotJoined"),
        (&["/"], r#"2/admin,["hi"]"#, "NotJoined"),
        (&["/admin"], r#"2["hi"]"#, "NotJoined"),
        (&["/"], "1/admin,", "NotJoined"),
        (&["/"], "3/admin,0[]", "NotJoined"),
        (&["/"], "2/admin,", "NotJoined"),
        (&["/"], r#"51-/admin,["b",{"_placeholder":true,"num":0}]"#, "NotJoined"),
        (&["/"], "0", "AlreadyConnected"),
        (&["/", "/admin"], "0/admin,{}", "AlreadyConnected"),
        (&["/"], r#"4{"message":"x"}"#, "ConnectError"),
        (&[], "4/admin,", "ConnectError"),
        (&["/"], "0[]", "Decode"),
        (&["/"], "", "Decode"),
        (&["/"], r#"2["connect"]"#, "Decode"),
    ] {
        let violation = receive(&mut joined(namespaces), text).expect_err(text);
        assert!(format!("{violation:?}").starts_with(expected), "{text}: {violation:?}");
    }
}

#[test]
fn a_client_that_waits_may_only_wait() {
    for (text, expected) in
        [("0/a", "AlreadyConnected"), ("2/a,[\"x\"]", "NotJoined"), ("1/a", "NotJoined"), ("3/a,1[]", "NotJoined")]
    {
        let mut connection = joined(&[]);
        assert!(matches!(receive(&mut connection, "0/a"), Ok(Some(Inbound::Connect { .. }))));
        assert_eq!((connection.leave("/a"), connection.get("/a")), (None, None));
        let violation = receive(&mut connection, text).expect_err(text);
        assert!(format!("{violation:?}").starts_with(expected), "{text}: {violation:?}");
    }
}

#[test]
fn a_refused_client_may_ask_again() {
    let mut connection = joined(&[]);
    for _ in 0..3 {
        let Ok(Some(Inbound::Connect { namespace, auth })) = receive(&mut connection, "0/a,{\"t\":1}") else {
            panic!("a wish");
        };
        assert_eq!((&*namespace, auth.as_deref()), ("/a", Some("{\"t\":1}")));
        assert!(connection.refuse("/a"));
        assert!(!connection.refuse("/a"));
        assert_eq!(connection.accept(&Arc::from("/a"), 9), Err(9), "too late");
    }
    assert!(!joined(&["/"]).refuse("/"), "who is in cannot be refused");
    assert_eq!(joined(&["/"]).accept(&Arc::from("/"), 9), Err(9));
}

#[test]
fn packets_that_cross_the_servers_disconnect_are_ignored() {
    let mut connection = joined(&["/", "/a"]);
    assert_eq!((connection.leave("/a"), connection.leave("/a")), (Some(1), None));
    assert_eq!(connection.get("/a"), None);
    for text in [r#"2/a,["hi"]"#, "2/a,", "3/a,0[]", "1/a,"] {
        assert!(matches!(receive(&mut connection, text), Ok(None)), "{text}");
    }
    // Its own DISCONNECT was the last thing the client had to say in there.
    assert!(matches!(receive(&mut connection, r#"2/a,["hi"]"#), Err(Violation::NotJoined)));

    let mut connection = joined(&["/a"]);
    connection.leave("/a");
    assert!(matches!(receive(&mut connection, "0/a"), Ok(Some(Inbound::Connect { .. }))));
    assert!(matches!(receive(&mut connection, r#"2/a,["hi"]"#), Err(Violation::NotJoined)), "waiting again");
}

#[test]
fn limits_refuse_a_namespace_and_keep_the_connection() {
    let limits = ConnectionLimits { max_namespaces: 2, max_namespace_bytes: 4, ..ConnectionLimits::default() };
    let now = Instant::now();
    let mut connection = joined(&["/a", "/b"]);
    let refused = |inbound: Result<Option<Inbound<'_, usize>>, Violation>| match inbound {
        Ok(Some(Inbound::ConnectRefused { message, .. })) => message,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(refused(connection.receive_text("0/long", now, &limits)), "Invalid namespace");
    assert_eq!(refused(connection.receive_text("0/c", now, &limits)), "Too many namespaces");
    assert!(!connection.refuse("/c"), "it is not waited for");

    // Those the server left count only while there is room, the first one left being the first forgotten.
    connection.leave("/b");
    connection.leave("/a");
    assert!(matches!(connection.receive_text("0/ccc", now, &limits), Ok(Some(Inbound::Connect { .. }))));
    assert!(matches!(connection.receive_text("2/a", now, &limits), Ok(None)));
    assert!(matches!(connection.receive_text("2/b", now, &limits), Err(Violation::NotJoined)));
}

#[test]
fn a_client_must_join_a_namespace_in_time() {
    let start = Instant::now();
    let deadline = start + Duration::from_secs(45);
    let mut connection = Connection::new(deadline);
    assert_eq!(connection.deadline(), Some(deadline));
    receive(&mut connection, "0").unwrap();
    assert!(connection.expired(deadline - Duration::from_nanos(1)).is_none());
    assert!(matches!(connection.expired(deadline), Some(Violation::ConnectTimeout)), "asking is not joining");
    connection.refuse("/");
    assert_eq!(connection.deadline(), Some(deadline));
    receive(&mut connection, "0").unwrap();
    connection.accept(&Arc::from("/"), 0).unwrap();
    assert_eq!(connection.deadline(), None);
    assert!(connection.expired(deadline + Duration::from_secs(9_999)).is_none());
    connection.leave("/");
    assert_eq!(connection.deadline(), None, "only the first namespace is urgent");
}

/// What a connection does, said more simply and more slowly.
#[derive(Default)]
struct Model {
    states: BTreeMap<&'static str, ModelState>,
    pending: Option<(&'static str, u8)>,
    ever_joined: bool,
    leaves: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum ModelState {
    Connecting,
    Joined(usize),
    Left(usize),
}

#[derive(Debug, PartialEq)]
enum Expected {
    Violation,
    Nothing,
    Connect,
    Refused,
    To(usize),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Connect(&'static str),
    Packet(&'static str, &'static str),
    BinaryHeader(&'static str, u8),
    Binary,
    Accept(&'static str),
    Refuse(&'static str),
    Leave(&'static str),
    Drain,
}

const MAX_NAMESPACES: usize = 3;

impl Model {
    fn addressed(&self, namespace: &str) -> Expected {
        match self.states.get(namespace) {
            Some(ModelState::Joined(socket)) => Expected::To(*socket),
            Some(ModelState::Left(_)) => Expected::Nothing,
            _ => Expected::Violation,
        }
    }

    fn receive(&mut self, step: Step) -> Expected {
        match (step, self.pending) {
            (Step::Binary, None) => Expected::Violation,
            (Step::Binary, Some((namespace, left))) => {
                self.pending = (left > 1).then_some((namespace, left - 1));
                if self.pending.is_some() { Expected::Nothing } else { self.addressed(namespace) }
            }
            (_, Some(_)) => Expected::Violation,
            (Step::BinaryHeader(namespace, count), None) => {
                self.pending = Some((namespace, count));
                if self.addressed(namespace) == Expected::Violation { Expected::Violation } else { Expected::Nothing }
            }
            (Step::Packet("1", namespace), None) => {
                let addressed = self.addressed(namespace);
                self.states.remove(namespace);
                addressed
            }
            (Step::Packet("2", namespace), None) => match self.addressed(namespace) {
                Expected::To(_) => Expected::Nothing, // blank
                other => other,
            },
            (Step::Packet("4", _), None) => Expected::Violation,
            (Step::Packet(_, namespace), None) => self.addressed(namespace),
            (Step::Connect(namespace), None) => {
                match self.states.get(namespace) {
                    Some(ModelState::Connecting | ModelState::Joined(_)) => return Expected::Violation,
                    Some(ModelState::Left(_)) => _ = self.states.remove(namespace),
                    None => {}
                }
                if self.states.len() == MAX_NAMESPACES {
                    let left = self.states.iter().filter_map(|(name, state)| match state {
                        ModelState::Left(order) => Some((*order, *name)),
                        _ => None,
                    });
                    let Some((_, oldest)) = left.min() else { return Expected::Refused };
                    self.states.remove(oldest);
                }
                self.states.insert(namespace, ModelState::Connecting);
                Expected::Connect
            }
            (step, None) => panic!("not a message: {step:?}"),
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    let namespace = || prop::sample::select(vec!["/", "/a", "/b", "/c", "/d"]);
    prop_oneof![
        6 => namespace().prop_map(Step::Connect),
        6 => namespace().prop_map(Step::Accept),
        1 => namespace().prop_map(Step::Refuse),
        4 => namespace().prop_map(Step::Leave),
        5 => (prop::sample::select(vec!["1", "2", "event", "ack"]), namespace())
            .prop_map(|(kind, namespace)| Step::Packet(kind, namespace)),
        1 => namespace().prop_map(|namespace| Step::Packet("4", namespace)),
        2 => (namespace(), 1..3_u8).prop_map(|(namespace, count)| Step::BinaryHeader(namespace, count)),
        4 => Just(Step::Binary),
        1 => Just(Step::Drain),
    ]
}

fn wire(step: Step) -> String {
    match step {
        Step::Connect(namespace) => format!("0{namespace}"),
        Step::Packet("event", namespace) => format!(r#"2{namespace},5["x"]"#),
        Step::Packet("ack", namespace) => format!("3{namespace},5[]"),
        Step::Packet(digit, namespace) => format!("{digit}{namespace}"),
        Step::BinaryHeader(namespace, 1) => format!(r#"51-{namespace},["x",{{"_placeholder":true,"num":0}}]"#),
        Step::BinaryHeader(namespace, _) => {
            format!(r#"62-{namespace},1[{{"_placeholder":true,"num":0}},{{"_placeholder":true,"num":1}}]"#)
        }
        step => panic!("not a text message: {step:?}"),
    }
}

fn summary(outcome: Result<Option<Inbound<'_, usize>>, Violation>) -> Expected {
    match outcome {
        Err(_) => Expected::Violation,
        Ok(None) => Expected::Nothing,
        Ok(Some(Inbound::Connect { .. })) => Expected::Connect,
        Ok(Some(Inbound::ConnectRefused { .. })) => Expected::Refused,
        Ok(Some(Inbound::Event { socket, .. } | Inbound::Ack { socket, .. } | Inbound::Disconnect { socket })) => {
            Expected::To(socket)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_connection_agrees_with_its_model(steps in prop::collection::vec(any_step(), 0..60)) {
        let limits = ConnectionLimits { max_namespaces: MAX_NAMESPACES, ..ConnectionLimits::default() };
        let now = Instant::now();
        let mut connection = Connection::new(now);
        let mut model = Model::default();
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Accept(namespace) => {
                    let waits = model.states.get(namespace) == Some(&ModelState::Connecting);
                    if waits {
                        model.states.insert(namespace, ModelState::Joined(index));
                        model.ever_joined = true;
                    }
                    let accepted = connection.accept(&Arc::from(namespace), index);
                    prop_assert_eq!(accepted, if waits { Ok(()) } else { Err(index) });
                }
                Step::Refuse(namespace) => {
                    let waits = model.states.get(namespace) == Some(&ModelState::Connecting);
                    if waits {
                        model.states.remove(namespace);
                    }
                    prop_assert_eq!(connection.refuse(namespace), waits);
                }
                Step::Leave(namespace) => {
                    let mut expected = None;
                    if let Some(ModelState::Joined(socket)) = model.states.get(namespace).copied() {
                        model.leaves += 1;
                        model.states.insert(namespace, ModelState::Left(model.leaves));
                        expected = Some(socket);
                    }
                    prop_assert_eq!(connection.leave(namespace), expected);
                }
                Step::Drain => {
                    let mut drained: Vec<_> = connection.drain().collect();
                    drained.sort_unstable();
                    let joined = std::mem::take(&mut model).states.into_values().filter_map(|state| match state {
                        ModelState::Joined(socket) => Some(socket),
                        _ => None,
                    });
                    let mut joined: Vec<_> = joined.collect();
                    joined.sort_unstable();
                    prop_assert_eq!(drained, joined);
                    model.ever_joined = true; // no deadline any more
                }
                Step::Binary => {
                    let outcome = summary(connection.receive_binary(Bytes::new(), &limits));
                    prop_assert_eq!(&outcome, &model.receive(step));
                    if outcome == Expected::Violation {
                        return Ok(());
                    }
                }
                _ => {
                    let text = wire(step);
                    let outcome = summary(connection.receive_text(&text, now, &limits));
                    prop_assert_eq!(&outcome, &model.receive(step), "{}", text);
                    if outcome == Expected::Violation {
                        return Ok(());
                    }
                }
            }
            let joined: BTreeMap<_, _> = connection.iter().map(|(name, socket)| (name.to_owned(), *socket)).collect();
            let expected = model.states.iter().filter_map(|(name, state)| match state {
                ModelState::Joined(socket) => Some(((*name).to_owned(), *socket)),
                _ => None,
            });
            prop_assert_eq!(&joined, &expected.collect());
            prop_assert_eq!(connection.is_empty(), joined.is_empty());
            prop_assert_eq!(connection.expired(now).is_some(), !model.ever_joined);
        }
    }
}
