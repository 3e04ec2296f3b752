//! `echo`: a question, its answer, and the time between. Closed loop, or at a rate.

use super::connect::Reasons;
use super::{Scenario, Window, Wire};
use crate::failure::Failure;
use crate::measure::Latencies;
use crate::schedule::Schedule;
use crate::wire::{self, Request};

/// No question is in this slot.
const FREE: u64 = u64::MAX;

/// A question that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// When it was due; [`FREE`] if there is none.
    intended: u64,
    ack: u64,
}

pub(crate) struct Echo {
    request: Request,
    prefix: String,
    payload: String,
    expected: String,
    connections: usize,
    in_flight: usize,
    /// `in_flight` of each connection, connection by connection.
    slots: Vec<Slot>,
    /// Questions of each connection that wait for an answer.
    waiting: Vec<u32>,
    /// All of those, and all that are owed.
    unfinished: u64,
    /// Questions each connection has asked; with a rate, the index of its next one.
    asked: Vec<u64>,
    /// With a rate: questions that are due and have no free slot.
    owed: Vec<u64>,
    schedule: Option<Schedule>,
    /// With a rate: questions that were due so far, of all connections.
    due: u64,
    window: Window,
    /// Whether an answer is followed by the next question.
    going: bool,
    buffer: Vec<u8>,
    pub(crate) latencies: Latencies,
    /// How much later than due questions were sent although their slot was free: what the load itself added.
    pub(crate) lag: Latencies,
    /// Right answers.
    pub(crate) answered: u64,
    /// Answers with another payload, to no question, or a second time.
    pub(crate) wrong: u64,
    /// Packets that are no answers.
    pub(crate) others: u64,
    /// Questions whose connection was lost.
    pub(crate) lost: u64,
    pub(crate) losses: Reasons,
}

impl Echo {
    pub(crate) fn new(request: Request, prefix: String, payload: String, connections: usize, in_flight: usize) -> Self {
        Self {
            request,
            prefix,
            expected: format!("[\"{payload}\"]"),
            payload,
            connections,
            in_flight,
            slots: vec![Slot { intended: FREE, ack: 0 }; connections * in_flight],
            waiting: vec![0; connections],
            unfinished: 0,
            asked: vec![0; connections],
            owed: vec![0; connections],
            schedule: None,
            due: 0,
            window: Window::CLOSED,
            going: false,
            buffer: Vec::new(),
            latencies: Latencies::new(),
            lag: Latencies::new(),
            answered: 0,
            wrong: 0,
            others: 0,
            lost: 0,
            losses: Reasons::default(),
        }
    }

    /// Asks one question on connection `id`, which has a slot free for it.
    pub(crate) fn ask<W: Wire>(&mut self, wire: &mut W, id: usize, intended: u64) {
        let slots = &mut self.slots[id * self.in_flight..(id + 1) * self.in_flight];
        let Some(place) = slots.iter().position(|slot| slot.intended == FREE) else { return };
        // Ids never repeat on a connection, so a late or a second answer is told from the right one.
        let ack = self.asked[id] * self.in_flight as u64 + place as u64;
        slots[place] = Slot { intended, ack };
        self.waiting[id] += 1;
        self.unfinished += 1;
        self.asked[id] += 1;
        self.request.write(&mut self.buffer, ack);
        wire.send(id, &self.buffer);
    }

    /// Closed loop: every slot asks, and asks again when it is answered.
    pub(crate) fn start<W: Wire>(&mut self, wire: &mut W) {
        self.going = true;
        for _ in 0..self.in_flight {
            for id in 0..self.connections {
                self.ask(wire, id, wire.now());
            }
        }
    }

    /// Open loop: questions are due as `schedule` says, connection after connection.
    pub(crate) fn follow(&mut self, schedule: Schedule) {
        self.going = true;
        self.due = 0;
        self.asked.fill(0);
        self.schedule = Some(schedule);
    }

    /// Counts from here: operations due in `window` with a rate, answers within it without.
    pub(crate) fn measure(&mut self, window: Window) {
        self.latencies.clear();
        self.lag.clear();
        self.window = window;
    }

    /// Nothing more becomes due, and nothing after `now` counts.
    pub(crate) fn stop(&mut self, now: u64) {
        self.going = false;
        self.window.until = self.window.until.min(now.saturating_add(1));
    }

    /// Gives up what is unfinished: each operation of the window counts with the time it has waited until now. Returns
    /// how many those are. (Left out, the slowest of all would be missing.)
    pub(crate) fn give_up<W: Wire>(&mut self, wire: &mut W) -> u64 {
        let now = wire.now();
        let mut count = 0;
        for slot in &mut self.slots {
            if slot.intended != FREE && (self.schedule.is_none() || self.window.holds(slot.intended)) {
                self.latencies.note(now.saturating_sub(slot.intended));
                count += 1;
            }
            slot.intended = FREE;
        }
        if let Some(schedule) = self.schedule {
            for id in 0..self.connections {
                let owed = std::mem::take(&mut self.owed[id]);
                if owed > 0 {
                    let at = |turn: u64| schedule.intended(turn * self.connections as u64 + id as u64);
                    let (first, last) = (at(self.asked[id]), at(self.asked[id] + owed - 1));
                    let counted = self.window.share(first, last, owed);
                    let since = first.max(self.window.from);
                    self.latencies.note_evenly(now.saturating_sub(since), now.saturating_sub(last), counted);
                    count += counted;
                }
            }
        }
        self.waiting.fill(0);
        self.unfinished = 0;
        count
    }

    fn answer<W: Wire>(&mut self, wire: &mut W, id: usize, ack: u64, args: &str) {
        let place = (ack % self.in_flight as u64) as usize;
        let slot = &mut self.slots[id * self.in_flight + place];
        if slot.intended == FREE || slot.ack != ack || !wire::is_payload(args, &self.expected, &self.payload) {
            self.wrong += 1;
            return;
        }
        let (intended, now) = (slot.intended, wire.now());
        slot.intended = FREE;
        self.waiting[id] -= 1;
        self.unfinished -= 1;
        self.answered += 1;
        let counts = if self.schedule.is_some() { intended } else { now };
        if self.window.holds(counts) {
            self.latencies.note(now.saturating_sub(intended));
        }
        match self.schedule {
            None if self.going => self.ask(wire, id, now),
            Some(schedule) if self.owed[id] > 0 => {
                self.owed[id] -= 1;
                self.unfinished -= 1;
                let index = self.asked[id] * self.connections as u64 + id as u64;
                self.ask(wire, id, schedule.intended(index));
            }
            _ => {}
        }
    }
}

impl Scenario for Echo {
    fn packet<W: Wire>(&mut self, wire: &mut W, id: usize, packet: &str) {
        match wire::answer(packet, &self.prefix) {
            Some(answer) => self.answer(wire, id, answer.id, answer.args),
            None => self.others += 1,
        }
    }

    fn lost<W: Wire>(&mut self, wire: &mut W, id: usize, failure: &Failure) {
        let now = wire.now();
        for slot in &mut self.slots[id * self.in_flight..(id + 1) * self.in_flight] {
            if slot.intended != FREE {
                self.lost += 1;
                if self.window.holds(slot.intended) {
                    self.latencies.note(now.saturating_sub(slot.intended));
                }
                slot.intended = FREE;
            }
        }
        let owed = std::mem::take(&mut self.owed[id]);
        self.lost += owed;
        self.unfinished -= u64::from(std::mem::take(&mut self.waiting[id])) + owed;
        self.losses.note(failure);
    }

    fn tick<W: Wire>(&mut self, wire: &mut W) -> Option<u64> {
        let schedule = self.schedule?;
        if !self.going {
            return None;
        }
        // What is due behind the window would only delay the end.
        let due = schedule.due(wire.now().min(self.window.until.saturating_sub(1)));
        while self.due < due {
            let id = (self.due % self.connections as u64) as usize;
            let intended = schedule.intended(self.due);
            self.due += 1;
            // A connection that waits for the server does not pass its turn on: its users would wait, too.
            if !wire.is_ready(id) {
                self.lost += 1;
                self.asked[id] += 1;
            } else if self.owed[id] > 0 || self.waiting[id] as usize == self.in_flight {
                self.owed[id] += 1;
                self.unfinished += 1;
            } else {
                if self.window.holds(intended) {
                    self.lag.note(wire.now().saturating_sub(intended));
                }
                self.ask(wire, id, intended);
            }
        }
        Some(schedule.intended(due))
    }

    fn done(&self) -> u64 {
        self.answered
    }

    fn unfinished(&self) -> u64 {
        self.unfinished
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    fn echo(connections: usize, in_flight: usize) -> Echo {
        let request = Request::new("/", "echo", &"abc").unwrap();
        Echo::new(request, String::new(), "abc".into(), connections, in_flight)
    }

    /// Answers all that was sent, rightly.
    fn answer_all(echo: &mut Echo, wire: &mut Fake) {
        for (id, packet) in wire.take() {
            let ack = packet[2..].split('[').next().unwrap();
            echo.packet(wire, id, &format!("3{ack}[\"abc\"]"));
        }
    }

    #[test]
    fn a_server_that_stalls_shows_in_the_latencies_of_all_who_would_have_asked() {
        let (mut echo, mut wire) = (echo(2, 4), Fake::default());
        echo.follow(Schedule::new(0, 1_000.0));
        echo.measure(Window { from: 0, until: 4 * SECOND });
        // It answers within a millisecond, but for the second from 1 s to 2 s.
        for ms in 0..4_000 {
            wire.now = ms * MS;
            echo.tick(&mut wire);
            if !(1_000..2_000).contains(&ms) {
                // An answer may free a slot for what is owed, which is answered as quickly.
                while !wire.sent.is_empty() {
                    answer_all(&mut echo, &mut wire);
                }
            }
        }
        wire.now = 4 * SECOND;
        echo.stop(wire.now);
        let summary = echo.latencies.summary();
        assert_eq!(echo.unfinished(), 0);
        assert_eq!(summary.count, 4_000);
        assert_eq!((echo.wrong, echo.lost), (0, 0));
        // A quarter of all operations was due in the stall and waited half of it on average: a load that leaves out
        // what it did not send would show eight slow ones.
        assert_eq!(summary.p50_us, 0.001);
        assert!((summary.p90_us - 600_000.0).abs() < 2_000.0, "{summary:?}");
        assert!((summary.max_us - 1_000_000.0).abs() < 1_000.0, "{summary:?}");
        assert!((summary.mean_us - 125_000.0).abs() < 1_000.0, "{summary:?}");
    }

    #[test]
    fn what_is_never_answered_counts_with_the_time_it_waited() {
        let (mut echo, mut wire) = (echo(2, 4), Fake::default());
        echo.follow(Schedule::new(0, 1_000.0));
        echo.measure(Window { from: 500 * MS, until: SECOND });
        for ms in 0..1_000 {
            wire.now = ms * MS;
            echo.tick(&mut wire);
        }
        wire.now = SECOND;
        echo.stop(wire.now);
        assert_eq!(wire.sent.len(), 8, "no more than may be in flight");
        assert_eq!(echo.unfinished(), 1_000);
        wire.now = 2 * SECOND;
        // Those sent were due before the window; the rest of the window was never sent.
        assert_eq!(echo.give_up(&mut wire), 500);
        let summary = echo.latencies.summary();
        assert_eq!(summary.count, 500);
        assert!(summary.min_us > 999_000.0 && summary.max_us < 1_501_000.0, "{summary:?}");
        assert_eq!(echo.unfinished(), 0);
    }

    #[test]
    fn a_closed_loop_asks_again_when_it_is_answered_and_no_more_than_its_number() {
        let (mut echo, mut wire) = (echo(3, 2), Fake::default());
        echo.start(&mut wire);
        echo.measure(Window { from: 0, until: SECOND });
        assert_eq!(wire.sent.len(), 6);
        wire.now = 5 * MS;
        answer_all(&mut echo, &mut wire);
        assert_eq!(wire.sent.len(), 6);
        assert_eq!(echo.latencies.summary().count, 6);
        let ids: std::collections::HashSet<_> = wire.sent.iter().cloned().collect();
        assert_eq!(ids.len(), 6, "ids do not repeat on a connection");
        echo.stop(wire.now);
        answer_all(&mut echo, &mut wire);
        assert_eq!((wire.sent.len(), echo.unfinished(), echo.answered), (0, 0, 12));
    }

    #[test]
    fn wrong_answers_are_told_from_right_ones() {
        let (mut echo, mut wire) = (echo(1, 2), Fake::default());
        echo.start(&mut wire);
        assert_eq!(wire.take()[0].1, r#"420["echo","abc"]"#);
        echo.stop(wire.now);
        for (packet, wrong, others, answered) in [
            (r#"30["abd"]"#, 1, 0, 0),
            (r#"37["abc"]"#, 2, 0, 0),
            (r#"2["hello"]"#, 2, 1, 0),
            (r#"30["abc"]"#, 2, 1, 1),
            (r#"30["abc"]"#, 3, 1, 1),
        ] {
            echo.packet(&mut wire, 0, packet);
            assert_eq!((echo.wrong, echo.others, echo.answered), (wrong, others, answered), "{packet}");
        }
        echo.lost(&mut wire, 0, &Failure::Closed);
        assert_eq!((echo.lost, echo.unfinished()), (1, 0));
    }
}
