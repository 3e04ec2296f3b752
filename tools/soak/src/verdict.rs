//! Whether a server has kept anything that it should not have.

use std::time::Duration;

use crate::server::{Sample, Stats};

/// The first part of the time is for the server to grow as large as this load makes it: for this part of it, and for as long as the
/// vanished, who are missed after 45 s, become more.
const WARM_UP: f64 = 0.3;
const WARM_UP_SECONDS: f64 = 60.0;

/// With less time than this, memory is not judged.
const MEMORY_SECONDS: f64 = 150.0;

/// How much larger the server may be at the end than after warming up, and how much its trend may add from there to the end: this
/// part of it, and what an allocator needs to breathe.
const MARGIN_PARTS: f64 = 0.15;
const MARGIN_BYTES: f64 = 4e6;

/// What was seen of a server.
pub(crate) struct Verdict {
    base: Sample,
    time: Duration,
    /// Seconds and bytes, after warming up.
    memory: Vec<(f64, f64)>,
    most: Stats,
    returns: u64,
}

impl Verdict {
    pub(crate) const fn new(base: Sample, time: Duration) -> Self {
        let most = base.stats;
        Self { base, time, memory: Vec::new(), most, returns: 0 }
    }

    pub(crate) fn note(&mut self, at: Duration, sample: Sample) {
        if at.as_secs_f64() >= (self.time.as_secs_f64() * WARM_UP).max(WARM_UP_SECONDS) {
            self.memory.push((at.as_secs_f64(), sample.memory as f64));
        }
        let (most, now) = (&mut self.most, sample.stats);
        most.connections = most.connections.max(now.connections);
        most.sockets = most.sockets.max(now.sockets);
        most.rooms = most.rooms.max(now.rooms);
        most.acks = most.acks.max(now.acks);
        most.handlers = most.handlers.max(now.handlers);
        most.recoverable = most.recoverable.max(now.recoverable);
        most.owned = most.owned.max(now.owned);
    }

    /// So many clients were recovered.
    pub(crate) const fn note_returns(&mut self, returns: u64) {
        self.returns = returns;
    }

    /// Whether the server holds what it held before anybody came. Memory aside: allocators keep some.
    pub(crate) fn is_as_before(&self, sample: &Sample) -> bool {
        sample.stats == Stats::default() && sample.files <= self.base.files
    }

    /// The median of the first fifth after warming up.
    fn warm(&self) -> f64 {
        let mut first: Vec<f64> =
            self.memory.iter().take(self.memory.len().div_ceil(5)).map(|(_, bytes)| *bytes).collect();
        first.sort_by(f64::total_cmp);
        first.get(first.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn margin(&self) -> f64 {
        self.warm() * MARGIN_PARTS + MARGIN_BYTES
    }

    /// Bytes that the straight line through all samples rises from the first to the last.
    fn rise(&self) -> f64 {
        let count = self.memory.len() as f64;
        let mean = |value: fn(&(f64, f64)) -> f64| self.memory.iter().map(value).sum::<f64>() / count;
        let (mean_at, mean_bytes) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let (mut together, mut squares) = (0.0, 0.0);
        for (at, bytes) in &self.memory {
            together += (at - mean_at) * (bytes - mean_bytes);
            squares += (at - mean_at) * (at - mean_at);
        }
        let span = self.memory.last().map_or(0.0, |last| last.0) - self.memory.first().map_or(0.0, |first| first.0);
        if squares > 0.0 { together / squares * span } else { 0.0 }
    }

    const fn judges_memory(&self) -> bool {
        self.time.as_secs_f64() >= MEMORY_SECONDS
    }

    /// A sentence about memory.
    pub(crate) fn memory(&self, end: &Sample) -> String {
        if !self.judges_memory() {
            return format!("memory: {MEMORY_SECONDS} s or more would tell something about it");
        }
        format!(
            "memory: {:.1} MB before, {:.1} MB warm, {:+.1} MB by its trend until the end, {:.1} MB when all had left \
             (margin {:.1} MB)",
            self.base.memory as f64 / 1e6,
            self.warm() / 1e6,
            self.rise() / 1e6,
            end.memory as f64 / 1e6,
            self.margin() / 1e6,
        )
    }

    /// What speaks against the server; nothing, it is to be hoped. Also what speaks against the load: one that exercised nothing
    /// proves nothing.
    pub(crate) fn complaints(&self, end: &Sample, misfortunes: &[String]) -> Vec<String> {
        let mut complaints = misfortunes.to_vec();
        let Stats { connections, sockets, rooms, acks, handlers, recoverable, owned } = end.stats;
        let left = [
            ("connections", connections, self.most.connections),
            ("sockets", sockets, self.most.sockets),
            ("rooms", rooms, self.most.rooms),
            ("awaited answers", acks, self.most.acks),
            ("unfinished handlers", handlers, self.most.handlers),
            ("absent clients", recoverable, self.most.recoverable),
            ("listeners and values of sockets", owned, self.most.owned),
        ];
        for (what, count, most) in left {
            if count > 0 {
                complaints.push(format!("{count} {what} left"));
            }
            if most == 0 {
                complaints.push(format!("there never were any {what}: the load is broken"));
            }
        }
        if self.returns == 0 {
            complaints.push("nobody was ever recovered: the load is broken".to_owned());
        }
        if end.files > self.base.files {
            complaints.push(format!("{} files open, {} before", end.files, self.base.files));
        }
        if !self.judges_memory() {
            return complaints;
        }
        // Written so that no figure at all is a complaint, too.
        let fits = |bytes: f64| bytes <= self.margin();
        if !fits(self.rise()) {
            complaints.push("memory grows".to_owned());
        }
        if !fits(end.memory as f64 - self.warm()) {
            complaints.push("memory is not given back".to_owned());
        }
        complaints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: Stats = Stats { connections: 9, sockets: 9, rooms: 9, acks: 9, handlers: 9, recoverable: 9, owned: 9 };

    fn sample(stats: Stats, megabytes: u64, files: u64) -> Sample {
        Sample { stats, memory: megabytes * 1_000_000, files }
    }

    /// What is said of a server that takes so many megabytes second by second, and then ends.
    fn complaints(memory: impl Fn(u64) -> u64, end: Sample) -> Vec<String> {
        let mut verdict = Verdict::new(sample(Stats::default(), 5, 12), Duration::from_secs(300));
        (0..300).for_each(|second| verdict.note(Duration::from_secs(second), sample(MANY, memory(second), 99)));
        verdict.note_returns(9);
        verdict.complaints(&end, &[])
    }

    #[test]
    fn a_server_that_grows_only_at_first_passes() {
        let end = sample(Stats::default(), 50, 12);
        assert_eq!(complaints(|second| 50.min(10 + second), end), Vec::<String>::new());
        // Up and down is no trend.
        assert_eq!(complaints(|second| 50 + second * 7 % 11, end), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_left_is_said() {
        let mut end = sample(MANY, 50, 13);
        end.stats.rooms = 0;
        let all = complaints(|_| 50, end).join("; ");
        let expected = "9 connections left; 9 sockets left; 9 awaited answers left; 9 unfinished handlers left; \
            9 absent clients left; 9 listeners and values of sockets left; 13 files open, 12 before";
        assert_eq!(all, expected);
    }

    #[test]
    fn a_leak_is_seen_in_the_trend_and_at_the_end() {
        let end = |megabytes| sample(Stats::default(), megabytes, 12);
        assert_eq!(complaints(|second| 50 + second / 12, end(75)), ["memory grows", "memory is not given back"]);
        assert_eq!(complaints(|second| 50 + second / 12, end(50)), ["memory grows"]);
        assert_eq!(complaints(|_| 50, end(62)), ["memory is not given back"]);
    }

    #[test]
    fn a_short_soak_says_nothing_about_memory() {
        let mut verdict = Verdict::new(sample(Stats::default(), 5, 12), Duration::from_secs(30));
        (0..30).for_each(|second| verdict.note(Duration::from_secs(second), sample(MANY, 50 + second, 99)));
        verdict.note_returns(9);
        assert_eq!(verdict.complaints(&sample(Stats::default(), 80, 12), &[]), Vec::<String>::new());
    }

    #[test]
    fn a_load_that_did_nothing_proves_nothing() {
        let idle = Verdict::new(sample(Stats::default(), 5, 12), Duration::from_secs(300));
        let complaints = idle.complaints(&sample(Stats::default(), 5, 12), &[]);
        assert!(complaints.iter().any(|complaint| complaint == "there never were any sockets: the load is broken"));
        assert!(complaints.iter().any(|complaint| complaint == "nobody was ever recovered: the load is broken"));
        assert!(complaints.iter().any(|complaint| complaint == "memory grows"), "without figures nothing is proven");
    }
}
