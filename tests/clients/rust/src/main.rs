//! Runs every scenario with rust_socketio over every transport against the conformance app at a given address.
//!
//! ```text
//! posthaste-clients-rust http://127.0.0.1:3000
//! ```
//!
//! Writes a JSON line per cell of the matrix: mode, scenario, and error (null when all went well).

mod cable;
mod peer;
mod scenarios;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;

use peer::{Cell, Mode};
use scenarios::SCENARIOS;

const AT_ONCE: usize = 4;
const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let url = std::env::args().nth(1).expect("the address of a conformance app");
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut cells = Vec::new();
    for mode in Mode::ALL {
        for (number, (name, scenario)) in SCENARIOS.iter().enumerate() {
            let cell = Cell { url: url.clone(), mode, name: format!("cell-{mode:?}-{number}") };
            let turns = turns.clone();
            cells.push(tokio::spawn(async move {
                let _turn = turns.acquire().await.expect("it is never closed");
                let result = tokio::time::timeout(TIMEOUT, scenario(cell)).await;
                let error = result.unwrap_or_else(|_| Err("it did not end".into())).err();
                println!("{}", json!({ "mode": mode.name(), "scenario": name, "error": error }));
            }));
        }
    }
    for cell in cells {
        cell.await.expect("scenarios give errors, and do not panic");
    }
}
