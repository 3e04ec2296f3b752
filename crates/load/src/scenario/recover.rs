//! `recover`: everybody is away while rooms are spoken to, comes back, and has to be told all of it, once and in order.
//!
//! Every event of a room carries the next number. So it is known of each member what it must hear next, whatever happens to
//! its connection: less is repeated, more is missing.

use std::collections::VecDeque;

use serde::Deserialize;

use super::connect::Reasons;
use super::returns::Returns;
use super::{Scenario, Wire};
use crate::client::Session;
use crate::failure::Failure;
use crate::measure::Latencies;
use crate::wire::{self, Numbered, Request};

/// The event that the server keeps and sends on.
pub(crate) const PUBLISH: &str = "rstore";
/// What the server says to who cannot have all that was missed.
const GAP: &str = r#"["sio:gap""#;

/// What everybody does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Coming in for the first time.
    Entering,
    /// Being there.
    Listening,
    /// Being away.
    Away,
    /// Coming back.
    Returning,
}

#[derive(Clone, Debug, Default)]
struct Member {
    session: Session,
    room: usize,
    /// The number of the next event it must hear.
    next: u64,
    /// Whether the namespace is joined, in the act that is on.
    is_in: bool,
    /// Whether its room is joined, or everything missed was told.
    is_there: bool,
    /// The server took it for somebody new: nothing can be expected of it any more.
    is_stranger: bool,
    first_at: u64,
}

/// What the server says to a client that joins.
#[derive(Deserialize)]
struct Welcome {
    #[serde(default)]
    pid: String,
}

pub(crate) struct Recover {
    message: Numbered,
    namespace: String,
    prefix: String,
    at_once: usize,
    in_flight: usize,
    act: Act,
    members: Vec<Member>,
    /// The name of each room, and how much was said in it.
    rooms: Vec<(String, u64)>,
    publisher_is_in: bool,
    /// The last member is in the last room alone, and its return is measured by itself.
    has_heavy: bool,
    returns: Returns,
    /// What is still to be published: so many events in each of these rooms.
    unpublished: VecDeque<(usize, u64)>,
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    buffer: Vec<u8>,
    /// Members that are there, or back with all they missed.
    pub(crate) there: usize,
    /// Events that members heard.
    pub(crate) heard: u64,
    /// From a member's first try until it had all that it missed.
    pub(crate) recoveries: Latencies,
    /// And that of the heavy one.
    pub(crate) heavy: Latencies,
    pub(crate) attempts: u64,
    pub(crate) not_recovered: u64,
    pub(crate) gaps: u64,
    pub(crate) repeated: u64,
    pub(crate) missing: u64,
    pub(crate) wrong: u64,
    pub(crate) others: u64,
    /// Members without a session, or without an offset of what they heard.
    pub(crate) sessionless: u64,
    /// Connections that were lost or refused when they should not have been.
    pub(crate) losses: Reasons,
    /// The same while everybody comes back, when it happens to anybody.
    pub(crate) refused: Reasons,
}

impl Recover {
    /// `members` connections in `rooms` rooms whose names begin with `tag`, one more in a room of its own with `has_heavy`; the
    /// connection behind them publishes, `in_flight` events at once.
    #[expect(clippy::too_many_arguments, reason = "what the plan says")]
    pub(crate) fn new(
        message: Numbered,
        namespace: &str,
        prefix: String,
        tag: &str,
        members: usize,
        rooms: usize,
        has_heavy: bool,
        [at_once, in_flight]: [usize; 2],
    ) -> Self {
        let mut of: Vec<usize> = (0..members).map(|member| member % rooms).collect();
        of.extend(has_heavy.then_some(rooms));
        let names = 0..rooms + usize::from(has_heavy);
        Self {
            message,
            namespace: namespace.to_owned(),
            prefix,
            at_once,
            in_flight,
            act: Act::Entering,
            members: of.into_iter().map(|room| Member { room, ..Member::default() }).collect(),
            rooms: names.map(|room| (format!("{tag}{room}"), 0)).collect(),
            publisher_is_in: false,
            has_heavy,
            returns: Returns::new(members + 2),
            unpublished: VecDeque::new(),
            asked: 0,
            answered: 0,
            buffer: Vec::new(),
            there: 0,
            heard: 0,
            recoveries: Latencies::new(),
            heavy: Latencies::new(),
            attempts: 0,
            not_recovered: 0,
            gaps: 0,
            repeated: 0,
            missing: 0,
            wrong: 0,
            others: 0,
            sessionless: 0,
            losses: Reasons::default(),
            refused: Reasons::default(),
        }
    }

    /// The connection that publishes.
    fn publisher(&self) -> usize {
        self.members.len()
    }

    /// Opens all connections; members join their rooms.
    pub(crate) fn enter<W: Wire>(&mut self, wire: &mut W) {
        (self.act, self.there) = (Act::Entering, 0);
        for id in 0..=self.publisher() {
            self.returns.within(wire, id, 0);
        }
    }

    /// Opens the publisher's connection, if it is not there.
    pub(crate) fn bring_publisher<W: Wire>(&mut self, wire: &mut W) {
        if !self.publisher_is_in {
            let id = self.publisher();
            self.returns.within(wire, id, 0);
        }
    }

    pub(crate) fn publisher_is_there(&self) -> bool {
        self.publisher_is_in
    }

    pub(crate) fn everybody_is_there(&self) -> bool {
        self.there == self.members.len()
    }

    /// Publishes `count` events in each room, `heavy` in that of the heavy one.
    pub(crate) fn publish<W: Wire>(&mut self, wire: &mut W, count: u64, heavy: u64) {
        let rooms = self.rooms.len();
        let of = |room| if self.has_heavy && room + 1 == rooms { heavy } else { count };
        self.unpublished.extend((0..rooms).map(|room| (room, of(room))).filter(|(_, count)| *count > 0));
        for _ in 0..self.in_flight {
            self.publish_next(wire);
        }
    }

    fn publish_next<W: Wire>(&mut self, wire: &mut W) {
        let Some((room, left)) = self.unpublished.pop_front() else { return };
        if left > 1 {
            self.unpublished.push_back((room, left - 1));
        }
        let (name, number) = &mut self.rooms[room];
        let args = (name.as_str(), self.message.payload(*number));
        *number += 1;
        let request = Request::new(&self.namespace, PUBLISH, &args);
        request.expect("invariant: the event is not reserved").write(&mut self.buffer, self.asked);
        self.asked += 1;
        wire.send(self.members.len(), &self.buffer);
    }

    /// What was not sent yet.
    pub(crate) fn unpublished(&self) -> u64 {
        self.unpublished.iter().map(|(_, count)| count).sum()
    }

    /// Whether all that was published is answered.
    pub(crate) fn is_published(&self) -> bool {
        self.answered == self.asked && self.unpublished.is_empty()
    }

    /// Whether members have heard all that was published, as far as they can.
    pub(crate) fn is_heard(&self) -> bool {
        self.is_published() && self.members.iter().all(|member| member.is_stranger || self.owed(member) == 0)
    }

    /// How many events a member has to hear.
    fn owed(&self, member: &Member) -> u64 {
        self.rooms[member.room].1.saturating_sub(member.next)
    }

    /// How many members have, of the events of their rooms, heard less than all.
    pub(crate) fn behind(&self) -> usize {
        self.members.iter().filter(|member| !member.is_stranger && self.owed(member) > 0).count()
    }

    /// Notes members that cannot be recovered, because they were not told what they need.
    pub(crate) fn look_for_sessions(&mut self) {
        let lacking = |it: &&Member| it.session.pid.is_empty() || it.session.offset.is_empty();
        self.sessionless = self.members.iter().filter(lacking).count() as u64;
    }

    /// Cuts all members off; the publisher as well, with `and_publisher`.
    pub(crate) fn leave<W: Wire>(&mut self, wire: &mut W) {
        (self.act, self.there) = (Act::Away, 0);
        for (id, member) in self.members.iter_mut().enumerate() {
            wire.cut(id);
            (member.is_in, member.is_there) = (false, false);
        }
    }

    /// Cuts the publisher off.
    pub(crate) fn cut_publisher<W: Wire>(&mut self, wire: &mut W) {
        self.publisher_is_in = false;
        wire.cut(self.publisher());
    }

    /// Has members come back, each within `spread_ns`, the heavy one at once.
    pub(crate) fn come_back<W: Wire>(&mut self, wire: &mut W, spread_ns: u64) {
        self.returns.clear();
        (self.act, self.there) = (Act::Returning, 0);
        let heavy = self.has_heavy.then(|| self.members.len() - 1);
        for (id, member) in self.members.iter_mut().enumerate() {
            let spread_ns = if Some(id) == heavy { 0 } else { spread_ns };
            match member.is_stranger {
                true => self.there += 1,
                false => member.first_at = self.returns.within(wire, id, spread_ns),
            }
        }
    }

    /// Members are back: what is lost from here on should not be.
    pub(crate) fn settle(&mut self) {
        self.returns.clear();
        self.act = Act::Listening;
    }

    fn answer<W: Wire>(&mut self, wire: &mut W, id: usize, ack: u64) {
        if id == self.publisher() && self.answered < self.asked && ack < self.asked {
            self.answered += 1;
            self.publish_next(wire);
        } else if self.act == Act::Entering && id < self.members.len() && !self.members[id].is_there {
            self.members[id].is_there = true;
            self.there += 1;
        } else {
            self.wrong += 1;
        }
    }

    fn event<W: Wire>(&mut self, wire: &mut W, id: usize, number: u64, offset: Option<&str>) {
        let Some(member) = self.members.get_mut(id) else {
            self.others += 1;
            return;
        };
        if number < member.next {
            self.repeated += 1;
            return;
        }
        self.missing += number - member.next;
        member.next = number + 1;
        self.heard += 1;
        if let Some(offset) = offset {
            member.session.offset.clear();
            member.session.offset.push_str(offset);
        }
        self.is_back(wire, id);
    }

    /// Notes that a member that comes back has all it missed, if so.
    fn is_back<W: Wire>(&mut self, wire: &W, id: usize) {
        let member = &self.members[id];
        if self.act != Act::Returning || !member.is_in || member.is_there || self.owed(member) > 0 {
            return;
        }
        let took = wire.now().saturating_sub(member.first_at);
        match self.has_heavy && id + 1 == self.members.len() {
            true => self.heavy.note(took),
            false => self.recoveries.note(took),
        }
        self.members[id].is_there = true;
        self.there += 1;
    }
}

impl Scenario for Recover {
    fn welcomed(&mut self, id: usize, reply: &str) {
        let Some(member) = self.members.get_mut(id) else {
            self.publisher_is_in = true;
            return;
        };
        let pid = serde_json::from_str(reply).map(|it: Welcome| it.pid).unwrap_or_default();
        if self.act == Act::Returning && pid != member.session.pid {
            self.not_recovered += 1;
            member.is_stranger = true;
            if !std::mem::replace(&mut member.is_there, true) {
                self.there += 1;
            }
        }
        member.session.pid = pid;
        member.is_in = true;
    }

    fn ready<W: Wire>(&mut self, wire: &mut W, id: usize, _since: u64) {
        match self.act {
            Act::Entering if id < self.members.len() => {
                let room = &self.rooms[self.members[id].room].0;
                let request = Request::new(&self.namespace, "join", room);
                request.expect("invariant: join is not reserved").write(&mut self.buffer, 0);
                wire.send(id, &self.buffer);
            }
            Act::Returning if id < self.members.len() => self.is_back(wire, id),
            _ => {}
        }
    }

    fn packet<W: Wire>(&mut self, wire: &mut W, id: usize, packet: &str) {
        if let Some((number, offset)) = self.message.read_kept(packet) {
            self.event(wire, id, number, offset.as_deref());
        } else if let Some(answer) = wire::answer(packet, &self.prefix) {
            self.answer(wire, id, answer.id);
        } else if packet.contains(GAP) {
            self.gaps += 1;
        } else {
            self.others += 1;
        }
    }

    fn lost<W: Wire>(&mut self, wire: &mut W, id: usize, failure: &Failure) {
        let Some(member) = self.members.get_mut(id).filter(|it| self.act == Act::Returning && !it.is_stranger) else {
            self.losses.note(failure);
            return;
        };
        self.refused.note(failure);
        member.is_in = false;
        if std::mem::take(&mut member.is_there) {
            self.there -= 1;
        }
        self.returns.again(wire, id);
    }

    fn tick<W: Wire>(&mut self, wire: &mut W) -> Option<u64> {
        loop {
            match self.returns.next(wire, self.at_once) {
                Ok((at, id)) if self.act == Act::Returning && id < self.members.len() => {
                    self.attempts += 1;
                    wire.open_again(id, at, &self.members[id].session);
                }
                Ok((at, id)) => wire.open(id, at),
                Err(next) => return next,
            }
        }
    }

    fn done(&self) -> u64 {
        match self.act {
            Act::Entering => self.there as u64,
            Act::Away => self.answered,
            Act::Listening | Act::Returning => self.heard,
        }
    }

    fn unfinished(&self) -> u64 {
        match self.act {
            Act::Entering | Act::Returning => (self.members.len() - self.there) as u64,
            Act::Listening | Act::Away => self.asked - self.answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    const MS: u64 = 1_000_000;

    /// Three members in two rooms, the heavy one's among them, who have joined and heard the first event.
    fn recover(wire: &mut Fake) -> Recover {
        let message = Numbered::new("/", "bcast", 12).unwrap();
        let mut app = Recover::new(message, "/", String::new(), "r", 2, 1, true, [10, 2]);
        app.enter(wire);
        app.tick(wire);
        assert_eq!(wire.opened.len(), 4);
        for id in 0..4 {
            app.welcomed(id, &format!(r#"{{"sid":"s{id}","pid":"p{id}"}}"#));
            app.ready(wire, id, 0);
        }
        let joins = [(0, r#"420["join","r0"]"#), (1, r#"420["join","r0"]"#), (2, r#"420["join","r1"]"#)];
        assert_eq!(wire.take(), joins.map(|(id, text)| (id, text.to_owned())));
        (0..3).for_each(|id| app.packet(wire, id, "30[]"));
        assert!(app.everybody_is_there() && app.publisher_is_there());
        app.settle();
        app.publish(wire, 1, 1);
        let sent = [r#"420["rstore","r0","0000000000ab"]"#, r#"421["rstore","r1","0000000000ab"]"#];
        assert_eq!(wire.take(), sent.map(|text| (3, text.to_owned())));
        (0..2).for_each(|ack| app.packet(wire, 3, &format!("3{ack}[]")));
        (0..3).for_each(|id| hear(&mut app, wire, id, 0));
        assert!(app.is_heard());
        app.look_for_sessions();
        assert_eq!(app.sessionless, 0);
        app
    }

    fn hear(app: &mut Recover, wire: &mut Fake, id: usize, number: u64) {
        app.packet(wire, id, &format!(r#"2["bcast","{number:010}ab","~{number}"]"#));
    }

    fn welcome(app: &mut Recover, wire: &mut Fake, id: usize, pid: &str) {
        app.welcomed(id, &format!(r#"{{"sid":"s","pid":"{pid}"}}"#));
        app.ready(wire, id, 0);
    }

    /// All are cut off, miss two events, the heavy one three, and come back at 5 ms.
    fn missed(app: &mut Recover, wire: &mut Fake) {
        app.leave(wire);
        assert_eq!(wire.cut, [0, 1, 2]);
        app.publish(wire, 2, 3);
        for ack in 2..7 {
            assert!(!app.is_published());
            app.packet(wire, 3, &format!("3{ack}[]"));
        }
        assert!(app.is_published() && !app.is_heard());
        wire.now = 5 * MS;
        app.come_back(wire, 0);
        app.tick(wire);
    }

    #[test]
    fn who_comes_back_shows_what_it_heard_last_and_is_there_when_it_has_the_rest() {
        let mut wire = Fake::default();
        let mut app = recover(&mut wire);
        missed(&mut app, &mut wire);
        let shown: Vec<_> = wire.shown.iter().map(|(id, it)| (*id, it.pid.as_str(), it.offset.as_str())).collect();
        assert_eq!(shown, [(0, "p0", "~0"), (1, "p1", "~0"), (2, "p2", "~0")]);
        // One is told everything before it is let in, one behind that.
        hear(&mut app, &mut wire, 0, 1);
        hear(&mut app, &mut wire, 0, 2);
        assert_eq!(app.there, 0);
        wire.now = 7 * MS;
        welcome(&mut app, &mut wire, 0, "p0");
        welcome(&mut app, &mut wire, 1, "p1");
        assert_eq!(app.there, 1);
        hear(&mut app, &mut wire, 1, 1);
        // It is cut off in between, and shows how far it has come.
        app.lost(&mut wire, 1, &Failure::Closed);
        wire.now = 5_000 * MS;
        app.tick(&mut wire);
        assert_eq!(wire.shown.last(), Some(&(1, Session { pid: "p1".into(), offset: "~1".into() })));
        welcome(&mut app, &mut wire, 1, "p1");
        hear(&mut app, &mut wire, 1, 2);
        (1..4).for_each(|number| hear(&mut app, &mut wire, 2, number));
        welcome(&mut app, &mut wire, 2, "p2");
        assert!(app.everybody_is_there() && app.is_heard());
        assert_eq!((app.recoveries.summary().count, app.heavy.summary().count), (2, 1));
        assert_eq!(app.recoveries.summary().min_us.round(), 2_000.0);
        assert_eq!((app.repeated, app.missing, app.not_recovered, app.heard), (0, 0, 0, 3 + 7));
    }

    #[test]
    fn what_must_not_happen_is_counted() {
        let mut wire = Fake::default();
        let mut app = recover(&mut wire);
        missed(&mut app, &mut wire);
        // Twice, with a hole, and somebody new.
        hear(&mut app, &mut wire, 0, 0);
        hear(&mut app, &mut wire, 0, 2);
        welcome(&mut app, &mut wire, 0, "p0");
        app.packet(&mut wire, 1, r#"2["sio:gap",[],"~3"]"#);
        welcome(&mut app, &mut wire, 1, "other");
        (1..4).for_each(|number| hear(&mut app, &mut wire, 2, number));
        welcome(&mut app, &mut wire, 2, "p2");
        assert!(app.everybody_is_there());
        assert_eq!((app.repeated, app.missing, app.gaps, app.not_recovered), (1, 1, 1, 1));
        app.packet(&mut wire, 0, "35[]");
        app.packet(&mut wire, 0, r#"2["hello"]"#);
        app.settle();
        app.lost(&mut wire, 0, &Failure::Closed);
        assert_eq!((app.wrong, app.others, app.losses.0.len()), (1, 1, 1));
    }
}
