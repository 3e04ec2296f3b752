//! `posthaste-fuzz`: what there is to fuzz, what to start from, and a counterexample once more.
//!
//! ```text
//! posthaste-fuzz list                        names of the targets
//! posthaste-fuzz seeds TARGET FOLDER         writes the inputs to start from
//! posthaste-fuzz dictionary TARGET FILE      writes the pieces that inputs are made of, in libFuzzer's form
//! posthaste-fuzz replay TARGET FILE...       runs inputs once; a broken law panics
//! ```

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use posthaste_fuzz::{TARGETS, Target, find};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match (arguments.as_slice(), arguments.get(1).and_then(|name| find(name))) {
        (["list"], _) => {
            TARGETS.iter().for_each(|target| println!("{:<20}{}", target.name, target.about));
            Ok(())
        }
        (["seeds", _, folder], Some(target)) => write_seeds(target, folder.as_ref()),
        (["dictionary", _, file], Some(target)) => fs::write(file, dictionary(target)),
        (["replay", _, files @ ..], Some(target)) => files.iter().try_for_each(|file| replay(target, file.as_ref())),
        _ => {
            Err(io::Error::other("usage: list | seeds TARGET FOLDER | dictionary TARGET FILE | replay TARGET FILE..."))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_seeds(target: &Target, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    target
        .seeds
        .iter()
        .enumerate()
        .try_for_each(|(number, seed)| fs::write(folder.join(format!("seed-{number}")), seed))
}

/// One quoted word per line.
fn dictionary(target: &Target) -> String {
    let mut lines = String::new();
    for word in target.words {
        lines.push('"');
        word.iter().for_each(|byte| write!(lines, "\\x{byte:02x}").expect("invariant: a string takes all"));
        lines.push_str("\"\n");
    }
    lines
}

fn replay(target: &Target, file: &Path) -> io::Result<()> {
    let input = fs::read(file)?;
    println!("{}: {}", file.display(), input.escape_ascii());
    (target.run)(&input);
    Ok(())
}
