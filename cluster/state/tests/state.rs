//! The state: what is published follows from what was said, whatever the order.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use std::{collections::BTreeMap, net::Ipv4Addr};
use weft_state::{
    ClusterState, CommandV1, Conflict, EntryV1, OLDEST, Phase, Stamp, Word, decode_entry,
    encode_entry,
};
use weft_types::{
    Delta, Fence, Identity, LabelFilter, LabelSet, NamespacedName, Node, NodeName, Object, Policy,
    Selector,
    delta::DeltaKey,
    object::{Namespace, Pod},
    policy::{Isolation, PolicyId, PolicyKind},
};

fn node(number: u8) -> Object {
    Object::Node(Node {
        name: NodeName(format!("node{number}")),
        address: [172, 30, 0, number].into(),
        pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
    })
}

fn namespace(name: &str, team: &str) -> Object {
    let labels = BTreeMap::from([("team".to_owned(), team.to_owned())]);
    Object::Namespace(Namespace { name: name.to_owned(), labels })
}

fn pod(namespace: &str, name: &str, app: &str, node: Option<u8>) -> Object {
    Object::Pod(Pod {
        name: NamespacedName::new(namespace, name),
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        service_account: "default".to_owned(),
        ports: Vec::new(),
        node: node.map(|number| NodeName(format!("node{number}"))),
        address: None,
        command: Vec::new(),
    })
}

fn policy(name: &str, ingress: Isolation) -> Object {
    let name = NamespacedName::new("shop", name);
    Object::Policy(Policy {
        id: PolicyId { kind: PolicyKind::NetworkPolicy, name },
        subject: Selector::default(),
        ingress,
        egress: Isolation::Open,
    })
}

fn name(node: u8) -> NodeName {
    NodeName(format!("node{node}"))
}

fn address(node: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, node, host)
}

fn plug(node: u8, pod: &str, host: u8, identity: u32) -> Word {
    let (pod, address) = (NamespacedName::new("shop", pod), address(node, host));
    Word::Plug { pod, address, identity: Identity(identity) }
}

fn are(node: u8, all: &[(u8, u32)]) -> Word {
    Word::Are(all.iter().map(|(host, n)| (address(node, *host), Identity(*n))).collect())
}

fn said(node: u8, session: u64, sequence: u64, word: Word) -> CommandV1 {
    CommandV1::Said(name(node), Stamp { session, sequence }, word)
}

/// A state, and a copy of it that is made of deltas alone, as an agent's is.
struct World {
    state: ClusterState,
    agent: BTreeMap<DeltaKey, Delta>,
    next: u32,
    words: u64,
}

impl World {
    fn new() -> Self {
        Self { state: ClusterState::new("blue"), agent: BTreeMap::new(), next: 256, words: 0 }
    }

    fn apply(&mut self, command: &CommandV1) -> Vec<Delta> {
        let would = self.state.would_change(command);
        let before = self.state.clone();
        let deltas = self.state.apply(command);
        assert_eq!(would, self.state != before, "{command:?}");
        for delta in &deltas {
            match delta {
                Delta::IdentityDelete(_)
                | Delta::NodeDelete(_)
                | Delta::WorkloadDelete(_)
                | Delta::EndpointDelete(_)
                | Delta::PolicyDelete(_) => {
                    assert!(self.agent.remove(&delta.key()).is_some(), "{delta:?}");
                }
                _ => {
                    let before = self.agent.insert(delta.key(), delta.clone());
                    assert_ne!(before.as_ref(), Some(delta), "nothing changed");
                }
            }
        }
        deltas
    }

    /// A word of the one session that a node has.
    fn hear(&mut self, node: u8, word: Word) -> Vec<Delta> {
        self.words += 1;
        self.apply(&said(node, 1, self.words, word))
    }

    fn desire(&mut self, put: Vec<Object>, remove: Vec<Object>) -> Vec<Delta> {
        let identities = self.state.unnumbered(&put, &remove).into_iter().map(|labels| {
            self.next += 1;
            (Identity(self.next), labels)
        });
        let identities = identities.collect();
        self.apply(&CommandV1::Desire { put, remove, identities })
    }

    /// Everything published is what the state made anew from its own bytes publishes.
    fn check(&self) {
        assert_eq!(ClusterState::decode(&self.state.encode().unwrap()).unwrap(), self.state);
        let published: BTreeMap<DeltaKey, Delta> =
            self.state.snapshot().map(|delta| (delta.key(), delta)).collect();
        assert_eq!(self.agent, published);
        for endpoint in self.state.endpoints().values() {
            let workload = &self.state.workloads()[&endpoint.name];
            assert_eq!((workload.identity, &workload.node), (endpoint.identity, &endpoint.node));
            assert!(self.state.may_plug(&endpoint.node, endpoint.address));
        }
        self.check_references();
    }

    /// Who refers to what, counted anew.
    fn check_references(&self) {
        let references = self.state.references();
        let mut sets: BTreeMap<LabelSet, Identity> = BTreeMap::new();
        for (number, numbered) in references.iter() {
            assert!(numbered.labels.is_some() || !numbered.is_idle(), "{number} is nothing");
            let retiring = numbered.phase == Phase::Retiring;
            assert!(!retiring || (numbered.is_idle() && numbered.labels.is_some()), "{number}");
            let idle = numbered.is_idle() && numbered.labels.is_some() && !retiring;
            assert_eq!(references.idle().contains(&number), idle, "{number}");
            assert_eq!(references.retiring().contains(&number), retiring, "{number}");
            let labels = numbered.labels.as_deref().cloned();
            assert!(labels.is_none_or(|labels| sets.insert(labels, number).is_none()));
        }
        let known = self.state.identities().iter().map(|(l, n)| (LabelSet::clone(l), *n));
        assert_eq!(sets, known.collect());
        for workload in self.state.workloads().values() {
            let numbered = references.get(workload.identity).unwrap();
            assert!(numbered.pods > 0 && numbered.labels.is_some(), "{workload:?}");
        }
        let pods = self.state.objects().filter(|object| matches!(object, Object::Pod(_)));
        // Every step gives what lacks a number one.
        let counted: usize = references.iter().map(|(_, numbered)| numbered.pods).sum();
        assert_eq!(counted, pods.count());
    }

    /// Numbers that are known, from one of them on.
    fn given_from(&self, first: usize) -> Vec<Identity> {
        self.state.references().iter().map(|(number, _)| number).skip(first).collect()
    }
}

#[test]
fn a_pod_that_is_deleted_and_applied_again_finds_its_endpoint() {
    let mut world = World::new();
    let web = pod("shop", "web-0", "web", Some(1));
    world.desire(vec![node(1), web.clone()], vec![]);
    world.hear(1, plug(1, "web-0", 7, 257));
    assert_eq!(world.state.endpoints().len(), 1);
    world.desire(vec![], vec![web.clone()]);
    assert_eq!(world.state.endpoints().len(), 0);
    let deltas = world.desire(vec![web], vec![]);
    assert_eq!(world.state.endpoints().len(), 1);
    assert!(deltas.iter().any(|delta| matches!(delta, Delta::EndpointUpsert(_))), "{deltas:?}");
    world.check();
}

#[test]
fn a_pod_may_be_plugged_before_it_is_known() {
    let mut world = World::new();
    world.desire(vec![node(1)], vec![]);
    assert_eq!(world.hear(1, plug(1, "web-0", 7, 257)), []);
    world.desire(vec![pod("shop", "web-0", "web", Some(1))], vec![]);
    assert_eq!(world.state.endpoints().len(), 1);
    world.check();
}

#[test]
fn a_node_speaks_for_its_own_prefixes_and_pods() {
    let mut world = World::new();
    world.desire(vec![node(1), node(2), pod("shop", "web-0", "web", Some(1))], vec![]);
    assert_eq!(world.hear(2, plug(1, "web-0", 7, 257)), []);
    assert_eq!(world.hear(2, plug(2, "web-0", 7, 257)), [], "it is scheduled to another node");
    world.hear(1, plug(1, "web-0", 7, 257));
    assert_eq!(world.hear(2, Word::Unplug(address(1, 7))), []);
    assert_eq!(world.state.endpoints().len(), 1);
    world.check();
}

#[test]
fn a_node_that_is_removed_takes_its_endpoints_along() {
    let mut world = World::new();
    world.desire(vec![node(1), pod("shop", "web-0", "web", Some(1))], vec![]);
    world.hear(1, plug(1, "web-0", 7, 257));
    world.desire(vec![], vec![node(1)]);
    assert_eq!(world.state.endpoints().len(), 0);
    world.check();
}

#[test]
fn all_endpoints_of_a_node_replace_what_it_said() {
    let mut world = World::new();
    world.desire(vec![node(1), node(2)], vec![]);
    for host in 1..4 {
        world.desire(vec![pod("shop", &format!("web-{host}"), "web", Some(1))], vec![]);
        world.hear(1, plug(1, &format!("web-{host}"), host, 257));
    }
    assert_eq!(world.hear(1, are(1, &[(1, 257), (2, 257), (3, 257), (9, 257)])), []);
    assert_eq!(world.hear(1, are(1, &[(2, 257)])).len(), 2);
    assert_eq!(world.state.endpoints().len(), 1);
    world.check();
}

#[test]
fn a_namespace_that_is_relabelled_renumbers_its_pods() {
    let mut world = World::new();
    let pods = (0..3).map(|n| pod("shop", &format!("web-{n}"), "web", Some(1)));
    let mut objects: Vec<Object> = pods.collect();
    objects.extend([node(1), namespace("shop", "a"), pod("other", "x", "web", Some(1))]);
    world.desire(objects, vec![]);
    world.hear(1, plug(1, "web-0", 7, 257));
    let deltas = world.desire(vec![namespace("shop", "b")], vec![]);
    // One new identity, three workloads, one endpoint; nothing of the other namespace.
    assert_eq!(deltas.len(), 5, "{deltas:?}");
    world.check();
}

#[test]
fn what_is_so_already_changes_nothing() {
    let mut world = World::new();
    let objects = vec![
        node(1),
        namespace("shop", "a"),
        pod("shop", "web-0", "web", None),
        policy("p", Isolation::Open),
    ];
    world.desire(objects.clone(), vec![]);
    assert_eq!(world.state.effective(&objects, &[node(9)]), (vec![], vec![]));
    let changed = [node(1), pod("shop", "web-0", "db", None)];
    let (put, remove) = world.state.effective(&changed, &[namespace("shop", "?"), node(9)]);
    assert_eq!((put, remove), (vec![changed[1].clone()], vec![namespace("shop", "?")]));
}

#[test]
fn nodes_that_share_addresses_are_refused_by_name() {
    let mut world = World::new();
    world.desire(vec![node(1), node(2)], vec![]);
    let with = |number: u8, address: u8, cidr: &str| {
        Object::Node(Node {
            name: NodeName(format!("node{number}")),
            address: [172, 30, 0, address].into(),
            pod_cidrs: vec![cidr.parse().unwrap()],
        })
    };
    for cidr in ["10.244.1.0/24", "10.244.1.128/25", "10.244.0.0/16", "0.0.0.0/0"] {
        let refused = world.state.check(&[with(3, 3, cidr)], &[]).unwrap_err();
        assert!(matches!(refused, Conflict::PodCidrs { .. }), "{cidr}: {refused}");
        let text = refused.to_string();
        assert!(text.contains("node1") && text.contains("node3"), "{text}");
    }
    let refused = world.state.check(&[with(3, 2, "10.244.3.0/24")], &[]).unwrap_err();
    assert!(refused.to_string().contains("node2") && refused.to_string().contains("node3"));
    assert_eq!(world.state.check(&[with(3, 3, "10.244.3.0/24")], &[]), Ok(()));
    // What it has itself, what leaves with the same change, and what it had before, are in nobody's way.
    assert_eq!(world.state.check(&[with(1, 1, "10.244.1.0/25")], &[]), Ok(()));
    assert_eq!(world.state.check(&[with(3, 2, "10.244.2.0/24")], &[node(2)]), Ok(()));
    // Two of one request.
    let both = [with(5, 5, "10.5.0.0/16"), with(6, 6, "10.5.3.0/24")];
    assert!(world.state.check(&both, &[]).is_err());
}

#[test]
fn one_label_set_keeps_its_first_number() {
    let mut world = World::new();
    let web = pod("shop", "web-0", "web", Some(1));
    world.desire(vec![web.clone()], vec![]);
    let labels = LabelSet::clone(world.state.identities().keys().next().unwrap());
    let again = vec![(Identity(999), labels.clone())];
    assert_eq!(
        world.apply(&CommandV1::Desire { put: vec![], remove: vec![], identities: again }),
        []
    );
    assert_eq!(world.state.identities()[&labels], Identity(257));
}

#[test]
fn a_pod_whose_number_came_late_is_placed_then() {
    let mut world = World::new();
    let web = pod("shop", "web-0", "web", Some(1));
    let labels = world.state.unnumbered(std::slice::from_ref(&web), &[]);
    let put = vec![node(1), web];
    world.apply(&CommandV1::Desire { put, remove: vec![], identities: vec![] });
    assert!(world.state.workloads().is_empty());
    assert_eq!(world.state.unnumbered(&[], &[]), labels);
    world.desire(vec![], vec![]);
    assert_eq!(world.state.workloads().len(), 1);
    world.check();
}

fn objects() -> impl Strategy<Value = Object> {
    let names = prop_oneof![Just("shop"), Just("ops")];
    let apps = prop_oneof![Just("web"), Just("db")];
    prop_oneof![
        (1..4_u8).prop_map(node),
        (1..4_u8, 0..3_u8).prop_map(|(number, cidr)| Object::Node(Node {
            name: NodeName(format!("node{number}")),
            address: [172, 30, 0, number].into(),
            pod_cidrs: vec![format!("10.244.{number}.0/{}", 24 + cidr).parse().unwrap()],
        })),
        (names.clone(), apps.clone()).prop_map(|(name, team)| namespace(name, team)),
        (names, 0..4_u8, apps, proptest::option::of(1..4_u8))
            .prop_map(|(ns, number, app, node)| pod(ns, &format!("p{number}"), app, node)),
        (0..2_u8, any::<bool>()).prop_map(|(number, isolated)| {
            let ingress = if isolated { Isolation::Isolated(vec![]) } else { Isolation::Open };
            policy(&format!("p{number}"), ingress)
        }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Desire(Vec<Object>, Vec<Object>),
    Said(u8, u64, Word),
    /// The numbers that are given, from this one on.
    Retire(usize),
    Free(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    let some = || proptest::collection::vec(objects(), 0..4);
    let hosts = proptest::collection::vec((0..6_u8, 255..262_u32), 0..4);
    let session = 1..4_u64;
    prop_oneof![
        4 => (some(), some()).prop_map(|(put, remove)| Step::Desire(put, remove)),
        3 => (1..4_u8, 0..4_u8, 0..6_u8, session.clone(), 255..262_u32).prop_map(
            |(node, pod, host, session, identity)| {
                Step::Said(node, session, plug(node, &format!("p{pod}"), host * 40, identity))
            }
        ),
        1 => (1..4_u8, 0..6_u8, session.clone()).prop_map(|(node, host, session)| {
            Step::Said(node, session, Word::Unplug(address(node, host * 40)))
        }),
        1 => (1..4_u8, hosts, session).prop_map(|(node, hosts, session)| {
            let all: Vec<(u8, u32)> = hosts.into_iter().map(|(host, n)| (host * 40, n)).collect();
            Step::Said(node, session, are(node, &all))
        }),
        1 => (0..4_usize).prop_map(Step::Retire),
        1 => (0..4_usize).prop_map(Step::Free),
    ]
}

proptest! {
    /// Deltas lead where a snapshot leads, and the state is made of what was said alone.
    #[test]
    fn deltas_lead_where_a_snapshot_leads(steps in proptest::collection::vec(steps(), 1..30)) {
        let mut world = World::new();
        for step in steps {
            match step {
                Step::Desire(put, remove) => drop(world.desire(put, remove)),
                Step::Said(node, session, word) => {
                    world.words += 1;
                    world.apply(&said(node, session, world.words, word));
                }
                Step::Retire(from) => drop(world.apply(&CommandV1::Retire(world.given_from(from)))),
                Step::Free(from) => {
                    let given = Identity(world.next);
                    world.apply(&CommandV1::Free { numbers: world.given_from(from), given });
                }
            }
            world.check();
        }
    }

    /// No bytes make the decoders panic.
    #[test]
    fn any_bytes_are_an_error_or_a_value(bytes: Vec<u8>) {
        drop((decode_entry(&bytes), ClusterState::decode(&bytes)));
        let versioned = [&[5], &bytes[..]].concat();
        drop((decode_entry(&versioned), ClusterState::decode(&versioned)));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Another release reads what this one wrote: `golden.txt` changes only with the version byte.
#[test]
fn the_bytes_of_entries_and_snapshots_are_these() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    let mut text = String::new();
    let fence = Some(Fence { generation: 1, term: 300, round: 0, writes: 7 });
    for (name, command, trace) in [
        ("plug", said(1, 3, 1, plug(1, "web-0", 7, 256)), None),
        ("unplug", said(1, 3, 2, Word::Unplug(address(1, 7))), trace),
        ("are", said(1, 300, 0, are(1, &[(7, 256)])), None),
        ("retire", CommandV1::Retire(vec![Identity(256)]), None),
        ("free", CommandV1::Free { numbers: vec![Identity(256)], given: Identity(300) }, None),
        (
            "filter-labels",
            CommandV1::FilterLabels {
                patterns: vec!["!team".to_owned()],
                identities: vec![(Identity(256), LabelSet::new())],
            },
            None,
        ),
        (
            "desire",
            CommandV1::Desire {
                put: vec![node(1), namespace("shop", "a")],
                remove: vec![pod("shop", "web-0", "web", Some(1)), policy("p", Isolation::Open)],
                identities: vec![(Identity(256), LabelSet::new())],
            },
            None,
        ),
    ] {
        let fence = fence.filter(|_| matches!(&command, CommandV1::Desire { .. }));
        let entry = EntryV1 { trace, command, fence };
        let bytes = encode_entry(&entry).unwrap();
        assert_eq!(decode_entry(&bytes).unwrap(), entry);
        text += &format!("{name} {}\n", hex(&bytes));
    }
    let mut world = World::new();
    let objects = [node(1), namespace("shop", "a"), pod("shop", "web-0", "web", Some(1))];
    world.desire(objects.into(), vec![]);
    world.hear(1, plug(1, "web-0", 7, 257));
    text += &format!("snapshot {}\n", hex(&world.state.encode().unwrap()));
    let mut world = World::new();
    let patterns = vec!["!team".to_owned()];
    world.apply(&CommandV1::FilterLabels { patterns, identities: vec![] });
    world.desire(vec![node(1)], vec![]);
    text += &format!("snapshot-with-labels {}\n", hex(&world.state.encode().unwrap()));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(golden).unwrap(), "UPDATE=1 writes the new bytes");
}

#[test]
fn a_word_of_an_older_session_is_void() {
    let mut world = World::new();
    world.desire(vec![node(1), pod("shop", "web-0", "web", Some(1))], vec![]);
    world.apply(&said(1, 7, 1, plug(1, "web-0", 7, 257)));
    // Later in the session, and again.
    world.apply(&said(1, 7, 2, Word::Unplug(address(1, 7))));
    assert_eq!(world.apply(&said(1, 7, 1, plug(1, "web-0", 7, 257))), []);
    assert_eq!(world.apply(&said(1, 6, 9, plug(1, "web-0", 7, 257))), []);
    // A newer session's first word is taken although it changes nothing: what was under way is void then.
    let begun = said(1, 8, 0, are(1, &[]));
    assert!(world.state.would_change(&begun));
    world.apply(&begun);
    assert_eq!(world.apply(&said(1, 7, 3, plug(1, "web-0", 7, 257))), []);
    world.check();
    // A node that is registered anew counts from the beginning, and has no say before.
    world.desire(vec![], vec![node(1)]);
    assert_eq!(world.apply(&said(1, 9, 0, plug(1, "web-0", 7, 257))), []);
    assert_eq!(world.state.heard(&name(1)), None);
    world.desire(vec![node(1)], vec![]);
    assert_eq!(world.apply(&said(1, 1, 0, plug(1, "web-0", 7, 257))).len(), 1);
    world.check();
}

#[test]
fn pods_and_plugged_addresses_are_the_references_of_a_number() {
    let mut world = World::new();
    let web = pod("shop", "web-0", "web", Some(1));
    world.desire(vec![node(1), node(2), web.clone(), pod("shop", "web-1", "web", None)], vec![]);
    let count = |world: &World, number: u32| {
        let numbered = world.state.references().get(Identity(number)).unwrap();
        let nodes: Vec<_> = numbered.nodes.iter().map(|(n, count)| (n.0.clone(), *count)).collect();
        (numbered.pods, nodes)
    };
    assert_eq!(count(&world, 257), (2, vec![]), "one that is not scheduled, too");
    world.hear(1, plug(1, "web-0", 7, 257));
    world.hear(1, plug(1, "web-0", 8, 257));
    world.hear(2, plug(2, "web-9", 7, 257));
    let one_and_two = vec![("node1".to_owned(), 2), ("node2".to_owned(), 1)];
    assert_eq!(count(&world, 257), (2, one_and_two));
    // Relabelled: the Pod at once, the endpoint when its node says so.
    world.desire(vec![pod("shop", "web-0", "db", Some(1))], vec![]);
    assert_eq!((count(&world, 257).0, count(&world, 258)), (1, (1, vec![])));
    world.hear(1, plug(1, "web-0", 7, 258));
    assert_eq!(count(&world, 258), (1, vec![("node1".to_owned(), 1)]));
    assert_eq!(count(&world, 257).1[0], ("node1".to_owned(), 1));
    // All that a node has, one of which nobody has named yet; and a node that leaves.
    world.hear(1, are(1, &[(7, 258), (9, 257)]));
    assert_eq!(count(&world, 257).1[0], ("node1".to_owned(), 1));
    world.desire(vec![], vec![node(1), node(2), web, pod("shop", "web-1", "web", None)]);
    assert_eq!(world.state.references().idle().len(), 2);
    world.check();
}

#[test]
fn a_number_that_is_retiring_comes_back_with_whoever_refers_to_it() {
    let web = || pod("shop", "web-0", "web", Some(1));
    let retired = || {
        let mut world = World::new();
        world.desire(vec![node(1), web()], vec![]);
        assert_eq!(world.apply(&CommandV1::Retire(vec![Identity(257)])), [], "it has a Pod");
        world.desire(vec![], vec![web()]);
        let deltas = world.apply(&CommandV1::Retire(vec![Identity(257)]));
        assert_eq!(deltas, [Delta::IdentityDelete(Identity(257))]);
        world.check();
        world
    };
    // By a Pod, without another number.
    let mut world = retired();
    assert!(world.state.unnumbered(&[web()], &[]).is_empty());
    let deltas = world.desire(vec![web()], vec![]);
    assert!(matches!(deltas[0], Delta::IdentityUpsert(Identity(257), _)), "{deltas:?}");
    world.check();
    // By a node that has it.
    let mut world = retired();
    let deltas = world.hear(1, plug(1, "web-0", 7, 257));
    assert!(matches!(deltas[..], [Delta::IdentityUpsert(Identity(257), _)]), "{deltas:?}");
    let free = CommandV1::Free { numbers: vec![Identity(257)], given: Identity(300) };
    world.apply(&free);
    assert_eq!((world.state.identities().len(), world.state.given()), (1, None));
    world.check();
    // By nobody.
    let mut world = retired();
    world.apply(&free);
    assert_eq!((world.state.identities().len(), world.state.given()), (0, Some(Identity(300))));
    assert_eq!(world.state.unnumbered(&[web()], &[]).len(), 1);
    world.check();
}

#[test]
fn another_filter_gives_every_pod_the_identity_of_its_labels() {
    let mut world = World::new();
    let web = |name: &str, app: &str| pod("shop", name, app, Some(1));
    world.desire(
        vec![node(1), namespace("shop", "a"), web("web-0", "web"), web("web-1", "wob")],
        vec![],
    );
    world.hear(1, plug(1, "web-0", 7, 257));
    let numbers = |world: &World| -> Vec<Identity> {
        world.state.workloads().values().map(|workload| workload.identity).collect()
    };
    let before = numbers(&world);
    let mut filter = |patterns: &[&str]| {
        let filter = LabelFilter::parse(patterns).unwrap();
        let sets = world.state.unnumbered_with(&filter).into_iter();
        let identities = sets.zip(1000..).map(|(labels, n)| (Identity(n), labels)).collect();
        let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        world.apply(&CommandV1::FilterLabels { patterns, identities });
        world.check();
        numbers(&world)
    };
    assert_eq!(filter(&["!app"]), [Identity(1000), Identity(1000)]);
    assert_eq!(filter(&[]), before, "one label set, one number, always");
    // What cannot be used changes nothing.
    let bad = CommandV1::FilterLabels { patterns: vec!["!".to_owned()], identities: vec![] };
    assert_eq!(world.apply(&bad), []);
    assert!(!world.state.would_change(&bad));
}

/// The release before knew of no fence.
#[test]
fn what_the_release_before_wrote_is_read() {
    let before = |bytes: Vec<u8>| match bytes.as_slice() {
        [6, body @ .., 0] => [&[5], body].concat(),
        other => panic!("{other:?}"),
    };
    let command = CommandV1::Retire(vec![Identity(256)]);
    let entry = EntryV1 { trace: None, command, fence: None };
    assert_eq!(decode_entry(&before(encode_entry(&entry).unwrap())).unwrap(), entry);
    let mut world = World::new();
    world.state = ClusterState::of_version("blue", OLDEST);
    world.desire(vec![node(1), pod("shop", "web-0", "web", Some(1))], vec![]);
    let read = ClusterState::decode(&before(world.state.encode().unwrap())).unwrap();
    assert_eq!(read, world.state);
}

#[test]
fn what_is_known_of_the_stores_fence_is_in_the_snapshot_and_never_goes_back() {
    let mut state = ClusterState::new("blue");
    let fence = |writes| Some(Fence { generation: 1, term: 2, round: 0, writes });
    for (of_the_entry, known) in [(None, None), (fence(3), fence(3)), (fence(2), fence(3))] {
        let command = CommandV1::Retire(vec![]);
        state.apply_entry(&EntryV1 { trace: None, command, fence: of_the_entry });
        assert_eq!(state.fence(), known);
        let read = ClusterState::decode(&state.encode().unwrap()).unwrap();
        assert_eq!(read.fence(), known);
    }
}

#[test]
fn what_another_program_wrote_is_refused() {
    for (version, program) in [(4, "the older"), (8, "a newer")] {
        let refused = decode_entry(&[version, 0]).unwrap_err().to_string();
        assert!(refused.contains(&format!("version {version}")), "{refused}");
        assert!(refused.contains(program), "{refused}");
    }
    let mut long =
        encode_entry(&EntryV1 { trace: None, command: CommandV1::Retire(vec![]), fence: None })
            .unwrap();
    long.push(0);
    assert!(decode_entry(&long).unwrap_err().to_string().contains("left over"));
}
