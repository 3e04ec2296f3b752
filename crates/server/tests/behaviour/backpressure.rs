//! A client that starts more handlers than may be unfinished is not read until some have finished. Nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use posthaste::{Answer, Data, Server, State};
use posthaste_testkit::{Client, Frame, Http, Packet, Record, Running, Transport, encode_frame, eventually, serve};
use tokio::sync::Semaphore;

const BOUND: usize = 4;
/// More than the kernel holds between two sockets of one machine.
const FLOOD: usize = 64 << 20;

#[derive(Clone)]
struct Gate(Arc<Semaphore>);

/// A server on one worker whose `wait` handlers finish one by one, as permits are given.
fn waiting() -> (Running, Record<u32>, Gate) {
    let (seen, gate) = (Record::new(), Gate(Arc::new(Semaphore::new(0))));
    let running =
        serve(Server::builder().workers(1).max_handlers(BOUND).state(seen.clone()).state(gate.clone()), |io| {
            io.on("wait", |State(seen): State<Record<u32>>, State(gate): State<Gate>, Data(number): Data<u32>| {
                seen.push(number);
                async move { gate.0.acquire().await.unwrap().forget() }
            });
            io.on("count", |State(seen): State<Record<u32>>, Data(number): Data<u32>| {
                seen.push(number);
                async move { Answer(number) }
            });
        });
    (running, seen, gate)
}

/// The texts of `wait` events from `begin` up to `end`.
fn waits(begin: usize, end: usize) -> Vec<String> {
    (begin..end).map(|number| format!(r#"2["wait",{number}]"#)).collect()
}

#[tokio::test]
async fn exactly_as_many_handlers_start_as_may_be_unfinished() {
    for transport in Transport::ALL {
        let (running, seen, gate) = waiting();
        let mut client = Client::join(running.addr, transport).await;
        let packets: Vec<Packet> = waits(0, 3 * BOUND).iter().map(|text| Packet::message(text)).collect();
        let io = running.io.clone();
        let counted = seen.clone();
        let watched = async move {
            for started in BOUND..=3 * BOUND {
                eventually("the next handler starts", async || counted.all().len() >= started).await;
                // Whatever else could start would have by now: the worker has answered a question since.
                assert_eq!((io.stats().await.handlers, counted.all().len()), (BOUND, started));
                gate.0.add_permits(1);
            }
            gate.0.add_permits(3 * BOUND);
        };
        let (sent, ()) = tokio::join!(client.engine().send_all(&packets), watched);
        sent.unwrap();
        client.ask(r#"["count",99]"#, "[99]").await;
        assert_eq!(seen.all(), (0..3 * BOUND as u32).chain([99]).collect::<Vec<_>>(), "{transport:?}");
    }
}

#[tokio::test]
async fn a_websocket_that_is_not_read_blocks_its_client_and_nobody_else() {
    let (running, seen, gate) = waiting();
    let mut busy = Client::websocket(running.addr).await;
    let mut other = Client::websocket(running.addr).await;
    for text in waits(0, BOUND) {
        busy.send(&text).await;
    }
    eventually("the bound is reached", async || seen.all().len() == BOUND).await;
    let event = encode_frame(&Frame::text(r#"42["count",7]"#), Some([0; 4]));
    let flood = event.repeat(FLOOD / event.len());
    let wire = busy.engine().websocket().wire();
    let sent = wire.write_for(&flood, Duration::from_secs(1)).await.unwrap();
    assert!(sent < flood.len(), "the kernel took {sent} bytes, so somebody read them");
    assert_eq!(seen.all().len(), BOUND);
    // The one that waits still hears, and the other one is answered.
    running.io.emit("heard", &()).await.unwrap();
    busy.expect(r#"2["heard"]"#).await;
    other.expect(r#"2["heard"]"#).await;
    other.ask(r#"["count",8]"#, "[8]").await;

    gate.0.add_permits(BOUND);
    let rest = sent.next_multiple_of(event.len());
    busy.engine().websocket().wire().write(&flood[sent..rest]).await.unwrap();
    busy.ask(r#"["count",9]"#, "[9]").await;
    let counted = seen.all().iter().filter(|number| **number == 7).count();
    assert_eq!(counted, rest / event.len(), "what was held back is handled, once");
}

#[tokio::test]
async fn a_post_that_starts_too_many_handlers_is_answered_late() {
    let (running, seen, gate) = waiting();
    let mut client = Client::join(running.addr, Transport::Polling).await;
    let mut body = waits(0, BOUND + 2).iter().map(|text| format!("4{text}")).collect::<Vec<_>>();
    body.push(r#"421["count",50]"#.to_owned());
    let request = posthaste_testkit::Request::post(&client.engine().polling_target(), body.join("\x1e"));
    let mut posts = Http::connect(running.addr).await;
    posts.wire().write(&request.encode()).await.unwrap();
    eventually("the bound is reached", async || seen.all().len() == BOUND).await;
    // Polls go on.
    running.io.emit("heard", &()).await.unwrap();
    client.expect(r#"2["heard"]"#).await;
    let early = tokio::time::timeout(Duration::from_millis(300), posts.wire().read()).await;
    assert!(early.is_err(), "the POST has no answer yet: {early:?}");

    gate.0.add_permits(2);
    eventually("the last two start", async || seen.all().len() == BOUND + 2).await;
    gate.0.add_permits(BOUND);
    let answer = posts.response().await.unwrap();
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    client.expect("31[50]").await;
}

#[tokio::test]
async fn a_client_that_goes_while_it_is_not_read_leaves_nothing_behind() {
    for transport in Transport::ALL {
        let (running, seen, gate) = waiting();
        let mut client = Client::join(running.addr, transport).await;
        // Without a poll under way nobody would notice that a polling client is gone, until a ping was not answered.
        client.engine().begin_poll().await.unwrap();
        let packets: Vec<Packet> = waits(0, BOUND + 3).iter().map(|text| Packet::message(text)).collect();
        tokio::select! {
            _ = client.engine().send_all(&packets) => {}
            () = eventually("the bound is reached", async || seen.all().len() == BOUND) => {}
        }
        drop(client);
        gate.0.add_permits(2 * BOUND);
        eventually("nothing is left", async || {
            let stats = running.io.stats().await;
            (stats.connections, stats.sockets, stats.handlers) == (0, 0, 0)
        })
        .await;
    }
}

#[tokio::test]
async fn handlers_of_one_client_do_not_count_for_another() {
    let (running, _, gate) = waiting();
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::websocket(running.addr).await;
        for text in waits(0, BOUND - 1) {
            client.send(&text).await;
        }
        clients.push(client);
    }
    for client in &mut clients {
        client.ask(r#"["count",1]"#, "[1]").await;
    }
    assert_eq!(running.io.stats().await.handlers, 10 * (BOUND - 1));
    gate.0.add_permits(10 * BOUND);
    eventually("all end", async || running.io.stats().await.handlers == 0).await;
}
