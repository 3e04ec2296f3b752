//! How much may be asked for: every number has a bound.

use crate::port::command::{Consume, Dedup, Put, name_is_good};
use crate::port::config::{Backoff, Config, Rate};
use crate::port::refusal::Refusal;
use crate::port::schedule::{Missed, Schedule, When};

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

fn within(what: &str, value: u64, least: u64, most: u64) -> Result<(), Refusal> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Refusal::Invalid(format!("{what} of {value}: it has to be {least} to {most}")))
}

impl Put {
    /// Latest time to be ready at, from now on, in milliseconds: ten years.
    pub const MAX_DELAY_MS: u64 = 3_660 * DAY_MS;

    /// Whether this may be put at all; the queue has its own say.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] for payload and headers above `max_payload`, [`Refusal::Invalid`] for what is out of bounds.
    pub fn check(&self, now: u64, max_payload: usize) -> Result<(), Refusal> {
        let bytes = self.payload.len() + self.headers.len();
        if bytes > max_payload {
            return Err(Refusal::TooLarge { bytes, max: max_payload });
        }
        if self.priority > Self::MAX_PRIORITY {
            within("a priority", self.priority.into(), 0, Self::MAX_PRIORITY.into())?;
        }
        if let Some(key) = &self.key {
            within("a key's length", key.len() as u64, 1, Self::MAX_KEY as u64)?;
        }
        if let Some(due) = self.due {
            within("a delay", due.0.saturating_sub(now), 0, Self::MAX_DELAY_MS)?;
        }
        if let Some(expires) = self.expires {
            within("a time to live", expires.0.saturating_sub(now), 0, Self::MAX_DELAY_MS)?;
        }
        if let Some(attempts) = self.attempts {
            within("attempts", attempts.into(), 1, u32::MAX.into())?;
        }
        if let Some(ms) = self.keep_result_ms {
            within("keep_result_ms", ms, 0, Config::MAX_KEEP_MS)?;
        }
        self.backoff.as_deref().map_or(Ok(()), Backoff::check)?;
        self.dedup.as_ref().map_or(Ok(()), Dedup::check)
    }
}

impl Dedup {
    fn check(&self) -> Result<(), Refusal> {
        within("the length of a key of deduplication", self.key.len() as u64, 1, Put::MAX_KEY as u64)?;
        self.window_ms.map_or(Ok(()), |ms| within("a window of deduplication", ms, 1, Config::MAX_KEEP_MS))
    }
}

impl Schedule {
    /// Whether this may be scheduled; whether there is a time for it is found [out of its times](crate::Times).
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] for payload and headers above [`Schedule::MAX_PAYLOAD`], [`Refusal::Invalid`] for what is out of bounds,
    /// [`Refusal::BadName`] for that of the queue.
    pub fn check(&self, now: u64, max_payload: usize) -> Result<(), Refusal> {
        if !name_is_good(&self.put.queue) {
            return Err(Refusal::BadName(self.put.queue.to_string()));
        }
        self.put.check(now, max_payload.min(Self::MAX_PAYLOAD))?;
        if self.put.due.is_some() || self.put.expires.is_some() {
            return Err(Refusal::Invalid("what is scheduled has no times of its own".into()));
        }
        if let Some(ttl) = self.ttl_ms {
            within("a time to live", ttl, 1, Put::MAX_DELAY_MS)?;
        }
        if let Missed::All { max } = self.missed {
            within("a number of missed times", max.into(), 1, Self::MAX_CATCH_UP.into())?;
        }
        match &self.when {
            When::Every { ms } => within("an interval in milliseconds", *ms, Self::MIN_EVERY_MS, Self::MAX_EVERY_MS),
            When::Cron { expression, zone } => {
                within("the length of a cron expression", expression.len() as u64, 1, Self::MAX_EXPRESSION as u64)?;
                within("the length of a time zone's name", zone.len() as u64, 1, 64)
            }
        }
    }
}

impl Consume {
    /// Most messages at a time.
    pub const MAX_PREFETCH: u32 = 100_000;
    /// Most keys.
    pub const MAX_KEYS: usize = 64;

    /// Whether this may be asked for.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for what is out of bounds. A lease longer than the queue allows is no error: it is made shorter.
    pub fn check(&self) -> Result<(), Refusal> {
        within("a prefetch", self.prefetch.into(), 1, Self::MAX_PREFETCH.into())?;
        within("bytes at a time", self.bytes, 1, u64::MAX)?;
        if let Some(ms) = self.lease_ms {
            within("a lease", ms, 1, Config::MAX_LEASE_MS)?;
        }
        if let Some(once) = self.once {
            within("a number of messages", once.into(), 1, Self::MAX_PREFETCH.into())?;
        }
        if let Some(keys) = &self.keys {
            within("a number of keys", keys.len() as u64, 1, Self::MAX_KEYS as u64)?;
            for key in keys {
                within("a key's length", key.len() as u64, 1, Put::MAX_KEY as u64)?;
            }
        }
        Ok(())
    }
}

impl Config {
    /// Longest lease, in milliseconds: seven days.
    pub const MAX_LEASE_MS: u64 = 7 * DAY_MS;
    /// Longest time for which keys and results are kept, in milliseconds: 30 days.
    pub const MAX_KEEP_MS: u64 = 30 * DAY_MS;
    /// Most messages, and dead messages, of a queue.
    pub const MAX_MESSAGES: u64 = 1_000_000_000;

    /// Whether a queue may be told this.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a number that is out of bounds, [`Refusal::BadName`] for the name of the queue for dead messages.
    pub fn check(&self) -> Result<(), Refusal> {
        within("max_lease_ms", self.max_lease_ms, 1, Self::MAX_LEASE_MS)?;
        within("lease_ms", self.lease_ms, 1, self.max_lease_ms)?;
        within("attempts", self.attempts.into(), 1, u32::MAX.into())?;
        self.backoff.check()?;
        within("crash_limit", self.crash_limit.into(), 1, u32::MAX.into())?;
        within("key_concurrency", self.key_concurrency.into(), 1, 1_000_000)?;
        if let Some(concurrency) = self.concurrency {
            within("concurrency", concurrency.into(), 1, 100_000_000)?;
        }
        self.rate.as_ref().map_or(Ok(()), Rate::check)?;
        self.key_rate.as_ref().map_or(Ok(()), Rate::check)?;
        within("max_messages", self.max_messages, 1, Self::MAX_MESSAGES)?;
        within("max_bytes", self.max_bytes, 1, 1 << 50)?;
        if let Some(ttl) = self.ttl_ms {
            within("ttl_ms", ttl, 1, Put::MAX_DELAY_MS)?;
        }
        within("dead_ttl_ms", self.dead_ttl_ms, 1, Put::MAX_DELAY_MS)?;
        within("max_dead", self.max_dead, 0, Self::MAX_MESSAGES)?;
        if let Some(name) = self.dead_letter.as_ref().filter(|name| !name_is_good(name)) {
            return Err(Refusal::BadName(name.to_string()));
        }
        within("dedup_window_ms", self.dedup_window_ms, 1, Self::MAX_KEEP_MS)?;
        within("max_dedup_keys", self.max_dedup_keys, 0, 100_000_000)?;
        within("keep_results_ms", self.keep_results_ms, 0, Self::MAX_KEEP_MS)
    }
}

impl Rate {
    fn check(&self) -> Result<(), Refusal> {
        within("a rate's count", self.count.into(), 1, 1_000_000)?;
        within("a rate's per_ms", self.per_ms, 1, 366 * DAY_MS)?;
        within("a rate's burst", self.burst.into(), 1, 1_000_000)
    }
}

impl Backoff {
    /// Longest rest, in milliseconds: 30 days.
    pub const MAX_MS: u64 = 30 * DAY_MS;
    /// Most entries of a list.
    pub const MAX_LIST: usize = 100;

    /// Whether a queue, or a message, may have this.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a number that is out of bounds.
    pub fn check(&self) -> Result<(), Refusal> {
        let rest = |ms: u64| within("a rest after a failure", ms, 0, Self::MAX_MS);
        match self {
            Self::None => Ok(()),
            Self::Fixed { ms } => rest(*ms),
            Self::Linear { step_ms, max_ms } => rest(*step_ms).and_then(|()| rest(*max_ms)),
            Self::Exponential { first_ms, max_ms, jitter } => {
                rest(*first_ms)?;
                rest(*max_ms)?;
                if (0.0..=1.0).contains(jitter) {
                    return Ok(());
                }
                Err(Refusal::Invalid(format!("a jitter of {jitter}: it has to be 0 to 1")))
            }
            Self::List(list) => {
                within("the length of a list of rests", list.len() as u64, 1, Self::MAX_LIST as u64)?;
                list.iter().try_for_each(|ms| rest(*ms))
            }
        }
    }

    /// How long a message rests after its `failures`th failure (from 1), in milliseconds. `chance` is 64 random bits.
    ///
    /// ```
    /// use posthaste_queue::Backoff;
    /// let backoff = Backoff::Exponential { first_ms: 100, max_ms: 1_000, jitter: 0.0 };
    /// assert_eq!([1, 2, 3, 4, 5].map(|failures| backoff.rest_ms(failures, 0)), [100, 200, 400, 800, 1_000]);
    /// ```
    #[must_use]
    pub fn rest_ms(&self, failures: u32, chance: u64) -> u64 {
        let before = failures.saturating_sub(1);
        match self {
            Self::None => 0,
            Self::Fixed { ms } => *ms,
            Self::Linear { step_ms, max_ms } => step_ms.saturating_mul(failures.max(1).into()).min(*max_ms),
            Self::Exponential { first_ms, max_ms, jitter } => {
                let times = 1u64.checked_shl(before).unwrap_or(u64::MAX);
                let ms = first_ms.saturating_mul(times).min(*max_ms);
                // Between -1 and 1, of 53 bits, which is what a float holds.
                let by = (chance >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
                ((ms as f64).mul_add(jitter * by, ms as f64).round() as u64).min(*max_ms)
            }
            Self::List(list) => list.get(before as usize).or(list.last()).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_are_as_their_kind_says() {
        let rests = |backoff: &Backoff| [1, 2, 3, 70].map(|failures| backoff.rest_ms(failures, 0));
        assert_eq!(rests(&Backoff::None), [0; 4]);
        assert_eq!(rests(&Backoff::Fixed { ms: 7 }), [7; 4]);
        assert_eq!(rests(&Backoff::Linear { step_ms: 10, max_ms: 25 }), [10, 20, 25, 25]);
        assert_eq!(rests(&Backoff::Exponential { first_ms: 10, max_ms: 25, jitter: 0.0 }), [10, 20, 25, 25]);
        assert_eq!(rests(&Backoff::List(vec![3, 9])), [3, 9, 9, 9]);
    }

    #[test]
    fn jitter_stays_within_its_part() {
        let backoff = Backoff::Exponential { first_ms: 1_000, max_ms: 60_000, jitter: 0.2 };
        assert_eq!(backoff.rest_ms(1, 0), 800);
        assert_eq!(backoff.rest_ms(1, 1 << 63), 1_000);
        assert_eq!(backoff.rest_ms(1, u64::MAX), 1_200);
    }

    #[test]
    fn what_a_queue_allows_by_default_is_allowed() {
        Config::default().check().unwrap();
    }

    #[test]
    fn absurd_numbers_are_refused() {
        type Spoil = fn(&mut Config);
        let spoilt: [(&str, Spoil); 12] = [
            ("lease 0", |config| config.lease_ms = 0),
            ("lease above its cap", |config| config.lease_ms = config.max_lease_ms + 1),
            ("no attempts", |config| config.attempts = 0),
            ("jitter", |config| config.backoff = Backoff::Exponential { first_ms: 1, max_ms: 1, jitter: f64::NAN }),
            ("empty list", |config| config.backoff = Backoff::List(vec![])),
            ("long rest", |config| config.backoff = Backoff::Fixed { ms: u64::MAX }),
            ("key_concurrency 0", |config| config.key_concurrency = 0),
            ("concurrency 0", |config| config.concurrency = Some(0)),
            ("rate 0", |config| config.rate = Some(Rate { count: 0, per_ms: 1, burst: 1 })),
            ("burst 0", |config| config.key_rate = Some(Rate { count: 1, per_ms: 1, burst: 0 })),
            ("dead letters without a name", |config| config.dead_letter = Some("".into())),
            ("ttl 0", |config| config.ttl_ms = Some(0)),
        ];
        for (what, spoil) in spoilt {
            let mut config = Config::default();
            spoil(&mut config);
            assert!(config.check().is_err(), "{what}");
        }
    }
}
