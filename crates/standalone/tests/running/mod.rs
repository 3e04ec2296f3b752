//! The binary, running.

// Each test binary uses some of it.
#![allow(dead_code)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// `posthaste` with these words, started and ready; killed with the test.
pub(crate) struct Running {
    child: Child,
    pub(crate) addr: SocketAddr,
    /// What it printed until then.
    pub(crate) said: String,
}

pub(crate) fn posthaste(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
    command.args(line.split_whitespace()).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// Runs until it ends by itself.
pub(crate) fn output(line: &str, data: &Path) -> Output {
    posthaste(line).args(["--listen", "127.0.0.1:0"]).arg("--data").arg(data).output().expect("the binary runs")
}

impl Running {
    pub(crate) fn start(line: &str, data: &Path) -> Self {
        let mut command = posthaste(line);
        command.args(["--listen", "127.0.0.1:0"]).arg("--data").arg(data);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (mut said, mut addr) = (String::new(), None);
        while addr.is_none() {
            let Some(line) = lines.next() else {
                let mut errors = String::new();
                child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
                panic!("it ended: {said}{errors}");
            };
            let line = line.expect("text");
            addr = address(&line);
            said += &line;
            said.push('\n');
        }
        // What else belongs to the block comes at once.
        if said.starts_with('\n') {
            for line in lines.by_ref() {
                let line = line.expect("text");
                let is_last = line.contains("Ctrl-C");
                said += &line;
                said.push('\n');
                if is_last {
                    break;
                }
            }
        }
        Self { child, addr: addr.expect("found"), said }
    }

    pub(crate) fn signal(&self, name: &str) {
        let told = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
    }

    /// Waits for its end; gives its exit code and what it said on standard error.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut errors = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
        (self.child.wait().expect("it ends").code(), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("http://")?;
    let end = rest.find(|it: char| it != '.' && it != ':' && !it.is_ascii_alphanumeric()).unwrap_or(rest.len());
    rest[..end].replace("localhost", "127.0.0.1").parse().ok()
}
