//! What does not compile says in the library's own words what is wrong.
//!
//! Each file of `cases/` is a mistake. It begins with what the compiler must say, one phrase per `//~` line; the compiler's own
//! sentences are left out, for they change from release to release.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

#[test]
fn mistakes_are_explained() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let compiled = Command::new(env!("CARGO"))
        .args(["check", "--examples", "--features", "cases", "--keep-going", "--message-format", "json"])
        .arg("--manifest-path")
        .arg(manifest)
        .output()
        .expect("cargo runs this test, so it is there");
    let mut said: BTreeMap<String, String> = BTreeMap::new();
    for line in String::from_utf8_lossy(&compiled.stdout).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        if let (Some(case), Some("error"), Some(text)) = (
            message["target"]["name"].as_str(),
            message["message"]["level"].as_str(),
            message["message"]["rendered"].as_str(),
        ) {
            said.entry(case.to_owned()).or_default().push_str(text);
        }
    }
    let mut cases = 0;
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")).expect("the cases are there") {
        let path = entry.expect("a readable folder").path();
        let case = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let source = std::fs::read_to_string(&path).expect("a readable file");
        let phrases: Vec<&str> = source.lines().map_while(|line| line.strip_prefix("//~ ")).collect();
        assert!(!phrases.is_empty(), "{case} expects nothing");
        let Some(said) = said.get(&case) else {
            panic!("{case} compiles, or is no example of Cargo.toml: {}", String::from_utf8_lossy(&compiled.stderr));
        };
        for phrase in phrases {
            assert!(said.contains(phrase), "{case}: {phrase:?} is not in\n{said}");
        }
        cases += 1;
    }
    assert_eq!(cases, said.len(), "each case is a file");
}
