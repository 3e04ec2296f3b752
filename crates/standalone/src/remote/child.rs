//! A command that works on one message.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::sync::watch;

/// The most that is kept of what a command prints as its result, in bytes.
const MAX_RESULT: usize = 1 << 20;
/// The most that is kept of the end of what it says on standard error, in bytes.
const MAX_TAIL: usize = 1_024;

/// What to run, on what.
pub(super) struct Work {
    pub(super) command: Vec<OsString>,
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) input: Vec<u8>,
}

/// How it went.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) output: Vec<u8>,
    /// Whether it printed more than is kept.
    pub(super) is_cut: bool,
    /// The end of what it said on standard error.
    pub(super) tail: String,
    /// It was killed by this worker.
    pub(super) was_killed: bool,
}

impl Work {
    /// Runs it, or kills it with all it started as soon as `kill` says so.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) async fn run(self, mut kill: watch::Receiver<bool>) -> io::Result<Ended> {
        let Self { command, environment, input } = self;
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // A group of its own: what is typed at the terminal is for the worker to decide about, and it is killed with all it started.
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // It need not read what it is given.
                let _ = stdin.write_all(&input).await;
            }
        };
        let talk = async { tokio::join!(feed, read(stdout), echo(stderr)) };
        let work = async {
            let (((), (output, is_cut), tail), status) = tokio::join!(talk, child.wait());
            Ok((status?, output, is_cut, tail))
        };
        let mut work = std::pin::pin!(work);
        let mut was_killed = false;
        loop {
            tokio::select! {
                ended = &mut work => {
                    return ended.map(|(status, output, is_cut, tail)| Ended { status, output, is_cut, tail, was_killed });
                }
                _ = kill.wait_for(|kill| *kill), if !was_killed => {
                    was_killed = true;
                    if let Some(group) = group {
                        // It may have ended by itself just now.
                        let _ = kill_process_group(group, Signal::KILL);
                    }
                }
            }
        }
    }
}

/// Reads to the end, and keeps the beginning.
async fn read(from: Option<impl AsyncRead + Unpin>) -> (Vec<u8>, bool) {
    let (mut all, mut is_cut) = (Vec::new(), false);
    let Some(mut from) = from else { return (all, is_cut) };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let fits = count.min(MAX_RESULT - all.len());
        all.extend_from_slice(&buffer[..fits]);
        is_cut |= fits < count;
    }
    (all, is_cut)
}

/// Passes on what is said, and keeps the end.
async fn echo(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut tail = Vec::new();
    let Some(mut from) = from else { return String::new() };
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        // Nobody hears of it if it cannot be passed on.
        let _ = io::Write::write_all(&mut io::stderr(), &buffer[..count]);
        tail.extend_from_slice(&buffer[..count]);
        tail.drain(..tail.len().saturating_sub(MAX_TAIL));
    }
    let text = String::from_utf8_lossy(&tail);
    text.trim().trim_start_matches('\u{fffd}').to_owned()
}

/// How a command ended, in words.
pub(super) fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}
