//! Labels and the sets of them that are identities.

use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};

/// Where a label comes from. Selectors name the source, so a pod cannot pose as the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Source {
    /// Kubernetes: the pod's labels and what is added from its namespace and service account.
    K8s,
    /// Reserved identities.
    Reserved,
    /// A prefix that a policy names.
    Cidr,
    /// What Weft generates for itself, such as the spelling of named ports.
    Gen,
}

impl Source {
    /// The prefix before the colon.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::K8s => "k8s",
            Self::Reserved => "reserved",
            Self::Cidr => "cidr",
            Self::Gen => "gen",
        }
    }
}

/// `source:key=value`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Label {
    /// Where it comes from.
    pub source: Source,
    /// Its key.
    pub key: String,
    /// Its value, often empty.
    pub value: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source.as_str(), self.key)?;
        if self.value.is_empty() { Ok(()) } else { write!(f, "={}", self.value) }
    }
}

/// A sorted set of labels with one value a (source, key): the key of an identity. Copies share their labels: a set goes from
/// request to store, log, state and history without being copied. Sets that were read together share what they have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<Arc<Label>>")]
pub struct LabelSet(Arc<Vec<Arc<Label>>>);

impl LabelSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces the value of (source, key).
    pub fn insert(&mut self, source: Source, key: impl Into<String>, value: impl Into<String>) {
        self.put(Arc::new(Label { source, key: key.into(), value: value.into() }));
    }

    fn put(&mut self, label: Arc<Label>) {
        let found = self.find(label.source, &label.key);
        let labels = Arc::make_mut(&mut self.0);
        match found {
            Ok(at) => labels.splice(at..=at, [label]).for_each(drop),
            Err(at) => labels.insert(at, label),
        }
    }

    fn find(&self, source: Source, key: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|label| (label.source, label.key.as_str()).cmp(&(source, key)))
    }

    /// The value of (source, key).
    pub fn get(&self, source: Source, key: &str) -> Option<&str> {
        let label = self.0.get(self.find(source, key).ok()?)?;
        Some(&label.value)
    }

    /// All labels, sorted by source and key.
    pub fn iter(&self) -> impl Iterator<Item = &Label> {
        self.0.iter().map(|label| &**label)
    }

    /// How many labels it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Arc<Label>> for LabelSet {
    fn from_iter<T: IntoIterator<Item = Arc<Label>>>(labels: T) -> Self {
        let mut set = Self::new();
        labels.into_iter().for_each(|label| set.put(label));
        set
    }
}

impl FromIterator<Label> for LabelSet {
    fn from_iter<T: IntoIterator<Item = Label>>(labels: T) -> Self {
        labels.into_iter().map(Arc::new).collect()
    }
}

impl From<Vec<Arc<Label>>> for LabelSet {
    fn from(labels: Vec<Arc<Label>>) -> Self {
        labels.into_iter().collect()
    }
}

impl fmt::Display for LabelSet {
    /// `source:key=value` joined by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, label) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            label.fmt(f)?;
        }
        Ok(())
    }
}

/// Keys of the labels that Weft adds; they are Cilium's, so that its policies mean the same here.
pub mod key {
    /// The pod's namespace.
    pub const NAMESPACE: &str = "io.kubernetes.pod.namespace";
    /// Prefix of each label of the pod's namespace; a dot and the label's own key follow.
    pub const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels";
    /// The pod's service account.
    pub const SERVICE_ACCOUNT: &str = "io.cilium.k8s.policy.serviceaccount";
    /// The cluster.
    pub const CLUSTER: &str = "io.cilium.k8s.policy.cluster";
    /// Source `gen`: the pod's named ports, `name=PROTOCOL/port` sorted and joined by `;`.
    pub const PORTS: &str = "ports";
}
