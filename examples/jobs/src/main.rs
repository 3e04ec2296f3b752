//! How do I use work queues without a server? As a library, with a folder for a store. Run it, stop it in the middle with Ctrl-C or `kill -9`, and run it
//! again: what was not done is done then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use posthaste::queue::{Backoff, Config};
use posthaste::store::Store as _;
use posthaste::{Job, JobError, State, WorkQueues};
use posthaste_backend_embedded::{Config as StoreConfig, EmbeddedStore};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

/// Where mails are handed in.
#[derive(Clone, Default)]
struct Post {
    sent: Arc<AtomicU32>,
}

impl Post {
    async fn send(&self, mail: &Mail) -> Result<u32, std::io::Error> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        match &*mail.to {
            "nobody" => Err(std::io::Error::other("nobody is there")),
            _ => Ok(self.sent.fetch_add(1, Ordering::Relaxed) + 1),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join("posthaste-example-jobs");
    let store = EmbeddedStore::open(StoreConfig::new(&folder))?;
    let queues = WorkQueues::new(store.queues()?);
    let emails = queues.queue("emails");
    emails.configure(Config { attempts: 3, backoff: Backoff::Fixed { ms: 300 }, ..Config::default() }).await?;
    let left = emails.stats().await?;
    println!("in {}: {} are left from before, {} are dead", folder.display(), left.ready + left.leased, left.dead);

    // Four at a time, on a thread of their own. What is returned settles the message: an error has it tried again, three times in all.
    let worker = emails.worker(4, async |job: Job<Mail>, State(post): State<Post>| {
        let number = post.send(&job.data).await?;
        println!("message {}: sent to {}, the {number}. of this run", job.id(), job.data.to);
        Ok::<_, JobError>(number)
    });
    let worker = worker.state(Post::default()).start();

    // A receipt means that it is on the disk. Mails to one address are sent one after the other; those of one batch are all put, or none.
    let mails = ["ada", "grace", "ada", "nobody"].map(|to| emails.put(&Mail { to: to.into() }).key(to));
    let receipts = emails.put_all(mails).await?;
    println!("{} were put", receipts.len());
    emails.put(&Mail { to: "joan".into() }).delay(Duration::from_secs(1)).await?;

    // Whoever wants the result waits for it.
    let number: u32 = emails.put(&Mail { to: "mary".into() }).priority(9).call(Duration::from_secs(60)).await?;
    println!("the urgent one was the {number}.");

    while !is_done(&emails.stats().await?) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let dead = emails.peek(posthaste::queue::State::Dead, 0, 100).await?;
    for message in &dead {
        let why = message.history.last().map_or("", |(_, why)| why);
        println!("message {} is dead after {} deliveries: {why}", message.id, message.rest.deliveries);
    }
    // What is worked on is finished, and what was promised is on the disk.
    worker.stop().await?;
    store.close()?;
    Ok(())
}

fn is_done(depth: &posthaste::queue::Depth) -> bool {
    depth.ready + depth.leased + depth.delayed == 0
}
