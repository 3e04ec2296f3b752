//! The steps of `cargo xtask test`, in the order in which they run: first what is missing, then what is quick.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::workspace::{Workspace, run};
use crate::{counts, floors, install};

/// One thing that must hold, or must be there.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Earlier steps without which this one makes no sense.
    pub(crate) needs: &'static [&'static str],
    /// Returns a remark for the summary, mostly an empty one.
    pub(crate) run: fn(&Workspace) -> Result<String>,
}

pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "packages",
        about: "Debian packages the tests need: chromium, libfaketime, libssl-dev, nodejs, npm, pkg-config, python3, valgrind",
        needs: &[],
        run: install::packages,
    },
    Step {
        name: "components",
        about: "parts of the Rust toolchain: rustfmt, clippy",
        needs: &[],
        run: install::components,
    },
    Step { name: "modules", about: "npm modules of tests/clients", needs: &["packages"], run: install::modules },
    Step {
        name: "python",
        about: "python-socketio in a virtual environment",
        needs: &["packages"],
        run: install::python_modules,
    },
    Step {
        name: "fmt",
        about: "the code is formatted",
        needs: &["components"],
        run: |workspace| {
            cargo(workspace, &["fmt", "--all", "--check"])?;
            cargo(workspace, &["fmt", "--manifest-path", RUST_CLIENTS, "--check"])
        },
    },
    Step {
        name: "floors",
        about: "imports point down and the ground floor does no I/O",
        needs: &[],
        run: floors::check,
    },
    Step {
        name: "clippy",
        about: "no warning from compiler or clippy",
        needs: &["components"],
        run: |workspace| {
            let check = ["clippy", "--workspace", "--all-targets", "--locked"];
            cargo(workspace, &[&check[..], &["--", "-D", "warnings"]].concat())
        },
    },
    Step {
        name: "test",
        about: "unit, integration and documentation tests",
        needs: &[],
        run: |workspace| cargo(workspace, &["test", "--workspace", "--locked"]),
    },
    Step {
        name: "counts",
        about: "the hot paths take as many instructions as before",
        needs: &["packages"],
        run: counts::check,
    },
    Step { name: "doc", about: "the documentation builds, and its links lead somewhere", needs: &[], run: document },
    Step { name: "binaries", about: "the servers that the client tests talk to", needs: &[], run: build_binaries },
    Step {
        name: "rust",
        about: "the program that drives rust_socketio",
        needs: &["packages"],
        run: build_rust_clients,
    },
    Step {
        name: "clients",
        about: "clients of several versions, in Node, in a browser, in Python and in Rust, against our servers",
        needs: &["packages", "modules", "python", "binaries", "rust"],
        run: test_clients,
    },
];

/// A server the client tests start: its package, its binary, and the variable that tells them where it is.
struct Binary {
    package: &'static str,
    name: &'static str,
    variable: &'static str,
}

const BINARIES: [Binary; 2] = [
    Binary { package: "posthaste-standalone", name: "posthaste", variable: "POSTHASTE_BIN" },
    Binary { package: "posthaste-conformance", name: "posthaste-conformance", variable: "CONFORMANCE_BIN" },
];

/// A client in Rust, in a workspace of its own.
const RUST_CLIENTS: &str = "tests/clients/rust/Cargo.toml";
const RUST_CLIENTS_NAME: &str = "posthaste-clients-rust";

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    run(&mut workspace.cargo(arguments))?;
    Ok(String::new())
}

fn document(workspace: &Workspace) -> Result<String> {
    let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps", "--locked"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(String::new())
}

fn build_binaries(workspace: &Workspace) -> Result<String> {
    let packages = BINARIES.iter().flat_map(|binary| ["-p", binary.package]);
    run(workspace.cargo(["build", "--locked"]).args(packages))?;
    Ok(String::new())
}

/// Builds the client into our target folder, where its rest is thrown away with ours.
fn build_rust_clients(workspace: &Workspace) -> Result<String> {
    let mut build = workspace.cargo(["build", "--locked", "--manifest-path", RUST_CLIENTS, "--target-dir"]);
    run(build.arg(workspace.target()?))?;
    Ok(String::new())
}

/// `npm test` in tests/clients. What a failing test leaves behind (logs, screenshots) goes to test-output.
fn test_clients(workspace: &Workspace) -> Result<String> {
    let target = workspace.target()?;
    let output = workspace.path("test-output");
    fs::create_dir_all(&output).with_context(|| format!("creating {}", output.display()))?;

    let mut npm = workspace.command("npm");
    npm.arg("test").current_dir(workspace.path("tests/clients")).env("TEST_OUTPUT", output);
    let servers = BINARIES.iter().map(|binary| (binary.name, binary.variable));
    for (name, variable) in servers.chain([(RUST_CLIENTS_NAME, "RUST_CLIENTS_BIN")]) {
        let path = target.join("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        ensure!(path.is_file(), "{} is not built", path.display());
        npm.env(variable, path);
    }
    // Without this variable, the tests would leave Python out.
    let python = install::python_program(workspace)?;
    ensure!(python.is_file(), "{} is not there", python.display());
    run(npm.env("PYTHON_BIN", python))?;
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_needs_only_steps_before_it() {
        for (position, step) in STEPS.iter().enumerate() {
            for need in step.needs {
                let earlier = STEPS[..position].iter().any(|step| step.name == *need);
                assert!(earlier, "{} needs {need}", step.name);
            }
        }
    }
}
