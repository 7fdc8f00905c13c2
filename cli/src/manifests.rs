//! Manifests that a command is given, and what is said of them.

use crate::output::note;
use std::{collections::BTreeMap, path::PathBuf};
use weft_manifests::Manifests;
use weft_types::{LabelFilter, Object};

/// `--labels`.
#[derive(Default, clap::Args)]
pub(crate) struct Labels {
    /// Labels that make identities, beside Cilium's defaults: patterns [SOURCE:][!]REGEX with spaces between
    /// them, as "!team app"; one with ! leaves labels out, one without leaves out all that no pattern keeps.
    #[arg(long = "labels", value_name = "PATTERNS")]
    filter: Option<LabelFilter>,
}

impl Labels {
    /// As it is told; else as `otherwise` has it.
    pub(crate) fn or(&self, otherwise: LabelFilter) -> LabelFilter {
        self.filter.clone().unwrap_or(otherwise)
    }
}

/// Reads manifests of a cluster whose labels are filtered so; what is not used of them, and what is likely not
/// meant as it stands, is said on standard error.
pub(crate) fn read(files: &[PathBuf], filter: &LabelFilter) -> anyhow::Result<Manifests> {
    let manifests = weft_manifests::read_filtered(files, filter).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the manifests cannot be used:\n  {}", lines.join("\n  "))
    })?;
    remarks(&manifests);
    Ok(manifests)
}

/// Says what is not used and what is likely not meant.
pub(crate) fn remarks(manifests: &Manifests) {
    if !manifests.skipped.is_empty() {
        note!("not used by Weft, and skipped: {}", counts(&manifests.skipped));
    }
    for warning in &manifests.warnings {
        note!("warning: {warning}");
    }
}

/// How many objects of each kind there are; `none` when there are none.
pub(crate) fn summary(objects: &[Object]) -> String {
    let mut kinds = BTreeMap::new();
    for object in objects {
        let kind = match object {
            Object::Namespace(_) => "Namespace",
            Object::Node(_) => "Node",
            Object::Pod(_) => "Pod",
            Object::Policy(_) => "NetworkPolicy",
        };
        *kinds.entry(kind.to_owned()).or_default() += 1;
    }
    if kinds.is_empty() { "none".to_owned() } else { counts(&kinds) }
}

fn counts(kinds: &BTreeMap<String, usize>) -> String {
    let counts: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    counts.join(", ")
}
