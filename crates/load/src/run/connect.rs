//! The course of `connect`.

use std::time::Duration;

use super::{Phase, Run, not_up};
use crate::plan::LoadError;
use crate::report::Report;
use crate::scenario::connect::Connect;
use crate::schedule::Schedule;

pub(super) fn run(run: &mut Run<'_>, hold: Duration) -> Result<Report, LoadError> {
    let plan = run.plan;
    let memory = run.server.memory_bytes();
    let before = run.read();
    let schedule = plan.rate.map(|rate| Schedule::new(before.at, rate));
    let mut connect = Connect::new(plan.connections, plan.handshakes, schedule);
    let of = Some(plan.connections as u64);
    // Handshakes have their own time-out; the whole has the bound of the plan.
    let phase = Phase { name: "connecting", unit: "connections", of, lasts: plan.duration };
    run.pump(&mut connect, phase, Connect::is_done)?;
    connect.stop();
    let (joined, failed) = (connect.joined, connect.failed);
    let span = run.since(before);
    if joined == 0 && !run.interrupted {
        return Err(not_up(plan.connections, &connect));
    }
    let mut idle = None;
    if !run.interrupted && !hold.is_zero() {
        let before = run.read();
        run.pump(&mut connect, Phase { name: "holding", unit: "lost", of: None, lasts: hold }, |_| false)?;
        idle = run.since(before).server_cpu_ns.map(|ns| ns as f64 / 1e9 / hold.as_secs_f64());
    }
    let grown = run.server.memory_bytes().zip(memory).map(|(after, before)| after as f64 - before as f64);

    let mut report = run.report("connection", joined as u64, &span);
    report.size_bytes = None;
    report.in_flight = None;
    report.latency.push(("handshake", connect.latencies.summary()));
    report.counts.push(("heartbeats_answered", run.io.pings));
    report.counts.push(("failed", connect.failed as u64));
    report.failures.clone_from(&connect.reasons.0);
    if let Some(server) = &mut report.server {
        server.memory_bytes_per_connection = grown.map(|bytes| bytes / joined.max(1) as f64);
        server.idle_cpu_cores = idle;
    }
    if failed > 0 {
        report.problems.push(format!("{failed} of {} connections did not come up", plan.connections));
    } else if joined < plan.connections && !run.interrupted {
        let left = plan.connections - joined;
        report.problems.push(format!("{left} connections were not up after {:?}", plan.duration));
    }
    if connect.failed > failed {
        report.problems.push(format!("{} connections were lost while they were held", connect.failed - failed));
    }
    Ok(report)
}
