//! What is put again and again, as the configuration says: each `[[schedule]]` is told at each start, and goes on as it was.

use posthaste::queue::{Command, Times, When, name_is_good};
use posthaste::{Payload, WorkQueues};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::Span;

/// Schedules in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Schedules(Vec<Written>);

/// A schedule as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Unchecked")]
struct Written {
    name: String,
    queue: String,
    payload: Value,
    /// What `q:schedule` takes.
    options: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    name: String,
    queue: String,
    cron: Option<String>,
    every: Option<Span>,
    zone: Option<String>,
    missed: Option<Word>,
    max_missed: Option<u32>,
    paused: Option<bool>,
    #[serde(default)]
    payload: Value,
    priority: Option<u8>,
    key: Option<String>,
    ttl: Option<Span>,
    attempts: Option<u32>,
    headers: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Skip,
    Once,
    All,
}

impl TryFrom<Unchecked> for Written {
    type Error = String;

    fn try_from(it: Unchecked) -> Result<Self, String> {
        for (what, name) in [("name", &it.name), ("queue", &it.queue)] {
            if !name_is_good(name) {
                return Err(format!("`{what}`: {name:?} is no name: 1 to 200 of A-Z a-z 0-9 . _ - : /"));
            }
        }
        match (&it.cron, &it.every) {
            (Some(cron), None) => {
                let when = When::cron(cron).in_zone(it.zone.as_deref().unwrap_or("UTC"));
                Times::new(&when).map(drop).map_err(|refusal| refusal.to_string())?;
            }
            (None, Some(_)) => {}
            _ => return Err("`cron` or `every`: one of them says when".into()),
        }
        let missed = it.missed.map(|word| match word {
            Word::Skip => "skip",
            Word::Once => "once",
            Word::All => "all",
        });
        let millis = |span: Span| Value::from(u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX));
        let mut options = Map::new();
        for (name, value) in [
            ("cron", it.cron.map(Value::from)),
            ("every", it.every.map(millis)),
            ("zone", it.zone.map(Value::from)),
            ("missed", missed.map(Value::from)),
            ("max_missed", it.max_missed.map(Value::from)),
            ("paused", it.paused.map(Value::from)),
            ("priority", it.priority.map(Value::from)),
            ("key", it.key.map(Value::from)),
            ("ttl", it.ttl.map(millis)),
            ("attempts", it.attempts.map(Value::from)),
            ("headers", it.headers.map(Value::from)),
        ] {
            options.extend(value.map(|value| (name.to_owned(), value)));
        }
        Ok(Self { name: it.name, queue: it.queue, payload: it.payload, options })
    }
}

impl Schedules {
    /// Tells them.
    pub(super) fn tell(&self, queues: &WorkQueues) -> anyhow::Result<()> {
        for Written { name, queue, payload, options } in &self.0 {
            let wrong = |why: &dyn std::fmt::Display| anyhow::anyhow!("schedule {name:?}: {why}");
            let payload = Payload::new(payload).map_err(|error| wrong(&error))?;
            let options = serde_json::to_string(options)?;
            let read = queues.read_schedule(&queue.as_str().into(), payload, &options);
            let (schedule, is_paused) = read.map_err(|error| wrong(&error))?;
            let command = Command::Schedule { name: name.as_str().into(), schedule: Box::new(schedule), is_paused };
            posthaste::store::wait(queues.ask(command))?.map_err(|refusal| wrong(&refusal))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config;

    fn refusal(text: &str) -> String {
        config::Config::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_schedule_says_when_and_what() {
        let text = "[[schedule]]\nname = 'nightly'\nqueue = 'reports'\ncron = '30 2 * * *'\nzone = 'Europe/Berlin'\nttl = '1h'\npayload = { of = 'all' }";
        let schedules = config::Config::parse(text).unwrap().schedules;
        let options = serde_json::to_string(&schedules.0[0].options).unwrap();
        assert_eq!(options, r#"{"cron":"30 2 * * *","ttl":3600000,"zone":"Europe/Berlin"}"#);
        assert_eq!(schedules.0[0].payload.to_string(), r#"{"of":"all"}"#);
    }

    #[test]
    fn a_mistake_is_one_of_the_configuration() {
        let schedule = |more: &str| format!("[[schedule]]\nname = 's'\nqueue = 'q'\n{more}");
        assert!(refusal(&schedule("")).contains("`cron` or `every`"));
        assert!(refusal(&schedule("cron = '61 * * * *'")).contains("is no cron expression"));
        assert!(refusal(&schedule("cron = '@daily'\nzone = 'Berlin'")).contains("there is no time zone \"Berlin\""));
        assert!(refusal("[[schedule]]\nname = 'a b'\nqueue = 'q'\nevery = '1m'").contains("is no name"));
        let said = refusal(&schedule("every = '1m'\nmised = 'all'"));
        assert!(said.contains("line 5") && said.ends_with("did you mean `missed`?"), "{said}");
    }
}
