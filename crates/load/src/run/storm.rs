//! The course of `storm`.

use std::time::Duration;

use super::{Ended, Phase, Run};
use crate::measure::Latencies;
use crate::plan::LoadError;
use crate::report::Report;
use crate::scenario::storm::Storm;

/// Between two rounds: the server notices who is gone, and settles.
const PAUSE: Duration = Duration::from_millis(500);

pub(super) fn run(run: &mut Run<'_>, rounds: u32, spread: Duration, within: Duration) -> Result<Report, LoadError> {
    let plan = run.plan;
    run.bring_up()?;
    let mut storm = Storm::new(plan.connections, plan.handshakes, super::nanoseconds(spread));
    let mut until_all = Latencies::new();
    let (mut back, mut seconds, mut server, mut own) = (0, 0.0, None, 0.0);
    let mut problems = Vec::new();
    for round in 1..=rounds {
        if run.interrupted {
            break;
        }
        let before = run.read();
        storm.cut(&mut run.io);
        let phase = Phase { name: "coming back", unit: "tries", of: Some(plan.connections as u64), lasts: within };
        let ended = run.pump(&mut storm, phase, Storm::is_over)?;
        let span = run.since(before);
        seconds += span.seconds;
        own += span.load_cpu_cores * span.seconds;
        server = span.server_cpu_ns.map(|ns| ns + server.unwrap_or(0));
        back += storm.back as u64;
        if ended == Ended::Enough {
            until_all.note(storm.elapsed(&run.io));
            let pause = Phase { name: "", unit: "", of: None, lasts: PAUSE };
            run.pump(&mut storm, pause, |_| false)?;
        } else if !run.interrupted {
            let left = plan.connections - storm.back;
            problems.push(format!("round {round}: {left} connections were not back after {within:?}"));
            break;
        }
    }
    storm.stop();
    let seconds = f64::max(seconds, 1e-9);
    let span = super::Span { seconds, server_cpu_ns: server, load_cpu_cores: own / seconds };
    let mut report = run.report("connection", back, &span);
    report.size_bytes = None;
    report.in_flight = None;
    report.latency.push(("until_all_are_back", until_all.summary()));
    report.latency.push(("until_one_is_back", storm.recoveries.summary()));
    report.latency.push(("handshake", storm.handshakes.summary()));
    report.counts.push(("rounds", until_all.summary().count));
    report.counts.push(("tries", storm.attempts));
    report.counts.push(("refused_or_failed", storm.refused.0.values().sum()));
    report.failures.clone_from(&storm.refused.0);
    report.problems = problems;
    Ok(report)
}
