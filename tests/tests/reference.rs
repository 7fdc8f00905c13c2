//! `docs/reference` is what the programs say of their commands and flags, and shells take their completions. `UPDATE=1` writes it anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::{
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use weft_tests::lab::program;

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// What a program prints, with nothing in its environment that it would tell.
fn said(name: &str, words: &[&str]) -> String {
    let output = Command::new(program(name)).args(words).env_clear().output().unwrap();
    assert!(output.status.success(), "{name} {words:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // Lines that are blank but for their indentation, and ends that editors take away.
    text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The subcommands that help lists.
fn subcommands(help: &str) -> Vec<String> {
    let (_, listed) = help.split_once("Commands:\n").unwrap_or_default();
    let lines = listed.lines().take_while(|line| !line.is_empty());
    // A name stands by two spaces; what goes on from the line before stands further in.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// A section for a command, and those of the commands below it.
fn describe(name: &str, path: &[&str], text: &mut String) {
    let help = said(name, &[path, &["--help"]].concat());
    let title = [&[name], path].concat().join(" ");
    writeln!(text, "\n## {title}\n\n```text\n{}```", help.trim_start()).unwrap();
    for inner in subcommands(&help) {
        describe(name, &[path, &[&*inner]].concat(), text);
    }
}

#[test]
fn the_reference_is_what_help_says() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut stale = Vec::new();
    for name in ["weft", "weft-agent", "weft-operator"] {
        let mut text = format!(
            "# {name}\n\nWhat `{name} --help` says, as one page. Generated: `UPDATE=1 cargo test --workspace --test reference`.\n"
        );
        describe(name, &[], &mut text);
        let file = docs().join(format!("reference/{name}.md"));
        if update {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, text).unwrap();
        } else if fs::read_to_string(&file).unwrap_or_default() != text {
            stale.push(file);
        }
    }
    assert!(
        stale.is_empty(),
        "{stale:?} are not what the programs say: UPDATE=1 cargo test --workspace --test reference"
    );
}

/// Whether a shell takes a script without complaint; none where there is no such shell.
fn takes(shell: &str, words: &[&str], script: &str) -> Option<Result<String, String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("_weft");
    fs::write(&file, script).unwrap();
    let mut command = Command::new(shell);
    command.args(words).arg(&file).stdin(Stdio::null());
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        output => output.unwrap(),
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Some(match output.status.success() && output.stderr.is_empty() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    })
}

#[test]
fn shells_take_their_completions() {
    for (shell, words) in [("zsh", &["-n"][..]), ("fish", &["-n"])] {
        let script = said("weft", &["completion", shell]);
        assert!(script.contains("apply") && script.contains("follow"), "{shell}: {script}");
        match takes(shell, words, &script) {
            None => {
                // `print!` alone is captured by libtest.
                let why = "skipped: there is no such shell on this machine";
                let _ = writeln!(std::io::stderr(), "{why}: completion of {shell}");
            }
            Some(taken) => assert_eq!(taken, Ok(String::new()), "{shell}"),
        }
    }
    // What is offered after `weft lab ap`, asked as bash asks.
    let script = said("weft", &["completion", "bash"])
        + "COMP_WORDS=(weft lab ap); COMP_CWORD=2; _weft weft ap lab; echo \"${COMPREPLY[*]}\"\n";
    assert_eq!(takes("bash", &[], &script), Some(Ok("apply\n".to_owned())));
}
