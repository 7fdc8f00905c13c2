//! One document: which kind it is, fields that the API does not know, and whose reader it goes to.

use crate::{Controller, ManifestError, Manifests, namespace, network_policy, workload};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    core::v1::{Namespace, Node, Pod},
    networking::v1::NetworkPolicy,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_types::{NamespacedName, Object};

/// A document being read, and where its objects and errors go.
pub(crate) struct Document<'a> {
    pub(crate) file: &'a str,
    pub(crate) number: usize,
    pub(crate) manifests: &'a mut Manifests,
    pub(crate) errors: &'a mut Vec<ManifestError>,
}

impl Document<'_> {
    /// Reads a document; `at` is the field path it stands at, for the items of a list.
    pub(crate) fn read(&mut self, value: Value, at: &str) {
        if value.is_null() {
            return;
        }
        let text =
            |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        match (version.as_str(), kind.as_str()) {
            (_, "") | ("", _) => {
                self.fail(at, "is no Kubernetes object: apiVersion and kind are missing")
            }
            (_, kind) if kind.ends_with("List") && value.get("items").is_some() => {
                self.list(value, at);
            }
            ("v1", "Namespace") => self.object(value, at, |n: Namespace| {
                let name = n.metadata.name.ok_or_else(|| missing("metadata.name"))?;
                Ok(vec![Object::Namespace(namespace(name, n.metadata.labels.unwrap_or_default()))])
            }),
            ("v1", "Node") => self.object(value, at, |node: Node| workload::node(node)),
            ("v1", "Pod") => self.object(value, at, |pod: Pod| workload::pod(pod)),
            ("apps/v1", "Deployment") => {
                self.controller("Deployment", value, at, |d: Deployment| {
                    let spec = d.spec.ok_or_else(|| missing("spec"))?;
                    workload::replicas(d.metadata, spec.replicas, spec.template)
                })
            }
            ("apps/v1", "ReplicaSet") => {
                self.controller("ReplicaSet", value, at, |d: ReplicaSet| {
                    let spec = d.spec.ok_or_else(|| missing("spec"))?;
                    let template = spec.template.ok_or_else(|| missing("spec.template"))?;
                    workload::replicas(d.metadata, spec.replicas, template)
                })
            }
            ("apps/v1", "StatefulSet") => {
                self.controller("StatefulSet", value, at, |d: StatefulSet| {
                    let spec = d.spec.ok_or_else(|| missing("spec"))?;
                    workload::replicas(d.metadata, spec.replicas, spec.template)
                })
            }
            ("apps/v1", "DaemonSet") => self.controller("DaemonSet", value, at, |d: DaemonSet| {
                let spec = d.spec.ok_or_else(|| missing("spec"))?;
                workload::replicas(d.metadata, None, spec.template)
            }),
            ("networking.k8s.io/v1", "NetworkPolicy") => {
                self.object(value, at, |p: NetworkPolicy| {
                    network_policy::policy(p).map(|policy| vec![Object::Policy(policy)])
                });
            }
            (_, kind) => *self.manifests.skipped.entry(kind.to_owned()).or_default() += 1,
        }
    }

    fn list(&mut self, mut value: Value, at: &str) {
        let items = value.get_mut("items").map(Value::take);
        let Some(Value::Array(items)) = items else {
            return self.fail(at, "items must be a list");
        };
        for (index, item) in items.into_iter().enumerate() {
            self.read(item, &format!("{at}items[{index}]."));
        }
    }

    /// Reads an object that makes pods, and notes which.
    fn controller<T: DeserializeOwned>(
        &mut self,
        kind: &'static str,
        value: Value,
        at: &str,
        convert: impl FnOnce(T) -> Result<Vec<Object>, Vec<(String, String)>>,
    ) {
        let text = |field: &str| value.pointer(field).and_then(Value::as_str).map(str::to_owned);
        let namespace = text("/metadata/namespace").unwrap_or_else(|| "default".to_owned());
        let name = NamespacedName::new(namespace, text("/metadata/name").unwrap_or_default());
        let (objects, errors) = (self.manifests.objects.len(), self.errors.len());
        self.object(value, at, convert);
        if self.errors.len() == errors {
            let made = self.manifests.objects.iter().skip(objects);
            let pods = made.filter_map(|object| match object {
                Object::Pod(pod) => Some(pod.name.clone()),
                Object::Namespace(_) | Object::Node(_) | Object::Policy(_) => None,
            });
            let pods = pods.collect();
            self.manifests.controllers.push(Controller { kind, name, pods });
        }
    }

    /// Reads an object of a kind, refusing fields that the kind does not have.
    fn object<T: DeserializeOwned>(
        &mut self,
        value: Value,
        at: &str,
        convert: impl FnOnce(T) -> Result<Vec<Object>, Vec<(String, String)>>,
    ) {
        let mut unknown = Vec::new();
        let parsed = serde_ignored::deserialize(value, |path| unknown.push(path.to_string()));
        for field in &unknown {
            self.fail(
                &format!("{at}{}", plain(field)),
                "is a field that the Kubernetes API does not know",
            );
        }
        match parsed.map_err(|error| vec![(String::new(), error.to_string())]).and_then(convert) {
            Ok(objects) if unknown.is_empty() => self.manifests.objects.extend(objects),
            Ok(_) => {}
            Err(problems) => {
                for (field, problem) in problems {
                    self.fail(&format!("{at}{field}"), &problem);
                }
            }
        }
    }

    fn fail(&mut self, field: &str, problem: &str) {
        self.errors.push(ManifestError {
            file: self.file.to_owned(),
            document: self.number,
            field: field.trim_end_matches('.').to_owned(),
            problem: problem.to_owned(),
        });
    }
}

/// A path as people write it: serde marks options with `?`.
fn plain(path: &str) -> String {
    path.split('.').filter(|part| *part != "?").collect::<Vec<_>>().join(".")
}

pub(crate) fn missing(field: &str) -> Vec<(String, String)> {
    vec![(field.to_owned(), "is required".to_owned())]
}
