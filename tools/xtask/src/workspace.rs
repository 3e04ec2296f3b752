//! Where the workspace is, and how other programs are started in it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The checked-out workspace this program was started in.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    pub(crate) fn here() -> Self {
        // What `cargo run` says now goes before what was true when compiling: two checkouts that share a target
        // folder also share this program.
        let this_crate = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&this_crate).ancestors().nth(2).expect("invariant: this crate lies in tools/xtask");
        Self { root: root.into() }
    }

    /// A path inside the workspace.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside)
    }

    /// The cargo that runs us, with `arguments`.
    pub(crate) fn cargo<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = self.command(cargo);
        command.args(arguments);
        // Incremental artefacts are never used again in CI, and are the larger half of a target folder.
        if std::env::var_os("CI").is_some() {
            command.env("CARGO_INCREMENTAL", "0");
        }
        command
    }

    /// `program`, to be started at the workspace's root.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        // `cargo run` describes this crate to us. Passed on, that would tell some build scripts that everything
        // changed, and the same command typed by hand would build it all again.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    /// What `cargo metadata` says about the workspace's members; their dependencies are not resolved.
    pub(crate) fn metadata(&self) -> Result<Value> {
        let text = output(self.cargo(["metadata", "--no-deps", "--format-version=1"]).stderr(Stdio::inherit()))?;
        serde_json::from_str(&text).context("reading the answer of cargo metadata")
    }

    /// Where cargo builds.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        let metadata = self.metadata()?;
        Ok(metadata["target_directory"].as_str().context("cargo metadata names no target directory")?.into())
    }

    /// The platform that we run on, as compilers name it.
    pub(crate) fn host(&self) -> Result<String> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let about = output(self.command(rustc).arg("-vV"))?;
        let host = about.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(host.context("rustc does not name its host")?.to_owned())
    }
}

/// Prints and runs `command`; its output goes where ours goes.
///
/// # Errors
/// It could not be started, or did not end with success.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("starting {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// What `command` writes to its standard output.
///
/// # Errors
/// It could not be started, did not end with success, or wrote something else than UTF-8.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command.output().with_context(|| format!("starting {line}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{line}: {}\n{}", output.status, complaint.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("reading the answer of {line}"))
}

/// Whether a program of this name is on the `PATH`.
pub(crate) fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The command as one would type it, the program by its name alone.
fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut line = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
