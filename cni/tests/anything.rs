//! Anything for environment and standard input: an answer of the protocol, and nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod support;

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{TestCaseResult, TestRunner},
};
use std::{
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    time::{Duration, Instant},
};
use support::{Node, call};

/// A process each: fewer than usual, for `make test`.
const CASES: u32 = 200;

/// How many cases, where other tests have as many as `PROPTEST_CASES` says.
fn cases(asked: Option<&str>) -> u32 {
    asked.and_then(|text| text.parse::<u32>().ok()).map_or(CASES, |asked| asked / 8)
}

/// Not `proptest!`, which puts `PROPTEST_CASES` over whatever number it is told.
fn every<S: Strategy>(of: S, holds: impl Fn(S::Value) -> TestCaseResult) {
    let cases = cases(std::env::var("PROPTEST_CASES").ok().as_deref());
    let config = ProptestConfig { cases, source_file: Some(file!()), ..ProptestConfig::default() };
    if let Err(fault) = TestRunner::new(config).run(&of, holds) {
        panic!("{fault}");
    }
}

/// Values that runtimes send, and anything else that an environment can hold.
fn value() -> impl Strategy<Value = OsString> {
    let likely = select(vec![
        "ADD",
        "DEL",
        "CHECK",
        "STATUS",
        "GC",
        "VERSION",
        "c0ffee",
        "eth0",
        "..",
        "/proc/self/ns/net",
        "/proc/self/ns/mnt",
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
        "true",
        "",
    ]);
    let bytes = vec(1_u8..=255, 0..40).prop_map(OsString::from_vec);
    prop_oneof![3 => likely.prop_map(OsString::from), 1 => bytes]
}

fn environment() -> impl Strategy<Value = Vec<(OsString, OsString)>> {
    let names = [
        "CNI_COMMAND",
        "CNI_CONTAINERID",
        "CNI_NETNS",
        "CNI_IFNAME",
        "CNI_ARGS",
        "CNI_PATH",
        "CNI_NETNS_OVERRIDE",
        "TRACEPARENT",
    ];
    let values = vec(proptest::option::weighted(0.8, value()), names.len());
    let command = select(vec!["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION"]);
    (values, proptest::option::weighted(0.8, command)).prop_map(move |(values, command)| {
        let named = names.iter().zip(values);
        let mut set: Vec<(OsString, OsString)> =
            named.filter_map(|(name, value)| Some((OsString::from(name), value?))).collect();
        set.extend(command.map(|command| ("CNI_COMMAND".into(), command.into())));
        set
    })
}

/// JSON of any shape, some of it with the keys that are read here. No paths: what a configuration names is used.
fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Map, Value};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9./:]{0,12}".prop_map(Value::from),
        select(vec!["1.1.0", "1.0.0", "0.3.1", "weft", "10.244.0.7/32", "eth0"])
            .prop_map(Value::from),
    ];
    let keys = select(vec![
        "cniVersion",
        "name",
        "prevResult",
        "interfaces",
        "ips",
        "routes",
        "dns",
        "address",
        "interface",
        "sandbox",
        "cni.dev/valid-attachments",
        "containerID",
        "ifname",
        "other",
    ]);
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((keys.clone(), inner), 0..6).prop_map(|pairs| {
                Value::Object(
                    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

fn stdin() -> impl Strategy<Value = Vec<u8>> {
    let config = (json(), any::<bool>()).prop_map(|(mut value, whole)| {
        if let (true, Some(object)) = (whole, value.as_object_mut()) {
            object.insert("cniVersion".to_owned(), "1.1.0".into());
            object.insert("name".to_owned(), "weft".into());
        }
        value
    });
    prop_oneof![1 => vec(any::<u8>(), 0..200), 4 => config.prop_map(|value| value.to_string().into_bytes())]
}

#[test]
fn any_call_has_an_answer_and_leaves_nothing() {
    every((environment(), stdin()), |(variables, stdin)| {
        let node = Node::new();
        // Where the configuration names no socket, nobody is asked at the node's own: none of these is an agent's.
        let stdin = match serde_json::from_slice::<serde_json::Value>(&stdin) {
            Ok(serde_json::Value::Object(mut object)) => {
                object.insert("socket".to_owned(), node.socket().to_str().unwrap().into());
                serde_json::Value::Object(object).to_string().into_bytes()
            }
            _ => stdin,
        };
        let begun = Instant::now();
        let outcome = call(&variables, &stdin);
        prop_assert!(begun.elapsed() < Duration::from_secs(10));
        let command = variables.iter().rfind(|(name, _)| name == "CNI_COMMAND");
        let is_delete = command.is_some_and(|(_, command)| command == "DEL");
        // DEL alone leaves something, what the agent is to do, and only when it says that it is well.
        let left = node.queued();
        prop_assert_eq!(left.len(), usize::from(is_delete && outcome.success), "{:?}", left);
        prop_assert!(left.iter().all(|name| name.ends_with(".json")));
        let entries = std::fs::read_dir(node.dir.path()).unwrap().count();
        prop_assert_eq!(entries, left.len());
        Ok(())
    });
}

#[test]
fn any_answer_of_the_agent_is_survived() {
    every(vec(any::<u8>(), 0..80), |answer| {
        let node = Node::new();
        let _asked = node.agent(&answer);
        for command in ["DEL", "STATUS"] {
            let variables = Node::variables(command, std::path::Path::new("/nonexistent"));
            call(&variables, node.config("1.1.0").to_string().as_bytes());
        }
        Ok(())
    });
}

#[test]
fn a_number_of_cases_that_is_asked_for_is_divided() {
    let number = [None, Some("16384"), Some("many")].map(cases);
    assert_eq!(number, [CASES, 2048, CASES]);
}
