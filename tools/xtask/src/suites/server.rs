//! Our server, for as long as a suite runs.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};

use crate::workspace::Workspace;

/// A running `posthaste-conformance`; stopped when dropped.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
}

/// Where `cargo build` has put it.
pub(super) fn built(workspace: &Workspace) -> Result<PathBuf> {
    let metadata = workspace.metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    let name = format!("posthaste-conformance{}", std::env::consts::EXE_SUFFIX);
    let path: PathBuf = [target, "debug", &name].iter().collect();
    ensure!(path.is_file(), "{} is not built", path.display());
    Ok(path)
}

impl Server {
    /// Starts it as what `suite` expects, on a free port.
    pub(super) fn start(workspace: &Workspace, binary: &Path, suite: &str) -> Result<Self> {
        let mut command = workspace.command(binary);
        command.args(["--suite", suite, "--port", "0"]).stdout(Stdio::piped());
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        // From here on whoever leaves stops it.
        let mut server = Self { child, port: 0 };
        let output = server.child.stdout.take().context("invariant: it was asked for")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let port = line.trim_end().rsplit(':').next().and_then(|port| port.parse().ok());
        server.port = port.with_context(|| format!("the server for {suite} does not listen: {line:?}"))?;
        Ok(server)
    }

    pub(super) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
