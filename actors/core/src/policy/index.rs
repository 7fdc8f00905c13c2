//! Which policies use which selectors and prefixes, so that a change finds what it touches.

use super::{
    Engine, Known, compile,
    compile::{Resolved, Who},
    terms::TermId,
};
use ipnet::{IpNet, Ipv4Net};
use std::{collections::BTreeSet, net::Ipv4Addr};
use weft_types::{
    Identity, Policy, Selector,
    policy::{Direction, IpBlock, Isolation, Peer, Peers, Rule, RuleId},
};

/// Policies and their terms.
impl Engine {
    pub(super) fn resolve(&mut self, policy: Policy) -> Known {
        let subject = self.intern(&Peer::Pods(policy.subject.clone()));
        let ingress = self.resolve_rules(&policy, Direction::Ingress);
        let egress = self.resolve_rules(&policy, Direction::Egress);
        Known { policy, subject, ingress, egress }
    }

    fn resolve_rules(&mut self, policy: &Policy, direction: Direction) -> Option<Vec<Resolved>> {
        let Isolation::Isolated(rules) = isolation(policy, direction) else { return None };
        let resolved = (0u32..).zip(rules).map(|(index, rule)| {
            let id = RuleId { policy: policy.id.clone(), direction, index };
            let peers = match &rule.peers {
                Peers::Anyone if by_name(rule, direction) => {
                    Who::AnyoneByName(self.intern(&Peer::Pods(Selector::default())))
                }
                Peers::Anyone => Who::Anyone,
                Peers::Only(peers) => Who::Only(peers.iter().map(|p| self.intern(p)).collect()),
            };
            Resolved { id, peers, ports: rule.ports.clone() }
        });
        Some(resolved.collect())
    }

    fn intern(&mut self, what: &Peer) -> TermId {
        self.terms.intern(what, &self.identities, &self.trie)
    }

    /// A policy comes: it is noted at its terms, its prefixes are named, its subjects are dirty.
    pub(super) fn link(&mut self, known: &Known) {
        let id = &known.policy.id;
        if let Some(term) = self.terms.get_mut(known.subject) {
            term.subject_of.insert(id.clone());
        }
        for (term, pins) in uses(known) {
            if let Some(term) = self.terms.get_mut(term) {
                term.peer_of.insert(id.clone());
                if pins {
                    term.pinned_by.insert(id.clone());
                }
            }
            if pins {
                self.repin_block(term);
            }
        }
        for prefix in prefixes_of(&known.policy) {
            *self.named.entry(prefix).or_default() += 1;
        }
        self.dirty_subjects(known);
    }

    /// A policy goes; its terms stay until [`Engine::forget_terms`].
    pub(super) fn unlink(&mut self, known: &Known) {
        let id = &known.policy.id;
        self.dirty_subjects(known);
        if let Some(term) = self.terms.get_mut(known.subject) {
            term.subject_of.remove(id);
        }
        for (term, pins) in uses(known) {
            if let Some(term) = self.terms.get_mut(term) {
                term.peer_of.remove(id);
                term.pinned_by.remove(id);
            }
            if pins {
                self.repin_block(term);
            }
        }
        for prefix in prefixes_of(&known.policy) {
            self.unname(prefix);
        }
    }

    /// Terms that a policy used are forgotten if none uses them any more.
    pub(super) fn forget_terms(&mut self, known: &Known) {
        self.terms.release(known.subject);
        for (term, _) in uses(known) {
            self.terms.release(term);
        }
    }

    fn unname(&mut self, prefix: Ipv4Net) {
        if let Some(count) = self.named.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.named.remove(&prefix);
            }
        }
    }

    fn dirty_subjects(&mut self, known: &Known) {
        let classes = self.held_of(known);
        self.dirty.classes.extend(classes);
    }

    /// The held classes that a policy is about.
    pub(super) fn held_of(&self, known: &Known) -> Vec<u32> {
        let Some(term) = self.terms.get(known.subject) else { return Vec::new() };
        let (members, held) = (&term.members, &self.held);
        if members.len() < held.len() {
            members.iter().filter(|class| held.contains_key(&Identity(**class))).copied().collect()
        } else {
            held.keys().map(|class| class.0).filter(|class| members.contains(class)).collect()
        }
    }

    /// A number joins or leaves a term: classes of policies with a rule for the term are dirty in that peer.
    pub(super) fn moved(&mut self, term: TermId, number: u32) {
        let Some(term) = self.terms.get(term) else { return };
        let users = term.peer_of.iter().filter_map(|id| self.policies.get(id));
        let classes: BTreeSet<u32> = users.flat_map(|known| self.held_of(known)).collect();
        for class in classes {
            self.dirty.peers.entry(class).or_default().insert(number);
        }
    }
}

/// Prefixes, and the pods behind addresses whose ports a policy names.
impl Engine {
    /// A prefix with a number is a member of the blocks around it.
    pub(super) fn admit(&mut self, prefix: Ipv4Net, number: u32) {
        for term in self.terms.around(&prefix) {
            if let Some(term) = self.terms.get_mut(term) {
                term.members.insert(number);
            }
            self.moved(term, number);
        }
    }

    pub(super) fn expel(&mut self, prefix: Ipv4Net, number: u32) {
        for term in self.terms.around(&prefix) {
            if let Some(term) = self.terms.get_mut(term) {
                term.members.remove(&number);
            }
        }
    }

    /// Whether an address must be a prefix of its own: a policy names ports of whoever has it, and a pod does.
    pub(super) fn repin(&mut self, address: Ipv4Addr) {
        let wanted = self.pods.contains_key(&address) && self.terms.pins(address);
        if wanted && self.pinned.insert(address) {
            *self.named.entry(address.into()).or_default() += 1;
        } else if !wanted && self.pinned.remove(&address) {
            self.unname(address.into());
        }
    }

    fn repin_block(&mut self, term: TermId) {
        let Some(cidr) = self.terms.cidr(term) else { return };
        let inside = cidr.network()..=cidr.broadcast();
        let addresses: Vec<Ipv4Addr> = self.pods.range(inside).map(|(at, _)| *at).collect();
        addresses.into_iter().for_each(|address| self.repin(address));
    }

    /// Who has an address changed, or what they call their ports.
    pub(super) fn touch_address(&mut self, address: Ipv4Addr) {
        let prefix = Ipv4Net::from(address);
        let Some(number) = self.trie.get(&prefix).copied() else { return };
        for term in self.terms.around(&prefix) {
            self.moved(term, number);
        }
    }

    pub(super) fn touch_pins_of(&mut self, identity: Identity) {
        let has = |address: &&Ipv4Addr| self.pods.get(*address) == Some(&identity);
        let addresses: Vec<Ipv4Addr> = self.pinned.iter().filter(has).copied().collect();
        addresses.into_iter().for_each(|address| self.touch_address(address));
    }
}

fn isolation(policy: &Policy, direction: Direction) -> &Isolation {
    match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    }
}

/// Whether a rule's ports mean something else at each peer.
fn by_name(rule: &Rule, direction: Direction) -> bool {
    direction == Direction::Egress && compile::has_names(&rule.ports)
}

/// The terms of a policy's rules, and whether the pods behind the block's addresses matter.
fn uses(known: &Known) -> Vec<(TermId, bool)> {
    let rules = known.ingress.iter().chain(&known.egress).flatten();
    rules
        .flat_map(|rule| {
            let named = rule.id.direction == Direction::Egress && compile::has_names(&rule.ports);
            rule.peers.terms().iter().map(move |term| (*term, named))
        })
        .collect()
}

/// The IPv4 prefixes that a policy names.
fn prefixes_of(policy: &Policy) -> Vec<Ipv4Net> {
    let rules =
        [&policy.ingress, &policy.egress].into_iter().flat_map(|isolation| match isolation {
            Isolation::Open => &[][..],
            Isolation::Isolated(rules) => rules,
        });
    let peers = rules.flat_map(|rule| match &rule.peers {
        Peers::Anyone => &[][..],
        Peers::Only(peers) => peers,
    });
    let blocks = peers.filter_map(|peer| match peer {
        Peer::Pods(_) => None,
        Peer::Block(block) => Some(block),
    });
    blocks
        .flat_map(|IpBlock { cidr, except }| std::iter::once(cidr).chain(except))
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(net.trunc()),
            IpNet::V6(_) => None,
        })
        .collect()
}
