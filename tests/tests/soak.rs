//! Random everything at once: pods come and go, policies change, one that no map has room for is refused, agents and the
//! operator are killed, actors crash, both tables of flows are at their limits, and all the while everyone asks everyone. Never
//! an answer that no policy state of that moment allows, nor a denial or silence that none explains; in the end the maps are those that
//! an agent builds from nothing, and nothing is left over.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod agents;
#[path = "soak/cluster.rs"]
mod cluster;
#[path = "soak/denials.rs"]
mod denials;
#[path = "soak/faults.rs"]
mod faults;
#[path = "soak/flood.rs"]
mod flood;
#[path = "soak/limits.rs"]
mod limits;
#[path = "soak/probes.rs"]
mod probes;
#[path = "soak/tables.rs"]
mod tables;

use agents::is_well;
use cluster::{Change, Cluster, NODES, full, policy, too_much};
use denials::Witnesses;
use faults::Broken;
use flood::Flood;
use limits::{limited, starts};
use probes::{Prober, World};
use std::{
    collections::BTreeMap,
    fs,
    process::Output,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{self, sleep},
    time::{Duration, Instant},
};
use weft_tests::{
    lab::{Lab, is_root, weft_reads},
    oracle::Answer,
    sandbox::{comes_to_be, everything, within},
    seed::Chance,
    timeline::{Seen, Timeline, Verdicts, Violation},
};

/// How many pods a node has.
const PODS: usize = 4;
/// Until a change is enforced, whoever is away and comes back meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two changes, in milliseconds.
const CALM: std::ops::Range<u64> = 0..1_500;
/// A run of this length has seen each kind of change and of fault, or something that makes them does not work.
const LONG: Duration = Duration::from_secs(300);

/// The lab, what it is made of, and who asks.
struct Soak {
    lab: Lab,
    cluster: Cluster,
    world: Arc<World>,
    probers: BTreeMap<String, Prober>,
    witnesses: Option<Witnesses>,
    flood: Option<Flood>,
    chance: Chance,
    /// Changes by kind.
    made: BTreeMap<&'static str, u32>,
}

/// How the timeline is told of a state. The right way tells what is so.
type Telling = fn(&Cluster) -> Verdicts;

impl Soak {
    fn begin(mut chance: Chance, telling: Telling) -> Self {
        let lab = Lab::named("soak");
        let mut cluster = Cluster::of(&mut chance, PODS);
        let manifests = std::env::temp_dir().join(format!("{}.yaml", lab.name));
        let documents = flood::pods().map(|pod| pod.to_string()).into_iter();
        let documents: Vec<String> = documents.chain([cluster.manifests()]).collect();
        fs::write(&manifests, documents.join("\n---\n")).unwrap();
        let done =
            limited(&["lab", "up", "--name", &lab.name, "-f"]).arg(&manifests).output().unwrap();
        fs::remove_file(&manifests).unwrap();
        assert!(done.status.success(), "{}", words(&done));
        let names: Vec<String> = cluster.pods.keys().cloned().collect();
        names.iter().for_each(|name| learn(&lab, &mut cluster, name));
        let timeline = Timeline::new(telling(&cluster), Duration::ZERO);
        let world = World::new(timeline, Instant::now());
        let (flood, probers, made) = (Some(Flood::start(&lab)), BTreeMap::new(), BTreeMap::new());
        let witnesses = Some(Witnesses::start(&world, &lab));
        let mut soak = Self { lab, cluster, world, probers, witnesses, flood, chance, made };
        names.iter().for_each(|name| soak.probe(name));
        soak
    }

    /// Someone begins to ask, and to be asked.
    fn probe(&mut self, name: &str) {
        self.world.ask(name, self.cluster.pods[name].address.unwrap());
        let prober = Prober::start(&self.world, &self.lab, name);
        self.probers.insert(name.to_owned(), prober);
    }

    fn begins(&self, verdicts: Verdicts) {
        let mut timeline = self.world.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.world.now();
        timeline.forget(now.saturating_sub(probes::PATIENCE * 3));
        timeline.begins(verdicts, now);
    }

    fn settles(&self) {
        let mut timeline = self.world.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        timeline.settles(self.world.now());
    }

    /// Makes a change; returns when it is enforced.
    fn change(&mut self, change: &Change, telling: Telling) {
        eprintln!("{:?}: {change}", self.world.now());
        let kind = match change {
            Change::Policy(name, spec) => {
                self.policies(change, telling, "apply", &policy(name, spec).to_string());
                "policies applied"
            }
            Change::NoPolicy(name) => {
                let gone = policy(name, &serde_json::json!({"podSelector": {}})).to_string();
                self.policies(change, telling, "delete", &gone);
                "policies deleted"
            }
            Change::Pod(name) => {
                self.replace(name, telling);
                "pods replaced"
            }
            Change::TooMuch => {
                self.is_refused();
                "policies refused"
            }
        };
        *self.made.entry(kind).or_default() += 1;
    }

    fn policies(&mut self, change: &Change, telling: Telling, verb: &str, text: &str) {
        let next = self.cluster.with(change);
        self.begins(telling(&next));
        self.until_done(verb, text);
        self.settles();
        self.world.acknowledged();
        self.cluster = next;
    }

    /// A pod goes, and another comes on a node by chance.
    fn replace(&mut self, name: &str, telling: Telling) {
        let manifest = self.cluster.manifest(name);
        self.world.ask_no_more(name);
        self.probers.remove(name).unwrap().end();
        self.cluster.pods.remove(name);
        self.begins(telling(&self.cluster));
        self.until_done("delete", &manifest);
        self.settles();
        let node = self.chance.one_of(&NODES);
        let name = self.cluster.add_pod(&mut self.chance, node);
        self.until_done("apply", &self.cluster.manifest(&name));
        learn(&self.lab, &mut self.cluster, &name);
        // Nobody asked it before it was there.
        self.begins(telling(&self.cluster));
        self.settles();
        self.probe(&name);
    }

    /// What is in force stays so: the timeline is told of nothing.
    fn is_refused(&mut self) {
        let text = policy("too-much", &too_much()).to_string();
        let begun = Instant::now();
        loop {
            let refused = self.lab.is_told("apply", &text);
            let said = words(&refused);
            assert!(!refused.status.success(), "there is no room for it: {said}");
            if said.contains("soak/too-much") {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "refused without its name: {said}");
        }
        self.until_done("delete", &text);
    }

    /// Tries until it is done: who has to do it may be away.
    #[track_caller]
    fn until_done(&self, verb: &str, text: &str) {
        let begun = Instant::now();
        loop {
            let done = self.lab.is_told(verb, text);
            if done.status.success() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{verb} {text}: {}", words(&done));
            sleep(Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn is_unharmed(&self) {
        let violations = self.world.violations();
        assert!(violations.is_empty(), "at {:?}: {violations:#?}", self.world.now());
    }

    /// For so long; how often what broke.
    fn lasts(&mut self, time: Duration, telling: Telling) -> Broken {
        let over = AtomicBool::new(false);
        let mut chance = Chance::from(self.chance.number());
        let lab = Lab { name: self.lab.name.clone() };
        let broken = thread::scope(|scope| {
            let ends = Ends(&over);
            let faults = scope.spawn(|| faults::breaks(&lab, &mut chance, &over));
            while self.world.now() < time && self.world.violations().is_empty() {
                let change = self.cluster.draw(&mut self.chance);
                self.change(&change, telling);
                sleep(self.chance.time(&CALM));
            }
            drop(ends);
            let broken = faults.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            eprintln!("{:?}: {:?}, {broken:?}", self.world.now(), self.made);
            broken
        });
        // It is the other's to take down.
        std::mem::forget(lab);
        broken
    }

    /// Nothing changes any more: everyone finds what the oracle says, and maps are as built from nothing.
    fn ends(mut self) {
        weft_reads(&["policy", "wait", "--lab", &self.lab.name], "");
        for node in NODES {
            is_well(&self.lab, node);
            limits::are_reached(&self.lab, node);
        }
        drop(self.flood.take());
        self.witnesses.take().into_iter().for_each(Witnesses::end);
        std::mem::take(&mut self.probers).into_values().for_each(Prober::end);
        self.is_unharmed();
        let World { passed, missed, kept, .. } = &*self.world;
        let [passed, missed, kept] = [passed, missed, kept].map(|count| count.load(SeqCst));
        eprintln!("{passed} answers, {kept} denials and {missed} silences, each explained");
        assert!(passed > 1000, "too few answers to say anything: {passed}");
        for node in NODES {
            let lived = tables::of(&self.lab, node);
            self.lab.does(&["agent", "kill", "--node", node]);
            for pins in ["bpf/maps", "bpf/links"] {
                fs::remove_dir_all(self.lab.dir().join(node).join(pins)).unwrap();
            }
            let started = starts(&self.lab, "agent", &["--node", node]);
            assert!(started.status.success(), "{}", words(&started));
            is_well(&self.lab, node);
            let anew = tables::of(&self.lab, node);
            let other = NODES.into_iter().find(|other| *other != node).unwrap();
            let lived = lived.without_strangers(&anew, &tables::of(&self.lab, other));
            assert_eq!(lived, anew, "{node}: as it lived, and from nothing");
        }
    }
}

/// Sets it when it goes, however that is.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// The address that a pod got.
#[track_caller]
fn learn(lab: &Lab, cluster: &mut Cluster, name: &str) {
    let address = lab.pod(&full(name))["address"].as_str().unwrap().parse().unwrap();
    cluster.pods.get_mut(name).unwrap().address = Some(address);
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn soak(time: Duration) {
    if !is_root() {
        return;
    }
    let chance = Chance::of("soak");
    within(move || {
        let before = everything();
        let mut soak = Soak::begin(chance, Cluster::verdicts);
        let broken = soak.lasts(time, Cluster::verdicts);
        if time >= LONG {
            let kinds =
                ["policies applied", "policies deleted", "policies refused", "pods replaced"];
            assert!(kinds.iter().all(|kind| soak.made.contains_key(kind)), "{:?}", soak.made);
            assert!(broken.is_everything(), "{broken:?}");
            assert!(soak.world.kept.load(SeqCst) > 0, "nothing was ever seen denied");
        }
        soak.ends();
        comes_to_be(&before, everything, "something is left over");
    });
}

#[test]
fn root_random_everything_at_once() {
    soak(Duration::from_secs(20));
}

/// An hour, or `WEFT_SOAK_SECONDS`.
#[test]
#[ignore = "takes an hour"]
fn root_random_everything_at_once_for_an_hour() {
    let told = std::env::var("WEFT_SOAK_SECONDS").ok().and_then(|text| text.parse().ok());
    soak(Duration::from_secs(told.unwrap_or(3600)));
}

/// A timeline that is told the opposite of what one pod may is found out, or the rest shows nothing.
#[track_caller]
fn is_noticed(telling: Telling, changes: &'static [&'static str], wanted: Seen) {
    if !is_root() {
        return;
    }
    within(move || {
        let mut soak = Soak::begin(Chance::of("soak"), telling);
        for name in changes {
            let nobody = serde_json::json!({"podSelector": {}, "policyTypes": ["Ingress"]});
            soak.change(&Change::Policy((*name).to_owned(), nobody), telling);
        }
        let begun = Instant::now();
        let is_wanted = |(_, violation): &(Duration, Violation)| violation.seen == wanted;
        while !soak.world.violations().iter().any(is_wanted) {
            assert!(begun.elapsed() < PATIENCE, "not noticed");
            sleep(Duration::from_millis(20));
        }
        // Where nothing changed nothing else is wrong.
        let violations = soak.world.violations();
        assert!(!changes.is_empty() || violations.iter().all(is_wanted), "{violations:?}");
    });
}

/// As a fabric would seem that lets pass what it should not.
#[test]
fn root_an_answer_that_nothing_allows_would_be_noticed() {
    let telling: Telling = |cluster| {
        let mut verdicts = cluster.verdicts();
        let first = verdicts.keys().next().unwrap().clone();
        verdicts.get_mut(&first).unwrap().ingress = false;
        verdicts
    };
    is_noticed(telling, &[], Seen::Passed);
}

/// What everybody may, which is never so while there is a policy for nobody.
const OPEN: Telling = |cluster| {
    let mut verdicts = cluster.verdicts();
    verdicts.values_mut().for_each(|answer| *answer = Answer { egress: true, ingress: true });
    verdicts
};

/// As one would that loses what it should let pass.
#[test]
fn root_a_silence_that_nothing_explains_would_be_noticed() {
    is_noticed(OPEN, &["nobody"], Seen::Missing);
}

/// As one would that keeps out, if for a moment, whom it should let in: known to every node after two changes.
#[test]
fn root_a_denial_that_nothing_explains_would_be_noticed() {
    is_noticed(OPEN, &["nobody", "nobody-at-all"], Seen::KeptOut);
}
