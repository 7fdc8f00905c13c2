//! Which labels make an identity: Cilium's rules, and its syntax for changing them.

use crate::label::Source;
use regex::Regex;
use std::{str::FromStr, sync::LazyLock};

/// Cilium's own list, so that the same pods share an identity here as there.
const DEFAULTS: [&str; 21] = [
    r"reserved:.*",
    r"io\.kubernetes\.pod\.namespace",
    r"io\.cilium\.k8s\.namespace\.labels",
    r"app\.kubernetes\.io",
    r"io\.cilium\.k8s\.policy\.cluster",
    r"io\.cilium\.k8s\.policy\.serviceaccount",
    r"!io\.kubernetes",
    r"!kubernetes\.io",
    r"!statefulset\.kubernetes\.io/pod-name",
    r"!apps\.kubernetes\.io/pod-index",
    r"!batch\.kubernetes\.io/job-completion-index",
    r"!batch\.kubernetes\.io/controller-uid",
    r"!.*beta\.kubernetes\.io",
    r"!k8s\.io",
    r"!pod-template-generation",
    r"!pod-template-hash",
    r"!controller-revision-hash",
    r"!controller-uid",
    r"!annotation.*",
    r"!etcd_node",
    r"!topology\.kubernetes\.io",
];

/// Tells labels that make an identity from those that do not.
///
/// A pattern is `[SOURCE:][!]REGEX`, matched against the beginning of a label's key; `!` excludes. The
/// longest match that includes beats the shortest that excludes. A label that no pattern speaks of counts,
/// unless [`LabelFilter::parse`] was given a pattern that includes: then the list is an allow-list.
#[derive(Clone, Debug)]
pub struct LabelFilter {
    patterns: Vec<Pattern>,
    /// The patterns beside the defaults, as they are written.
    added: Vec<String>,
}

#[derive(Clone, Debug)]
struct Pattern {
    source: Option<String>,
    excludes: bool,
    regex: Regex,
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "label pattern {pattern:?}: {problem}; patterns are [SOURCE:][!]REGEX, as k8s:!team or app"
)]
pub struct BadPattern {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The defaults, parsed once; that each is a pattern is tested.
static DEFAULT: LazyLock<LabelFilter> = LazyLock::new(|| {
    let patterns = DEFAULTS.iter().filter_map(|pattern| Pattern::parse(pattern).ok()).collect();
    LabelFilter { patterns, added: Vec::new() }
});

impl Default for LabelFilter {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

impl LabelFilter {
    /// The defaults and these patterns, as Cilium's `--labels` takes them.
    pub fn parse(patterns: &[impl AsRef<str>]) -> Result<Self, BadPattern> {
        let mut filter = Self::default();
        for pattern in patterns.iter().map(AsRef::as_ref).filter(|pattern| !pattern.is_empty()) {
            filter.patterns.push(Pattern::parse(pattern)?);
            filter.added.push(pattern.to_owned());
        }
        Ok(filter)
    }

    /// The patterns beside the defaults, as [`LabelFilter::parse`] was given them.
    pub fn added(&self) -> &[String] {
        &self.added
    }

    /// Whether a label with this source and key makes an identity.
    pub fn keeps(&self, source: Source, key: &str) -> bool {
        // What Weft generates is no one's to filter: it tells apart what must be told apart.
        if source == Source::Gen {
            return true;
        }
        let lengths = |excludes: bool| {
            self.patterns
                .iter()
                .filter(move |pattern| pattern.excludes == excludes)
                .filter_map(|pattern| pattern.matched(source, key))
        };
        let included = lengths(false).max().unwrap_or(0);
        let excluded = lengths(true).filter(|length| *length > 0).min().unwrap_or(0);
        let mut added = self.patterns.iter().rev().take(self.added.len());
        let is_allow_list = added.any(|pattern| !pattern.excludes);
        (!is_allow_list && excluded == 0) || included > excluded
    }
}

/// Filters with the same patterns beside the defaults are the same.
impl PartialEq for LabelFilter {
    fn eq(&self, other: &Self) -> bool {
        self.added == other.added
    }
}

impl Eq for LabelFilter {}

impl FromStr for LabelFilter {
    type Err = BadPattern;

    /// Patterns between spaces, as Cilium's `labels` has them.
    fn from_str(text: &str) -> Result<Self, BadPattern> {
        Self::parse(&text.split_whitespace().collect::<Vec<_>>())
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, BadPattern> {
        let bad = |problem: String| BadPattern { pattern: text.to_owned(), problem };
        let (source, rest) = match text.split_once(':') {
            Some((source, rest)) => (Some(source).filter(|source| !source.is_empty()), rest),
            None => (None, text),
        };
        let (excludes, regex) = match rest.strip_prefix('!') {
            Some(regex) => (true, regex),
            None => (false, rest),
        };
        if regex.is_empty() {
            return Err(bad("it has no prefix".to_owned()));
        }
        let regex = Regex::new(regex).map_err(|error| {
            bad(error
                .to_string()
                .lines()
                .last()
                .unwrap_or("it is no regular expression")
                .to_owned())
        })?;
        Ok(Self { source: source.map(str::to_owned), excludes, regex })
    }

    /// How much of the key's beginning it matches.
    fn matched(&self, source: Source, key: &str) -> Option<usize> {
        if self.source.as_deref().is_some_and(|own| own != source.as_str()) {
            return None;
        }
        self.regex.find(key).filter(|found| found.start() == 0).map(|found| found.end())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    fn kept(patterns: &[&str], keys: &[&str]) -> Vec<String> {
        let filter = LabelFilter::parse(patterns).unwrap();
        let keys = keys.iter().filter(|key| filter.keeps(Source::K8s, key));
        keys.map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn every_default_is_a_pattern() {
        assert_eq!(LabelFilter::default().patterns.len(), DEFAULTS.len());
    }

    #[test]
    fn the_defaults_are_cilium_s() {
        let keep = [
            "app",
            "tier",
            "app.kubernetes.io/name",
            "example.org/k8s.io",
            "io.kubernetes.pod.namespace",
            "io.cilium.k8s.namespace.labels.team",
            "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name",
            "io.cilium.k8s.policy.cluster",
            "io.cilium.k8s.policy.serviceaccount",
        ];
        assert_eq!(kept(&[], &keep), keep);
        let drop = [
            "io.kubernetes.pod.name",
            "kubernetes.io/arch",
            "k8s.io/x",
            "pod-template-hash",
            "pod-template-generation",
            "controller-revision-hash",
            "controller-uid",
            "statefulset.kubernetes.io/pod-name",
            "apps.kubernetes.io/pod-index",
            "batch.kubernetes.io/job-completion-index",
            "batch.kubernetes.io/controller-uid",
            "topology.kubernetes.io/zone",
            "x.beta.kubernetes.io/y",
            "annotation.x",
            "etcd_node",
        ];
        assert_eq!(kept(&[], &drop), [""; 0]);
    }

    #[test]
    fn exclusions_are_added_to_the_defaults() {
        let keys = ["team", "teams", "my.team", "app", "pod-template-hash"];
        assert_eq!(kept(&["!team"], &keys), ["my.team", "app"], "anchored at the beginning alone");
        assert_eq!(kept(&["k8s:!team$"], &keys), ["teams", "my.team", "app"]);
        assert_eq!(
            kept(&["gen:!team"], &keys),
            ["team", "teams", "my.team", "app"],
            "another source"
        );
    }

    #[test]
    fn one_inclusion_makes_an_allow_list() {
        let keys =
            ["app", "apple", "tier", "app.kubernetes.io/name", "io.kubernetes.pod.namespace"];
        assert_eq!(
            kept(&["app"], &keys),
            ["app", "apple", "app.kubernetes.io/name", "io.kubernetes.pod.namespace"]
        );
    }

    #[test]
    fn the_longest_inclusion_beats_the_shortest_exclusion() {
        assert_eq!(kept(&["!foo", "foo.bar"], &["foo", "foo.bar", "foo.baz"]), ["foo.bar"]);
        assert_eq!(kept(&["foo", "!foo"], &["foo"]), [""; 0], "at equal length it is dropped");
        assert_eq!(kept(&["kubernetes.io/arch"], &["kubernetes.io/arch"]), ["kubernetes.io/arch"]);
    }

    #[test]
    fn a_list_is_written_with_spaces() {
        let filter: LabelFilter = " k8s:!team  !tier ".parse().unwrap();
        assert_eq!(filter.added(), ["k8s:!team", "!tier"]);
        assert_eq!(filter, LabelFilter::parse(&["k8s:!team", "!tier"]).unwrap());
        assert_ne!(filter, LabelFilter::default());
        assert_eq!("".parse(), Ok(LabelFilter::default()));
        assert_eq!("app !".parse::<LabelFilter>().unwrap_err().pattern, "!");
    }

    #[test]
    fn what_weft_generates_is_never_dropped() {
        assert!(LabelFilter::parse(&["!.*", "app"]).unwrap().keeps(Source::Gen, "ports"));
    }

    #[test]
    fn patterns_that_cannot_be_used_are_refused() {
        for bad in ["k8s:", "!", "k8s:!", "a(", "*"] {
            let error = LabelFilter::parse(&[bad]).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
    }
}
