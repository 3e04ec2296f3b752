//! A client that speaks MessagePack.

use std::net::SocketAddr;

use posthaste_testkit::{Engine, Packet, Transport};
use serde_json::{Value, json};

use crate::pack::{pack, unpack};

/// A connection. Packets are JSON values here; see [`pack`] for what JSON has no word for.
pub(crate) struct Speaker(pub(crate) Engine);

impl Speaker {
    pub(crate) async fn open(addr: SocketAddr, transport: Transport) -> Self {
        Self(Engine::open(addr, "/socket.io/", transport).await)
    }

    /// Connects and joins the main namespace. Returns the socket's id as well.
    pub(crate) async fn join(addr: SocketAddr, transport: Transport) -> (Self, String) {
        let mut speaker = Self::open(addr, transport).await;
        let id = speaker.connect("/").await;
        (speaker, id)
    }

    /// Joins a namespace as the official client does that has no credentials. Returns the socket's id.
    pub(crate) async fn connect(&mut self, namespace: &str) -> String {
        self.send(&json!({ "type": 0, "data": { "$undefined": true }, "nsp": namespace })).await;
        let answer = self.packet().await;
        let id = answer["data"]["sid"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        assert_eq!((&answer["type"], &answer["nsp"]), (&json!(0), &json!(namespace)));
        id
    }

    pub(crate) async fn send(&mut self, packet: &Value) {
        self.0.send_binary(&pack(packet)).await.unwrap();
    }

    /// Sends an event of the main namespace.
    pub(crate) async fn emit(&mut self, event: Value) {
        self.send(&json!({ "type": 2, "data": event, "options": { "compress": true }, "nsp": "/" })).await;
    }

    /// The next packet.
    pub(crate) async fn packet(&mut self) -> Value {
        match self.0.message().await.unwrap() {
            Packet::Binary(message) => unpack(&message),
            Packet::Text(text) => panic!("{text} is no MessagePack"),
        }
    }

    /// Expects exactly this packet next.
    pub(crate) async fn expect(&mut self, packet: Value) {
        assert_eq!(self.packet().await, packet);
    }

    /// Expects this event of the main namespace next.
    pub(crate) async fn expect_event(&mut self, event: Value) {
        self.expect(json!({ "type": 2, "data": event, "nsp": "/" })).await;
    }

    /// Asks an event and expects its answer next.
    pub(crate) async fn ask(&mut self, event: Value, answer: Value) {
        self.send(&json!({ "type": 2, "data": event, "nsp": "/", "id": 999 })).await;
        self.expect(json!({ "type": 3, "data": answer, "nsp": "/", "id": 999 })).await;
    }
}
