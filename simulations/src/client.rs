//! Clients: each owns some pods and wants one change of them at a time, until it is answered.

use crate::{policies, time::Micros};
use std::collections::BTreeMap;
use weft_raft::MemberId;
use weft_state::leadership::{Change, RequestId};
use weft_types::{
    NamespacedName, Node, NodeName, Object,
    object::{Namespace, ObjectKey, Pod},
    policy::PolicyId,
};

/// Label sets that many pods share, so that clients want the same number at once.
pub(crate) const SHARED: u32 = 24;
/// Policies of a client, at most.
const POLICIES: u32 = 4;
/// What labels begin with that no other pod has.
const ONLY: &str = "only";
/// The namespace of every pod.
pub(crate) const NAMESPACE: &str = "sim";

/// What clients want.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Habits {
    /// Of a hundred pods, so many have labels that no other has.
    only: u8,
    /// Pods that a client has; with one more its oldest goes.
    pub(crate) pods: usize,
    /// Pods that come with one change.
    at_once: u32,
    /// Milliseconds after which the first client relabels the namespace of all pods again; 0 is never.
    relabel_every: u64,
    /// Milliseconds between two pods that are started anew where they are; 0 is never.
    pub(crate) restart_every: u64,
    /// Milliseconds that a runtime takes to end a pod which is wanted no more.
    pub(crate) lingers: u64,
    /// Of a hundred wishes so many are of policies, where agents are few; with none, nodes have no kernels.
    pub(crate) policies: u8,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            only: 50,
            pods: usize::MAX,
            at_once: 1,
            relabel_every: 0,
            restart_every: 0,
            lingers: 0,
            policies: 2,
        }
    }
}

/// A client.
pub(crate) struct Client {
    pub(crate) number: usize,
    /// Whom it asks first.
    pub(crate) asks: MemberId,
    pods: BTreeMap<u32, Object>,
    next: u32,
    policies: BTreeMap<u32, Object>,
    /// When it last wanted other labels of the namespace.
    relabelled: Micros,
    /// What it wants now, and by which request it asked for it.
    pub(crate) wants: Option<(RequestId, Change)>,
    /// Since when.
    pub(crate) since: Micros,
    first: bool,
}

impl Client {
    pub(crate) fn new(number: usize, asks: MemberId) -> Self {
        Self {
            number,
            asks,
            pods: BTreeMap::new(),
            next: 0,
            policies: BTreeMap::new(),
            relabelled: Micros(0),
            wants: None,
            since: Micros(0),
            first: true,
        }
    }

    /// Something new to want: mostly a pod more, sometimes one less or relabelled.
    pub(crate) fn want(
        &mut self,
        now: Micros,
        rng: &mut fastrand::Rng,
        nodes: &[NodeName],
        habits: Habits,
    ) -> Change {
        self.since = now;
        if std::mem::take(&mut self.first) && self.number == 0 {
            return Change { put: foundation(nodes), remove: Vec::new() };
        }
        let since = Micros(now.0.saturating_sub(self.relabelled.0));
        let every = Micros::millis(habits.relabel_every);
        if self.number == 0 && every > Micros(0) && since >= every {
            self.relabelled = now;
            let team = BTreeMap::from([("team".to_owned(), format!("team-{}", rng.u16(..)))]);
            return Change { put: vec![namespace(team)], remove: Vec::new() };
        }
        if habits.policies > 0 && rng.u8(0..100) < habits.policies {
            return self.want_policy(rng, nodes.len());
        }
        let any = rng.choice(self.pods.keys().copied());
        match (rng.u8(0..10), any) {
            (0, Some(pod)) => Change {
                put: Vec::new(),
                remove: self.pods.get(&pod).cloned().into_iter().collect(),
            },
            (1, Some(pod)) => {
                Change { put: vec![self.pod(pod, rng, nodes, habits)], remove: Vec::new() }
            }
            _ => {
                let first = self.next + 1;
                self.next += habits.at_once;
                let put =
                    (first..=self.next).map(|pod| self.pod(pod, rng, nodes, habits)).collect();
                let over = (self.pods.len() + habits.at_once as usize).saturating_sub(habits.pods);
                Change { put, remove: self.pods.values().take(over).cloned().collect() }
            }
        }
    }

    /// A policy more, or another in the place of one, or one less.
    fn want_policy(&self, rng: &mut fastrand::Rng, nodes: usize) -> Change {
        let number = rng.u32(0..POLICIES);
        match self.policies.get(&number) {
            Some(policy) if rng.u8(0..3) == 0 => {
                Change { put: Vec::new(), remove: vec![policy.clone()] }
            }
            _ => {
                let policy = policies::any(self.policy(number), rng, nodes);
                Change { put: vec![Object::Policy(policy)], remove: Vec::new() }
            }
        }
    }

    fn policy(&self, number: u32) -> PolicyId {
        policies::named(&format!("policy-{}-{number}", self.number))
    }

    fn pod(
        &self,
        number: u32,
        rng: &mut fastrand::Rng,
        nodes: &[NodeName],
        habits: Habits,
    ) -> Object {
        let app = match rng.u8(0..100) < habits.only {
            false => format!("shared-{}", rng.u32(0..SHARED)),
            true => format!("{ONLY}-{}-{number}-{}", self.number, rng.u16(..)),
        };
        Object::Pod(Pod {
            name: self.name(number),
            labels: BTreeMap::from([("app".to_owned(), app)]),
            service_account: "default".to_owned(),
            ports: Vec::new(),
            node: rng.choice(nodes.iter().cloned()),
            address: None,
            command: Vec::new(),
        })
    }

    /// Something of its own that is, was or may be: what it wants now more likely than another.
    pub(crate) fn any_key(&self, rng: &mut fastrand::Rng) -> Option<ObjectKey> {
        let wants: Vec<&Object> = self
            .wants
            .iter()
            .flat_map(|(_, change)| change.put.iter().chain(&change.remove))
            .filter(|object| !matches!(object, Object::Node(_)))
            .collect();
        match rng.choice(wants).filter(|_| rng.bool()) {
            Some(object) => Some(object.key()),
            None if !self.policies.is_empty() && rng.u8(0..4) == 0 => {
                Some(ObjectKey::Policy(self.policy(rng.u32(0..POLICIES))))
            }
            None => (self.next > 0).then(|| ObjectKey::Pod(self.name(rng.u32(1..=self.next)))),
        }
    }

    fn name(&self, number: u32) -> NamespacedName {
        NamespacedName::new(NAMESPACE, format!("pod-{}-{number}", self.number))
    }

    /// A pod of its own as it was answered last.
    pub(crate) fn known(&self, object: &Object) -> Option<&Object> {
        let known = if matches!(object, Object::Policy(_)) { &self.policies } else { &self.pods };
        known.get(&number_of(object)?)
    }

    /// Whether what it wants has a label set numbered: one that no pod had.
    pub(crate) fn allocates(&self) -> bool {
        let put = self.wants.iter().flat_map(|(_, change)| &change.put);
        put.into_iter().any(|object| match object {
            Object::Pod(pod) => pod.labels.values().any(|value| value.starts_with(ONLY)),
            Object::Namespace(_) | Object::Node(_) | Object::Policy(_) => false,
        })
    }

    /// Whether what it wants is other labels of the namespace.
    pub(crate) fn relabels(&self) -> bool {
        let put = self.wants.as_ref().map(|(_, change)| change.put.as_slice());
        matches!(put, Some([Object::Namespace(_)]))
    }

    /// Whether what it wants is about a policy.
    pub(crate) fn is_about_policy(&self) -> bool {
        let objects = self.wants.iter().flat_map(|(_, it)| it.put.iter().chain(&it.remove));
        objects.into_iter().any(|object| matches!(object, Object::Policy(_)))
    }

    /// It was answered: what is so from now on.
    pub(crate) fn answered(&mut self) -> Vec<(ObjectKey, Option<Object>)> {
        let Some((_, change)) = self.wants.take() else { return Vec::new() };
        for object in &change.put {
            if let (Some(known), Some(number)) = (self.known_like(object), number_of(object)) {
                known.insert(number, object.clone());
            }
        }
        for object in &change.remove {
            if let (Some(known), Some(number)) = (self.known_like(object), number_of(object)) {
                known.remove(&number);
            }
        }
        let there = change.put.into_iter().map(|object| (object.key(), Some(object)));
        let gone = change.remove.iter().map(|object| (object.key(), None));
        there.chain(gone).collect()
    }
}

impl Client {
    /// Those of its own that are of an object's kind.
    fn known_like(&mut self, object: &Object) -> Option<&mut BTreeMap<u32, Object>> {
        match object {
            Object::Pod(_) => Some(&mut self.pods),
            Object::Policy(_) => Some(&mut self.policies),
            Object::Namespace(_) | Object::Node(_) => None,
        }
    }
}

/// The namespace and the nodes.
fn foundation(nodes: &[NodeName]) -> Vec<Object> {
    let node = |(name, place): (&NodeName, u32)| {
        let [_, high, middle, low] = place.to_be_bytes();
        Object::Node(Node {
            name: name.clone(),
            address: [172, high, middle, low].into(),
            // Each has 254 addresses in 10.0.0.0/8.
            pod_cidrs: ipnet::Ipv4Net::new([10, middle, low, 0].into(), 24).into_iter().collect(),
        })
    };
    let nodes = nodes.iter().zip(1..).map(node);
    std::iter::once(namespace(BTreeMap::new())).chain(nodes).collect()
}

fn namespace(labels: BTreeMap<String, String>) -> Object {
    Object::Namespace(Namespace { name: NAMESPACE.to_owned(), labels })
}

fn number_of(object: &Object) -> Option<u32> {
    let name = match object {
        Object::Pod(pod) => &pod.name,
        Object::Policy(policy) => &policy.id.name,
        Object::Namespace(_) | Object::Node(_) => return None,
    };
    name.name.rsplit('-').next()?.parse().ok()
}
