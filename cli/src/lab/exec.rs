//! `weft lab exec`: a command in a pod's network namespace.

use super::{netns, record};
use crate::output::Outcome;
use anyhow::{Context, Result, bail};
use std::{os::unix::process::ExitStatusExt, process::Command};

/// Runs the command in a pod's namespace and ends as it ended.
pub(crate) fn run(pod: &str, command: &[String], name: Option<&str>) -> Result<Outcome> {
    inside(&record::find(name)?.pod(pod)?.netns, command)
}

/// Runs the command in a network namespace and ends as it ended.
pub(crate) fn inside(namespace: &str, command: &[String]) -> Result<Outcome> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("name a command after --")
    };
    let (program, arguments) = (program.clone(), arguments.to_vec());
    let status = netns::inside(namespace, move || {
        Command::new(&program).args(arguments).status().with_context(|| format!("run {program}"))
    })?;
    if status.success() {
        return Ok(Outcome::Done);
    }
    // The command's own code is the answer; one that a signal ended counts as shells count it.
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    std::process::exit(code.unwrap_or(3))
}
