//! The course of `rooms`.

use super::{Ended, Phase, Run, offers, tell_if_any, tell_losses};
use crate::plan::LoadError;
use crate::report::Report;
use crate::scenario::Wire as _;
use crate::scenario::rooms::Rooms;
use crate::wire::Numbered;

const JOIN: &str = "join (or leave) the room that `join(room)` (or `leave(room)`) names and acknowledge it";
const RBCAST: &str = "send `bcast` with the payload of `rbcast(room, payload)` to that room";

pub(super) fn run(run: &mut Run<'_>, rooms: usize) -> Result<Report, LoadError> {
    let plan = run.plan;
    let message =
        Numbered::new(&plan.namespace, "bcast", plan.size).map_err(|error| LoadError::Plan(error.to_string()))?;
    // Another run on the same server has other rooms.
    let tag = format!("r{:04x}-", run.io.random() as u16);
    let mut app = Rooms::new(message, &plan.namespace, run.prefix(), &tag, plan.connections, rooms, plan.in_flight);
    run.bring_up()?;
    if !run.interrupted {
        prepare(run, &mut app)?;
    }
    let unit = "deliveries and moves";
    if !run.interrupted {
        app.start(&mut run.io);
    }
    let (before, (delivered, broadcasts, changes), ended) = run.measure(&mut app, unit, |app, window| {
        app.measure(window);
        (app.delivered, app.broadcasts, app.changes)
    })?;
    if ended == Ended::Stalled && app.broadcasts == 0 {
        let (what, must) = match app.oldest(&run.io) {
            Some((what @ ("join" | "leave"), _)) => (what, JOIN),
            _ => ("rbcast", RBCAST),
        };
        return Err(offers(what, must, &format!("nothing came for {:?}; ", plan.timeout)));
    }
    let operations = app.delivered - delivered;
    let (broadcasts, changes) = (app.broadcasts - broadcasts, app.changes - changes);
    let span = run.since(before);
    let now = run.io.now();
    app.stop(now);
    run.finish(&mut app, "waiting for the last members", unit)?;
    let unfinished = app.give_up(&run.io);

    let mut report = run.report("delivery", operations, &span);
    report.latency.push(("to_the_last", app.to_last.summary()));
    report.latency.push(("leave_and_join", app.moves.summary()));
    report.counts.push(("broadcasts", broadcasts));
    report.counts.push(("joins_and_leaves", changes));
    report.counts.push(("heard_outside", app.strangers));
    report.counts.push(("repeated", app.repeated));
    report.counts.push(("missing", if run.interrupted { 0 } else { app.missing }));
    tell_losses(&mut report, &app.losses);
    tell_if_any(&mut report, app.strangers, "deliveries reached who is not in the room, or came after all had theirs");
    tell_if_any(&mut report, app.repeated, "deliveries came twice");
    tell_if_any(&mut report, app.wrong, "answers were to no question");
    if !run.interrupted {
        tell_if_any(&mut report, app.missing, "deliveries never came");
        tell_if_any(&mut report, unfinished, &format!("movers waited in vain, {:?} after the end", plan.timeout));
    }
    if app.others > 0 {
        report.remarks.push(format!("{} packets that belong to no room of this run were left aside", app.others));
    }
    Ok(report)
}

/// Puts every member into its first room.
fn prepare(run: &mut Run<'_>, app: &mut Rooms) -> Result<(), LoadError> {
    app.place(&mut run.io);
    let members = app.members();
    let lasts = run.plan.timeout.max(std::time::Duration::from_secs(60));
    let phase = Phase { name: "joining rooms", unit: "joins", of: Some(members as u64), lasts };
    run.pump(app, phase, |app| app.placed == members || !app.losses.0.is_empty())?;
    if app.placed == members || run.interrupted {
        return Ok(());
    }
    let trouble = match app.losses.first() {
        Some(loss) => format!("{loss}; "),
        None => format!("{} of {members} joins were answered; ", app.placed),
    };
    Err(offers("join", JOIN, &trouble))
}
