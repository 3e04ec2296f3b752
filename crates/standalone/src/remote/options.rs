//! What people say to `posthaste queue` and `posthaste work`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::config::span;

#[derive(Debug, Args)]
pub(crate) struct QueueOptions {
    #[command(subcommand)]
    pub(super) what: What,
    #[command(flatten)]
    pub(super) server: ServerOptions,
    /// Print what the server answers, as one line of JSON.
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ServerOptions {
    /// Where the server is [default: $POSTHASTE_URL, else http://127.0.0.1:3000].
    #[arg(long, global = true, value_name = "URL")]
    pub(super) url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// List queues, and what they have.
    Ls,
    /// Put a message.
    Put(PutOptions),
    /// Take messages and print them. Somebody else gets them when their leases end, unless they are settled.
    Pull(PullOptions),
    /// Look at messages without changing anything.
    Peek(PeekOptions),
    /// Look at dead messages, and why they are dead.
    Dead(DeadOptions),
    /// Give dead messages another chance.
    Redrive(RedriveOptions),
    /// Stop giving out messages. What workers have they keep.
    Pause(Named),
    /// Give out messages again.
    Resume(Named),
    /// Stop taking in messages; what is there is worked off.
    Drain(DrainOptions),
    /// Remove messages.
    Purge(PurgeOptions),
    /// Remove a queue with all it has.
    Rm(RmOptions),
    /// Print what a queue has.
    Stats(Named),
    /// Have something put again and again.
    Schedule(ScheduleOptions),
}

#[derive(Debug, Args)]
pub(super) struct ScheduleOptions {
    #[command(subcommand)]
    pub(super) what: Schedules,
}

#[derive(Debug, Subcommand)]
pub(super) enum Schedules {
    /// List schedules, and when it is time.
    Ls {
        /// Only those that put into this queue.
        #[arg(long, value_name = "Q")]
        queue: Option<String>,
    },
    /// Have something put again and again, under a name. What was told under it before is replaced.
    Add(ScheduledOptions),
    /// Print what a schedule was told, and how far it is.
    Show {
        /// The schedule.
        name: String,
    },
    /// Remove a schedule. What it has put stays.
    Rm {
        /// The schedule.
        name: String,
    },
    /// Put what a schedule puts, now and besides.
    Run {
        /// The schedule.
        name: String,
    },
    /// Put nothing for now.
    Pause {
        /// The schedule.
        name: String,
    },
    /// Put it again from now on.
    Resume {
        /// The schedule.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct ScheduledOptions {
    /// The schedule.
    pub(super) name: String,
    /// What is put: JSON, or text if it is none. Without it, or with -, standard input.
    pub(super) payload: Option<String>,
    /// Where it is put.
    #[arg(long, value_name = "Q")]
    pub(super) queue: String,
    /// When: minute, hour, day, month, day of the week, perhaps with a second before them; or @hourly, @daily and so on.
    #[arg(long, value_name = "EXPRESSION", required_unless_present = "every", conflicts_with = "every")]
    pub(super) cron: Option<String>,
    /// After so long each: 30s, 10m, 1d.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(super) every: Option<Duration>,
    /// The time zone of --cron, such as Europe/Berlin [default: UTC].
    #[arg(long, requires = "cron")]
    pub(super) zone: Option<String>,
    /// What becomes of times that passed while nobody could put anything [default: once].
    #[arg(long, value_enum)]
    pub(super) missed: Option<Missed>,
    /// So many of them at most, the last ones, with --missed all [default: 100].
    #[arg(long, value_name = "N")]
    pub(super) max_missed: Option<u32>,
    /// Put nothing until it is resumed.
    #[arg(long)]
    pub(super) paused: bool,
    /// Put nothing as long as the message before is not done.
    #[arg(long)]
    pub(super) one_at_a_time: bool,
    /// Take the payload as text, also if it is JSON.
    #[arg(long)]
    pub(super) text: bool,
    /// 0 to 31; higher ones first.
    #[arg(long, value_name = "N")]
    pub(super) priority: Option<u8>,
    /// Messages with the same key are worked on in order.
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Nobody needs a message so long after it was put.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(super) ttl: Option<Duration>,
    /// A message is dead when it has failed so often.
    #[arg(long, value_name = "N")]
    pub(super) attempts: Option<u32>,
    /// What is said about a message: an object of JSON.
    #[arg(long, value_name = "JSON")]
    pub(super) headers: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Missed {
    /// What is more than a minute late is left out.
    Skip,
    /// One message for all of them.
    Once,
    /// One for each.
    All,
}

impl Missed {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::Once => "once",
            Self::All => "all",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// The queue.
    pub(super) queue: String,
}

#[derive(Debug, Args)]
pub(super) struct PutOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// The payload: JSON, or text if it is none. Without it, or with -, standard input.
    pub(super) payload: Option<String>,
    /// Take the payload as text, also if it is JSON.
    #[arg(long)]
    pub(super) text: bool,
    /// Not before so long: 500ms, 10s, 2h.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(super) delay: Option<Duration>,
    /// 0 to 31; higher ones first.
    #[arg(long, value_name = "N")]
    pub(super) priority: Option<u8>,
    /// Messages with the same key are worked on in order.
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Put it once under this key, however often it is put.
    #[arg(long, value_name = "KEY")]
    pub(super) dedup: Option<String>,
    /// Nobody needs it after so long.
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(super) ttl: Option<Duration>,
    /// It is dead when it has failed so often.
    #[arg(long, value_name = "N")]
    pub(super) attempts: Option<u32>,
}

#[derive(Debug, Args)]
pub(super) struct PullOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// So many at most.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(super) max: u32,
    /// Wait so long for the first of them, at most a minute.
    #[arg(long, default_value = "0s", value_name = "TIME", value_parser = span)]
    pub(super) wait: Duration,
    /// Have them so long [default: as the queue says].
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub(super) lease: Option<Duration>,
    /// They are done when they are printed.
    #[arg(long)]
    pub(super) done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Ready,
    Leased,
    Delayed,
    Dead,
}

impl State {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Leased => "leased",
            Self::Delayed => "delayed",
            Self::Dead => "dead",
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct PeekOptions {
    #[command(flatten)]
    pub(super) part: DeadOptions,
    /// Those in this state.
    #[arg(long, value_enum, default_value = "ready")]
    pub(super) state: State,
}

#[derive(Debug, Args)]
pub(super) struct DeadOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// Those behind this one.
    #[arg(long, default_value_t = 0, value_name = "ID")]
    pub(super) after: u64,
    /// So many at most.
    #[arg(short, long = "n", default_value_t = 20, value_name = "N")]
    pub(super) n: u32,
}

#[derive(Debug, Args)]
pub(super) struct RedriveOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// Only this one.
    #[arg(long)]
    pub(super) id: Option<u64>,
    /// So many at most, the oldest first.
    #[arg(long, value_name = "N")]
    pub(super) max: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct DrainOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// Take in messages again.
    #[arg(long)]
    pub(super) off: bool,
}

#[derive(Debug, Args)]
pub(super) struct PurgeOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// Those in these states, with commas between them.
    #[arg(long, value_enum, value_delimiter = ',', required_unless_present = "id")]
    pub(super) state: Vec<State>,
    /// Only this one.
    #[arg(long)]
    pub(super) id: Option<u64>,
    /// So many at most, the oldest first.
    #[arg(long, value_name = "N")]
    pub(super) max: Option<u64>,
    /// Do not ask.
    #[arg(short, long)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct RmOptions {
    #[command(flatten)]
    pub(super) named: Named,
    /// Do not ask.
    #[arg(short, long)]
    pub(super) yes: bool,
}

/// A worker: a command for each message.
#[derive(Debug, Args)]
#[command(after_help = "\
The command gets the payload as a line of JSON on standard input, and in its environment POSTHASTE_ID, POSTHASTE_QUEUE, \
POSTHASTE_ATTEMPT (1 the first time), POSTHASTE_DELIVERIES, POSTHASTE_KEY and POSTHASTE_HEADERS. It exits with

  0            done; what it printed is the result: JSON, or text
  --dead-on    hopeless: the message is dead
  others       failed: again later (75 says so by convention)

and the end of what it said on standard error is kept as the reason. The first SIGTERM or SIGINT lets what runs finish and takes nothing new, \
a second one kills it and gives its messages back.")]
pub(crate) struct WorkOptions {
    #[command(flatten)]
    pub(super) server: ServerOptions,
    /// The queue.
    #[arg(long, value_name = "Q")]
    pub(super) queue: String,
    /// So many commands at a time.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(super) concurrency: u32,
    /// A lease lasts so long; it is extended as long as the command runs. A worker that is lost keeps its messages so long.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = span)]
    pub(super) lease: Duration,
    /// Exit codes that say that a message is hopeless.
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    pub(super) dead_on: Vec<u8>,
    /// Payloads that are text or binary are given as they are, without quotes.
    #[arg(long)]
    pub(super) raw: bool,
    /// The command, and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<std::ffi::OsString>,
}
