//! `cargo xtask counts`: how many instructions an operation takes, compared with what it took.
//!
//! callgrind runs tools/counts, whose server does one operation a number of times for a client that speaks and waits in
//! turns. Counted is what the server's threads do outside the kernel. Two runs of different length are subtracted, so
//! that beginning and end fall out.
//!
//! The counts depend on the compiler, on the libraries of the system and on what the processor offers them, so the file
//! says what they were taken with. Where that differs, they may differ by more: see [`Expected::tolerance`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::install;
use crate::scratch::Scratch;
use crate::workspace::{Workspace, output};

/// Where the counts are kept.
const FILE: &str = "tools/counts/expected.json";

/// Per cent that a count may be off. Counting the same program again differs by 0.1 on a quiet machine, by 2 on a busy one.
const TOLERANCE: f64 = 3.0;
/// The same where another compiler or system than the recorded one made the count. Compilers change what a program takes by a
/// few per cent, and nobody here can help it; what this misses is found on the recorded one.
const LOOSE_TOLERANCE: f64 = 15.0;

/// What is counted: an operation of tools/counts, and how often it is done in the shorter and in the longer run.
struct Counted {
    operation: &'static str,
    short: u64,
    long: u64,
}

const OPERATIONS: &[Counted] = &[
    Counted { operation: "echo", short: 500, long: 1_500 },
    Counted { operation: "packed-echo", short: 500, long: 1_500 },
    Counted { operation: "broadcast-1000", short: 50, long: 450 },
    Counted { operation: "connect", short: 300, long: 1_300 },
];

/// So often an operation is counted until its count is as expected. A machine that is so busy that the server does not fall
/// asleep between two requests makes it take other turns; a program that takes more does so each time.
const ATTEMPTS: usize = 3;

/// Counts, prints what was found beside what was expected, and compares; `--write` replaces what is expected.
///
/// # Errors
/// A count is off by more than is tolerated, or nothing could be counted.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    match arguments {
        [] => check(workspace).map(|remark| println!("{remark}")),
        [write] if write == "--write" => rewrite(workspace),
        _ => bail!("counts takes --write or nothing"),
    }
}

/// Counts and compares. Returns a remark for a summary.
///
/// # Errors
/// As [`run`].
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    if !cfg!(target_os = "linux") {
        return Ok("not counted: this is no Linux".into());
    }
    install::valgrind(workspace)?;
    let path = workspace.path(FILE);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let expected = Expected::parse(&text).with_context(|| format!("reading {}", path.display()))?;
    let with = TakenWith::here(workspace)?;
    if !expected.with.is_comparable(&with) {
        return Ok("not counted: what is expected was counted on another architecture".into());
    }
    let tolerance = expected.tolerance(&with);
    for (name, was, is) in expected.with.differences(&with) {
        println!("warning: the counts were taken with {name} {was:?}, this is {is:?}: {tolerance} % are tolerated");
    }

    let counter = Counter::build(workspace)?;
    let mut off = Vec::new();
    let mut largest: f64 = 0.0;
    println!("{:<16}{:>12}{:>12}{:>9}", "", "expected", "counted", "off by");
    for counted in OPERATIONS {
        let wanted = expected.of(counted.operation)?;
        let mut attempt = 1;
        let per_cent = loop {
            let found = counter.count(counted)?;
            let per_cent = per_cent_off(found, wanted);
            println!("{:<16}{wanted:>12}{found:>12}{per_cent:>+8.2}%", counted.operation);
            if per_cent.abs() <= tolerance || attempt == ATTEMPTS {
                break per_cent;
            }
            attempt += 1;
        };
        largest = largest.max(per_cent.abs());
        if per_cent.abs() > tolerance {
            off.push(format!("{} takes {per_cent:+.1} % instructions", counted.operation));
        }
    }
    ensure!(
        off.is_empty(),
        "{}; {tolerance} % are tolerated. If that is as it should be: cargo xtask counts --write",
        off.join(", ")
    );
    Ok(format!("off by {largest:.1} % at most"))
}

fn rewrite(workspace: &Workspace) -> Result<()> {
    ensure!(cfg!(target_os = "linux"), "counts are taken on Linux");
    install::valgrind(workspace)?;
    let with = TakenWith::here(workspace)?;
    let counter = Counter::build(workspace)?;
    let mut instructions = BTreeMap::new();
    for counted in OPERATIONS {
        // The one in the middle: a single one may be off by what is tolerated later.
        let mut found = [counter.count(counted)?, counter.count(counted)?, counter.count(counted)?];
        found.sort_unstable();
        println!("{:<16}{found:?}", counted.operation);
        instructions.insert(counted.operation.to_owned(), found[1]);
    }
    let path = workspace.path(FILE);
    let text = Expected { with, instructions }.to_text();
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    println!("written to {}", path.display());
    Ok(())
}

/// By how many per cent `found` is more than `wanted`.
fn per_cent_off(found: u64, wanted: u64) -> f64 {
    (found as f64 / wanted as f64 - 1.0) * 100.0
}

/// The contents of the file.
struct Expected {
    with: TakenWith,
    /// Instructions of one operation, by its name.
    instructions: BTreeMap<String, u64>,
}

impl Expected {
    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let with = value["taken_with"].as_object().context("there is no \"taken_with\"")?;
        let with = with.iter().map(|(name, with)| Some((name.clone(), with.as_str()?.to_owned())));
        let counts = value["instructions"].as_object().context("there are no \"instructions\"")?;
        let counts = counts.iter().map(|(name, count)| Some((name.clone(), count.as_u64()?)));
        Ok(Self {
            with: TakenWith(with.collect::<Option<_>>().context("\"taken_with\" is made of strings")?),
            instructions: counts.collect::<Option<_>>().context("\"instructions\" are whole numbers")?,
        })
    }

    fn to_text(&self) -> String {
        let value = json!({ "taken_with": self.with.0, "instructions": self.instructions });
        format!("{value:#}\n")
    }

    fn of(&self, operation: &str) -> Result<u64> {
        let count = self.instructions.get(operation).copied().filter(|count| *count > 0);
        count.with_context(|| format!("{FILE} does not say what {operation} takes: cargo xtask counts --write"))
    }

    /// How many per cent a count made with `with` may be off. Never any number: a check that cannot fail is none.
    fn tolerance(&self, with: &TakenWith) -> f64 {
        if self.with == *with { TOLERANCE } else { LOOSE_TOLERANCE }
    }
}

/// Its name in the file.
const ARCHITECTURE: &str = "architecture";

/// What makes a difference to the counts and is not ours, by name.
#[derive(PartialEq, Eq)]
struct TakenWith(BTreeMap<String, String>);

impl TakenWith {
    fn here(workspace: &Workspace) -> Result<Self> {
        let says = |program: &str, arguments: &[&str]| -> Result<String> {
            Ok(output(workspace.command(program).args(arguments))?.trim().to_owned())
        };
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
        // Copying, comparing and searching bytes are chosen by it at run time.
        let features = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let avx2 = features.split_whitespace().any(|feature| feature == "avx2");
        let processor = if avx2 { "with avx2" } else { "without avx2" };
        let with = [
            (ARCHITECTURE, std::env::consts::ARCH.to_owned()),
            ("rustc", says(&rustc, &["--version"])?),
            ("libc", says("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(|_| "another than glibc".to_owned())),
            ("valgrind", says("valgrind", &["--version"])?),
            ("processor", processor.to_owned()),
        ];
        Ok(Self(with.map(|(name, version)| (name.to_owned(), version)).into()))
    }

    /// Whether counts can be compared at all: instructions of one architecture are not those of another.
    fn is_comparable(&self, there: &Self) -> bool {
        self.0.get(ARCHITECTURE) == there.0.get(ARCHITECTURE)
    }

    /// Name, what it is here, what it is there.
    fn differences<'a>(&'a self, there: &'a Self) -> impl Iterator<Item = (&'a str, &'a str, &'a str)> {
        let names = self.0.keys().chain(there.0.keys().filter(|name| !self.0.contains_key(*name)));
        names.filter_map(move |name| {
            let [here, there] = [self, there].map(|with| with.0.get(name).map_or("", String::as_str));
            (here != there).then_some((name.as_str(), here, there))
        })
    }
}

/// Runs tools/counts under callgrind.
struct Counter<'a> {
    workspace: &'a Workspace,
    program: PathBuf,
}

impl<'a> Counter<'a> {
    fn build(workspace: &'a Workspace) -> Result<Self> {
        let arguments = ["build", "--profile", "counts", "--locked", "-p", "posthaste-counts", "--bin", "counts"];
        crate::workspace::run(&mut workspace.cargo(arguments))?;
        let program = workspace.target()?.join("counts").join(format!("counts{}", std::env::consts::EXE_SUFFIX));
        Ok(Self { workspace, program })
    }

    /// What one operation takes.
    fn count(&self, counted: &Counted) -> Result<u64> {
        let short = self.total(counted.operation, counted.short)?;
        let long = self.total(counted.operation, counted.long)?;
        let more = long.checked_sub(short).context("a longer run took fewer instructions")?;
        Ok(more / (counted.long - counted.short))
    }

    /// What all threads but the first, which is the clients, take for so many operations, and to begin.
    fn total(&self, operation: &str, times: u64) -> Result<u64> {
        let folder = Scratch::new("counts")?;
        let mut valgrind = self.workspace.command("valgrind");
        valgrind.args(["--tool=callgrind", "--separate-threads=yes", "--quiet"]);
        valgrind.arg(format!("--callgrind-out-file={}", folder.path().join("out").display()));
        output(valgrind.arg(&self.program).args([operation, &times.to_string()]))?;
        let mut total = 0;
        for entry in fs::read_dir(folder.path())? {
            total += total_of_thread(&entry?.path())?;
        }
        ensure!(total > 0, "callgrind counted nothing of the server's");
        Ok(total)
    }
}

/// What a file of callgrind's says its thread took; nothing for the first thread, and for the file about all of them.
fn total_of_thread(path: &Path) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (field("thread:"), field("totals:")) {
        (None | Some("1"), _) => Ok(0),
        (Some(_), Some(total)) => total.parse().with_context(|| format!("{total:?} is no number of instructions")),
        (Some(_), None) => bail!("{} has no total", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_with(rustc: &str) -> TakenWith {
        TakenWith([("rustc".to_owned(), rustc.to_owned())].into())
    }

    #[test]
    fn what_is_written_can_be_read() {
        let instructions = [("echo".to_owned(), 11_004)].into();
        let text = Expected { with: taken_with("1.95"), instructions }.to_text();
        let read = Expected::parse(&text).unwrap();
        assert_eq!(read.of("echo").unwrap(), 11_004);
        assert!(read.of("connect").is_err(), "an operation that was never counted");
        assert!(read.with == taken_with("1.95"));
        assert!(Expected::parse("{}").is_err());
    }

    #[test]
    fn another_compiler_may_be_off_by_more_but_not_by_anything() {
        let expected = Expected { with: taken_with("1.95"), instructions: BTreeMap::new() };
        assert_eq!(expected.tolerance(&taken_with("1.95")), TOLERANCE);
        assert_eq!(expected.tolerance(&taken_with("1.96")), LOOSE_TOLERANCE);
        let there = taken_with("1.96");
        assert!(expected.with.is_comparable(&there));
        let differences: Vec<_> = expected.with.differences(&there).collect();
        assert_eq!(differences, [("rustc", "1.95", "1.96")]);
    }

    #[test]
    fn another_architecture_is_not_compared() {
        let on = |architecture: &str| TakenWith([(ARCHITECTURE.to_owned(), architecture.to_owned())].into());
        assert!(!on("x86_64").is_comparable(&on("aarch64")));
    }

    #[test]
    fn a_count_is_off_in_both_directions() {
        assert_eq!(per_cent_off(103, 100).round(), 3.0);
        assert_eq!(per_cent_off(97, 100).round(), -3.0);
    }

    #[test]
    fn the_file_names_every_operation() {
        let expected = Expected::parse(include_str!("../../counts/expected.json")).unwrap();
        for counted in OPERATIONS {
            assert!(expected.of(counted.operation).is_ok(), "{}", counted.operation);
        }
    }
}
