//! What the workspace promises of itself: which crates need what, and under which licence they are.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What cargo knows of a workspace, for this platform.
fn metadata(folder: &Path) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", &platform])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Crates that building these takes, tests apart; with no words those of a bare `cargo build`.
fn needs(words: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--edges=normal,build", "--prefix=none", "--format={p}"])
        .args(words)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn a_fresh_clone_builds_without_an_ebpf_toolchain() {
    let needed = needs(&[]);
    assert!(needed.contains("weft") && needed.contains("weft-cni"), "{needed:?}");
    for absent in ["weft-datapath", "weft-agent", "aya"] {
        assert!(!needed.contains(absent), "`cargo build` needs {absent}: {needed:?}");
    }
    assert!(needs(&["-p", "weft-agent"]).contains("weft-datapath"), "it would be found");
}

#[test]
fn the_plugin_stays_small() {
    let needed = needs(&["-p", "weft-cni"]);
    for absent in
        ["tokio", "clap", "tracing-subscriber", "opentelemetry", "weft-process", "weft-wire"]
    {
        assert!(!needed.contains(absent), "weft-cni needs {absent}: {needed:?}");
    }
}

#[test]
fn only_those_know_aya_actix_and_raft_who_may() {
    let metadata = metadata(&root());
    let users = |of: &str| -> BTreeSet<&str> {
        let uses = |package: &&Value| {
            let mut all = package["dependencies"].as_array().unwrap().iter();
            all.any(|d| d["name"] == of && d["kind"] != "dev")
        };
        let packages = metadata["packages"].as_array().unwrap().iter();
        // Those of the workspace have no source.
        let ours = packages.filter(|package| package["source"].is_null()).filter(uses);
        ours.map(|package| package["name"].as_str().unwrap()).collect()
    };
    assert_eq!(users("aya"), ["weft-abi", "weft-datapath"].into());
    assert_eq!(users("actix"), ["weft-agent", "weft-operator"].into());
    assert_eq!(users("raft"), ["weft-raft"].into());
}

#[test]
fn every_crate_says_its_licence_and_its_text_is_there() {
    let metadata = metadata(&root());
    for package in metadata["packages"].as_array().unwrap() {
        if !package["source"].is_null() {
            continue;
        }
        let licence = match package["name"].as_str().unwrap() {
            "weft-abi" | "weft-verdict" => "Apache-2.0 OR GPL-2.0-only",
            _ => "Apache-2.0",
        };
        assert_eq!(package["license"], licence, "{}", package["name"]);
    }
    // The programs are a workspace of their own; the kernel asks them for their licence too.
    let programs = fs::read_to_string(root().join("datapath/ebpf/Cargo.toml")).unwrap();
    assert!(programs.contains("license = \"GPL-2.0-only\""), "{programs}");
    let text = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    assert!(text("LICENSE").contains("Apache License"));
    assert!(text("datapath/ebpf/LICENSE").contains("GNU GENERAL PUBLIC LICENSE"));
}

/// Licences that what links with ours may have; of several, one is enough.
const LICENCES: [&str; 8] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Whether an expression of licences (SPDX, or with `/` as it was written once) can be met by ours.
fn may_be_linked(expression: &str) -> bool {
    let expression = expression.replace(['(', ')'], "").replace('/', " OR ");
    let all = expression.split(" AND ");
    all.into_iter().all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

#[test]
fn every_dependency_is_of_the_registry_and_under_a_licence_that_fits() {
    assert!(may_be_linked("(MIT OR Apache-2.0) AND Unicode-3.0") && may_be_linked("GPL-3.0 / MIT"));
    assert!(!may_be_linked("GPL-3.0-only") && !may_be_linked("MIT AND GPL-3.0-only"));
    for folder in [root(), root().join("datapath/ebpf")] {
        for package in metadata(&folder)["packages"].as_array().unwrap() {
            let (name, source) = (&package["name"], &package["source"]);
            if source.is_null() {
                continue;
            }
            assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
            let licence = package["license"].as_str().unwrap_or("none");
            assert!(may_be_linked(licence), "{name} is under {licence}");
        }
    }
}

/// All of a crate's source.
fn source(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let text = entries.filter(|path| !path.ends_with("target")).map(|path| match path.is_dir() {
        true => source(&path),
        false if path.extension().is_some_and(|kind| kind == "rs") => {
            fs::read_to_string(&path).unwrap()
        }
        false => String::new(),
    });
    text.collect()
}

/// `unused_crate_dependencies` asks it of every test and program of a crate by itself; this asks it of the crate.
#[test]
fn every_dependency_is_used() {
    let mut unused = Vec::new();
    for package in metadata(&root())["packages"].as_array().unwrap() {
        if !package["source"].is_null() {
            continue;
        }
        let manifest = Path::new(package["manifest_path"].as_str().unwrap());
        let source = source(manifest.parent().unwrap());
        let words: BTreeSet<&str> =
            source.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            if !words.contains(&*name.replace('-', "_")) {
                unused.push(format!("{}: {name}", package["name"]));
            }
        }
    }
    assert!(unused.is_empty(), "{unused:?}");
}
