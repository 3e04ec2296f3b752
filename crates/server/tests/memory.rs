//! What slow readers cost, measured on the whole process: one test at a time, in a binary of their own.

#![allow(clippy::unwrap_used, reason = "tests: a failed expectation is the point")]
#![cfg(target_os = "linux")]

use std::sync::LazyLock;
use std::time::Duration;

use posthaste::{Builder, DisconnectReason, Limit, MemoryWatermark, OutboxLimits, Server, Socket, State, Stats};
use posthaste_testkit::{Client, Record, Running, eventually, resident_bytes, serve};
use tokio::sync::Mutex;

const MIB: usize = 1 << 20;

/// Two tests at once would measure each other.
static ALONE: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);

fn resident() -> usize {
    resident_bytes().expect("Linux tells")
}

struct Measured {
    running: Running,
    sockets: Record<Socket>,
    reasons: Record<DisconnectReason>,
}

fn measured(builder: Builder) -> Measured {
    let (sockets, reasons) = (Record::<Socket>::new(), Record::<DisconnectReason>::new());
    // No ping that nobody answers: on a busy machine one would be missed before too much waits.
    let quiet = builder.ping(Duration::from_secs(600), Duration::from_secs(600));
    let running = serve(quiet.workers(1).state(sockets.clone()).state(reasons.clone()), |io| {
        io.on_connect(async |socket: Socket, State(sockets): State<Record<Socket>>| sockets.push(socket));
        io.on_disconnect(async |reason: DisconnectReason, State(reasons): State<Record<DisconnectReason>>| {
            reasons.push(reason);
        });
        io.on("sync", async || {});
    });
    Measured { running, sockets, reasons }
}

impl Measured {
    async fn stopped_readers(&self, count: usize) -> Vec<Client> {
        let mut readers = Vec::new();
        for _ in 0..count {
            readers.push(Client::narrow(self.running.addr).await);
        }
        readers
    }

    /// Has `bytes` wait for each socket, in small events of its own: nothing that could be shared.
    async fn fill(&self, sockets: &[Socket], bytes: usize) {
        let small = "x".repeat(4_000);
        for round in 0..bytes / small.len() {
            for socket in sockets {
                // Refused once it is gone.
                let _ = socket.emit("small", &small).now();
            }
            if round % 4 == 0 {
                // What was posted has been taken.
                self.running.io.stats().await;
            }
        }
        self.running.io.stats().await;
    }
}

#[tokio::test]
async fn sec_30_a_large_event_waits_once_for_all_stopped_readers_and_they_go_when_too_much_waits() {
    let _alone = ALONE.lock().await;
    const READERS: usize = 30;
    const LARGE: usize = 10 * MIB;
    let server = measured(Server::builder().outbox(OutboxLimits { bytes: 24 * MIB, packets: 1_000 }));
    let io = &server.running.io;
    // More than any kernel takes for one of them: most of it waits.
    let large = "x".repeat(LARGE);
    let mut levels = Vec::new();
    for round in 1..=3 {
        let readers = server.stopped_readers(READERS).await;
        let before = resident();
        for _ in 0..2 {
            io.emit("large", &large).await.unwrap();
            // Within the bound nobody goes.
            assert_eq!(io.stats().await.sockets, READERS);
        }
        let grown = resident().saturating_sub(before);
        // Copies would take twice as much. What is made on the way to the frames, and kept by the allocator, is a few times an event.
        assert!(
            grown < READERS * LARGE,
            "{grown} bytes for two events of 10 MiB: they were copied for {READERS} readers"
        );
        // Past it everybody does.
        for _ in 0..2 {
            io.emit("large", &large).await.unwrap();
            io.stats().await;
        }
        let reasons = server.reasons.wait_for(round * READERS).await;
        assert!(reasons.iter().all(|reason| *reason == DisconnectReason::Slow), "{reasons:?}");
        assert_eq!(io.refused().by(Limit::Outbox), (round * READERS) as u64);
        readers.into_iter().for_each(Client::reset);
        eventually("nothing is left", async || io.stats().await == Stats::default()).await;
        levels.push(resident());
    }
    // The allocator keeps some for the next time, now more, now less. Four events that stayed in each round would add up to more.
    assert!(levels[2] < levels[0] + 5 * LARGE, "what waited is not free: {levels:?}");
}

#[tokio::test]
async fn sec_30_what_waits_for_one_reader_is_bounded_by_its_outbox() {
    let _alone = ALONE.lock().await;
    const READERS: usize = 10;
    let server = measured(Server::builder().outbox(OutboxLimits { bytes: 2 * MIB, packets: 65_536 }));
    let readers = server.stopped_readers(READERS).await;
    let before = resident();
    // Beyond what kernels and outboxes take together, many times over.
    server.fill(&server.sockets.wait_for(READERS).await, 16 * MIB).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < READERS * 2 * MIB * 2 + 16 * MIB, "{grown} bytes wait for readers that may have 2 MiB each");
    assert_eq!(server.reasons.wait_for(READERS).await, [DisconnectReason::Slow; READERS]);
    drop(readers);
}

#[tokio::test]
async fn memory_after_a_burst_is_used_again_and_does_not_add_up() {
    let _alone = ALONE.lock().await;
    const READERS: usize = 6;
    let server = measured(Server::builder().outbox(OutboxLimits { bytes: 64 * MIB, packets: 1 << 20 }));
    let mut levels = Vec::new();
    let mut peaks = Vec::new();
    for round in 1..=5 {
        let readers = server.stopped_readers(READERS).await;
        let sockets = server.sockets.wait_for(round * READERS).await.split_off((round - 1) * READERS);
        server.fill(&sockets, 6 * MIB).await;
        peaks.push(resident());
        readers.into_iter().for_each(Client::reset);
        eventually("they have left", async || server.running.io.stats().await == Stats::default()).await;
        levels.push(resident());
    }
    let (first, last) = (peaks[0], peaks[4]);
    assert!(last < first + first / 4 + 8 * MIB, "bursts of the same size need more and more: {peaks:?}");
    assert!(levels[4] < levels[0] + 16 * MIB, "memory does not come back: {levels:?} of {peaks:?}");
}

#[tokio::test]
async fn readers_that_are_slowest_go_first_when_memory_is_short() {
    let _alone = ALONE.lock().await;
    const READERS: usize = 8;
    let limit = u64::try_from(resident() + 60 * MIB).unwrap();
    let server = measured(
        Server::builder()
            .outbox(OutboxLimits { bytes: 256 * MIB, packets: 1 << 20 })
            .memory_watermark(MemoryWatermark { limit: Some(limit), ..Default::default() }),
    );
    let mut fast = Client::websocket(server.running.addr).await;
    let readers = server.stopped_readers(READERS).await;
    let sockets = server.sockets.wait_for(READERS + 1).await.split_off(1);
    fast.ask(r#"["sync"]"#, "[]").await;
    let mut waits = 0;
    while server.running.io.refused().by(Limit::Shed) == 0 {
        server.fill(&sockets, 4 * MIB).await;
        waits += 4;
        assert!(waits < 200, "nobody goes, though the readers were sent {waits} MiB each");
    }
    let reasons = server.reasons.wait_for(1).await;
    assert!(reasons.iter().all(|reason| *reason == DisconnectReason::Slow), "{reasons:?}");
    assert!(reasons.len() <= READERS);
    fast.ask(r#"["sync"]"#, "[]").await;
    assert!(server.running.io.refused().by(Limit::Outbox) == 0, "it was not their outboxes");
    drop(readers);
}
