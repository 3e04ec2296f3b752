//! `posthaste queue`: looking at queues and looking after them.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use serde_json::{Map, Value, json};

use super::client::{Server, encoded, path_of};
use super::options::{DeadOptions, PullOptions, PurgeOptions, PutOptions, QueueOptions, State, What};
use super::{USAGE, schedule, show};

pub(super) async fn run(options: &QueueOptions) -> anyhow::Result<ExitCode> {
    let desk = Desk { server: Server::new(options.server.url.as_deref())?, json: options.json };
    match &options.what {
        What::Ls => desk.list().await?,
        What::Put(options) => desk.put(options).await?,
        What::Pull(options) => desk.pull(options).await?,
        What::Peek(options) => desk.peek(&options.part, options.state).await?,
        What::Dead(options) => desk.peek(options, State::Dead).await?,
        What::Stats(named) => {
            let stats = desk.get(&format!("{}/stats", path_of(&named.queue))).await?;
            desk.say(&stats, show::stats);
        }
        What::Redrive(options) => {
            let path = format!(
                "{}/redrive{}",
                path_of(&options.named.queue),
                query(&[("id", options.id), ("max", options.max)])
            );
            desk.count(&path, "revived").await?;
        }
        What::Pause(named) => desk.switch(&named.queue, "pause").await?,
        What::Resume(named) => desk.switch(&named.queue, "resume").await?,
        What::Drain(options) => {
            desk.switch(&options.named.queue, if options.off { "drain?on=false" } else { "drain" }).await?;
        }
        What::Schedule(options) => schedule::run(&desk, options).await?,
        What::Purge(options) => {
            let name = &options.named.queue;
            let what = match options.id {
                Some(id) => format!("message {id} of queue {name:?}"),
                None => format!("the {} messages of queue {name:?}", states(options)),
            };
            if !confirmed(options.yes, &what)? {
                return Ok(ExitCode::from(USAGE));
            }
            let mut path = format!("{}/purge{}", path_of(name), query(&[("id", options.id), ("max", options.max)]));
            if !options.state.is_empty() {
                path.push(if path.contains('?') { '&' } else { '?' });
                path += &format!("state={}", states(options));
            }
            desk.count(&path, "removed").await?;
        }
        What::Rm(options) => {
            let name = &options.named.queue;
            if !confirmed(options.yes, &format!("queue {name:?} with all it has"))? {
                return Ok(ExitCode::from(USAGE));
            }
            desk.server.call(Method::DELETE, &path_of(name), None, Duration::ZERO).await?;
            desk.say(&json!({ "ok": true }), |_| String::new());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn states(options: &PurgeOptions) -> String {
    options.state.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(",")
}

fn query(parts: &[(&str, Option<u64>)]) -> String {
    let said: Vec<String> = parts.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))).collect();
    if said.is_empty() { String::new() } else { format!("?{}", said.join("&")) }
}

/// Whether somebody wants to lose this.
fn confirmed(yes: bool, what: &str) -> anyhow::Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        eprintln!("posthaste: {what} would be removed for good; say --yes if that is meant");
        return Ok(false);
    }
    eprint!("Remove {what} for good? [y/N] ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// A payload as it was said: JSON, or text if it is none, or if it is to be.
pub(super) fn payload_of(said: Option<&str>, is_text: bool) -> anyhow::Result<Value> {
    let text = match said {
        None | Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input is no text")?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        Some(text) => text.to_owned(),
    };
    let read = if is_text { None } else { serde_json::from_str::<Value>(&text).ok() };
    Ok(read.unwrap_or(Value::String(text)))
}

pub(super) struct Desk {
    pub(super) server: Server,
    json: bool,
}

impl Desk {
    pub(super) fn say(&self, answer: &Value, shown: impl FnOnce(&Value) -> String) {
        if self.json {
            println!("{answer}");
        } else {
            print!("{}", shown(answer));
        }
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.server.call(Method::GET, path, None, Duration::ZERO).await?.json()
    }

    async fn list(&self) -> anyhow::Result<()> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let mut page = self.get(&format!("queues?limit=1000&after={}", encoded(&after))).await?;
            all.extend(page["queues"].as_array_mut().map(std::mem::take).unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        self.say(&json!({ "queues": all }), |it| show::queues(it["queues"].as_array().map_or(&[], Vec::as_slice)));
        Ok(())
    }

    async fn put(&self, options: &PutOptions) -> anyhow::Result<()> {
        let payload = payload_of(options.payload.as_deref(), options.text)?;
        let mut message = Map::new();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        for (name, value) in [
            ("payload", Some(payload)),
            ("delay", options.delay.map(|it| millis(it).into())),
            ("priority", options.priority.map(Value::from)),
            ("key", options.key.clone().map(Value::from)),
            ("dedup", options.dedup.clone().map(Value::from)),
            ("ttl", options.ttl.map(|it| millis(it).into())),
            ("attempts", options.attempts.map(Value::from)),
        ] {
            if let Some(value) = value {
                message.insert(name.to_owned(), value);
            }
        }
        let path = format!("{}/messages", path_of(&options.named.queue));
        let receipt = self.server.call(Method::POST, &path, Some(&message.into()), Duration::ZERO).await?.json()?;
        self.say(&receipt, |it| match it["dup"] {
            Value::Bool(true) => format!("{} (it was there before)\n", it["id"]),
            _ => format!("{}\n", it["id"]),
        });
        Ok(())
    }

    async fn pull(&self, options: &PullOptions) -> anyhow::Result<()> {
        let wait = options.wait.as_millis();
        let ttl = options.lease.map(|lease| format!("&ttl={}", lease.as_millis())).unwrap_or_default();
        let path = format!("{}/lease?max={}&wait={wait}{ttl}", path_of(&options.named.queue), options.max);
        let answer = self.server.call(Method::POST, &path, None, options.wait).await?;
        let answer = if answer.body.is_empty() { json!({ "messages": [] }) } else { answer.json()? };
        let jobs = answer["messages"].as_array().map_or(&[][..], Vec::as_slice);
        self.say(&answer, |_| {
            let line = |job: &Value| format!("{}\t{}\t{}\n", job["id"], job["token"], job["payload"]);
            jobs.iter().map(line).collect()
        });
        std::io::stdout().flush()?;
        if options.done && !jobs.is_empty() {
            let done = |job: &Value| json!({ "id": job["id"], "token": job["token"], "outcome": "done" });
            let all: Value = jobs.iter().map(done).collect();
            self.server.call(Method::POST, "leases/settle", Some(&all), Duration::ZERO).await?;
        }
        Ok(())
    }

    async fn peek(&self, options: &DeadOptions, state: State) -> anyhow::Result<()> {
        let DeadOptions { named, after, n } = options;
        let path = format!("{}/peek?state={}&after={after}&n={n}", path_of(&named.queue), state.as_str());
        let answer = self.get(&path).await?;
        self.say(&answer, |it| {
            let mut out = show::messages(it["messages"].as_array().map_or(&[], Vec::as_slice));
            if let Some(next) = it["next"].as_u64() {
                out += &format!("… more with --after {next}\n");
            }
            out
        });
        Ok(())
    }

    async fn switch(&self, queue: &str, verb: &str) -> anyhow::Result<()> {
        let path = format!("{}/{verb}", path_of(queue));
        self.server.call(Method::POST, &path, None, Duration::ZERO).await?;
        self.say(&json!({ "ok": true }), |_| String::new());
        Ok(())
    }

    async fn count(&self, path: &str, what: &str) -> anyhow::Result<()> {
        let answer = self.server.call(Method::POST, path, None, Duration::ZERO).await?.json()?;
        let Some(count) = answer["count"].as_u64() else { bail!("the server did not say how many") };
        let messages = if count == 1 { "message" } else { "messages" };
        self.say(&answer, |_| format!("{what} {count} {messages}\n"));
        Ok(())
    }
}
