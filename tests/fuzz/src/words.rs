//! Texts of one line: label patterns, label selectors, times, names, revisions, `traceparent`s.

use crate::bytes::Bytes;
use std::{fmt::Display, str::FromStr};
use weft_hubble::{filter::LabelSelector, time};
use weft_types::{LabelFilter, NamespacedName, Revision, TraceContext, label::Source};

/// The target: what it is, then the text; of a label filter two lines, patterns and a key.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let kind = bytes.up_to(6);
    let text = String::from_utf8_lossy(bytes.0);
    match kind {
        0 | 1 => filter(&text),
        2 => drop(LabelSelector::parse(&text)),
        3 => at_a_time(&text),
        4 => is_the_same_again::<NamespacedName>(&text),
        5 => is_the_same_again::<Revision>(&text),
        _ => is_the_same_again::<TraceContext>(&text),
    }
}

fn filter(text: &str) {
    let (patterns, key) = text.split_once('\n').unwrap_or((text, "app"));
    let patterns: Vec<&str> = patterns.split(' ').collect();
    let Ok(filter) = LabelFilter::parse(&patterns) else { return };
    assert!(filter.keeps(Source::Gen, key), "what Weft generates is no one's to filter");
    let again = LabelFilter::parse(filter.added()).expect("what was taken is taken again");
    for source in [Source::K8s, Source::Reserved] {
        assert_eq!(filter.keeps(source, key), again.keeps(source, key), "{patterns:?} {key:?}");
    }
}

fn at_a_time(text: &str) {
    let Some(at) = time::parse(text) else { return };
    let written = time::rfc3339(at);
    assert_eq!(time::parse(&written), Some(at), "{text:?} is written {written:?}");
}

fn is_the_same_again<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert!(written.parse::<T>().is_ok_and(|again| again == value), "{text:?}: {written:?}");
    }
}
