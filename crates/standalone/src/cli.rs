//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bench::BenchOptions;

/// A realtime event server that speaks Socket.IO.
#[derive(Debug, Parser)]
#[command(name = "posthaste", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run on this machine alone, with a chat to try: everything open, loopback only.
    Dev(DevOptions),
    /// Run the server.
    Serve(ServeOptions),
    /// Measure a Socket.IO server, this or any other.
    Bench(Box<BenchOptions>),
}

#[derive(Debug, Args)]
pub(crate) struct DevOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    /// Print where it listens as one line of JSON, for scripts.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    #[command(flatten)]
    pub(crate) common: Common,
    /// A file that says which rooms there are and who may do what in them, in TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where to listen: an address and a port [default: 127.0.0.1:3000]. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// The folder for everything the server keeps; made if it is not there [default: ./posthaste-data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Go on without what is missing in a damaged data folder, and say what that is.
    #[arg(long)]
    pub(crate) salvage: bool,
}

pub(crate) fn parse() -> Cli {
    Cli::parse()
}
