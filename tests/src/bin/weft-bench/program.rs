//! Other programs: where Weft's are, and what they say.

use anyhow::{Context, Result, bail};
use std::{
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

/// A program of Weft, beside this one.
pub(crate) fn ours(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(
        path.exists(),
        "{} is not there: run `make bench`, which builds it",
        path.display()
    );
    Ok(path)
}

/// Starts a command whose output and errors are wanted.
pub(crate) fn piped(command: &mut Command) -> Result<Child> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    child.with_context(|| format!("start {name}"))
}

/// What a command said; an error when it failed.
pub(crate) fn said(what: &str, output: Output) -> Result<String> {
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{what}: {}: {}", output.status, error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
