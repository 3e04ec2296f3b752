//! Commands that are carried out by a running server, over HTTP: `posthaste queue` and `posthaste work`.
//!
//! What they find goes to standard output, everything else to standard error.

mod child;
mod client;
mod options;
mod queue;
mod schedule;
mod show;
mod work;

use std::process::ExitCode;

pub(crate) use options::{QueueOptions, WorkOptions};

/// Options that make no sense, as clap answers them.
const USAGE: u8 = 2;

pub(crate) fn queue(options: &QueueOptions) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(queue::run(options))
}

pub(crate) fn work(options: &WorkOptions) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(work::run(options))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
