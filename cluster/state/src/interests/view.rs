//! What one node is told of the published state.

use super::{Change, Interests, Was};
use crate::ClusterState;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::Ipv4Addr,
};
use weft_types::{Delta, Identity, NodeName, Workload, delta::DeltaKey};

/// Where a node's copy of the published state is: it holds what is its own, all nodes and policies, and of the rest what has
/// one of these identities.
///
/// | what | who is told |
/// |---|---|
/// | nodes, policies | everyone |
/// | an identity | who has to know it |
/// | an endpoint | its node, and who has to know its identity |
/// | a workload | its node |
#[derive(Debug)]
pub struct View {
    node: NodeName,
    scope: Scope,
    /// Identities that it was told.
    told: Known,
    /// Addresses that it asked for, the oldest first: it is told of their identities, too.
    asked: VecDeque<Ipv4Addr>,
    /// Those identities, and the batch of the interests of `told`.
    at: Option<(BTreeSet<Identity>, u64)>,
}

/// Which identities a node is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that it has to know.
    Interests,
    /// All.
    Everything,
}

#[derive(Debug)]
enum Known {
    All,
    Only(BTreeSet<Identity>),
}

impl Known {
    fn contains(&self, identity: &Identity) -> bool {
        match self {
            Self::All => true,
            Self::Only(some) => some.contains(identity),
        }
    }
}

impl View {
    /// Of a node that holds what these identities are about.
    pub fn new(node: NodeName, scope: Scope, told: BTreeSet<Identity>) -> Self {
        Self { node, scope, told: Known::Only(told), asked: VecDeque::new(), at: None }
    }

    /// It wants to know who has these addresses; of more than `most` in all the oldest are forgotten. Whether any is new.
    pub fn ask(&mut self, addresses: impl IntoIterator<Item = Ipv4Addr>, most: usize) -> bool {
        let mut any = false;
        for address in addresses {
            if !self.asked.contains(&address) {
                any = true;
                self.asked.push_back(address);
                if self.asked.len() > most {
                    self.asked.pop_front();
                }
            }
        }
        any
    }

    /// What it has to know now; nothing when that is what it was told.
    fn wanted(&mut self, interests: &Interests) -> Option<Known> {
        if self.scope == Scope::Everything {
            return matches!(self.told, Known::Only(_)).then_some(Known::All);
        }
        let identity = |address| Some(interests.endpoints.get(address)?.1);
        let asked: BTreeSet<Identity> = self.asked.iter().filter_map(identity).collect();
        let at = Some((asked, interests.changed(&self.node)));
        if at == self.at {
            return None;
        }
        let mut wanted = interests.of(&self.node);
        wanted.extend(at.iter().flat_map(|(asked, _)| asked));
        self.at = at;
        Some(Known::Only(wanted))
    }

    /// All that it is to be told of a state whose interests these are.
    pub fn whole(&mut self, state: &ClusterState, interests: &Interests) -> Vec<Delta> {
        (self.at, self.told) = (None, Known::Only(BTreeSet::new()));
        if let Some(wanted) = self.wanted(interests) {
            self.told = wanted;
        }
        let nodes = state.nodes().values().cloned().map(Delta::NodeUpsert);
        let policies = state.policies().values().cloned().map(Delta::PolicyUpsert);
        let own = |workload: &&Workload| workload.node == self.node;
        let workloads = state.workloads().values().filter(own).cloned().map(Delta::WorkloadUpsert);
        let told: Box<dyn Iterator<Item = &Identity>> = match &self.told {
            Known::All => Box::new(interests.labels.keys()),
            Known::Only(some) => Box::new(some.iter()),
        };
        let known = told.flat_map(|identity| known(state, interests, *identity));
        known.chain(nodes).chain(policies).chain(workloads).collect()
    }

    /// What brings it to a state whose interests these are. `run` is all that changed since it was told last: of each key the
    /// last delta, and what was there before the first.
    pub fn advance<'a>(
        &mut self,
        run: impl IntoIterator<Item = &'a Change>,
        state: &ClusterState,
        interests: &Interests,
    ) -> Vec<Delta> {
        let wanted = self.wanted(interests);
        let now = wanted.as_ref().unwrap_or(&self.told);
        let mut deltas: BTreeMap<DeltaKey, Delta> = BTreeMap::new();
        for change in run {
            if let Some(delta) = self.heard(change, now) {
                deltas.insert(delta.key(), delta);
            }
        }
        if let Some(wanted) = wanted {
            let (gone, new) = self.turn_to(wanted, interests);
            for gone in gone {
                let number = Delta::IdentityDelete(gone);
                deltas.insert(number.key(), number);
                for address in interests.addresses.get(&gone).into_iter().flatten() {
                    let of = interests.endpoints.get(address);
                    if of.is_none_or(|(node, _)| *node != self.node) {
                        let endpoint = Delta::EndpointDelete(*address);
                        deltas.insert(endpoint.key(), endpoint);
                    }
                }
            }
            for new in new {
                deltas.extend(known(state, interests, new).map(|delta| (delta.key(), delta)));
            }
        }
        deltas.into_values().collect()
    }

    /// Has other identities told; which of them go, and which are new.
    fn turn_to(&mut self, wanted: Known, interests: &Interests) -> (Vec<Identity>, Vec<Identity>) {
        let before = std::mem::replace(&mut self.told, wanted);
        let new = |identity: &Identity| self.told.contains(identity) && !before.contains(identity);
        let gone = |identity: &Identity| before.contains(identity) && !self.told.contains(identity);
        let now: Vec<Identity> = match &self.told {
            Known::All => interests.labels.keys().copied().filter(new).collect(),
            Known::Only(some) => some.iter().copied().filter(new).collect(),
        };
        let gone: Vec<Identity> = match &before {
            Known::All => interests.labels.keys().copied().filter(gone).collect(),
            Known::Only(some) => some.iter().copied().filter(gone).collect(),
        };
        (gone, now)
    }

    /// What it hears of a change, with the identities that it is to know after it.
    fn heard(&self, Change { delta, was }: &Change, now: &Known) -> Option<Delta> {
        let held = match was {
            Was::Nothing => false,
            Was::Endpoint(identity, node) => *node == self.node || self.told.contains(identity),
            Was::Workload(node) => *node == self.node,
        };
        let concerns = match delta {
            Delta::NodeUpsert(_)
            | Delta::NodeDelete(_)
            | Delta::PolicyUpsert(_)
            | Delta::PolicyDelete(_) => true,
            Delta::IdentityUpsert(number, _) => now.contains(number),
            Delta::IdentityDelete(number) => self.told.contains(number),
            Delta::WorkloadUpsert(workload) => workload.node == self.node,
            Delta::EndpointUpsert(it) => it.node == self.node || now.contains(&it.identity),
            Delta::WorkloadDelete(_) | Delta::EndpointDelete(_) => held,
        };
        match (concerns, held) {
            (true, _) => Some(delta.clone()),
            // It is another's now, or nobody's that it has to know.
            (false, true) => Some(delta.deletion()),
            (false, false) => None,
        }
    }
}

/// An identity, and all endpoints of it.
fn known<'a>(
    state: &'a ClusterState,
    interests: &'a Interests,
    identity: Identity,
) -> impl Iterator<Item = Delta> + use<'a> {
    let labels = interests.labels.get(&identity).cloned();
    let number = labels.map(|labels| Delta::IdentityUpsert(identity, labels));
    let addresses = interests.addresses.get(&identity).into_iter().flatten();
    let endpoints = addresses.filter_map(|address| state.endpoints().get(address).cloned());
    number.into_iter().chain(endpoints.map(Delta::EndpointUpsert))
}
