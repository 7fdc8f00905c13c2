//! Kubernetes manifests parsed once into weft-types, with errors that name file, document and field.

mod address;
mod check;
mod daemon;
mod decode;
mod document;
mod finding;
mod network_policy;
mod set;
mod source;
mod workload;

pub use address::addresses;
pub use finding::ManifestError;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};
use weft_types::{LabelFilter, NamespacedName, Object};

/// What manifests say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifests {
    /// Objects that Weft uses; every namespace that something is in is among them.
    pub objects: Vec<Object>,
    /// Namespaces among the objects that no document describes: they exist because something is in them.
    /// Whoever knows such a namespace already keeps what it knows.
    pub implied: BTreeSet<String>,
    /// What makes pods, and the pods that each asks for. Those whose pods the manifests have (a dump of a
    /// cluster) are not among them.
    pub controllers: Vec<Controller>,
    /// Documents that it does not use, by kind.
    pub skipped: BTreeMap<String, usize>,
    /// What is likely not meant as it stands.
    pub warnings: Vec<ManifestError>,
}

/// A Deployment, StatefulSet, ReplicaSet or DaemonSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace and name.
    pub name: NamespacedName,
    /// The pods that it asks for.
    pub pods: Vec<NamespacedName>,
}

impl fmt::Display for Controller {
    /// `Deployment shop/cart`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Reads files, directories (their YAML and JSON files, sorted) and `-` for standard input.
pub fn read(paths: &[impl AsRef<Path>]) -> Result<Manifests, Vec<ManifestError>> {
    read_filtered(paths, &LabelFilter::default())
}

/// As [`read`], for a cluster whose labels are filtered so: selectors of what it drops are warned of.
pub fn read_filtered(
    paths: &[impl AsRef<Path>],
    filter: &LabelFilter,
) -> Result<Manifests, Vec<ManifestError>> {
    let mut reading = reading(filter);
    for path in paths {
        reading.path(path.as_ref());
    }
    reading.set.finish(reading.findings)
}

/// Parses one text; `file` is what errors call it.
pub fn parse(file: &str, text: &str) -> Result<Manifests, Vec<ManifestError>> {
    let filter = LabelFilter::default();
    let mut reading = reading(&filter);
    reading.text(file, text);
    reading.set.finish(reading.findings)
}

fn reading(filter: &LabelFilter) -> source::Reading<'_> {
    source::Reading { filter, set: set::Set::default(), findings: finding::Findings::default() }
}
