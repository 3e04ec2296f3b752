//! The floor plan, checked: imports point down, and the ground floor does no I/O.
//!
//! ```text
//! roof     standalone
//! second   server ─► engine · load
//! wing     backend-embedded
//! first    adapter · history
//! ground   socket-proto ─► engine-proto ─► websocket-proto
//! ```
//!
//! A crate may use crates of lower storeys only; a floor with arrows inside has several. Tools and examples stand
//! beside the house: they use what they like, and the house uses them for its tests only.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::workspace::{Workspace, output, run};

/// Crates that do not see each other, one above the storey before it.
struct Storey {
    floor: &'static str,
    packages: &'static [&'static str],
}

/// From the ground up. A new crate under crates/ gets its place here.
const HOUSE: &[Storey] = &[
    Storey { floor: GROUND, packages: &["posthaste-websocket-proto"] },
    Storey { floor: GROUND, packages: &["posthaste-engine-proto"] },
    Storey { floor: GROUND, packages: &["posthaste-socket-proto"] },
    Storey { floor: "first", packages: &["posthaste-adapter", "posthaste-history"] },
    Storey { floor: "first", packages: &["posthaste-queue"] },
    Storey { floor: "wing", packages: &["posthaste-backend-embedded"] },
    Storey { floor: "second", packages: &["posthaste-engine", "posthaste-load"] },
    Storey { floor: "second", packages: &["posthaste"] },
    Storey { floor: "roof", packages: &["posthaste-standalone"] },
];

const GROUND: &str = "ground";

/// Crates that touch sockets, threads or clocks, or exist to run those that do. Each name stands for its family:
/// `tokio` also for `tokio-util`.
const IO_FAMILIES: &[&str] = &[
    "actix",
    "async-io",
    "async-std",
    "axum",
    "compio",
    "crossbeam",
    "futures",
    "h2",
    "hyper",
    "mio",
    "monoio",
    "native-tls",
    "polling",
    "quinn",
    "rayon",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tower",
    "tungstenite",
];

const WASM: &str = "wasm32-unknown-unknown";

/// Checks the whole plan and returns a remark for a summary.
///
/// # Errors
/// Names every import that does not point down, every I/O crate found on the ground floor, or the failed build.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let members = read_members(&workspace.metadata()?)?;
    let mut complaints = complaints_about(&members);
    for package in ground() {
        for name in libraries_of(workspace, package)? {
            if is_io(&name) {
                complaints.push(format!("{package} is on the ground floor and must not use {name}"));
            }
        }
    }
    if !complaints.is_empty() {
        bail!("the floor plan is broken:\n  {}", complaints.join("\n  "));
    }
    println!("imports of {} crates point down; no I/O on the ground floor", members.len());
    build_without_system(workspace)
}

fn ground() -> impl Iterator<Item = &'static str> {
    HOUSE.iter().filter(|storey| storey.floor == GROUND).flat_map(|storey| storey.packages.iter().copied())
}

/// A workspace member as its manifest describes it.
struct Member {
    name: String,
    /// Under crates/, not one of the tools and examples.
    in_house: bool,
    imports: Vec<Import>,
}

struct Import {
    name: String,
    /// A dev-dependency.
    tests_only: bool,
}

fn read_members(metadata: &Value) -> Result<Vec<Member>> {
    let text = |value: &Value| value.as_str().map(String::from);
    let root = metadata["workspace_root"].as_str().context("cargo metadata names no root")?;
    let house = Path::new(root).join("crates");
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let member = |package: &Value| {
        let imports = package["dependencies"].as_array()?.iter().map(|dependency| {
            Some(Import { name: text(&dependency["name"])?, tests_only: dependency["kind"] == "dev" })
        });
        Some(Member {
            name: text(&package["name"])?,
            in_house: Path::new(package["manifest_path"].as_str()?).starts_with(&house),
            imports: imports.collect::<Option<_>>()?,
        })
    };
    let members = packages.iter().map(member).collect::<Option<_>>();
    members.context("cargo metadata describes a package in an unknown way")
}

fn complaints_about(members: &[Member]) -> Vec<String> {
    let height = |name: &str| HOUSE.iter().position(|storey| storey.packages.contains(&name));
    let mut complaints = Vec::new();
    for member in members.iter().filter(|member| member.in_house) {
        let name = &member.name;
        let Some(own_height) = height(name) else {
            complaints.push(format!("{name} has no place in the plan (HOUSE in tools/xtask/src/floors.rs)"));
            continue;
        };
        for import in &member.imports {
            let Some(imported) = members.iter().find(|other| other.name == import.name) else {
                continue; // not ours
            };
            match height(&imported.name) {
                Some(below) if below < own_height => {}
                None if import.tests_only => {}
                Some(_) => complaints.push(format!("{name} must not use {}, which is not below it", import.name)),
                None => complaints.push(format!("{name} must not use {} outside its tests", import.name)),
            }
        }
    }
    complaints
}

/// Every crate that `package` links, itself included, whatever the features and the target.
fn libraries_of(workspace: &Workspace, package: &str) -> Result<Vec<String>> {
    let tree = output(
        workspace
            .cargo(["tree", "--locked", "--edges=normal", "--all-features"])
            .args(["--target=all", "--prefix=none", "--format={p}", "--package", package])
            .stderr(Stdio::inherit()),
    )?;
    let names = tree.lines().filter_map(|line| line.split_whitespace().next());
    Ok(names.map(String::from).collect())
}

fn is_io(name: &str) -> bool {
    IO_FAMILIES.iter().any(|family| {
        let rest = name.strip_prefix(family);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
    })
}

/// Builds the ground floor for a target that has no operating system, where that target is installed.
fn build_without_system(workspace: &Workspace) -> Result<String> {
    let installed = output(workspace.command("rustup").args(["target", "list", "--installed"]));
    if !installed.is_ok_and(|list| list.lines().any(|target| target == WASM)) {
        return Ok(format!("build for {WASM} skipped, target not installed"));
    }
    let packages = ground().flat_map(|package| ["--package", package]);
    run(workspace.cargo(["build", "--locked", "--lib", "--target", WASM]).args(packages))?;
    Ok(format!("also built for {WASM}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, in_house: bool, imports: &[(&str, bool)]) -> Member {
        let import = |(name, tests_only): &(&str, bool)| Import { name: (*name).into(), tests_only: *tests_only };
        Member { name: name.into(), in_house, imports: imports.iter().map(import).collect() }
    }

    /// What is said about `name` when it imports `import`, in a workspace with a tool and three storeys.
    fn complaints(name: &str, import: (&str, bool)) -> Vec<String> {
        let mut members = vec![
            member("posthaste-testkit", false, &[("posthaste", false)]),
            member("posthaste-engine-proto", true, &[]),
            member("posthaste-websocket-proto", true, &[]),
            member("posthaste-adapter", true, &[]),
            member("posthaste", true, &[]),
        ];
        members.retain(|member| member.name != name);
        members.push(member(name, true, &[import]));
        complaints_about(&members)
    }

    #[test]
    fn imports_may_point_down() {
        for (name, import) in [
            ("posthaste", ("posthaste-adapter", false)),
            ("posthaste", ("posthaste-engine-proto", false)),
            ("posthaste-adapter", ("posthaste-engine-proto", true)),
            ("posthaste-engine-proto", ("posthaste-websocket-proto", false)),
            ("posthaste-engine-proto", ("bytes", false)),
            ("posthaste-engine-proto", ("posthaste-testkit", true)),
        ] {
            assert_eq!(complaints(name, import), [""; 0], "{name}");
        }
    }

    #[test]
    fn imports_may_not_point_up_or_sideways_or_out_of_the_house() {
        for (name, import, complaint) in [
            ("posthaste-adapter", ("posthaste", false), "is not below it"),
            ("posthaste-adapter", ("posthaste", true), "is not below it"),
            ("posthaste-websocket-proto", ("posthaste-engine-proto", false), "is not below it"),
            ("posthaste", ("posthaste-testkit", false), "outside its tests"),
            ("posthaste-novelty", ("posthaste", false), "has no place in the plan"),
        ] {
            let complaints = complaints(name, import);
            assert_eq!(complaints.len(), 1, "{name}: {complaints:?}");
            assert!(complaints[0].starts_with(name), "{complaints:?}");
            assert!(complaints[0].contains(complaint), "{complaints:?}");
        }
    }

    #[test]
    fn members_are_read_from_what_cargo_writes() {
        let metadata = serde_json::json!({
            "workspace_root": "/src",
            "packages": [
                {
                    "name": "posthaste-adapter",
                    "manifest_path": "/src/crates/adapter/Cargo.toml",
                    "dependencies": [{"name": "bytes", "kind": null}, {"name": "proptest", "kind": "dev"}],
                },
                {"name": "posthaste-xtask", "manifest_path": "/src/tools/xtask/Cargo.toml", "dependencies": []},
            ],
        });
        let members = read_members(&metadata).unwrap();
        let [adapter, xtask] = &members[..] else { panic!("two members") };
        assert!(adapter.in_house && !xtask.in_house);
        let imports: Vec<_> = adapter.imports.iter().map(|it| (it.name.as_str(), it.tests_only)).collect();
        assert_eq!(imports, [("bytes", false), ("proptest", true)]);
        assert!(read_members(&serde_json::json!({"workspace_root": "/src", "packages": [{}]})).is_err());
    }

    #[test]
    fn a_name_stands_for_its_family_of_crates() {
        for (name, expected) in [
            ("tokio", true),
            ("tokio-util", true),
            ("futures-util", true),
            ("futures_codec", true),
            ("mio", true),
            ("hyper", true),
            ("miow", false),
            ("bytes", false),
            ("smallvec", false),
            ("posthaste-engine-proto", false),
        ] {
            assert_eq!(is_io(name), expected, "{name}");
        }
    }

    #[test]
    fn the_ground_floor_is_the_three_protocols() {
        let ground: Vec<_> = ground().collect();
        assert_eq!(ground, ["posthaste-websocket-proto", "posthaste-engine-proto", "posthaste-socket-proto"]);
    }
}
