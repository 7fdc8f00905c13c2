//! Agents as operators meet them: each holds a revision, asks for what follows, and says what it plugged.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_raft::MemberId;
use weft_state::CommandV1;
use weft_types::{Delta, NamespacedName, NodeName, Revision, delta::DeltaKey};

/// An agent.
pub(crate) struct Agent {
    pub(crate) node: NodeName,
    /// Whom it is connected to.
    pub(crate) operator: MemberId,
    pub(crate) held: Option<Revision>,
    /// What is published, as far as it knows.
    pub(crate) view: BTreeMap<DeltaKey, Delta>,
    /// Pods that run here, and their addresses.
    pods: BTreeMap<NamespacedName, Ipv4Addr>,
    /// When it asked, and was not answered yet.
    pub(crate) asked: Option<u64>,
}

/// What an operator says to an agent's question.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// Changes that lead to a revision.
    Deltas(Revision, Vec<Delta>),
    /// Everything at a revision.
    Snapshot(Revision, Vec<Delta>),
    /// There is nothing newer.
    Nothing,
    /// The operator is behind what the agent holds.
    Behind,
}

impl Agent {
    pub(crate) fn new(node: NodeName, operator: MemberId) -> Self {
        let (view, pods) = (BTreeMap::new(), BTreeMap::new());
        Self { node, operator, held: None, view, pods, asked: None }
    }

    /// Takes what it was told; the revision it would have gone back to.
    pub(crate) fn take(&mut self, told: Told) -> Option<Revision> {
        let (revision, deltas) = match told {
            Told::Deltas(revision, deltas) => (revision, deltas),
            Told::Snapshot(revision, deltas) => {
                self.view.clear();
                (revision, deltas)
            }
            Told::Nothing | Told::Behind => return None,
        };
        let back = self.held.filter(|held| *held > revision).map(|_| revision);
        self.held = Some(revision);
        for delta in deltas {
            match delta {
                Delta::IdentityDelete(_)
                | Delta::NodeDelete(_)
                | Delta::WorkloadDelete(_)
                | Delta::EndpointDelete(_)
                | Delta::PolicyDelete(_) => drop(self.view.remove(&delta.key())),
                _ => drop(self.view.insert(delta.key(), delta)),
            }
        }
        back
    }

    /// What it has to say: pods that came here or went, and are not published so.
    pub(crate) fn says(&mut self) -> Vec<CommandV1> {
        let here = |delta: &Delta| match delta {
            Delta::WorkloadUpsert(w) if w.node == self.node => Some(w.name.clone()),
            _ => None,
        };
        let here: BTreeSet<NamespacedName> = self.view.values().filter_map(here).collect();
        let published = |delta: &Delta| match delta {
            Delta::EndpointUpsert(e) if e.node == self.node => Some((e.address, e.name.clone())),
            _ => None,
        };
        let published: BTreeMap<Ipv4Addr, NamespacedName> =
            self.view.values().filter_map(published).collect();
        self.pods.retain(|pod, _| here.contains(pod));
        self.plug(&here);
        let said = |(pod, address): (&NamespacedName, &Ipv4Addr)| {
            (published.get(address) != Some(pod))
                .then(|| CommandV1::Plug(self.node.clone(), pod.clone(), *address))
        };
        let mut commands: Vec<CommandV1> = self.pods.iter().filter_map(said).collect();
        let used: BTreeSet<&Ipv4Addr> = self.pods.values().collect();
        let gone = published.keys().filter(|address| !used.contains(address));
        commands.extend(gone.map(|address| CommandV1::Unplug(self.node.clone(), *address)));
        commands
    }

    fn plug(&mut self, here: &BTreeSet<NamespacedName>) {
        let own = self.view.values().find_map(|delta| match delta {
            Delta::NodeUpsert(node) if node.name == self.node => node.pod_cidrs.first(),
            _ => None,
        });
        let Some(mut free) = own.map(|cidr| cidr.hosts()) else { return };
        let used: BTreeSet<Ipv4Addr> = self.pods.values().copied().collect();
        for pod in here {
            if !self.pods.contains_key(pod)
                && let Some(address) = free.find(|address| !used.contains(address))
            {
                self.pods.insert(pod.clone(), address);
            }
        }
    }
}
