//! The emit cheatsheet of the guide does what its table says.

use posthaste_testkit::within;

use crate::spread::Spread;

include!("../../guide/emit_cheatsheet.rs");

/// Answers every question with the name of the client, until the server ends the connection. Gives what came, ids left out.
async fn receive(mut client: posthaste_testkit::Client, name: &str) -> Vec<String> {
    let mut came = Vec::new();
    loop {
        let packet = match client.message().await.unwrap() {
            posthaste_testkit::Message::Text(packet) => packet,
            posthaste_testkit::Message::Binary(data) => {
                came.push(format!("{data:?}"));
                continue;
            }
        };
        if packet == "1" {
            return came;
        }
        let digits = packet[1..].bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 && packet.starts_with('2') {
            client.send(&format!("3{}[\"{name}\"]", &packet[1..=digits])).await;
            came.push(format!("asked {}", &packet[1 + digits..]));
        } else {
            came.push(packet);
        }
    }
}

#[tokio::test]
async fn every_line_reaches_whom_it_names() {
    let spread = Spread::over(2, |_| {});
    let (io, one, two) = (spread.running.io.clone(), spread.client().await, spread.client().await);
    one.socket.join("room1");
    two.socket.join("room2");
    let (socket, id) = (one.socket.clone(), two.socket.id());
    let first = tokio::spawn(receive(one.client, "one"));
    let second = tokio::spawn(receive(two.client, "two"));
    within("all of it", all_of_it(io.clone(), socket, id)).await.unwrap();
    assert_eq!(
        within("the end of the first", first).await.unwrap(),
        [
            // To one client.
            r#"2["hello",1,"2",{"a":3}]"#,
            r#"51-["hello",{"_placeholder":true,"num":0}]"#,
            "[1]",
            r#"asked ["hello","world"]"#,
            r#"asked ["hello","world"]"#,
            r#"2["message","hello"]"#,
            r#"2["position",1.5,2.5]"#,
            r#"2["noise",7]"#,
            // To many: everyone, room1 twice, both rooms twice, room1 without room2, this node, volatile, uncompressed.
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            // With answers: everyone, room1, and everyone as a stream.
            r#"asked ["hello"]"#,
            r#"asked ["hello"]"#,
            r#"asked ["hello"]"#,
        ]
    );
    io.disconnect_sockets(true).await.unwrap();
    assert_eq!(
        within("the end of the second", second).await.unwrap(),
        [
            // Everyone, everyone but the sender, both rooms twice, all but room1, its own id, this node, volatile, uncompressed.
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            r#"2["hello"]"#,
            // Everyone, and everyone as a stream.
            r#"asked ["hello"]"#,
            r#"asked ["hello"]"#,
        ]
    );
}
