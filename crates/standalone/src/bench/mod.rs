//! `posthaste bench`: load for any Socket.IO server, and figures.

mod app;
mod help;
mod kept;
mod options;
mod progress;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::data;
use crate::stop::Signals;
use anyhow::bail;
use posthaste::store::{MemoryStore, Retention, WindowLimits};
use posthaste::{Durable, Listener, Server};
use posthaste_load::{Control, LoadError, Plan, Target, TargetError, Watched, pin_to_core};

pub(crate) use options::BenchOptions;
use options::{AppOptions, Common, Scenario, What};

/// The default of `--url`, where `posthaste dev` listens.
const DEFAULT_URL: &str = "http://127.0.0.1:3000";
/// As a shell ends a command that was interrupted.
const INTERRUPTED: u8 = 130;
/// Options that make no sense, as clap answers them.
const USAGE: u8 = 2;

pub(crate) fn run(options: &BenchOptions) -> anyhow::Result<ExitCode> {
    match &options.what {
        What::Scenario(scenario) => run_scenario(scenario),
        What::App(options) => serve(options).map(|()| ExitCode::SUCCESS),
    }
}

/// Serves the application until it is told to end.
fn serve(options: &AppOptions) -> anyhow::Result<()> {
    let mut builder = Server::builder();
    if let Some(folder) = &options.data {
        builder = builder.durable(Durable::new(data::open_at(folder)?));
    }
    let io = match options.workers {
        Some(workers) => builder.workers(workers),
        None => builder,
    }
    .build()?;
    app::install(&io);
    if options.data.is_some() {
        kept::install(&io)?;
    }
    let signals = Signals::listen()?;
    let listener = crate::serve::listen_at(options.listen, &io, axum::Router::new())?;
    println!("listening on http://{}", listener.local_addr());
    signals.wait(&io, &listener, || {})
}

fn run_scenario(options: &Scenario) -> anyhow::Result<ExitCode> {
    let common = options.common();
    let own = common.own.then(|| OwnServer::start(options.needs_store())).transpose()?;
    let planned = target(common, own.as_ref()).map_err(anyhow::Error::from).and_then(|it| options.plan(it));
    let mut plan = match planned {
        Ok(plan) => plan,
        Err(error) => return Ok(usage(&format!("{error:#}"))),
    };
    plan.watched = match (common.own, common.pid) {
        (true, _) => Watched::OtherThreads,
        (false, Some(pid)) => Watched::Process(pid),
        (false, None) => Watched::Nobody,
    };
    if let Some(core) = common.cpu
        && let Err(error) = pin_to_core(core)
    {
        return Ok(usage(&error));
    }
    let outcome = measure(&plan);
    if let Some(own) = own {
        own.stop();
    }
    let report = match outcome {
        Ok(report) => report,
        Err(error @ LoadError::Plan(_)) => return Ok(usage(&error)),
        Err(error @ LoadError::Connections { up: 0, .. }) => {
            let url = format!("http://{}{}", plan.target.authority(), plan.path);
            let hint = "another server is given with --url, and --self starts one for this run";
            bail!("{url}: {error}\n  {hint}");
        }
        Err(error) => return Err(error.into()),
    };
    if common.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{}", report.table(progress::colours(&std::io::stdout())));
    }
    Ok(match (report.interrupted, report.is_good()) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

fn usage(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("posthaste: {error}");
    ExitCode::from(USAGE)
}

/// Where the load goes: the server of this run, `--url`, `POSTHASTE_URL`, or the default.
fn target(common: &Common, own: Option<&OwnServer>) -> Result<Target, TargetError> {
    let url = match (own, &common.url) {
        (Some(own), _) => format!("http://{}", own.listener.local_addr()),
        (None, Some(url)) => url.clone(),
        (None, None) => std::env::var("POSTHASTE_URL").unwrap_or_else(|_| DEFAULT_URL.to_owned()),
    };
    Target::parse(&url)
}

fn measure(plan: &Plan) -> Result<posthaste_load::Report, LoadError> {
    let stop = Arc::new(AtomicBool::new(false));
    watch_interrupts(Arc::clone(&stop));
    let mut progress = progress::Lines::new();
    let outcome = posthaste_load::run(plan, Control { stop: &stop, progress: &mut |it| progress.show(it) });
    progress.clear();
    outcome
}

/// The first Ctrl-C ends the run, which then tells what it has; the second ends the process.
fn watch_interrupts(stop: Arc<AtomicBool>) {
    let watch = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::signal::ctrl_c().await?;
            stop.store(true, Ordering::Relaxed);
            tokio::signal::ctrl_c().await?;
            std::process::exit(i32::from(INTERRUPTED));
        })
    };
    // Without it Ctrl-C ends the process at once, as it does by default.
    let spawned =
        std::thread::Builder::new().name("interrupts".into()).spawn(move || -> std::io::Result<()> { watch() });
    if let Err(error) = spawned {
        tracing::warn!(%error, "Ctrl-C will end the run without figures");
    }
}

/// A store for one run.
fn memory() -> MemoryStore {
    MemoryStore::new(std::process::id(), Retention::ROOM, WindowLimits::default())
}

/// The server of `--self`: one worker, a free port of the loopback.
struct OwnServer {
    io: Server,
    listener: Listener,
}

impl OwnServer {
    fn start(keeps: bool) -> anyhow::Result<Self> {
        let mut builder = Server::builder().workers(1);
        if keeps {
            builder = builder.durable(Durable::new(Arc::new(memory())));
        }
        let io = builder.build()?;
        app::install(&io);
        if keeps {
            kept::install(&io)?;
        }
        let listener = io.listen(([127, 0, 0, 1], 0).into())?;
        Ok(Self { io, listener })
    }

    fn stop(self) {
        self.listener.close();
        // Connections were cut by the load already.
        self.io.close(std::time::Duration::from_secs(1));
    }
}
