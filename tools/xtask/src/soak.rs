//! `cargo xtask soak`: builds the conformance app and the load, and lets the load do the rest.

use anyhow::Result;

use crate::workspace::{Workspace, run};

/// Builds both in release and runs the load, which starts the server; `arguments` are the load's own.
///
/// # Errors
/// Something did not build, or something was left behind: the load's output says what.
pub(crate) fn soak(workspace: &Workspace, arguments: &[String]) -> Result<()> {
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
