//! `broadcast`: one publishes, all receive; each must hear every message, in order, once.

use std::collections::BTreeMap;

use super::connect::Reasons;
use super::{Scenario, Window, Wire};
use crate::failure::Failure;
use crate::measure::Latencies;
use crate::schedule::Schedule;
use crate::wire::Numbered;

/// One broadcast on its way.
#[derive(Debug)]
struct Flight {
    intended: u64,
    sent: u64,
    left: usize,
    /// A bit for each receiver that has heard it.
    heard: Vec<u64>,
}

pub(crate) struct Broadcast {
    message: Numbered,
    namespace: String,
    event: String,
    receivers: usize,
    in_flight: usize,
    flights: BTreeMap<u64, Flight>,
    /// Bits of finished flights, to be used again.
    spare: Vec<Vec<u64>>,
    published: u64,
    /// What was published before this was a trial, and whoever hears it now does no harm.
    trials: u64,
    /// What each receiver should hear next, if nothing is lost.
    next: Vec<u64>,
    schedule: Option<Schedule>,
    owed: u64,
    due: u64,
    window: Window,
    going: bool,
    buffer: Vec<u8>,
    /// From when a broadcast was due until its last receiver had it.
    pub(crate) to_last: Latencies,
    /// Until each receiver had it.
    pub(crate) to_each: Latencies,
    pub(crate) delivered: u64,
    pub(crate) complete: u64,
    /// Heard behind a later one.
    pub(crate) out_of_order: u64,
    /// Heard twice, or after it was given up.
    pub(crate) repeated: u64,
    /// Never heard.
    pub(crate) missing: u64,
    pub(crate) others: u64,
    pub(crate) losses: Reasons,
}

impl Broadcast {
    pub(crate) fn new(message: Numbered, namespace: &str, event: &str, receivers: usize, in_flight: usize) -> Self {
        Self {
            message,
            namespace: namespace.to_owned(),
            event: event.to_owned(),
            receivers,
            in_flight,
            flights: BTreeMap::new(),
            spare: Vec::new(),
            published: 0,
            trials: 0,
            next: vec![0; receivers],
            schedule: None,
            owed: 0,
            due: 0,
            window: Window::CLOSED,
            going: false,
            buffer: Vec::new(),
            to_last: Latencies::new(),
            to_each: Latencies::new(),
            delivered: 0,
            complete: 0,
            out_of_order: 0,
            repeated: 0,
            missing: 0,
            others: 0,
            losses: Reasons::default(),
        }
    }

    /// Publishes one message, due at `intended`, on the first connection.
    pub(crate) fn publish<W: Wire>(&mut self, wire: &mut W, intended: u64) {
        let number = self.published;
        self.published += 1;
        let mut heard = self.spare.pop().unwrap_or_default();
        heard.clear();
        heard.resize(self.receivers.div_ceil(64), 0);
        self.flights.insert(number, Flight { intended, sent: wire.now(), left: self.receivers, heard });
        self.buffer.clear();
        self.buffer.push(b'4');
        let written = posthaste_socket_proto::encode_event(
            &mut self.buffer,
            &self.namespace,
            None,
            &self.event,
            self.message.payload(number).as_str(),
        );
        debug_assert!(written.is_ok(), "invariant: the event's name was tried before");
        wire.send(0, &self.buffer);
    }

    /// Forgets what was published so far, and who has not heard it.
    pub(crate) fn end_trial<W: Wire>(&mut self, wire: &W) {
        self.give_up(wire);
        self.trials = self.published;
        self.next.fill(self.published);
        (self.missing, self.repeated, self.out_of_order, self.others) = (0, 0, 0, 0);
    }

    /// Closed loop: so many broadcasts are always on their way.
    pub(crate) fn start<W: Wire>(&mut self, wire: &mut W) {
        self.going = true;
        for _ in 0..self.in_flight {
            self.publish(wire, wire.now());
        }
    }

    pub(crate) fn follow(&mut self, schedule: Schedule) {
        self.going = true;
        self.due = 0;
        self.schedule = Some(schedule);
    }

    pub(crate) fn measure(&mut self, window: Window) {
        self.to_last.clear();
        self.to_each.clear();
        self.window = window;
    }

    /// Nothing new begins, and nothing after `now` counts.
    pub(crate) fn stop(&mut self, now: u64) {
        self.going = false;
        self.window.until = self.window.until.min(now.saturating_add(1));
    }

    /// The receivers that the oldest broadcast has not reached, and how long it has been on its way.
    pub(crate) fn oldest<W: Wire>(&self, wire: &W) -> Option<(usize, u64)> {
        let (_, flight) = self.flights.first_key_value()?;
        Some((flight.left, wire.now().saturating_sub(flight.sent)))
    }

    /// Gives up the broadcasts that are on their way or due: deliveries that did not come are missing, and the
    /// broadcasts of the window count with the time they have waited.
    pub(crate) fn give_up<W: Wire>(&mut self, wire: &W) -> u64 {
        let now = wire.now();
        let count = self.unfinished();
        for flight in std::mem::take(&mut self.flights).into_values() {
            self.missing += flight.left as u64;
            if self.schedule.is_none() || self.window.holds(flight.intended) {
                self.to_last.note(now.saturating_sub(flight.intended));
            }
        }
        if let Some(schedule) = self.schedule {
            let owed = std::mem::take(&mut self.owed);
            if owed > 0 {
                let (first, last) = (schedule.intended(self.due - owed), schedule.intended(self.due - 1));
                let since = now.saturating_sub(first.max(self.window.from));
                self.to_last.note_evenly(since, now.saturating_sub(last), self.window.share(first, last, owed));
            }
        }
        count
    }

    fn deliver<W: Wire>(&mut self, wire: &mut W, id: usize, number: u64) {
        if number < self.trials {
            return;
        }
        let Some(flight) = self.flights.get_mut(&number).filter(|_| id < self.next.len()) else {
            self.repeated += 1;
            return;
        };
        let (word, bit) = (id / 64, 1 << (id % 64));
        if flight.heard[word] & bit != 0 {
            self.repeated += 1;
            return;
        }
        flight.heard[word] |= bit;
        flight.left -= 1;
        self.delivered += 1;
        if number < self.next[id] {
            self.out_of_order += 1;
        } else {
            self.next[id] = number + 1;
        }
        let (now, intended) = (wire.now(), flight.intended);
        let counts = self.window.holds(if self.schedule.is_some() { intended } else { now });
        let latency = now.saturating_sub(intended);
        if counts {
            self.to_each.note(latency);
        }
        if flight.left > 0 {
            return;
        }
        if counts {
            self.to_last.note(latency);
        }
        self.complete += 1;
        self.spare.extend(self.flights.remove(&number).map(|flight| flight.heard));
        match self.schedule {
            None if self.going => self.publish(wire, now),
            Some(schedule) if self.owed > 0 => {
                let index = self.due - self.owed;
                self.owed -= 1;
                self.publish(wire, schedule.intended(index));
            }
            _ => {}
        }
    }
}

impl Scenario for Broadcast {
    fn packet<W: Wire>(&mut self, wire: &mut W, id: usize, packet: &str) {
        match self.message.read(packet) {
            Some(number) => self.deliver(wire, id, number),
            None => self.others += 1,
        }
    }

    fn lost<W: Wire>(&mut self, _wire: &mut W, _id: usize, failure: &Failure) {
        self.losses.note(failure);
    }

    fn tick<W: Wire>(&mut self, wire: &mut W) -> Option<u64> {
        let schedule = self.schedule.filter(|_| self.going)?;
        // What is due behind the window would only delay the end.
        let due = schedule.due(wire.now().min(self.window.until.saturating_sub(1)));
        while self.due < due {
            let intended = schedule.intended(self.due);
            self.due += 1;
            if self.owed > 0 || self.flights.len() >= self.in_flight {
                self.owed += 1;
            } else {
                self.publish(wire, intended);
            }
        }
        Some(schedule.intended(due))
    }

    fn done(&self) -> u64 {
        self.delivered
    }

    fn unfinished(&self) -> u64 {
        self.flights.len() as u64 + self.owed
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const MS: u64 = 1_000_000;

    fn broadcast(receivers: usize, in_flight: usize) -> Broadcast {
        Broadcast::new(Numbered::new("/", "bcast", 12).unwrap(), "/", "bcast", receivers, in_flight)
    }

    fn message(number: u64) -> String {
        format!(r#"2["bcast","{number:010}ab"]"#)
    }

    #[test]
    fn a_broadcast_ends_with_its_last_receiver_and_the_next_follows() {
        let (mut app, mut wire) = (broadcast(70, 1), Fake::default());
        app.start(&mut wire);
        app.measure(Window { from: 0, until: u64::MAX });
        assert_eq!(wire.take(), [(0, r#"42["bcast","0000000000ab"]"#.to_owned())]);
        for id in 0..70 {
            wire.now += MS;
            app.packet(&mut wire, id, &message(0));
        }
        assert_eq!(wire.take(), [(0, r#"42["bcast","0000000001ab"]"#.to_owned())]);
        assert_eq!((app.complete, app.delivered, app.to_each.summary().count), (1, 70, 70));
        assert!((app.to_last.summary().p50_us - 70_000.0).abs() < 100.0);
    }

    #[test]
    fn what_is_lost_repeated_or_overtaken_is_counted() {
        let (mut app, mut wire) = (broadcast(2, 3), Fake::default());
        app.start(&mut wire);
        app.stop(wire.now);
        for (id, number) in [(0, 0), (0, 2), (0, 1), (1, 0), (1, 1), (1, 1), (1, 0), (1, 99)] {
            app.packet(&mut wire, id, &message(number));
        }
        app.packet(&mut wire, 0, r#"2["other"]"#);
        assert_eq!((app.out_of_order, app.repeated, app.others, app.missing), (1, 3, 1, 0));
        assert_eq!(app.give_up(&wire), 1);
        assert_eq!((app.missing, app.delivered, app.complete), (1, 5, 2));
    }

    #[test]
    fn at_a_rate_a_broadcast_counts_from_when_it_was_due() {
        let (mut app, mut wire) = (broadcast(1, 1), Fake::default());
        app.follow(Schedule::new(0, 1_000.0));
        app.measure(Window { from: 0, until: 100 * MS });
        app.tick(&mut wire);
        wire.now = 10 * MS; // the first is on its way all that time
        app.tick(&mut wire);
        app.stop(wire.now);
        assert_eq!((wire.take().len(), app.unfinished()), (1, 11));
        for number in 0..11 {
            app.packet(&mut wire, 0, &message(number));
        }
        let summary = app.to_last.summary();
        assert_eq!((summary.count, app.unfinished()), (11, 0));
        assert!((summary.p50_us - 5_000.0).abs() < 10.0, "{summary:?}");
    }
}
