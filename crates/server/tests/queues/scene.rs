//! A server with queues in memory, and clients of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use posthaste::queue::MemoryQueues;
use posthaste::{Builder, Server, WorkQueues};
use posthaste_testkit::{Client, Message, Running, Transport, serve, within};
use serde_json::{Value, json};

/// Queues that everybody may use for everything.
pub(crate) fn open() -> WorkQueues {
    WorkQueues::new(Arc::new(MemoryQueues::new(MemoryQueues::limits(), 7))).open_to_all()
}

pub(crate) fn serving(queues: WorkQueues) -> Running {
    serve(plain(queues), |_| {})
}

pub(crate) fn plain(queues: WorkQueues) -> Builder {
    Server::builder().workers(2).queues(queues)
}

/// A client in `/queues`.
pub(crate) struct Party {
    pub(crate) client: Client,
    next: u64,
    /// What came while something else was waited for.
    heard: Vec<String>,
}

/// A job as a client gets it.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) ack: u64,
    pub(crate) payload: Value,
    pub(crate) meta: Value,
}

impl Party {
    pub(crate) async fn join(addr: SocketAddr) -> Self {
        let mut client = Client::open(addr, Transport::WebSocket).await;
        client.connect("/queues").await;
        Self::new(client)
    }

    pub(crate) fn new(client: Client) -> Self {
        Self { client, next: 0, heard: Vec::new() }
    }

    /// Asks for something, and gives the answer.
    pub(crate) async fn ask(&mut self, event: Value) -> Value {
        let id = self.begin(event).await;
        self.answer(id).await
    }

    /// As [`Party::ask`], of what is to be.
    pub(crate) async fn ok(&mut self, event: Value) -> Value {
        let answer = self.ask(event.clone()).await;
        assert_eq!(answer["ok"], true, "{event}: {answer}");
        answer
    }

    /// Asks for something, and gives the code with which it is refused.
    pub(crate) async fn refused(&mut self, event: Value) -> String {
        let answer = self.ask(event.clone()).await;
        assert_eq!(answer["ok"], false, "{event}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
        answer["code"].as_str().unwrap().to_owned()
    }

    /// Asks for something whose answer is waited for later.
    pub(crate) async fn begin(&mut self, event: Value) -> u64 {
        self.next += 1;
        self.client.send(&format!("2/queues,{}{event}", self.next)).await;
        self.next
    }

    pub(crate) async fn answer(&mut self, id: u64) -> Value {
        let prefix = format!("3/queues,{id}[");
        let text = self.first(|text| text.starts_with(&prefix)).await;
        serde_json::from_str(text[prefix.len()..].strip_suffix(']').unwrap()).unwrap()
    }

    /// The next event: `[id, [name, args…]]` with an id, if it asks for an answer.
    pub(crate) async fn event(&mut self) -> Value {
        read(&self.first(|text| text.starts_with('2')).await)
    }

    /// The first packet of some kind; others wait.
    async fn first(&mut self, is_it: impl Fn(&str) -> bool) -> String {
        if let Some(at) = self.heard.iter().position(|text| is_it(text)) {
            return self.heard.remove(at);
        }
        loop {
            let text = within("a packet", self.client.text()).await;
            if is_it(&text) {
                return text;
            }
            self.heard.push(text);
        }
    }

    pub(crate) async fn job(&mut self) -> Job {
        let event = self.event().await;
        assert_eq!(event[1][0], "job", "{event}");
        let ack = event[0].as_u64().unwrap();
        assert!((1..1 << 31).contains(&ack), "an ack id fits into 31 bits");
        Job { ack, payload: event[1][1].clone(), meta: event[1][2].clone() }
    }

    /// Expects this event next.
    pub(crate) async fn expect(&mut self, event: Value) {
        assert_eq!(self.event().await[1], event);
    }

    /// Answers a job.
    pub(crate) async fn done(&mut self, job: &Job, answer: Value) {
        self.client.send(&format!("3/queues,{}{answer}", job.ack)).await;
    }

    /// Everything that the server had to say has been heard; nothing came that nobody asked for.
    pub(crate) async fn quiet(&mut self) {
        self.ask(json!(["q:stats", "nothing-of-this-name"])).await;
        assert_eq!(self.heard, Vec::<String>::new());
    }

    pub(crate) async fn stats(&mut self, queue: &str) -> Value {
        self.ok(json!(["q:stats", queue])).await
    }

    /// Waits until a queue has so many in a state.
    pub(crate) async fn until(&mut self, queue: &str, state: &str, count: u64) {
        let begin = std::time::Instant::now();
        loop {
            // It may not be there yet.
            let stats = self.ask(json!(["q:stats", queue])).await;
            if stats[state] == count {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "{count} {state}: {stats}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn attachment(&mut self) -> Vec<u8> {
        match within("an attachment", self.client.message()).await.unwrap() {
            Message::Binary(data) => data,
            other => panic!("an attachment was to come, not {other:?}"),
        }
    }
}

fn read(text: &str) -> Value {
    let rest = text.strip_prefix("2/queues,").unwrap_or_else(|| panic!("an event was to come, not {text:?}"));
    let at = rest.find('[').unwrap();
    let id = rest[..at].parse::<u64>().ok();
    json!([id, serde_json::from_str::<Value>(&rest[at..]).unwrap()])
}
