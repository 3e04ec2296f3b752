//! `posthaste verify`, `backup` and `restore`: what is done with a data folder while no server uses it.
//!
//! What was found goes to standard output, how far it is to standard error: one line that changes on a terminal, plain lines now and
//! then elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use posthaste_backend_embedded::{self as embedded, Config, OpenError, Progress, Report};

use crate::cli::{BackupOptions, RestoreOptions, VerifyOptions};

/// Something is not as it was written.
const DAMAGED: u8 = 3;

pub(crate) fn verify(options: &VerifyOptions) -> anyhow::Result<ExitCode> {
    let mut lines = Lines::new();
    let config = Config::new(&options.folder);
    let mut told = |progress| lines.show(&progress);
    let (outcome, losses) = if options.salvage {
        match embedded::salvage(config, &mut told) {
            Ok((report, losses)) => (Ok(report), losses),
            Err(error) => (Err(error), Vec::new()),
        }
    } else {
        (embedded::verify(config, &mut told), Vec::new())
    };
    lines.clear();
    if !losses.is_empty() {
        println!("{} goes on without what is lost:", options.folder.display());
        losses.iter().for_each(|loss| println!("  {loss}"));
    }
    tell(&options.folder, outcome)
}

pub(crate) fn backup(options: &BackupOptions) -> anyhow::Result<ExitCode> {
    let mut lines = Lines::new();
    let outcome = embedded::backup(&options.folder, &options.to, &mut |progress| lines.show(&progress));
    lines.clear();
    outcome?;
    println!("{} is copied to {}", options.folder.display(), options.to.display());
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(options: &RestoreOptions) -> anyhow::Result<ExitCode> {
    let mut lines = Lines::new();
    let outcome = embedded::restore(&options.from, &options.folder, &mut |progress| lines.show(&progress));
    lines.clear();
    tell(&options.folder, outcome)
}

fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Says what a folder holds, or what is wrong with it.
fn tell(folder: &Path, outcome: Result<Report, OpenError>) -> anyhow::Result<ExitCode> {
    let damage = match outcome {
        Ok(report) if report.damage.is_empty() => {
            let (messages, records) = (report.messages, report.records);
            let plural = if messages == 1 { "" } else { "s" };
            let queues = match (report.jobs, report.queues) {
                (_, 0) => String::new(),
                (jobs, queues) => format!(", {} in {}", counted(jobs, "job"), counted(queues, "work queue")),
            };
            println!(
                "{} is as it was written: {messages} message{plural}, {records} sessions and cursors{queues}",
                folder.display()
            );
            return Ok(ExitCode::SUCCESS);
        }
        Ok(report) => report.damage,
        Err(OpenError::Damaged { detail, .. }) => vec![detail],
        Err(error) => return Err(error.into()),
    };
    println!("{} is damaged:", folder.display());
    damage.iter().for_each(|what| println!("  {what}"));
    eprintln!(
        "posthaste: put a backup in its place (posthaste restore), or go on without what is lost (posthaste verify --salvage, on a \
         copy first)"
    );
    Ok(ExitCode::from(DAMAGED))
}

/// Between two plain lines of one phase, and between two changes on a terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);
const TERMINAL_INTERVAL: Duration = Duration::from_millis(100);
const ERASE_LINE: &str = "\r\x1b[2K";

struct Lines {
    is_terminal: bool,
    told: Option<(&'static str, Instant)>,
    is_dirty: bool,
}

impl Lines {
    fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), told: None, is_dirty: false }
    }

    fn show(&mut self, progress: &Progress) {
        let interval = if self.is_terminal { TERMINAL_INTERVAL } else { PLAIN_INTERVAL };
        if self.told.is_some_and(|(phase, at)| phase == progress.phase && at.elapsed() < interval) {
            return;
        }
        self.told = Some((progress.phase, Instant::now()));
        let mut out = std::io::stderr().lock();
        // Nobody hears of a progress that cannot be written.
        if self.is_terminal {
            let _ = write!(out, "{ERASE_LINE}{}", text(progress));
            let _ = out.flush();
            self.is_dirty = true;
        } else {
            let _ = writeln!(out, "{}", text(progress));
        }
    }

    /// Takes the changing line away.
    fn clear(&mut self) {
        if std::mem::take(&mut self.is_dirty) {
            let _ = write!(std::io::stderr(), "{ERASE_LINE}");
        }
    }
}

fn text(progress: &Progress) -> String {
    let Progress { phase, done, of, unit } = *progress;
    match unit {
        "bytes" => format!("  {phase} · {} of {} MiB", done >> 20, of >> 20),
        _ => format!("  {phase} · {done} of {of} {unit}"),
    }
}
