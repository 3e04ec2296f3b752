//! How do I do something every night, once, whatever is restarted in between? By a schedule, which puts a job into a queue, and a worker that does it.
//! Here the night is ten seconds long. Run it, kill it (Ctrl-C or `kill -9`), wait, and run it again: it goes on where it was, and the nights that
//! nobody was there for are done as well.

use std::sync::Arc;

use posthaste::queue::{DedupMode, Missed, When};
use posthaste::store::Store as _;
use posthaste::{Job, JobError, QueueError, Server, WorkQueues};
use posthaste_backend_embedded::{Config, EmbeddedStore};
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, Serialize)]
struct Report {
    of: String,
}

/// What a schedule says about a job: which one it was, and for which time, in milliseconds since 1970.
#[derive(Debug, Deserialize)]
struct Headers {
    schedule: Due,
}

#[derive(Debug, Deserialize)]
struct Due {
    name: String,
    time: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(EmbeddedStore::open(Config::new("./posthaste-example-cron"))?);
    let io = Server::builder().queues(WorkQueues::new(store.queues()?)).build()?;
    io.queue("reports").worker(1, report).start();
    schedule(&io).await?;
    tokio::signal::ctrl_c().await?;
    store.close()?;
    Ok(())
}

/// Said at each start: whatever is there already goes on as it was.
async fn schedule(io: &Server) -> Result<(), QueueError> {
    // At 2:30 as the clocks in Berlin show it would be "30 2 * * *".
    let night = When::cron("*/10 * * * * *").in_zone("Europe/Berlin");
    let reports = io.queue("reports");
    let all = reports.put(&Report { of: "everything".into() }).attempts(3);
    let there = all.scheduled("nightly", night).missed(Missed::All { max: 7 }).await?;
    println!("{} nights so far, the next at {}", there.count, there.next.0);
    // An interval, and no new job as long as the one before is not done.
    let some = reports.put(&Report { of: "something".into() });
    let some = some.dedup_as("tidy", DedupMode::UntilDone, None);
    some.scheduled("tidy", When::Every { ms: 25_000 }).await?;
    for (name, scheduled) in io.schedules().all().await? {
        println!("{name}: {:?}", scheduled.schedule.when);
    }
    Ok(())
}

async fn report(job: Job<Report>) -> Result<(), JobError> {
    let due = job.headers::<Headers>()?.map(|headers| headers.schedule);
    let due = due.ok_or_else(|| JobError::dead("not from a schedule"))?;
    println!("{}: a report of {}, for {}", due.name, job.data.of, due.time);
    Ok(())
}
