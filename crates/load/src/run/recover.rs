//! The course of `recover`.

use std::time::Duration;

use super::{Ended, Phase, Run, Span, nanoseconds, offers, tell_if_any, tell_losses};
use crate::measure::Latencies;
use crate::plan::{LoadError, Watched};
use crate::process::Process;
use crate::report::Report;
use crate::scenario::Wire as _;
use crate::scenario::recover::{PUBLISH, Recover};
use crate::server::Server;
use crate::wire::Numbered;

const JOIN: &str = "join the room that `join(room)` names and acknowledge it";
const STORE: &str = "keep the payload of `rstore(room, payload)`, acknowledge it, and send it as `bcast` to that room";
/// Between the end of connections and what they miss.
const PAUSE: Duration = Duration::from_millis(500);
/// The shortest time that what is no part of the measurement may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is to be done, beside the plan.
pub(super) struct Course<'a> {
    pub(super) rooms: usize,
    pub(super) missed: u64,
    /// What one more misses, in the last round; nobody if it is 0.
    pub(super) heavy: u64,
    pub(super) rounds: u32,
    pub(super) spread: Duration,
    pub(super) within: Duration,
    pub(super) server: Option<&'a [String]>,
}

/// What was measured of all rounds.
struct Figures {
    events: u64,
    seconds: f64,
    server_cpu_ns: Option<u64>,
    own: f64,
    starts: Latencies,
    until_all: Latencies,
    memory: Option<(u64, u64)>,
    problems: Vec<String>,
}

pub(super) fn run(run: &mut Run<'_>, course: &Course<'_>) -> Result<Report, LoadError> {
    let plan = run.plan;
    let message =
        Numbered::new(&plan.namespace, "bcast", plan.size).map_err(|error| LoadError::Plan(error.to_string()))?;
    // Another run on the same server has other rooms.
    let tag = format!("kept-{:08x}-", run.io.random() as u32);
    let (has_heavy, bounds) = (course.heavy > 0, [plan.handshakes, plan.in_flight]);
    let (prefix, rooms) = (run.prefix(), course.rooms);
    let mut app = Recover::new(message, &plan.namespace, prefix, &tag, plan.connections, rooms, has_heavy, bounds);
    let mut figures = Figures {
        events: 0,
        seconds: 0.0,
        server_cpu_ns: None,
        own: 0.0,
        starts: Latencies::new(),
        until_all: Latencies::new(),
        memory: None,
        problems: Vec::new(),
    };
    let mut process = start(run, course, &mut figures)?;
    enter(run, &mut app)?;
    let mut before_last = None;
    for round in 1..=course.rounds {
        let is_last = round == course.rounds;
        if run.interrupted || !figures.problems.is_empty() {
            break;
        }
        app.leave(&mut run.io);
        run.settle(&mut app, PAUSE)?;
        publish(run, &mut app, course.missed, if is_last && has_heavy { course.heavy } else { course.missed })?;
        if process.is_some() {
            app.cut_publisher(&mut run.io);
            drop(process.take());
            process = start(run, course, &mut figures)?;
        }
        if is_last && has_heavy {
            before_last = Some((app.recoveries.summary(), std::mem::replace(&mut app.recoveries, Latencies::new())));
            app.heavy = Latencies::new();
        }
        come_back(run, &mut app, course, &mut figures, round)?;
        app.settle();
        bring_publisher(run, &mut app)?;
        // What is said now comes behind all that was missed.
        if figures.problems.is_empty() {
            listen(run, &mut app)?;
        }
    }
    drop(process);
    let mut report = report(run, &app, figures);
    if let Some((alone, _)) = before_last {
        report.latency.insert(0, ("without_a_long_one", alone));
        report.latency.push(("the_long_one", app.heavy.summary()));
    }
    Ok(report)
}

/// Starts the server, if the run has one of its own, and looks at it from then on.
fn start(run: &mut Run<'_>, course: &Course<'_>, figures: &mut Figures) -> Result<Option<Process>, LoadError> {
    let Some(command) = course.server else { return Ok(None) };
    let (process, took) = Process::start(command, run.plan.target.resolve()?, PATIENCE)?;
    figures.starts.note(nanoseconds(took));
    run.server = Server::watch(Watched::Process(process.id()))
        .map_err(|source| LoadError::System { what: "the server cannot be looked at", source })?;
    Ok(Some(process))
}

/// Everybody joins their room and hears one event, so as to have an offset.
fn enter(run: &mut Run<'_>, app: &mut Recover) -> Result<(), LoadError> {
    let members = run.plan.all_connections() - 1;
    app.enter(&mut run.io);
    let lasts = run.plan.timeout.max(PATIENCE);
    let phase = Phase { name: "connecting", unit: "joins", of: Some(members as u64), lasts };
    run.pump(app, phase, |app| app.everybody_is_there() && app.publisher_is_there() || !app.losses.0.is_empty())?;
    if run.interrupted {
        return Ok(());
    }
    match app.losses.first() {
        Some(loss) => {
            return Err(LoadError::Connections { up: app.there, wanted: members, reason: loss.to_owned() });
        }
        None if !app.everybody_is_there() || !app.publisher_is_there() => {
            return Err(offers("join", JOIN, &format!("{} of {members} joins were answered; ", app.there)));
        }
        None => {}
    }
    app.settle();
    listen(run, app)?;
    app.look_for_sessions();
    if app.sessionless > 0 && !run.interrupted {
        return Err(LoadError::Lacking(
            "the server gives clients no `pid`, or events no offset: it does not keep sessions (connection state recovery)"
                .into(),
        ));
    }
    Ok(())
}

/// Has the publisher come back, if it was cut off with its server.
fn bring_publisher(run: &mut Run<'_>, app: &mut Recover) -> Result<(), LoadError> {
    app.bring_publisher(&mut run.io);
    let phase = Phase { name: "", unit: "", of: None, lasts: run.plan.connect_timeout };
    run.pump(app, phase, |app| app.publisher_is_there() || !app.losses.0.is_empty()).map(drop)
}

/// One event in each room, which everybody hears who is there.
fn listen(run: &mut Run<'_>, app: &mut Recover) -> Result<(), LoadError> {
    publish(run, app, 1, 1)?;
    let phase = Phase { name: "listening", unit: "events", of: None, lasts: run.plan.timeout.max(PATIENCE) };
    // All members are looked at only when nothing is awaited any more.
    let ended = run.pump(app, phase, Recover::is_heard)?;
    match ended {
        Ended::Enough | Ended::Stopped => Ok(()),
        _ => Err(LoadError::Lacking(format!(
            "{} members did not hear what was said in their room while they were connected; {STORE}",
            app.behind()
        ))),
    }
}

fn publish(run: &mut Run<'_>, app: &mut Recover, count: u64, heavy: u64) -> Result<(), LoadError> {
    if run.interrupted {
        return Ok(());
    }
    app.publish(&mut run.io, count, heavy);
    let name = if count.max(heavy) > 1 { "publishing" } else { "" };
    let of = app.asked - app.answered + app.unpublished();
    let phase = Phase { name, unit: "events", of: Some(of), lasts: Duration::from_secs(86_400) };
    match run.pump(app, phase, Recover::is_published)? {
        Ended::Enough | Ended::Stopped => Ok(()),
        _ => {
            let trouble = format!("{} of {} were answered; ", app.answered, app.asked);
            Err(offers(PUBLISH, STORE, &trouble))
        }
    }
}

/// Everybody comes back, which is what is measured.
fn come_back(
    run: &mut Run<'_>,
    app: &mut Recover,
    course: &Course<'_>,
    figures: &mut Figures,
    round: u32,
) -> Result<(), LoadError> {
    if run.interrupted {
        return Ok(());
    }
    let memory = run.server.memory_bytes();
    let heard = app.heard;
    let before = run.read();
    app.come_back(&mut run.io, nanoseconds(course.spread));
    let phase = Phase { name: "coming back", unit: "events", of: None, lasts: course.within };
    let ended = run.pump(app, phase, Recover::everybody_is_there)?;
    let span = run.since(before);
    figures.events += app.heard - heard;
    figures.seconds += span.seconds;
    figures.own += span.load_cpu_cores * span.seconds;
    figures.server_cpu_ns = span.server_cpu_ns.map(|ns| ns + figures.server_cpu_ns.unwrap_or(0));
    if let (Some(before), Some(peak)) = (memory, run.server.peak_memory_bytes()) {
        let (least, most) = figures.memory.unwrap_or((before, peak));
        figures.memory = Some((before.min(least), peak.max(most)));
    }
    if ended == Ended::Enough {
        figures.until_all.note((span.seconds * 1e9) as u64);
    } else if !run.interrupted {
        let left = run.plan.all_connections() - 1 - app.there;
        figures
            .problems
            .push(format!("round {round}: {left} clients had not all they missed after {:?}", course.within));
    }
    Ok(())
}

fn report(run: &Run<'_>, app: &Recover, figures: Figures) -> Report {
    let seconds = figures.seconds.max(1e-9);
    let span = Span { seconds, server_cpu_ns: figures.server_cpu_ns, load_cpu_cores: figures.own / seconds };
    let mut report = run.report("replayed event", figures.events, &span);
    report.latency.push(("until_one_is_recovered", app.recoveries.summary()));
    report.latency.push(("until_all_are_recovered", figures.until_all.summary()));
    report.latency.push(("start_of_the_server", figures.starts.summary()));
    report.counts.push(("rounds", figures.until_all.summary().count));
    report.counts.push(("tries", app.attempts));
    report.counts.push(("not_recovered", app.not_recovered));
    report.counts.push(("repeated", app.repeated));
    report.counts.push(("missing", app.missing));
    report.failures.clone_from(&app.refused.0);
    if let (Some(server), Some((before, peak))) = (&mut report.server, figures.memory) {
        server.memory_bytes_before = Some(before);
        server.memory_bytes_peak = Some(peak);
    }
    report.problems = figures.problems;
    tell_losses(&mut report, &app.losses);
    tell_if_any(&mut report, app.not_recovered, "clients were not recovered: the server took them for somebody new");
    tell_if_any(&mut report, app.gaps, "clients were told that a part is lost");
    tell_if_any(&mut report, app.repeated, "events came twice");
    tell_if_any(&mut report, app.missing, "events were missing: what came next was heard before");
    tell_if_any(&mut report, app.wrong, "answers were to no question");
    if app.others > 0 {
        report.remarks.push(format!("{} packets that belong to no room of this run were left aside", app.others));
    }
    report
}
