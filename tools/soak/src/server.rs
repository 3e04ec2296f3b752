//! The conformance app as a process: started, counted, measured.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use posthaste_testkit::{Http, Request, Wire};

/// A running server; it ends with this value.
pub(crate) struct Server {
    process: Child,
    addr: SocketAddr,
}

/// What the server says it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    pub(crate) connections: u64,
    pub(crate) sockets: u64,
    pub(crate) rooms: u64,
    pub(crate) acks: u64,
    pub(crate) handlers: u64,
    /// Clients that may come back.
    pub(crate) recoverable: u64,
    /// Listeners and values of sockets.
    pub(crate) owned: u64,
}

/// A look at the server from inside and outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) stats: Stats,
    /// Bytes of memory that are its own.
    pub(crate) memory: u64,
    /// Open files, sockets among them.
    pub(crate) files: u64,
}

impl Sample {
    pub(crate) const HEADING: &str =
        "  time      lives   messages  connections  sockets  rooms   acks  handlers  absent  owned  memory MB  files";

    pub(crate) fn line(&self, time: &str, lives: u64, messages: u64) -> String {
        let Stats { connections, sockets, rooms, acks, handlers, recoverable, owned } = self.stats;
        let (memory, files) = (self.memory as f64 / 1e6, self.files);
        format!(
            "{time:>6} {lives:>10} {messages:>10} {connections:>12} {sockets:>8} {rooms:>6} {acks:>6} {handlers:>9} \
             {recoverable:>7} {owned:>6} {memory:>10.1} {files:>6}"
        )
    }
}

impl Server {
    /// Starts `program` on a free port.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["--port", "0", "--host", "127.0.0.1", "--stats"]).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let output = process.stdout.take().context("a piped output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let addr = line.trim().strip_prefix("listening on ").with_context(|| format!("an address, not {line:?}"))?;
        Ok(Self { addr: addr.parse()?, process })
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) async fn sample(&mut self) -> Result<Sample> {
        if let Some(status) = self.process.try_wait()? {
            anyhow::bail!("the server ended: {status}");
        }
        let stats = self.stats().await?;
        let folder = Path::new("/proc").join(self.process.id().to_string());
        // Proportional: what is only mapped from its file counts for nothing here.
        let rollup =
            std::fs::read_to_string(folder.join("smaps_rollup")).context("only Linux tells a process's memory")?;
        let kilobytes =
            rollup.lines().find_map(|line| line.strip_prefix("Pss_Anon:")).context("no anonymous memory")?;
        let kilobytes: u64 = kilobytes.trim().trim_end_matches(" kB").parse()?;
        let files = std::fs::read_dir(folder.join("fd"))?.count() as u64;
        Ok(Sample { stats, memory: kilobytes * 1024, files })
    }

    async fn stats(&self) -> Result<Stats> {
        // A connection of its own, closed with the answer: it is not to be among the files that are counted.
        let mut http = Http::new(Wire::try_connect(self.addr).await?);
        let answer = http.send(&Request::get("/stats").header("Connection", "close")).await?;
        ensure!(answer.status == 200, "{answer:?}");
        http.into_wire().take_rest().await?;
        let stats: serde_json::Value = serde_json::from_str(answer.text())?;
        let number = |name: &str| stats[name].as_u64().with_context(|| format!("{name} in {stats}"));
        Ok(Stats {
            connections: number("connections")?,
            sockets: number("sockets")?,
            rooms: number("rooms")?,
            acks: number("pendingAcks")?,
            handlers: number("handlers")?,
            recoverable: number("recoverable")?,
            owned: number("owned")?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to be done if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
