//! What a client's request provokes comes behind everything that was sent before, also when the request came to its worker by
//! another one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use posthaste::Server;
use posthaste_testkit::{Client, Http, Record, Request, Transport};

use crate::spread::{Placed, Spread};

/// An HTTP connection that worker `wanted` accepted.
async fn connection_to(spread: &Spread, wanted: usize) -> Http {
    for _ in 0..500 {
        let mut http = Http::connect(spread.running.addr).await;
        if owner(spread, &mut http).await == wanted {
            return http;
        }
    }
    panic!("the kernel gives worker {wanted} no connections");
}

/// The worker that accepted a connection: a session that is opened on it is that worker's.
async fn owner(spread: &Spread, http: &mut Http) -> usize {
    let opened = http.send(&Request::get("/socket.io/?EIO=4&transport=polling")).await.unwrap();
    let sid = opened.text().split('"').nth(3).unwrap().to_owned();
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    assert_eq!(http.send(&Request::post(&target, "40")).await.unwrap().text(), "ok");
    let connected = http.send(&Request::get(&target)).await.unwrap();
    let id = connected.text().split('"').nth(3).unwrap().to_owned();
    let worker = spread.worker_of(&id);
    assert_eq!(http.send(&Request::post(&target, "1")).await.unwrap().text(), "ok");
    worker
}

/// A worker is held up, a POST for one of its sessions comes to another worker, then somebody broadcasts. What the POST's handler
/// knows of that broadcast it must not overtake: both wait in the same mailbox.
#[tokio::test]
async fn an_event_that_another_worker_brought_provokes_nothing_before_its_cause() {
    let (word, release) = mpsc::channel::<()>();
    let (release, held) = (Arc::new(Mutex::new(release)), Record::new());
    let said = Arc::new(AtomicBool::new(false));
    let spread = Spread::over(2, |io| {
        let (holding, asked) = (held.clone(), said.clone());
        io.on("hold", move || {
            holding.push(());
            release.lock().unwrap().recv().unwrap();
            async {}
        });
        io.on("here", async || {});
        io.on("react", move |io: Server| {
            let said = asked.clone();
            async move {
                assert!(said.load(Ordering::Acquire), "the worker was held up until then");
                io.emit("effect", &()).now().unwrap();
            }
        });
    });
    let mut clients = spread.clients(1).await;
    for round in 0..10 {
        said.store(false, Ordering::Release);
        let mut session = loop {
            let mut client = Client::open(spread.running.addr, Transport::Polling).await;
            let id = client.connect("/").await;
            if spread.worker_of(&id) == clients[0].worker {
                break client;
            }
        };
        let mut http = connection_to(&spread, clients[1].worker).await;
        clients[0].client.emit(r#"["hold"]"#).await;
        held.wait_for(round + 1).await;
        let target = session.engine().polling_target();
        http.wire().write(&Request::post(&target, r#"42["react"]"#).encode()).await.unwrap();
        // The other worker takes all news of a turn: by the second answer it has sent the request on.
        for _ in 0..2 {
            clients[1].client.ask(r#"["here"]"#, "[]").await;
        }
        spread.running.io.emit("cause", &()).now().unwrap();
        said.store(true, Ordering::Release);
        word.send(()).unwrap();
        assert_eq!(http.response().await.unwrap().text(), "ok");
        for Placed { client, .. } in &mut clients {
            client.expect(r#"2["cause"]"#).await;
            client.expect(r#"2["effect"]"#).await;
        }
        session.leave().await;
    }
}
