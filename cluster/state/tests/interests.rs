//! What a node is told is what it has to know, and no more, however changes come and however they are put together.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof, proptest},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_state::{
    ClusterState, CommandV1, Stamp, Word,
    interests::{Change, Interests, Scope, View, coalesce},
};
use weft_types::{
    Delta, Identity, LabelSet, NamespacedName, Node, NodeName, Object, Policy, Selector, Source,
    delta::DeltaKey,
    object::{Namespace, Pod},
    policy::{Isolation, Peer, Peers, PolicyId, PolicyKind, Ports, Rule},
    selector::Requirement,
};

const NODES: u8 = 3;

fn name(node: u8) -> NodeName {
    NodeName(format!("node{node}"))
}

fn node(number: u8) -> Object {
    Object::Node(Node {
        name: name(number),
        address: [172, 30, 0, number].into(),
        pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
    })
}

fn pod(number: u8, app: u8, on: u8) -> Object {
    Object::Pod(Pod {
        name: NamespacedName::new("shop", format!("pod-{number}")),
        labels: BTreeMap::from([("app".to_owned(), format!("app-{app}"))]),
        service_account: "default".to_owned(),
        ports: Vec::new(),
        node: (on > 0).then(|| name(on)),
        address: None,
        command: Vec::new(),
    })
}

/// Pods of some apps.
fn apps(apps: &[u8]) -> Selector {
    if apps.is_empty() {
        return Selector::default();
    }
    let mut values: Vec<String> = apps.iter().map(|app| format!("app-{app}")).collect();
    values.sort();
    let (source, key) = (Source::K8s, "app".to_owned());
    Selector::new(vec![Requirement::In { source, key, values }])
}

fn policy(number: u8, subject: &[u8], ingress: &[u8], egress: Option<&[u8]>) -> Object {
    let rule = |peers: &[u8]| Rule {
        peers: Peers::Only(vec![Peer::Pods(apps(peers))]),
        ports: Ports::All,
    };
    let name = NamespacedName::new("shop", format!("policy-{number}"));
    Object::Policy(Policy {
        id: PolicyId { kind: PolicyKind::NetworkPolicy, name },
        subject: apps(subject),
        ingress: Isolation::Isolated(vec![rule(ingress)]),
        egress: egress.map_or(Isolation::Open, |peers| Isolation::Isolated(vec![rule(peers)])),
    })
}

#[derive(Clone, Debug)]
enum Step {
    Put(Object),
    Remove(Object),
    Plug(u8, u8, u8),
    Unplug(u8, u8),
    Relabel(u8),
    /// Numbers that nobody refers to go.
    Retire,
    Free,
    /// A node is told what is new, or begins a session anew, or asks for an address.
    Tell(u8),
    Resume(u8, bool),
    Begin(u8),
    Ask(u8, u8, u8),
}

fn some_apps() -> impl Strategy<Value = Vec<u8>> {
    vec(0..5_u8, 0..3).prop_map(|apps| BTreeSet::from_iter(apps).into_iter().collect())
}

fn object() -> impl Strategy<Value = Object> {
    prop_oneof![
        3 => (0..6_u8, 0..5_u8, 0..=NODES).prop_map(|(number, app, on)| pod(number, app, on)),
        2 => (0..4_u8, some_apps(), some_apps(), any::<bool>(), some_apps()).prop_map(
            |(number, subject, ingress, isolated, egress)| {
                policy(number, &subject, &ingress, isolated.then_some(&egress))
            }
        ),
        1 => (1..=NODES).prop_map(node),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => object().prop_map(Step::Put),
        2 => object().prop_map(Step::Remove),
        4 => (1..=NODES, 0..6_u8, 0..6_u8).prop_map(|(node, pod, host)| Step::Plug(node, pod, host)),
        1 => (1..=NODES, 0..6_u8).prop_map(|(node, host)| Step::Unplug(node, host)),
        1 => (0..3_u8).prop_map(Step::Relabel),
        1 => Just(Step::Retire),
        1 => Just(Step::Free),
        6 => (1..=NODES).prop_map(Step::Tell),
        1 => (1..=NODES, any::<bool>()).prop_map(|(node, all)| Step::Resume(node, all)),
        1 => (1..=NODES).prop_map(Step::Begin),
        1 => (1..=NODES, 1..=NODES, 0..6_u8).prop_map(|(node, of, host)| Step::Ask(node, of, host)),
    ]
}

/// An agent: where it is in the story, what it holds, what it asked for.
struct Agent {
    view: View,
    scope: Scope,
    at: usize,
    holds: BTreeMap<DeltaKey, Delta>,
    /// The last that it asked for, the oldest first.
    asked: Vec<Ipv4Addr>,
}

/// Addresses that an agent may have asked for.
const MOST: usize = 3;

struct World {
    state: ClusterState,
    interests: Interests,
    story: Vec<Change>,
    agents: Vec<Agent>,
    next: u32,
    words: u64,
}

impl World {
    fn new() -> Self {
        let agent = |number| Agent {
            view: View::new(name(number), Scope::Interests, BTreeSet::new()),
            scope: Scope::Interests,
            at: 0,
            holds: BTreeMap::new(),
            asked: Vec::new(),
        };
        let mut world = Self {
            state: ClusterState::new("blue"),
            interests: Interests::default(),
            story: Vec::new(),
            agents: (1..=NODES).map(agent).collect(),
            next: 256,
            words: 0,
        };
        world.desire((1..=NODES).map(node).collect(), vec![]);
        world
    }

    fn apply(&mut self, command: &CommandV1) {
        let deltas = self.state.apply(command);
        self.story.extend(self.interests.take(deltas));
    }

    fn hear(&mut self, node: u8, word: Word) {
        self.words += 1;
        let stamp = Stamp { session: 1, sequence: self.words };
        self.apply(&CommandV1::Said(name(node), stamp, word));
    }

    fn desire(&mut self, put: Vec<Object>, remove: Vec<Object>) {
        let identities = self.state.unnumbered(&put, &remove).into_iter().map(|labels| {
            self.next += 1;
            (Identity(self.next), labels)
        });
        let identities = identities.collect();
        self.apply(&CommandV1::Desire { put, remove, identities });
    }

    fn agent(&mut self, number: u8) -> &mut Agent {
        &mut self.agents[usize::from(number) - 1]
    }

    fn step(&mut self, step: Step) {
        let at = |node: u8, host: u8| Ipv4Addr::new(10, 244, node, host);
        match step {
            Step::Put(object) => self.desire(vec![object], vec![]),
            Step::Remove(object) => self.desire(vec![], vec![object]),
            Step::Plug(node, pod, host) => {
                let pod = NamespacedName::new("shop", format!("pod-{pod}"));
                let (address, identity) = (at(node, host), Identity::INIT);
                self.hear(node, Word::Plug { pod, address, identity });
            }
            Step::Unplug(node, host) => self.hear(node, Word::Unplug(at(node, host))),
            Step::Retire => {
                let idle = self.state.references().idle().iter().copied().collect();
                self.apply(&CommandV1::Retire(idle));
            }
            Step::Free => {
                let numbers = self.state.references().retiring().iter().copied().collect();
                self.apply(&CommandV1::Free { numbers, given: Identity(self.next) });
            }
            Step::Relabel(team) => {
                let labels = BTreeMap::from([("team".to_owned(), format!("team-{team}"))]);
                let namespace = Namespace { name: "shop".to_owned(), labels };
                self.desire(vec![Object::Namespace(namespace)], vec![]);
            }
            Step::Tell(node) => self.tell(node),
            Step::Resume(node, all) => {
                let agent = self.agent(node);
                agent.scope = if all { Scope::Everything } else { Scope::Interests };
                let told = agent.holds.values().filter_map(|delta| match delta {
                    Delta::IdentityUpsert(number, _) => Some(*number),
                    _ => None,
                });
                agent.view = View::new(name(node), agent.scope, told.collect());
                agent.view.ask(agent.asked.clone(), MOST);
                self.tell(node);
            }
            Step::Begin(node) => {
                let Self { state, interests, agents, story, .. } = self;
                let agent = &mut agents[usize::from(node) - 1];
                let whole = agent.view.whole(state, interests);
                agent.holds = whole.into_iter().map(|delta| (delta.key(), delta)).collect();
                agent.at = story.len();
                self.check(node);
            }
            Step::Ask(node, of, host) => {
                let agent = self.agent(node);
                let is_new = agent.view.ask([at(of, host)], MOST);
                assert_eq!(is_new, !agent.asked.contains(&at(of, host)));
                if is_new {
                    agent.asked.push(at(of, host));
                    agent.asked = agent.asked.split_off(agent.asked.len().saturating_sub(MOST));
                }
                self.tell(node);
            }
        }
    }

    /// All that is new, put together.
    fn tell(&mut self, node: u8) {
        let Self { state, interests, agents, story, .. } = self;
        let agent = &mut agents[usize::from(node) - 1];
        let run = coalesce(&story[agent.at..]);
        agent.at = story.len();
        for delta in agent.view.advance(&run, state, interests) {
            match delta.is_delete() {
                true => drop(agent.holds.remove(&delta.key())),
                false => drop(agent.holds.insert(delta.key(), delta)),
            }
        }
        self.check(node);
    }

    /// The identities that a node has to know, looked for everywhere.
    fn knows(&self, node: &NodeName, asked: &[Ipv4Addr]) -> BTreeSet<Identity> {
        let labels: BTreeMap<Identity, &LabelSet> =
            self.state.identities().iter().map(|(labels, number)| (*number, &**labels)).collect();
        let workloads = self.state.workloads().values().filter(|it| it.node == *node);
        let own: BTreeSet<Identity> = workloads.map(|it| it.identity).collect();
        let mut known = own.clone();
        for identity in &own {
            for policy in self.state.policies().values() {
                if !policy.subject.matches(labels[identity]) {
                    continue;
                }
                for isolation in [&policy.ingress, &policy.egress] {
                    let Isolation::Isolated(rules) = isolation else { continue };
                    let peers = rules.iter().flat_map(|rule| match &rule.peers {
                        Peers::Only(peers) => peers.as_slice(),
                        Peers::Anyone => &[],
                    });
                    for peer in peers {
                        let Peer::Pods(selector) = peer else { continue };
                        let matching = labels.iter().filter(|(_, it)| selector.matches(it));
                        known.extend(matching.map(|(number, _)| *number));
                    }
                }
            }
        }
        let endpoints = self.state.endpoints();
        known.extend(asked.iter().filter_map(|address| Some(endpoints.get(address)?.identity)));
        known
    }

    fn check(&self, number: u8) {
        let (node, agent) = (name(number), &self.agents[usize::from(number) - 1]);
        let known = match agent.scope {
            Scope::Interests => self.knows(&node, &agent.asked),
            Scope::Everything => self.state.identities().values().copied().collect(),
        };
        let has_to_know = |delta: &Delta| match delta {
            Delta::IdentityUpsert(number, _) => known.contains(number),
            Delta::WorkloadUpsert(workload) => workload.node == node,
            Delta::EndpointUpsert(it) => it.node == node || known.contains(&it.identity),
            _ => true,
        };
        let should: BTreeMap<DeltaKey, Delta> =
            self.state.snapshot().filter(has_to_know).map(|it| (it.key(), it)).collect();
        assert_eq!(agent.holds, should);
        for identity in self.state.identities().values() {
            let nodes = self.interests.nodes_that_know(*identity);
            assert_eq!(nodes.contains(&node), self.interests.of(&node).contains(identity));
        }
    }
}

proptest! {
    #[test]
    fn a_node_is_told_what_it_has_to_know(steps in vec(step(), 1..80)) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        (1..=NODES).for_each(|node| world.tell(node));
    }
}

#[test]
fn who_is_not_spoken_with_by_name_is_not_told_until_asked_for() {
    let mut world = World::new();
    let objects = vec![
        pod(0, 0, 1),
        pod(1, 1, 2),
        pod(2, 2, 2),
        // The first may be reached by the second; nobody says anything of the third.
        policy(0, &[0], &[1], None),
    ];
    world.desire(objects, vec![]);
    (0..3).for_each(|pod| world.step(Step::Plug(if pod == 0 { 1 } else { 2 }, pod, pod)));
    world.step(Step::Begin(1));
    let holds = |world: &World| {
        let holds = world.agents[0].holds.values();
        holds.filter(|delta| matches!(delta, Delta::EndpointUpsert(_))).count()
    };
    assert_eq!(holds(&world), 2);
    world.step(Step::Ask(1, 2, 2));
    assert_eq!(holds(&world), 3);
    // Without the policy nobody has to be known by name but who was asked for.
    world.step(Step::Remove(policy(0, &[], &[], None)));
    world.step(Step::Tell(1));
    assert_eq!(holds(&world), 2);
}
