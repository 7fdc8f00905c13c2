//! `weft lab exec`: a command in a pod's network namespace.

use super::{netns, record};
use crate::output::Outcome;
use anyhow::{Context, Result, bail};
use std::{os::unix::process::CommandExt, process::Command};

/// Becomes the command, in a pod's namespace.
pub(crate) fn run(pod: &str, command: &[String], name: Option<&str>) -> Result<Outcome> {
    inside(&record::find(name)?.pod(pod)?.netns, command)
}

/// Becomes the command, in a network namespace: its signals, its terminal and its end are the command's own.
pub(crate) fn inside(namespace: &str, command: &[String]) -> Result<Outcome> {
    let Some((program, arguments)) = command.split_first() else {
        bail!("name a command after --")
    };
    let (program, arguments) = (program.clone(), arguments.to_vec());
    netns::inside(namespace, move || {
        // It comes back only when there is no such command.
        let error = Command::new(&program).args(arguments).exec();
        Err(error).with_context(|| format!("run {program}"))
    })
}
