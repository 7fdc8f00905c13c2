//! When a number that nobody refers to is free: what a leader counts, and hears of nodes.
//!
//! | for the grace a number was | and | then it is to be |
//! |---|---|---|
//! | live, and referred to by nobody | | retired: agents forget it |
//! | retiring | every operator knows of that, and every node agrees that is registered or has a session | freed: it may be given again |
//! | retiring | some operator does not, or some node does not agree yet | held back: that is what quarantine is |
//!
//! Whoever is referred to again begins anew.
//!
//! | a node agrees to | when |
//! |---|---|
//! | what was retired at a revision | its kernel holds that, and the state has what the node said of its pods in the session that tells so |
//! | what was given after its session was over | it has had none since for the grace: nobody told it |
//!
//! In a session a node says what it has before it says what its kernel holds, so it refers to a number before it agrees, or never.
//! An operator that is cut off takes sessions that its leader does not hear of, and tells them what it knew when it was cut off: so
//! no number is freed that one of them may tell as what it was. Who had heard of the retirement tells it, and no number after it.
//!
//! A leader waits for nodes that it never heard of as if their sessions were over when it looked first. What it finds retiring it
//! retires once more, for the sake of a revision that it knows.

use crate::{ClusterState, CommandV1};
use std::collections::BTreeMap;
use weft_types::{Identity, NodeName, Revision};

/// Times, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Grace {
    /// How long nobody refers to a number before it is retired, and how long it is retiring at least.
    pub numbers: u32,
    /// How long a node has no session before it counts as away.
    pub nodes: u32,
    /// Between two looks.
    pub pause: u32,
    /// Numbers in one command at most.
    pub most: usize,
}

impl Default for Grace {
    /// A minute each with ticks of 100 ms.
    fn default() -> Self {
        Self { numbers: 600, nodes: 600, pause: 10, most: 1024 }
    }
}

/// What is known of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its newest session, as its agent counts them.
    pub session: u64,
    /// What its kernel holds, as it said in that.
    pub holds: Option<Revision>,
    /// Whether that session stands.
    pub connected: bool,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    seen: Seen,
    /// Since which tick it has no session, and how many numbers were given then.
    gone: Option<(u64, u64)>,
}

impl Node {
    /// The newest revision whose retirements it agrees to: its kernel holds that, and the state has what it said before.
    fn agreed(&self, state: &ClusterState, name: &NodeName) -> Option<Revision> {
        let said = state.heard(name).is_some_and(|heard| heard.session >= self.seen.session);
        self.seen.holds.filter(|_| said)
    }
}

/// What all nodes agree to.
struct Agreed {
    /// What was retired up to here, where nobody is away; none where somebody agrees to nothing.
    up_to: Option<Revision>,
    /// Those that are away: what they agreed to, and how many numbers were given when they went.
    away: Vec<(Option<Revision>, u64)>,
}

impl Agreed {
    fn to(&self, retired: Revision, place: u64) -> bool {
        let one = |(agreed, places): &(Option<Revision>, u64)| {
            *agreed >= Some(retired) || place > *places
        };
        self.up_to >= Some(retired) && self.away.iter().all(one)
    }
}

/// The core.
#[derive(Clone, Debug)]
pub(crate) struct Retirement {
    grace: Grace,
    now: u64,
    /// The last entry of the log that every operator knows to be committed.
    everywhere: u64,
    /// When it is looked again.
    next: u64,
    /// Since which tick nobody refers to them.
    idle: BTreeMap<Identity, u64>,
    /// At which revision and tick they were retired.
    retiring: BTreeMap<Identity, (Revision, u64)>,
    nodes: BTreeMap<NodeName, Node>,
}

impl Retirement {
    pub(crate) fn new(grace: Grace) -> Self {
        let (idle, retiring) = (BTreeMap::new(), BTreeMap::new());
        let nodes = BTreeMap::new();
        Self { grace, now: 0, everywhere: 0, next: 0, idle, retiring, nodes }
    }

    /// Another life as a leader begins.
    pub(crate) fn begin(&mut self) {
        self.idle.clear();
        self.retiring.clear();
    }

    /// Something of a node is known.
    pub(crate) fn see(&mut self, state: &ClusterState, node: NodeName, seen: Seen) {
        // In a session that nobody saw it may have been told anything.
        let same = self.nodes.get(&node).filter(|node| node.seen.session == seen.session);
        let before = same.and_then(|node| node.gone);
        let gone = (!seen.connected).then(|| before.unwrap_or(self.present(state)));
        self.nodes.insert(node, Node { seen, gone });
    }

    fn present(&self, state: &ClusterState) -> (u64, u64) {
        (self.now, state.references().places())
    }

    /// These were retired at a revision.
    pub(crate) fn retired(&mut self, numbers: &[Identity], revision: Revision) {
        let at = (revision, self.now);
        self.retiring.extend(numbers.iter().map(|number| (*number, at)));
    }

    /// Time passed, and every operator knows the log to be committed up to an entry.
    pub(crate) fn tick(&mut self, everywhere: u64) {
        self.now += 1;
        self.everywhere = everywhere;
    }

    /// What is to be done now; `given` is the number that was given last.
    pub(crate) fn look(&mut self, state: &ClusterState, given: Identity) -> Vec<CommandV1> {
        if self.now < self.next {
            return Vec::new();
        }
        self.next = self.now + u64::from(self.grace.pause);
        self.follow(state);
        let most = self.grace.most;
        let agreed = self.agreed(state);
        let due = self.due().filter(|due| self.is_free(state, &agreed, *due));
        let free: Vec<Identity> = due.map(|(number, _)| number).take(most).collect();
        let due = self.idle.iter().filter(|(_, since)| self.is_over(**since));
        let retiring = state.references().retiring().iter();
        let unknown = retiring.filter(|number| !self.retiring.contains_key(number));
        let retire = due.map(|(number, _)| number).chain(unknown).copied();
        let retire: Vec<Identity> = retire.take(most).collect();
        let mut commands = Vec::new();
        if !free.is_empty() {
            commands.push(CommandV1::Free { numbers: free, given });
        }
        if !retire.is_empty() {
            commands.push(CommandV1::Retire(retire));
        }
        commands
    }

    /// Those that are retiring for the grace, and when they were retired.
    fn due(&self) -> impl Iterator<Item = (Identity, Revision)> + '_ {
        let due = self.retiring.iter().filter(|(_, (_, since))| self.is_over(*since));
        due.map(|(number, (retired, _))| (*number, *retired))
    }

    fn is_free(
        &self,
        state: &ClusterState,
        agreed: &Agreed,
        (number, retired): (Identity, Revision),
    ) -> bool {
        retired.index() <= self.everywhere && agreed.to(retired, place(state, number))
    }

    /// What every node agrees to that is registered or has a session: looked at once for all numbers.
    fn agreed(&self, state: &ClusterState) -> Agreed {
        let (mut up_to, mut away) = (Some(Revision(u64::MAX)), Vec::new());
        for name in self.asked(state) {
            let node = self.nodes.get(name);
            let agreed = node.and_then(|node| node.agreed(state, name));
            match node.and_then(|node| node.gone).filter(|(since, _)| self.is_away(*since)) {
                Some((_, places)) => away.push((agreed, places)),
                None => up_to = up_to.min(agreed),
            }
        }
        Agreed { up_to, away }
    }

    /// Nodes that have to agree.
    fn asked<'a>(&'a self, state: &'a ClusterState) -> impl Iterator<Item = &'a NodeName> + 'a {
        let registered = state.nodes();
        let others = self
            .nodes
            .iter()
            .filter(|(name, node)| node.seen.connected && !registered.contains_key(*name));
        registered.keys().chain(others.map(|(name, _)| name))
    }

    /// Numbers that would be free, were it not for operators that have not heard or nodes that do not agree.
    pub(crate) fn held_back<'a>(
        &'a self,
        state: &'a ClusterState,
    ) -> impl Iterator<Item = Identity> + 'a {
        let agreed = self.agreed(state);
        let held = self.due().filter(move |due| !self.is_free(state, &agreed, *due));
        held.map(|(number, _)| number)
    }

    /// When the last of those was retired of which some operator has not heard.
    pub(crate) fn unheard(&self) -> Option<Revision> {
        let retired = self.due().map(|(_, retired)| retired);
        retired.filter(|retired| retired.index() > self.everywhere).max()
    }

    /// Nodes that do not agree that a number is freed, of those that are registered or have a session.
    pub(crate) fn holders<'a>(
        &'a self,
        state: &'a ClusterState,
        number: Identity,
    ) -> impl Iterator<Item = &'a NodeName> + 'a {
        let place = place(state, number);
        let retired = self.retiring.get(&number).map(|(revision, _)| *revision);
        let agrees = move |name: &NodeName, node: &Node| {
            let holds = retired.is_some_and(|retired| node.agreed(state, name) >= Some(retired));
            let knows_not = |(since, places)| self.is_away(since) && place > places;
            holds || node.gone.is_some_and(knows_not)
        };
        let asked = self.asked(state);
        asked.filter(move |name| !self.nodes.get(*name).is_some_and(|node| agrees(name, node)))
    }

    fn is_away(&self, since: u64) -> bool {
        self.now.saturating_sub(since) >= u64::from(self.grace.nodes)
    }

    fn is_over(&self, since: u64) -> bool {
        self.now.saturating_sub(since) >= u64::from(self.grace.numbers)
    }

    /// Forgets what is not so any more, and notes what is new.
    fn follow(&mut self, state: &ClusterState) {
        let (references, now) = (state.references(), self.now);
        // Side by side: of a hundred thousand that are idle few began or ceased to be since it was looked last.
        let mut before = std::mem::take(&mut self.idle).into_iter().peekable();
        let since = |number: &Identity| {
            while before.next_if(|(other, _)| other < number).is_some() {}
            let (_, since) = before.next_if(|(other, _)| other == number).unwrap_or((*number, now));
            (*number, since)
        };
        self.idle = references.idle().iter().map(since).collect();
        self.retiring.retain(|number, _| references.retiring().contains(number));
        let registered = state.nodes();
        self.nodes.retain(|name, node| node.seen.connected || registered.contains_key(name));
        let present = self.present(state);
        let unheard =
            Node { seen: Seen { session: 0, holds: None, connected: false }, gone: Some(present) };
        let new = registered.keys().filter(|name| !self.nodes.contains_key(*name)).cloned();
        let new: Vec<NodeName> = new.collect();
        self.nodes.extend(new.into_iter().map(|name| (name, unheard)));
    }
}

/// How many numbers had been given when this one was.
fn place(state: &ClusterState, number: Identity) -> u64 {
    state.references().get(number).map_or(0, |numbered| numbered.place)
}
