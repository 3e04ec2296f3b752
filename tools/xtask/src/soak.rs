//! `cargo xtask soak`: builds the conformance app and the load, and lets the load do the rest; `soak crash` kills the binary.

use anyhow::Result;

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
