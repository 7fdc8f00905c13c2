//! A step that the kernel has no room for is named, with the rule that needs most.
#![allow(clippy::unwrap_used, reason = "a test")]

use weft_core::policy::{Engine, Room, Step};
use weft_types::{
    Identity, LabelSet, NamespacedName, Policy, Selector, Source,
    label::key,
    policy::{IpBlock, Isolation, Peer, Peers, PolicyId, PolicyKind, Port, Ports, Protocol, Rule},
};

fn policy(name: &str, rules: Vec<Rule>) -> Policy {
    let name = NamespacedName { namespace: "a".to_owned(), name: name.to_owned() };
    Policy {
        id: PolicyId { kind: PolicyKind::NetworkPolicy, name },
        subject: Selector::default(),
        ingress: Isolation::Isolated(rules),
        egress: Isolation::Open,
    }
}

fn ports(from: u16, count: u16) -> Rule {
    // Every other port, so that no two share a prefix.
    let port = |n| Port::Range { protocol: Protocol::Tcp, first: from + 2 * n, last: from + 2 * n };
    Rule { peers: Peers::Anyone, ports: Ports::Only((0..count).map(port).collect()) }
}

fn engine(policies: Vec<Policy>) -> Engine {
    let mut engine = Engine::default();
    let mut labels = LabelSet::new();
    labels.insert(Source::K8s, key::NAMESPACE, "a");
    engine.upsert_identity(Identity(300), labels);
    engine.hold(Identity(300));
    policies.into_iter().for_each(|policy| engine.upsert_policy(policy));
    engine
}

fn first_excess(engine: &mut Engine, room: &Room) -> Option<String> {
    let steps = engine.commit().steps;
    steps.iter().find_map(|step| engine.excess(step, room)).map(|excess| excess.to_string())
}

#[test]
fn the_rule_behind_most_entries_of_a_class_is_named() {
    let policies = || {
        vec![
            policy("small", vec![ports(1, 3)]),
            policy("big", vec![ports(101, 1), ports(1001, 20)]),
        ]
    };
    let room = |class_entries| Room { class_entries, prefixes: 100 };
    // 24 ports and the entry of the open egress.
    assert_eq!(first_excess(&mut engine(policies()), &room(25)), None);
    let said = first_excess(&mut engine(policies()), &room(24)).unwrap();
    assert!(said.contains("class 300 would need 25 entries and may have 24"), "{said}");
    assert!(said.contains("20 of them come from a/big ingress[1]"), "{said}");
}

#[test]
fn an_edit_in_place_is_counted_too() {
    let selected =
        Rule { peers: Peers::Only(vec![Peer::Pods(Selector::default())]), ports: Ports::All };
    let mut engine = engine(vec![policy("all", vec![selected])]);
    engine.commit();
    let mut labels = LabelSet::new();
    labels.insert(Source::K8s, "app", "new");
    engine.upsert_identity(Identity(301), labels);
    let steps = engine.commit().steps;
    assert!(steps.iter().any(|step| matches!(step, Step::Edit(_))), "{steps:?}");
    let full = Room { class_entries: 2, prefixes: 100 };
    assert!(steps.iter().any(|step| engine.excess(step, &full).is_some()), "{steps:?}");
}

#[test]
fn the_policy_that_names_most_prefixes_is_named() {
    let block = |n: u8| {
        Peer::Block(IpBlock { cidr: format!("10.{n}.0.0/16").parse().unwrap(), except: Vec::new() })
    };
    let rule = |range: std::ops::Range<u8>| Rule {
        peers: Peers::Only(range.map(block).collect()),
        ports: Ports::All,
    };
    let policies = || vec![policy("few", vec![rule(0..2)]), policy("many", vec![rule(10..15)])];
    let room = |prefixes| Room { class_entries: 1000, prefixes };
    assert_eq!(first_excess(&mut engine(policies()), &room(7)), None);
    let said = first_excess(&mut engine(policies()), &room(6)).unwrap();
    assert!(said.contains("would name 7 prefixes and may name 6: a/many names 5"), "{said}");
}

#[test]
fn what_is_refused_leaves_no_trace_and_what_takes_its_place_needs_no_room_of_its_own() {
    let blocks = |name: &str, blocks: std::ops::Range<u8>| {
        let block =
            |n: u8| IpBlock { cidr: format!("10.{n}.0.0/16").parse().unwrap(), except: Vec::new() };
        let peers = Peers::Only(blocks.map(block).map(Peer::Block).collect());
        policy(name, vec![Rule { peers, ports: Ports::All }])
    };
    let room = Room { class_entries: 1000, prefixes: 3 };
    let mut engine = engine(vec![blocks("p", 0..3)]);
    assert_eq!(first_excess(&mut engine, &room), None);
    let before = (engine.classes(), engine.prefixes().clone());
    engine.upsert_policy(blocks("more", 3..4));
    for _ in 0..2 {
        let said = first_excess(&mut engine, &room).unwrap();
        assert!(said.contains("would name 4 prefixes and may name 3: a/p names 3"), "{said}");
        engine.refuse();
        assert_eq!((engine.classes(), engine.prefixes().clone()), before);
    }
    engine.delete_policy(&blocks("more", 0..0).id);
    assert_eq!(engine.commit().steps, []);
    // Three others in the place of three.
    engine.upsert_policy(blocks("p", 10..13));
    assert_eq!(first_excess(&mut engine, &room), None);
    assert_eq!(engine.prefixes().len(), 3);
}
