//! `weft lab down`: takes away everything, whatever state it is in.

use super::{
    netns, process,
    record::{self, Held, Lab},
};
use crate::output::{Outcome, note};
use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use std::{fs, time::Duration};

/// Arguments of `weft lab down`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which lab; the only one by default.
    #[arg(long, visible_alias = "lab", conflicts_with = "all")]
    name: Option<String>,
    /// Every lab.
    #[arg(long)]
    all: bool,
}

/// Takes a lab down, or all of them; that it is down already is no error.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let names = record::names()?;
    let errors: Vec<String> = match (&arguments.name, arguments.all) {
        (_, true) => {
            names.iter().filter_map(|name| one(name).err()).map(|e| format!("{e:#}")).collect()
        }
        (Some(name), _) if names.contains(name) => return one(name),
        (None, _) if !names.is_empty() => return one(&record::find(None)?.name),
        (name, _) => {
            note!("no lab {} is up", name.as_deref().unwrap_or("of any name"));
            Vec::new()
        }
    };
    remove_empty_folders();
    anyhow::ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(Outcome::Done)
}

fn one(name: &str) -> Result<Outcome> {
    note!("taking lab {name} down");
    let dir = record::dir(record::checked(name)?);
    if dir.join("lab.json").exists() {
        remove(&*Held::of(Some(name))?)?;
    } else {
        // `up` ended before it had written what it makes, so it has made nothing.
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        remove_empty_folders();
    }
    Ok(Outcome::Done)
}

/// Removes all of a lab; goes on after an error and tells all of them.
pub(crate) fn remove(lab: &Lab) -> Result<()> {
    let mut errors = Vec::new();
    let mut keep = |result: Result<()>| {
        if let Err(error) = result {
            errors.push(format!("{error:#}"));
        }
    };
    keep(process::end(&process::inside(&lab.namespaces()), Duration::from_secs(2)));
    for node in &lab.nodes {
        // Not mounted is what it should be.
        let _ = umount2(&node.bpffs, MntFlags::MNT_DETACH);
    }
    lab.namespaces().iter().for_each(|name| keep(netns::delete(name)));
    // The record goes only when nothing that it names is left, so that a second try finds the rest.
    if errors.is_empty() {
        let dir = lab.dir();
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
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
