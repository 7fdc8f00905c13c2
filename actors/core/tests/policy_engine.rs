//! The engine is incremental and nobody can tell: any sequence of changes and commits ends where an engine made
//! from nothing ends, the changes it says make that of a kernel, and at every single step of them each query is
//! answered as before the commit or as after it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use ipnet::{IpNet, Ipv4Net};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{collections::BTreeMap, net::Ipv4Addr};
use weft_abi::{address::NetPort, policy::ClassEdit};
use weft_core::policy::{Engine, Entries, Step, offline::Trie};
use weft_types::{
    Identity, LabelSet, NamespacedName, Policy, Selector, Source,
    label::key,
    policy::{IpBlock, Isolation, Peer, Peers, PolicyId, PolicyKind, Port, Ports, Protocol, Rule},
    selector::Requirement,
};
use weft_verdict::policy::{Query, Verdict, judge};

const ADDRESSES: [[u8; 4]; 5] =
    [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 9, 9], [10, 9, 9, 9], [8, 8, 8, 8]];
const NETS: [&str; 5] = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.1/32"];

#[derive(Clone, Debug)]
enum Change {
    Identity(u32, usize),
    NoIdentity(u32),
    Policy(usize, Box<Policy>),
    NoPolicy(usize),
    Pod(usize, u32),
    NoPod(usize),
    Hold(u32),
    Release(u32),
    Distrust(u32),
    DistrustPrefixes,
    /// Commits, and is told that there is no room for it.
    Refused,
    /// Commits, and one of the steps fails after some of it.
    Fails(prop::sample::Index, prop::sample::Index),
    Commit,
}

fn label_sets() -> Vec<LabelSet> {
    let set = |labels: &[(Source, &str, &str)]| {
        let mut set = LabelSet::new();
        labels.iter().for_each(|(source, key, value)| set.insert(*source, *key, *value));
        set
    };
    let (k8s, ns, generated) = (Source::K8s, key::NAMESPACE, Source::Gen);
    vec![
        set(&[(k8s, ns, "a"), (k8s, "app", "web"), (generated, key::PORTS, "http=TCP/80")]),
        set(&[(k8s, ns, "a"), (k8s, "app", "web"), (generated, key::PORTS, "http=TCP/81")]),
        set(&[(k8s, ns, "a"), (k8s, "app", "db")]),
        set(&[(k8s, ns, "b"), (k8s, "app", "web")]),
        set(&[(k8s, ns, "b")]),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    let source = Source::K8s;
    let (app, ns) = ("app".to_owned(), key::NAMESPACE.to_owned());
    let is = move |key: &str, value: &str| Requirement::In {
        source,
        key: key.to_owned(),
        values: vec![value.to_owned()],
    };
    select(vec![
        Selector::default(),
        Selector::new(vec![is(&ns, "a")]),
        Selector::new(vec![is(&ns, "b")]),
        Selector::new(vec![is(&ns, "a"), is("app", "web")]),
        Selector::new(vec![is("app", "db")]),
        Selector::new(vec![Requirement::Exists { source, key: app.clone() }]),
        Selector::new(vec![Requirement::Absent { source, key: app.clone() }]),
        Selector::new(vec![Requirement::NotIn {
            source,
            key: app,
            values: vec!["web".to_owned()],
        }]),
    ])
}

fn rule() -> impl Strategy<Value = Rule> {
    let net = || select(&NETS[..]).prop_map(|net| net.parse::<IpNet>().unwrap());
    let block = (net(), vec(net(), 0..3)).prop_map(|(cidr, except)| {
        let except = except.into_iter().filter(|e| cidr.contains(e) && cidr != *e).collect();
        Peer::Block(IpBlock { cidr, except })
    });
    let peer = prop_oneof![selector().prop_map(Peer::Pods), block];
    let peers = prop_oneof![1 => Just(Peers::Anyone), 4 => vec(peer, 0..3).prop_map(Peers::Only)];
    let protocol = Protocol::Tcp;
    let port = select(vec![
        Port::Protocol(protocol),
        Port::Range { protocol, first: 80, last: 80 },
        Port::Range { protocol, first: 80, last: 83 },
        Port::Named { protocol, name: "http".to_owned() },
    ]);
    let ports = prop_oneof![1 => Just(Ports::All), 3 => vec(port, 0..3).prop_map(Ports::Only)];
    (peers, ports).prop_map(|(peers, ports)| Rule { peers, ports })
}

fn isolation() -> impl Strategy<Value = Isolation> {
    prop_oneof![Just(Isolation::Open), vec(rule(), 0..3).prop_map(Isolation::Isolated)]
}

fn id(at: usize) -> PolicyId {
    PolicyId { kind: PolicyKind::NetworkPolicy, name: NamespacedName::new("a", format!("p{at}")) }
}

fn change() -> impl Strategy<Value = Change> {
    let number = || 256u32..260;
    let policy = (0usize..3, selector(), isolation(), isolation());
    prop_oneof![
        3 => (number(), 0usize..5).prop_map(|(n, set)| Change::Identity(n, set)),
        1 => number().prop_map(Change::NoIdentity),
        5 => policy.prop_map(|(at, subject, ingress, egress)| {
            Change::Policy(at, Box::new(Policy { id: id(at), subject, ingress, egress }))
        }),
        1 => (0usize..3).prop_map(Change::NoPolicy),
        2 => (0usize..3, number()).prop_map(|(at, n)| Change::Pod(at, n)),
        1 => (0usize..3).prop_map(Change::NoPod),
        3 => number().prop_map(Change::Hold),
        1 => number().prop_map(Change::Release),
        1 => number().prop_map(Change::Distrust),
        1 => Just(Change::DistrustPrefixes),
        2 => Just(Change::Refused),
        2 => any::<(prop::sample::Index, prop::sample::Index)>()
            .prop_map(|(step, part)| Change::Fails(step, part)),
        5 => Just(Change::Commit),
    ]
}

/// Class, direction, peer identity and address, protocol, port.
type Asked = (u32, u8, u32, [u8; 4], u8, u16);

/// What a kernel would hold.
#[derive(Clone, Default)]
struct Kernel {
    classes: BTreeMap<u32, Entries>,
    trie: BTreeMap<Ipv4Net, u32>,
}

impl Kernel {
    /// Does a step in the smallest steps that a kernel can be seen between.
    fn step(&mut self, step: &Step, mut seen: impl FnMut(&Self)) {
        match step {
            Step::Edit(classes) => {
                for (class, edits) in classes {
                    for edit in edits {
                        let entries = self.classes.get_mut(class).expect("a class to edit");
                        match edit {
                            ClassEdit::Upsert(prefix, entry) => entries.insert(*prefix, *entry),
                            ClassEdit::Delete(prefix) => entries.remove(prefix),
                        };
                        seen(self);
                    }
                }
            }
            Step::Replace(classes) => {
                for (class, entries) in classes {
                    self.classes.insert(*class, entries.clone());
                    seen(self);
                }
            }
            Step::Prefixes(prefixes) => {
                for (prefix, number) in prefixes {
                    self.trie.insert(*prefix, *number);
                    seen(self);
                }
                let gone: Vec<_> =
                    self.trie.keys().filter(|p| !prefixes.contains_key(*p)).copied().collect();
                for prefix in gone {
                    self.trie.remove(&prefix);
                    seen(self);
                }
            }
            Step::Remove(classes) => classes.iter().for_each(|class| {
                self.classes.remove(class);
            }),
        }
    }

    /// Every query of every class, and whether it is allowed.
    fn answers(&self) -> BTreeMap<Asked, bool> {
        let mut answers = BTreeMap::new();
        for (class, entries) in &self.classes {
            for address in ADDRESSES {
                let around = (0..=32).rev().find_map(|length| {
                    let net = Ipv4Net::new(Ipv4Addr::from(address), length).unwrap().trunc();
                    self.trie.get(&net).copied()
                });
                for (protocol, port) in [(6, 80), (6, 81), (6, 99), (17, 80)] {
                    for direction in [1, 2] {
                        for identity in [0, 2, 256, 257, 258, 259] {
                            let query = Query {
                                direction,
                                identity,
                                cidr: around.unwrap_or(0),
                                protocol,
                                port: NetPort::from_host(port),
                            };
                            let allowed =
                                matches!(judge(&Trie(entries), &query), Verdict::Allow { .. });
                            let key = (*class, direction, identity, address, protocol, port);
                            answers.insert(key, allowed);
                        }
                    }
                }
            }
        }
        answers
    }
}

/// What was said so far, for an engine made from nothing.
#[derive(Default)]
struct Said {
    identities: BTreeMap<u32, LabelSet>,
    policies: BTreeMap<usize, Policy>,
    pods: BTreeMap<usize, u32>,
    held: BTreeMap<u32, usize>,
}

impl Said {
    fn anew(&self, numbers: &BTreeMap<Ipv4Net, u32>) -> Engine {
        let mut engine = Engine::default();
        engine.seed_prefixes(numbers);
        self.say(&mut engine);
        for (number, count) in &self.held {
            (0..*count).for_each(|_| engine.hold(Identity(*number)));
        }
        engine
    }

    fn say(&self, engine: &mut Engine) {
        for (number, labels) in &self.identities {
            engine.upsert_identity(Identity(*number), labels.clone());
        }
        self.policies.values().for_each(|policy| engine.upsert_policy(policy.clone()));
        for (at, number) in &self.pods {
            engine.upsert_pod(Ipv4Addr::from(ADDRESSES[*at]), Identity(*number));
        }
    }
}

fn apply(engine: &mut Engine, said: &mut Said, change: &Change) {
    match change {
        Change::Identity(number, set) => {
            let labels = label_sets()[*set].clone();
            said.identities.insert(*number, labels.clone());
            engine.upsert_identity(Identity(*number), labels);
        }
        Change::NoIdentity(number) => {
            said.identities.remove(number);
            engine.delete_identity(Identity(*number));
        }
        Change::Policy(at, policy) => {
            said.policies.insert(*at, (**policy).clone());
            engine.upsert_policy((**policy).clone());
        }
        Change::NoPolicy(at) => {
            said.policies.remove(at);
            engine.delete_policy(&id(*at));
        }
        Change::Pod(at, number) => {
            said.pods.insert(*at, *number);
            engine.upsert_pod(Ipv4Addr::from(ADDRESSES[*at]), Identity(*number));
        }
        Change::NoPod(at) => {
            said.pods.remove(at);
            engine.delete_pod(Ipv4Addr::from(ADDRESSES[*at]));
        }
        Change::Hold(number) => {
            *said.held.entry(*number).or_default() += 1;
            engine.hold(Identity(*number));
        }
        Change::Release(number) => {
            if let Some(count) = said.held.get_mut(number) {
                *count -= 1;
                if *count == 0 {
                    said.held.remove(number);
                }
            }
            engine.release(Identity(*number));
        }
        Change::Distrust(number) => engine.distrust([*number]),
        Change::DistrustPrefixes => engine.distrust_prefixes(),
        Change::Refused => {
            engine.commit();
            engine.refuse();
        }
        Change::Fails(..) | Change::Commit => {}
    }
}

/// Commits, and replays the steps; each must leave each query answered as it was before one of the commits since the last
/// that was done whole, or as it is after this one. Where one fails it does so in the midst of a step.
fn commit(
    (engine, kernel): (&mut Engine, &mut Kernel),
    answers: &mut Vec<BTreeMap<Asked, bool>>,
    fails: Option<(prop::sample::Index, prop::sample::Index)>,
) -> Result<(), TestCaseError> {
    let steps = engine.commit().steps;
    let mut after = kernel.clone();
    steps.iter().for_each(|step| after.step(step, |_| {}));
    answers.push(after.answers());
    let fails =
        fails.filter(|_| !steps.is_empty()).map(|(step, part)| (step.index(steps.len()), part));
    let mut wrong = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let mut done = kernel.clone();
        let mut states = vec![kernel.clone()];
        done.step(step, |seen| states.push(seen.clone()));
        let failing = fails.filter(|(failing, _)| *failing == at);
        if let Some((_, part)) = failing {
            states.truncate(part.index(states.len()) + 1);
            done = states.last().cloned().unwrap_or_default();
        }
        for (query, answer) in states.iter().flat_map(Kernel::answers) {
            let known = || answers.iter().map(|answers| answers.get(&query));
            let is_new = known().any(|answer| answer.is_none());
            if !is_new && known().all(|known| known != Some(&answer)) {
                wrong.push(format!("step {at}: {query:?} is {answer}"));
            }
        }
        *kernel = done;
        if failing.is_some() {
            engine.failed(&steps, at);
            break;
        }
    }
    prop_assert!(wrong.is_empty(), "{}\n{steps:#?}", wrong.join("\n"));
    if fails.is_none() {
        *answers = vec![kernel.answers()];
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_can_tell_that_it_is_incremental(changes in vec(change(), 1..40)) {
        let (mut engine, mut said, mut kernel) =
            (Engine::default(), Said::default(), Kernel::default());
        let mut doubt = false;
        let mut answers = vec![kernel.answers()];
        for change in changes.iter().chain([&Change::Commit]) {
            doubt |= matches!(change, Change::Distrust(_) | Change::Fails(..));
            apply(&mut engine, &mut said, change);
            if matches!(change, Change::Refused) && !doubt {
                prop_assert_eq!(&kernel.classes, &engine.classes());
                prop_assert_eq!(&kernel.trie, engine.prefixes());
            }
            match change {
                Change::Fails(step, part) => {
                    let fails = Some((*step, *part));
                    commit((&mut engine, &mut kernel), &mut answers, fails)?;
                    continue;
                }
                Change::Commit => commit((&mut engine, &mut kernel), &mut answers, None)?,
                _ => continue,
            }
            doubt = false;
            prop_assert_eq!(&kernel.classes, &engine.classes());
            prop_assert_eq!(&kernel.trie, engine.prefixes());
            let mut fresh = said.anew(engine.prefixes());
            fresh.commit();
            prop_assert_eq!(&kernel.classes, &fresh.classes());
            prop_assert_eq!(&kernel.trie, fresh.prefixes());
        }
        // A restarted agent that reads its kernel back has nothing to do, nor has one that hears a snapshot.
        let mut restarted = said.anew(&kernel.trie);
        restarted.seed_classes(&kernel.classes);
        prop_assert_eq!(restarted.commit().steps, vec![]);
        engine.clear();
        said.say(&mut engine);
        prop_assert_eq!(engine.commit().steps, vec![]);
    }
}

/// A class whose write was refused, and a prefix that is new with the next commit: what the prefix around it lets is let all the while.
#[test]
fn a_prefix_is_named_when_the_class_that_was_refused_has_entries_for_it() {
    let from = |net: &str, port| {
        let peer = Peer::Block(IpBlock { cidr: net.parse().unwrap(), except: Vec::new() });
        let ports =
            Ports::Only(vec![Port::Range { protocol: Protocol::Tcp, first: port, last: port }]);
        Rule { peers: Peers::Only(vec![peer]), ports }
    };
    let policy = |at, rule| Policy {
        id: id(at),
        subject: Selector::default(),
        ingress: Isolation::Isolated(vec![rule]),
        egress: Isolation::Open,
    };
    let (mut engine, mut kernel) = (Engine::default(), Kernel::default());
    engine.upsert_identity(Identity(256), label_sets()[0].clone());
    engine.hold(Identity(256));
    engine.upsert_policy(policy(0, from("10.0.0.0/8", 80)));
    for step in &engine.commit().steps {
        kernel.step(step, |_| {});
    }
    let is_let = |kernel: &Kernel| kernel.answers()[&(256, 1, 0, [10, 0, 9, 9], 6, 80)];
    assert!(is_let(&kernel));
    engine.upsert_policy(policy(1, from("10.0.0.0/8", 81)));
    let steps = engine.commit().steps;
    engine.failed(&steps, 0);
    engine.upsert_policy(policy(2, from("10.0.0.0/16", 99)));
    for step in &engine.commit().steps {
        kernel.step(step, |seen| assert!(is_let(seen), "{step:?}"));
    }
    assert_eq!(kernel.classes, engine.classes());
}
