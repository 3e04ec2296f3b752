//! The `posthaste` binary.

mod api;
mod bench;
mod cli;
mod config;
mod data;
mod demo;
mod dev;
mod folders;
mod logging;
mod queues;
mod remote;
mod rooms;
mod serve;
mod stop;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::parse();
    logging::start();
    // The usual soft limit of 1,024 open files is for programs older than epoll.
    posthaste_load::raise_open_files();
    let outcome = match &cli.command {
        cli::Command::Dev(options) => dev::run(options).map(|()| ExitCode::SUCCESS),
        cli::Command::Serve(options) => serve::run(options).map(|()| ExitCode::SUCCESS),
        cli::Command::Bench(options) => bench::run(options),
        cli::Command::Queue(options) => remote::queue(options),
        cli::Command::Work(options) => remote::work(options),
        cli::Command::Verify(options) => folders::verify(options),
        cli::Command::Backup(options) => folders::backup(options),
        cli::Command::Restore(options) => folders::restore(options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("posthaste: {error:#}");
            ExitCode::FAILURE
        }
    }
}
