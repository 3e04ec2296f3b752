//! `cargo xtask`: the workspace's own commands.
//!
//! ```text
//! cargo xtask test     everything a change must pass, prepared and run in order
//! cargo xtask floors   only the floor plan: imports point down, the ground floor does no I/O
//! cargo xtask bundle   fetches the browser client that the server serves
//! cargo xtask fuzz     looks for inputs that break a law of a decoder or state machine
//! cargo xtask counts   what the hot paths take in instructions, compared with what they took
//! cargo xtask soak     a server under minutes of churn, which must end as it began
//! cargo xtask suites   the official suites of socketio/socket.io against our server
//! ```
//!
//! [`steps`] is the list behind `test`, [`runner`] goes through it; [`install`], [`floors`], [`bundle`], [`fuzz`], [`counts`],
//! [`soak`] and [`suites`] each do one thing; [`workspace`] knows where everything is and starts other programs.

mod bundle;
mod counts;
mod floors;
mod fuzz;
mod install;
mod runner;
mod scratch;
mod soak;
mod steps;
mod suites;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use workspace::Workspace;

const USAGE: &str = "\
Usage:
  cargo xtask test [--only STEP]... [--skip STEP]... [--keep-going] [--list]
      Runs everything a change must pass and stops at the first failure.
      --only STEP    this step and what it needs; may be repeated
      --skip STEP    all but this step; may be repeated
      --keep-going   goes on after a failure
      --list         names the steps
  cargo xtask floors
      Checks that imports point down and that the ground floor does no I/O.
  cargo xtask bundle [--version X | --helper]
      Fetches the browser client, compresses it and puts it into crates/server/assets/client.
  cargo xtask fuzz [--seconds N] [--only TARGET]...
      Fuzzes every decoder and state machine for a minute each, with the stable toolchain and a C++ compiler.
  cargo xtask counts [--write]
      Counts the instructions of the hot paths with valgrind and compares them with tools/counts/expected.json.
      --write        takes what is counted for what is expected
  cargo xtask soak [--minutes N] [--clients N]
      Runs the conformance app under churn for ten minutes; it must end with nothing left and memory flat.
  cargo xtask soak crash [--rounds N]
      Kills the binary 1,000 times under official clients; everything acknowledged must be heard by all of them once.
  cargo xtask soak queue [--rounds N]
      Kills the binary and workers of its queues 1,000 times, jumps its clock and fills its disk; every message must be done, or dead
      with its reason, and whatever ran twice must have lost its lease.
  cargo xtask soak store [--seeds N]
      Tests the store on the disk with 2,000 power cuts, and with histories and kills in proportion; its queues as well.
  cargo xtask suites --from CHECKOUT [--only SUITE]... [--runs N]
      Runs the official suites of a checkout of socketio/socket.io against our server; npm brings what they need.
      --only SUITE   this suite; may be repeated
      --runs N       how often each must pass; 3 by default
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let workspace = Workspace::here();
    match arguments.split_first() {
        Some((command, rest)) => match (command.as_str(), rest) {
            ("test", _) => runner::test(&workspace, rest),
            ("floors", []) => floors::check(&workspace).map(|note| println!("{note}")),
            ("bundle", _) => bundle::update(&workspace, rest),
            ("fuzz", _) => fuzz::fuzz(&workspace, rest),
            ("counts", _) => counts::run(&workspace, rest),
            ("soak", _) => soak::soak(&workspace, rest),
            ("suites", _) => suites::run_all(&workspace, rest),
            ("help" | "--help" | "-h", _) => {
                print!("{USAGE}");
                Ok(())
            }
            _ => bail!("unknown command {:?}\n\n{USAGE}", arguments.join(" ")),
        },
        None => bail!("a command is missing\n\n{USAGE}"),
    }
}
