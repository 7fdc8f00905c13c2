//! `weft lab down`: takes away everything, whatever state it is in.

use super::{
    netns, process,
    record::{self, Held, Lab},
};
use crate::output::{Outcome, note};
use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};
use std::{fs, io, path::PathBuf, time::Duration};

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
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "take lab {name} down: run it as root, with sudo"
    );
    note!("taking lab {name} down");
    let dir = record::dir(record::checked(name)?);
    if !dir.join("lab.json").exists() {
        // `up` ended before it had written what it makes, so it has made nothing.
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
        remove_empty_folders();
        return Ok(Outcome::Done);
    }
    match Held::of(Some(name)) {
        Ok(lab) => remove(&lab)?,
        Err(error) if Lab::load(name).is_err() => {
            note!("warning: {error:#}; taking away whatever carries the lab's name");
            let _turn = record::turn(name)?;
            take_away(
                name,
                &named_after(name, &netns::names(), &record::names()?),
                &mounts(name)?,
            )?;
        }
        Err(error) => return Err(error),
    }
    Ok(Outcome::Done)
}

/// The network namespaces that carry a lab's name, and not the longer name of another lab.
fn named_after(lab: &str, namespaces: &[String], labs: &[String]) -> Vec<String> {
    let carries = |namespace: &str, lab: &str| {
        let rest = namespace.strip_prefix("weft-").and_then(|n| n.strip_prefix(lab));
        rest.and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|rest| rest == "net" || rest.starts_with("p-") || rest.starts_with("node"))
    };
    let longer = |other: &&String| other.len() > lab.len();
    let of_another =
        |namespace: &String| labs.iter().filter(longer).any(|other| carries(namespace, other));
    let named = namespaces.iter().filter(|name| carries(name, lab) && !of_another(name));
    named.cloned().collect()
}

/// Where nodes of a lab have their bpffs.
fn mounts(lab: &str) -> Result<Vec<PathBuf>> {
    let dir = record::dir(lab);
    let entries = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
    Ok(entries
        .flatten()
        .map(|entry| entry.path().join("bpf"))
        .filter(|path| path.exists())
        .collect())
}

/// Removes all of a lab.
pub(crate) fn remove(lab: &Lab) -> Result<()> {
    let mounts: Vec<PathBuf> = lab.nodes.iter().map(|node| node.bpffs.clone()).collect();
    take_away(&lab.name, &lab.namespaces(), &mounts)
}

/// Removes what a lab is made of, with all that is in it; goes on after an error and tells all of them.
fn take_away(lab: &str, namespaces: &[String], mounts: &[PathBuf]) -> Result<()> {
    let mut errors = Vec::new();
    let mut keep = |result: Result<()>| {
        if let Err(error) = result {
            errors.push(format!("{error:#}"));
        }
    };
    keep(process::end(&process::inside(namespaces), Duration::from_secs(2)));
    for mounted in mounts {
        // Not mounted is what it should be.
        let _ = umount2(mounted, MntFlags::MNT_DETACH);
    }
    namespaces.iter().for_each(|name| keep(netns::delete(name)));
    // The record goes only when nothing that it names is left, so that a second try finds the rest.
    if errors.is_empty() {
        let dir = record::dir(lab);
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    remove_empty_folders();
    anyhow::ensure!(errors.is_empty(), "take lab {lab} down: {}", errors.join("; "));
    Ok(())
}

/// The folders above the labs go with the last of them, also when `up` was killed between making the one and the other; that
/// they are not empty is no error.
fn remove_empty_folders() {
    let root = record::root();
    let gone = match fs::remove_dir(&root) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if gone
        && let Some(parent) = root.parent()
        && parent.ends_with("run/weft")
    {
        let _ = fs::remove_dir(parent);
    }
}

#[cfg(test)]
mod tests {
    use super::named_after;

    #[test]
    fn a_lab_without_a_record_is_found_by_its_name_and_no_other_lab_is() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let there = names(
            "weft-a-net weft-a-node1 weft-a-p-shop-db weft-a-b-net weft-a-b-p-x-y weft-ab-net weft-a- other-a-net",
        );
        let found = |lab| named_after(lab, &there, &names("a a-b ab"));
        assert_eq!(found("a"), names("weft-a-net weft-a-node1 weft-a-p-shop-db"));
        assert_eq!(found("a-b"), names("weft-a-b-net weft-a-b-p-x-y"));
        assert!(found("c").is_empty());
    }
}
