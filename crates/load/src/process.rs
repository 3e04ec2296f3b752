//! A server that a run starts, kills, and starts again.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::plan::LoadError;

/// How often it is looked whether it listens.
const LOOK: Duration = Duration::from_millis(2);

/// It is killed when this is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts `command`, a program and its arguments, and waits until it listens at `addr`, for so long at most. Returns how long that took.
    ///
    /// # Errors
    /// [`LoadError::Server`]: it cannot be started, ends, does not listen, or somebody else does.
    pub(crate) fn start(command: &[String], addr: SocketAddr, within: Duration) -> Result<(Self, Duration), LoadError> {
        let failed = |text: String| Err(LoadError::Server(text));
        let Some((program, arguments)) = command.split_first() else { return failed("it has no program".into()) };
        if listens(addr) {
            return failed(format!("somebody else listens at {addr} already"));
        }
        let begin = Instant::now();
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut process = match child {
            Ok(child) => Self(child),
            Err(error) => return failed(format!("{program} cannot be started: {error}")),
        };
        loop {
            if listens(addr) {
                return Ok((process, begin.elapsed()));
            }
            match process.0.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return failed(format!("it ended ({status}) before it listened at {addr}")),
                Err(error) => return failed(format!("nothing is known of it: {error}")),
            }
            if begin.elapsed() > within {
                return failed(format!("it does not listen at {addr} after {within:?}"));
            }
            sleep(LOOK);
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    /// At once, as `kill -9` does.
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn listens(addr: SocketAddr) -> bool {
    TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn start(line: &str, addr: SocketAddr) -> Result<(Process, Duration), String> {
        let command: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Process::start(&command, addr, Duration::from_millis(200)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_does_not_become_a_server_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let error = |line| start(line, addr).err().unwrap();
        assert!(error("sleep 10").contains("somebody else listens"));
        drop(listener);
        assert!(error("/no/such/program").contains("cannot be started"));
        assert!(error("false").contains("it ended (exit status: 1)"));
        assert!(error("sleep 10").contains("does not listen"));
        assert!(error("").contains("no program"));
    }
}
