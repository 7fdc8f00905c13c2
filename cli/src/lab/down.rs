//! `weft lab down`: takes away everything, whatever state it is in.

use super::{netns, process, record};
use crate::output::Outcome;
use anyhow::Result;
use nix::mount::{MntFlags, umount2};
use std::{fs, time::Duration};

/// Takes a lab down; that it is down already is no error.
pub(crate) fn run(name: Option<&str>) -> Result<Outcome> {
    let names = record::names()?;
    let absent = name.map_or(names.is_empty(), |name| !names.iter().any(|known| known == name));
    if absent {
        eprintln!("no lab {} is up", name.unwrap_or("of any name"));
        remove_empty_folders();
        return Ok(Outcome::Done);
    }
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
    // The record goes only when nothing that it names is left, so that a second try finds the rest.
    if errors.is_empty() {
        fs::remove_dir_all(lab.dir())?;
    }
    remove_empty_folders();
    anyhow::ensure!(errors.is_empty(), "take lab {} down: {}", lab.name, errors.join("; "));
    Ok(())
}

/// The folders above the labs go with the last of them; that they are not empty is no error.
fn remove_empty_folders() {
    let root = record::root();
    if fs::remove_dir(&root).is_ok()
        && let Some(parent) = root.parent()
        && parent.ends_with("run/weft")
    {
        let _ = fs::remove_dir(parent);
    }
}
