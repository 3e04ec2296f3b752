//! What is committed is sent, in order, and can be read again.

use posthaste::store::{Durability, Retention};
use posthaste::{Budget, DurableError, HistoryStart, SendError, Server};
use posthaste_testkit::serve;
use serde_json::{Value, json};

use crate::peer::Peer;
use crate::scene::{Remains, scene};

#[tokio::test]
async fn a_durable_room_has_its_events_committed_and_sent_in_order() {
    let (_, running, mut peer) = scene().await;
    for number in 0..100 {
        running.io.to("room").emit("event", &number).await.unwrap();
        // Nobody waits for these.
        running.io.volatile().emit("passing", &()).await.unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < 100 {
        let event = peer.event().await;
        if event[0] == "event" {
            heard.push(event[1].as_i64().unwrap());
        }
    }
    assert_eq!(heard, (0..100).collect::<Vec<_>>());
    let page = running.io.history("room").unwrap().page(HistoryStart::Oldest, Budget::UNLIMITED).await.unwrap();
    let read: Vec<i64> = page.events.iter().map(|it| it.event.args().deserialize::<i64>().unwrap()).collect();
    assert_eq!(read, heard);
    assert!(page.complete && !page.gap);
    assert_eq!(page.events.iter().map(|it| it.n).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    let linked = page.events.windows(2).all(|two| two[1].prev.as_ref() == Some(&two[0].offset));
    assert!(linked && page.events[0].prev.is_none());
}

#[tokio::test]
async fn a_durable_emit_says_where_it_is_and_repeating_it_with_its_key_is_harmless() {
    let (running, _) = Remains::new().serve();
    let mut peer = Peer::join(running.addr).await;
    peer.client.ask(r#"["join","elsewhere"]"#, "[]").await;
    let emit = |key: &'static str| running.io.to("elsewhere").durable().key(key).emit("event", &key);
    let first = emit("one").await.unwrap();
    let again = emit("one").await.unwrap();
    let other = emit("two").await.unwrap();
    assert_eq!((first.n, first.dup, first.durability), (1, false, Durability::Memory));
    assert_eq!((again.offset(), again.n, again.dup), (first.offset(), 1, true));
    assert_eq!((other.n, other.dup), (2, false));
    assert!(other.pos > first.pos);
    peer.expect(json!(["event", "one"])).await;
    peer.expect(json!(["event", "two"])).await;
    // What a client carries begins with the same text.
    assert_eq!(&peer.memory.offset.unwrap()[..23], other.offset());
}

#[tokio::test]
async fn everybody_and_one_socket_are_targets_too_and_exceptions_hold() {
    let (running, sockets) = Remains::new().serve();
    let mut one = Peer::join(running.addr).await;
    let mut two = Peer::join(running.addr).await;
    let (first, second) = (sockets.all()[0].clone(), sockets.all()[1].clone());
    let (first, second) = if first.id().to_string() == one.id { (first, second) } else { (second, first) };
    running.io.durable().emit("all", &1).await.unwrap();
    running.io.durable().except(first.id()).emit("all but one", &2).await.unwrap();
    second.timeout(std::time::Duration::from_secs(1)).durable().emit("two alone", &3).await.unwrap();
    running.io.emit("end", &()).await.unwrap();
    for (peer, events) in [
        (&mut one, vec![json!(["all", 1]), json!(["end"])]),
        (&mut two, vec![json!(["all", 1]), json!(["all but one", 2]), json!(["two alone", 3]), json!(["end"])]),
    ] {
        for event in events {
            peer.expect(event).await;
        }
    }
}

#[tokio::test]
async fn a_room_is_read_from_anywhere_and_told_of_news() {
    let (running, _) = Remains::new().serve();
    let io = &running.io;
    for number in 0..50 {
        io.to("room").emit("event", &number).await.unwrap();
        io.to("room:other").emit("other", &number).await.unwrap();
    }
    let history = io.history("room").unwrap();
    let numbers = |page: &posthaste::HistoryPage| -> Vec<i64> {
        page.events.iter().map(|it| it.event.args().deserialize::<i64>().unwrap()).collect()
    };
    for count in [0, 1, 7, 49, 50, 51, 1_000] {
        let page = history.page(HistoryStart::Last(count), Budget::UNLIMITED).await.unwrap();
        assert_eq!(numbers(&page), (50 - count.min(50) as i64..50).collect::<Vec<_>>(), "{count}");
    }
    let (mut start, mut all) = (None::<String>, Vec::new());
    loop {
        let from = start.as_deref().map_or(HistoryStart::Oldest, HistoryStart::After);
        let page = history.page(from, Budget { max_events: 7, max_bytes: usize::MAX }).await.unwrap();
        all.extend(numbers(&page));
        start = Some(page.next);
        if page.complete {
            break;
        }
    }
    assert_eq!(all, (0..50).collect::<Vec<_>>());
    let last = history.page(HistoryStart::After(&start.unwrap()), Budget::UNLIMITED).await.unwrap();
    assert!(last.events.is_empty());
    let changed = history.changed(last.pos);
    io.to("room").emit("event", &50).await.unwrap();
    tokio::time::timeout(std::time::Duration::from_secs(10), changed).await.unwrap();
    let page = history.page(HistoryStart::After(&last.next), Budget::UNLIMITED).await.unwrap();
    assert_eq!(numbers(&page), [50]);
    // Backwards as well; and forwards again from where such a page ends.
    let all = history.page(HistoryStart::Oldest, Budget::UNLIMITED).await.unwrap().events;
    for (at, count) in [(50, 7), (25, 1), (3, 10), (1, 5), (0, 3), (25, 0)] {
        let before = HistoryStart::Before(&all[at].offset, count);
        let page = history.page(before, Budget::UNLIMITED).await.unwrap();
        let first = at - count.min(at);
        assert_eq!(numbers(&page), (first as i64..at as i64).collect::<Vec<_>>(), "{count} before {at}");
        let one = Budget { max_events: 1, max_bytes: usize::MAX };
        let next = history.page(HistoryStart::After(&page.next), one).await.unwrap();
        assert_eq!(numbers(&next), [at as i64], "behind {count} before {at}");
    }
    for text in ["", "~", "nonsense", &"x".repeat(1_000)] {
        for start in [HistoryStart::After(text), HistoryStart::Before(text, 1)] {
            let refused = history.page(start, Budget::UNLIMITED).await;
            assert!(matches!(refused, Err(DurableError::Offset)), "{text}");
        }
    }
}

#[tokio::test]
async fn before_what_is_forgotten_there_is_nothing_to_read() {
    let retention = Retention { max_messages: 5, ..Retention::ROOM };
    let (running, _) = Remains::new().serve_with(retention, |durable| durable, |_| {});
    let mut offsets = Vec::new();
    for number in 0..10 {
        offsets.push(running.io.to("room").durable().emit("event", &number).await.unwrap().offset().to_owned());
    }
    let history = running.io.history("room").unwrap();
    for (at, expected) in [(9, vec![6, 7, 8]), (7, vec![5, 6]), (5, vec![]), (2, vec![])] {
        let page = history.page(HistoryStart::Before(&offsets[at], 3), Budget::UNLIMITED).await.unwrap();
        let read: Vec<i64> = page.events.iter().map(|it| it.event.args().deserialize::<i64>().unwrap()).collect();
        assert_eq!(read, expected, "before {at}");
    }
}

#[tokio::test]
async fn what_is_passing_is_sent_to_a_durable_room_and_not_kept() {
    let (_, running, mut peer) = scene().await;
    running.io.to("room").passing().emit("typing", &"ada").await.unwrap();
    running.io.to("room").emit("event", &1).await.unwrap();
    peer.expect(json!(["typing", "ada"])).await;
    peer.expect(json!(["event", 1])).await;
    let page = running.io.history("room").unwrap().page(HistoryStart::Oldest, Budget::UNLIMITED).await.unwrap();
    assert_eq!(page.events.iter().map(|it| it.event.name().unwrap()).collect::<Vec<_>>(), ["event"]);
}

#[tokio::test]
async fn where_there_is_no_store_nothing_pretends_to_be_durable() {
    let running = serve(Server::builder().workers(1), |_| {});
    let io = &running.io;
    assert!(matches!(io.durable_rooms("room", Retention::ROOM), Err(DurableError::NoStore(_))));
    assert!(matches!(io.to("room").durable().emit("event", &()).await, Err(DurableError::NoStore(_))));
    assert!(matches!(io.history("room"), Err(DurableError::NoStore(_))));
    let (running, _) = Remains::new().serve();
    running.io.namespaces("/made/{id}").unwrap();
    let made = running.io.namespace("/made/7");
    assert!(matches!(made.durable().emit("event", &()).await, Err(DurableError::NoStore(name)) if name == "/made/7"));
    assert!(matches!(running.io.durable_rooms("a*b", Retention::ROOM), Err(DurableError::Pattern(_))));
}

#[tokio::test]
async fn what_the_store_does_not_take_is_an_error_and_reaches_nobody() {
    let (_, running, mut peer) = scene().await;
    let large = "x".repeat(17 << 20);
    let refused = running.io.to("room").emit("event", &large).await;
    assert!(matches!(refused, Err(SendError::Durable(DurableError::Store(_)))), "{refused:?}");
    running.io.to("room").emit("next", &()).await.unwrap();
    peer.expect(json!(["next"])).await;
    let long = "room:".repeat(1_000);
    let refused = running.io.to(long.as_str()).emit("event", &()).await;
    assert!(matches!(refused, Err(SendError::Durable(DurableError::Store(_)))), "{refused:?}");
}

#[tokio::test]
async fn binary_arguments_are_kept_as_they_are() {
    let (running, _) = Remains::new().serve();
    let data = posthaste_testkit::Message::Binary(vec![1, 2, 3]);
    let mut peer = Peer::join(running.addr).await;
    peer.client.ask(r#"["enter","room"]"#, "[]").await;
    running.io.to("room").emit("data", &("a", bytes::Bytes::from_static(&[1, 2, 3]))).await.unwrap();
    let text = peer.client.text().await;
    assert!(text.starts_with(r#"51-["data","a",{"_placeholder":true,"num":0},"~"#), "{text}");
    assert_eq!(peer.client.message().await.unwrap(), data);
    let page = running.io.history("room").unwrap().page(HistoryStart::Last(1), Budget::UNLIMITED).await.unwrap();
    assert_eq!(page.events[0].event.attachments(), [bytes::Bytes::from_static(&[1, 2, 3])]);
    let _: Value = serde_json::from_str(&page.events[0].event.to_array()).unwrap();
}
