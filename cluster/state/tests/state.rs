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
use weft_state::{ClusterState, CommandV1, Conflict, EntryV1, decode_entry, encode_entry};
use weft_types::{
    Delta, Identity, LabelFilter, LabelSet, NamespacedName, Node, NodeName, Object, Policy,
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

fn plug(node: u8, pod: &str, host: u8) -> CommandV1 {
    let address = Ipv4Addr::new(10, 244, node, host);
    CommandV1::Plug(NodeName(format!("node{node}")), NamespacedName::new("shop", pod), address)
}

/// A state, and a copy of it that is made of deltas alone, as an agent's is.
struct World {
    state: ClusterState,
    agent: BTreeMap<DeltaKey, Delta>,
    next: u32,
}

impl World {
    fn new() -> Self {
        Self { state: ClusterState::new("blue"), agent: BTreeMap::new(), next: 256 }
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
    }
}

#[test]
fn a_pod_that_is_deleted_and_applied_again_finds_its_endpoint() {
    let mut world = World::new();
    let web = pod("shop", "web-0", "web", Some(1));
    world.desire(vec![node(1), web.clone()], vec![]);
    world.apply(&plug(1, "web-0", 7));
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
    assert_eq!(world.apply(&plug(1, "web-0", 7)), []);
    world.desire(vec![pod("shop", "web-0", "web", Some(1))], vec![]);
    assert_eq!(world.state.endpoints().len(), 1);
    world.check();
}

#[test]
fn a_node_speaks_for_its_own_prefixes_and_pods() {
    let mut world = World::new();
    world.desire(vec![node(1), node(2), pod("shop", "web-0", "web", Some(1))], vec![]);
    let elsewhere = CommandV1::Plug(
        NodeName("node2".to_owned()),
        NamespacedName::new("shop", "web-0"),
        [10, 244, 1, 7].into(),
    );
    assert_eq!(world.apply(&elsewhere), []);
    assert_eq!(world.apply(&plug(2, "web-0", 7)), [], "it is scheduled to another node");
    world.apply(&plug(1, "web-0", 7));
    assert_eq!(
        world.apply(&CommandV1::Unplug(NodeName("node2".to_owned()), [10, 244, 1, 7].into())),
        []
    );
    assert_eq!(world.state.endpoints().len(), 1);
    world.check();
}

#[test]
fn a_node_that_is_removed_takes_its_endpoints_along() {
    let mut world = World::new();
    world.desire(vec![node(1), pod("shop", "web-0", "web", Some(1))], vec![]);
    world.apply(&plug(1, "web-0", 7));
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
        world.apply(&plug(1, &format!("web-{host}"), host));
    }
    let are = |hosts: &[u8]| {
        let addresses = hosts.iter().map(|host| [10, 244, 1, *host].into()).collect();
        CommandV1::EndpointsAre(NodeName("node1".to_owned()), addresses)
    };
    assert_eq!(world.apply(&are(&[1, 2, 3, 9])), []);
    assert_eq!(world.apply(&are(&[2])).len(), 2);
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
    world.apply(&plug(1, "web-0", 7));
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
    let labels: LabelSet = world.state.identities().keys().next().unwrap().clone();
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
    Command(CommandV1),
}

fn steps() -> impl Strategy<Value = Step> {
    let some = || proptest::collection::vec(objects(), 0..4);
    let name = |number: u8| NodeName(format!("node{number}"));
    let hosts = proptest::collection::vec(0..6_u8, 0..4);
    prop_oneof![
        4 => (some(), some()).prop_map(|(put, remove)| Step::Desire(put, remove)),
        3 => (1..4_u8, 0..4_u8, 0..6_u8)
            .prop_map(|(node, pod, host)| Step::Command(plug(node, &format!("p{pod}"), host * 40))),
        1 => (1..4_u8, 0..6_u8).prop_map(move |(node, host)| Step::Command(CommandV1::Unplug(
            name(node),
            [10, 244, node, host * 40].into(),
        ))),
        1 => (1..4_u8, hosts).prop_map(move |(node, hosts)| {
            let addresses = hosts.iter().map(|host| [10, 244, node, host * 40].into()).collect();
            Step::Command(CommandV1::EndpointsAre(name(node), addresses))
        }),
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
                Step::Command(command) => drop(world.apply(&command)),
            }
            world.check();
        }
    }

    /// No bytes make the decoders panic.
    #[test]
    fn any_bytes_are_an_error_or_a_value(bytes: Vec<u8>) {
        let mut versioned = vec![1];
        versioned.extend(&bytes);
        for bytes in [bytes, versioned] {
            drop(decode_entry(&bytes));
            drop(ClusterState::decode(&bytes));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Another release reads what this one wrote: `golden.txt` changes only with the version byte.
#[test]
fn the_bytes_of_entries_and_snapshots_are_these() {
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().ok();
    let node1 = NodeName("node1".to_owned());
    let address: Ipv4Addr = [10, 244, 1, 7].into();
    let mut text = String::new();
    for (name, command, trace) in [
        ("plug", plug(1, "web-0", 7), None),
        ("unplug", CommandV1::Unplug(node1.clone(), address), trace),
        ("endpoints-are", CommandV1::EndpointsAre(node1, vec![address]), None),
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
        let entry = EntryV1 { trace, command };
        let bytes = encode_entry(&entry).unwrap();
        assert_eq!(decode_entry(&bytes).unwrap(), entry);
        text += &format!("{name} {}\n", hex(&bytes));
    }
    let mut world = World::new();
    let objects = [node(1), namespace("shop", "a"), pod("shop", "web-0", "web", Some(1))];
    world.desire(objects.into(), vec![]);
    world.apply(&plug(1, "web-0", 7));
    text += &format!("snapshot {}\n", hex(&world.state.encode().unwrap()));
    let mut world = World::new();
    let patterns = vec!["!team".to_owned()];
    world.apply(&CommandV1::FilterLabels { patterns, identities: vec![] });
    world.desire(vec![node(1)], vec![]);
    text += &format!("snapshot-with-labels {}\n", hex(&world.state.encode().unwrap()));
    assert_eq!(text, include_str!("golden.txt"), "{text}");
}

#[test]
fn another_filter_gives_every_pod_the_identity_of_its_labels() {
    let mut world = World::new();
    let web = |name: &str, app: &str| pod("shop", name, app, Some(1));
    world.desire(
        vec![node(1), namespace("shop", "a"), web("web-0", "web"), web("web-1", "wob")],
        vec![],
    );
    world.apply(&plug(1, "web-0", 7));
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

#[test]
fn what_a_newer_program_wrote_is_refused() {
    let refused = decode_entry(&[2, 0]).unwrap_err().to_string();
    assert!(refused.contains("version 2") && refused.contains("newer"), "{refused}");
    let mut long = encode_entry(&EntryV1 { trace: None, command: plug(1, "a", 1) }).unwrap();
    long.push(0);
    assert!(decode_entry(&long).unwrap_err().to_string().contains("left over"));
}
