//! Handlers start in the order of arrival, run to their first await at once, and hold nobody up after it.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use posthaste::{Answer, Data, Server, Socket, State};
use posthaste_testkit::{Client, Record, Transport, eventually, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

#[tokio::test]
async fn a_handler_runs_to_its_first_await_before_the_next_event_is_handled() {
    for transport in Transport::ALL {
        let seen = Record::new();
        let go = Arc::new(Notify::new());
        let (record, gate) = (seen.clone(), go.clone());
        let running = serve(Server::builder().workers(1), |io| {
            io.on("event", move |Data(number): Data<u32>| {
                let (record, gate) = (record.clone(), gate.clone());
                async move {
                    record.push(format!("{number} begins"));
                    // Nothing that is ready gives way.
                    std::future::ready(()).await;
                    tokio::task::spawn_blocking(|| {});
                    record.push(format!("{number} waits"));
                    gate.notified().await;
                    record.push(format!("{number} ends"));
                }
            });
            io.on("done", async || {});
        });
        let mut client = Client::join(running.addr, transport).await;
        client.send_all(&[r#"2["event",1]"#, r#"2["event",2]"#, r#"2["event",3]"#, r#"21["done"]"#]).await;
        client.expect("31[]").await;
        let begun = ["1 begins", "1 waits", "2 begins", "2 waits", "3 begins", "3 waits"];
        assert_eq!(seen.all(), begun, "{transport:?}");
        for _ in 0..3 {
            go.notify_one();
        }
        let all = seen.wait_for(9).await;
        let mut ends = all[6..].to_vec();
        ends.sort();
        assert_eq!(ends, ["1 ends", "2 ends", "3 ends"]);
    }
}

#[tokio::test]
async fn handlers_that_wait_do_not_hold_up_others_of_the_same_socket() {
    let released = Arc::new(Semaphore::new(0));
    let running = serve(Server::builder().workers(1).state(released.clone()), |io| {
        io.on("wait", async |State(released): State<Arc<Semaphore>>| {
            released.acquire().await.unwrap().forget();
            Answer("released")
        });
        io.on("sleep", async || tokio::time::sleep(Duration::from_millis(5)).await);
        io.on("for ever", async || std::future::pending::<()>().await);
        io.on("now", async || {});
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.send_all(&[r#"24["for ever"]"#, r#"21["wait"]"#, r#"22["sleep"]"#, r#"23["now"]"#]).await;
        // Each is answered when it has ended, whoever came before it. Of these two the later may be so late that it is the second.
        let mut quick = [client.text().await, client.text().await];
        quick.sort();
        assert_eq!(quick, ["32[]", "33[]"]);
        released.add_permits(1);
        client.expect(r#"31["released"]"#).await;
    }
}

#[tokio::test]
async fn the_tokio_ecosystem_works_in_handlers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let echo = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut four = [0; 4];
            stream.read_exact(&mut four).await.unwrap();
            stream.write_all(&four).await.unwrap();
        }
    });
    let running = serve(Server::builder().workers(2), |io| {
        io.on("spawn", async || Answer(tokio::spawn(async { 1 }).await.unwrap()));
        io.on("spawn_local", async || {
            let not_send = std::rc::Rc::new(2);
            Answer(tokio::task::spawn_local(async move { *not_send }).await.unwrap())
        });
        io.on("spawn_blocking", async || {
            let work = || std::thread::current().name().unwrap_or_default().starts_with("posthaste-");
            Answer(tokio::task::spawn_blocking(work).await.unwrap())
        });
        io.on("sleep", async || tokio::time::sleep(Duration::from_millis(1)).await);
        io.on("yield", async || {
            for _ in 0..1000 {
                tokio::task::yield_now().await;
            }
        });
        io.on("timeout", async || {
            let result = tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
            Answer(result.is_err())
        });
        io.on("tcp", move || async move {
            let mut stream = tokio::net::TcpStream::connect(echo).await.unwrap();
            stream.write_all(b"ping").await.unwrap();
            let mut four = [0; 4];
            stream.read_exact(&mut four).await.unwrap();
            Answer(String::from_utf8(four.to_vec()).unwrap())
        });
        io.on("channel", async || {
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            tokio::spawn(async move {
                for number in 0..300 {
                    sender.send(number).await.unwrap();
                }
            });
            let mut sum = 0;
            while let Some(number) = receiver.recv().await {
                sum += number;
            }
            Answer(sum)
        });
        // A waker that is called from another thread, and before the poll that set it up has returned.
        io.on("thread", async || {
            let mut polls = 0;
            poll_fn(move |cx| {
                polls += 1;
                if polls == 3 {
                    return Poll::Ready(());
                }
                let waker = cx.waker().clone();
                std::thread::spawn(move || waker.wake()).join().unwrap();
                Poll::Pending
            })
            .await;
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        for (event, answer) in [
            ("spawn", "[1]"),
            ("spawn_local", "[2]"),
            ("spawn_blocking", "[false]"),
            ("sleep", "[]"),
            ("yield", "[]"),
            ("timeout", "[true]"),
            ("tcp", r#"["ping"]"#),
            ("channel", "[44850]"),
            ("thread", "[]"),
        ] {
            client.ask(&format!(r#"["{event}"]"#), answer).await;
        }
    }
}

#[tokio::test]
async fn a_thousand_handlers_wait_at_once_and_all_are_answered() {
    let gate = Arc::new(Semaphore::new(0));
    let opened = gate.clone();
    let running = serve(Server::builder().workers(2).max_handlers(2000), |io| {
        io.on("sleep", move |Data(number): Data<u64>| {
            let gate = gate.clone();
            async move {
                gate.acquire().await.unwrap().forget();
                tokio::time::sleep(Duration::from_millis(number % 7)).await;
                Answer(number)
            }
        });
    });
    let mut client = Client::websocket(running.addr).await;
    for number in 0..1000 {
        client.send(&format!(r#"2{number}["sleep",{number}]"#)).await;
    }
    eventually("they wait at once", async || running.io.stats().await.handlers == 1000).await;
    opened.add_permits(1000);
    let mut answers = Vec::new();
    for _ in 0..1000 {
        answers.push(client.text().await);
    }
    answers.sort();
    let mut expected: Vec<String> = (0..1000).map(|number| format!("3{number}[{number}]")).collect();
    expected.sort();
    assert_eq!(answers, expected);
    assert_eq!(running.io.stats().await.handlers, 0);
}

#[tokio::test]
async fn a_handler_outlives_its_socket_and_its_answer_is_lost() {
    let ended = Record::new();
    let gate = Arc::new(Semaphore::new(0));
    let (record, wait) = (ended.clone(), gate.clone());
    let running = serve(Server::builder().workers(1), |io| {
        io.on("wait", move |socket: Socket| {
            let (record, wait) = (record.clone(), wait.clone());
            async move {
                wait.acquire().await.unwrap().forget();
                record.push((socket.is_connected(), socket.emit("late", &()).await.is_err()));
                Answer("late")
            }
        });
    });
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.send(r#"21["wait"]"#).await;
        eventually("the handler waits", async || running.io.stats().await.handlers == 1).await;
        client.send("1").await;
        client.connect("/").await;
        gate.add_permits(1);
        eventually("the handler ends", async || running.io.stats().await.handlers == 0).await;
        // The same client joined again: that is another socket, and hears nothing of the first one's answer.
        client.send(r#"22["unknown"]"#).await;
        running.io.emit("only this", &()).await.unwrap();
        client.expect(r#"2["only this"]"#).await;
    }
    assert_eq!(ended.all(), [(false, true), (false, true)]);
}
