//! Random histories of one inbox against what its devices have a right to.

use std::collections::BTreeMap;

use posthaste::Inbox;
use posthaste_testkit::{Random, Running, eventually};

use crate::device::{Came, Device};
use crate::scene::Remains;

const WINDOW: usize = 4;
const DEVICES: [&str; 3] = ["phone", "laptop", "watch"];

/// What is known of a device.
#[derive(Default)]
struct Known {
    /// Everything before this number it has answered.
    confirmed: usize,
    live: Option<Live>,
}

/// A device that is connected.
struct Live {
    device: Device,
    /// The number that comes next.
    next: usize,
    /// What came and was not answered: numbers, and the ids to answer under.
    open: Vec<(usize, u64)>,
}

impl Live {
    /// What came is what had to come.
    fn hear(&mut self, came: Vec<Came>) {
        for Came { id, event } in came {
            assert_eq!(event, serde_json::json!(["event", self.next]));
            self.open.push((self.next, id.unwrap()));
            self.next += 1;
        }
        assert!(self.open.len() <= WINDOW, "{} messages on their way", self.open.len());
    }

    async fn sync(&mut self) {
        let came = self.device.sync().await;
        self.hear(came);
    }

    /// Everything before this it has answered.
    fn confirmed(&self) -> usize {
        self.open.iter().map(|(number, _)| *number).min().unwrap_or(self.next)
    }
}

struct History {
    remains: Remains,
    running: Running,
    random: Random,
    /// The position of each message.
    positions: Vec<u64>,
    devices: BTreeMap<&'static str, Known>,
}

impl History {
    fn new(seed: u64) -> Self {
        let remains = Remains::new();
        let running = remains.serve_inboxes(inbox());
        Self { remains, running, random: Random::seeded(seed), positions: Vec::new(), devices: BTreeMap::new() }
    }

    async fn emit(&mut self) {
        for _ in 0..=self.random.below(6) {
            let stored = self.running.io.user("ada").emit("event", &self.positions.len()).await.unwrap();
            self.positions.push(stored.pos);
        }
    }

    async fn connect(&mut self, name: &'static str) {
        // To one that is new belongs what somebody else has not answered.
        let kept = self.devices.values().map(|known| known.confirmed).min().unwrap_or(0);
        let known = self.devices.entry(name).or_insert(Known { confirmed: kept, live: None });
        if known.live.is_none() {
            let device = Device::connect(self.running.addr, "ada", name).await;
            known.live = Some(Live { device, next: known.confirmed, open: Vec::new() });
        }
    }

    /// Answers some of what came, in any order. The server has heard of it if it is `waited` for.
    async fn answer(&mut self, name: &str, waited: bool) {
        let Some(Known { confirmed, live: Some(live) }) = self.devices.get_mut(name) else { return };
        live.sync().await;
        let mut answered = Vec::new();
        while !live.open.is_empty() && !self.random.once_in(4) {
            // The oldest more often, or little would move.
            let place = if self.random.once_in(2) { 0 } else { self.random.below(live.open.len()) };
            answered.push(live.open.remove(place).1);
        }
        live.device.answer(answered).await;
        if waited {
            live.sync().await;
            *confirmed = live.confirmed();
        }
    }

    async fn lose(&mut self, name: &'static str) {
        let is_heard = !self.random.once_in(3);
        self.answer(name, is_heard).await;
        let Some(live) = self.devices.get_mut(name).and_then(|known| known.live.take()) else { return };
        let most = live.confirmed();
        let before = self.running.io.stats().await.sockets;
        live.device.client.reset();
        eventually("the server has noticed", async || self.running.io.stats().await.sockets < before).await;
        if is_heard {
            return;
        }
        // Its last answers may have come or not: where it goes on tells, and has to be between.
        let mut device = Device::connect(self.running.addr, "ada", name).await;
        let came = device.sync().await;
        let known = self.devices.get_mut(name).unwrap();
        let from = came.first().map_or(self.positions.len(), |came| came.event[1].as_u64().unwrap() as usize);
        assert!((known.confirmed..=most).contains(&from), "{from} of {} to {most}", known.confirmed);
        known.confirmed = from;
        let mut live = Live { device, next: from, open: Vec::new() };
        live.hear(came);
        known.live = Some(live);
    }

    /// The process is killed: another one opens what is left.
    async fn restart(&mut self) {
        for (name, known) in &mut self.devices {
            if let Some(mut live) = known.live.take() {
                live.sync().await;
                live.device.client.reset();
            }
            let after = known.confirmed.checked_sub(1).map_or(0, |last| self.positions[last]);
            eventually("the store knows how far it is", async || {
                self.remains.cursors("ada").await.contains(&((*name).to_owned(), after))
            })
            .await;
        }
        self.running = self.remains.serve_inboxes(inbox());
    }

    async fn step(&mut self) {
        let name = DEVICES[self.random.below(DEVICES.len())];
        match self.random.below(12) {
            0..3 => self.emit().await,
            3..6 => self.connect(name).await,
            6..9 => self.answer(name, true).await,
            9..11 => self.lose(name).await,
            _ => self.restart().await,
        }
    }

    /// Everybody comes and answers everything: nothing is left, of anything.
    async fn end(mut self) {
        for name in DEVICES {
            self.connect(name).await;
        }
        for known in self.devices.values_mut() {
            let live = known.live.as_mut().unwrap();
            while live.next < self.positions.len() {
                let open = std::mem::take(&mut live.open);
                live.device.answer(open.into_iter().map(|(_, id)| id)).await;
                live.sync().await;
            }
            let open = std::mem::take(&mut live.open);
            live.device.answer(open.into_iter().map(|(_, id)| id)).await;
        }
        eventually("everything is passed", async || self.remains.kept("ada") == 0).await;
    }
}

fn inbox() -> Inbox {
    Inbox { window: WINDOW, ..Inbox::default() }
}

#[tokio::test]
async fn every_device_is_sent_everything_in_order_and_nothing_again_that_it_answered() {
    for seed in 0..24 {
        println!("seed {seed}");
        let mut history = History::new(seed);
        for _ in 0..40 {
            history.step().await;
        }
        history.end().await;
    }
}
