//! One class's trie from nothing.

use super::{Entries, ports};
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, BTreeSet};
use weft_abi::{
    address::NetPort,
    policy::{
        EGRESS, INGRESS, PRECEDENCE_DEFAULT, PRECEDENCE_NETWORK_POLICY, PREFIX_ANY, PREFIX_PORT,
        PREFIX_PROTOCOL, PolicyEntry, PolicyKey, PolicyPrefix,
    },
};
use weft_types::{
    Identity, LabelSet, Policy,
    policy::{
        Direction, IpBlock, Isolation, Peer, Peers, PolicyId, Port, Ports, Protocol, Rule, RuleId,
    },
};

/// Everything a class's meaning depends on.
pub(super) struct Compiler<'a> {
    pub(super) subject: &'a LabelSet,
    pub(super) identities: &'a BTreeMap<Identity, LabelSet>,
    pub(super) policies: &'a BTreeMap<PolicyId, Policy>,
    pub(super) prefixes: &'a BTreeMap<Ipv4Net, u32>,
}

/// The IPv4 prefixes that a policy names.
pub(super) fn prefixes_of(policy: &Policy) -> Vec<Ipv4Net> {
    [&policy.ingress, &policy.egress]
        .into_iter()
        .filter_map(|isolation| match isolation {
            Isolation::Open => None,
            Isolation::Isolated(rules) => Some(rules),
        })
        .flatten()
        .filter_map(|rule| match &rule.peers {
            Peers::Anyone => None,
            Peers::Only(peers) => Some(peers),
        })
        .flatten()
        .filter_map(|peer| match peer {
            Peer::Pods(_) => None,
            Peer::Block(block) => Some(std::iter::once(&block.cidr).chain(&block.except)),
        })
        .flatten()
        .filter_map(|net| match net {
            IpNet::V4(net) => Some(net.trunc()),
            IpNet::V6(_) => None,
        })
        .collect()
}

/// Whom an entry is for: an identity and, for named ports, its labels.
type Whom<'a> = (u32, Option<&'a LabelSet>);

impl<'a> Compiler<'a> {
    /// The entries of the class, their rule numbers given by `number`.
    pub(super) fn compile(&self, mut number: impl FnMut(BTreeSet<RuleId>) -> u32) -> Entries {
        let mut found: BTreeMap<PolicyPrefix, BTreeSet<RuleId>> = BTreeMap::new();
        let mut entries = Entries::new();
        for (direction, code) in [(Direction::Ingress, INGRESS), (Direction::Egress, EGRESS)] {
            let isolating = self.isolating(direction);
            if isolating.is_empty() {
                let open = PolicyEntry { precedence: PRECEDENCE_DEFAULT, ..PolicyEntry::zeroed() };
                entries.insert(any(0, code), open);
            }
            for (policy, rules) in isolating {
                for (index, rule) in (0u32..).zip(rules) {
                    let id = RuleId { policy: policy.id.clone(), direction, index };
                    for prefix in self.prefixes_of_rule(rule, direction, code) {
                        found.entry(prefix).or_default().insert(id.clone());
                    }
                }
            }
        }
        for (prefix, rules) in found {
            let rule = number(rules);
            let precedence = PRECEDENCE_NETWORK_POLICY;
            entries.insert(prefix, PolicyEntry { precedence, rule, ..PolicyEntry::zeroed() });
        }
        entries
    }

    /// Policies about the subject that isolate it in a direction, with their rules.
    fn isolating(&self, direction: Direction) -> Vec<(&'a Policy, &'a Vec<Rule>)> {
        self.policies
            .values()
            .filter(|policy| policy.subject.matches(self.subject))
            .filter_map(|policy| {
                match match direction {
                    Direction::Ingress => &policy.ingress,
                    Direction::Egress => &policy.egress,
                } {
                    Isolation::Open => None,
                    Isolation::Isolated(rules) => Some((policy, rules)),
                }
            })
            .collect()
    }

    fn prefixes_of_rule(&self, rule: &Rule, direction: Direction, code: u8) -> Vec<PolicyPrefix> {
        self.whom(&rule.peers, &rule.ports, direction)
            .into_iter()
            .flat_map(|(identity, peer)| {
                // A named port is the destination's: the subject's own on ingress, the peer's on egress.
                let destination = match direction {
                    Direction::Ingress => Some(self.subject),
                    Direction::Egress => peer,
                };
                port_prefixes(&rule.ports, destination).into_iter().map(
                    move |(length, protocol, port)| PolicyPrefix {
                        length,
                        key: PolicyKey { identity, direction: code, protocol, port },
                    },
                )
            })
            .collect()
    }

    /// The identities that peers stand for.
    fn whom(&self, peers: &Peers, ports: &Ports, direction: Direction) -> Vec<Whom<'a>> {
        match peers {
            Peers::Anyone => {
                let mut whom: Vec<Whom<'a>> = vec![(0, None)];
                // A name means something else at each destination, so each gets entries of its own.
                if direction == Direction::Egress && has_names(ports) {
                    whom.extend(self.identities.iter().map(|(id, labels)| (id.0, Some(labels))));
                }
                whom
            }
            Peers::Only(peers) => peers.iter().flat_map(|peer| self.whom_one(peer)).collect(),
        }
    }

    fn whom_one(&self, peer: &Peer) -> Vec<Whom<'a>> {
        match peer {
            Peer::Pods(selector) => self
                .identities
                .iter()
                .filter(|(_, labels)| selector.matches(labels))
                .map(|(id, labels)| (id.0, Some(labels)))
                .collect(),
            Peer::Block(block) => self
                .prefixes
                .iter()
                .filter(|(prefix, _)| in_block(block, prefix))
                .map(|(_, identity)| (*identity, None))
                .collect(),
        }
    }
}

/// Whether a named prefix lies inside the block and outside its excepts.
fn in_block(block: &IpBlock, prefix: &Ipv4Net) -> bool {
    let inside = |net: &IpNet| matches!(net, IpNet::V4(net) if net.contains(prefix));
    inside(&block.cidr) && !block.except.iter().any(inside)
}

fn has_names(ports: &Ports) -> bool {
    matches!(ports, Ports::Only(ports) if ports.iter().any(|p| matches!(p, Port::Named { .. })))
}

fn any(identity: u32, direction: u8) -> PolicyPrefix {
    PolicyPrefix {
        length: PREFIX_ANY,
        key: PolicyKey { identity, direction, protocol: 0, port: NetPort::zeroed() },
    }
}

/// (prefix length, protocol, port) of each entry that the ports make.
fn port_prefixes(ports: &Ports, destination: Option<&LabelSet>) -> Vec<(u32, u8, NetPort)> {
    let of_range = |protocol: Protocol, first, last| {
        ports::range(first, last)
            .into_iter()
            .map(|p| (PREFIX_PROTOCOL + p.bits, protocol.number(), NetPort::from_host(p.first)))
            .collect::<Vec<_>>()
    };
    match ports {
        Ports::All => vec![(PREFIX_ANY, 0, NetPort::zeroed())],
        Ports::Only(ports) => ports
            .iter()
            .flat_map(|port| match port {
                Port::Protocol(protocol) => {
                    vec![(PREFIX_PROTOCOL, protocol.number(), NetPort::zeroed())]
                }
                Port::Range { protocol, first, last } => of_range(*protocol, *first, *last),
                Port::Named { protocol, name } => destination
                    .and_then(|labels| ports::named(labels, name, *protocol))
                    .map(|number| {
                        vec![(PREFIX_PORT, protocol.number(), NetPort::from_host(number))]
                    })
                    .unwrap_or_default(),
            })
            .collect(),
    }
}
