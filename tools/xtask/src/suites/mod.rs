//! `cargo xtask suites`: the official suites against our server.
//!
//! They are copied from a checkout of socketio/socket.io into a temporary folder, pointed at
//! `posthaste-conformance --suite …`, and run by mocha. [`list`] knows the suites, [`server`] starts ours.

mod list;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::scratch::Scratch;
use crate::workspace::{Workspace, run};
use list::{MODULES, SUITES, Suite};
use server::Server;

/// One run of a suite takes about fifteen seconds.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long one case may take, in milliseconds: a slow machine is no failure.
const CASE_MILLIS: &str = "10000";

const REPORT: &str = "report.json";

/// Runs the suites that `arguments` choose, and all of them that many times.
///
/// # Errors
/// `arguments` make no sense, something cannot be prepared, or not exactly the expected number of cases passed each time;
/// standard output says which failed.
pub(crate) fn run_all(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    run(&mut workspace.cargo(["build", "--locked", "-p", "posthaste-conformance"]))?;
    let server = server::built(workspace)?;
    let scratch = Scratch::new("suites")?;
    install(workspace, &options, scratch.path())?;
    let mut table = Vec::new();
    for suite in &options.suites {
        for case in suite.inapplicable {
            println!("{}: not run, since it cannot apply: {case}", suite.name);
        }
        let folder = copy(suite, &options.from, scratch.path())?;
        for round in 1..=options.runs {
            println!("\n==> {} ({round} of {})", suite.name, options.runs);
            let outcome = play(workspace, suite, &folder, &server)?;
            println!("{outcome}");
            table.push((suite, outcome));
        }
    }
    println!("\n==> summary");
    for (suite, outcome) in &table {
        println!("{:<16}{outcome}", suite.name);
    }
    ensure!(table.iter().all(|(suite, outcome)| outcome.is_as_expected(suite)), "not all suites passed");
    Ok(())
}

/// What the command line asks for.
struct Options {
    from: PathBuf,
    suites: Vec<&'static Suite>,
    runs: u32,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let (mut from, mut suites, mut runs) = (None, Vec::new(), 3);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let (option, attached) = match argument.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (argument.as_str(), None),
            };
            ensure!(
                ["--from", "--only", "--runs"].contains(&option),
                "unknown option {argument:?}; see cargo xtask help"
            );
            let value = attached.or_else(|| rest.next().map(String::as_str));
            let value = value.with_context(|| format!("{option} lacks its value"))?;
            match option {
                "--from" => from = Some(PathBuf::from(value)),
                "--only" => suites.push(find(value)?),
                _ => runs = value.parse().ok().filter(|runs| *runs > 0).context("--runs takes a number from 1 on")?,
            }
        }
        let from = from.context("--from lacks: a checkout of https://github.com/socketio/socket.io")?;
        if suites.is_empty() {
            suites.extend(SUITES);
        }
        Ok(Self { from, suites, runs })
    }
}

fn find(name: &str) -> Result<&'static Suite> {
    SUITES.iter().find(|suite| suite.name == name).with_context(|| {
        let names: Vec<_> = SUITES.iter().map(|suite| suite.name).collect();
        format!("there is no suite {name:?}; there are {}", names.join(", "))
    })
}

/// Installs what the suites need into `scratch`, from where their folders find it.
fn install(workspace: &Workspace, options: &Options, scratch: &Path) -> Result<()> {
    fs::write(scratch.join("package.json"), r#"{ "private": true }"#)?;
    let mut npm = workspace.command("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]).args(MODULES);
    for suite in &options.suites {
        if let Some(package) = suite.package {
            // The one its tests were written for.
            let manifest = options.from.join(suite.folder).join("package.json");
            let text = fs::read(&manifest).with_context(|| format!("reading {}", manifest.display()))?;
            let manifest: Value = serde_json::from_slice(&text).context("reading a package.json")?;
            let version = manifest["version"].as_str().context("a package.json states no version")?;
            npm.arg(format!("{package}@{version}"));
        }
    }
    run(npm.current_dir(scratch))
}

/// Copies a suite into `scratch` and points it at the addresses in the environment. Returns its folder.
fn copy(suite: &Suite, checkout: &Path, scratch: &Path) -> Result<PathBuf> {
    let (source, folder) = (checkout.join(suite.folder), scratch.join(suite.name));
    if let Some(package) = suite.package {
        copy_tree(&scratch.join("node_modules").join(package), &folder)?;
        copy_tree(&source.join("test"), &folder.join("test"))?;
    } else {
        copy_tree(&source, &folder)?;
    }
    for edit in suite.edits {
        for file in edit.files {
            let path = folder.join(file);
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            ensure!(text.contains(edit.from), "{}: {file} has no {} any more", suite.name, edit.from);
            fs::write(&path, text.replace(edit.from, edit.to))?;
        }
    }
    Ok(folder)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).with_context(|| format!("writing {}", target.display()))?;
        }
    }
    Ok(())
}

/// Runs a suite once, against a server of its own.
fn play(workspace: &Workspace, suite: &Suite, folder: &Path, binary: &Path) -> Result<Outcome> {
    let mut server = Server::start(workspace, binary, suite.name)?;
    let report = folder.join(REPORT);
    // None is left of the run before, in case this one writes none.
    let _ = fs::remove_file(&report);
    let mut node = workspace.command("node");
    node.arg("--import=tsx").arg(folder.join("../node_modules/mocha/bin/_mocha")).arg(suite.entry);
    node.args(["--exit", "--timeout", CASE_MILLIS, "--reporter", "json"]);
    node.arg("--reporter-option").arg(format!("output={REPORT}"));
    if !suite.inapplicable.is_empty() {
        node.args(["--grep", &suite.inapplicable.join("|"), "--invert"]);
    }
    node.env(list::URL, format!("http://127.0.0.1:{}", server.port));
    node.env(list::HOST, "127.0.0.1").env(list::PORT, server.port.to_string());
    // The report says it all; what the tests print does not.
    let mut mocha = node.current_dir(folder).stdout(Stdio::null()).spawn().context("starting node")?;
    let until = Instant::now() + PATIENCE;
    while mocha.try_wait()?.is_none() {
        if Instant::now() > until {
            mocha.kill()?;
            mocha.wait()?;
            bail!("{} did not end within {} s", suite.name, PATIENCE.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
    ensure!(server.is_running()?, "the server ended under the suite {}", suite.name);
    let text = fs::read(&report).with_context(|| format!("{} left no report", suite.name))?;
    Outcome::read(&serde_json::from_slice(&text).context("reading the report of mocha")?)
}

/// What one run of a suite brought.
struct Outcome {
    passed: u64,
    /// Title and complaint.
    failed: Vec<(String, String)>,
    /// Left out by the suite itself: titles.
    skipped: Vec<String>,
}

impl Outcome {
    fn read(report: &Value) -> Result<Self> {
        let count = |name: &str| report["stats"][name].as_u64().with_context(|| format!("the report has no {name}"));
        let cases = |name: &str| report[name].as_array().with_context(|| format!("the report has no {name}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
        let title = |case: &Value| text(&case["fullTitle"]);
        let failed = cases("failures")?.iter().map(|case| (title(case), text(&case["err"]["message"]))).collect();
        Ok(Self { passed: count("passes")?, failed, skipped: cases("pending")?.iter().map(title).collect() })
    }

    fn is_as_expected(&self, suite: &Suite) -> bool {
        self.failed.is_empty() && self.passed == suite.expected && self.skipped == suite.skipped
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed.len())?;
        if !self.skipped.is_empty() {
            write!(f, ", left out upstream: {}", self.skipped.join("; "))?;
        }
        for (title, complaint) in &self.failed {
            write!(f, "\n  {title}: {complaint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(line: &str) -> Result<Options> {
        let arguments: Vec<_> = line.split_whitespace().map(String::from).collect();
        Options::parse(&arguments)
    }

    #[test]
    fn all_suites_run_three_times_unless_told_otherwise() {
        let options = parse("--from up").unwrap();
        assert_eq!((options.suites.len(), options.runs, options.from), (SUITES.len(), 3, "up".into()));
        let options = parse("--only socket-v5 --from=up --only=engine-v4 --runs 1").unwrap();
        let names: Vec<_> = options.suites.iter().map(|suite| suite.name).collect();
        assert_eq!((names, options.runs), (vec!["socket-v5", "engine-v4"], 1));
    }

    #[test]
    fn mistyped_arguments_are_refused() {
        for (line, complaint) in [
            ("", "--from lacks: a checkout"),
            ("--from", "--from lacks its value"),
            ("--from up --only engine-v9", "there is no suite \"engine-v9\""),
            ("--from up --runs 0", "--runs takes a number"),
            ("--from up --fast", "unknown option \"--fast\""),
            ("up", "unknown option \"up\""),
        ] {
            let error = parse(line).err().unwrap().to_string();
            assert!(error.starts_with(complaint), "{line}: {error}");
        }
    }

    #[test]
    fn a_case_that_fails_or_is_missing_fails_the_suite() {
        let suite = find("engine-v4").unwrap();
        let report = |passes: u64, failures: Value, pending: Value| {
            let stats = json!({ "passes": passes });
            Outcome::read(&json!({ "stats": stats, "failures": failures, "pending": pending })).unwrap()
        };
        let skipped = json!([{ "fullTitle": "upgrade waits" }]);
        assert!(report(25, json!([]), json!([])).is_as_expected(suite));
        assert!(!report(24, json!([]), json!([])).is_as_expected(suite));
        assert!(!report(25, json!([]), skipped.clone()).is_as_expected(suite), "one that upstream runs");
        let failed =
            report(25, json!([{ "fullTitle": "upgrade works", "err": { "message": "it does not" } }]), skipped);
        assert!(!failed.is_as_expected(suite));
        let expected = "25 passed, 1 failed, left out upstream: upgrade waits\n  upgrade works: it does not";
        assert_eq!(failed.to_string(), expected);
    }
}
