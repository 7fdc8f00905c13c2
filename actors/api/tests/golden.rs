//! The lines as they cross the socket, byte for byte: another release must understand them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test"
)]

use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;
use weft_api::{API_VERSION, Call, Failure, FailureKind, Reply, agent, cni, operator};
use weft_hubble::flow::Flow;
use weft_types::Revision;

#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T, line: &str) {
    assert_eq!(serde_json::to_string(&value).unwrap(), line);
    assert_eq!(serde_json::from_str::<T>(line).unwrap(), value);
}

fn attachment() -> cni::Attachment {
    cni::Attachment { container_id: "c0ffee".to_owned(), interface: "eth0".to_owned() }
}

fn call<R>(request: R) -> Call<R> {
    Call { version: API_VERSION, traceparent: None, caller: None, deadline_ms: Some(5000), request }
}

#[test]
fn cni_calls() {
    golden(
        Call {
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok(),
            ..call(agent::Request::CniAdd(cni::Add {
                attachment: attachment(),
                netns: "/run/netns/a".to_owned(),
                pod_namespace: "shop".to_owned(),
                pod_name: "web-0".to_owned(),
                network: Some("weft".to_owned()),
                adopt: None,
            }))
        },
        r#"{"version":1,"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","deadline_ms":5000,"request":{"cni_add":{"attachment":{"container_id":"c0ffee","interface":"eth0"},"netns":"/run/netns/a","pod_namespace":"shop","pod_name":"web-0","network":"weft"}}}"#,
    );
    golden(
        call(agent::Request::CniDelete(attachment())),
        r#"{"version":1,"deadline_ms":5000,"request":{"cni_delete":{"container_id":"c0ffee","interface":"eth0"}}}"#,
    );
    golden(
        call(agent::Request::CniCheck(cni::Check {
            attachment: attachment(),
            netns: "/run/netns/a".to_owned(),
            addresses: vec![[10, 244, 0, 7].into()],
        })),
        r#"{"version":1,"deadline_ms":5000,"request":{"cni_check":{"attachment":{"container_id":"c0ffee","interface":"eth0"},"netns":"/run/netns/a","addresses":["10.244.0.7"]}}}"#,
    );
    golden(
        call(agent::Request::CniStatus),
        r#"{"version":1,"deadline_ms":5000,"request":"cni_status"}"#,
    );
    golden(
        call(agent::Request::CniCollect(cni::Collect {
            network: "weft".to_owned(),
            valid: vec![attachment()],
        })),
        r#"{"version":1,"deadline_ms":5000,"request":{"cni_collect":{"network":"weft","valid":[{"container_id":"c0ffee","interface":"eth0"}]}}}"#,
    );
}

#[test]
fn agent_requests() {
    golden(
        agent::Request::Flows { last: Some(20), follow: true },
        r#"{"flows":{"last":20,"follow":true}}"#,
    );
    golden(
        agent::Request::MapDump { name: "weft_policy".to_owned() },
        r#"{"map_dump":{"name":"weft_policy"}}"#,
    );
    for (request, line) in [
        (agent::Request::Status, r#""status""#),
        (agent::Request::Endpoints, r#""endpoints""#),
        (agent::Request::Identities, r#""identities""#),
        (agent::Request::Nodes, r#""nodes""#),
        (agent::Request::Policies, r#""policies""#),
        (agent::Request::Maps, r#""maps""#),
    ] {
        golden(request, line);
    }
}

#[test]
fn agent_answers() {
    golden(
        Reply::Ok(agent::Answer::Added(cni::Added {
            address: [10, 244, 0, 7].into(),
            gateway: [169, 254, 1, 1].into(),
            host_interface: "weft0001".to_owned(),
            host_mac: "ee:ee:57:ef:70:01".to_owned(),
            mac: "02:00:00:00:00:07".to_owned(),
            mtu: 1500,
        })),
        r#"{"ok":{"added":{"address":"10.244.0.7","gateway":"169.254.1.1","host_interface":"weft0001","host_mac":"ee:ee:57:ef:70:01","mac":"02:00:00:00:00:07","mtu":1500}}}"#,
    );
    golden(Reply::Ok(agent::Answer::Done), r#"{"ok":"done"}"#);
    golden(Reply::Ok(agent::Answer::FlowsLost(7)), r#"{"ok":{"flows_lost":7}}"#);
    golden(Reply::Ok(agent::Answer::EventsLost(7)), r#"{"ok":{"events_lost":7}}"#);
    golden(
        Reply::Ok(agent::Answer::Flow(
            Flow { verdict: "DROPPED".to_owned(), ..Flow::default() }.into(),
        )),
        r#"{"ok":{"flow":{"time":"","verdict":"DROPPED","Type":"","node_name":"","Summary":""}}}"#,
    );
    golden(Reply::<agent::Answer>::End, r#""end""#);
    for (kind, word) in [
        (FailureKind::Invalid, "invalid"),
        (FailureKind::NotFound, "not_found"),
        (FailureKind::TryAgain, "try_again"),
        (FailureKind::Refused, "refused"),
        (FailureKind::Internal, "internal"),
    ] {
        golden(
            Reply::<agent::Answer>::Error(Failure { kind, message: "why".to_owned() }),
            &format!(r#"{{"error":{{"kind":"{word}","message":"why"}}}}"#),
        );
    }
    golden(
        agent::Answer::Endpoints(vec![agent::EndpointRow {
            node: "node-0".to_owned(),
            id: 7,
            pod: "shop/web-0".to_owned(),
            address: [10, 244, 0, 7].into(),
            identity: 256,
            labels: vec!["k8s:app=web".to_owned()],
            interface: "weft0001".to_owned(),
            state: "ready".to_owned(),
            policy: "ingress".to_owned(),
            realised: "1.9".to_owned(),
        }]),
        r#"{"endpoints":[{"node":"node-0","id":7,"pod":"shop/web-0","address":"10.244.0.7","identity":256,"labels":["k8s:app=web"],"interface":"weft0001","state":"ready","policy":"ingress","realised":"1.9"}]}"#,
    );
}

#[test]
fn operator_lines() {
    golden(
        operator::Request::Wait {
            revision: Some(Revision::new(1, 9)),
            timeout_ms: 30_000,
            node: None,
        },
        r#"{"wait":{"revision":281474976710665,"timeout_ms":30000}}"#,
    );
    golden(
        operator::Answer::Waited(operator::Waited {
            revision: Revision::new(1, 9),
            enforced: false,
            behind: vec![operator::NodeProgress {
                node: "node-1".to_owned(),
                connected: false,
                operator: None,
                acknowledged: None,
                problem: Some("no room".to_owned()),
            }],
        }),
        r#"{"waited":{"revision":281474976710665,"enforced":false,"behind":[{"node":"node-1","connected":false,"acknowledged":null,"problem":"no room"}]}}"#,
    );
    golden(
        operator::Answer::Accepted { revision: Revision::new(0, 3), changed: 2 },
        r#"{"accepted":{"revision":3,"changed":2}}"#,
    );
}

#[test]
fn what_a_later_release_adds_is_ignored() {
    let call: Call<agent::Request> =
        serde_json::from_str(r#"{"version":1,"request":"maps","new_field":[1]}"#).unwrap();
    assert_eq!(call.request, agent::Request::Maps);
    let nonsense: Call<agent::Request> =
        serde_json::from_str(r#"{"version":1,"traceparent":"garbage","request":"maps"}"#).unwrap();
    assert_eq!(nonsense.traceparent, None);
}

#[test]
fn operator_requests() {
    for (request, line) in [
        (operator::Request::Status, r#""status""#),
        (operator::Request::Identities, r#""identities""#),
        (operator::Request::Objects, r#""objects""#),
        (
            operator::Request::Wait {
                revision: None,
                timeout_ms: 5,
                node: Some("node-1".to_owned()),
            },
            r#"{"wait":{"revision":null,"timeout_ms":5,"node":"node-1"}}"#,
        ),
        (
            operator::Request::Apply { objects: objects() },
            r#"{"apply":{"objects":[{"Namespace":{"name":"shop","labels":{"team":"a"}}},{"Node":{"name":"node-1","address":"172.30.0.11","pod_cidrs":["10.244.1.0/24"]}}]}}"#,
        ),
        (operator::Request::Delete { objects: Vec::new() }, r#"{"delete":{"objects":[]}}"#),
        (
            operator::Request::Number {
                labels: vec![weft_types::Label {
                    source: weft_types::Source::K8s,
                    key: "app".to_owned(),
                    value: "web".to_owned(),
                }],
            },
            r#"{"number":{"labels":[{"source":"K8s","key":"app","value":"web"}]}}"#,
        ),
    ] {
        golden(request, line);
    }
}

#[test]
fn operator_answers() {
    golden(operator::Answer::Objects(Vec::new()), r#"{"objects":[]}"#);
    golden(
        operator::Answer::Number { identity: 256, revision: Revision::new(0, 3) },
        r#"{"number":{"identity":256,"revision":3}}"#,
    );
    golden(
        operator::Answer::Identities(vec![operator::IdentityRow {
            identity: 256,
            labels: vec!["k8s:app=web".to_owned()],
            state: operator::IdentityState::Retiring,
            pods: 0,
            endpoints: 2,
        }]),
        r#"{"identities":[{"identity":256,"labels":["k8s:app=web"],"state":"retiring","pods":0,"endpoints":2}]}"#,
    );
    golden(
        operator::Answer::Status(operator::Status {
            version: "0.1.0".to_owned(),
            revision: Revision::new(0, 3),
            store: "file".to_owned(),
            nodes: vec![operator::NodeProgress {
                node: "node-1".to_owned(),
                connected: true,
                operator: Some(2),
                acknowledged: Some(Revision::new(0, 3)),
                problem: None,
            }],
            identities: 1,
            workloads: 2,
            endpoints: 3,
            policies: 4,
        }),
        r#"{"status":{"version":"0.1.0","revision":3,"store":"file","nodes":[{"node":"node-1","connected":true,"operator":2,"acknowledged":3}],"identities":1,"workloads":2,"endpoints":3,"policies":4}}"#,
    );
}

fn objects() -> Vec<weft_types::Object> {
    vec![
        weft_types::Object::Namespace(weft_types::object::Namespace {
            name: "shop".to_owned(),
            labels: [("team".to_owned(), "a".to_owned())].into(),
        }),
        weft_types::Object::Node(weft_types::Node {
            name: weft_types::NodeName("node-1".to_owned()),
            address: [172, 30, 0, 11].into(),
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap()],
        }),
    ]
}
