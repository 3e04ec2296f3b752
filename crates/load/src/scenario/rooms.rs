//! `rooms`: broadcasts to rooms while sockets move between them; only who is in a room may hear what it is told.
//!
//! Each of some movers repeats: send a broadcast to a room nobody else uses now and wait until all its members have it,
//! then move one socket from its room to another, by `leave` and `join` with an answer each. So at any moment it is
//! known exactly who must hear a broadcast.

use super::connect::Reasons;
use super::{Scenario, Window, Wire};
use crate::failure::Failure;
use crate::measure::Latencies;
use crate::wire::{self, NUMBER_DIGITS, Numbered, Request};

/// What a mover waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Idle,
    /// `left` deliveries of broadcast `number` in `room`.
    Telling {
        room: usize,
        number: u64,
        left: usize,
    },
    Leaving {
        member: usize,
        from: usize,
        to: usize,
    },
    Joining {
        member: usize,
        to: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct Mover {
    step: Step,
    /// Since when it does what it does.
    since: u64,
    /// Since when it moves a member.
    moving_since: u64,
    /// The id of the answer it waits for.
    ack: u64,
}

pub(crate) struct Rooms {
    message: Numbered,
    prefix: String,
    namespace: String,
    /// Names of rooms.
    names: Vec<String>,
    /// How many are in each room.
    sizes: Vec<usize>,
    /// Which room each member is in.
    of: Vec<usize>,
    /// Rooms a mover uses.
    busy: Vec<bool>,
    /// The last broadcast each member heard.
    heard: Vec<u64>,
    moving: Vec<bool>,
    movers: Vec<Mover>,
    /// Joins of the preparation that are answered.
    pub(crate) placed: usize,
    number: u64,
    acks: u64,
    window: Window,
    going: bool,
    buffer: Vec<u8>,
    /// From a broadcast to its last member.
    pub(crate) to_last: Latencies,
    /// From `leave` to the answer of `join`.
    pub(crate) moves: Latencies,
    pub(crate) delivered: u64,
    pub(crate) broadcasts: u64,
    /// Joins and leaves answered.
    pub(crate) changes: u64,
    /// Heard by who was not in the room.
    pub(crate) strangers: u64,
    pub(crate) repeated: u64,
    pub(crate) missing: u64,
    /// Answers nobody waits for.
    pub(crate) wrong: u64,
    pub(crate) others: u64,
    pub(crate) losses: Reasons,
}

impl Rooms {
    /// `members` connections in `rooms` rooms whose names begin with `tag`; the connections behind them are the movers',
    /// who publish and are in no room.
    pub(crate) fn new(
        message: Numbered,
        namespace: &str,
        prefix: String,
        tag: &str,
        members: usize,
        rooms: usize,
        movers: usize,
    ) -> Self {
        let idle = Mover { step: Step::Idle, since: 0, moving_since: 0, ack: 0 };
        Self {
            message,
            prefix,
            namespace: namespace.to_owned(),
            names: (0..rooms).map(|room| format!("{tag}{room}")).collect(),
            sizes: vec![0; rooms],
            of: (0..members).map(|member| member % rooms).collect(),
            busy: vec![false; rooms],
            heard: vec![u64::MAX; members],
            moving: vec![false; members],
            movers: vec![idle; movers],
            placed: 0,
            number: 0,
            acks: 0,
            window: Window::CLOSED,
            going: false,
            buffer: Vec::new(),
            to_last: Latencies::new(),
            moves: Latencies::new(),
            delivered: 0,
            broadcasts: 0,
            changes: 0,
            strangers: 0,
            repeated: 0,
            missing: 0,
            wrong: 0,
            others: 0,
            losses: Reasons::default(),
        }
    }

    pub(crate) fn members(&self) -> usize {
        self.of.len()
    }

    /// Puts every member into its first room.
    pub(crate) fn place<W: Wire>(&mut self, wire: &mut W) {
        for member in 0..self.members() {
            let room = self.of[member];
            self.sizes[room] += 1;
            self.request(wire, member, "join", room);
        }
    }

    pub(crate) fn start<W: Wire>(&mut self, wire: &mut W) {
        self.going = true;
        for mover in 0..self.movers.len() {
            self.tell(wire, mover);
        }
    }

    pub(crate) fn measure(&mut self, window: Window) {
        self.to_last.clear();
        self.moves.clear();
        self.window = window;
    }

    /// Nothing new begins, and nothing after `now` counts.
    pub(crate) fn stop(&mut self, now: u64) {
        self.going = false;
        self.window.until = self.window.until.min(now.saturating_add(1));
    }

    /// Movers that wait for something.
    fn waiting(&self) -> usize {
        self.movers.iter().filter(|mover| mover.step != Step::Idle).count()
    }

    /// What the mover that waits longest waits for.
    pub(crate) fn oldest<W: Wire>(&self, wire: &W) -> Option<(&'static str, u64)> {
        let waiting = self.movers.iter().filter(|mover| mover.step != Step::Idle);
        let mover = waiting.min_by_key(|mover| mover.since)?;
        let what = match mover.step {
            Step::Leaving { .. } => "leave",
            Step::Joining { .. } => "join",
            _ => "rbcast",
        };
        Some((what, wire.now().saturating_sub(mover.since)))
    }

    pub(crate) fn give_up<W: Wire>(&mut self, wire: &W) -> u64 {
        let count = self.waiting() as u64;
        for mover in &mut self.movers {
            if let Step::Telling { left, .. } = mover.step {
                self.missing += left as u64;
                self.to_last.note(wire.now().saturating_sub(mover.since));
            }
            mover.step = Step::Idle;
        }
        count
    }

    fn request<W: Wire>(&mut self, wire: &mut W, id: usize, event: &str, room: usize) -> u64 {
        let ack = self.acks;
        self.acks += 1;
        let request = Request::new(&self.namespace, event, &self.names[room]);
        request.expect("invariant: join and leave are not reserved").write(&mut self.buffer, ack);
        wire.send(id, &self.buffer);
        ack
    }

    /// A random room that no mover uses and `fits`; gives up after looking at all.
    fn pick<W: Wire>(&self, wire: &mut W, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.names.len();
        let first = (wire.random() % count as u64) as usize;
        (0..count).map(|step| (first + step) % count).find(|&room| !self.busy[room] && fits(room))
    }

    fn tell<W: Wire>(&mut self, wire: &mut W, mover: usize) {
        let Some(room) = self.pick(wire, |room| self.sizes[room] > 0) else {
            self.movers[mover].step = Step::Idle;
            return;
        };
        self.busy[room] = true;
        // Which mover it was is in the number: deliveries find it without a search.
        let number = self.number * self.movers.len() as u64 + mover as u64;
        self.number = (self.number + 1) % (10_u64.pow(NUMBER_DIGITS as u32) / self.movers.len() as u64);
        let now = wire.now();
        self.movers[mover].step = Step::Telling { room, number, left: self.sizes[room] };
        self.movers[mover].since = now;
        self.buffer.clear();
        self.buffer.push(b'4');
        let args = (self.names[room].as_str(), self.message.payload(number));
        let written = posthaste_socket_proto::encode_event(&mut self.buffer, &self.namespace, None, "rbcast", &args);
        debug_assert!(written.is_ok(), "invariant: rbcast is not reserved");
        wire.send(self.members() + mover, &self.buffer);
    }

    fn move_one<W: Wire>(&mut self, wire: &mut W, mover: usize) {
        let count = self.members();
        let first = (wire.random() % count as u64) as usize;
        let members = (0..count).map(|step| (first + step) % count);
        let member = members.into_iter().find(|&it| !self.moving[it] && !self.busy[self.of[it]] && wire.is_ready(it));
        let to = member.and_then(|member| self.pick(wire, |room| room != self.of[member]));
        let (Some(member), Some(to)) = (member, to) else {
            self.tell(wire, mover);
            return;
        };
        let from = self.of[member];
        self.busy[from] = true;
        self.busy[to] = true;
        self.moving[member] = true;
        let ack = self.request(wire, member, "leave", from);
        let now = wire.now();
        let step = Step::Leaving { member, from, to };
        self.movers[mover] = Mover { step, since: now, moving_since: now, ack };
    }

    fn answered<W: Wire>(&mut self, wire: &mut W, id: usize, ack: u64) {
        if ack < self.members() as u64 && self.placed < self.members() {
            self.placed += 1;
            return;
        }
        let waits = |it: &Mover| {
            it.ack == ack
                && matches!(it.step, Step::Leaving { member, .. } | Step::Joining { member, .. } if member == id)
        };
        let Some(mover) = self.movers.iter().position(waits) else {
            self.wrong += 1;
            return;
        };
        self.changes += 1;
        let now = wire.now();
        match self.movers[mover].step {
            Step::Leaving { member, from, to } => {
                self.sizes[from] -= 1;
                self.busy[from] = false;
                self.movers[mover].ack = self.request(wire, member, "join", to);
                self.movers[mover].step = Step::Joining { member, to };
                self.movers[mover].since = now;
            }
            Step::Joining { member, to } => {
                self.sizes[to] += 1;
                self.of[member] = to;
                self.busy[to] = false;
                self.moving[member] = false;
                if self.window.holds(now) {
                    self.moves.note(now.saturating_sub(self.movers[mover].moving_since));
                }
                self.next(wire, mover, Self::tell);
            }
            Step::Idle | Step::Telling { .. } => {}
        }
    }

    fn delivered<W: Wire>(&mut self, wire: &mut W, id: usize, number: u64) {
        let mover = (number % self.movers.len() as u64) as usize;
        let Step::Telling { room, number: expected, left } = self.movers[mover].step else {
            self.strangers += 1;
            return;
        };
        if number != expected || self.of.get(id) != Some(&room) {
            self.strangers += 1;
            return;
        }
        if self.heard[id] == number {
            self.repeated += 1;
            return;
        }
        self.heard[id] = number;
        self.delivered += 1;
        let left = left - 1;
        self.movers[mover].step = Step::Telling { room, number, left };
        if left > 0 {
            return;
        }
        let now = wire.now();
        if self.window.holds(now) {
            self.to_last.note(now.saturating_sub(self.movers[mover].since));
        }
        self.broadcasts += 1;
        self.busy[room] = false;
        self.next(wire, mover, Self::move_one);
    }

    fn next<W: Wire>(&mut self, wire: &mut W, mover: usize, what: impl FnOnce(&mut Self, &mut W, usize)) {
        match self.going {
            true => what(self, wire, mover),
            false => self.movers[mover].step = Step::Idle,
        }
    }
}

impl Scenario for Rooms {
    fn packet<W: Wire>(&mut self, wire: &mut W, id: usize, packet: &str) {
        if let Some(answer) = wire::answer(packet, &self.prefix) {
            self.answered(wire, id, answer.id);
        } else if let Some(number) = self.message.read(packet) {
            self.delivered(wire, id, number);
        } else {
            self.others += 1;
        }
    }

    fn lost<W: Wire>(&mut self, _wire: &mut W, _id: usize, failure: &Failure) {
        self.losses.note(failure);
    }

    fn done(&self) -> u64 {
        self.delivered + self.changes + self.placed as u64
    }

    fn unfinished(&self) -> u64 {
        (self.waiting() + self.members() - self.placed) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::super::fake::Fake;
    use super::*;

    /// A server of rooms, with a fault to inject.
    #[derive(Default)]
    struct Server {
        rooms: HashMap<String, HashSet<usize>>,
        /// `leave` is answered and not done.
        keeps_leavers: bool,
    }

    impl Server {
        fn take(&mut self, rooms: &mut Rooms, wire: &mut Fake) {
            for (id, packet) in wire.take() {
                let start = packet.find('[').unwrap();
                let ack = &packet[2..start];
                let args: Vec<String> = serde_json::from_str(&packet[start..]).unwrap();
                let room = self.rooms.entry(args[1].clone()).or_default();
                match args[0].as_str() {
                    "join" => drop(room.insert(id)),
                    "leave" if self.keeps_leavers => {}
                    "leave" => drop(room.remove(&id)),
                    _ => {
                        for id in room.clone() {
                            rooms.packet(wire, id, &format!(r#"2["bcast","{}"]"#, args[2]));
                        }
                        continue;
                    }
                }
                rooms.packet(wire, id, &format!("3{ack}[]"));
            }
        }
    }

    fn run(server: &mut Server) -> Rooms {
        let mut wire = Fake::default();
        let mut rooms = Rooms::new(Numbered::new("/", "bcast", 20).unwrap(), "/", String::new(), "r", 40, 8, 2);
        rooms.place(&mut wire);
        server.take(&mut rooms, &mut wire);
        assert_eq!(rooms.placed, 40);
        rooms.start(&mut wire);
        rooms.measure(Window { from: 0, until: u64::MAX });
        for _ in 0..300 {
            wire.now += 1_000;
            server.take(&mut rooms, &mut wire);
        }
        rooms.stop(wire.now);
        for _ in 0..3 {
            server.take(&mut rooms, &mut wire);
        }
        rooms
    }

    #[test]
    fn members_alone_hear_a_room_while_they_move() {
        let rooms = run(&mut Server::default());
        assert_eq!((rooms.strangers, rooms.repeated, rooms.wrong, rooms.others, rooms.unfinished()), (0, 0, 0, 0, 0));
        assert!(rooms.broadcasts > 100 && rooms.changes > 200, "{} {}", rooms.broadcasts, rooms.changes);
        assert_eq!(rooms.sizes.iter().sum::<usize>(), 40);
        assert!(rooms.moves.summary().count > 100 && rooms.to_last.summary().count > 100);
    }

    #[test]
    fn a_server_that_forgets_to_let_members_leave_is_found_out() {
        let rooms = run(&mut Server { keeps_leavers: true, ..Server::default() });
        assert!(rooms.strangers > 0);
    }

    #[test]
    fn deliveries_that_do_not_come_are_missing() {
        let mut wire = Fake::default();
        let mut rooms = Rooms::new(Numbered::new("/", "bcast", 20).unwrap(), "/", String::new(), "r", 6, 2, 1);
        rooms.place(&mut wire);
        rooms.start(&mut wire);
        assert_eq!(rooms.oldest(&wire), Some(("rbcast", 0)));
        assert_eq!((rooms.give_up(&wire), rooms.missing), (1, 3));
    }
}
