//! The world: what happens next happens now, one thing at a time.

mod agenda;
mod agents;
mod check;
mod clients;
mod event;
mod faults;
mod group;
mod kernels;
mod lead;
mod lost;
mod numbers;
mod readers;
mod releases;
mod runtimes;
mod sessions;

use crate::{
    Operation, Report, Sabotage, Scenario, agent::Agent, book::Book, client::Client, fault::Fault,
    invariant::Invariants, kernel::Realiser, operator::Operator, pods::Pods, release::Release,
    report::Counts, sabotage::Reused, store::SimStore, story::Story, time::Micros, told::FEW,
    trace::Trace, view::Views,
};
use agenda::Agenda;
use event::{Cut, Event, Way};
use numbers::Reuses;
use readers::Readers;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weft_operator::sequencer;
use weft_raft::{Change as GroupChange, Config, Disk, Group, MemberId, MemoryDisk, Saved};
use weft_state::{ClusterState, leadership::RequestId};
use weft_types::{Cluster, NodeName, Object, object::ObjectKey};

/// Which founding of the cluster the first is.
const FIRST: u16 = 1;
/// The cluster's name.
const CLUSTER: &str = "sim";
/// What a tick of the node is.
pub(crate) const TICK: Micros = Micros::of(sequencer::TICK);
/// For so long at least members wait for a leader's sign of life before they elect another.
pub(crate) const ELECTION: Micros =
    Micros(TICK.0 * Config::new(MemberId(1), 1, 1).election_ticks as u64);
/// Pods that a node has on average, at most: its prefix has 253 addresses, and nobody counts how many are there already.
const ROOM: usize = 180;
/// How long a client waits for its answer before it asks another operator.
const CLIENT_PATIENCE: Micros = Micros::seconds(2);
/// After everything is healed, until everybody must agree.
pub(crate) const QUIET: Micros = Micros::seconds(10);

/// Everything there is.
struct World {
    scenario: Scenario,
    sabotage: Sabotage,
    reused: Reused,
    seed: u64,
    rng: fastrand::Rng,
    now: Micros,
    order: u64,
    agenda: Agenda,
    operators: BTreeMap<MemberId, Operator>,
    store: SimStore,
    clients: Vec<Client>,
    agents: Vec<Agent>,
    nodes: Vec<NodeName>,
    cuts: BTreeMap<Way, u32>,
    /// Changes of the group that an administrator wants, in their order.
    wanted: VecDeque<GroupChange>,
    next_member: u64,
    next_request: RequestId,
    next_question: u64,
    readers: Readers,
    history: Vec<Operation>,
    reuses: Reuses,
    views: Views,
    /// What was published when, where agents are few.
    book: Book,
    story: Story,
    /// What was answered, and so must be.
    answered: BTreeMap<ObjectKey, Option<Object>>,
    last_answer: Micros,
    invariants: Invariants,
    counts: Counts,
    trace: Trace,
    /// No new faults and no new wishes.
    quiet: bool,
    /// Strikes of faults so far, and when all of them are over.
    strikes: u64,
    ill_until: Micros,
    /// Which founding of the cluster this is.
    generation: u16,
    /// Whether every member was upgraded once.
    has_raised: bool,
    /// Members that are gone for good.
    gone: BTreeSet<MemberId>,
    /// Whose turn was last, of faults that hit each in turn.
    last_turn: Option<MemberId>,
}

/// Runs a scenario once.
pub fn run(scenario: &Scenario, seed: u64, sabotage: Sabotage) -> Report {
    let mut world = World::new(scenario.clone(), seed, sabotage);
    world.begin();
    let end = Micros::seconds(scenario.seconds);
    world.run_until(end);
    world.heal();
    world.run_until(end + QUIET);
    world.check_all();
    world.report()
}

impl World {
    fn new(mut scenario: Scenario, seed: u64, sabotage: Sabotage) -> Self {
        let room = ROOM * scenario.agents / scenario.clients.max(1);
        scenario.habits.pods = scenario.habits.pods.min(room);
        let mut rng = fastrand::Rng::with_seed(seed);
        let members: Vec<MemberId> = (1..=scenario.operators).map(MemberId).collect();
        let nodes: Vec<NodeName> =
            (1..=scenario.agents).map(|n| NodeName(format!("node{n}"))).collect();
        let (release, grace) = (scenario.begins(), scenario.grace_at_least());
        let mut any = || MemberId(rng.u64(1..=scenario.operators));
        let clients = (0..scenario.clients).map(|n| Client::new(n, any())).collect();
        let pods = Pods::new(Micros::millis(scenario.habits.lingers));
        let agent = |node: &NodeName| Agent::new(node.clone(), any(), release, pods.anew());
        let mut agents: Vec<Agent> = nodes.iter().map(agent).collect();
        if agents.len() > FEW {
            scenario.habits.policies = 0;
        }
        if scenario.habits.policies > 0 {
            for agent in &mut agents {
                agent.realiser = Some(Realiser::new(agent.node.clone(), 0, sabotage));
            }
        }
        Self {
            next_member: scenario.operators + 1,
            scenario,
            sabotage,
            reused: Reused::default(),
            seed,
            rng,
            now: Micros(0),
            order: 0,
            agenda: Agenda::default(),
            operators: founded(&members, release),
            store: SimStore::new(sabotage),
            clients,
            agents,
            nodes,
            cuts: BTreeMap::new(),
            wanted: VecDeque::new(),
            next_request: 0,
            next_question: 0,
            readers: Readers::default(),
            history: Vec::new(),
            reuses: Reuses::default(),
            views: Views::default(),
            book: Book::default(),
            story: Story::default(),
            answered: BTreeMap::new(),
            last_answer: Micros(0),
            invariants: Invariants::new(grace),
            counts: Counts::default(),
            trace: Trace::new(),
            quiet: false,
            strikes: 0,
            ill_until: Micros(0),
            generation: FIRST,
            has_raised: false,
            gone: BTreeSet::new(),
            last_turn: None,
        }
    }

    fn begin(&mut self) {
        for member in self.operators.keys().copied().collect::<Vec<_>>() {
            self.start(member);
        }
        for client in 0..self.clients.len() {
            let after = Micros(self.rng.u64(0..1_000_000));
            self.after(after, Event::Wish(client));
        }
        self.agents_begin();
        self.restart_pod_later();
        self.readers_begin();
        self.kernels_begin();
        for fault in 0..self.scenario.faults.len() {
            self.strike_later(fault);
        }
        self.after(TICK, Event::Admin);
    }

    /// Something will happen after a time.
    fn after(&mut self, time: Micros, event: Event) {
        self.order += 1;
        self.agenda.add((self.now + time, self.order), event);
    }

    fn run_until(&mut self, end: Micros) {
        while !self.invariants.is_hopeless() {
            let Some(((now, order), event)) = self.agenda.next_until(end) else { break };
            self.now = now;
            self.trace.add(now.0);
            self.trace.add(order);
            self.happen(event);
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, event: Event) {
        if let Some(until) = event.whom().and_then(|member| self.pause_of(member)) {
            // It waits in front of who stands still.
            self.order += 1;
            self.agenda.add((until, self.order), event);
            return;
        }
        match event {
            Event::Tick(member, life) => self.tick(member, life),
            Event::Arrive(envelope) => self.arrive(envelope),
            Event::Synced(member, life, count) => self.synced(member, life, count),
            Event::AtStore(member, life, operation, ask) => {
                self.at_store(member, life, operation, &ask);
            }
            Event::FromStore(member, life, operation, answer) => {
                self.store_answered(member, life, operation, answer);
            }
            Event::Wish(client) => self.wish(client),
            Event::Asked(member, client, request, change) => {
                self.asked(member, client, request, change);
            }
            Event::Answered(client, request, verdict, said) => {
                self.answer(client, request, verdict, said);
            }
            Event::HungUp(client, request) => self.hung_up(client, request),
            Event::GiveUp(client, request) => self.give_up(client, request),
            Event::Poll(agents) => self.poll(agents),
            Event::Polled(member, asking) => self.polled(member, asking),
            Event::Rows(from, to, rows) => self.hear_of_agents(from, to, rows),
            Event::Tire => self.tire(),
            Event::Look(reader, number) => self.look(reader, number),
            Event::LookAt(member, look) => self.look_at(member, look),
            Event::Looked(look, seen) => self.looked(&look, seen),
            Event::Told(agents, told) => self.told(agents, &told),
            Event::RestartPod => self.restart_pod(),
            Event::Write(agent, turn) => self.write(agent, turn),
            Event::Wake(agent, turn) => self.retry(agent, turn),
            Event::Revive(agent) => self.revive(agent),
            Event::Probe => self.probe(),
            Event::Strike(fault) => self.strike(fault),
            Event::Healed(strikes) => self.healed(strikes),
            Event::Recovered(strikes, revision) => self.recovered(strikes, revision),
            Event::Over(cut) => self.mend(&cut),
            Event::Stop(member, life, release, lasts) => self.stop(member, life, release, lasts),
            Event::Upgrade(member) => self.upgrade(member),
            Event::Restart(member) => self.start(member),
            Event::Replace(member) => self.replace(member),
            Event::FoundAnew(members) => self.found_anew(members),
            Event::GoBack => self.store.go_back(),
            Event::PutBack => self.store.put_back(),
            Event::Admin => self.administrate(),
        }
    }

    /// Until when a member stands still.
    fn pause_of(&self, member: MemberId) -> Option<Micros> {
        let until = self.operators.get(&member)?.paused_until;
        (until > self.now).then_some(until)
    }

    fn cluster(&self) -> Cluster {
        Cluster { name: CLUSTER.to_owned(), space: self.scenario.numbers }
    }

    fn any_member(&mut self) -> Option<MemberId> {
        self.rng.choice(self.operators.keys().copied())
    }

    fn delay(&mut self) -> Micros {
        self.scenario.network.draw(&mut self.rng)
    }

    fn fault(&self, fault: usize) -> Option<Fault> {
        self.scenario.faults.get(fault).copied()
    }

    fn report(self) -> Report {
        let Counts { faults, answers, identities, plugs, moves, relabels, .. } = self.counts;
        let Counts { restarts, refusals, reads, given, freed, reused, copies, .. } = self.counts;
        let Counts { policies, packets, packets_refused, writes_refused, agents_killed, .. } =
            self.counts;
        let minimum = self.scenario.minimum;
        let short = |what: &str, is: u64, least: u64| {
            (is < least).then(|| format!("{is} {what}, of at least {least}"))
        };
        let void = short("faults hit", faults, minimum.faults)
            .or_else(|| short("changes answered", answers, minimum.answers))
            .or_else(|| short("identities", identities, minimum.identities))
            .or_else(|| short("numbers given", given, minimum.given))
            .or_else(|| short("numbers freed", freed, minimum.freed))
            .or_else(|| short("numbers given again", reused, minimum.reused))
            .or_else(|| short("pods plugged", plugs, minimum.plugs))
            .or_else(|| short("moves of agents", moves, minimum.moves))
            .or_else(|| short("relabelled namespaces", relabels, minimum.relabels))
            .or_else(|| short("pods started anew", restarts, minimum.restarts))
            .or_else(|| short("pods told to try again", refusals, minimum.refusals))
            .or_else(|| short("changes of policies", policies, minimum.policies))
            .or_else(|| short("packets judged", packets, minimum.packets))
            .or_else(|| short("packets refused", packets_refused, minimum.packets_refused))
            .or_else(|| short("writes refused", writes_refused, minimum.writes_refused))
            .or_else(|| short("agents killed", agents_killed, minimum.agents_killed))
            .or_else(|| short("looks answered", reads, minimum.reads))
            .or_else(|| short("old copies noticed", copies, minimum.copies));
        Report {
            scenario: self.scenario.name,
            found_by: self.scenario.found_by,
            about: self.scenario.about,
            operators: self.scenario.operators,
            seed: self.seed,
            extent: self.scenario.extent,
            agents: self.scenario.agents,
            seconds: self.scenario.seconds,
            counts: self.counts,
            void,
            violations: self.invariants.violations,
            trace: self.trace.hash(),
            history: self.history,
            end: self.now,
            story: self.story,
        }
    }
}

/// Members of a new group, with their disks.
fn founded(members: &[MemberId], release: Release) -> BTreeMap<MemberId, Operator> {
    let group = Group::of_voters(members.iter().map(|member| (*member, member.to_string())));
    let state = ClusterState::of_version(CLUSTER, release.log()).encode().unwrap_or_default();
    let saved = Saved::founding(group, state.into());
    let operator = |member: &MemberId| {
        let mut disk = MemoryDisk::default();
        let Ok(()) = disk.write(&[saved.as_write()]);
        (*member, Operator::new(*member, (disk, FIRST), release))
    };
    members.iter().map(operator).collect()
}
