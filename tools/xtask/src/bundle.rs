//! `cargo xtask bundle`: fetches the browser client that the server serves.
//!
//! The files under crates/server/assets/client are committed, so only a new client version needs this, and npm.
//! They are the published ones byte for byte, each once more as `.gz` and as `.br`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::scratch::Scratch;
use crate::workspace::{Workspace, output, run};

const PACKAGE: &str = "socket.io-client";

/// The version in use, and the checksum it was published with: the same command gives the same files for ever.
const VERSION: &str = "4.8.4";
const INTEGRITY: &str =
    "sha512-7wjKAvVXYOJsbmUgkWbnhPD4bFpkqrUR0++XOjpGFmqDqsqV1CI93VTraeExLxpjxEqrWgFoSRZu1ihjLWfkAA==";

const SCRIPTS: [&str; 4] = ["socket.io.js", "socket.io.min.js", "socket.io.esm.min.js", "socket.io.msgpack.min.js"];

/// Compresses the files it is given as hard as possible, and reads back what it wrote.
const COMPRESS: &str = r#"
const fs = require("node:fs");
const zlib = require("node:zlib");
for (const path of process.argv.slice(1)) {
  const raw = fs.readFileSync(path);
  const gzip = zlib.gzipSync(raw, { level: 9 });
  const { BROTLI_PARAM_QUALITY, BROTLI_PARAM_SIZE_HINT } = zlib.constants;
  const params = { [BROTLI_PARAM_QUALITY]: 11, [BROTLI_PARAM_SIZE_HINT]: raw.length };
  const brotli = zlib.brotliCompressSync(raw, { params });
  if (!zlib.gunzipSync(gzip).equals(raw) || !zlib.brotliDecompressSync(brotli).equals(raw)) {
    throw new Error(path + " does not survive compression");
  }
  fs.writeFileSync(path + ".gz", gzip);
  fs.writeFileSync(path + ".br", brotli);
}
"#;

/// Replaces the files with those of the version that `arguments` name, [`VERSION`] by default. With `--helper` it compresses our own
/// `posthaste-recovery.js` alone, which needs no network.
///
/// # Errors
/// npm, tar or Node is missing or failed, or the package is not what it was when [`INTEGRITY`] was written down.
pub(crate) fn update(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let helper = workspace.path("crates/server/assets/posthaste-recovery.js");
    let version = match arguments[..] {
        ["--helper"] => return compress(workspace, &[helper]),
        [] => VERSION,
        ["--version", version] => version,
        [argument] if argument.starts_with("--version=") => &argument["--version=".len()..],
        _ => bail!("unknown option {:?}; see cargo xtask help", arguments.join(" ")),
    };

    let scratch = Scratch::new("bundle")?;
    let package = fetch(workspace, version, scratch.path())?;
    if package.version == VERSION {
        ensure!(
            package.integrity == INTEGRITY,
            "{PACKAGE} {VERSION} has the checksum {}, and had {INTEGRITY}",
            package.integrity
        );
    } else {
        println!("to stay with {}, put this into tools/xtask/src/bundle.rs:", package.version);
        println!("const VERSION: &str = {:?};", package.version);
        println!("const INTEGRITY: &str = {:?};", package.integrity);
    }

    let assets = workspace.path("crates/server/assets/client");
    fs::create_dir_all(&assets).with_context(|| format!("creating {}", assets.display()))?;
    let mut paths = Vec::new();
    for script in SCRIPTS {
        for name in [script.to_string(), format!("{script}.map")] {
            let path = assets.join(&name);
            copy(&package.folder.join("dist").join(name), &path)?;
            paths.push(path);
        }
    }
    copy(&package.folder.join("LICENSE"), &assets.join("LICENSE"))?;
    fs::write(assets.join("VERSION"), format!("{}\n", package.version)).context("writing VERSION")?;
    paths.push(helper);
    compress(workspace, &paths)?;
    println!("{PACKAGE} {} is in {}", package.version, assets.display());
    Ok(())
}

fn compress(workspace: &Workspace, paths: &[PathBuf]) -> Result<()> {
    let compressed = output(workspace.command("node").args(["-e", COMPRESS, "--"]).args(paths));
    compressed.context("compressing").map(drop)
}

/// An unpacked npm package.
struct Package {
    folder: PathBuf,
    version: String,
    integrity: String,
}

fn fetch(workspace: &Workspace, version: &str, into: &Path) -> Result<Package> {
    let mut pack = workspace.command("npm");
    pack.args(["pack", "--json", &format!("{PACKAGE}@{version}")]);
    let answer = output(pack.current_dir(into))?;
    let answer: Value = serde_json::from_str(&answer).context("reading the answer of npm pack")?;
    let field = |name: &str| {
        let text = answer[0][name].as_str().map(String::from);
        text.with_context(|| format!("npm pack states no {name}"))
    };
    let mut tar = workspace.command("tar");
    tar.args(["-xzf", &field("filename")?]);
    run(tar.current_dir(into))?;
    Ok(Package {
        folder: into.join("package"), // npm names the top folder so in every package
        version: field("version")?,
        integrity: field("integrity")?,
    })
}

/// Copies contents only: the permissions of the package are none of ours.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
    fs::write(to, bytes).with_context(|| format!("writing {}", to.display()))
}
