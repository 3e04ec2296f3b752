//! `posthaste queue schedule`.

use std::time::Duration;

use anyhow::Context as _;
use http::Method;
use serde_json::{Map, Value, json};

use super::client::encoded;
use super::options::{ScheduleOptions, ScheduledOptions, Schedules};
use super::queue::{Desk, payload_of};
use super::show;

/// The path of a schedule.
fn path_of(name: &str) -> String {
    format!("schedules/{}", encoded(name))
}

pub(super) async fn run(desk: &Desk, options: &ScheduleOptions) -> anyhow::Result<()> {
    match &options.what {
        Schedules::Ls { queue } => desk.list_schedules(queue.as_deref()).await,
        Schedules::Add(options) => desk.schedule(options).await,
        Schedules::Show { name } => {
            let found = desk.get(&path_of(name)).await?;
            desk.say(&found, show::schedule);
            Ok(())
        }
        Schedules::Rm { name } => {
            desk.server.call(Method::DELETE, &path_of(name), None, Duration::ZERO).await?;
            desk.say(&json!({ "ok": true }), |_| String::new());
            Ok(())
        }
        Schedules::Run { name } => {
            let path = format!("{}/run", path_of(name));
            let receipt = desk.server.call(Method::POST, &path, None, Duration::ZERO).await?.json()?;
            desk.say(&receipt, |it| format!("{}\n", it["id"]));
            Ok(())
        }
        Schedules::Pause { name } => desk.switch_schedule(name, "pause").await,
        Schedules::Resume { name } => desk.switch_schedule(name, "resume").await,
    }
}

impl Desk {
    async fn switch_schedule(&self, name: &str, verb: &str) -> anyhow::Result<()> {
        let path = format!("{}/{verb}", path_of(name));
        self.server.call(Method::POST, &path, None, Duration::ZERO).await?;
        self.say(&json!({ "ok": true }), |_| String::new());
        Ok(())
    }

    async fn list_schedules(&self, queue: Option<&str>) -> anyhow::Result<()> {
        let of = queue.map(|queue| format!("&queue={}", encoded(queue))).unwrap_or_default();
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let mut page = self.get(&format!("schedules?limit=1000&after={}{of}", encoded(&after))).await?;
            all.extend(page["schedules"].as_array_mut().map(std::mem::take).unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        self.say(&json!({ "schedules": all }), |it| {
            show::schedules(it["schedules"].as_array().map_or(&[], Vec::as_slice))
        });
        Ok(())
    }

    async fn schedule(&self, options: &ScheduledOptions) -> anyhow::Result<()> {
        let millis = |time: Duration| Value::from(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        let headers = options.headers.as_deref().map(serde_json::from_str::<Value>).transpose();
        let mut said = Map::new();
        for (name, value) in [
            ("queue", Some(options.queue.clone().into())),
            ("payload", Some(payload_of(options.payload.as_deref(), options.text)?)),
            ("cron", options.cron.clone().map(Value::from)),
            ("every", options.every.map(millis)),
            ("zone", options.zone.clone().map(Value::from)),
            ("missed", options.missed.map(|missed| missed.as_str().into())),
            ("max_missed", options.max_missed.map(Value::from)),
            ("paused", options.paused.then_some(Value::Bool(true))),
            ("priority", options.priority.map(Value::from)),
            ("key", options.key.clone().map(Value::from)),
            ("dedup", options.one_at_a_time.then(|| format!("schedule/{}", options.name).into())),
            ("dedup_mode", options.one_at_a_time.then(|| "until_done".into())),
            ("ttl", options.ttl.map(millis)),
            ("attempts", options.attempts.map(Value::from)),
            ("headers", headers.context("--headers is no JSON")?),
        ] {
            said.extend(value.map(|value| (name.to_owned(), value)));
        }
        let path = path_of(&options.name);
        let there = self.server.call(Method::PUT, &path, Some(&said.into()), Duration::ZERO).await?.json()?;
        self.say(&there, show::schedule);
        Ok(())
    }
}
