//! The file maps in the folders' READMEs are what the modules say of themselves. `UPDATE=1` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

const BEGIN: &str = "<!-- files of ";
const END: &str = "<!-- end of files -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Files below a folder whose name ends so, in order, without what is built or hidden.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    entries
        .into_iter()
        .filter(|path| name(path) != "target" && !name(path).starts_with('.'))
        .flat_map(|path| {
            if path.is_dir() {
                files(&path, end)
            } else if name(&path).ends_with(end) {
                vec![path]
            } else {
                Vec::new()
            }
        })
        .collect()
}

/// What a module says that it owns: the first sentence of its documentation.
fn owns(module: &Path) -> String {
    let text = fs::read_to_string(module).unwrap();
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let words: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    let paragraph = words.join(" ");
    let sentence = paragraph.split_once(". ").map_or(&*paragraph, |(first, _)| first);
    assert!(!sentence.is_empty(), "{}: its first line says nothing", module.display());
    sentence.trim_end_matches('.').replace('|', "\\|")
}

fn table(readme: &Path, folders: &str) -> String {
    let here = readme.parent().unwrap();
    let mut table = "\n| file | what it is |\n|---|---|\n".to_owned();
    for folder in folders.split(", ") {
        let modules = files(&here.join(folder), ".rs");
        assert!(!modules.is_empty(), "{}: there is nothing in {folder}", readme.display());
        for module in modules {
            let name = module.strip_prefix(here).unwrap().display().to_string();
            writeln!(table, "| `{name}` | {} |", owns(&module)).unwrap();
        }
    }
    table
}

/// A README with its maps as they should be.
fn renewed(readme: &Path, text: &str) -> String {
    let mut renewed = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (folders, after) = after.split_once(" -->").expect("a map says of which folders");
        let (_, after) = after.split_once(END).expect("a map ends");
        write!(renewed, "{before}{BEGIN}{folders} -->{}{END}", table(readme, folders)).unwrap();
        rest = after;
    }
    renewed + rest
}

#[test]
fn the_file_maps_are_what_the_modules_say() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut stale = Vec::new();
    for readme in files(&root(), "README.md") {
        let text = fs::read_to_string(&readme).unwrap();
        let wanted = renewed(&readme, &text);
        if update {
            fs::write(&readme, wanted).unwrap();
        } else if text != wanted {
            stale.push(readme.strip_prefix(root()).unwrap().to_owned());
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} do not name their files as they are: UPDATE=1 cargo test -p weft-tests --test documents"
    );
}

#[test]
fn every_folder_of_crates_has_a_readme() {
    for folder in ["actors", "cli", "cluster", "cni", "datapath", "tests"] {
        let readme = root().join(folder).join("README.md");
        let text = fs::read_to_string(&readme)
            .unwrap_or_else(|error| panic!("{}: {error}", readme.display()));
        assert!(text.contains(BEGIN), "{} has no map of its files", readme.display());
    }
}
