//! Predicates over label sets.

use crate::label::{LabelSet, Source};
use serde::{Deserialize, Serialize};

/// One requirement of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Requirement {
    /// The key is there with one of these values (sorted).
    In {
        /// Source of the label.
        source: Source,
        /// Key of the label.
        key: String,
        /// Values, sorted, at least one.
        values: Vec<String>,
    },
    /// The key is absent or has none of these values (sorted).
    NotIn {
        /// Source of the label.
        source: Source,
        /// Key of the label.
        key: String,
        /// Values, sorted, at least one.
        values: Vec<String>,
    },
    /// The key is there.
    Exists {
        /// Source of the label.
        source: Source,
        /// Key of the label.
        key: String,
    },
    /// The key is absent.
    Absent {
        /// Source of the label.
        source: Source,
        /// Key of the label.
        key: String,
    },
}

impl Requirement {
    /// Whether the set meets it.
    pub fn matches(&self, labels: &LabelSet) -> bool {
        let value_in = |source: Source, key: &str, values: &[String]| {
            labels.get(source, key).is_some_and(|value| values.iter().any(|v| v == value))
        };
        match self {
            Self::In { source, key, values } => value_in(*source, key, values),
            Self::NotIn { source, key, values } => !value_in(*source, key, values),
            Self::Exists { source, key } => labels.get(*source, key).is_some(),
            Self::Absent { source, key } => labels.get(*source, key).is_none(),
        }
    }
}

/// A conjunction of requirements (sorted); the empty one matches every set.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// From requirements in any order.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort();
        requirements.dedup();
        Self(requirements)
    }

    /// Whether the set meets every requirement.
    pub fn matches(&self, labels: &LabelSet) -> bool {
        self.0.iter().all(|r| r.matches(labels))
    }

    /// The requirements, sorted.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }
}
