//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::bench::BenchOptions;
use crate::remote::{QueueOptions, WorkOptions};

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
    /// Look at the work queues of a running server, and look after them.
    Queue(Box<QueueOptions>),
    /// Work on the messages of a queue: a command for each.
    Work(WorkOptions),
    /// Read all of a data folder that no server uses, and check it.
    ///
    /// Ends with 0 if all is as it was written, 3 if something is damaged, 1 if it could not be looked at.
    Verify(VerifyOptions),
    /// Copy a data folder that no server uses.
    Backup(BackupOptions),
    /// Make a data folder of a backup, and check it.
    ///
    /// Clients that were there after the backup was made hold places that may become something else: everybody starts afresh and is told
    /// of a gap, with the rooms' history up to the backup there to read.
    ///
    /// Ends with 0 if all is as it was written, 3 if something is damaged, 1 if it could not be made.
    Restore(RestoreOptions),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyOptions {
    /// The data folder.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Give up what is lost, and say what that is. What cannot be read is gone afterwards: copy the folder first.
    #[arg(long)]
    pub(crate) salvage: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BackupOptions {
    /// The data folder.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// The copy: a folder that is not there yet.
    #[arg(value_name = "TO")]
    pub(crate) to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreOptions {
    /// The backup, which is left as it is.
    #[arg(value_name = "FROM")]
    pub(crate) from: PathBuf,
    /// The data folder: one that is not there yet.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
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
