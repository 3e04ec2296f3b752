//! `cargo xtask soak`: builds the conformance app and the load, and lets the load do the rest; `soak crash` kills the binary,
//! `soak store` has the store on the disk tested with more seeds than anybody waits for after every change.

use anyhow::{Context as _, Result, bail};

use crate::workspace::{Workspace, run};

/// Builds both in release and runs the load, which starts the server; `arguments` are the load's own.
///
/// # Errors
/// Something did not build, or something was left behind: the load's output says what.
pub(crate) fn soak(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    if let Some((kind, rest)) = arguments.split_first()
        && kind == "crash"
    {
        return crash(workspace, rest);
    }
    if let Some((kind, rest)) = arguments.split_first()
        && kind == "store"
    {
        return store(workspace, rest);
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

/// Builds the binary in release and has it killed again and again under official clients (`tests/clients/crash.mjs`).
fn crash(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    run(&mut workspace.cargo(["build", "--release", "--locked", "-p", "posthaste-standalone"]))?;
    let program = workspace.target()?.join("release").join(format!("posthaste{}", std::env::consts::EXE_SUFFIX));
    let rounds: &[&str] = if arguments.is_empty() { &["--rounds", "1000"] } else { &[] };
    run(workspace
        .command("node")
        .arg("crash.mjs")
        .args(rounds)
        .args(arguments)
        .current_dir(workspace.path("tests/clients"))
        .env("POSTHASTE_BIN", program))
}

/// Power cuts, histories and kills: so many power cuts as there are seeds, a quarter as many histories, and a twentieth as many kills.
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
    ] {
        println!("{name}: {count} times");
        let arguments = ["test", "--release", "--locked", "-p", "posthaste-backend-embedded", "--test", test, name];
        run(workspace.cargo(arguments).env(variable, count.max(1).to_string()))?;
    }
    Ok(())
}
