//! `posthaste work`: a command for each message of a queue.
//!
//! ```text
//!   lease (as many as there are free places) ─► command ─► its exit code ─► settle
//!                                                  └─ touch, as long as it runs
//! ```

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep};

use super::child::{Ended, Work, in_words};
use super::client::{Refused, Server, path_of};
use super::options::WorkOptions;

/// How long one request waits for messages.
const WAIT: Duration = Duration::from_secs(30);
/// Between two attempts to reach a server that does not answer: from, to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// As shells end a command that was interrupted, or terminated.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

pub(super) async fn run(options: &WorkOptions) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let worker = Arc::new(Worker {
        server: Server::new(options.server.url.as_deref())?,
        queue: options.queue.clone(),
        command: options.command.clone(),
        dead_on: options.dead_on.clone(),
        raw: options.raw,
        lease: options.lease,
        kill: watch::Sender::new(false),
    });
    let concurrency = options.concurrency;
    let places = Arc::new(Semaphore::new(concurrency as usize));
    let (fail, mut failed) = mpsc::unbounded_channel();
    let taking = take(&worker, &places, &fail);
    let ended = tokio::select! {
        ended = taking => ended,
        Some(error) = failed.recv() => Err(error),
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    let running = concurrency as usize - places.available_permits();
    if ended.is_ok() && running > 0 {
        eprintln!("posthaste: {running} still running; nothing new is taken, and another signal kills them");
    }
    let mut killed = None;
    let all_done = places.acquire_many(concurrency);
    let mut all_done = std::pin::pin!(all_done);
    loop {
        let code = tokio::select! {
            _ = &mut all_done => break,
            _ = interrupt.recv() => INTERRUPTED,
            _ = terminate.recv() => TERMINATED,
        };
        killed.get_or_insert(code);
        worker.kill.send_replace(true);
    }
    ended?;
    Ok(killed.map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// Takes messages for ever, one for each free place at most. Dropped, it takes nothing more.
async fn take(
    worker: &Arc<Worker>,
    places: &Arc<Semaphore>,
    fail: &mpsc::UnboundedSender<anyhow::Error>,
) -> anyhow::Result<()> {
    let mut pause = PAUSES.0;
    loop {
        let first = places.clone().acquire_owned().await.context("nothing is taken any more")?;
        let mut free = vec![first];
        while let Ok(place) = places.clone().try_acquire_owned() {
            free.push(place);
        }
        let jobs = match worker.lease(free.len()).await {
            Ok(jobs) => jobs,
            Err(error) => {
                let refused = error.downcast_ref::<Refused>();
                if refused.is_some_and(|it| it.status.is_client_error() && it.status != StatusCode::TOO_MANY_REQUESTS) {
                    return Err(error);
                }
                eprintln!("posthaste: {error:#}; trying again");
                drop(free);
                sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
                continue;
            }
        };
        pause = PAUSES.0;
        for (job, place) in jobs.into_iter().zip(free) {
            let (worker, fail) = (worker.clone(), fail.clone());
            tokio::spawn(async move {
                if let Err(error) = worker.work_on(job).await {
                    // The first counts, and ends the worker.
                    let _ = fail.send(error);
                }
                drop(place);
            });
        }
    }
}

struct Worker {
    server: Server,
    queue: String,
    command: Vec<std::ffi::OsString>,
    dead_on: Vec<u8>,
    raw: bool,
    lease: Duration,
    /// What runs is to be killed.
    kill: watch::Sender<bool>,
}

#[derive(Deserialize)]
struct Jobs {
    messages: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    id: u64,
    token: u64,
    deliveries: u32,
    failures: u32,
    key: Option<String>,
    headers: Option<Box<RawValue>>,
    payload: Box<RawValue>,
}

impl Worker {
    async fn lease(&self, max: usize) -> anyhow::Result<Vec<Job>> {
        let (wait, ttl) = (WAIT.as_millis(), self.lease.as_millis());
        let path = format!("{}/lease?max={max}&wait={wait}&ttl={ttl}", path_of(&self.queue));
        let answer = self.server.call(Method::POST, &path, None, WAIT).await?;
        if answer.status == StatusCode::NO_CONTENT {
            return Ok(Vec::new());
        }
        let jobs: Jobs = serde_json::from_slice(&answer.body).context("what the server gave are no messages")?;
        Ok(jobs.messages)
    }

    /// Runs the command for a message, and says what became of it.
    ///
    /// # Errors
    /// When the command cannot be started: it cannot for any other message either.
    async fn work_on(&self, job: Job) -> anyhow::Result<()> {
        let (id, token) = (job.id, job.token);
        let lost = watch::Sender::new(false);
        let run = self.work(&job).run(self.killed_or(&lost));
        let mut run = std::pin::pin!(run);
        let upkeep = self.keep(id, token, &lost);
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = upkeep => run.await,
        };
        let outcome = match &ended {
            _ if *lost.borrow() => {
                eprintln!("posthaste: message {id}: its lease is over, somebody else has it; the command was killed");
                return Ok(());
            }
            Ok(ended) if ended.was_killed => json!({ "outcome": "release" }),
            Ok(ended) => self.outcome(id, ended),
            Err(_) => json!({ "outcome": "release" }),
        };
        self.settle(id, token, outcome).await;
        let program = self.command.first().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        ended.map(drop).with_context(|| format!("{program} cannot be started"))
    }

    /// Says so when the worker is told to kill what runs, or the lease is lost.
    fn killed_or(&self, lost: &watch::Sender<bool>) -> watch::Receiver<bool> {
        let (both, either) = watch::channel(false);
        let (mut kill, mut lost) = (self.kill.subscribe(), lost.subscribe());
        tokio::spawn(async move {
            tokio::select! {
                Ok(_) = kill.wait_for(|it| *it) => {}
                Ok(_) = lost.wait_for(|it| *it) => {}
                // Nobody is left to be told.
                () = both.closed() => return,
            }
            both.send_replace(true);
        });
        either
    }

    fn work(&self, job: &Job) -> Work {
        let mut environment = vec![
            ("POSTHASTE_ID", job.id.to_string()),
            ("POSTHASTE_QUEUE", self.queue.clone()),
            ("POSTHASTE_ATTEMPT", (job.failures + 1).to_string()),
            ("POSTHASTE_DELIVERIES", job.deliveries.to_string()),
        ];
        if let Some(key) = &job.key {
            environment.push(("POSTHASTE_KEY", key.clone()));
        }
        if let Some(headers) = &job.headers {
            environment.push(("POSTHASTE_HEADERS", headers.get().to_owned()));
        }
        // A variable cannot have one.
        environment.retain(|(_, value)| !value.contains('\0'));
        Work { command: self.command.clone(), environment, input: input(job.payload.get(), self.raw) }
    }

    /// Extends a lease until it cannot be: then `lost` says so.
    async fn keep(&self, id: u64, token: u64, lost: &watch::Sender<bool>) {
        loop {
            sleep(self.lease / 3).await;
            let touch = json!([{ "id": id, "token": token, "outcome": "touch" }]);
            let touched = self.server.call(Method::POST, "leases/settle", Some(&touch), Duration::ZERO).await;
            let is_stale = touched.as_ref().is_err_and(|error| {
                error.downcast_ref::<Refused>().is_some_and(|it| it.status == StatusCode::CONFLICT)
            });
            if is_stale {
                lost.send_replace(true);
                return;
            }
            if let Err(error) = touched {
                eprintln!("posthaste: message {id}: its lease could not be extended: {error:#}");
            }
        }
    }

    /// What the end of a command says of its message.
    fn outcome(&self, id: u64, ended: &Ended) -> Value {
        if ended.status.success() {
            if ended.is_cut {
                eprintln!("posthaste: message {id}: its result is too long and is left out");
                return json!({ "outcome": "done" });
            }
            return match result(&ended.output) {
                Some(result) => json!({ "outcome": "done", "result": result }),
                None => json!({ "outcome": "done" }),
            };
        }
        let how = in_words(ended.status);
        let why = if ended.tail.is_empty() { how.clone() } else { ended.tail.clone() };
        let is_dead = ended.status.code().is_some_and(|code| self.dead_on.iter().any(|dead| i32::from(*dead) == code));
        let outcome = if is_dead { "dead" } else { "retry" };
        eprintln!("posthaste: message {id}: {how}: {outcome}");
        json!({ "outcome": outcome, "why": why })
    }

    /// Says what became of a message, also to a server that is not there for a while: as long as the lease may last.
    async fn settle(&self, id: u64, token: u64, mut said: Value) {
        (said["id"], said["token"]) = (id.into(), token.into());
        let all = Value::from(vec![said]);
        let (until, mut pause) = (Instant::now() + self.lease, PAUSES.0);
        loop {
            let settled = self.server.call(Method::POST, "leases/settle", Some(&all), Duration::ZERO).await;
            let Err(error) = settled else { return };
            let is_final = error.downcast_ref::<Refused>().is_some_and(|it| it.status.is_client_error());
            if is_final || Instant::now() + pause > until {
                eprintln!("posthaste: message {id} could not be settled, and will be worked on again: {error:#}");
                return;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// A payload as a command gets it.
fn input(payload: &str, raw: bool) -> Vec<u8> {
    if raw {
        match serde_json::from_str::<Value>(payload) {
            Ok(Value::String(text)) => return text.into_bytes(),
            Ok(Value::Object(object)) if object.len() == 1 => {
                let bytes = object.get("$binary").and_then(Value::as_str);
                if let Some(bytes) = bytes.and_then(|bytes| BASE64_STANDARD.decode(bytes).ok()) {
                    return bytes;
                }
            }
            _ => {}
        }
    }
    format!("{payload}\n").into_bytes()
}

/// What a command printed, as a result.
fn result(output: &[u8]) -> Option<Value> {
    let Ok(text) = std::str::from_utf8(output) else {
        return Some(json!({ "$binary": BASE64_STANDARD.encode(output) }));
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return None;
    }
    Some(serde_json::from_str(text).unwrap_or_else(|_| text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_lines_of_json_or_what_they_are_themselves() {
        for (payload, line, raw) in [
            (r#"{"a":1}"#, "{\"a\":1}\n", "{\"a\":1}\n"),
            (r#""two\nlines""#, "\"two\\nlines\"\n", "two\nlines"),
            (r#"{"$binary":"aGk="}"#, "{\"$binary\":\"aGk=\"}\n", "hi"),
        ] {
            assert_eq!(String::from_utf8(input(payload, false)).unwrap(), line);
            assert_eq!(String::from_utf8(input(payload, true)).unwrap(), raw);
        }
    }

    #[test]
    fn what_is_printed_is_the_result() {
        assert_eq!(result(b""), None);
        assert_eq!(result(b"\n"), None);
        assert_eq!(result(b"{\"a\":1}\n"), Some(json!({ "a": 1 })));
        assert_eq!(result(b"two words\r\n"), Some(json!("two words")));
        assert_eq!(result(b"\xff"), Some(json!({ "$binary": "/w==" })));
    }
}
