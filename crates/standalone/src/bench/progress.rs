//! Where a run stands, on standard error: one line that changes on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use posthaste_load::Progress;

/// Between two plain lines of one phase.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
const ERASE_LINE: &str = "\r\x1b[2K";

/// Whether what goes to `stream` may be coloured.
pub(super) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

pub(super) struct Lines {
    terminal: bool,
    /// The phase of the last plain line, and when in it that was.
    told: Option<(&'static str, Duration)>,
    dirty: bool,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), told: None, dirty: false }
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        let mut out = std::io::stderr().lock();
        // Nobody hears of a progress that cannot be written.
        if self.terminal {
            let _ = write!(out, "{ERASE_LINE}{}", text(progress));
            let _ = out.flush();
            self.dirty = true;
        } else if self.is_time(progress) {
            self.told = Some((progress.phase, progress.elapsed));
            let _ = writeln!(out, "{}", text(progress));
        }
    }

    fn is_time(&self, progress: &Progress) -> bool {
        match self.told {
            Some((phase, at)) if phase == progress.phase => {
                progress.elapsed >= at + PLAIN_INTERVAL || progress.elapsed < at
            }
            _ => true,
        }
    }

    /// Takes the changing line away.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.dirty) {
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "{ERASE_LINE}");
            let _ = out.flush();
        }
    }
}

fn text(progress: &Progress) -> String {
    let seconds = progress.elapsed.as_secs_f64();
    let Progress { phase, done, unit, total, .. } = progress;
    match progress.of {
        Some(of) => format!("  {phase} · {done} of {of} {unit} · {seconds:.1} s"),
        None if *done > 0 => {
            format!(
                "  {phase} · {seconds:.1} of {:.0} s · {:.0} {unit}/s",
                total.as_secs_f64(),
                *done as f64 / seconds.max(0.001)
            )
        }
        None => format!("  {phase} · {seconds:.1} of {:.0} s", total.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(phase: &'static str, ms: u64) -> Progress {
        let elapsed = Duration::from_millis(ms);
        Progress { phase, elapsed, total: Duration::from_secs(10), done: 500, of: None, unit: "echoes" }
    }

    #[test]
    fn a_line_says_what_is_done_and_how_fast() {
        assert_eq!(text(&progress("measuring", 2_000)), "  measuring · 2.0 of 10 s · 250 echoes/s");
        let connecting = Progress { of: Some(1_000), unit: "connections", ..progress("connecting", 500) };
        assert_eq!(text(&connecting), "  connecting · 500 of 1000 connections · 0.5 s");
    }

    #[test]
    fn plain_lines_come_with_each_phase_and_now_and_then() {
        let mut lines = Lines { terminal: false, told: None, dirty: false };
        let mut told = Vec::new();
        for (phase, ms) in [("a", 250), ("a", 500), ("b", 250), ("b", 5_249), ("b", 5_250), ("b", 300)] {
            if lines.is_time(&progress(phase, ms)) {
                lines.told = Some((phase, Duration::from_millis(ms)));
                told.push((phase, ms));
            }
        }
        assert_eq!(told, [("a", 250), ("b", 250), ("b", 5_250), ("b", 300)]);
    }
}
