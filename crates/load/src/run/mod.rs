//! The course of a run: connect, try, warm up, measure, wait for the rest.

mod broadcast;
mod connect;
mod echo;
mod recover;
mod rooms;
mod storm;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::client::Dialect;
use crate::io::Io;
use crate::plan::{Load, LoadError, Plan};
use crate::report::{Report, ServerUse};
use crate::scenario::connect::{Connect, Reasons};
use crate::scenario::{Scenario, Window};
use crate::server::Server;
use crate::system;

/// The longest wait for news: how soon the end of a phase is seen.
const LONGEST_WAIT_NS: u64 = 20_000_000;
/// How often a run looks up from its work.
const LOOK_NS: u64 = 50_000_000;
/// How often progress is told.
const TELL_NS: u64 = 250_000_000;
/// Time for the server to finish what it does when a connection joins.
const SETTLE: Duration = Duration::from_millis(200);

/// Where a run stands, a few times a second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// `connecting`, `warming up`, `measuring`, …
    pub phase: &'static str,
    /// Since the phase began.
    pub elapsed: Duration,
    /// How long it takes, or takes at most.
    pub total: Duration,
    /// What was done in the phase.
    pub done: u64,
    /// How many that will be, where it is known.
    pub of: Option<u64>,
    /// What is counted, in the plural.
    pub unit: &'static str,
}

/// How a run hears of the world and is heard.
pub struct Control<'a> {
    /// Set to end early and have what was measured so far.
    pub stop: &'a AtomicBool,
    /// Told where the run stands.
    pub progress: &'a mut dyn FnMut(&Progress),
}

impl std::fmt::Debug for Control<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("stop", self.stop).finish_non_exhaustive()
    }
}

/// Does what `plan` says, on the thread that calls.
///
/// # Errors
/// [`LoadError`] when there is nothing to report. A run that measured something and met failures is a [`Report`] with
/// [`problems`](Report::problems).
pub fn run<'a>(plan: &'a Plan, control: Control<'a>) -> Result<Report, LoadError> {
    plan.check()?;
    let files = system::raise_open_files();
    if plan.files() > files {
        return Err(LoadError::Plan(format!(
            "{} connections need {} open files, and this process may have {files}: raise the bound with `ulimit -n`",
            plan.connections,
            plan.files(),
        )));
    }
    let mut run = Run::new(plan, control)?;
    match &plan.load {
        Load::Recover { rooms, missed, heavy, rounds, spread, within, server } => {
            let (rooms, missed, heavy, rounds) = (*rooms, *missed, *heavy, *rounds);
            let (spread, within, server) = (*spread, *within, server.as_deref());
            recover::run(&mut run, &recover::Course { rooms, missed, heavy, rounds, spread, within, server })
        }
        Load::Connect { hold } => connect::run(&mut run, *hold),
        Load::Echo { event } => echo::run(&mut run, event),
        Load::Broadcast { event, stopped } => broadcast::run(&mut run, event, *stopped),
        Load::Rooms { rooms } => rooms::run(&mut run, *rooms),
        Load::Storm { rounds, spread, within } => storm::run(&mut run, *rounds, *spread, *within),
    }
}

struct Run<'a> {
    plan: &'a Plan,
    control: Control<'a>,
    io: Io,
    server: Server,
    interrupted: bool,
}

/// Why a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Its time was over.
    Time,
    /// There was enough.
    Enough,
    /// The user wishes so.
    Stopped,
    /// Nothing was done for as long as an answer may take.
    Stalled,
}

/// A phase, as it is told of.
#[derive(Clone, Copy)]
struct Phase {
    /// Empty for one that nobody needs to hear of.
    name: &'static str,
    unit: &'static str,
    of: Option<u64>,
    lasts: Duration,
}

/// Readings at one moment.
#[derive(Clone, Copy)]
struct Reading {
    at: u64,
    server: Option<u64>,
    own: Duration,
}

/// What lay between two readings.
struct Span {
    seconds: f64,
    server_cpu_ns: Option<u64>,
    load_cpu_cores: f64,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, control: Control<'a>) -> Result<Self, LoadError> {
        let system = |what| move |source| LoadError::System { what, source };
        let addr = plan.target.resolve()?;
        let mut random = [0; 24];
        getrandom::fill(&mut random)
            .map_err(|error| LoadError::System { what: "no random numbers", source: std::io::Error::other(error) })?;
        let (nonce, seed) = random.split_at(16);
        let nonce = nonce.try_into().expect("invariant: 16 of 24 bytes");
        let seed = u64::from_le_bytes(seed.try_into().expect("invariant: 8 of 24 bytes"));
        let (auth, headers) = (plan.auth.as_deref(), &plan.headers);
        let dialect = Dialect::new(&plan.target.authority(), &plan.path, &plan.namespace, auth, headers, nonce)
            .map_err(LoadError::Plan)?;
        let io = Io::new(addr, plan.transport, dialect, plan.all_connections(), plan.connect_timeout, seed);
        Ok(Self {
            plan,
            control,
            io: io.map_err(system("sockets cannot be watched"))?,
            server: Server::watch(plan.watched).map_err(system("the process of --pid cannot be looked at"))?,
            interrupted: false,
        })
    }

    fn prefix(&self) -> String {
        if self.plan.namespace == "/" { String::new() } else { format!("{},", self.plan.namespace) }
    }

    fn read(&mut self) -> Reading {
        Reading { at: self.io.refresh(), server: self.server.cpu_ns(), own: system::own_cpu() }
    }

    fn since(&mut self, before: Reading) -> Span {
        let after = self.read();
        let seconds = (after.at - before.at).max(1) as f64 / 1e9;
        Span {
            seconds,
            server_cpu_ns: after.server.zip(before.server).map(|(after, before)| after.saturating_sub(before)),
            load_cpu_cores: after.own.saturating_sub(before.own).as_secs_f64() / seconds,
        }
    }

    /// Lets `scenario` run until `phase` has lasted as long as it may or `enough` says so.
    fn pump<S: Scenario>(
        &mut self,
        scenario: &mut S,
        phase: Phase,
        enough: impl Fn(&S) -> bool,
    ) -> Result<Ended, LoadError> {
        let timeout = nanoseconds(self.plan.timeout);
        let begun = self.io.refresh();
        let until = begun.saturating_add(nanoseconds(phase.lasts));
        let first = scenario.done();
        let (mut looked_at, mut told_at) = (begun, begun);
        let (mut moved_at, mut done) = (begun, first);
        loop {
            let now = self.io.refresh();
            if enough(scenario) {
                return Ok(Ended::Enough);
            }
            if now >= until {
                return Ok(Ended::Time);
            }
            if now - looked_at >= LOOK_NS {
                looked_at = now;
                if self.control.stop.load(Ordering::Relaxed) {
                    self.interrupted = true;
                    return Ok(Ended::Stopped);
                }
                if scenario.done() != done || scenario.unfinished() == 0 {
                    (moved_at, done) = (now, scenario.done());
                } else if now - moved_at >= timeout {
                    return Ok(Ended::Stalled);
                }
                if now - told_at >= TELL_NS && !phase.name.is_empty() {
                    told_at = now;
                    (self.control.progress)(&Progress {
                        phase: phase.name,
                        elapsed: Duration::from_nanos(now - begun),
                        total: phase.lasts,
                        done: scenario.done() - first.min(scenario.done()),
                        of: phase.of,
                        unit: phase.unit,
                    });
                }
            }
            let due = scenario.tick(&mut self.io);
            let wait = due.unwrap_or(u64::MAX).min(until).min(now + LONGEST_WAIT_NS).saturating_sub(now);
            // The system counts in milliseconds and rounds up: what is due sooner is waited for awake.
            let wait = Duration::from_millis(wait / 1_000_000);
            let turned = self.io.turn(scenario, wait);
            turned.map_err(|source| LoadError::System { what: "waiting for sockets failed", source })?;
        }
    }

    /// Warms up and then measures. `open` opens the window and returns the counts at its beginning, which come back with the readings
    /// there and why the last phase ended.
    fn measure<S: Scenario, C>(
        &mut self,
        scenario: &mut S,
        unit: &'static str,
        open: impl FnOnce(&mut S, Window) -> C,
    ) -> Result<(Reading, C, Ended), LoadError> {
        let mut ended = Ended::Time;
        if !self.interrupted && !self.plan.warmup.is_zero() {
            let phase = Phase { name: "warming up", unit, of: None, lasts: self.plan.warmup };
            ended = self.pump(scenario, phase, |_| false)?;
        }
        let before = self.read();
        let counts = open(scenario, Window { from: before.at, until: before.at + nanoseconds(self.plan.duration) });
        if ended == Ended::Time && !self.interrupted {
            let phase = Phase { name: "measuring", unit, of: None, lasts: self.plan.duration };
            ended = self.pump(scenario, phase, |_| false)?;
        }
        Ok((before, counts, ended))
    }

    /// Waits for what is still on its way, as long as an answer may take.
    fn finish<S: Scenario>(
        &mut self,
        scenario: &mut S,
        name: &'static str,
        unit: &'static str,
    ) -> Result<(), LoadError> {
        if !self.interrupted {
            let phase = Phase { name, unit, of: None, lasts: self.plan.timeout };
            self.pump(scenario, phase, |scenario| scenario.unfinished() == 0)?;
        }
        Ok(())
    }

    /// Lets time pass, in which nothing is begun.
    fn settle<S: Scenario>(&mut self, scenario: &mut S, lasts: Duration) -> Result<(), LoadError> {
        self.pump(scenario, Phase { name: "", unit: "", of: None, lasts }, |_| false).map(drop)
    }

    /// Opens all connections; those of `connect` and `storm` may fail, others need every one.
    fn bring_up(&mut self) -> Result<(), LoadError> {
        let count = self.plan.all_connections();
        let mut connect = Connect::new(count, self.plan.handshakes, None);
        let phase = Phase {
            name: "connecting",
            unit: "connections",
            of: Some(count as u64),
            lasts: Duration::from_secs(86_400),
        };
        // Once many have failed the others will, too.
        let enough = |it: &Connect| it.is_done() || it.failed > 20 + count / 20;
        self.pump(&mut connect, phase, enough)?;
        if connect.failed > 0 && !self.interrupted {
            return Err(not_up(count, &connect));
        }
        self.settle(&mut connect, SETTLE)?;
        if connect.failed > 0 && !self.interrupted {
            return Err(not_up(count, &connect));
        }
        Ok(())
    }

    /// A report with what every scenario has; the span's operations are `operations`.
    fn report(&self, operation: &'static str, operations: u64, span: &Span) -> Report {
        let mut report = Report {
            scenario: self.plan.load.name(),
            url: format!("http://{}{}", self.plan.target.authority(), self.plan.namespace.trim_end_matches('/')),
            transport: self.plan.transport.as_str(),
            connections: self.plan.connections,
            size_bytes: Some(self.plan.size),
            in_flight: Some(self.plan.in_flight),
            rate_per_second: self.plan.rate,
            seconds: span.seconds,
            operation,
            operations,
            operations_per_second: operations as f64 / span.seconds,
            latency: Vec::new(),
            counts: Vec::new(),
            failures: std::collections::BTreeMap::new(),
            server: span.server_cpu_ns.map(|ns| ServerUse {
                cpu_us_per_operation: ns as f64 / 1e3 / operations.max(1) as f64,
                cpu_cores: ns as f64 / 1e9 / span.seconds,
                ..ServerUse::default()
            }),
            load_cpu_cores: span.load_cpu_cores,
            problems: Vec::new(),
            remarks: Vec::new(),
            interrupted: self.interrupted,
        };
        // Waiting awake for what is due is no lack of time.
        if span.load_cpu_cores > 0.95 && self.plan.rate.is_none() {
            report.remarks.push(
                "the load itself used all of its core: the figures may be its own limit, and the server can do more"
                    .into(),
            );
        }
        report
    }
}

fn not_up(wanted: usize, connect: &Connect) -> LoadError {
    let reason = connect.reasons.first().unwrap_or("the others did not answer").to_owned();
    LoadError::Connections { up: connect.joined, wanted, reason }
}

/// Puts connections that were lost while they were needed into `report`.
fn tell_losses(report: &mut Report, losses: &Reasons) {
    let count: u64 = losses.0.values().sum();
    if count > 0 {
        let noun = if count == 1 { "connection was" } else { "connections were" };
        report.problems.push(format!("{count} {noun} lost"));
        report.failures.clone_from(&losses.0);
    }
}

/// Puts `count` of something that must not happen into `report`.
fn tell_if_any(report: &mut Report, count: u64, what: &str) {
    if count > 0 {
        report.problems.push(format!("{count} {what}"));
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What a server must offer, for errors.
fn offers(event: &str, what: &str, also: &str) -> LoadError {
    LoadError::Lacking(format!(
        "the server did not answer `{event}`: {also}the application has to {what}; `posthaste bench --help` shows one"
    ))
}
