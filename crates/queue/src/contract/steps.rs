//! What may happen to queues, in small numbers.

use super::plans::SCHEDULED;
use crate::port::{Backoff, Config, DedupMode, OnExhausted, Overflow, Rate, State, Stop};

/// Something that happens. Queues, keys and consumers are small numbers; times are milliseconds from now.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// Messages in one put.
    Put(Vec<Draft>),
    /// The same; nobody waits for the receipt.
    PutUnheard(Vec<Draft>),
    /// The same, with something behind it that has to be refused.
    PutWithMistake(Vec<Draft>, Mistake),
    /// A consumer takes messages from now on. One that is there under this number is stopped first, and keeps what it has.
    Consume(u8, Taker),
    /// A consumer is stopped.
    Stop(u8, Stop),
    /// A consumer is held, or no longer.
    Hold(u8, bool),
    /// A consumer is alive.
    TouchAll(u8),
    /// In one go: of the leases there are, the one with this number, and what its worker says.
    Settle(Vec<(u8, Say)>),
    /// Time goes on, nobody looks, and the worker of a lease that is over says this.
    SettleLate(u8, Say),
    /// Somebody settles with a token that is not the lease's.
    SettleForeign(u8, Foreign, Say),
    /// Time goes on; whoever has to looks at it.
    Wait(u64),
    /// Time goes on and nobody looks at it until then.
    Jump(u64),
    /// A queue allows something else.
    Configure(u8, Box<Config>),
    /// A queue allows something that it cannot.
    ConfigureWithMistake(u8, u8),
    /// A queue is paused, or no longer.
    Pause(u8, bool),
    /// A queue is drained, or no longer.
    Drain(u8, bool),
    /// Messages are removed: in these states, not more than so many.
    Purge(u8, Vec<State>, Option<usize>),
    /// Dead messages have another chance, not more than so many.
    Redrive(u8, Option<usize>),
    /// Something is put again and again from now on.
    Schedule(u8, Plan),
    /// No longer.
    Unschedule(u8),
    /// A schedule is paused, or no longer.
    PauseSchedule(u8, bool),
    /// It puts what it puts, now and besides.
    RunSchedule(u8),
    /// Something is scheduled that cannot be.
    ScheduleWithMistake(u8, u8),
    /// A queue is deleted.
    Delete(u8),
    /// The message with this number among those there are is removed.
    Remove(u8),
    /// Messages are looked at, so many at a time.
    Peek(u8, State, usize),
    /// The queues are closed and opened again.
    Reopen,
    /// These are put, their process is killed as soon as they have their receipts, or (`false`) before, and it is opened again.
    Kill(Vec<Draft>, bool),
    /// For scripts: a queue has so many ready, leased, delayed and dead.
    Expect(u8, [u64; 4]),
}

/// A message to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draft {
    /// The queue.
    pub queue: u8,
    /// Its length; at least 8.
    pub size: usize,
    /// Ready after so long.
    pub delay: Option<u64>,
    /// Its priority.
    pub priority: u8,
    /// Its key.
    pub key: Option<u8>,
    /// A key to be put once under, what a second one is, and for how long.
    pub dedup: Option<(u8, DedupMode, Option<u64>)>,
    /// It expires after so long.
    pub ttl: Option<u64>,
    /// It may fail so often.
    pub attempts: Option<u32>,
    /// How it rests after a failure.
    pub backoff: Option<Backoff>,
    /// Its result is kept so long.
    pub keep: Option<u64>,
}

/// A schedule to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// By a cron expression.
    pub is_cron: bool,
    /// Every so many seconds: 1 to 6.
    pub seconds: u64,
    /// What becomes of times that were missed.
    pub missed: Catch,
    /// Whether it is paused.
    pub is_paused: Option<bool>,
    /// Length of its payload.
    pub size: u8,
    /// The priority of its messages.
    pub priority: u8,
    /// Their key.
    pub key: Option<u8>,
    /// They expire after so long.
    pub ttl: Option<u64>,
}

/// What becomes of times that were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `Missed`")]
pub enum Catch {
    Skip,
    Once,
    All(u32),
}

impl Default for Plan {
    fn default() -> Self {
        let (missed, is_paused, key, ttl) = (Catch::Once, None, None, None);
        Self { is_cron: false, seconds: 2, missed, is_paused, size: 0, priority: 0, key, ttl }
    }
}

/// A consumer to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taker {
    /// Of this queue.
    pub queue: u8,
    /// Has so many at a time.
    pub prefetch: u32,
    /// Has so many bytes at a time.
    pub bytes: u64,
    /// A lease lasts so long.
    pub lease: Option<u64>,
    /// Of these keys.
    pub keys: Option<Vec<u8>>,
    /// So many in all.
    pub once: Option<u32>,
}

/// What a worker says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `Verdict`")]
pub enum Say {
    Done(bool),
    Retry(Option<u64>),
    Release,
    Dead,
    Touch(Option<u64>),
    Progress,
}

/// A token that is not the lease's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// One that was given before.
    Old,
    /// That of another message.
    Other,
    /// One that was not given yet.
    Next,
}

/// What has to be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each says what it is")]
pub enum Mistake {
    BadName,
    LongPayload,
    HighPriority,
    LongKey,
    LongDedupKey,
    TooDurable,
    TooMany,
    TakesNone,
    TakesNoKeys,
    StopsNobody,
    TouchesNothing,
    RemovesNothing,
}

impl Mistake {
    pub(super) const ALL: [Self; 12] = [
        Self::BadName,
        Self::LongPayload,
        Self::HighPriority,
        Self::LongKey,
        Self::LongDedupKey,
        Self::TooDurable,
        Self::TooMany,
        Self::TakesNone,
        Self::TakesNoKeys,
        Self::StopsNobody,
        Self::TouchesNothing,
        Self::RemovesNothing,
    ];
}

pub(super) const QUEUES: u8 = 4;
/// Where the dead of the others are put.
pub(super) const MORGUE: u8 = 3;
pub(super) const CONSUMERS: u8 = 4;

/// What the queues of the suite allow, unless a step says otherwise.
pub(super) fn config() -> Config {
    Config {
        lease_ms: 1_000,
        max_lease_ms: 3_000,
        attempts: 3,
        backoff: Backoff::Fixed { ms: 200 },
        dead_ttl_ms: 9_000,
        dedup_window_ms: 600,
        max_dedup_keys: 3,
        ..Config::default()
    }
}

/// The steps that bytes mean.
pub(super) fn parse(tape: &[u8]) -> Vec<Step> {
    let mut tape = Tape(tape.iter());
    let mut steps = Vec::new();
    while let Some(kind) = tape.0.next() {
        steps.push(tape.step(*kind));
    }
    steps
}

struct Tape<'a>(std::slice::Iter<'a, u8>);

impl Tape<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    fn one_in(&mut self, count: u8) -> bool {
        self.byte().is_multiple_of(count)
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()].clone()
    }

    fn queue(&mut self) -> u8 {
        self.byte() % QUEUES
    }

    fn step(&mut self, kind: u8) -> Step {
        match kind % 64 {
            0..=12 => Step::Put(self.drafts(true)),
            13 => self.scheduling(),
            14 => Step::PutUnheard(self.drafts(false)),
            15 => Step::PutWithMistake(self.drafts(false), self.of(&Mistake::ALL)),
            16..=21 => {
                let (slot, queue, bytes) = (self.byte() % CONSUMERS, self.queue(), self.of(&[1, 700, 9_999_999]));
                let (lease, prefetch) =
                    (self.of(&[None, None, Some(500), Some(9_000)]), 1 + u32::from(self.byte() % 5));
                let keys = self.one_in(6).then(|| vec![self.byte() % 4, self.byte() % 4]);
                let once = self.one_in(5).then(|| 1 + u32::from(self.byte() % 3));
                Step::Consume(slot, Taker { queue, prefetch, bytes, lease, keys, once })
            }
            22 | 23 => Step::Stop(self.byte() % CONSUMERS, self.of(&[Stop::Return, Stop::Return, Stop::Keep])),
            24 => Step::Hold(self.byte() % CONSUMERS, true),
            25 | 26 => Step::Hold(self.byte() % CONSUMERS, false),
            27 => Step::TouchAll(self.byte() % CONSUMERS),
            28..=40 => {
                let count = 1 + self.byte() % 4;
                Step::Settle((0..count).map(|_| (self.byte(), self.say())).collect())
            }
            41 => Step::SettleLate(self.byte(), self.say()),
            42 => Step::SettleForeign(self.byte(), self.of(&[Foreign::Old, Foreign::Other, Foreign::Next]), self.say()),
            43..=49 => Step::Wait(u64::from(self.byte()) * self.of(&[1, 4, 20])),
            50 => Step::Jump(u64::from(self.byte()) * 20),
            51..=53 => {
                let queue = self.queue();
                // Nothing is refused where the dead of others are put, and its own are not put there again.
                let config = if queue == MORGUE { config() } else { self.config() };
                Step::Configure(queue, Box::new(config))
            }
            54 => Step::ConfigureWithMistake(self.queue(), self.byte()),
            55 => Step::Pause(self.queue(), self.one_in(3)),
            56 => Step::Drain(self.queue() % MORGUE, self.one_in(3)),
            57 => {
                let states = [State::Delayed, State::Ready, State::Leased, State::Dead];
                let states = states.into_iter().filter(|_| self.one_in(2)).collect();
                Step::Purge(self.queue(), states, self.of(&[None, Some(1), Some(3)]))
            }
            58 | 59 => Step::Redrive(self.queue(), self.of(&[None, Some(1)])),
            60 => match self.byte() % 8 {
                0 => Step::Delete(self.queue()),
                1 | 2 => Step::Remove(self.byte()),
                _ => {
                    let state = self.of(&[State::Ready, State::Delayed, State::Leased, State::Dead]);
                    Step::Peek(self.queue(), state, 1 + usize::from(self.byte() % 4))
                }
            },
            61 => Step::Remove(self.byte()),
            62 => Step::Reopen,
            _ => Step::Kill(self.drafts(false), self.one_in(2)),
        }
    }

    fn scheduling(&mut self) -> Step {
        let which = self.byte() % 3;
        match self.byte() % 16 {
            0 => Step::Unschedule(which),
            1 => Step::PauseSchedule(which, true),
            2 => Step::PauseSchedule(which, false),
            3 => Step::RunSchedule(which),
            4 => Step::ScheduleWithMistake(which, self.byte()),
            5 => {
                let taker = Taker { queue: SCHEDULED, prefetch: 3, bytes: 9_999, lease: None, keys: None, once: None };
                Step::Consume(self.byte() % CONSUMERS, taker)
            }
            // Nobody looks for so long that some times were missed.
            6 => Step::Jump(u64::from(self.byte()) * 400),
            _ => {
                let missed = self.of(&[Catch::Skip, Catch::Once, Catch::Once, Catch::All(1), Catch::All(3)]);
                let is_paused = self.of(&[None, None, None, Some(false), Some(true)]);
                let seconds = u64::from(self.byte() % 6) + 1;
                let (is_cron, key) = (self.one_in(2), self.of(&[None, None, Some(1)]));
                let (size, priority, ttl) = (self.byte() % 4, self.of(&[0, 0, 7]), self.of(&[None, None, Some(1_500)]));
                Step::Schedule(which, Plan { is_cron, seconds, missed, is_paused, size, priority, key, ttl })
            }
        }
    }

    fn drafts(&mut self, dedup: bool) -> Vec<Draft> {
        let count = 1 + self.byte() % 3;
        (0..count).map(|_| self.draft(dedup)).collect()
    }

    fn draft(&mut self, dedup: bool) -> Draft {
        let plain = Draft { queue: self.queue(), size: usize::from(self.byte()), ..Draft::default() };
        let kind = self.byte();
        let mut draft = match kind % 4 {
            0 => plain,
            1 => Draft { priority: self.of(&[0, 1, 7, 31]), ..plain },
            2 => Draft { key: Some(self.byte() % 4), ..plain },
            _ => Draft { priority: self.of(&[0, 1]), key: Some(self.byte() % 4), ..plain },
        };
        match kind / 4 % 16 {
            0 | 1 => draft.delay = Some(u64::from(self.byte()) * 8),
            2 => draft.ttl = Some(1 + u64::from(self.byte()) * 16),
            3 => draft.attempts = Some(1 + u32::from(self.byte() % 3)),
            4 => draft.backoff = Some(self.backoff()),
            5 => draft.keep = Some(u64::from(self.byte()) * 8),
            6..=9 if dedup => {
                let mode = self.of(&[DedupMode::Reject, DedupMode::UntilDone, DedupMode::Replace]);
                let window = (mode != DedupMode::UntilDone && self.one_in(3)).then(|| 1 + u64::from(self.byte()) * 8);
                draft.dedup = Some((self.byte() % 4, mode, window));
            }
            _ => {}
        }
        draft
    }

    fn say(&mut self) -> Say {
        match self.byte() % 16 {
            0..=5 => Say::Done(self.one_in(2)),
            6..=8 => Say::Retry(None),
            9 => Say::Retry(Some(u64::from(self.byte()) * 8)),
            10 | 11 => Say::Release,
            12 => Say::Dead,
            13 => Say::Touch(None),
            14 => Say::Touch(Some(u64::from(self.byte()) * 20)),
            _ => Say::Progress,
        }
    }

    fn backoff(&mut self) -> Backoff {
        self.of(&[
            Backoff::None,
            Backoff::Fixed { ms: 300 },
            Backoff::Linear { step_ms: 100, max_ms: 250 },
            Backoff::Exponential { first_ms: 100, max_ms: 350, jitter: 0.5 },
            Backoff::Exponential { first_ms: 50, max_ms: 9_000, jitter: 0.0 },
            Backoff::List(vec![10, 400, 90]),
        ])
    }

    fn config(&mut self) -> Config {
        let rate = |count, per_ms, burst| Some(Rate { count, per_ms, burst });
        let mut config = config();
        for _ in 0..=self.byte() % 3 {
            match self.byte() % 16 {
                0 => config.attempts = self.of(&[1, 2, 5, u32::MAX]),
                1 => config.backoff = self.backoff(),
                2 => config.crash_limit = self.of(&[1, 2, 5]),
                3 | 4 => config.key_concurrency = self.of(&[1, 2, 3]),
                5 => config.on_exhausted = OnExhausted::Block,
                6 => config.concurrency = self.of(&[Some(1), Some(3), None]),
                7 => config.rate = self.of(&[rate(2, 500, 2), rate(10, 1_000, 1), None]),
                8 => config.key_rate = self.of(&[rate(1, 300, 1), rate(3, 1_000, 2), None]),
                9 | 10 => config.max_messages = self.of(&[3, 6, 10]),
                11 => config.max_bytes = self.of(&[700, 2_000]),
                12 => config.overflow = Overflow::DropOldest,
                13 => config.overflow = Overflow::DeadLetterOldest,
                14 => config.max_dead = self.of(&[1, 3]),
                _ => config.keep_results_ms = 1_500,
            }
        }
        if self.one_in(4) {
            config.dead_letter = Some(super::run::name(MORGUE));
        }
        if self.one_in(6) {
            config.ttl_ms = Some(2_500);
        }
        config
    }
}
