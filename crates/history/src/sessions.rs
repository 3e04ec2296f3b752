//! Those who may come back.

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::pid::Pid;

/// How many sessions may be parked. Past a bound the one that would expire first is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Their number.
    pub max_sessions: usize,
    /// Their size, as their owner estimates it, in bytes.
    pub max_bytes: usize,
}

/// The sessions of one namespace by their private id.
///
/// ```text
///            open             park                     expire, or no room
///   absent ───────► live ─────────────► parked ───────────────────────► absent
///                    │ claim              │ claim
///                    ▼                    ▼
///                 claimed ◄── park ── (the old connection is closed meanwhile)
///                    │ open: live again · release, unclaim: as before · close: absent
/// ```
///
/// `L` says where a live one is, `P` is what is kept of one that may come back. A claim is exclusive: whoever asks next finds
/// nothing. What is dropped is handed out, so that its owner can drop it when it holds no lock.
#[derive(Debug)]
pub struct Sessions<L, P> {
    limits: SessionLimits,
    // Ids are our own random bytes; one that a client makes up is looked up, never inserted.
    by_pid: FxHashMap<Pid, Entry<L, P>>,
    /// In the order they were parked, which is nearly the order they expire in; entries may be out of date.
    queue: VecDeque<(Pid, u64)>,
    tickets: u64,
    parked: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Entry<L, P> {
    Live(L),
    Parked(Parked<P>),
    Claimed(Option<Parked<P>>),
}

#[derive(Debug)]
struct Parked<P> {
    session: P,
    bytes: usize,
    expires: Instant,
    ticket: u64,
}

/// What a claim found.
#[derive(Debug, PartialEq, Eq)]
pub enum Claim<L, P> {
    /// It was parked until then: it is the claimant's now.
    Parked {
        /// What was kept.
        session: P,
        /// When it would have expired: to be named if it is parked again without having been taken up.
        expires: Instant,
    },
    /// It is on another connection, which has to be closed first; then [`Sessions::take`] has it.
    Live(L),
    /// It waited too long, and is gone now.
    Expired(P),
    /// There is none, or somebody else has claimed it.
    Nothing,
}

impl<L, P> Sessions<L, P> {
    /// No sessions.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        Self { limits, by_pid: FxHashMap::default(), queue: VecDeque::new(), tickets: 0, parked: 0, bytes: 0 }
    }

    /// A session is live at `place`: a new one, or one that was claimed. Returns what was kept of it, if anything was.
    pub fn open(&mut self, pid: Pid, place: L) -> Option<P> {
        let former = self.by_pid.insert(pid, Entry::Live(place));
        self.forget(former)
    }

    /// A session is over and cannot come back. Returns what was kept of it, if anything was.
    pub fn close(&mut self, pid: Pid) -> Option<P> {
        let former = self.by_pid.remove(&pid);
        self.forget(former)
    }

    /// A live session has lost its connection: it may come back until `expires`. For a session that is claimed, this is what the
    /// claimant will take. Returns what had to go for it: this one itself if it is not known, and so cannot come back.
    pub fn park(&mut self, pid: Pid, session: P, bytes: usize, expires: Instant) -> Vec<P> {
        let ticket = self.tickets;
        let Some(entry) = self.by_pid.get_mut(&pid) else { return vec![session] };
        let parked = Parked { session, bytes, expires, ticket };
        if let Entry::Claimed(left) = entry {
            return left.replace(parked).map(|former| former.session).into_iter().collect();
        }
        let former = std::mem::replace(entry, Entry::Parked(parked));
        let former = self.forget(Some(former));
        self.enqueue(pid, bytes);
        former.into_iter().chain(self.make_room()).collect()
    }

    /// Gives the claim of a live session up before anything was taken: it stays what it is by now, live or parked. Returns what
    /// had to go for it.
    pub fn release(&mut self, pid: Pid, place: L) -> Vec<P> {
        let ticket = self.tickets;
        let Some(entry) = self.by_pid.get_mut(&pid) else { return Vec::new() };
        let Entry::Claimed(left) = entry else { return Vec::new() };
        match left.take() {
            None => {
                *entry = Entry::Live(place);
                Vec::new()
            }
            Some(parked) => {
                let bytes = parked.bytes;
                *entry = Entry::Parked(Parked { ticket, ..parked });
                self.enqueue(pid, bytes);
                self.make_room()
            }
        }
    }

    /// Gives a claim up: the session waits on, as it did before. Returns what had to go for it: this one itself if there is no
    /// claim any more.
    pub fn unclaim(&mut self, pid: Pid, session: P, bytes: usize, expires: Instant) -> Vec<P> {
        let ticket = self.tickets;
        let Some(entry @ Entry::Claimed(_)) = self.by_pid.get_mut(&pid) else { return vec![session] };
        let former = std::mem::replace(entry, Entry::Parked(Parked { session, bytes, expires, ticket }));
        let former = self.forget(Some(former));
        self.enqueue(pid, bytes);
        former.into_iter().chain(self.make_room()).collect()
    }

    /// Finds a session and takes it, in one step.
    pub fn claim(&mut self, pid: &Pid, now: Instant) -> Claim<L, P> {
        let Some(entry) = self.by_pid.get_mut(pid) else { return Claim::Nothing };
        match std::mem::replace(entry, Entry::Claimed(None)) {
            Entry::Live(place) => Claim::Live(place),
            Entry::Parked(parked) => {
                self.parked -= 1;
                self.bytes -= parked.bytes;
                if parked.expires <= now {
                    self.by_pid.remove(pid);
                    return Claim::Expired(parked.session);
                }
                Claim::Parked { session: parked.session, expires: parked.expires }
            }
            claimed @ Entry::Claimed(_) => {
                *entry = claimed;
                Claim::Nothing
            }
        }
    }

    /// What the closed connection of a claimed session left behind, and when it expires; `None` if it cannot come back.
    pub fn take(&mut self, pid: &Pid) -> Option<(P, Instant)> {
        match self.by_pid.get_mut(pid) {
            Some(Entry::Claimed(left)) => left.take().map(|parked| (parked.session, parked.expires)),
            _ => None,
        }
    }

    /// Drops what has expired, and returns it.
    pub fn expire(&mut self, now: Instant) -> Vec<P> {
        let mut expired = Vec::new();
        while let Some((pid, ticket)) = self.queue.front() {
            match self.by_pid.get(pid) {
                Some(Entry::Parked(parked)) if parked.ticket == *ticket => {
                    if parked.expires > now {
                        break;
                    }
                    expired.extend(self.drop_oldest());
                }
                _ => drop(self.queue.pop_front()),
            }
        }
        expired
    }

    /// How many are parked.
    #[must_use]
    pub const fn parked(&self) -> usize {
        self.parked
    }

    /// How many there are: live, parked and claimed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_pid.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_pid.is_empty()
    }

    /// The estimated size of those that are parked.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn enqueue(&mut self, pid: Pid, bytes: usize) {
        self.queue.push_back((pid, self.tickets));
        self.tickets += 1;
        self.parked += 1;
        self.bytes += bytes;
        // Sessions that came back leave entries here; they are swept out before they are more than those that wait.
        if self.queue.len() > 2 * self.parked + 16 {
            let Self { queue, by_pid, .. } = self;
            queue.retain(|(pid, ticket)| matches!(by_pid.get(pid), Some(Entry::Parked(it)) if it.ticket == *ticket));
        }
    }

    fn make_room(&mut self) -> Vec<P> {
        let mut dropped = Vec::new();
        while self.parked > self.limits.max_sessions || self.bytes > self.limits.max_bytes {
            dropped.extend(self.shed());
        }
        dropped
    }

    /// Drops the session that was parked first, to make room. `None` if none is parked.
    pub fn shed(&mut self) -> Option<P> {
        while self.parked > 0 {
            if let Some(session) = self.drop_oldest() {
                return Some(session);
            }
        }
        None
    }

    /// Drops the parked session at the front of the queue, or an entry that is out of date.
    fn drop_oldest(&mut self) -> Option<P> {
        let (pid, ticket) = self.queue.pop_front()?;
        let is_parked = matches!(self.by_pid.get(&pid), Some(Entry::Parked(parked)) if parked.ticket == ticket);
        let former = is_parked.then(|| self.by_pid.remove(&pid)).flatten();
        match former {
            Some(Entry::Parked(parked)) => {
                self.parked -= 1;
                self.bytes -= parked.bytes;
                Some(parked.session)
            }
            _ => None,
        }
    }

    fn forget(&mut self, former: Option<Entry<L, P>>) -> Option<P> {
        match former? {
            Entry::Live(_) => None,
            Entry::Claimed(left) => left.map(|parked| parked.session),
            Entry::Parked(parked) => {
                self.parked -= 1;
                self.bytes -= parked.bytes;
                Some(parked.session)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: SessionLimits = SessionLimits { max_sessions: 100, max_bytes: 10_000 };

    fn pid(number: u8) -> Pid {
        Pid::from_bytes([number; 16])
    }

    fn table(limits: SessionLimits) -> (Sessions<u8, &'static str>, Instant) {
        (Sessions::new(limits), Instant::now())
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn of_two_claimants_one_wins() {
        let (mut sessions, now) = table(LIMITS);
        sessions.open(pid(1), 0);
        sessions.park(pid(1), "kept", 10, now + MINUTE);
        assert_eq!(sessions.claim(&pid(1), now), Claim::Parked { session: "kept", expires: now + MINUTE });
        assert_eq!(sessions.claim(&pid(1), now), Claim::Nothing);
        sessions.open(pid(1), 5);
        assert_eq!(sessions.claim(&pid(1), now), Claim::Live(5));
        assert_eq!(sessions.claim(&pid(1), now), Claim::Nothing);
    }

    #[test]
    fn the_connection_that_is_closed_for_a_claimant_leaves_its_session_to_it_alone() {
        let (mut sessions, now) = table(LIMITS);
        sessions.open(pid(1), 3);
        assert_eq!(sessions.claim(&pid(1), now), Claim::Live(3));
        assert_eq!(sessions.take(&pid(1)), None, "not closed yet");
        sessions.park(pid(1), "kept", 10, now + MINUTE);
        assert_eq!(sessions.claim(&pid(1), now), Claim::Nothing);
        assert_eq!(sessions.parked(), 0);
        assert_eq!(sessions.take(&pid(1)), Some(("kept", now + MINUTE)));
        assert_eq!(sessions.take(&pid(1)), None);
    }

    #[test]
    fn one_that_left_for_good_meanwhile_leaves_nothing_to_its_claimant() {
        let (mut sessions, now) = table(LIMITS);
        sessions.open(pid(1), 3);
        assert_eq!(sessions.claim(&pid(1), now), Claim::Live(3));
        sessions.close(pid(1));
        assert_eq!(sessions.take(&pid(1)), None);
        assert!(sessions.is_empty());
    }

    #[test]
    fn a_claim_that_is_given_up_does_not_make_it_last_longer() {
        let (mut sessions, now) = table(LIMITS);
        sessions.open(pid(1), 0);
        sessions.park(pid(1), "kept", 10, now + MINUTE);
        let Claim::Parked { session, expires } = sessions.claim(&pid(1), now) else { panic!("parked") };
        sessions.unclaim(pid(1), session, 10, expires);
        assert_eq!(sessions.parked(), 1);
        assert_eq!(sessions.claim(&pid(1), now + MINUTE), Claim::Expired("kept"));
        assert_eq!((sessions.parked(), sessions.len()), (0, 0));
    }

    #[test]
    fn a_claim_of_a_live_one_that_is_given_up_changes_nothing() {
        let (mut sessions, now) = table(LIMITS);
        sessions.open(pid(1), 3);
        assert_eq!(sessions.claim(&pid(1), now), Claim::Live(3));
        sessions.release(pid(1), 3);
        assert_eq!(sessions.claim(&pid(1), now), Claim::Live(3));
        sessions.park(pid(1), "kept", 10, now + MINUTE);
        sessions.release(pid(1), 3);
        assert_eq!(sessions.parked(), 1);
        assert_eq!(sessions.claim(&pid(1), now), Claim::Parked { session: "kept", expires: now + MINUTE });
    }

    #[test]
    fn the_oldest_is_shed_when_somebody_else_needs_the_room() {
        let (mut sessions, now) = table(LIMITS);
        for (number, name) in [(1, "one"), (2, "two")] {
            sessions.open(pid(number), 0);
            sessions.park(pid(number), name, 10, now + MINUTE);
        }
        assert!(matches!(sessions.claim(&pid(1), now), Claim::Parked { .. }));
        assert_eq!([sessions.shed(), sessions.shed()], [Some("two"), None]);
    }

    #[test]
    fn nobody_is_parked_who_was_not_there() {
        let (mut sessions, now) = table(LIMITS);
        assert_eq!(
            sessions.park(pid(1), "kept", 10, now + MINUTE),
            ["kept"],
            "handed back, to be dropped without a lock"
        );
        assert_eq!(sessions.unclaim(pid(1), "kept", 10, now + MINUTE), ["kept"]);
        assert!(sessions.is_empty());
        assert_eq!(sessions.claim(&pid(1), now), Claim::Nothing);
    }

    #[test]
    fn sessions_expire_once() {
        let (mut sessions, now) = table(LIMITS);
        for (number, name) in [(1, "one"), (2, "two"), (3, "three")] {
            sessions.open(pid(number), 0);
            sessions.park(pid(number), name, 10, now + u32::from(number) * MINUTE);
        }
        assert_eq!(sessions.expire(now), [""; 0]);
        assert_eq!(sessions.expire(now + 2 * MINUTE), ["one", "two"]);
        assert_eq!(sessions.expire(now + 2 * MINUTE), [""; 0]);
        assert_eq!((sessions.parked(), sessions.bytes(), sessions.len()), (1, 10, 1));
    }

    #[test]
    fn past_a_bound_the_oldest_has_to_go() {
        for (limits, kept) in [
            (SessionLimits { max_sessions: 3, ..LIMITS }, 3),
            (SessionLimits { max_bytes: 20, ..LIMITS }, 2),
            (SessionLimits { max_sessions: 0, ..LIMITS }, 0),
        ] {
            let (mut sessions, now) = table(limits);
            for number in 1..=10 {
                sessions.open(pid(number), 0);
                sessions.park(pid(number), "kept", 10, now + MINUTE);
                assert!(sessions.parked() <= limits.max_sessions && sessions.bytes() <= limits.max_bytes);
            }
            assert_eq!((sessions.parked(), sessions.len()), (kept, kept));
            let last = sessions.claim(&pid(10), now);
            assert_eq!(last != Claim::Nothing, kept > 0, "the latest is kept if any is");
        }
    }

    #[test]
    fn coming_and_going_leaves_nothing_behind() {
        let (mut sessions, now) = table(LIMITS);
        for _ in 0..10_000 {
            sessions.open(pid(1), 0);
            sessions.park(pid(1), "kept", 10, now + MINUTE);
            assert!(matches!(sessions.claim(&pid(1), now), Claim::Parked { .. }));
        }
        assert!(sessions.queue.len() < 64, "{}", sessions.queue.len());
        sessions.close(pid(1));
        assert_eq!((sessions.parked(), sessions.bytes(), sessions.len()), (0, 0, 0));
    }
}
