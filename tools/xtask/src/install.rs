//! What the tests need beyond a Rust toolchain, installed where that can be done without asking.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::workspace::{Workspace, is_on_path, output, run};

/// What sets the clock of one process alone, without its architecture's folder: the client tests have a server's jump.
const FAKETIME: &str = "faketime/libfaketime.so.1";

/// The browser tests start this very file.
const CHROMIUM: &str = "/usr/bin/chromium";

/// The oldest Node whose npm installs the modules of tests/clients; the tests run on the Node among those.
const OLDEST_NODE: u32 = 18;

/// Inside node_modules: the package-lock.json it was made from. A copy tells more than a time stamp, which every
/// checkout renews.
const MODULES_STAMP: &str = ".made-from-package-lock.json";

/// Inside the virtual environment: the version of Python and the requirements.txt that it was made from.
const PYTHON_STAMP: &str = ".made-from-requirements.txt";

/// Fails unless `python3` is new enough for tests/clients/python/requirements.txt and can make virtual environments.
const PYTHON_PROBE: &str = "import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))";

/// Installs the Debian packages whose programs are missing.
///
/// # Errors
/// They cannot be installed from here (no `apt-get`, or neither root nor password-less `sudo`), `apt-get` failed, or
/// the distribution's packages are too old.
pub(crate) fn packages(workspace: &Workspace) -> Result<String> {
    let missing = missing_packages(workspace);
    if missing.is_empty() {
        return Ok("all there".into());
    }
    let list = missing.join(" ");
    let wish = format!(
        "please install {list} (Node {OLDEST_NODE} and Python 3.11 or newer, Chromium as {CHROMIUM}) and start again, or \
         --skip packages"
    );
    apt_install(workspace, &missing, &wish)?;

    let still = missing_packages(workspace);
    ensure!(still.is_empty(), "{} came too old or not at all; {wish}", still.join(" "));
    Ok(format!("installed {list}"))
}

/// Installs a C++ compiler if there is none: libFuzzer is written in it.
///
/// # Errors
/// It is missing and cannot be installed from here, or `apt-get` failed.
pub(crate) fn cxx_compiler(workspace: &Workspace) -> Result<()> {
    if std::env::var_os("CXX").is_some() || ["c++", "g++", "clang++"].into_iter().any(is_on_path) {
        return Ok(());
    }
    apt_install(workspace, &["g++"], "please install a C++ compiler and start again")
}

/// Installs valgrind if it is missing.
///
/// # Errors
/// It cannot be installed from here, or `apt-get` failed.
pub(crate) fn valgrind(workspace: &Workspace) -> Result<()> {
    if is_on_path("valgrind") {
        return Ok(());
    }
    apt_install(workspace, &["valgrind"], "please install valgrind and start again, or --skip counts")
}

/// Installs Debian packages; where that cannot be done, `wish` says what the user may do.
fn apt_install(workspace: &Workspace, packages: &[&str], wish: &str) -> Result<()> {
    ensure!(is_on_path("apt-get"), "{wish}; this is no Debian system");
    let sudo: &[&str] = if is_root(workspace) {
        &[]
    } else if output(workspace.command("sudo").args(["-n", "true"])).is_ok() {
        &["sudo", "-n"]
    } else {
        bail!("{wish}; this user is not root and sudo asks for a password");
    };

    let apt_get = |arguments: &[&str]| {
        let line = [sudo, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], arguments].concat();
        run(workspace.command(line[0]).args(&line[1..]))
    };
    apt_get(&["update"])?;
    let install = ["install", "-y", "--no-install-recommends"];
    apt_get(&[&install[..], packages].concat())
}

fn missing_packages(workspace: &Workspace) -> Vec<&'static str> {
    let node = output(workspace.command("node").arg("--version"));
    let has_node = node.is_ok_and(|version| node_major(&version).is_some_and(|it| it >= OLDEST_NODE));
    let mut missing = Vec::new();
    if !Path::new(CHROMIUM).exists() {
        missing.push("chromium");
    }
    if !has_node {
        missing.push("nodejs");
    }
    // Other builds of Node than Debian's bring npm along.
    if !is_on_path("npm") {
        missing.push("npm");
    }
    if !is_on_path("python3") {
        missing.push("python3");
    }
    if !is_on_path("valgrind") {
        missing.push("valgrind");
    }
    if !has_faketime() {
        missing.push("libfaketime");
    }
    // For the client in Rust.
    if !is_on_path("pkg-config") {
        missing.push("pkg-config");
    }
    if output(workspace.command("pkg-config").args(["--exists", "openssl"])).is_err() {
        missing.push("libssl-dev");
    }
    // Debian keeps what makes virtual environments in a package of its own.
    if output(workspace.command("python3").args(["-c", PYTHON_PROBE])).is_err() {
        missing.push("python3-venv");
    }
    missing
}

fn has_faketime() -> bool {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten();
    folders.flatten().any(|folder| folder.path().join(FAKETIME).exists())
}

/// 18 of `v18.20.4`.
fn node_major(version: &str) -> Option<u32> {
    let (major, _) = version.trim().strip_prefix('v')?.split_once('.')?;
    major.parse().ok()
}

fn is_root(workspace: &Workspace) -> bool {
    output(workspace.command("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Adds rustfmt and clippy to the toolchain: rustup's minimal profile has neither.
///
/// # Errors
/// They are missing and there is no rustup, or it failed.
pub(crate) fn components(workspace: &Workspace) -> Result<String> {
    let mut missing = Vec::new();
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if output(&mut workspace.cargo([subcommand, "--version"])).is_err() {
            missing.push(component);
        }
    }
    if missing.is_empty() {
        return Ok("all there".into());
    }
    let list = missing.join(" ");
    ensure!(is_on_path("rustup"), "please install {list} for this Rust toolchain and start again");
    let add = ["component", "add"];
    run(workspace.command("rustup").args(add).args(missing))?;
    Ok(format!("installed {list}"))
}

/// `npm ci` in tests/clients, unless node_modules was made from this very package-lock.json.
///
/// # Errors
/// There is no package-lock.json, or npm failed.
pub(crate) fn modules(workspace: &Workspace) -> Result<String> {
    let folder = workspace.path("tests/clients");
    let lock = folder.join("package-lock.json");
    let stamp = folder.join("node_modules").join(MODULES_STAMP);
    let wanted = fs::read(&lock).with_context(|| format!("reading {}", lock.display()))?;
    if fs::read(&stamp).is_ok_and(|made_from| made_from == wanted) {
        return Ok("up to date".into());
    }
    // npm removes node_modules first, and with it the stamp: an interrupted installation is not taken for a whole one.
    let mut npm = workspace.command("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
    run(npm.current_dir(&folder))?;
    // A lock file without packages leaves no folder.
    fs::create_dir_all(folder.join("node_modules"))?;
    fs::write(&stamp, wanted).with_context(|| format!("writing {}", stamp.display()))?;
    Ok("installed".into())
}

/// The Python of the virtual environment that [`python_modules`] makes.
pub(crate) fn python_program(workspace: &Workspace) -> Result<PathBuf> {
    Ok(python_folder(workspace)?.join("bin").join("python"))
}

fn python_folder(workspace: &Workspace) -> Result<PathBuf> {
    Ok(workspace.target()?.join("clients-python"))
}

/// A virtual environment with tests/clients/python/requirements.txt, unless there is one that was made from this very
/// file by this very Python.
///
/// # Errors
/// There is no requirements.txt, or Python or its pip failed.
pub(crate) fn python_modules(workspace: &Workspace) -> Result<String> {
    let requirements = workspace.path("tests/clients/python/requirements.txt");
    let folder = python_folder(workspace)?;
    let program = python_program(workspace)?;
    let stamp = folder.join(PYTHON_STAMP);
    let list = fs::read_to_string(&requirements).with_context(|| format!("reading {}", requirements.display()))?;
    // The environment borrows its interpreter from the system: a new minor version looks for modules elsewhere.
    let made_from = |version: &str| format!("{}\n{list}", version.trim());
    let version = output(workspace.command(&program).arg("--version"));
    if let Ok(version) = version
        && fs::read_to_string(&stamp).is_ok_and(|stamp| stamp == made_from(&version))
    {
        return Ok("up to date".into());
    }
    // The stamp goes first, and comes last: an interrupted installation is not taken for a whole one.
    run(workspace.command("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(workspace.command(&program).args(pip).arg(&requirements))?;
    let version = output(workspace.command(&program).arg("--version"))?;
    fs::write(&stamp, made_from(&version)).with_context(|| format!("writing {}", stamp.display()))?;
    Ok("installed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_of_node_is_read() {
        for (version, expected) in
            [("v18.20.4\n", Some(18)), ("v9.0.0", Some(9)), ("20.1.0", None), ("v20", None), ("vx.1", None), ("", None)]
        {
            assert_eq!(node_major(version), expected, "{version:?}");
        }
    }
}
