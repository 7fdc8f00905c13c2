//! A file set as a whole: what stands twice in it, and which pods its controllers make.

use crate::{
    Controller, Manifests,
    document::namespace,
    finding::{Findings, ManifestError, Place},
    workload::Maker,
};
use std::collections::{BTreeMap, BTreeSet};
use weft_types::{NamespacedName, NodeName, Object, object::Pod};

/// The most pods of one file set: a lab is one machine, and a matrix has a row for each pair.
pub(crate) const PODS_MAX: usize = 10_000;

/// What a document gave.
pub(crate) enum Made {
    /// An object.
    Object(Object),
    /// A pod of a running cluster, and who owns it.
    Owned(Pod, Vec<Owner>),
    /// What makes pods.
    Maker(Maker),
    /// Something that is no endpoint, by its kind; whoever owns it has it all the same.
    Nothing(String, Vec<Owner>),
}

/// Kind and name of an owner, in the namespace of what it owns.
pub(crate) type Owner = (String, NamespacedName);

/// Everything read so far.
#[derive(Default)]
pub(crate) struct Set {
    made: Vec<(Place, Made)>,
    places: BTreeMap<String, Place>,
    skipped: BTreeMap<String, usize>,
    owned: BTreeSet<Owner>,
}

impl Set {
    /// A document of a kind that is not used.
    pub(crate) fn skip(&mut self, kind: String) {
        *self.skipped.entry(kind).or_default() += 1;
    }

    /// Adds what a document gave, unless its name is taken.
    pub(crate) fn add(&mut self, place: Place, made: Made, findings: &mut Findings) {
        if let Some(first) = self.places.get(&place.object) {
            let problem = format!("is there twice: {first} has it too");
            return findings.error(&place, "", problem);
        }
        self.places.insert(place.object.clone(), place.clone());
        match &made {
            Made::Object(_) => {}
            Made::Owned(_, owners) | Made::Nothing(_, owners) => {
                self.owned.extend(owners.iter().cloned());
            }
            Made::Maker(maker) => self.owned.extend(maker.owners.iter().cloned()),
        }
        self.made.push((place, made));
    }

    /// The set as objects.
    pub(crate) fn finish(self, findings: Findings) -> Result<Manifests, Vec<ManifestError>> {
        let manifests = Manifests { skipped: self.skipped, ..Manifests::default() };
        let mut finish = Finish { owned: self.owned, manifests, pods: BTreeMap::new(), findings };
        for (place, made) in self.made {
            finish.made(&place, made);
        }
        let Finish { mut manifests, pods, mut findings, .. } = finish;
        shared_addresses(&manifests.objects, &pods, &mut findings);
        manifests.warnings = findings.into_errors()?;
        add_namespaces(&mut manifests);
        let nodes = manifests.objects.iter().filter_map(|object| match object {
            Object::Node(node) => Some(node.name.clone()),
            Object::Namespace(_) | Object::Pod(_) | Object::Policy(_) => None,
        });
        let nodes: Vec<NodeName> = nodes.collect();
        manifests.spread_daemons(&nodes);
        Ok(manifests)
    }
}

/// A set becoming objects.
struct Finish {
    owned: BTreeSet<Owner>,
    manifests: Manifests,
    pods: BTreeMap<NamespacedName, Place>,
    findings: Findings,
}

impl Finish {
    fn made(&mut self, place: &Place, made: Made) {
        match made {
            Made::Object(object) => self.manifests.objects.push(object),
            Made::Owned(pod, _) => self.pod(place, pod),
            Made::Nothing(what, _) => *self.manifests.skipped.entry(what).or_default() += 1,
            // In a dump of a cluster its pods, or what makes them, stand for it.
            Made::Maker(maker)
                if self.owned.contains(&(maker.kind.to_owned(), maker.name.clone())) => {}
            Made::Maker(maker) => {
                if maker.pod.is_none() {
                    let what = format!("{} (host network)", maker.kind);
                    *self.manifests.skipped.entry(what).or_default() += 1;
                }
                let room = PODS_MAX.saturating_sub(self.pods.len());
                let pods = maker.expand(room, place, &mut self.findings);
                self.manifests.controllers.push(Controller {
                    kind: maker.kind,
                    name: maker.name,
                    pods: pods.iter().map(|pod| pod.name.clone()).collect(),
                });
                pods.into_iter().for_each(|pod| self.pod(place, pod));
            }
        }
    }

    fn pod(&mut self, place: &Place, pod: Pod) {
        if let Some(other) = self.pods.get(&pod.name) {
            let problem = format!("makes pod {}, which {other} makes too", pod.name);
            return self.findings.error(place, "", problem);
        }
        self.pods.insert(pod.name.clone(), place.clone());
        self.manifests.objects.push(Object::Pod(pod));
    }
}

/// Two pods cannot have one address.
fn shared_addresses(
    objects: &[Object],
    places: &BTreeMap<NamespacedName, Place>,
    findings: &mut Findings,
) {
    let mut taken = BTreeMap::new();
    for object in objects {
        let Object::Pod(Pod { name, address: Some(address), .. }) = object else { continue };
        if let (Some(other), Some(place)) = (taken.insert(*address, name), places.get(name)) {
            let problem = format!("{address} is the address of pod {other} too");
            findings.error(place, "status.podIP", problem);
        }
    }
}

/// Namespaces that something is in exist, as they would on a cluster.
fn add_namespaces(manifests: &mut Manifests) {
    let mut used: BTreeSet<String> = BTreeSet::new();
    for object in &manifests.objects {
        match object {
            Object::Pod(pod) => used.insert(pod.name.namespace.clone()),
            Object::Policy(policy) => used.insert(policy.id.name.namespace.clone()),
            Object::Namespace(_) | Object::Node(_) => continue,
        };
    }
    for object in &manifests.objects {
        if let Object::Namespace(namespace) = object {
            used.remove(&namespace.name);
        }
    }
    manifests.objects.extend(
        used.iter().map(|name| Object::Namespace(namespace(name.clone(), BTreeMap::new()))),
    );
    manifests.implied = used;
}
