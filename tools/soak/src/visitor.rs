//! A client among others: what it hears between a question and its answer is other people's talk.

use std::io;
use std::sync::Arc;

use posthaste_testkit::{Client, Message, Random};

use crate::crowd::Shared;

/// A client in the main namespace, and perhaps in others.
pub(crate) struct Visitor {
    pub(crate) client: Client,
    pub(crate) random: Random,
    shared: Arc<Shared>,
    next_id: u64,
}

impl Visitor {
    pub(crate) fn new(client: Client, random: Random, shared: Arc<Shared>) -> Self {
        Self { client, random, shared, next_id: 0 }
    }

    /// Asks something of a namespace: `event` is what stands between the brackets. Returns the answer, an array.
    pub(crate) async fn ask(&mut self, namespace: &str, event: &str) -> io::Result<String> {
        let answer = self.ask_unheard(namespace, event).await?;
        self.hear(&answer).await
    }

    /// Asks and does not wait. Returns how the answer will begin.
    pub(crate) async fn ask_unheard(&mut self, namespace: &str, event: &str) -> io::Result<String> {
        self.next_id += 1;
        let (id, comma) = (self.next_id, if namespace == "/" { "" } else { "," });
        let namespace = namespace.strip_suffix('/').unwrap_or(namespace);
        self.client.try_send(&format!("2{namespace}{comma}{id}[{event}]")).await?;
        Ok(format!("3{namespace}{comma}{id}["))
    }

    /// Hears until a packet begins as expected. Returns the rest of it. Questions on the way are answered, or not.
    pub(crate) async fn hear(&mut self, beginning: &str) -> io::Result<String> {
        loop {
            let Message::Text(text) = self.message().await? else { continue };
            if let Some(rest) = text.strip_prefix(beginning) {
                return Ok(rest.to_owned());
            }
            if let Some(id) = question(&text)
                && !self.random.once_in(3)
            {
                self.client.try_send(&format!("3{id}[\"yes\"]")).await?;
            }
        }
    }

    pub(crate) async fn message(&mut self) -> io::Result<Message> {
        let message = self.client.message().await?;
        self.shared.count_message();
        Ok(message)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.random.below(end)
    }
}

/// The id of an event of the main namespace that asks for an answer.
fn question(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('2')?;
    let end = rest.find('[')?;
    let id = &rest[..end];
    (!id.is_empty() && id.bytes().all(|digit| digit.is_ascii_digit())).then_some(id)
}
