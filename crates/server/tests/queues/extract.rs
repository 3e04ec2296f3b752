//! What workers in Rust may take.

use std::sync::Arc;
use std::time::Duration;

use posthaste::{Delivery, Failure, Job, JobError, QueueError, Server, State};
use posthaste_testkit::{eventually, serve, within};
use tokio::sync::mpsc;

use crate::scene::{open, plain};

const SOON: Duration = Duration::from_secs(30);

/// Something that an application has.
#[derive(Clone)]
struct Db(&'static str);

#[tokio::test]
async fn a_worker_takes_what_handlers_take() {
    let running = serve(plain(open()).state(Db("the server's")), |_| {});
    let io = running.io.clone();
    let work = async |job: Job<u32>, State(Db(db)): State<Db>, server: Server| {
        let others = server.queue("others").put(&job.data).await?;
        Ok::<_, JobError>(format!("{db}: {} {}", job.data, others.id > job.id()))
    };
    let queue = io.queue("own");
    queue.worker(1, async |State(Db(db)): State<Db>| Ok::<_, JobError>(db)).state(Db("its own")).start();
    let of_server = io.queue("of-server");
    of_server.worker(1, work).start();
    assert_eq!(of_server.put(&7).call::<String>(SOON).await.unwrap(), "the server's: 7 true");
    assert_eq!(queue.put(&7).call::<String>(SOON).await.unwrap(), "its own");
    let nothing = io.queue("nothing");
    nothing.worker(1, async || {}).start();
    nothing.put(&7).call::<()>(SOON).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_fails_with_its_reason_and_a_payload_of_another_type_is_hopeless() {
    let queues = open();
    tokio::spawn(queues.run());
    let dead = async |name: &str, attempts| {
        let called = queues.queue(name).put(&"text").attempts(attempts).call::<()>(SOON).await;
        let Err(QueueError::Failed(Failure::Dead(why))) = called else { panic!("{called:?}") };
        why
    };
    let started = [
        queues.queue("state").worker(1, async |_: State<Db>| {}).start(),
        queues.queue("server").worker(1, async |_: Server| {}).start(),
        queues.queue("number").worker(1, async |_: Job<u32>| {}).start(),
    ];
    assert!(dead("state", 1).await.contains("Db was given"));
    assert_eq!(dead("server", 1).await, "there is no server");
    // At once, however many attempts there are.
    assert!(dead("number", 20).await.contains("payload"));
    for worker in started {
        within("it stops", worker.stop()).await.unwrap();
    }
}

#[tokio::test]
async fn a_worker_that_takes_the_delivery_may_settle_it_itself() {
    let queues = open();
    tokio::spawn(queues.run());
    let queue = queues.queue("work");
    let (keep, mut kept) = mpsc::unbounded_channel::<Delivery>();
    let work = async |job: Job<String>, delivery: Delivery, State(keep): State<mpsc::UnboundedSender<Delivery>>| {
        match (&*job.data, job.failures()) {
            ("retry", 0) => delivery.retry("later", Some(Duration::ZERO)).await?,
            ("keep", _) => _ = keep.send(delivery),
            ("drop", 0) => return Err(JobError::retry("what it returns counts").after(Duration::ZERO)),
            ("dead", _) => delivery.dead("hopeless").await?,
            _ => _ = delivery.progress(&"half").await?,
        }
        Ok("returned")
    };
    let worker = queue.worker(4, work).state(keep).start();
    // Settled: what is returned is nothing more.
    let failed = queue.put("dead").call::<String>(SOON).await;
    assert!(matches!(&failed, Err(QueueError::Failed(Failure::Dead(why))) if why == "hopeless"), "{failed:?}");
    // Not settled: what is returned counts, whether it took the delivery or not.
    for payload in ["retry", "drop", "plain"] {
        assert_eq!(queue.put(payload).call::<String>(SOON).await.unwrap(), "returned", "{payload}");
    }
    // Kept: it is settled when that is done, although the function has returned.
    let receipt = queue.put("keep").keep_result(SOON).await.unwrap();
    let delivery = kept.recv().await.unwrap();
    let early = queue.result::<String>(receipt.id, Duration::from_millis(20)).await;
    assert!(matches!(early, Err(QueueError::Pending(_))), "{early:?}");
    delivery.ack_with("at last").await.unwrap();
    assert_eq!(queue.result::<String>(receipt.id, SOON).await.unwrap(), "at last");
    // Kept and dropped: it failed.
    queue.put("keep").attempts(1).await.unwrap();
    let delivery = kept.recv().await.unwrap();
    // All jobs run on one thread: whatever comes behind is done when that function has returned.
    queue.put("plain").call::<String>(SOON).await.unwrap();
    drop(delivery);
    eventually("it is dead", async || queue.stats().await.is_ok_and(|depth| depth.dead == 2)).await;
    within("it stops", worker.stop()).await.unwrap();
}

#[tokio::test]
async fn state_is_cloned_for_each_job_and_dropped_with_the_worker() {
    let queues = open();
    tokio::spawn(queues.run());
    let queue = queues.queue("work");
    let shared = Arc::new(());
    let worker = queue.worker(2, async |_: State<Arc<()>>| {}).state(shared.clone()).start();
    queue.put(&1).call::<()>(SOON).await.unwrap();
    within("it stops", worker.stop()).await.unwrap();
    eventually("nobody else has it", async || Arc::strong_count(&shared) == 1).await;
}
