//! Changes of the desired state: what they touch, and nothing else.

use crate::{ClusterState, references::Referrer};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem::take,
    sync::Arc,
};
use weft_types::{
    Delta, Identity, LabelFilter, LabelSet, NamespacedName, Node, NodeName, Object, Policy,
    Workload,
    object::{Namespace, ObjectKey, Pod},
    policy::PolicyId,
};

/// What a change touches, with what was there before.
#[derive(Default)]
struct Touched {
    nodes: BTreeMap<NodeName, Option<Node>>,
    policies: BTreeMap<PolicyId, Option<Policy>>,
    pods: BTreeSet<NamespacedName>,
}

impl ClusterState {
    /// The objects of a change that are not already so, each key once; removals come first.
    pub fn effective(&self, put: &[Object], remove: &[Object]) -> (Vec<Object>, Vec<Object>) {
        let put: BTreeMap<ObjectKey, &Object> = put.iter().map(|o| (o.key(), o)).collect();
        let remove: BTreeMap<ObjectKey, &Object> = remove.iter().map(|o| (o.key(), o)).collect();
        let removed = remove
            .into_iter()
            .filter(|(key, _)| !put.contains_key(key) && self.has(key))
            .map(|(_, object)| object.clone())
            .collect();
        let added = put.into_values().filter(|object| !self.holds(object)).cloned().collect();
        (added, removed)
    }

    /// The label sets that a change of the desired state needs a number for.
    pub fn unnumbered(&self, put: &[Object], remove: &[Object]) -> BTreeSet<LabelSet> {
        let mut namespaces: BTreeMap<&str, Option<&Namespace>> = BTreeMap::new();
        let mut pods: BTreeMap<&NamespacedName, Option<&Pod>> = BTreeMap::new();
        for (objects, added) in [(remove, false), (put, true)] {
            for object in objects {
                match object {
                    Object::Namespace(n) => drop(namespaces.insert(&n.name, added.then_some(n))),
                    Object::Pod(p) => drop(pods.insert(&p.name, added.then_some(p))),
                    Object::Node(_) | Object::Policy(_) => {}
                }
            }
        }
        for pod in namespaces.keys().flat_map(|name| self.pods_in(name)) {
            pods.entry(&pod.name).or_insert(Some(pod));
        }
        for name in &self.unnumbered {
            pods.entry(name).or_insert_with(|| self.pods.get(name));
        }
        pods.into_values()
            .flatten()
            .map(|pod| {
                let name = pod.name.namespace.as_str();
                let kept = || self.namespaces.get(name);
                self.labels_of(pod, namespaces.get(name).copied().unwrap_or_else(kept))
            })
            .filter(|labels| !self.identities.contains_key(labels))
            .collect()
    }

    /// Whether a pod waits for the number of its labels.
    pub(crate) fn lacks_numbers(&self) -> bool {
        !self.unnumbered.is_empty()
    }

    pub(crate) fn desire(
        &mut self,
        put: &[Object],
        remove: &[Object],
        identities: &[(Identity, LabelSet)],
    ) -> Vec<Delta> {
        let mut deltas = self.number(identities);
        let mut touched = Touched { pods: take(&mut self.unnumbered), ..Touched::default() };
        remove.iter().for_each(|object| self.remove(object, &mut touched));
        put.iter().for_each(|object| self.put(object.clone(), &mut touched));
        let mut endpoints = Vec::new();
        for (name, before) in touched.nodes {
            if let Some(before) = &before {
                endpoints.extend(self.leave_prefixes(before));
            }
            if !self.nodes.contains_key(&name) {
                self.heard.remove(&name);
            }
            match self.nodes.get(&name) {
                after if after == before.as_ref() => {}
                Some(node) => deltas.push(Delta::NodeUpsert(node.clone())),
                None => deltas.push(Delta::NodeDelete(name)),
            }
        }
        for (id, before) in touched.policies {
            match self.policies.get(&id) {
                after if after == before.as_ref() => {}
                Some(policy) => deltas.push(Delta::PolicyUpsert(policy.clone())),
                None => deltas.push(Delta::PolicyDelete(id)),
            }
        }
        deltas.extend(self.publish_pods(touched.pods));
        deltas.extend(endpoints);
        deltas
    }

    /// The label sets that another filter needs a number for.
    pub fn unnumbered_with(&self, filter: &LabelFilter) -> BTreeSet<LabelSet> {
        let other = Self { labels: filter.clone(), ..Self::new(self.cluster.clone()) };
        let labels = self.pods.values().map(|pod| {
            let namespace = self.namespaces.get(&pod.name.namespace);
            other.labels_of(pod, namespace)
        });
        labels.filter(|labels| !self.identities.contains_key(labels)).collect()
    }

    /// Gives every pod the identity of its labels as they are filtered now. Patterns that cannot be used change nothing:
    /// who proposes them has checked them.
    pub(crate) fn filter(
        &mut self,
        patterns: &[String],
        identities: &[(Identity, LabelSet)],
    ) -> Vec<Delta> {
        let mut deltas = self.number(identities);
        if let Ok(filter) = LabelFilter::parse(patterns) {
            self.labels = filter;
            self.unnumbered.clear();
            let pods = self.pods.keys().cloned().collect();
            deltas.extend(self.publish_pods(pods));
        }
        deltas
    }

    /// One number a label set and one label set a number, always: a second one is not taken.
    fn number(&mut self, identities: &[(Identity, LabelSet)]) -> Vec<Delta> {
        let mut deltas = Vec::new();
        for (number, labels) in identities {
            let set = Arc::new(labels.clone());
            if !self.identities.contains_key(labels) && self.references.give(*number, set.clone()) {
                self.identities.insert(set, *number);
                deltas.push(Delta::IdentityUpsert(*number, labels.clone()));
            }
        }
        deltas
    }

    /// Makes what is published of pods what it should be now: identities that come back, workloads, then endpoints.
    fn publish_pods(&mut self, pods: BTreeSet<NamespacedName>) -> Vec<Delta> {
        let (mut deltas, mut workloads, mut endpoints) = (Vec::new(), Vec::new(), Vec::new());
        for pod in pods {
            let number = self.number_of(&pod);
            deltas.extend(self.refer(&pod, number));
            workloads.extend(self.publish_workload(&pod, number));
            for address in self.addresses.get(&pod).cloned().unwrap_or_default() {
                endpoints.extend(self.publish_endpoint(address));
            }
        }
        deltas.append(&mut workloads);
        deltas.append(&mut endpoints);
        deltas
    }

    /// The number of a Pod, if there is one; whether there is not is remembered.
    fn number_of(&mut self, name: &NamespacedName) -> Option<Identity> {
        let labels = self.label_set(name)?;
        let number = self.identities.get(&labels).copied();
        if number.is_none() {
            self.unnumbered.insert(name.clone());
        }
        number
    }

    /// Has a Pod refer to this number and no other.
    fn refer(&mut self, name: &NamespacedName, number: Option<Identity>) -> Option<Delta> {
        let before = match number {
            Some(number) => self.numbered.insert(name.clone(), number),
            None => self.numbered.remove(name),
        };
        if before == number {
            return None;
        }
        let revived = number.and_then(|number| self.references.acquire(number, Referrer::Pod));
        if let Some(before) = before {
            self.references.release(before, Referrer::Pod);
        }
        revived
    }

    fn put(&mut self, object: Object, touched: &mut Touched) {
        match object {
            Object::Namespace(namespace) => {
                self.touch_pods(&namespace.name, touched);
                self.namespaces.insert(namespace.name.clone(), namespace);
            }
            Object::Node(node) => {
                let before = self.nodes.insert(node.name.clone(), node.clone());
                touched.nodes.entry(node.name).or_insert(before);
            }
            Object::Pod(pod) => {
                touched.pods.insert(pod.name.clone());
                self.pods.insert(pod.name.clone(), pod);
            }
            Object::Policy(policy) => {
                let before = self.policies.insert(policy.id.clone(), policy.clone());
                touched.policies.entry(policy.id).or_insert(before);
            }
        }
    }

    fn remove(&mut self, object: &Object, touched: &mut Touched) {
        match object {
            Object::Namespace(namespace) => {
                self.touch_pods(&namespace.name, touched);
                self.namespaces.remove(&namespace.name);
            }
            Object::Node(node) => {
                let before = self.nodes.remove(&node.name);
                touched.nodes.entry(node.name.clone()).or_insert(before);
            }
            Object::Pod(pod) => {
                touched.pods.insert(pod.name.clone());
                self.pods.remove(&pod.name);
            }
            Object::Policy(policy) => {
                let before = self.policies.remove(&policy.id);
                touched.policies.entry(policy.id.clone()).or_insert(before);
            }
        }
    }

    fn touch_pods(&self, namespace: &str, touched: &mut Touched) {
        touched.pods.extend(self.pods_in(namespace).map(|pod| pod.name.clone()));
    }

    fn pods_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods
            .range(NamespacedName::new(namespace, "")..)
            .take_while(move |(name, _)| name.namespace == namespace)
            .map(|(_, pod)| pod)
    }

    /// Forgets what a node plugged in prefixes that it does not have any more.
    fn leave_prefixes(&mut self, before: &Node) -> Vec<Delta> {
        let plugged: Vec<_> = self.plugged_of(before).collect();
        let gone = plugged.into_iter().filter(|a| !self.may_plug(&before.name, *a));
        let gone: Vec<_> = gone.collect();
        gone.into_iter().filter_map(|address| self.unplug(&before.name, address)).collect()
    }

    /// Makes the published workload of a pod what it should be now.
    fn publish_workload(
        &mut self,
        name: &NamespacedName,
        number: Option<Identity>,
    ) -> Option<Delta> {
        let workload = self.pods.get(name).and_then(|pod| {
            Some(Workload { name: name.clone(), node: pod.node.clone()?, identity: number? })
        });
        match workload {
            Some(workload) if self.workloads.get(name) == Some(&workload) => None,
            Some(workload) => {
                self.workloads.insert(name.clone(), workload.clone());
                Some(Delta::WorkloadUpsert(workload))
            }
            None => self.workloads.remove(name).map(|_| Delta::WorkloadDelete(name.clone())),
        }
    }

    fn has(&self, key: &ObjectKey) -> bool {
        match key {
            ObjectKey::Namespace(name) => self.namespaces.contains_key(name),
            ObjectKey::Node(name) => self.nodes.contains_key(name),
            ObjectKey::Pod(name) => self.pods.contains_key(name),
            ObjectKey::Policy(id) => self.policies.contains_key(id),
        }
    }

    fn holds(&self, object: &Object) -> bool {
        match object {
            Object::Namespace(n) => self.namespaces.get(&n.name) == Some(n),
            Object::Node(n) => self.nodes.get(&n.name) == Some(n),
            Object::Pod(p) => self.pods.get(&p.name) == Some(p),
            Object::Policy(p) => self.policies.get(&p.id) == Some(p),
        }
    }
}
