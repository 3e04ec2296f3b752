//! When a schedule puts its message: a pure function of the time before.
//!
//! ```text
//!   "30 2 * * *" in Europe/Berlin        March: 2:30 does not exist          October: 2:30 exists twice
//!   fixed: minute and hour are numbers   once, when the gap is over (3:00)   once, at the first
//!   others: "*/30 * * * *"               goes on behind the gap              both
//! ```
//!
//! Time zones are those that were built in: every node has the same, and nothing is read.

use std::sync::{Arc, LazyLock};

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use posthaste_history::store::Timestamp;

use crate::port::{Missed, Refusal, Schedule, When};

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The times of a schedule. Some kilobytes: made when they are needed.
#[derive(Clone, Debug)]
pub struct Times(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Every(u64),
    Cron(Box<Cron>, TimeZone),
}

impl Times {
    /// Reads when that is.
    ///
    /// # Errors
    /// [`Refusal::BadSchedule`] for an expression that is none, or a time zone that is not known.
    pub fn new(when: &When) -> Result<Self, Refusal> {
        let (expression, zone) = match when {
            When::Every { ms } => return Ok(Self(Kind::Every((*ms).max(1)))),
            When::Cron { expression, zone } => (expression, zone),
        };
        let bad = |why: &str| Refusal::BadSchedule(format!("{expression:?} is no cron expression: {why}"));
        if !expression.is_ascii() {
            return Err(bad("it is not ASCII"));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron = parser.parse(expression).map_err(|error| bad(&error.to_string()))?;
        let zone = ZONES.get(zone).map_err(|_| {
            Refusal::BadSchedule(format!("there is no time zone {zone:?}; Europe/Berlin and UTC are some"))
        })?;
        Ok(Self(Kind::Cron(Box::new(cron), zone)))
    }

    /// As [`Times::new`], with the time zone by the name that it has.
    ///
    /// # Errors
    /// As [`Times::new`], and [`Refusal::NeverFires`] if there is no time after this one.
    pub(crate) fn read(when: &mut When, after: Timestamp) -> Result<(Self, Timestamp), Refusal> {
        let times = Self::new(when)?;
        if let (Kind::Cron(_, known), When::Cron { zone, .. }) = (&times.0, &mut *when)
            && let Some(name) = known.iana_name()
        {
            *zone = Arc::from(name);
        }
        let next = times.next(after).ok_or_else(|| match when {
            When::Cron { expression, .. } => Refusal::NeverFires(expression.to_string()),
            When::Every { ms } => Refusal::NeverFires(ms.to_string()),
        })?;
        Ok((times, next))
    }

    /// The first time after this one; `None` if there is none.
    ///
    /// ```
    /// use posthaste_history::store::Timestamp;
    /// use posthaste_queue::{Times, When};
    /// let times = Times::new(&When::Cron { expression: "0 9 * * MON".into(), zone: "Europe/Berlin".into() })?;
    /// // Thursday the first of January 1970, and the Monday behind it: 8 o'clock UTC.
    /// assert_eq!(times.next(Timestamp(0)), Some(Timestamp((4 * 24 + 8) * 3_600_000)));
    /// # Ok::<(), posthaste_queue::Refusal>(())
    /// ```
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Every(ms) => (after.0 / ms).checked_add(1)?.checked_mul(*ms).map(Timestamp),
            Kind::Cron(cron, zone) => {
                let after = jiff::Timestamp::from_millisecond(i64::try_from(after.0).ok()?).ok()?;
                let next = cron.find_next_occurrence(&after.to_zoned(zone.clone()), false).ok()?;
                u64::try_from(next.timestamp().as_millisecond()).ok().map(Timestamp)
            }
        }
    }

    /// The last time until then. `first` is one that is not later.
    fn last(&self, first: Timestamp, until: Timestamp) -> Timestamp {
        if let Kind::Every(ms) = self.0 {
            return Timestamp(until.0 - until.0 % ms);
        }
        let next = |after: Timestamp| self.next(after).filter(|next| *next <= until);
        let (mut low, mut high) = (first, until.0);
        // Those behind the middle, or else those before it: each time half of the years is gone.
        while let Some(following) = next(low) {
            let middle = Timestamp(low.0 + high.saturating_sub(low.0) / 2);
            match next(middle) {
                Some(later) => low = later,
                None if middle <= following => return following,
                None => high = middle.0,
            }
        }
        low
    }

    /// The times from `first`, which is due, until `now` that are to be seen to, the earliest first; and the first that is not due.
    pub(crate) fn due(&self, first: Timestamp, now: Timestamp, missed: Missed) -> (Vec<Timestamp>, Timestamp) {
        const NEVER: Timestamp = Timestamp(u64::MAX);
        let last = self.last(first, now);
        let next = self.next(last.max(now)).unwrap_or(NEVER);
        let times = match missed {
            Missed::Skip if now.0 - last.0 > Schedule::GRACE_MS => Vec::new(),
            Missed::Skip | Missed::Once => vec![last],
            Missed::All { max } => {
                let mut times = vec![last];
                while times.len() < max as usize
                    && let Some(earliest) = times.last().copied().filter(|it| *it > first)
                {
                    times.push(self.last(first, Timestamp(earliest.0 - 1)));
                }
                times.reverse();
                times
            }
        };
        (times, next)
    }
}

impl When {
    /// A cron expression, in UTC.
    #[must_use]
    pub fn cron(expression: &str) -> Self {
        Self::Cron { expression: expression.into(), zone: "UTC".into() }
    }

    /// The same in a time zone; an interval knows none.
    #[must_use]
    pub fn in_zone(self, name: &str) -> Self {
        match self {
            Self::Cron { expression, .. } => Self::Cron { expression, zone: name.into() },
            every @ Self::Every { .. } => every,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A time of day, by RFC 3339.
    fn at(text: &str) -> Timestamp {
        let time: jiff::Timestamp = text.parse().unwrap();
        Timestamp(time.as_millisecond() as u64)
    }

    fn times(expression: &str, zone: &str) -> Times {
        Times::new(&When::cron(expression).in_zone(zone)).unwrap()
    }

    /// The next of a cron expression, as they are in UTC.
    fn following(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let (times, mut now) = (times(expression, zone), at(after));
        let mut found = Vec::new();
        for _ in 0..count {
            now = times.next(now).unwrap();
            found.push(jiff::Timestamp::from_millisecond(now.0 as i64).unwrap().to_string());
        }
        found
    }

    #[test]
    fn fields_mean_what_they_do_in_cron() {
        for (expression, expected) in [
            ("* * * * *", ["2024-01-31T23:59:00Z", "2024-02-01T00:00:00Z"]),
            ("*/20 * * * *", ["2024-02-01T00:00:00Z", "2024-02-01T00:20:00Z"]),
            ("5,10-11 0 * * *", ["2024-02-01T00:05:00Z", "2024-02-01T00:10:00Z"]),
            ("*/20 * * * * *", ["2024-01-31T23:58:20Z", "2024-01-31T23:58:40Z"]),
            ("0 0 29 2 *", ["2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"]),
            ("0 0 L * *", ["2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z"]),
            ("0 12 13 * FRI", ["2024-02-02T12:00:00Z", "2024-02-09T12:00:00Z"]),
            ("0 12 * * 7", ["2024-02-04T12:00:00Z", "2024-02-11T12:00:00Z"]),
            ("0 8 * jun mon#1", ["2024-06-03T08:00:00Z", "2025-06-02T08:00:00Z"]),
            ("@hourly", ["2024-02-01T00:00:00Z", "2024-02-01T01:00:00Z"]),
            ("@daily", ["2024-02-01T00:00:00Z", "2024-02-02T00:00:00Z"]),
            ("@weekly", ["2024-02-04T00:00:00Z", "2024-02-11T00:00:00Z"]),
            ("@monthly", ["2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"]),
            ("@yearly", ["2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]),
        ] {
            assert_eq!(following(expression, "UTC", "2024-01-31T23:58:00.001Z", 2), expected, "{expression}");
        }
    }

    #[test]
    fn the_time_itself_is_not_behind_it_and_a_millisecond_earlier_is_before_it() {
        let noon = times("0 12 * * *", "UTC");
        assert_eq!(noon.next(at("2024-01-01T11:59:59.999Z")), Some(at("2024-01-01T12:00:00Z")));
        assert_eq!(noon.next(at("2024-01-01T12:00:00Z")), Some(at("2024-01-02T12:00:00Z")));
    }

    #[test]
    fn an_hour_is_one_of_the_time_zone() {
        let expected = ["2024-01-01T08:00:00Z", "2024-01-02T08:00:00Z"];
        assert_eq!(following("0 9 * * *", "Europe/Berlin", "2024-01-01T00:00:00Z", 2), expected);
        assert_eq!(following("0 9 * * *", "europe/berlin", "2024-07-01T00:00:00Z", 1), ["2024-07-01T07:00:00Z"]);
        assert_eq!(following("30 9 * * *", "Asia/Kolkata", "2024-07-01T00:00:00Z", 1), ["2024-07-01T04:00:00Z"]);
    }

    /// In Berlin the clock goes from 2:00 to 3:00 on 2024-03-31, at 1:00 UTC.
    #[test]
    fn a_time_that_does_not_exist_is_when_the_gap_is_over() {
        let expected = ["2024-03-30T01:30:00Z", "2024-03-31T01:00:00Z", "2024-04-01T00:30:00Z"];
        assert_eq!(following("30 2 * * *", "Europe/Berlin", "2024-03-30T00:00:00Z", 3), expected);
        // One that repeats is left out there: its next is behind the gap anyway.
        let expected = ["2024-03-31T00:30:00Z", "2024-03-31T01:00:00Z", "2024-03-31T01:30:00Z"];
        assert_eq!(following("*/30 * * * *", "Europe/Berlin", "2024-03-31T00:00:00Z", 3), expected);
        assert_eq!(following("15,45 2 * * *", "Europe/Berlin", "2024-03-31T00:00:00Z", 1), ["2024-04-01T00:15:00Z"]);
    }

    /// There the clock goes from 3:00 to 2:00 on 2024-10-27, at 1:00 UTC.
    #[test]
    fn a_time_that_exists_twice_is_the_first_and_those_that_repeat_are_both() {
        let expected = ["2024-10-26T00:30:00Z", "2024-10-27T00:30:00Z", "2024-10-28T01:30:00Z"];
        assert_eq!(following("30 2 * * *", "Europe/Berlin", "2024-10-26T00:00:00Z", 3), expected);
        let expected = ["2024-10-27T00:30:00Z", "2024-10-27T01:00:00Z", "2024-10-27T01:30:00Z", "2024-10-27T02:00:00Z"];
        assert_eq!(following("*/30 * * * *", "Europe/Berlin", "2024-10-27T00:00:00Z", 4), expected);
    }

    #[test]
    fn an_interval_is_counted_from_1970() {
        let every = Times::new(&When::Every { ms: 7_000 }).unwrap();
        assert_eq!([0, 6_999, 7_000].map(|after| every.next(Timestamp(after)).unwrap().0), [7_000, 7_000, 14_000]);
        assert_eq!(every.next(Timestamp(u64::MAX)), None);
    }

    #[test]
    fn what_is_none_is_refused() {
        for (expression, zone) in [
            ("", "UTC"),
            ("* * * *", "UTC"),
            ("* * * * * * *", "UTC"),
            ("60 * * * *", "UTC"),
            ("* 24 * * *", "UTC"),
            ("* * 0 * *", "UTC"),
            ("*/0 * * * *", "UTC"),
            ("30-10 * * * *", "UTC"),
            ("* * * * FUNDAY", "UTC"),
            ("@sometimes", "UTC"),
            ("ß * * * *", "UTC"),
            ("* * * * *", "Europe/Atlantis"),
            ("* * * * *", ""),
        ] {
            let refusal = Times::new(&When::cron(expression).in_zone(zone)).unwrap_err();
            assert_eq!(refusal.code(), "bad_schedule", "{expression} {zone}");
        }
        for expression in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "* * * 30 2 *"] {
            let refusal = Times::read(&mut When::cron(expression), at("2024-01-01T00:00:00Z")).unwrap_err();
            assert_eq!(refusal.code(), "never_fires", "{expression}");
        }
        let mut when = When::cron("@daily").in_zone("america/NEW_york");
        Times::read(&mut when, Timestamp(0)).unwrap();
        assert_eq!(when, When::cron("@daily").in_zone("America/New_York"));
    }

    #[test]
    fn what_was_missed_is_left_out_or_one_or_all_of_it() {
        let hourly = times("@hourly", "UTC");
        let (first, now) = (at("2024-01-01T03:00:00Z"), at("2024-01-01T06:00:30Z"));
        let next = at("2024-01-01T07:00:00Z");
        let six = at("2024-01-01T06:00:00Z");
        assert_eq!(hourly.due(first, now, Missed::Once), (vec![six], next));
        assert_eq!(hourly.due(first, now, Missed::Skip), (vec![six], next), "half a minute is not late");
        assert_eq!(hourly.due(first, Timestamp(now.0 + 31_000), Missed::Skip), (vec![], next));
        let hours = |from: u64| (from..=6).map(|hour| Timestamp(first.0 + (hour - 3) * 3_600_000)).collect::<Vec<_>>();
        assert_eq!(hourly.due(first, now, Missed::All { max: 9 }), (hours(3), next));
        assert_eq!(hourly.due(first, now, Missed::All { max: 2 }), (hours(5), next), "the last of them");
        assert_eq!(hourly.due(first, first, Missed::Once), (vec![first], at("2024-01-01T04:00:00Z")));
    }

    #[test]
    fn years_of_seconds_are_missed_at_once() {
        let (first, now) = (at("2010-01-01T00:00:00Z"), at("2024-11-30T12:00:00Z"));
        let often = times("* * * * 1-2 *", "America/New_York");
        let (due, next) = often.due(first, now, Missed::All { max: 3 });
        let last = at("2024-03-01T04:59:59Z").0;
        assert_eq!(due, [last - 2_000, last - 1_000, last].map(Timestamp));
        assert_eq!(next, at("2025-01-01T05:00:00Z"));
    }

    fn any_expression() -> impl Strategy<Value = String> {
        let minute = prop::sample::select(vec!["*", "*/7", "0", "30", "15,45", "10-20"]);
        let hour = prop::sample::select(vec!["*", "*/2", "2", "1-3", "0", "23"]);
        let day = prop::sample::select(vec!["* * *", "* * *", "1,15 * *", "* * SUN", "L * *", "* 3,10 *"]);
        (minute, hour, day).prop_map(|(minute, hour, day)| format!("{minute} {hour} {day}"))
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_breaks_it(expression in "[ -~]{0,40}", zone in "[A-Za-z/]{0,12}") {
            if let Ok(times) = Times::new(&When::cron(&expression).in_zone(&zone)) {
                let _ = times.next(Timestamp(0));
            }
        }

        /// Whoever looks at every time, and whoever looks at the end only, see the same.
        #[test]
        fn the_last_is_the_last_of_all(
            expression in any_expression(),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
            start in 0u64..1_000_000,
            span in 0u64..200_000_000,
        ) {
            let times = times(&expression, zone);
            // About when clocks go forward or back.
            let begin = [at("2024-03-09T00:00:00Z"), at("2024-10-26T00:00:00Z"), at("2024-03-30T00:00:00Z")];
            let first = times.next(Timestamp(begin[start as usize % 3].0 + start)).unwrap();
            let now = Timestamp(first.0 + span);
            let mut all = vec![first];
            while let Some(next) = times.next(all[all.len() - 1]).filter(|next| *next <= now) {
                prop_assert!(next > all[all.len() - 1]);
                all.push(next);
            }
            let (due, next) = times.due(first, now, Missed::All { max: 1_000_000 });
            prop_assert_eq!(due, all);
            prop_assert!(next > now);
        }
    }
}
