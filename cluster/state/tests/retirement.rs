//! When numbers are free: leaders, nodes that lag and are lost, a store, and what nobody may ever see.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use proptest::prelude::{Just, Strategy, prop_oneof, proptest};
use std::collections::{BTreeMap, VecDeque};
use weft_state::{
    ClusterState, CommandV1, Phase, Stamp, Word,
    leadership::{Ask, Change, Contents, Effect, Event, Leadership, Limits, Stored, Verdict},
    retirement::{Grace, Seen},
};
use weft_types::{
    Batch, Cluster, Delta, Fence, Identity, IdentitySpace, LabelSet, NamespacedName, Node,
    NodeName, Object, Revision, codec,
    delta::DeltaKey,
    object::{ObjectKey, Pod},
};

const GRACE: Grace = Grace { numbers: 10, nodes: 30, pause: 1, most: 8 };

fn name(number: u8) -> NodeName {
    NodeName(format!("node{number}"))
}

fn node(number: u8) -> Object {
    Object::Node(Node {
        name: name(number),
        address: [172, 30, 0, number].into(),
        pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
    })
}

fn pod(pod: u8, app: u8, node: u8) -> Object {
    Object::Pod(Pod {
        name: NamespacedName::new("shop", pod.to_string()),
        labels: BTreeMap::from([("app".to_owned(), app.to_string())]),
        service_account: "default".to_owned(),
        ports: Vec::new(),
        node: Some(name(node)),
        address: None,
        command: Vec::new(),
    })
}

/// What a store holds.
#[derive(Default)]
struct Store {
    founded: Option<(Cluster, Fence)>,
    identities: BTreeMap<Identity, LabelSet>,
    given: Option<Identity>,
    objects: BTreeMap<ObjectKey, Object>,
    /// Batches that gave numbers.
    gave: usize,
}

impl Store {
    fn write(&mut self, batch: &Batch) {
        batch.forget.iter().for_each(|number| drop(self.identities.remove(number)));
        self.given = batch.given.or(self.given);
        for (number, labels) in &batch.identities {
            let holder = self.identities.insert(*number, labels.clone());
            assert!(holder.is_none_or(|holder| holder == *labels), "{number} is another's");
        }
        self.gave += usize::from(!batch.identities.is_empty());
        batch.remove.iter().for_each(|key| drop(self.objects.remove(key)));
        self.objects.extend(batch.put.iter().map(|object| (object.key(), object.clone())));
    }
}

/// A node, as far as its agent and its kernel go.
#[derive(Default)]
struct Agent {
    /// The session it has, if it has one, and the next of its words.
    session: Option<Stamp>,
    sessions: u64,
    /// Whether it was told nothing yet in this session.
    is_new: bool,
    /// How much of the log its kernel has.
    held: usize,
    acknowledged: Option<usize>,
    kernel: BTreeMap<DeltaKey, Delta>,
    /// Its endpoints, by the last byte of their addresses.
    endpoints: BTreeMap<u8, (NamespacedName, Identity)>,
}

/// Everything.
struct World {
    cluster: Cluster,
    leader: Leadership,
    term: u64,
    state: ClusterState,
    /// The deltas of every revision.
    log: Vec<Vec<Delta>>,
    store: Store,
    agents: BTreeMap<u8, Agent>,
    /// How much of the log an operator has that is cut off.
    everywhere: Option<u64>,
    /// What the store is asked to forget is not done: the leader is to die before it.
    lose_forgetting: bool,
    /// Numbers in the order in which they were given.
    given: Vec<Identity>,
    requests: u64,
}

impl World {
    fn new(space: IdentitySpace) -> Self {
        let cluster = Cluster { name: "blue".to_owned(), space };
        let mut world = Self {
            leader: leader(&cluster),
            cluster,
            term: 0,
            state: ClusterState::new("blue"),
            log: Vec::new(),
            store: Store::default(),
            agents: BTreeMap::new(),
            everywhere: None,
            lose_forgetting: false,
            given: Vec::new(),
            requests: 0,
        };
        world.elect();
        world
    }

    /// Another leader; whoever has a session is known to it.
    fn elect(&mut self) {
        self.term += 1;
        self.leader = leader(&self.cluster);
        self.step(Event::Led(self.term));
        let with = self.agents.iter().filter(|(_, agent)| agent.session.is_some());
        let with: Vec<u8> = with.map(|(number, _)| *number).collect();
        with.into_iter().for_each(|number| self.see(number));
    }

    /// One step of the leader, and all that follows.
    fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for effect in self.leader.step(&self.state, event) {
                match effect {
                    Effect::Store(operation, ask) => {
                        let forgets = matches!(&ask, Ask::Write(_, b) if !b.forget.is_empty());
                        if !(forgets && self.lose_forgetting) {
                            events.push_back(Event::Stored(operation, Ok(self.stored(ask))));
                        }
                    }
                    Effect::Propose(ticket, fence, command) => {
                        assert_eq!(fence.term, self.term);
                        let at = self.apply(&command);
                        events.push_back(Event::Ordered(ticket, at));
                    }
                    // Every number may be taken.
                    Effect::Answer(_, verdict) => {
                        assert!(matches!(verdict, Verdict::Done | Verdict::Invalid(_)));
                    }
                    // It is alone.
                    Effect::Yield => {}
                }
            }
        }
    }

    fn stored(&mut self, ask: Ask) -> Stored {
        match ask {
            Ask::Founded => Stored::Founded(self.store.founded.clone()),
            Ask::Raise(_, after) => {
                self.store.founded = Some((self.cluster.clone(), after));
                Stored::Done
            }
            Ask::List => Stored::Contents(Contents {
                identities: self.store.identities.clone().into_iter().collect(),
                given: self.store.given,
                objects: self.store.objects.values().cloned().collect(),
            }),
            Ask::Write(fence, batch) => {
                self.store.write(&batch);
                self.store.founded = Some((self.cluster.clone(), fence.after_a_write()));
                Stored::Done
            }
        }
    }

    /// Puts a command in order. What nobody may see is looked for where numbers are given.
    fn apply(&mut self, command: &CommandV1) -> Revision {
        let deltas = self.state.apply(command);
        if let CommandV1::Desire { identities, .. } = command {
            for (number, labels) in identities {
                assert_eq!(self.store.identities.get(number), Some(labels), "the store first");
                self.nobody_holds(*number, labels);
                self.given.push(*number);
            }
        }
        self.log.push(deltas);
        self.revision()
    }

    /// Not one node has a number as another's, in its tables or at an endpoint.
    #[track_caller]
    fn nobody_holds(&self, number: Identity, labels: &LabelSet) {
        for (agent, it) in &self.agents {
            let known = it.kernel.get(&DeltaKey::Identity(number));
            let same = |delta: &Delta| *delta == Delta::IdentityUpsert(number, labels.clone());
            assert!(known.is_none_or(same), "{number} is in the tables of node{agent}");
            let at = it.endpoints.values().any(|(_, identity)| *identity == number);
            assert!(!at, "{number} is at an endpoint of node{agent}");
        }
    }

    fn revision(&self) -> Revision {
        Revision::new(1, self.log.len() as u64)
    }

    fn change(&mut self, put: Vec<Object>, remove: Vec<Object>) {
        self.requests += 1;
        self.step(Event::Asked(self.requests, Change { put, remove }));
    }

    fn ticks(&mut self, ticks: u32) {
        for _ in 0..ticks {
            let everywhere = self.everywhere.unwrap_or(self.log.len() as u64);
            self.step(Event::Tick { everywhere, known: 0 });
            self.who_holds_back_is_named(everywhere);
        }
    }

    /// What is found for all nodes at once, and for one number after another, is the same.
    fn who_holds_back_is_named(&self, everywhere: u64) {
        let unheard = self.leader.unheard().is_some_and(|at| at.index() > everywhere);
        // What somebody refers to again is looked at with the next look.
        let retiring = self.state.references().retiring();
        for number in self.leader.held_back(&self.state).filter(|n| retiring.contains(n)) {
            let held = self.leader.holders(&self.state, number).next().is_some();
            assert!(
                held || unheard || !self.leader.is_serving(),
                "{number} is held back by nobody"
            );
        }
    }

    /// A session begins: the agent says all that it has.
    fn connect(&mut self, number: u8) {
        let agent = self.agents.entry(number).or_default();
        agent.sessions += 1;
        agent.is_new = true;
        agent.session = Some(Stamp { session: agent.sessions, sequence: 0 });
        let address = |host: &u8| [10, 244, number, *host].into();
        let all = agent.endpoints.iter().map(|(host, (_, identity))| (address(host), *identity));
        let are = Word::Are(all.collect());
        // What it holds is known at once, what it has a little later.
        self.acknowledge(number);
        self.ticks(2);
        self.say(number, are);
        for (host, (pod, identity)) in self.agents[&number].endpoints.clone() {
            self.say(number, Word::Plug { pod, address: [10, 244, number, host].into(), identity });
        }
        self.acknowledge(number);
    }

    fn disconnect(&mut self, number: u8) {
        if self.agents.get_mut(&number).and_then(|agent| agent.session.take()).is_some() {
            self.see(number);
        }
        if !self.state.nodes().contains_key(&name(number)) {
            // An administrator has said that it is gone, with all that it had.
            let sessions = self.agents.remove(&number).map_or(0, |agent| agent.sessions);
            self.agents.insert(number, Agent { sessions, ..Agent::default() });
        }
    }

    fn say(&mut self, number: u8, word: Word) {
        let Some(stamp) = self.agents.get_mut(&number).and_then(|a| a.session.as_mut()) else {
            return;
        };
        stamp.sequence += 1;
        let command = CommandV1::Said(name(number), *stamp, word);
        if self.state.would_change(&command) {
            self.apply(&command);
        }
    }

    /// Operators know of a node what its agent said last.
    fn see(&mut self, number: u8) {
        let agent = &self.agents[&number];
        let (session, connected) = (agent.sessions, agent.session.is_some());
        let holds = agent.acknowledged.map(|held| Revision::new(1, held as u64));
        self.step(Event::Node(name(number), Seen { session, holds, connected }));
    }

    fn acknowledge(&mut self, number: u8) {
        let agent = self.agents.get_mut(&number).unwrap();
        if agent.session.is_some() {
            agent.acknowledged = Some(agent.held);
            self.see(number);
        }
    }

    /// A node is told more of the log, runs what is scheduled to it, says so and acknowledges.
    fn advance(&mut self, number: u8, revisions: usize) {
        for (host, (pod, identity)) in self.run(number, revisions) {
            self.say(number, Word::Plug { pod, address: [10, 244, number, host].into(), identity });
        }
        if self.agents.contains_key(&number) {
            self.acknowledge(number);
        }
    }

    /// The same, but what it says is lost with its session.
    fn advance_unheard(&mut self, number: u8, revisions: usize) {
        self.run(number, revisions);
        self.disconnect(number);
    }

    /// A node's kernel takes more of the log; what is plugged anew.
    fn run(&mut self, number: u8, revisions: usize) -> Vec<(u8, (NamespacedName, Identity))> {
        let Some(agent) = self.agents.get_mut(&number).filter(|agent| agent.session.is_some())
        else {
            return Vec::new();
        };
        let mut until = self.log.len().min(agent.held + revisions);
        if std::mem::take(&mut agent.is_new) {
            // With a session an agent is told at once what there is: a snapshot, or the last of each key. An operator's
            // history is far shorter than the time in which a number comes round.
            until = self.log.len();
            agent.held = until;
            agent.kernel = self.state.snapshot().map(|delta| (delta.key(), delta)).collect();
        }
        for delta in self.log[agent.held..until].iter().flatten() {
            if delta.is_delete() {
                agent.kernel.remove(&delta.key());
            } else {
                agent.kernel.insert(delta.key(), delta.clone());
            }
        }
        agent.held = until;
        let mut plugs = Vec::new();
        for delta in agent.kernel.values() {
            let Delta::WorkloadUpsert(workload) = delta else { continue };
            // A node that has no prefixes plugs nothing.
            let registered = agent.kernel.contains_key(&DeltaKey::Node(name(number)));
            if workload.node != name(number) || !registered {
                continue;
            }
            let host: u8 = workload.name.name.parse().unwrap();
            let now = (workload.name.clone(), workload.identity);
            if agent.endpoints.insert(host, now.clone()).as_ref() != Some(&now) {
                plugs.push((host, now));
            }
        }
        plugs
    }

    /// Every node knows everything, and whoever is not wanted any more is gone.
    fn settle(&mut self) {
        for number in self.agents.keys().copied().collect::<Vec<_>>() {
            self.advance(number, usize::MAX / 2);
            self.sweep(number);
            self.advance(number, usize::MAX / 2);
        }
    }

    /// CNI DEL for the pods of a node that are gone.
    fn sweep(&mut self, number: u8) {
        let Some(agent) = self.agents.get_mut(&number) else { return };
        let scheduled = |pod: &NamespacedName| {
            let there = agent.kernel.get(&DeltaKey::Workload(pod.clone()));
            matches!(there, Some(Delta::WorkloadUpsert(w)) if w.node == name(number))
        };
        let gone = agent.endpoints.iter().filter(|(_, (pod, _))| !scheduled(pod));
        let gone: Vec<u8> = gone.map(|(host, _)| *host).collect();
        for host in gone {
            agent.endpoints.remove(&host);
        }
        // What is said is what there is.
        let all = agent.endpoints.iter();
        let all = all.map(|(host, (_, identity))| ([10, 244, number, *host].into(), *identity));
        let are = Word::Are(all.collect());
        self.say(number, are);
    }

    fn phase(&self, number: u32) -> Option<Phase> {
        let numbered = self.state.references().get(Identity(number))?;
        numbered.labels.is_some().then_some(numbered.phase)
    }
}

fn leader(cluster: &Cluster) -> Leadership {
    Leadership::new(cluster.clone(), 1, Limits { grace: GRACE, pause: 0, ..Limits::default() })
}

/// Two nodes that know of a pod, which is taken away.
fn unreferenced() -> World {
    let mut world = World::new(IdentitySpace::default());
    world.change(vec![node(1), node(2), pod(7, 1, 1)], vec![]);
    world.connect(1);
    world.connect(2);
    world.settle();
    world.change(vec![], vec![pod(7, 1, 1)]);
    world.settle();
    assert_eq!(world.state.references().idle().len(), 1);
    world
}

#[test]
fn a_number_that_nobody_refers_to_is_retired_and_freed_after_the_grace_each() {
    let mut world = unreferenced();
    world.ticks(GRACE.numbers);
    assert_eq!(world.phase(256), Some(Phase::Live));
    world.ticks(1);
    assert_eq!(world.phase(256), Some(Phase::Retiring));
    world.settle();
    world.ticks(GRACE.numbers - 1);
    assert_eq!(world.phase(256), Some(Phase::Retiring));
    assert_eq!(world.store.identities.len(), 1);
    world.ticks(1);
    assert_eq!(world.phase(256), None);
    assert!(world.store.identities.is_empty());
    // It is not given again before all others.
    world.change(vec![pod(7, 1, 1)], vec![]);
    assert_eq!(world.given, [Identity(256), Identity(257)]);
    world.elect();
    world.change(vec![pod(8, 2, 1)], vec![]);
    assert_eq!(world.given.last(), Some(&Identity(258)));
}

#[test]
fn no_number_is_freed_while_an_operator_may_tell_agents_what_it_was() {
    let mut world = unreferenced();
    world.everywhere = Some(world.log.len() as u64);
    world.ticks(GRACE.numbers + 1);
    world.settle();
    world.ticks(2 * GRACE.numbers);
    assert_eq!(world.phase(256), Some(Phase::Retiring), "an operator has not heard");
    let held: Vec<Identity> = world.leader.held_back(&world.state).collect();
    assert_eq!(held, [Identity(256)]);
    assert!(world.leader.unheard().is_some_and(|retired| Some(retired.index()) > world.everywhere));
    assert_eq!(world.leader.holders(&world.state, Identity(256)).count(), 0, "no node holds it");
    world.everywhere = None;
    world.ticks(1);
    assert_eq!((world.phase(256), world.leader.unheard()), (None, None));
}

#[test]
fn a_pod_that_comes_meanwhile_has_the_same_number_and_the_store_is_not_asked() {
    for ticks in [GRACE.numbers, GRACE.numbers + 5] {
        let mut world = unreferenced();
        world.ticks(ticks);
        let gave = world.store.gave;
        world.change(vec![pod(8, 1, 2)], vec![]);
        world.settle();
        world.ticks(4 * GRACE.numbers);
        assert_eq!((world.phase(256), world.store.gave), (Some(Phase::Live), gave));
        assert_eq!(world.given, [Identity(256)]);
    }
}

#[test]
fn a_node_that_still_has_it_says_so_before_it_agrees() {
    let mut world = unreferenced();
    // It is plugged while the Pod goes: what the node says of that comes after the number was retired.
    let late = (NamespacedName::new("shop", "7"), Identity(256));
    world.agents.get_mut(&2).unwrap().endpoints.insert(7, late);
    world.ticks(GRACE.numbers + 1);
    assert_eq!(world.phase(256), Some(Phase::Retiring));
    world.advance(1, 99);
    world.disconnect(2);
    world.ticks(GRACE.numbers);
    // Its next session begins with all that its kernel holds; what it has plugged is said after that.
    world.agents.get_mut(&2).unwrap().held = world.log.len();
    world.connect(2);
    assert_eq!(world.phase(256), Some(Phase::Live));
    world.ticks(4 * GRACE.numbers);
    assert_eq!(world.phase(256), Some(Phase::Live));
    world.settle();
    world.ticks(2 * GRACE.numbers);
    world.settle();
    world.ticks(2 * GRACE.numbers);
    assert_eq!(world.phase(256), None);
}

#[test]
fn a_lost_node_holds_back_what_it_may_know_and_nothing_else() {
    for returns in [true, false] {
        let mut world = unreferenced();
        world.disconnect(2);
        world.ticks(GRACE.nodes + 2 * GRACE.numbers);
        assert_eq!(world.phase(256), Some(Phase::Retiring));
        // Given after it was lost.
        world.change(vec![pod(9, 9, 1)], vec![]);
        world.settle();
        world.change(vec![], vec![pod(9, 9, 1)]);
        world.settle();
        world.ticks(GRACE.numbers + 1);
        world.settle();
        world.ticks(GRACE.numbers + 1);
        assert_eq!((world.phase(256), world.phase(257)), (Some(Phase::Retiring), None));
        assert_eq!(world.leader.held_back(&world.state).count(), 1);
        let holders: Vec<&NodeName> = world.leader.holders(&world.state, Identity(256)).collect();
        assert_eq!(holders, [&name(2)]);
        if returns {
            world.connect(2);
            world.ticks(2);
            assert_eq!(world.phase(256), Some(Phase::Retiring), "its kernel has it still");
            world.settle();
        } else {
            world.change(vec![], vec![node(2)]);
        }
        world.ticks(2);
        assert_eq!(world.phase(256), None);
    }
}

#[test]
fn a_session_that_came_and_went_unseen_may_have_been_told_anything() {
    let mut world = unreferenced();
    world.disconnect(2);
    world.ticks(GRACE.nodes);
    world.change(vec![pod(9, 9, 1)], vec![]);
    // Of its next session the leader hears only that it is over.
    let agent = world.agents.get_mut(&2).unwrap();
    agent.sessions += 1;
    (agent.session, agent.is_new) = (Some(Stamp { session: agent.sessions, sequence: 0 }), true);
    world.run(2, 99);
    world.agents.get_mut(&2).unwrap().session = None;
    world.see(2);
    world.change(vec![], vec![pod(9, 9, 1)]);
    world.settle();
    world.ticks(GRACE.numbers + 1);
    world.settle();
    world.ticks(GRACE.numbers + 1);
    assert_eq!(world.phase(257), Some(Phase::Retiring), "its kernel has it");
}

#[test]
fn a_leader_that_knows_of_nobody_waits_for_all() {
    let mut world = unreferenced();
    world.ticks(GRACE.numbers + 1);
    world.settle();
    // What its predecessor knew of who agrees is lost with it; node 2 is not heard of.
    world.disconnect(2);
    world.elect();
    world.ticks(GRACE.nodes + 3 * GRACE.numbers);
    world.settle();
    world.ticks(GRACE.nodes);
    assert_eq!(world.phase(256), Some(Phase::Retiring));
    world.connect(2);
    world.settle();
    world.ticks(2);
    assert_eq!(world.phase(256), None);
}

#[test]
fn what_the_store_was_not_told_to_forget_is_adopted_and_retired_again() {
    let mut world = unreferenced();
    world.lose_forgetting = true;
    world.ticks(GRACE.numbers + 1);
    world.settle();
    world.ticks(GRACE.numbers);
    assert_eq!((world.phase(256), world.store.identities.len()), (None, 1));
    world.lose_forgetting = false;
    world.elect();
    assert_eq!(world.phase(256), Some(Phase::Live));
    world.settle();
    world.ticks(GRACE.numbers + 1);
    world.settle();
    world.ticks(GRACE.numbers);
    assert_eq!((world.phase(256), world.store.identities.len()), (None, 0));
    world.change(vec![pod(7, 1, 1)], vec![]);
    // Given, adopted, and not given again before all others.
    assert_eq!(world.given, [Identity(256), Identity(256), Identity(257)]);
}

#[test]
fn numbers_go_round_past_those_that_are_held() {
    let space = IdentitySpace::new(12, 1).unwrap();
    let mut world = World::new(space);
    world.change(vec![node(1), pod(1, 1, 1), pod(2, 2, 1)], vec![]);
    world.connect(1);
    world.settle();
    assert_eq!(world.given, [Identity(0x1000), Identity(0x1001)]);
    // A node has the next one of a life that was lost.
    let agent = world.agents.get_mut(&1).unwrap();
    agent.endpoints.insert(3, (NamespacedName::new("shop", "3"), Identity(0x1002)));
    world.disconnect(1);
    world.connect(1);
    // As many others come and go as there are: each is given once, those that are held are not.
    for round in 0..4093_u32 {
        let app = u8::try_from(round % 200).unwrap();
        let labels = BTreeMap::from([("round".to_owned(), round.to_string())]);
        let Object::Pod(it) = pod(9, app, 1) else { unreachable!() };
        world.change(vec![Object::Pod(Pod { labels, ..it })], vec![]);
        if round % 500 == 0 {
            world.settle();
            world.ticks(GRACE.numbers + 1);
            world.settle();
            // Some numbers a command.
            (0..80).for_each(|_| world.ticks(GRACE.numbers));
        }
    }
    let mut once = world.given.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!((once.len(), world.given.len()), (4095, 4095));
    assert!(!once.contains(&Identity(0x1002)));
    world.change(vec![pod(9, 9, 1)], vec![]);
    assert_eq!(world.given.last(), Some(&Identity(0x1002)), "its node let go of it");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, u8),
    Remove(u8),
    Register(u8),
    Deregister(u8),
    Connect(u8),
    Disconnect(u8),
    Advance(u8, usize),
    AdvanceUnheard(u8, usize),
    Sweep(u8),
    Ticks(u32),
    Elect,
}

fn steps() -> impl Strategy<Value = Step> {
    let (node, pod, app) = (1..4_u8, 1..4_u8, 0..100_u8);
    prop_oneof![
        4 => (pod.clone(), app, node.clone()).prop_map(|(pod, app, node)| Step::Put(pod, app, node)),
        4 => pod.prop_map(Step::Remove),
        2 => node.clone().prop_map(Step::Register),
        1 => node.clone().prop_map(Step::Deregister),
        2 => node.clone().prop_map(Step::Connect),
        1 => node.clone().prop_map(Step::Disconnect),
        6 => (node.clone(), 1..20_usize).prop_map(|(node, some)| Step::Advance(node, some)),
        1 => (node.clone(), 1..20_usize).prop_map(|(node, some)| Step::AdvanceUnheard(node, some)),
        3 => node.prop_map(Step::Sweep),
        6 => (5..50_u32).prop_map(Step::Ticks),
        1 => Just(Step::Elect),
    ]
}

proptest! {
    /// Whatever happens, no number is given to another set while a node has it; and in the end, when all is
    /// well, those that nobody refers to are free.
    #[test]
    fn nothing_is_given_again_that_anybody_holds(steps in proptest::collection::vec(steps(), 1..200)) {
        // Eight numbers, fewer than any cluster is founded with, so that they go round: 21 bits, cluster 0x1000.
        let mut world = World::new(codec::decode(&[21, 251, 0, 16]).unwrap());
        for number in 1..4 {
            world.change(vec![node(number)], vec![]);
            world.connect(number);
        }
        for step in steps {
            match step {
                Step::Put(it, app, on) => world.change(vec![pod(it, app, on)], vec![]),
                Step::Remove(it) => world.change(vec![], vec![pod(it, 0, 1)]),
                // Either way its session ends.
                Step::Register(it) => {
                    world.change(vec![node(it)], vec![]);
                    world.disconnect(it);
                }
                Step::Deregister(it) => {
                    world.change(vec![], vec![node(it)]);
                    world.disconnect(it);
                }
                Step::Connect(it) => {
                    world.disconnect(it);
                    world.connect(it);
                }
                Step::Disconnect(it) => world.disconnect(it),
                Step::Advance(it, some) => world.advance(it, some),
                Step::AdvanceUnheard(it, some) => world.advance_unheard(it, some),
                Step::Sweep(it) => world.sweep(it),
                Step::Ticks(some) => world.ticks(some),
                Step::Elect => world.elect(),
            }
        }
        for number in 1..4 {
            world.change(vec![node(number)], vec![]);
            world.disconnect(number);
            world.connect(number);
        }
        for _ in 0..4 {
            world.settle();
            world.ticks(GRACE.numbers + 2);
        }
        let references = world.state.references();
        assert!(references.idle().is_empty() && references.retiring().is_empty());
        let stored: Vec<Identity> = world.store.identities.keys().copied().collect();
        let known: Vec<Identity> = references.iter().map(|(number, _)| number).collect();
        assert_eq!(stored, known);
    }
}
