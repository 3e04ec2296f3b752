//! `posthaste-soak`: starts the conformance app, sends it clients that come and go for minutes, and looks at what is left.
//!
//! ```text
//!   crowd ─► lives ─► visitor ─► raw clients ─► conformance app (a process of its own)
//!   every second: its memory, its open files, its own count of what it holds ─► verdict
//! ```
//!
//! `cargo xtask soak` builds and runs it. It ends with failure if a client met what it should not have, or anything is left
//! behind: see [`verdict`].

mod crowd;
mod lives;
mod returns;
mod server;
mod verdict;
mod visitor;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crowd::Crowd;
use server::{Sample, Server, Stats};
use verdict::Verdict;

const USAGE: &str = "usage: posthaste-soak --server PROGRAM [--minutes N] [--clients N] [--seed N]";

/// Time between two looks at the server.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// How long the server may take to notice that nobody is there: a client that vanished without a word is missed at the end of
/// a ping's interval and timeout (45 s).
const PATIENCE: Duration = Duration::from_secs(90);

struct Options {
    server: PathBuf,
    minutes: f64,
    clients: usize,
    seed: u64,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { server: PathBuf::new(), minutes: 10.0, clients: 150, seed: 1 };
        while let Some(name) = arguments.next() {
            let value = arguments.next().with_context(|| format!("{name} lacks its value; {USAGE}"))?;
            match name.as_str() {
                "--server" => options.server = value.into(),
                "--minutes" => options.minutes = value.parse().context("--minutes takes a number")?,
                "--clients" => options.clients = value.parse().context("--clients takes a number")?,
                "--seed" => options.seed = value.parse().context("--seed takes a number")?,
                _ => bail!("unknown option {name}; {USAGE}"),
            }
        }
        if options.server.as_os_str().is_empty() || !(options.minutes > 0.0 && options.minutes < 1e6) {
            bail!(USAGE);
        }
        Ok(options)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // A client that panics is reported at the end, with what it was about; a stack for each tells nothing more.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if tokio::task::try_id().is_none() {
            report(panic);
        }
    }));
    match soak().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn soak() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut server = Server::start(&options.server)?;
    let base = server.sample().await?;
    anyhow::ensure!(base.stats == Stats::default(), "a new server holds something: {:?}", base.stats);
    println!("{} clients at a time for {} min against {}", options.clients, options.minutes, server.addr());
    println!("{}", Sample::HEADING);

    let begin = Instant::now();
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    let crowd = Crowd::start(server.addr(), options.clients, options.seed);
    let mut verdict = Verdict::new(base, time);
    let mut minute = 0;
    loop {
        tokio::time::sleep(SAMPLE_EVERY).await;
        let sample = server.sample().await.context("the server is gone")?;
        verdict.note(begin.elapsed(), sample);
        if begin.elapsed().as_secs() / 60 > minute {
            minute += 1;
            println!("{}", sample.line(&format!("{minute} min"), crowd.lives(), crowd.messages()));
        }
        if begin.elapsed() >= time {
            break;
        }
    }

    let (lives, messages) = (crowd.lives(), crowd.messages());
    verdict.note_returns(crowd.returns());
    println!("{} clients were recovered", crowd.returns());
    let misfortunes = crowd.leave().await;
    let left_at = Instant::now();
    let end = loop {
        let sample = server.sample().await.context("the server is gone")?;
        if verdict.is_as_before(&sample) || left_at.elapsed() > PATIENCE {
            break sample;
        }
        tokio::time::sleep(SAMPLE_EVERY).await;
    };
    println!("{}", end.line("end", lives, messages));
    println!("all gone {:.0} s after the last client left", left_at.elapsed().as_secs_f64());

    let complaints = verdict.complaints(&end, &misfortunes);
    println!("{}", verdict.memory(&end));
    if complaints.is_empty() {
        println!("soak passed: nothing was left");
        return Ok(());
    }
    bail!("soak failed:\n  {}", complaints.join("\n  "))
}
