//! `cargo xtask fuzz`: libFuzzer on every target of the fuzz crate, with the stable toolchain.
//!
//! ```text
//! target/fuzz/corpus/TARGET      what was found to reach something new; kept from run to run
//! target/fuzz/crashes/TARGET-…   inputs that break a law
//! ```
//!
//! The coverage that libFuzzer steers by is a pass of LLVM's that stable compilers have too. What needs a nightly compiler, the address
//! sanitizer, would have little to find: the ground floor is safe Rust.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::install;
use crate::workspace::{Workspace, output, run};

/// How long a target is fuzzed unless told otherwise.
const DEFAULT_SECONDS: u64 = 60;

/// An input that takes longer, in seconds, is a counterexample: work is to be linear in what came.
const SLOWEST_INPUT_SECONDS: u32 = 10;

/// A process that takes more, in megabytes, has met one: memory is to be bounded.
const MOST_MEMORY_MB: u32 = 1024;

/// Inputs are no longer than this: every state can be reached with less, and short ones are quick.
const LONGEST_INPUT_BYTES: u32 = 2048;

/// Fuzzes the targets that `arguments` choose.
///
/// # Errors
/// `arguments` make no sense, the fuzzers cannot be built, or a law was broken: the message says where the input is.
pub(crate) fn fuzz(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let choice = Choice::parse(arguments)?;
    install::cxx_compiler(workspace)?;
    let targets: Vec<String> = {
        let list = output(&mut workspace.cargo(["run", "--quiet", "-p", "posthaste-fuzz", "--", "list"]))?;
        list.lines().filter_map(|line| line.split_whitespace().next()).map(String::from).collect()
    };
    let chosen = choice.of(&targets)?;
    let places = Places::new(workspace)?;
    let program = build(workspace, &places)?;

    let mut failed = Vec::new();
    let mut lines = Vec::new();
    for target in chosen {
        println!("\n==> {target}, {} s", choice.seconds);
        let outcome = fuzz_one(workspace, &places, &program, target, choice.seconds)?;
        if let Some(input) = &outcome.counterexample {
            println!("==> {target} breaks a law with {}", input.display());
            failed.push(replay_command(target, input));
        }
        lines.push(format!("{target:<20}{outcome}"));
    }
    println!("\n==> summary\n{:<20}{}\n{}", "target", Outcome::HEADING, lines.join("\n"));
    if failed.is_empty() {
        return Ok(());
    }
    bail!("laws were broken; to see them again:\n  {}", failed.join("\n  "))
}

fn replay_command(target: &str, input: &Path) -> String {
    format!("cargo run -p posthaste-fuzz -- replay {target} {}", input.display())
}

#[derive(Debug)]
struct Choice {
    seconds: u64,
    only: Vec<String>,
}

impl Choice {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut choice = Self { seconds: DEFAULT_SECONDS, only: Vec::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (option, attached) = match argument.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (argument.as_str(), None),
            };
            ensure!(matches!(option, "--seconds" | "--only"), "unknown option {argument:?}; see cargo xtask help");
            let value = attached
                .or_else(|| rest.next().map(String::as_str))
                .with_context(|| format!("{option} lacks its value"))?;
            match option {
                "--seconds" => {
                    choice.seconds = value.parse().with_context(|| format!("{value:?} is no number of seconds"))?;
                    ensure!(choice.seconds > 0, "libFuzzer takes 0 s for ever");
                }
                _ => choice.only.push(value.to_owned()),
            }
        }
        Ok(choice)
    }

    fn of<'a>(&self, targets: &'a [String]) -> Result<Vec<&'a str>> {
        if let Some(unknown) = self.only.iter().find(|name| !targets.contains(name)) {
            bail!("there is no target {unknown:?}; there are {}", targets.join(", "));
        }
        let is_wanted = |target: &&String| self.only.is_empty() || self.only.contains(target);
        Ok(targets.iter().filter(is_wanted).map(String::as_str).collect())
    }
}

/// Folders under target/fuzz.
struct Places {
    build: PathBuf,
    corpus: PathBuf,
    crashes: PathBuf,
}

impl Places {
    fn new(workspace: &Workspace) -> Result<Self> {
        let root = workspace.target()?.join("fuzz");
        let places = Self { build: root.join("build"), corpus: root.join("corpus"), crashes: root.join("crashes") };
        for folder in [&places.corpus, &places.crashes] {
            fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        Ok(places)
    }
}

/// Builds libFuzzer around the targets; returns the program.
fn build(workspace: &Workspace, places: &Places) -> Result<PathBuf> {
    const COVERAGE: &str = "-Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares";
    // Named, so that build scripts and macros, which run here too, are built without.
    let host = workspace.host()?;
    let mut cargo = workspace.cargo(["build", "--locked", "-p", "posthaste-fuzz", "--bin", "posthaste-libfuzzer"]);
    cargo.args(["--features", "libfuzzer", "--profile", "fuzz", "--target", &host, "--target-dir"]).arg(&places.build);
    run(cargo.env("RUSTFLAGS", COVERAGE).env("CARGO_INCREMENTAL", "0"))?;
    let name = format!("posthaste-libfuzzer{}", std::env::consts::EXE_SUFFIX);
    Ok([&places.build, Path::new(&host), Path::new("fuzz"), Path::new(&name)].iter().collect())
}

/// What came of fuzzing one target.
struct Outcome {
    executions: u64,
    seconds: f64,
    /// Edges of the program that inputs reached, at first with the corpus there was and at the end.
    coverage: (u64, u64),
    corpus: (usize, usize),
    counterexample: Option<PathBuf>,
}

impl Outcome {
    const HEADING: &str = "  executions    a second        edges       corpus";
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = self.executions as f64 / self.seconds.max(0.001);
        let growth = |(from, to): (String, String)| format!("{from} > {to}");
        let edges = growth((self.coverage.0.to_string(), self.coverage.1.to_string()));
        let corpus = growth((self.corpus.0.to_string(), self.corpus.1.to_string()));
        write!(f, "{:>12}{rate:>12.0}{edges:>13}{corpus:>13}", self.executions)?;
        if self.counterexample.is_some() { f.write_str("  BROKEN") } else { Ok(()) }
    }
}

fn fuzz_one(workspace: &Workspace, places: &Places, program: &Path, target: &str, seconds: u64) -> Result<Outcome> {
    let corpus = places.corpus.join(target);
    let words = places.corpus.join(format!("{target}.dict"));
    let crate_itself = |arguments: [&Path; 3]| {
        output(workspace.cargo(["run", "--quiet", "-p", "posthaste-fuzz", "--"]).args(arguments))
    };
    crate_itself(["seeds".as_ref(), target.as_ref(), &corpus])?;
    crate_itself(["dictionary".as_ref(), target.as_ref(), &words])?;
    let corpus_before = entries(&corpus)?;
    let prefix = places.crashes.join(format!("{target}-"));
    let crashes_before = crashes(places, target)?;

    let started = Instant::now();
    let mut fuzzer = workspace.command(program);
    fuzzer
        .arg(&corpus)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-max_len={LONGEST_INPUT_BYTES}"))
        .arg(format!("-timeout={SLOWEST_INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MOST_MEMORY_MB}"))
        .arg(format!("-artifact_prefix={}", prefix.display()))
        .args(["-print_final_stats=1", "-reload=0"])
        .env("POSTHASTE_FUZZ_TARGET", target)
        .env("RUST_BACKTRACE", "0")
        .stderr(Stdio::piped());
    if fs::metadata(&words).is_ok_and(|file| file.len() > 0) {
        fuzzer.arg(format!("-dict={}", words.display()));
    }
    let mut running = fuzzer.spawn().context("starting the fuzzer")?;
    let report = Report::read(running.stderr.take().context("the fuzzer has no standard error")?)?;
    let status = running.wait().context("waiting for the fuzzer")?;

    let counterexample = crashes(places, target)?.into_iter().find(|file| !crashes_before.contains(file));
    if !status.success() && counterexample.is_none() && report.counterexample.is_none() {
        bail!("{target}: the fuzzer ended with {status}");
    }
    Ok(Outcome {
        executions: report.executions,
        seconds: started.elapsed().as_secs_f64(),
        coverage: (report.first_coverage.unwrap_or(0), report.coverage),
        corpus: (corpus_before, entries(&corpus)?),
        // One that was found before has the same name again.
        counterexample: counterexample.or(report.counterexample),
    })
}

fn entries(folder: &Path) -> Result<usize> {
    Ok(fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?.count())
}

fn crashes(places: &Places, target: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(&places.crashes)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.strip_prefix(target).is_some_and(|rest| rest.starts_with('-')) {
            found.push(path);
        }
    }
    Ok(found)
}

/// What libFuzzer writes, understood as far as it is of use; what the target says when a law breaks is passed on.
#[derive(Debug, Default)]
struct Report {
    executions: u64,
    first_coverage: Option<u64>,
    coverage: u64,
    counterexample: Option<PathBuf>,
}

impl Report {
    fn read(log: impl std::io::Read) -> Result<Self> {
        /// Time between two lines that say how far it is.
        const REMARK_EVERY: Duration = Duration::from_secs(15);
        let mut report = Self::default();
        let mut remarked = Instant::now();
        let mut lines = BufReader::new(log).split(b'\n');
        while let Some(line) = lines.next().transpose().context("reading the fuzzer's log")? {
            let line = String::from_utf8_lossy(&line);
            if report.note(&line) {
                if remarked.elapsed() > REMARK_EVERY {
                    remarked = Instant::now();
                    println!("{line}");
                }
            } else if is_of_interest(&line) {
                println!("{line}");
            }
        }
        Ok(report)
    }

    /// Whether the line was about progress.
    fn note(&mut self, line: &str) -> bool {
        if let Some(path) = line.split_once("Test unit written to ").map(|(_, path)| path) {
            self.counterexample = Some(path.trim().into());
            return true;
        }
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = count.trim().parse().unwrap_or(self.executions);
            return true;
        }
        // `#2048	NEW    cov: 312 ft: 800 corp: 12/340b …`
        let Some((executions, rest)) = line.strip_prefix('#').and_then(|rest| rest.split_once('\t')) else {
            return false;
        };
        let coverage = rest.split_once("cov: ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        if let (Ok(executions), Some(coverage)) = (executions.parse(), coverage) {
            self.executions = self.executions.max(executions);
            self.first_coverage.get_or_insert(coverage);
            self.coverage = coverage;
        }
        true
    }
}

/// Neither libFuzzer's greeting nor the stack of a crash, which ends in libFuzzer itself.
fn is_of_interest(line: &str) -> bool {
    const NOISE: &[&str] = &[
        "INFO:",
        "WARNING: Failed to find function",
        "stat::",
        "NOTE:",
        "NEW_FUNC",
        "Dictionary:",
        "MS: ",
        "Base64:",
        "artifact_prefix",
        "0x",
        "\"",
        "Done ",
        "###### ",
    ];
    let line = line.trim_start();
    !(line.is_empty() || NOISE.iter().any(|noise| line.starts_with(noise)) || line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(line: &str) -> Result<Choice> {
        let arguments: Vec<_> = line.split_whitespace().map(String::from).collect();
        Choice::parse(&arguments)
    }

    #[test]
    fn every_target_is_fuzzed_unless_some_are_named() {
        let targets = ["a", "b", "c"].map(String::from);
        assert_eq!(choice("").unwrap().of(&targets).unwrap(), ["a", "b", "c"]);
        assert_eq!(choice("--only c --only=a --seconds 5").unwrap().of(&targets).unwrap(), ["a", "c"]);
        assert_eq!(choice("--seconds=5").unwrap().seconds, 5);
        let unknown = choice("--only d").unwrap().of(&targets).unwrap_err().to_string();
        assert_eq!(unknown, "there is no target \"d\"; there are a, b, c");
    }

    #[test]
    fn mistyped_arguments_are_refused() {
        for line in ["--second 5", "--seconds", "--seconds x", "--seconds 0", "--only", "a"] {
            assert!(choice(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_log_of_libfuzzer_is_understood() {
        let log = "INFO: Seed: 1\n#2\tINITED cov: 20 ft: 21 corp: 1/1b exec/s: 0 rss: 30Mb\n\
            #2048\tNEW    cov: 312 ft: 800 corp: 12/340b lim: 21 exec/s: 0 rss: 31Mb L: 3/9 MS: 1 CrossOver-\n\
            Test unit written to /tmp/crash-1\nstat::number_of_executed_units: 4096\n";
        let report = Report::read(log.as_bytes()).unwrap();
        assert_eq!((report.executions, report.first_coverage, report.coverage), (4096, Some(20), 312));
        assert_eq!(report.counterexample.as_deref(), Some(Path::new("/tmp/crash-1")));
    }
}
