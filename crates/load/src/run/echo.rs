//! The course of `echo`.

use std::time::Duration;

use super::{Phase, Run, offers, tell_if_any, tell_losses};
use crate::client::Transport;
use crate::plan::LoadError;
use crate::report::Report;
use crate::scenario::echo::Echo;
use crate::scenario::{Scenario as _, Wire as _};
use crate::schedule::Schedule;
use crate::wire::{Request, letters};

/// Operations sent later than this after they were due are worth a remark: the load was late, not the server.
const LATE_US: f64 = 1_000.0;

pub(super) fn run(run: &mut Run<'_>, event: &str) -> Result<Report, LoadError> {
    let plan = run.plan;
    let payload = letters(plan.size);
    let request = Request::new(&plan.namespace, event, &payload).map_err(|error| LoadError::Plan(error.to_string()))?;
    let mut echo = Echo::new(request, run.prefix(), payload, plan.connections, plan.in_flight);
    run.bring_up()?;
    if !run.interrupted {
        probe(run, &mut echo, event)?;
    }
    let unit = "echoes";
    let now = run.io.refresh();
    match plan.rate {
        Some(rate) => echo.follow(Schedule::new(now, rate)),
        None if run.interrupted => {}
        None => echo.start(&mut run.io),
    }
    let (before, answered, _) = run.measure(&mut echo, unit, |echo, window| {
        echo.measure(window);
        echo.answered
    })?;
    let operations = echo.answered - answered;
    let span = run.since(before);
    let now = run.io.now();
    // What became due since the last look, however late that look is now, belongs to the window.
    echo.tick(&mut run.io);
    echo.stop(now);
    run.finish(&mut echo, "waiting for the last answers", unit)?;
    let unanswered = echo.give_up(&mut run.io);

    let mut report = run.report("echo", operations, &span);
    if plan.transport == Transport::Polling {
        report.scenario = "polling";
    }
    report.latency.push(("round_trip", echo.latencies.summary()));
    if plan.rate.is_some() {
        let lag = echo.lag.summary();
        if lag.p99_us > LATE_US {
            report.remarks.push("the load itself was late, because its core had other work or too much: that part of the latency is its own".into());
        }
        report.latency.push(("sent_late_by", lag));
    }
    report.counts.push(("wrong_answers", echo.wrong));
    report.counts.push(("unanswered", if run.interrupted { 0 } else { unanswered + echo.lost }));
    tell_losses(&mut report, &echo.losses);
    tell_if_any(&mut report, echo.wrong, "answers were wrong: not what was asked, twice, or to no question");
    if !run.interrupted {
        let patience =
            format!("questions had no answer {:?} after the end; they count with the time they waited", plan.timeout);
        tell_if_any(&mut report, unanswered, &patience);
        tell_if_any(&mut report, echo.lost, "questions were lost with their connection");
    }
    if echo.others > 0 {
        report.remarks.push(format!("{} packets that are no answers were left aside", echo.others));
    }
    Ok(report)
}

/// One question, so that a server without the event is found out at once.
fn probe(run: &mut Run<'_>, echo: &mut Echo, event: &str) -> Result<(), LoadError> {
    let now = run.io.refresh();
    echo.ask(&mut run.io, 0, now);
    let lasts = run.plan.timeout;
    let phase = Phase { name: "trying", unit: "echoes", of: None, lasts };
    run.pump(echo, phase, |echo| echo.answered + echo.wrong > 0 || !echo.losses.0.is_empty())?;
    let within = |what: Duration| format!("no answer within {what:?}; ");
    let trouble = match (echo.answered, echo.losses.first()) {
        _ if run.interrupted => return Ok(()),
        (1.., _) => return Ok(()),
        (0, Some(loss)) => format!("{loss}; "),
        _ if echo.wrong > 0 => "it answers something else; ".to_owned(),
        _ => within(lasts),
    };
    Err(offers(event, "answer its argument, as it came, in the acknowledgement", &trouble))
}
