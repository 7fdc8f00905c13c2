//! `weft lab down`: takes away everything, whatever state it is in.

use super::{netns, process, record};
use crate::output::Outcome;
use anyhow::Result;
use nix::mount::{MntFlags, umount2};
use std::{fs, time::Duration};

/// Takes a lab down.
pub(crate) fn run(name: Option<&str>) -> Result<Outcome> {
    let lab = record::find(name)?;
    eprintln!("taking lab {} down", lab.name);
    remove(&lab)?;
    Ok(Outcome::Done)
}

/// Removes all of a lab; goes on after an error and tells all of them.
pub(crate) fn remove(lab: &record::Lab) -> Result<()> {
    let mut errors = Vec::new();
    let mut keep = |result: Result<()>| {
        if let Err(error) = result {
            errors.push(format!("{error:#}"));
        }
    };
    let mut processes = process::inside(&lab.namespaces());
    processes.extend(lab.server);
    keep(process::end(&processes, Duration::from_secs(2)));
    for node in &lab.nodes {
        // Not mounted is what it should be.
        let _ = umount2(&node.bpffs, MntFlags::MNT_DETACH);
    }
    lab.namespaces().iter().for_each(|name| keep(netns::delete(name)));
    keep(fs::remove_dir_all(lab.dir()).map_err(Into::into));
    anyhow::ensure!(errors.is_empty(), "take lab {} down: {}", lab.name, errors.join("; "));
    Ok(())
}
