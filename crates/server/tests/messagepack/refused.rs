//! What ends a connection.

use posthaste::{Builder, DisconnectReason, Parser, Server, Stats};
use posthaste_testkit::{Client, Transport, eventually, resident_bytes};
use serde_json::json;

use crate::alone::{packed, talking};
use crate::speaker::Speaker;

/// What a client sends in place of a packet.
enum Sent<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// Each of these ends the connection of whoever sends it, and nobody else's.
async fn ends(builder: impl Fn() -> Builder, sent: &[Sent<'_>]) {
    let (running, reasons) = talking(builder());
    let (mut witness, _) = Speaker::join(running.addr, Transport::WebSocket).await;
    let mut count = 0;
    for transport in Transport::ALL {
        for message in sent {
            let (mut speaker, _) = Speaker::join(running.addr, transport).await;
            match message {
                Sent::Text(text) => speaker.0.send(text).await.unwrap(),
                Sent::Binary(data) => speaker.0.send_binary(data).await.unwrap(),
            }
            speaker.0.closed().await.unwrap();
            count += 1;
            let reason = reasons.wait_for(count).await[count - 1];
            // Over polling it may wait for the poll that fetches the end.
            let waits = transport == Transport::Polling && reason == DisconnectReason::ForcedServerClose;
            assert!(waits || reason == DisconnectReason::ForcedClose, "{reason:?}");
            witness.ask(json!(["echo", count]), json!([count])).await;
        }
    }
}

#[tokio::test]
async fn what_is_no_packet_ends_the_connection_of_its_sender() {
    let deep = [&b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e"[..], &[0x91; 100_000]].concat();
    let messages = [
        Sent::Text(r#"2["hi"]"#),
        Sent::Text("0"),
        Sent::Text(""),
        Sent::Text("451-["),
        Sent::Binary(b""),
        Sent::Binary(b"2[\"hi\"]"),
        Sent::Binary(b"\xc1"),
        Sent::Binary(b"\x80"),
        Sent::Binary(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\xdd\xff\xff\xff\xff"),
        Sent::Binary(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xaadisconnect"),
        Sent::Binary(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa2hi\0"),
        // In order, but not for it: to join twice, to speak where it has not joined, to refuse.
        Sent::Binary(b"\x82\xa4type\0\xa3nsp\xa1/"),
        Sent::Binary(b"\x83\xa4type\x02\xa3nsp\xa2/x\xa4data\x91\xa2hi"),
        Sent::Binary(b"\x83\xa4type\x04\xa3nsp\xa1/\xa4data\xa2no"),
        Sent::Binary(&deep),
    ];
    ends(packed, &messages).await;
}

#[tokio::test]
async fn sec_09_sec_12_bombs_of_depth_and_length_end_their_own_connection_and_take_no_memory() {
    const EVENT: &[u8] = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data";
    let (running, reasons) = talking(packed());
    let (mut witness, _) = Speaker::join(running.addr, Transport::WebSocket).await;
    let before = resident_bytes();
    let mut bombs = Vec::new();
    for deep in [&b"\x91"[..], b"\x81\xa1a", b"\xdd\0\0\0\x01", b"\xdf\0\0\0\x01\xa0"] {
        bombs.push([EVENT, b"\x92\xa1e", &deep.repeat(900_000 / deep.len())[..]].concat());
    }
    for head in [&b"\xdd"[..], b"\xdf", b"\xdb", b"\xc6", b"\xc9"] {
        bombs.push([EVENT, b"\x92\xa1e", head, b"\xff\xff\xff\xff\0"].concat());
        // As long as the message could be, and each element again.
        bombs.push([EVENT, &[head, b"\0\x0d\0\0\0"].concat().repeat(140_000)[..]].concat());
    }
    for (count, bomb) in (1..).zip(bombs.iter().cycle().take(3 * bombs.len())) {
        let (mut speaker, _) = Speaker::join(running.addr, Transport::WebSocket).await;
        speaker.0.send_binary(bomb).await.unwrap();
        speaker.0.closed().await.unwrap();
        reasons.wait_for(count).await;
        witness.ask(json!(["echo", count]), json!([count])).await;
    }
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        // What other tests of this process hold is in it as well.
        let grown = after.saturating_sub(before);
        assert!(grown < 256 << 20, "{grown} bytes more");
    }
}

#[tokio::test]
async fn who_began_in_one_way_goes_on_in_it() {
    let either = || Server::builder().workers(2).parser(Parser::Either);
    ends(either, &[Sent::Text(r#"2["hi"]"#), Sent::Text("0/custom,"), Sent::Binary(b"\x00")]).await;
    let (running, reasons) = talking(either());
    for transport in Transport::ALL {
        let mut client = Client::join(running.addr, transport).await;
        client.send_binary(b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa4echo").await;
        client.closed().await;
    }
    reasons.wait_for(2).await;
    // What is neither from the first message on.
    for message in [&b""[..], b"\x91", b"\x82\xa4type\0\xa3nsp\xa4chat"] {
        let mut speaker = Speaker::open(running.addr, Transport::WebSocket).await;
        speaker.0.send_binary(message).await.unwrap();
        speaker.0.closed().await.unwrap();
    }
    let io = &running.io;
    eventually("nothing is left", async || io.stats().await == Stats::default()).await;
}

#[tokio::test]
async fn a_client_of_another_parser_is_not_let_in() {
    for parser in [Parser::Json, Parser::MessagePack] {
        let (running, _) = talking(Server::builder().workers(1).parser(parser));
        for transport in Transport::ALL {
            let mut speaker = Speaker::open(running.addr, transport).await;
            match parser {
                Parser::Json => speaker.send(&json!({ "type": 0, "nsp": "/" })).await,
                _ => speaker.0.send("0").await.unwrap(),
            }
            speaker.0.closed().await.unwrap();
        }
    }
}
