//! Kubernetes manifests parsed once into weft-types, with errors that name file, document and field.

mod document;
mod network_policy;
mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    path::Path,
};
use weft_types::{NamespacedName, Object, object::Namespace};

/// What manifests say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifests {
    /// Objects that Weft uses; every namespace that something is in is among them.
    pub objects: Vec<Object>,
    /// Namespaces among the objects that no document describes: they exist because something is in them.
    /// Whoever knows such a namespace already keeps what it knows.
    pub implied: BTreeSet<String>,
    /// What makes pods, and the pods that each asks for.
    pub controllers: Vec<Controller>,
    /// Documents of kinds that it does not use, by kind.
    pub skipped: BTreeMap<String, usize>,
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

/// One thing wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, as it was named.
    pub file: String,
    /// The document within it, from 1; 0 when it could not be told apart.
    pub document: usize,
    /// The field's path, empty for the whole document.
    pub field: String,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.document > 0 {
            write!(f, ", document {}", self.document)?;
        }
        if !self.field.is_empty() {
            write!(f, ", {}", self.field)?;
        }
        write!(f, ": {}", self.problem)
    }
}

/// Longest file that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// Reads files, directories (their YAML and JSON files, sorted) and `-` for standard input.
pub fn read(paths: &[impl AsRef<Path>]) -> Result<Manifests, Vec<ManifestError>> {
    let mut reading = Reading::default();
    for path in paths {
        reading.path(path.as_ref());
    }
    reading.finish()
}

/// Parses one text; `file` is what errors call it.
pub fn parse(file: &str, text: &str) -> Result<Manifests, Vec<ManifestError>> {
    let mut reading = Reading::default();
    reading.text(file, text);
    reading.finish()
}

#[derive(Default)]
struct Reading {
    manifests: Manifests,
    errors: Vec<ManifestError>,
}

impl Reading {
    fn path(&mut self, path: &Path) {
        let name = path.display().to_string();
        if name == "-" {
            return match io::read_to_string(io::stdin()) {
                Ok(text) => self.text("standard input", &text),
                Err(error) => self.fail(&name, format!("cannot be read: {error}")),
            };
        }
        if path.is_dir() {
            return self.folder(path, &name);
        }
        let size = fs::metadata(path).map(|m| m.len());
        match size.and_then(|size| Ok((size, fs::read_to_string(path)?))) {
            Ok((size, _)) if size > FILE_MAX => {
                self.fail(&name, format!("is longer than {FILE_MAX} bytes"));
            }
            Ok((_, text)) => self.text(&name, &text),
            Err(error) => self.fail(&name, format!("cannot be read: {error}")),
        }
    }

    fn folder(&mut self, path: &Path, name: &str) {
        let entries = match fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.fail(name, format!("cannot be listed: {error}")),
        };
        let mut files: Vec<_> = entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|p| {
                matches!(p.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"))
            })
            .collect();
        files.sort();
        files.iter().for_each(|file| self.path(file));
    }

    fn text(&mut self, file: &str, text: &str) {
        match serde_saphyr::from_multiple::<serde_json::Value>(text) {
            Ok(documents) => {
                for (at, document) in (1..).zip(documents) {
                    let mut reader = document::Document {
                        file,
                        number: at,
                        manifests: &mut self.manifests,
                        errors: &mut self.errors,
                    };
                    reader.read(document, "");
                }
            }
            Err(error) => self.fail(file, format!("is not YAML: {error}")),
        }
    }

    fn fail(&mut self, file: &str, problem: String) {
        self.errors.push(ManifestError {
            file: file.to_owned(),
            document: 0,
            field: String::new(),
            problem,
        });
    }

    fn finish(mut self) -> Result<Manifests, Vec<ManifestError>> {
        if !self.errors.is_empty() {
            return Err(self.errors);
        }
        self.add_namespaces();
        Ok(self.manifests)
    }

    /// Namespaces that something is in exist, as they would on a cluster.
    fn add_namespaces(&mut self) {
        let mut used: Vec<String> = self
            .manifests
            .objects
            .iter()
            .filter_map(|object| match object {
                Object::Pod(pod) => Some(pod.name.namespace.clone()),
                Object::Policy(policy) => Some(policy.id.name.namespace.clone()),
                Object::Namespace(_) | Object::Node(_) => None,
            })
            .collect();
        used.sort();
        used.dedup();
        for name in used {
            let known = self
                .manifests
                .objects
                .iter()
                .any(|object| matches!(object, Object::Namespace(n) if n.name == name));
            if !known {
                self.manifests.implied.insert(name.clone());
                self.manifests.objects.push(Object::Namespace(namespace(name, BTreeMap::new())));
            }
        }
    }
}

/// A namespace with the label that the API server gives every one.
pub(crate) fn namespace(name: String, mut labels: BTreeMap<String, String>) -> Namespace {
    labels.insert("kubernetes.io/metadata.name".to_owned(), name.clone());
    Namespace { name, labels }
}
