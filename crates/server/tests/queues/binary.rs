//! Payloads, results and progress with binary parts.

use serde_json::{Value, json};

use crate::scene::{Party, open, serving};

#[tokio::test]
async fn what_is_binary_stays_so() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    party.ok(json!(["q:consume", "images"])).await;
    let place = |number: u8| json!({ "_placeholder": true, "num": number });
    let call = json!(["q:call", "images", { "a": place(1), "b": [place(0)] }, {}]);
    party.client.send(&format!("52-/queues,77{call}")).await;
    party.client.send_binary(b"zero").await;
    party.client.send_binary(b"one").await;
    let text = party.client.text().await;
    let rest = text.strip_prefix("52-/queues,").unwrap_or_else(|| panic!("{text}"));
    let at = rest.find('[').unwrap();
    let (ack, event): (u64, Value) = (rest[..at].parse().unwrap(), serde_json::from_str(&rest[at..]).unwrap());
    // Numbered as they stand in the text.
    assert_eq!(event[1], json!({ "a": place(0), "b": [place(1)] }));
    assert_eq!((party.attachment().await, party.attachment().await), (b"one".to_vec(), b"zero".to_vec()));
    party.client.send(&format!("61-/queues,{ack}{}", json!([{ "thumb": place(0) }]))).await;
    party.client.send_binary(&[0, 255]).await;
    let answer = party.client.text().await;
    let answer = answer.strip_prefix("61-/queues,77").unwrap_or_else(|| panic!("{answer}"));
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(answer[0]["result"], json!({ "thumb": place(0) }));
    assert_eq!(party.attachment().await, [0, 255]);
}

#[tokio::test]
async fn only_payloads_are_binary() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    let place = json!({ "_placeholder": true, "num": 0 });
    party.client.send(&format!("51-/queues,78{}", json!(["q:put", "work", 1, { "headers": { "x": place } }]))).await;
    party.client.send_binary(b"x").await;
    let answer = party.client.text().await;
    assert!(answer.starts_with(r#"3/queues,78[{"ok":false,"code":"invalid""#), "{answer}");
}

#[tokio::test]
async fn what_is_pulled_and_looked_at_has_its_own_parts() {
    let running = serving(open());
    let mut party = Party::join(running.addr).await;
    let place = |number: u8| json!({ "_placeholder": true, "num": number });
    for data in [b"first", b"other"] {
        party.client.send(&format!("51-/queues,79{}", json!(["q:put", "work", [place(0)]]))).await;
        party.client.send_binary(data).await;
        assert!(party.client.text().await.starts_with(r#"3/queues,79[{"ok":true"#));
    }
    for event in [json!(["q:peek", "work"]), json!(["q:pull", "work", { "max": 9 }])] {
        party.client.send(&format!("2/queues,80{event}")).await;
        let answer = party.client.text().await;
        let answer = answer.strip_prefix("62-/queues,80").unwrap_or_else(|| panic!("{answer}"));
        let answer: Value = serde_json::from_str(answer).unwrap();
        let payloads = [&answer[0]["messages"][0]["payload"], &answer[0]["messages"][1]["payload"]];
        assert_eq!(payloads, [&json!([place(0)]), &json!([place(1)])]);
        assert_eq!((party.attachment().await, party.attachment().await), (b"first".to_vec(), b"other".to_vec()));
    }
}
