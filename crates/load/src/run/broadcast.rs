//! The course of `broadcast`.

use std::time::Duration;

use super::{Phase, Run, tell_if_any, tell_losses};
use crate::plan::LoadError;
use crate::report::Report;
use crate::scenario::broadcast::Broadcast;
use crate::scenario::{Scenario as _, Wire as _};
use crate::schedule::Schedule;
use crate::wire::Numbered;

/// What is freed after the last delivery is free by then.
const UNTIL_FREE: Duration = Duration::from_secs(1);

pub(super) fn run(run: &mut Run<'_>, event: &str, stopped: usize) -> Result<Report, LoadError> {
    let plan = run.plan;
    let message =
        Numbered::new(&plan.namespace, event, plan.size).map_err(|error| LoadError::Plan(error.to_string()))?;
    let mut app = Broadcast::new(message, &plan.namespace, event, plan.connections, plan.in_flight);
    run.bring_up()?;
    for id in plan.connections..plan.connections + stopped {
        run.io.stop_reading(id);
    }
    let memory_before = run.server.memory_bytes();
    if !run.interrupted {
        probe(run, &mut app, event)?;
    }
    let unit = "deliveries";
    let now = run.io.refresh();
    match plan.rate {
        Some(rate) => app.follow(Schedule::new(now, rate)),
        None if run.interrupted => {}
        None => app.start(&mut run.io),
    }
    let (before, (delivered, complete), _) = run.measure(&mut app, unit, |app, window| {
        app.measure(window);
        (app.delivered, app.complete)
    })?;
    let (operations, broadcasts) = (app.delivered - delivered, app.complete - complete);
    let span = run.since(before);
    let now = run.io.now();
    // What became due since the last look, however late that look is now, belongs to the window.
    app.tick(&mut run.io);
    app.stop(now);
    run.finish(&mut app, "waiting for the last receivers", unit)?;
    if memory_before.is_some() && !run.interrupted {
        run.settle(&mut app, UNTIL_FREE)?;
    }
    let memory_after = run.server.memory_bytes();
    let oldest = app.oldest(&run.io);
    let unfinished = app.give_up(&run.io);

    let mut report = run.report("delivery", operations, &span);
    if let Some(server) = &mut report.server {
        (server.memory_bytes_before, server.memory_bytes_after) = (memory_before, memory_after);
    }
    if stopped > 0 {
        report.counts.push(("stopped", stopped as u64));
    }
    report.latency.push(("to_the_last", app.to_last.summary()));
    report.latency.push(("to_each", app.to_each.summary()));
    report.counts.push(("broadcasts", broadcasts));
    report.counts.push(("out_of_order", app.out_of_order));
    report.counts.push(("repeated", app.repeated));
    report.counts.push(("missing", if run.interrupted { 0 } else { app.missing }));
    tell_losses(&mut report, &app.losses);
    tell_if_any(&mut report, app.out_of_order, "deliveries came behind a later broadcast");
    tell_if_any(&mut report, app.repeated, "deliveries came twice, or of a broadcast that was not made");
    if !run.interrupted {
        tell_if_any(&mut report, app.missing, "deliveries never came");
        if let Some((left, ns)) = oldest {
            let age = Duration::from_nanos(ns).as_secs_f64();
            report.remarks.push(format!("the oldest broadcast had not reached {left} receivers after {age:.1} s"));
        }
        let patience = format!("broadcasts were not everywhere {:?} after the end", plan.timeout);
        tell_if_any(&mut report, unfinished, &patience);
    }
    if app.others > 0 {
        report.remarks.push(format!("{} packets that are no broadcasts of this run were left aside", app.others));
    }
    Ok(report)
}

/// Broadcasts until one reaches all: a connection may still be about to join its room on the server.
fn probe(run: &mut Run<'_>, app: &mut Broadcast, event: &str) -> Result<(), LoadError> {
    let (receivers, timeout) = (run.plan.connections, run.plan.timeout);
    let begun = run.io.refresh();
    let mut most = 0;
    let mut patience = timeout / 8;
    loop {
        let now = run.io.refresh();
        let (complete, delivered) = (app.complete, app.delivered);
        app.publish(&mut run.io, now);
        let phase = Phase { name: "trying", unit: "deliveries", of: Some(receivers as u64), lasts: patience };
        run.pump(app, phase, |app| app.complete > complete || !app.losses.0.is_empty())?;
        most = most.max(app.delivered - delivered);
        let reached = app.complete > complete;
        app.end_trial(&run.io);
        if reached || run.interrupted {
            return Ok(());
        }
        if let Some(loss) = app.losses.first() {
            return Err(LoadError::Lacking(format!("a connection was lost at the first broadcast: {loss}")));
        }
        if run.io.now() - begun >= super::nanoseconds(timeout) {
            return Err(LoadError::Lacking(format!(
                "only {most} of {receivers} connections heard `{event}` within {timeout:?}: the application has to send \
                 each `{event}` with its argument to all connections, under the same name; `posthaste bench --help` shows one"
            )));
        }
        patience *= 2;
    }
}
