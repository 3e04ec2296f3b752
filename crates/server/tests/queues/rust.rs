//! Queues in Rust.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use posthaste::queue::{Command, Config, Outcome, Refusal, Settle, Settled, State, Verdict};
use posthaste::{Failure, Job, JobError, Pull, Queue, QueueError, Server};
use posthaste_testkit::{Record, within};
use serde_json::json;

use crate::scene::{Party, open, serving};

const SOON: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Mail {
    to: String,
}

fn mail(to: &str) -> Mail {
    Mail { to: to.into() }
}

async fn depth(queue: &Queue) -> (u64, u64, u64, u64) {
    let depth = queue.stats().await.unwrap();
    (depth.ready, depth.leased, depth.delayed, depth.dead)
}

#[tokio::test]
async fn a_worker_is_an_async_function() {
    let running = serving(open());
    let emails = running.io.queue("emails");
    let seen = Record::new();
    let control = {
        let seen = seen.clone();
        emails
            .worker(4, move |job: Job<Mail>| {
                let seen = seen.clone();
                async move {
                    seen.push((job.data.to.clone(), job.deliveries(), job.key().map(str::to_owned)));
                    match &*job.data.to {
                        "nobody" => Err(JobError::dead("nobody is there")),
                        "later" if job.failures() == 0 => Err(JobError::retry("busy").after(Duration::ZERO)),
                        "panic" => panic!("on purpose"),
                        "number" => Ok("x".parse::<u32>()?.to_string()),
                        to => Ok(format!("sent to {to}")),
                    }
                }
            })
            .start()
    };
    let receipt = emails.put(&mail("ann")).key("ann").keep_result(SOON).await.unwrap();
    assert_eq!(emails.result::<String>(receipt.id, SOON).await.unwrap(), "sent to ann");
    assert_eq!(seen.all(), [("ann".to_owned(), 1, Some("ann".to_owned()))]);
    assert_eq!(emails.put(&mail("later")).call::<String>(SOON).await.unwrap(), "sent to later");
    let failed = emails.put(&mail("nobody")).call::<String>(SOON).await;
    let dead = |why: &str| Failure::Dead(why.to_owned());
    assert!(matches!(&failed, Err(QueueError::Failed(failure)) if *failure == dead("nobody is there")), "{failed:?}");
    let failed = emails.put(&mail("panic")).attempts(1).call::<String>(SOON).await;
    assert!(
        matches!(&failed, Err(QueueError::Failed(failure)) if *failure == dead("the worker panicked")),
        "{failed:?}"
    );
    let failed = emails.put(&mail("number")).attempts(1).call::<String>(SOON).await;
    assert!(matches!(&failed, Err(QueueError::Failed(Failure::Dead(why))) if why.contains("digit")), "{failed:?}");
    let failed = emails.put(&5).call::<String>(SOON).await;
    assert!(matches!(&failed, Err(QueueError::Failed(Failure::Dead(_)))), "{failed:?}");
    within("it stops", control.stop()).await.unwrap();
    assert_eq!(emails.stats().await.unwrap().consumers, 0);
}

#[tokio::test]
async fn a_worker_has_as_many_as_it_may_and_finishes_what_it_has() {
    let running = serving(open());
    let queue = running.io.queue("work");
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let control = {
        let (now, most, gate) = (now.clone(), most.clone(), gate.clone());
        let work = move |_: Job<u32>| {
            let (now, most, gate) = (now.clone(), most.clone(), gate.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, JobError>(())
            }
        };
        queue.worker(3, work).start()
    };
    for number in 0..10 {
        queue.put(&number).await.unwrap();
    }
    posthaste_testkit::eventually("three at once", async || now.load(Ordering::SeqCst) == 3).await;
    assert_eq!(depth(&queue).await, (7, 3, 0, 0));
    gate.add_permits(4);
    // One that is given out and not begun is given back by a worker that stops.
    posthaste_testkit::eventually("three more", async || {
        depth(&queue).await == (3, 3, 0, 0) && now.load(Ordering::SeqCst) == 3
    })
    .await;
    let stopping = tokio::spawn(control.stop());
    posthaste_testkit::eventually("it takes no more", async || {
        gate.add_permits(1);
        depth(&queue).await.1 == 0
    })
    .await;
    stopping.await.unwrap().unwrap();
    assert_eq!(most.load(Ordering::SeqCst), 3);
    let (ready, leased, ..) = depth(&queue).await;
    assert!(ready <= 3 && leased == 0);
}

#[tokio::test]
async fn deliveries_are_settled_one_by_one() {
    let running = serving(open());
    let queue = running.io.queue("work");
    let mut deliveries = queue.consumer().prefetch(10).lease(Duration::from_secs(60)).start().await.unwrap();
    for number in 0..6 {
        queue.put(&number).headers(&json!({ "n": number })).await.unwrap();
    }
    let one = within("a message", deliveries.next()).await.unwrap();
    assert_eq!(one.payload::<u32>().unwrap(), 0);
    assert_eq!(one.headers::<serde_json::Value>().unwrap(), Some(json!({ "n": 0 })));
    let until = one.extend(Some(Duration::from_secs(600))).await.unwrap();
    assert!(until > one.deadline());
    one.ack().await.unwrap();
    within("two", deliveries.next()).await.unwrap().dead("no").await.unwrap();
    within("three", deliveries.next()).await.unwrap().retry("later", Some(SOON)).await.unwrap();
    within("four", deliveries.next()).await.unwrap().ack_with(&"fine").await.unwrap();
    drop(within("five", deliveries.next()).await.unwrap());
    posthaste_testkit::eventually("two rest", async || depth(&queue).await == (0, 1, 2, 1)).await;
    let dead = queue.peek(State::Dead, 0, 10).await.unwrap();
    assert_eq!(&*dead[0].history[0].1, "no");
    let six = within("six", deliveries.next()).await.unwrap();
    drop(deliveries);
    posthaste_testkit::eventually("it is free", async || depth(&queue).await.0 == 1).await;
    assert!(matches!(six.ack().await, Err(QueueError::Refused(posthaste::queue::Refusal::StaleLease(_)))));
}

#[tokio::test]
async fn rust_and_clients_work_on_the_same_queues() {
    let running = serving(open());
    let queue = running.io.queue("images");
    let work = async |job: Job<(String, bytes::Bytes)>| {
        let (name, data) = job.data;
        Ok::<_, JobError>(json!({ "name": name, "bytes": data.len() }))
    };
    queue.worker(1, work).start();
    let mut party = Party::join(running.addr).await;
    let place = json!({ "_placeholder": true, "num": 0 });
    party.client.send(&format!("51-/queues,7{}", json!(["q:call", "images", ["cat", place]]))).await;
    party.client.send_binary(b"12345").await;
    let answer = party.answer(7).await;
    assert_eq!(answer["result"], json!({ "name": "cat", "bytes": 5 }));
    party.ok(json!(["q:consume", "from-rust"])).await;
    let call = running.io.queue("from-rust").put(&json!({ "x": 1 })).into_future_call();
    let job = party.job().await;
    assert_eq!(job.payload, json!({ "x": 1 }));
    party.done(&job, json!(["from a client"])).await;
    assert_eq!(call.await.unwrap().unwrap(), "from a client");
}

trait Begin {
    fn into_future_call(self) -> tokio::task::JoinHandle<Result<String, QueueError>>;
}

impl Begin for posthaste::QueuePut {
    fn into_future_call(self) -> tokio::task::JoinHandle<Result<String, QueueError>> {
        tokio::spawn(self.call::<String>(SOON))
    }
}

#[tokio::test]
async fn queues_work_without_a_server() {
    let queues = open();
    let clock = tokio::spawn(queues.run());
    let queue = queues.queue("alone");
    let control = queue.worker(2, async |job: Job<u32>| Ok::<_, JobError>(job.data * 2)).start();
    // Its time comes.
    let doubled = queue.put(&21).delay(Duration::from_millis(50)).call::<u32>(SOON).await;
    assert_eq!(doubled.unwrap(), 42);
    control.stop().await.unwrap();
    drop((queue, queues));
    within("the clock ends", clock).await.unwrap();
}

#[tokio::test]
async fn a_server_without_queues_says_so() {
    let io = Server::builder().workers(1).build().unwrap();
    assert!(matches!(io.queue("x").put(&1).await, Err(QueueError::NoQueues)));
    assert!(matches!(io.queue("x").stats().await, Err(QueueError::NoQueues)));
    io.close(Duration::ZERO);
}

#[tokio::test]
async fn a_batch_is_put_whole_or_not_at_all_and_is_leased_and_settled_together() {
    let queues = open();
    let clock = tokio::spawn(queues.run());
    let work = queues.queue("work");
    work.configure(Config { max_messages: 3, ..Config::default() }).await.unwrap();
    let refused = work.put_all([1, 2, 3, 4].map(|number| work.put(&number))).await;
    assert!(matches!(refused, Err(QueueError::Refused(Refusal::Full { .. }))), "{refused:?}");
    assert_eq!(depth(&work).await, (0, 0, 0, 0));
    assert_eq!(work.put_all([1, 2, 3].map(|number| work.put(&number))).await.unwrap().len(), 3);
    let pull = Pull { queue: "work".into(), max: 10, bytes: 1 << 20, lease_ms: None, keys: None };
    let leased = within("a pull", queues.pull(pull, SOON)).await.unwrap();
    assert_eq!(leased.len(), 3);
    let done = |it: &posthaste::queue::Delivery| Settle { id: it.id, token: it.token, verdict: Verdict::Done(None) };
    let mut settles: Vec<Settle> = leased.iter().map(done).collect();
    // Each for itself: one that is not leased so changes nothing for the others.
    settles[1].token += 1_000;
    let settled = queues.ask(Command::Settle(settles)).await.unwrap().unwrap();
    let stale = Err(Refusal::StaleLease(leased[1].id));
    assert_eq!(settled, Outcome::Settled(vec![Ok(Settled::Ended), stale, Ok(Settled::Ended)]));
    assert_eq!(depth(&work).await, (0, 1, 0, 0));
    let counted = work.counts().await.unwrap();
    assert_eq!((counted.put, counted.given, counted.done, counted.stale), (3, 3, 2, 1));
    clock.abort();
}

#[tokio::test]
async fn a_worker_extends_leases_as_often_as_its_queue_makes_them_short() {
    let running = serving(open());
    let queue = running.io.queue("work");
    let lease_ms = 1_500;
    queue.configure(Config { lease_ms, ..Config::default() }).await.unwrap();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (deadlines, open) = (Record::new(), gate.clone());
    let control = {
        let deadlines = deadlines.clone();
        let work = move |delivery: posthaste::Delivery| {
            let (deadlines, open) = (deadlines.clone(), open.clone());
            async move {
                deadlines.push(delivery.message().deadline.0);
                open.acquire().await.unwrap().forget();
                Ok::<_, JobError>(())
            }
        };
        queue.worker(1, work).start()
    };
    queue.put(&1).await.unwrap();
    posthaste_testkit::eventually("it was extended when it would be over", async || {
        let leased = queue.peek(State::Leased, 0, 1).await.unwrap();
        let until = leased.first().and_then(|it| it.until).map_or(0, |until| until.0);
        deadlines.all().first().is_some_and(|first| until > first + lease_ms)
    })
    .await;
    gate.add_permits(2);
    within("it stops", control.stop()).await.unwrap();
    let counted = queue.counts().await.unwrap();
    assert_eq!((counted.given, counted.done, counted.leases_expired), (1, 1, 0));
}
