//! A device of somebody: a raw client that answers when it is told to.

use std::net::SocketAddr;

use posthaste_testkit::{Client, Transport};
use serde_json::{Value, json};

pub(crate) struct Device {
    pub(crate) client: Client,
    /// The last id it asked under.
    asked: u64,
}

/// A message as it came: the id it is answered under, if it asks for an answer, its name and arguments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Came {
    pub(crate) id: Option<u64>,
    pub(crate) event: Value,
}

impl Device {
    /// Connects as a device of somebody.
    pub(crate) async fn connect(addr: SocketAddr, user: &str, device: &str) -> Self {
        Self::connect_with(addr, Transport::WebSocket, json!({ "user": user, "device": device })).await
    }

    pub(crate) async fn connect_with(addr: SocketAddr, transport: Transport, auth: Value) -> Self {
        let mut client = Client::open(addr, transport).await;
        client.connect_with("/", &auth.to_string()).await;
        Self { client, asked: 0 }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Came {
        let text = self.client.text().await;
        read(&text)
    }

    /// Expects messages with these events next, all of which ask for answers. Returns the ids.
    pub(crate) async fn expect(&mut self, events: impl IntoIterator<Item = Value>) -> Vec<u64> {
        let mut ids = Vec::new();
        for event in events {
            let came = self.message().await;
            assert_eq!(came.event, event);
            ids.push(came.id.expect("it asks for an answer"));
        }
        ids
    }

    pub(crate) async fn answer(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            self.client.send(&format!("3{id}[]")).await;
        }
    }

    /// A round trip: the server has heard what was said before. Returns what came meanwhile.
    pub(crate) async fn sync(&mut self) -> Vec<Came> {
        self.asked += 1;
        let answer = format!("3{}[]", self.asked);
        self.client.send(&format!(r#"2{}["sync"]"#, self.asked)).await;
        let mut came = Vec::new();
        loop {
            let text = self.client.text().await;
            if text == answer {
                return came;
            }
            came.push(read(&text));
        }
    }
}

/// Reads an event as it came.
pub(crate) fn read(text: &str) -> Came {
    let rest = text.strip_prefix('2').unwrap_or_else(|| panic!("an event was to come, not {text:?}"));
    let (id, event) = rest.split_at(rest.find('[').unwrap());
    Came { id: (!id.is_empty()).then(|| id.parse().unwrap()), event: serde_json::from_str(event).unwrap() }
}
