//! `cargo xtask soak`: builds the conformance app and the load, and lets the load do the rest; `soak crash` and `soak queue` kill the
//! binary, `soak store` has the store on the disk tested with more seeds than anybody waits for after every change.

use anyhow::{Context as _, Result, bail};

use crate::install;
use crate::workspace::{Workspace, run};

/// Builds both in release and runs the load, which starts the server; `arguments` are the load's own.
///
/// # Errors
/// Something did not build, or something was left behind: the load's output says what.
pub(crate) fn soak(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if let Some((kind, rest)) = arguments.split_first() {
        match kind.as_str() {
            "crash" => return killed(workspace, "crash.mjs", rest),
            "queue" => return killed(workspace, "queue-soak.mjs", rest),
            "store" => return store(workspace, rest),
            _ => {}
        }
    }
    let packages = ["-p", "posthaste-conformance", "-p", "posthaste-soak"];
    run(workspace.cargo(["build", "--release", "--locked"]).args(packages))?;
    let release = workspace.target()?.join("release");
    let program = |name: &str| release.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    run(workspace
        .command(program("posthaste-soak"))
        .arg("--server")
        .arg(program("posthaste-conformance"))
        .args(arguments))
}

/// Builds the binary in release and has it killed again and again under official clients, by a script in `tests/clients`.
fn killed(workspace: &Workspace, script: &str, arguments: &[String]) -> Result<()> {
    println!("npm modules: {}", install::modules(workspace)?);
    run(&mut workspace.cargo(["build", "--release", "--locked", "-p", "posthaste-standalone"]))?;
    let program = workspace.target()?.join("release").join(format!("posthaste{}", std::env::consts::EXE_SUFFIX));
    let mut node = workspace.command("node");
    node.arg(script).current_dir(workspace.path("tests/clients")).env("POSTHASTE_BIN", program);
    if arguments.is_empty() {
        node.args(["--rounds", "1000"]);
    }
    // Those of its clients that are in Python are left out where it was not installed.
    let python = install::python_program(workspace)?;
    if python.is_file() {
        node.env("PYTHON_BIN", python);
    }
    run(node.args(arguments))
}

/// Power cuts, histories and kills: so many power cuts as there are seeds, a quarter as many histories, and a twentieth as many kills;
/// under queues so many histories with power cuts, and a quarter as many with disks that fail.
fn store(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let seeds: u32 = match arguments {
        [] => 2_000,
        [flag, seeds] if flag == "--seeds" => {
            seeds.parse().with_context(|| format!("{seeds:?} is no number of seeds"))?
        }
        _ => bail!("soak store takes --seeds N, and nothing else"),
    };
    for (test, name, variable, count) in [
        ("trouble", "a_power_cut_loses_nothing_that_was_synced", "POSTHASTE_POWER_CUTS", seeds),
        ("contract", "the_store_and_the_model_agree_after_any_history", "POSTHASTE_HISTORIES", seeds / 4),
        ("kill", "every_receipt_is_kept_through_kills", "POSTHASTE_KILLS", seeds / 20),
        ("queue_power", "a_power_cut_takes_nothing_back_that_queues_promised", "POSTHASTE_QUEUE_CUTS", seeds),
        (
            "queue_power",
            "a_disk_that_fails_takes_nothing_back_that_queues_promised",
            "POSTHASTE_QUEUE_FAILURES",
            seeds / 4,
        ),
    ] {
        println!("{name}: {count} times");
        let arguments = ["test", "--release", "--locked", "-p", "posthaste-backend-embedded", "--test", test, name];
        run(workspace.cargo(arguments).env(variable, count.max(1).to_string()))?;
    }
    Ok(())
}
